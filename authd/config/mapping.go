// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Mapping turns the Unix name of a person into the name that the verifier knows.
// Each step takes what the one before has left: where the name comes from, what
// happens to its domain part, its case, its pattern. The zero value changes
// nothing. In the file it is a word or a table.
type Mapping struct {
	// Where the name comes from; neither: it is the Unix name.
	LDAP      string `toml:"ldap"`      // attribute of the person in the directory
	GECOS     int    `toml:"gecos"`     // place in the GECOS field, from 1
	Delimiter string `toml:"delimiter"` // of the GECOS field

	Domain  DomainPart `toml:"domain"`
	Domains []string   `toml:"domains"` // with "strip": of which domains alone; empty: of all

	Case LetterCase `toml:"case"`

	Pattern   string    `toml:"pattern"` // RE2, matches the whole name
	Name      string    `toml:"name"`    // what becomes of it: $1, ${group}
	Unmatched Unmatched `toml:"unmatched"`

	re     *regexp.Regexp
	faults []error // of the file
}

// DomainPart says what happens to DOMAIN\user and user@domain.
type DomainPart string

// The treatments of the domain part; empty: the name stays as it is.
const (
	DomainStrip DomainPart = "strip" // user
	DomainKeep  DomainPart = "keep"  // user@domain, the domain in lower case, whichever way it was written
)

// LetterCase says what happens to capitals.
type LetterCase string

// LowerCase is the one way to change letters; empty: they stay.
const LowerCase LetterCase = "lower"

// Unmatched says what happens to a name that the pattern does not match.
type Unmatched string

// The treatments of a name that does not match; empty: deny.
const (
	UnmatchedDeny Unmatched = "deny"
	UnmatchedAsIs Unmatched = "as-is" // the name from before the pattern
)

// words are the mappings that need no table.
var words = map[string]Mapping{
	"as-is":        {},
	"lower":        {Case: LowerCase},
	"strip-domain": {Domain: DomainStrip},
	"keep-domain":  {Domain: DomainKeep},
}

// Regexp is the pattern, anchored at both ends; nil without one.
func (m *Mapping) Regexp() *regexp.Regexp { return m.re }

// Mappings are the mappings of the file, by the table that has them.
func (c *Config) Mappings() map[string]Mapping {
	out := map[string]Mapping{}
	for name, r := range c.Services {
		if r.Mapping != nil {
			out[name] = *r.Mapping
		}
	}
	return out
}

// UnmarshalTOML implements toml.Unmarshaler. Faults wait for check, which says
// where they are.
func (m *Mapping) UnmarshalTOML(value any) error {
	*m = Mapping{}
	switch v := value.(type) {
	case string:
		known, ok := words[v]
		if !ok {
			m.fault(`mapping %q is none of "as-is", "lower", "strip-domain", "keep-domain", and no table such as { ldap = "mail" }`, v)
			return nil
		}
		*m = known
	case map[string]any:
		for key, val := range v {
			m.take(key, val)
		}
		m.complete(v)
	default:
		m.fault("mapping is neither a word nor a table")
	}
	return nil
}

func (m *Mapping) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Errorf(format, args...))
}

// take puts one key of the table in its place.
func (m *Mapping) take(key string, value any) {
	text, isText := value.(string)
	number, isNumber := value.(int64)
	list, isList := value.([]any)
	to := map[string]*string{
		"ldap": &m.LDAP, "delimiter": &m.Delimiter, "domain": (*string)(&m.Domain), "case": (*string)(&m.Case),
		"pattern": &m.Pattern, "name": &m.Name, "unmatched": (*string)(&m.Unmatched),
	}[key]
	switch {
	case to != nil && isText:
		*to = text
	case to != nil:
		m.fault("mapping: %s is not a text", key)
	case key == "gecos" && isNumber && number >= 1 && number <= 16:
		m.GECOS = int(number)
	case key == "gecos":
		m.fault("mapping: gecos is the place of the name in the GECOS field, 1 to 16")
	case key == "domains" && isList:
		for _, d := range list {
			domain, ok := d.(string)
			if !ok || domain == "" || strings.ContainsAny(domain, "@\\") {
				m.fault("mapping: domains is a list of domains such as EXAMPLE or example.org")
				return
			}
			m.Domains = append(m.Domains, domain)
		}
	case key == "domains":
		m.fault("mapping: domains is a list of domains such as EXAMPLE or example.org")
	default:
		m.fault("mapping: unknown key %s", key)
	}
}

func (m *Mapping) complete(table map[string]any) {
	has := func(key string) bool { _, ok := table[key]; return ok }
	if m.GECOS > 0 && !has("delimiter") {
		m.Delimiter = ","
	}
	if m.Pattern != "" {
		re, err := regexp.Compile(`\A(?:` + m.Pattern + `)\z`)
		if err != nil {
			m.fault("mapping: pattern %q: %w", m.Pattern, err)
			return
		}
		m.re = re
	}
	for _, key := range []string{"ldap", "pattern", "name"} {
		if has(key) && table[key] == "" {
			m.fault("mapping: %s is empty", key)
		}
	}
}

// reference is a group in the form that regexp.Expand takes, or an escaped $.
var reference = regexp.MustCompile(`\$(?:\$|(\w+)|\{(\w+)\})`)

func (m *Mapping) check() []error {
	errs := slices.Clone(m.faults)
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if m.LDAP != "" && m.GECOS > 0 {
		fault("mapping: the name comes from ldap or from gecos, not from both")
	}
	if m.LDAP != "" && !attribute.MatchString(m.LDAP) {
		fault("mapping: ldap %q is not the name of an attribute", m.LDAP)
	}
	if m.Delimiter != "" && (m.GECOS == 0 || len(m.Delimiter) != 1 || m.Delimiter == ":" || !isPunctuation(m.Delimiter[0])) {
		fault(`mapping: delimiter belongs to gecos and is one punctuation character, not ":"`)
	}
	if len(m.Domains) > 0 && m.Domain != DomainStrip {
		fault(`mapping: domains belongs to domain = "strip"`)
	}
	if (m.Pattern == "") != (m.Name == "") {
		fault("mapping: pattern and name belong together")
	}
	if m.Unmatched != "" && m.Pattern == "" {
		fault("mapping: unmatched belongs to pattern")
	}
	for _, err := range []error{
		oneOf("mapping: domain", given(m.Domain), DomainStrip, DomainKeep), oneOf("mapping: case", given(m.Case), LowerCase),
		oneOf("mapping: unmatched", given(m.Unmatched), UnmatchedDeny, UnmatchedAsIs),
	} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if m.re != nil {
		errs = append(errs, m.checkName())
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// checkName finds groups that the pattern does not have: Expand would take them
// for empty, and another person might have the rest of the name.
func (m *Mapping) checkName() error {
	refs := 0
	for _, match := range reference.FindAllStringSubmatch(m.Name, -1) {
		group := match[1] + match[2]
		if group == "" {
			continue
		}
		refs++
		n, err := strconv.Atoi(group)
		if err == nil && n <= m.re.NumSubexp() || err != nil && slices.Contains(m.re.SubexpNames(), group) {
			continue
		}
		return fmt.Errorf("mapping: name %q speaks of the group %q, which the pattern does not have; write ${1} where letters follow", m.Name, group)
	}
	if refs == 0 {
		return errors.New("mapping: name has no group such as $1: everybody would be the same person to the verifier")
	}
	return nil
}

func given[T ~string](v T) *T {
	if v == "" {
		return nil
	}
	return &v
}

func isPunctuation(b byte) bool {
	return b > 0x20 && b < 0x7f && !(b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z')
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
