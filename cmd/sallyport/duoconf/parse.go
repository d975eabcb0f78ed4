// SPDX-License-Identifier: Apache-2.0

// Package duoconf reads the configuration of Duo's pam_duo and login_duo and says
// in the words of authd.toml what it means, and what it does not say there. It
// never shows the secret key, and never takes an option for less strict than it is.
package duoconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of Duo's own parser.
const (
	maxLine   = 199 // bytes; what is longer Duo cuts in two
	maxGroups = 256
)

// Conf is a configuration as Duo's programs understand it.
type Conf struct {
	IKey, SKey, Host string
	CAFile           *string // nil: not set; "": certificates are not checked
	NoVerify         bool
	HTTPProxy        string
	Groups           []string // each a list of patterns
	Secure           bool     // failmode = secure
	PushInfo         bool
	Prompts          int
	AutoPush         bool
	AcceptEnvFactor  bool
	FallbackLocalIP  bool
	HTTPSTimeout     int // seconds; 0: none
	SendGECOS        bool
	GECOSDelim       string
	GECOSPosition    int // 0: the whole field
	GECOSParsed      bool
	FIPSMode         bool
	VerifiedPush     bool
	MOTD             bool

	set []string // options in the order in which they are first set
}

// Has says whether the file sets an option.
func (c *Conf) Has(option string) bool { return slices.Contains(c.set, option) }

// Parse reads a file by the rules of Duo's parser, which are not those of the
// usual INI libraries: sections are not told apart, quotes mean nothing, only "="
// parts name and value, only " ;" begins a comment behind a value, and an
// indented line is a further value of the option before it. What makes Duo's
// programs refuse the file is an error here too.
func Parse(name, text string) (*Conf, error) {
	c := &Conf{Prompts: 3, GECOSDelim: ","}
	previous := ""
	for n, raw := range strings.Split(text, "\n") {
		option, value, err := entry(raw, previous)
		if err == nil && option != "" {
			previous = option
			err = c.take(option, value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
		}
		if strings.HasPrefix(strings.TrimLeft(raw, space), "[") && option == "" {
			previous = ""
		}
	}
	for option, value := range map[string]string{"ikey": c.IKey, "skey": c.SKey, "host": c.Host} {
		if value == "" {
			return nil, fmt.Errorf("%s: %s is missing, and Duo's programs need it", name, option)
		}
	}
	return c, nil
}

const space = " \t\r\v\f"

// entry takes a line apart; no option: the line says nothing.
func entry(raw, previous string) (option, value string, err error) {
	if len(raw) > maxLine {
		return "", "", fmt.Errorf("the line is longer than the %d bytes that Duo reads", maxLine)
	}
	if strings.ContainsRune(raw, 0) {
		return "", "", fmt.Errorf("the line holds a NUL")
	}
	line := strings.Trim(raw, space)
	switch {
	case line == "":
		return "", "", nil
	case previous != "" && strings.IndexByte(space, raw[0]) >= 0:
		return previous, line, nil
	case line[0] == ';' || line[0] == '#':
		return "", "", nil
	case line[0] == '[':
		if !strings.Contains(uncommented(line), "]") {
			return "", "", fmt.Errorf("the section is not closed")
		}
		return "", "", nil
	}
	before, after, found := strings.Cut(uncommented(line), "=")
	if !found {
		return "", "", fmt.Errorf("the line is no option = value")
	}
	return strings.TrimRight(before, space), strings.Trim(after, space), nil
}

// uncommented is a line up to a ";" behind white space.
func uncommented(line string) string {
	for i := 1; i < len(line); i++ {
		if line[i] == ';' && strings.IndexByte(space, line[i-1]) >= 0 {
			return line[:i]
		}
	}
	return line
}

// take sets an option.
func (c *Conf) take(option, value string) error {
	if option == "group" {
		option = "groups"
	}
	texts := map[string]*string{"ikey": &c.IKey, "skey": &c.SKey, "host": &c.Host, "http_proxy": &c.HTTPProxy}
	switches := map[string]*bool{
		"noverify": &c.NoVerify, "pushinfo": &c.PushInfo, "autopush": &c.AutoPush, "accept_env_factor": &c.AcceptEnvFactor,
		"fallback_local_ip": &c.FallbackLocalIP, "send_gecos": &c.SendGECOS, "gecos_parsed": &c.GECOSParsed,
		"dev_fips_mode": &c.FIPSMode, "verified_push": &c.VerifiedPush, "motd": &c.MOTD,
	}
	switch {
	case texts[option] != nil:
		*texts[option] = value
	case switches[option] != nil:
		*switches[option] = slices.Contains([]string{"yes", "true", "on", "1"}, value)
	default:
		if err := c.takeOther(option, value); err != nil {
			return err
		}
	}
	if !c.Has(option) {
		c.set = append(c.set, option)
	}
	return nil
}

func (c *Conf) takeOther(option, value string) error {
	switch option {
	case "cafile":
		c.CAFile = &value
	case "groups":
		c.Groups = append(c.Groups, words(value)...)
		if len(c.Groups) > maxGroups {
			return fmt.Errorf("groups: over %d", maxGroups)
		}
	case "failmode":
		if value != "safe" && value != "secure" {
			return fmt.Errorf("failmode %q is neither safe nor secure", value)
		}
		c.Secure = value == "secure"
	case "prompts":
		c.Prompts = min(c.Prompts, max(1, number(value)))
	case "https_timeout":
		c.HTTPSTimeout = max(0, number(value))
	case "gecos_delim":
		if len(value) != 1 || value == ":" || !strings.Contains("!\"#$%&'()*+,-./;<=>?@[\\]^_`{|}~", value) {
			return fmt.Errorf("gecos_delim %q is not one punctuation character, or is a colon", value)
		}
		c.GECOSDelim = value
	case "gecos_username_pos":
		if c.GECOSPosition = number(value); c.GECOSPosition < 1 {
			return fmt.Errorf("gecos_username_pos %q is below 1", value)
		}
	default:
		return fmt.Errorf("option %q is unknown to Duo's programs, which refuse the whole file for it", option)
	}
	return nil
}

// words are the words of a value; a backslash before a blank keeps it.
func words(value string) []string {
	var out []string
	joined := ""
	for w := range strings.FieldsSeq(strings.ReplaceAll(value, "\t", " ")) {
		if part, more := strings.CutSuffix(w, `\`); more {
			joined += part + " "
			continue
		}
		out = append(out, joined+w)
		joined = ""
	}
	if joined != "" {
		out = append(out, strings.TrimSuffix(joined, " "))
	}
	return out
}

// number is what C's atoi makes of a text, within 32 bits.
func number(s string) int {
	s = strings.TrimLeft(s, space)
	end := 0
	if end < len(s) && (s[0] == '-' || s[0] == '+') {
		end++
	}
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(s[:end], "+"), 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}
