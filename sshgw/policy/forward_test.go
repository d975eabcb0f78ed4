// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

func TestDestinations(t *testing.T) {
	for _, c := range []struct {
		rule       string
		host       string
		port       uint16
		may, exact bool
	}{
		{"db.example:5432", "db.example", 5432, true, true},
		{"db.example:5432", "DB.Example.", 5432, true, true},
		{"DB.example.:5432", "db.example", 5432, true, true},
		{"db.example:5432", "db.example..", 5432, false, false},
		{"db.example:5432", "db.example", 5433, false, false},
		{"db.example:5432", "db.example\x00.evil", 5432, false, false},
		{"db.example:5432", "db.exаmple", 5432, false, false}, // a Cyrillic letter
		{"db.example:5432", "xdb.example", 5432, false, false},
		{"db.example:5432", "", 5432, false, false},
		{"db.example:*", "db.example", 0, false, false},
		{"db.example:*", "db.example", 1, true, false},
		{"*:0-0", "db.example", 0, false, false},
		{"*:*", "::1", 22, true, false},
		{"*:*", "fe80::1%eth0", 22, false, false},
		{"*:*", "0x7f000001", 22, false, false},
		{"*:*", "127.1", 22, false, false},
		{"*:*", "a b", 22, false, false},
		{"*.example:80-90", "a.example", 85, true, false},
		{"*.example:80-90", "a.b.example", 85, true, false},
		{"*.example:80-90", "example", 85, false, false},
		{"*.example:80-90", "a.example.evil", 85, false, false},
		{"*.example:80-90", "a.example", 91, false, false},
		{"10.0.0.0/8:22", "10.1.2.3", 22, true, false},
		{"10.0.0.0/8:22", "::ffff:10.1.2.3", 22, true, false},
		{"10.0.0.0/8:22", "[::ffff:a01:203]", 22, true, false},
		{"10.0.0.0/8:22", "10.evil.example", 22, false, false},
		{"10.0.0.0/8:22", "10.1.2.3.", 22, true, false},
		{"10.0.0.0/8:22", "012.1.2.3", 22, false, false},
		{"10.0.0.1:22", "10.0.0.1", 22, true, true},
		{"10.0.0.1:22", "::ffff:10.0.0.1", 22, true, true},
		{"10.0.0.1/32:22", "10.0.0.1", 22, true, true},
		{"[2001:db8::1]:22", "2001:DB8:0:0::1", 22, true, true},
		{"[2001:db8::/32]:22", "[2001:db8::9]", 22, true, false},
		{"[::ffff:10.0.0.1]:22", "10.0.0.1", 22, true, true},
		{"localhost:5432", "127.0.0.1", 5432, false, false},
	} {
		list, err := newDestinations([]string{c.rule}, "")
		if c.rule == "*:0-0" {
			if err == nil {
				t.Errorf("%q is a range", c.rule)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.rule, err)
			continue
		}
		if may, exact := list.match(c.host, c.port); may != c.may || exact != c.exact {
			t.Errorf("%q, %q:%d: %t %t", c.rule, c.host, c.port, may, exact)
		}
	}
}

func TestListening(t *testing.T) {
	for _, c := range []struct {
		rule string
		host string
		port uint16
		want bool
	}{
		{"8080", "localhost", 8080, true},
		{"8080", "127.0.0.1", 8080, true},
		{"8080", "127.9.9.9", 8080, true},
		{"8080", "::1", 8080, true},
		{"8080", "", 8080, false},
		{"8080", "0.0.0.0", 8080, false},
		{"8080", "::", 8080, false},
		{"8080", "*", 8080, false},
		{"8080", "::ffff:0.0.0.0", 8080, false},
		{"8080", "10.0.0.1", 8080, false},
		{"8080", "localhost", 8081, false},
		{"8080", "localhost", 0, false},
		{"8000-8099", "localhost", 8050, true},
		{"8000-8099", "localhost", 0, false},
		{"*", "localhost", 0, true},
		{"0", "localhost", 0, true},
		{"0", "localhost", 8080, false},
		{"*:8080", "", 8080, true},
		{"*:8080", "0.0.0.0", 8080, true},
		{"*:8080", "10.0.0.1", 8080, true},
		{"10.0.0.1:8080", "10.0.0.1", 8080, true},
		{"10.0.0.1:8080", "", 8080, false},
	} {
		list, err := newDestinations([]string{c.rule}, loopback)
		if err != nil {
			t.Errorf("%q: %v", c.rule, err)
			continue
		}
		if got := list.listen(c.host, c.port); got != c.want {
			t.Errorf("%q, %q:%d: %t", c.rule, c.host, c.port, got)
		}
	}
}

// However a host is written, it is the same host or none.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{"db.example", "10.0.0.1", "::ffff:10.0.0.1", "[::1]", "a%b", "10.1", "DB.example.", "fe80::1%1"} {
		f.Add(s, uint16(22))
	}
	list, err := newDestinations([]string{"db.example:22", "10.0.0.0/8:22", "[::1]:22", "*.wild.example:1-1024"}, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host string, port uint16) {
		may, exact := list.match(host, port)
		if exact && !may {
			t.Errorf("%q:%d is exact and not permitted", host, port)
		}
		name, addr, ok := inventory.Host(host)
		if may && (!ok || port == 0) {
			t.Errorf("%q:%d is permitted", host, port)
		}
		if !ok {
			return
		}
		if name != "" && addr.IsValid() || name == "" && !addr.IsValid() {
			t.Errorf("%q is %q and %s", host, name, addr)
		}
		again := name
		if addr.IsValid() {
			again = addr.String()
		}
		if m, e := list.match(again, port); m != may || e != exact {
			t.Errorf("%q and %q differ", host, again)
		}
	})
}
