// SPDX-License-Identifier: Apache-2.0

package inventory_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

func parse(t testing.TB, text string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse("targets.toml", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

const some = `
[[target]]
name = "DB1"
aliases = ["primary", "db1.example"]
host = "db1.internal.example."
labels = { env = "prod" }
groups = ["databases"]
logins = ["postgres"]

[[target]]
name = "old"
host = "::ffff:10.0.0.9"
port = 2222

[[pattern]]
name = "web*.example"
host = "%1.web.internal"

[[pattern]]
name = "*.lab"
groups = ["lab"]
`

func TestFind(t *testing.T) {
	inv := parse(t, some)
	for name, want := range map[string]string{
		"db1":             "db1 db1.internal.example:22",
		"Primary":         "db1 db1.internal.example:22",
		"db1.example.":    "db1 db1.internal.example:22",
		"old":             "old 10.0.0.9:2222",
		"web7.example":    "web7.example 7.web.internal:22",
		"x.lab":           "x.lab x.lab:22",
		"web.example":     "",
		"web1.2.example":  "",
		"a.b.lab":         "",
		"db1..example":    "",
		"-x.lab":          "",
		"db1 ":            "",
		"":                "",
		".":               "",
		"ｄb1":             "",
		"db1.example..":   "",
		"xn--db1.lab":     "xn--db1.lab xn--db1.lab:22",
		"web../x.example": "",
	} {
		got := ""
		if f, ok := inv.Find(name); ok {
			got = fmt.Sprintf("%s %s:%d", f.Name, f.Host, f.Port)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if f, _ := inv.Find("web7.example"); f.Pattern != "web*.example" {
		t.Errorf("%+v", f)
	}
	if all := inv.All(); len(all) != 2 || all[0].Name != "db1" || all[1].Name != "old" {
		t.Errorf("%+v", all)
	}
}

// A name under which weaker rules hold must not lead to the same server.
func TestAPatternIsNoSecondNameForATarget(t *testing.T) {
	inv := parse(t, `
[[target]]
name = "vault"
host = "b.internal"

[[pattern]]
name = "a-*"
host = "%1.internal"

[[pattern]]
name = "z-*"
host = "%1.internal"
`)
	for name, want := range map[string]string{"a-b": "vault", "z-b": "vault", "z-c": "a-c", "a-c": "a-c"} {
		if f, ok := inv.Find(name); !ok || f.Name != want {
			t.Errorf("%s is %+v, want %s", name, f, want)
		}
	}
	if f, ok := inv.At("c.internal", nil, 22); !ok || f.Name != "a-c" {
		t.Errorf("at c.internal: %+v", f)
	}
}

func TestAt(t *testing.T) {
	inv := parse(t, some)
	addr := netip.MustParseAddr
	for _, c := range []struct {
		host  string
		addrs []netip.Addr
		port  uint16
		want  string
	}{
		{"db1.internal.example", nil, 22, "db1"},
		{"DB1.INTERNAL.EXAMPLE.", nil, 22, "db1"},
		{"db1", nil, 22, "db1"},
		{"primary", nil, 22, "db1"},
		{"db1", nil, 23, ""},
		{"10.0.0.9", nil, 2222, "old"},
		{"::ffff:10.0.0.9", nil, 2222, "old"},
		{"", []netip.Addr{addr("10.0.0.9")}, 2222, "old"},
		{"x.example", []netip.Addr{addr("192.0.2.1"), addr("::ffff:10.0.0.9")}, 2222, "old"},
		{"10.0.0.9", nil, 22, ""},
		{"5.web.internal", nil, 22, "web5.example"},
		{"q.lab", nil, 22, "q.lab"},
		{"elsewhere", nil, 22, ""},
	} {
		got := ""
		if f, ok := inv.At(c.host, c.addrs, c.port); ok {
			got = f.Name
		}
		if got != c.want {
			t.Errorf("%q %v %d: %q, want %q", c.host, c.addrs, c.port, got, c.want)
		}
	}
}

func TestOnHost(t *testing.T) {
	inv := parse(t, some)
	inv.Resolve(t.Context(), func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.1.1.1")}, nil
	})
	for host, want := range map[string]string{
		"primary": "db1", "DB1.internal.example.": "db1", "10.0.0.9": "old", "::ffff:10.0.0.9": "old", "10.1.1.1": "db1",
		"5.web.internal": "web5.example", "q.lab": "q.lab", "elsewhere": "", "10.9.9.9": "", "fe80::1%x": "", "": "",
	} {
		got := ""
		if f, ok := inv.OnHost(host, nil); ok {
			got = f.Name
		}
		if got != want {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
	if f, ok := inv.OnHost("sneaky.example", []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.9")}); !ok || f.Name != "old" {
		t.Errorf("%+v", f)
	}
}

func TestResolvedAddressesAreTargets(t *testing.T) {
	inv := parse(t, some)
	fail := false
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		if fail {
			return nil, errors.New("no answer")
		}
		if host != "db1.internal.example" {
			t.Errorf("looked up %q", host)
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:10.1.1.1")}, nil
	}
	for range 2 { // what is not answered keeps what it had
		inv.Resolve(t.Context(), lookup)
		if f, ok := inv.At("10.1.1.1", nil, 22); !ok || f.Name != "db1" {
			t.Errorf("%+v", f)
		}
		fail = true
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":       {"[[target]]\nname='a'\nhosts='b'\n", "targets.toml:3: unknown key target.hosts"},
		"no name":           {"\n[[target]]\nhost='a'\n", `targets.toml:2: "": name is no name`},
		"star":              {"[[target]]\nname='a*'\n", "names with stars are for [[pattern]]"},
		"no star":           {"[[pattern]]\nname='a'\n", "a name without is for [[target]]"},
		"name twice":        {"[[target]]\nname='a'\n[[target]]\nname='A.'\nhost='b'\n", `targets.toml:3: "A.": name "a" is one of "a" already (targets.toml:1)`},
		"alias twice":       {"[[target]]\nname='a'\naliases=['x']\n[[target]]\nname='b'\naliases=['X']\n", `targets.toml:4: "b": name "x" is one of "a" already`},
		"alias of itself":   {"[[target]]\nname='a'\naliases=['a']\n", "is there twice"},
		"one server":        {"[[target]]\nname='a'\nhost='h'\n[[target]]\nname='b'\nhost='H.'\n", `targets.toml:4: "b": h port 22 is "a" already`},
		"one server mapped": {"[[target]]\nname='a'\nhost='10.0.0.1'\n[[target]]\nname='b'\nhost='[::ffff:10.0.0.1]'\n", "10.0.0.1 port 22 is"},
		"port":              {"[[target]]\nname='a'\nport=70000\n", "port 70000 is none"},
		"host":              {"[[target]]\nname='a'\nhost='a b'\n", "neither a name of a host nor an address"},
		"zone":              {"[[target]]\nname='a'\nhost='fe80::1%eth0'\n", "neither a name"},
		"login":             {"[[target]]\nname='a'\nlogins=['-x']\n", `login "-x" is no name`},
		"label":             {"[[target]]\nname='a'\nlabels={'a b'='c'}\n", "a key is letters"},
		"two names":         {"[[pattern]]\nname='a*b*'\nhost='%1.x'\n", "says neither %n nor %2"},
		"star that is none": {"[[pattern]]\nname='a*'\nhost='%2.x'\n", "%2 is nothing"},
		"pattern twice":     {"[[pattern]]\nname='a*'\n[[pattern]]\nname='A*'\n", "this pattern is there twice"},
		"pattern alias":     {"[[pattern]]\nname='a*'\naliases=['b']\n", "a pattern has no aliases"},
	} {
		if _, err := inventory.Parse("targets.toml", c.text, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := inventory.Parse("t", "[[target]]\nname='a'\nhost_cas=['x']\ncredential='y'\n", &inventory.Names{}); err == nil || !strings.Contains(err.Error(), "[[host_ca]]") || !strings.Contains(err.Error(), "[[credential]]") {
		t.Errorf("got %v", err)
	}
}

func TestABrokenFileKeepsTheInventoryInForce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.toml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	var b *inventory.Book
	// A change holds once it is seen twice.
	settle := func() (changed bool, err error) {
		for range 2 {
			c, e := b.Refresh()
			changed, err = changed || c, errors.Join(err, e)
		}
		return changed, err
	}
	put("[[target]]\nname = \"one\"\n")
	var err error
	if b, err = inventory.Open([]string{filepath.Join(dir, "*.toml")}, func(string) error { return nil }, nil); err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool { _, ok := b.Inventory().Find(name); return ok }
	if changed, err := settle(); changed || err != nil || !has("one") {
		t.Errorf("nothing has changed: %t, %v", changed, err)
	}
	put("[[target]]\nname = \"two\"\n")
	if changed, err := settle(); !changed || err != nil || has("one") || !has("two") {
		t.Errorf("a new file: %t, %v", changed, err)
	}
	put("[[target]\n")
	if changed, err := settle(); changed || err == nil || !has("two") {
		t.Errorf("a broken file: %t, %v", changed, err)
	}
	if changed, err := settle(); changed || err != nil {
		t.Errorf("a broken file is told once: %t, %v", changed, err)
	}
	put("[[target]]\nname = \"three\"\n")
	if err := os.WriteFile(filepath.Join(dir, "b.toml"), []byte("[[target]]\nname = \"four\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := settle(); !changed || err != nil || !has("three") || !has("four") {
		t.Errorf("two files: %t, %v", changed, err)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"db1", "DB1.", "10.0.0.1", "127.1", "0x7f.1", "a..b", "-a", "ԁb1", "a.", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := inventory.Canonical(s)
		if !ok {
			return
		}
		if again, ok := inventory.Canonical(name); !ok || again != name {
			t.Errorf("%q is %q, and that is %q", s, name, again)
		}
		if upper, ok := inventory.Canonical(strings.ToUpper(s) + "."); ok && upper != name {
			t.Errorf("%q: %q and %q", s, name, upper)
		}
	})
}
