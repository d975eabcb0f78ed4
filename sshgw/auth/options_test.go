// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// key1 is a public key that anybody may know.
const key1 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"

func TestOptions(t *testing.T) {
	for options, want := range map[string]identity.Limits{
		"":                                  {},
		"restrict":                          {NoPTY: true, NoAgent: true, NoForwarding: true, NoX11: true},
		"restrict,pty":                      {NoAgent: true, NoForwarding: true, NoX11: true},
		"no-pty,no-X11-forwarding":          {NoPTY: true, NoX11: true},
		"No-Agent-Forwarding":               {NoAgent: true},
		"no-user-rc,port-forwarding":        {},
		`command="echo \"hi\", you"`:        {Command: `echo "hi", you`},
		`permitopen="db1:22",no-pty`:        {NoPTY: true, PermitOpen: []string{"db1:22"}},
		`permitopen="a:1",permitopen="b:*"`: {PermitOpen: []string{"a:1", "b:*"}},
		`permitopen="[::1]:80"`:             {PermitOpen: []string{"[::1]:80"}},
		`permitlisten="8080"`:               {PermitListen: []string{"8080"}},
		`permitlisten="localhost:8080"`:     {PermitListen: []string{"localhost:8080"}},
		`from="10.0.0.0/8",pty`:             {},
		`cert-authority,principals="a,b"`:   {},
	} {
		lines := parseAuthorized(strings.TrimSpace(options+" "+key1) + " a comment\n")
		if len(lines) != 1 || lines[0].err != nil || !reflect.DeepEqual(lines[0].limits, want) {
			t.Errorf("%s: %+v", options, lines)
		}
	}
}

// What the gateway does not know or cannot see to refuses the key: less than was said
// would hold otherwise.
func TestOptionsThatRefuse(t *testing.T) {
	for _, options := range []string{
		"moon", `moon="full"`, "no-touch-required", "verify-required", `environment="A=b"`, `tunnel="0"`, "no-pty=yes", `pty="x"`,
		"command", `command=""`, "command=ls", `command="a",command="b"`, `from=""`, `from="a,,b"`, "from=10.0.0.1",
		`expiry-time="tomorrow"`, `expiry-time="20261301"`, `principals="a"`, `cert-authority,principals=""`, `cert-authority,principals="a,,b"`,
		`permitopen="db1"`, `permitopen=":22"`, `permitopen="db1:ssh"`, `permitopen="db1:70000"`, `permitopen="db1:0"`, `permitlisten="x"`, `permitlisten=""`,
		"restrict,moon",
	} {
		lines := parseAuthorized(options + " " + key1 + "\n")
		if len(lines) > 0 && lines[0].err == nil {
			t.Errorf("%s: the key counts, with %+v", options, lines[0].limits)
		}
	}
}

func TestFrom(t *testing.T) {
	for list, want := range map[string]map[string]bool{
		"10.0.0.0/8":              {"10.1.2.3": true, "192.0.2.1": false, "::1": false},
		"10.0.0.0/8,!10.1.0.0/16": {"10.1.2.3": false, "10.2.2.3": true},
		"!10.1.0.0/16":            {"10.1.2.3": false, "10.2.2.3": false}, // nothing but a no
		"192.0.2.*":               {"192.0.2.77": true, "192.0.3.77": false},
		"*":                       {"192.0.2.77": true, "2001:db8::1": true},
		"2001:db8::/32":           {"2001:db8::1": true, "2001:db9::1": false},
		"*.example.org":           {"192.0.2.77": false},
		"host.example,*":          {"192.0.2.77": true},
		"*,!evil.example":         {"192.0.2.77": false}, // it could be anybody
		"::ffff:192.0.2.1":        {"192.0.2.1": true},
	} {
		lines := parseAuthorized(`from="` + list + `" ` + key1 + "\n")
		if len(lines) != 1 || lines[0].err != nil {
			t.Fatalf("%s: %+v", list, lines)
		}
		for source, ok := range want {
			if err := lines[0].permits(netip.MustParseAddr(source), time.Now()); (err == nil) != ok {
				t.Errorf("%s from %s: %v", list, source, err)
			}
		}
		if list != "*" && list != "host.example,*" {
			if err := lines[0].permits(netip.Addr{}, time.Now()); err == nil {
				t.Errorf("%s from nowhere", list)
			}
		}
	}
	two := parseAuthorized(`from="10.0.0.0/8",from="10.1.0.0/16" ` + key1)
	if two[0].permits(netip.MustParseAddr("10.2.0.1"), time.Now()) == nil {
		t.Error("of two lists one is enough")
	}
}

func TestExpiry(t *testing.T) {
	at := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]bool{
		"20260715120001Z": true, "20260715120000Z": false, "202607151201Z": true, "20260716Z": true, "20260715Z": false, "20270101": true,
	} {
		lines := parseAuthorized(`expiry-time="` + value + `" ` + key1)
		if len(lines) != 1 || lines[0].err != nil {
			t.Fatalf("%s: %+v", value, lines)
		}
		if err := lines[0].permits(netip.MustParseAddr("192.0.2.1"), at); (err == nil) != want {
			t.Errorf("%s: %v", value, err)
		}
	}
	both := parseAuthorized(`expiry-time="20270101Z",expiry-time="20260101Z" ` + key1)
	if both[0].permits(netip.MustParseAddr("192.0.2.1"), at) == nil {
		t.Error("of two times the later one counts")
	}
}

func TestLinesThatAreNone(t *testing.T) {
	const junk = "# comment\n\nssh-ed25519 AAAA\nnot a key at all\nssh-rsa " + "AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI\nrestrict " + "AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI\n"
	if lines := parseAuthorized(junk + key1); len(lines) != 1 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestExpand(t *testing.T) {
	for pattern, want := range map[string]string{"/k/%u": "/k/al", "/k/%%u/%u.%u": "/k/%u/al.al", "/k/%h": "/k/%h", "/k/%": "/k/%"} {
		if got := expand(pattern, "al"); got != want {
			t.Errorf("%s: %s", pattern, got)
		}
	}
	if got := expand("/k/%u", "%u"); got != "/k/%u" {
		t.Errorf("a name is a pattern: %s", got)
	}
}

func FuzzAuthorizedKeys(f *testing.F) {
	for _, options := range []string{"", "restrict,pty", `command="a \" b",from="10.0.0.0/8,!10.1.*"`, `permitopen="[::1]:*"`, `expiry-time="20260101"`, `cert-authority,principals="a,b"`, `command="\"`} {
		f.Add(options)
	}
	f.Fuzz(func(t *testing.T, options string) {
		for _, l := range parseAuthorized(options + " " + key1 + "\n") {
			if l.err != nil {
				continue
			}
			// A key that counts says nothing that is not kept.
			lower := strings.ToLower(options)
			for _, word := range []string{"environment=", "tunnel=", "verify-required", "no-touch-required"} {
				if strings.HasPrefix(lower, word) {
					t.Errorf("%q counts", options)
				}
			}
			if strings.HasPrefix(options, "command=") && l.limits.Command == "" {
				t.Errorf("%q: the command is gone", options)
			}
			if strings.HasPrefix(options, "from=") && len(l.from) == 0 || strings.HasPrefix(options, "expiry-time=") && l.expires.IsZero() {
				t.Errorf("%q: a condition is gone", options)
			}
			_ = l.permits(netip.MustParseAddr("192.0.2.1"), time.Unix(0, 0))
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"alice", "alice%db1", "alice%root@db1", "a@b%c@d@e", "%", "alice%%", "../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseName(s)
		if err != nil {
			return
		}
		for _, part := range []string{n.User, n.Login, n.Target} {
			if strings.ContainsAny(part, "/\x00\n\x1b ") || part == ".." || strings.HasPrefix(part, "-") {
				t.Errorf("%q: %+v", s, n)
			}
		}
		if n.User == "" {
			t.Errorf("%q: nobody", s)
		}
	})
}
