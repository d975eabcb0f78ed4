// SPDX-License-Identifier: Apache-2.0

package duoconf

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const least = "ikey=DIX\nskey=a secret of some length\nhost=verifier.example\n"

// What Duo's parser makes of a line, where it differs from what one would expect.
func TestParseAsDuoDoes(t *testing.T) {
	for text, want := range map[string]func(*Conf) bool{
		"# x\n; y\n[other]\nfailmode=secure":           func(c *Conf) bool { return c.Secure },
		"failmode = secure ; not safe":                 func(c *Conf) bool { return c.Secure },
		"http_proxy = http://a;b:c@d":                  func(c *Conf) bool { return c.HTTPProxy == "http://a;b:c@d" },
		"http_proxy = \"http://d\" # x":                func(c *Conf) bool { return c.HTTPProxy == "\"http://d\" # x" },
		"http_proxy = http://d?a=b":                    func(c *Conf) bool { return c.HTTPProxy == "http://d?a=b" },
		"autopush = Yes":                               func(c *Conf) bool { return !c.AutoPush },
		"autopush = 1\nautopush = true":                func(c *Conf) bool { return c.AutoPush },
		"groups = a b,!c\n  d\\ e":                     func(c *Conf) bool { return reflect.DeepEqual(c.Groups, []string{"a", "b,!c", "d e"}) },
		"group = a\ngroups = b":                        func(c *Conf) bool { return reflect.DeepEqual(c.Groups, []string{"a", "b"}) },
		"prompts = 9":                                  func(c *Conf) bool { return c.Prompts == 3 },
		"prompts = none":                               func(c *Conf) bool { return c.Prompts == 1 },
		"prompts = 2x":                                 func(c *Conf) bool { return c.Prompts == 2 },
		"https_timeout = -5":                           func(c *Conf) bool { return c.HTTPSTimeout == 0 },
		"https_timeout = 99999999999":                  func(c *Conf) bool { return c.HTTPSTimeout == 0 },
		"cafile =":                                     func(c *Conf) bool { return c.CAFile != nil && *c.CAFile == "" },
		"host = api.example:8443":                      func(c *Conf) bool { return c.Host == "api.example:8443" },
		"send_gecos=on\n\tyes\ngecos_username_pos = 2": func(c *Conf) bool { return c.SendGECOS && c.GECOSPosition == 2 },
	} {
		c, err := Parse("x", least+text)
		if err != nil || !want(c) {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
	for text, want := range map[string]string{
		"[duo":                              "x:4: the section is not closed",
		"autopush":                          "x:4: the line is no option = value",
		"autopush ; = yes":                  "x:4: the line is no option = value",
		"colour = blue":                     `x:4: option "colour" is unknown`,
		"gecos_delim = ::":                  "gecos_delim",
		"gecos_delim = :":                   "gecos_delim",
		"gecos_username_pos = 0":            "below 1",
		"x = " + strings.Repeat("y", 200):   "longer than the 199 bytes",
		"host =":                            "host is missing",
		"groups = a\x00b":                   "NUL",
		strings.Repeat("groups = a\n", 257): "over 256",
	} {
		if _, err := Parse("x", least+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestConvert(t *testing.T) {
	for text, want := range map[string]string{
		"":                               `fail_mode = "open"`,
		"failmode = secure":              `fail_mode = "secure"`,
		"https_timeout = 1":              `request_timeout = "3s"`,
		"https_timeout = 30":             `request_timeout = "30s"`,
		"prompts = 1":                    "attempts = 1",
		"pushinfo = yes":                 "push_command = true",
		"cafile = /etc/ca.pem":           `ca_file = "/etc/ca.pem"`,
		"send_gecos = yes":               "gecos = 1",
		"http_proxy = proxy.example":     `url = "http://proxy.example:80"`,
		"http_proxy = http://[::1]:3128": `url = "http://[::1]:3128"`,
		"http_proxy = http://u:p@h:8":    `password_file = "/etc/x/proxy_password"`,
		"groups = users,!wheel":          `groups = ["users", "!wheel"]`,
	} {
		c, err := Parse("x", least+text)
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Convert("/etc/x")
		if err != nil || !strings.Contains(out.Authd, want) {
			t.Errorf("%q: %v, want %s in\n%+v", text, err, want, out)
		}
	}
	for text, want := range map[string]string{
		"host = a host":             "authd could not take",
		"http_proxy = http://:80":   "http_proxy",
		"http_proxy = http://u:%zz": "http_proxy",
	} {
		c, err := Parse("x", least+text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Convert("/etc/x"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "%zz") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Each option that Duo's programs know has a note that says what it becomes or why not.
func TestEachOptionIsNamed(t *testing.T) {
	text := least + `cafile = /x
noverify = no
http_proxy = http://u:p@h
groups = a
failmode = safe
pushinfo = no
prompts = 1
autopush = no
accept_env_factor = no
fallback_local_ip = no
https_timeout = 0
send_gecos = no
gecos_delim = /
gecos_username_pos = 1
gecos_parsed = no
dev_fips_mode = no
verified_push = no
motd = no
`
	c, err := Parse("x", text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Convert("/etc/x")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(out.Notes), strings.Count(text, "\n"); got != want {
		t.Errorf("%d notes on %d options", got, want)
	}
	for _, n := range out.Notes {
		if n.Becomes == "" && n.Why == "" {
			t.Errorf("nothing is said of %s", n.Option)
		}
	}
}

// Whatever is in the file: what comes out is taken by authd, and does not hold the secret.
func FuzzConvert(f *testing.F) {
	f.Add(least + "groups = a,!b c\\ d\nhttp_proxy = http://u:p@h:1 ; x\n")
	f.Add(least + "failmode=secure\nsend_gecos=1\ngecos_delim=/\ngecos_username_pos=3\nhttps_timeout=5\n[x]\nprompts=2")
	f.Add("[duo\nikey")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("x", text)
		if err != nil {
			return
		}
		out, err := c.Convert("/etc/x")
		if err != nil {
			return
		}
		if _, err := config.Parse("x", out.Authd); err != nil {
			t.Fatalf("authd does not take it: %v\n%s", err, out.Authd)
		}
		all := out.Authd + out.PAM
		for _, n := range out.Notes {
			all += n.Becomes + n.Why
		}
		// A secret of a few bytes may stand anywhere by chance, or be another value.
		if others := c.IKey + c.Host + c.HTTPProxy + strings.Join(c.Groups, " "); len(c.SKey) > 15 && !strings.Contains(others, c.SKey) &&
			(c.CAFile == nil || !strings.Contains(*c.CAFile, c.SKey)) && strings.Contains(all, c.SKey) && !strings.Contains(pamLines, c.SKey) {
			t.Fatalf("the secret is shown:\n%s", all)
		}
	})
}
