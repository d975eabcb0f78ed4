// SPDX-License-Identifier: Apache-2.0

package route_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]route.Name{
		"alice":                   {User: "alice"},
		"alice%db1":               {User: "alice", Target: "db1"},
		"alice%root@db1":          {User: "alice", Login: "root", Target: "db1"},
		"alice@corp%root@db1":     {User: "alice@corp", Login: "root", Target: "db1"},
		"alice%root@corp@db1":     {User: "alice", Login: "root@corp", Target: "db1"},
		`CORP\alice%db1`:          {User: `CORP\alice`, Target: "db1"},
		"alice%[2001:db8::1]":     {User: "alice", Target: "[2001:db8::1]"},
		"alice%root@DB1.":         {User: "alice", Login: "root", Target: "DB1."},
		"alice%adm%x@db1":         {},
		"%db1":                    {},
		"alice%":                  {},
		"alice%root@":             {},
		"alice%@db1":              {},
		"alice%-oProxy@db1":       {},
		"":                        {},
		"al ice":                  {},
		"alice\x00%db1":           {},
		"alice%db1\n":             {},
		"\xff":                    {},
		strings.Repeat("a", 2000): {},
	} {
		got, err := route.Parse(s)
		if got != want || (err == nil) != (want != route.Name{}) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
		if err == nil && got.String() != s {
			t.Errorf("%q is written %q", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"alice", "alice%db1", "alice%root@db1", "%%", "a%b%c@d", "a@b%c@d@e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := route.Parse(s)
		if err != nil {
			if n != (route.Name{}) {
				t.Errorf("%q: %+v with %v", s, n, err)
			}
			return
		}
		if n.String() != s || n.User == "" || strings.Contains(n.User+n.Target+n.Login, "%") || strings.Contains(n.Target, "@") || n.Login != "" && n.Target == "" {
			t.Errorf("%q: %+v", s, n)
		}
	})
}

const targets = `
[[target]]
name = "db1"
aliases = ["primary"]
host = "10.0.0.1"
port = 2222

[[target]]
name = "web"
host = "web.internal.example"

[[target]]
name = "six"
host = "2001:db8::1"

[[target]]
name = "recorded"
host = "web.internal.example"
port = 2200

[[target]]
name = "shadow"
host = "10.0.0.1"
port = 2201

[[pattern]]
name = "node*"
host = "%n.internal.example"
`

func TestTo(t *testing.T) {
	inv, err := inventory.Parse("t.toml", targets, nil)
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(_ context.Context, host string) ([]netip.Addr, error) {
		if host == "sneaky.example" {
			return []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("::ffff:10.0.0.1")}, nil
		}
		return nil, errors.New("no such host")
	}
	for _, c := range []struct {
		host string
		port uint16
		want string
	}{
		{"db1", 22, "db1"},
		{"db1", 2222, "db1"},
		{"db1", 5432, ""},
		{"PRIMARY.", 22, "db1"},
		{"10.0.0.1", 2222, "db1"},
		{"10.0.0.1", 22, ""},
		{"::ffff:10.0.0.1", 2222, "db1"},
		{"[::ffff:a00:1]", 2222, "db1"},
		{"sneaky.example", 2222, "db1"},
		{"web", 22, "web"},
		{"Web.Internal.Example.", 22, "web"},
		{"web", 2200, "recorded"}, // one host, two targets: the port says which
		{"WEB.", 2200, "recorded"},
		{"recorded", 22, "recorded"},
		{"db1", 2201, "shadow"},
		{"shadow", 2222, "db1"},
		{"sneaky.example", 2201, "shadow"},
		{"web", 2201, ""},
		{"2001:DB8:0::1", 22, "six"},
		{"[2001:db8::1]", 22, "six"},
		{"2001:db8::1%eth0", 22, ""},
		{"node7", 22, "node7"},
		{"node7.internal.example", 22, "node7"},
		{"node7.evil.internal.example", 22, ""},
		{"db1", 0, ""},
		{"db1\x00", 22, ""},
		{"ԁb1", 22, ""},
		{"0x0a000001", 2222, ""},
		{"167772161", 2222, ""},
		{"10.1", 2222, ""},
		{"012.0.0.1", 2222, ""},
		{"", 22, ""},
		{"elsewhere.example", 22, ""},
	} {
		got, err := route.To(t.Context(), inv, resolve, c.host, c.port)
		switch {
		case c.want == "" && !errors.Is(err, route.ErrNoTarget):
			t.Errorf("%q:%d: %+v, %v", c.host, c.port, got, err)
		case c.want != "" && (err != nil || got.Name != c.want):
			t.Errorf("%q:%d: %+v, %v, want %s", c.host, c.port, got, err, c.want)
		}
	}
}

func TestNamed(t *testing.T) {
	inv, err := inventory.Parse("t.toml", targets, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"DB1": "db1", "primary": "db1", "web.internal.example": "web", "[2001:db8::1]": "six", "node9": "node9"} {
		if got, err := route.Named(inv, name); err != nil || got.Name != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := route.Named(inv, "nothing"); !errors.Is(err, route.ErrNoTarget) {
		t.Errorf("got %v", err)
	}
	db1, _ := inv.Find("db1")
	if got := route.LoginAt(db1, "alice"); got != "alice" {
		t.Errorf("login %s", got)
	}
}
