// SPDX-License-Identifier: Apache-2.0

package person

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/directory"
)

// mapping is what `mapping = TEXT` means in authd.toml.
func mapping(t testing.TB, text string) config.Mapping {
	t.Helper()
	c, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c.Service("su", false).Mapping
}

func parse(text string) (*config.Config, error) {
	return config.Parse("authd.toml", "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"unused\"\n"+
		"[ldap]\nurls = [\"ldaps://ldap.example\"]\nbase_dn = \"dc=example\"\n[services.su]\nmapping = "+text+"\n")
}

// book is a directory of one attribute.
type book map[string]string

func (b book) Attribute(_ context.Context, user, attribute string) (string, error) {
	switch value, ok := b[user]; {
	case ok && attribute == "mail":
		return value, nil
	case ok:
		return "", fmt.Errorf("%w: it has 0 values, not one", directory.ErrNoValue)
	}
	return "", errors.New("the directory does not answer")
}

func TestMap(t *testing.T) {
	p := Mapper{Attributes: book{"alice": "Alice.Smith@example.org", "eve": "root\x1b[2J"}}
	const none = "" // no name
	for _, tc := range []struct{ mapping, name, want string }{
		{`"as-is"`, `EX\Alice@example.org`, `EX\Alice@example.org`},
		{`"lower"`, "Alice", "alice"},
		{`"strip-domain"`, "alice@example.org", "alice"},
		{`"strip-domain"`, `EXAMPLE\alice`, "alice"},
		{`"strip-domain"`, `EXAMPLE\alice@example.org`, "alice"},
		{`"strip-domain"`, "@alice", "@alice"},
		{`"strip-domain"`, "alice", "alice"},
		{`"keep-domain"`, `EXAMPLE\Alice`, "Alice@example"},
		{`"keep-domain"`, `Alice@Example.ORG`, "Alice@example.org"},
		{`"keep-domain"`, `alice`, "alice"},
		{`{ domain = "strip", case = "lower" }`, `EXAMPLE\Alice`, "alice"},
		{`{ domain = "strip", domains = ["EXAMPLE"] }`, `example\alice`, "alice"},
		{`{ domain = "strip", domains = ["EXAMPLE"] }`, `OTHER\alice`, none},
		{`{ domain = "strip", domains = ["EXAMPLE"] }`, `alice`, "alice"},
		{`{ ldap = "mail" }`, "alice", "Alice.Smith@example.org"},
		{`{ ldap = "mail", domain = "strip", case = "lower" }`, "alice", "alice.smith"},
		{`{ ldap = "uid" }`, "alice", none},
		{`{ ldap = "mail" }`, "eve", none}, // what comes from elsewhere is no name either
		{`{ pattern = 'adm-(.+)', name = '$1' }`, "adm-alice", "alice"},
		{`{ pattern = 'adm-(.+)', name = '$1' }`, "alice", none},
		{`{ pattern = 'adm-(.+)', name = '$1' }`, "xadm-alice", none}, // anchored
		{`{ pattern = 'a|b(.*)', name = '${1}' }`, "az", none},        // as a whole
		{`{ pattern = 'adm-(.+)', name = '$1', unmatched = "as-is" }`, "alice", "alice"},
		{`{ pattern = '(?P<who>.+)\.adm', name = '${who}@corp' }`, "alice.adm", "alice@corp"},
		{`{ pattern = 'adm-(.*)', name = '$1' }`, "adm-", none},
		{`{ pattern = '(.)(.*)', name = '$2$1$$' }`, "alice", "licea$"},
		{`{ case = "lower", pattern = 'adm-(.+)', name = '$1' }`, "ADM-Alice", "alice"},
	} {
		got, err := p.Map(t.Context(), mapping(t, tc.mapping), directory.Account{Name: tc.name})
		if got != tc.want && err == nil || (err == nil) != (tc.want != none) || err != nil && !errors.Is(err, ErrNoName) {
			t.Errorf("%s of %q: got %q, %v, want %q", tc.mapping, tc.name, got, err, tc.want)
		}
	}
}

// What nobody has answered is not known, which is another thing than no name.
func TestDirectoryThatIsAway(t *testing.T) {
	m := mapping(t, `{ ldap = "mail" }`)
	for name, p := range map[string]Mapper{"away": {Attributes: book{}}, "none": {}} {
		if got, err := p.Map(t.Context(), m, directory.Account{Name: "bob"}); err == nil || errors.Is(err, ErrNoName) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestMappingsThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`"upper"`:                                            `mapping "upper" is none of`,
		`3`:                                                  "neither a word nor a table",
		`{ mail = true }`:                                    "unknown key mail",
		`{ ldap = "mail", gecos = 1 }`:                       "not from both",
		`{ ldap = "(uid=*)" }`:                               "not the name of an attribute",
		`{ ldap = 3 }`:                                       "ldap is not a text",
		`{ ldap = "" }`:                                      "ldap is empty",
		`{ gecos = 0 }`:                                      "1 to 16",
		`{ gecos = 5, delimiter = ":" }`:                     "one punctuation character",
		`{ delimiter = ";" }`:                                "belongs to gecos",
		`{ domain = "drop" }`:                                `domain "drop" is none of`,
		`{ domain = "keep", domains = ["EX"] }`:              "domains belongs to",
		`{ domain = "strip", domains = ["a@b"] }`:            "list of domains",
		`{ case = "upper" }`:                                 `case "upper" is none of`,
		`{ pattern = 'a(' , name = '$1' }`:                   "pattern",
		`{ pattern = 'a(.)' }`:                               "belong together",
		`{ pattern = 'a(.)', name = '$2' }`:                  `group "2"`,
		`{ pattern = 'a(.)', name = '$1x' }`:                 `group "1x"`,
		`{ pattern = 'a(.)', name = 'root' }`:                "everybody would be the same person",
		`{ pattern = 'a(.)', name = '$1', unmatched = "x" }`: `unmatched "x" is none of`,
		`{ unmatched = "as-is" }`:                            "belongs to pattern",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), "services.su: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", text, err, want)
		}
	}
}

// machine is a folder with the files that decide who may write the GECOS field.
func machine(t *testing.T, chfn os.FileMode, restrict string, more ...string) GECOS {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if chfn != 0 {
		write("/usr/bin/chfn", "", chfn)
	}
	if restrict != "missing" {
		write("/etc/login.defs", "# CHFN_RESTRICT f\nMAIL_DIR /var/mail\n"+restrict+"\n", 0o644)
	}
	for _, path := range more {
		write(path, "", 0o755)
	}
	return GECOS{Root: root}
}

func TestGECOSThatUsersMayWriteIsRefused(t *testing.T) {
	const setuid = os.ModeSetuid | 0o755
	gecos := func(place int) string { return fmt.Sprintf("{ gecos = %d }", place) }
	for _, tc := range []struct {
		name    string
		machine GECOS
		mapping string
		may     bool
	}{
		{"Debian: the room", machine(t, setuid, "CHFN_RESTRICT rwh"), gecos(2), true},
		{"Debian: the full name", machine(t, setuid, "CHFN_RESTRICT\t\trwh"), gecos(1), false},
		{"the fifth part is root's", machine(t, setuid, "CHFN_RESTRICT frwh"), gecos(5), false},
		{"yes is rwh", machine(t, setuid, "CHFN_RESTRICT yes"), gecos(4), true},
		{"yes leaves the name", machine(t, setuid, "CHFN_RESTRICT yes"), gecos(1), false},
		{"no is everything", machine(t, setuid, "CHFN_RESTRICT no"), gecos(1), true},
		{"nothing said: root alone", machine(t, setuid, ""), gecos(1), false},
		{"no setuid bit", machine(t, 0o755, "CHFN_RESTRICT frwh"), gecos(1), false},
		{"no chfn", machine(t, 0, "CHFN_RESTRICT frwh"), gecos(1), false},
		{"no login.defs", machine(t, setuid, "missing"), gecos(5), true},
		{"another delimiter crosses the parts", machine(t, setuid, "CHFN_RESTRICT h"), `{ gecos = 1, delimiter = ";" }`, true},
		{"a desktop's account service", machine(t, 0, "", "/usr/libexec/accounts-daemon"), gecos(5), true},
		{"a mapping without GECOS", machine(t, setuid, "CHFN_RESTRICT frwh"), `"lower"`, false},
	} {
		err := tc.machine.Writable(mapping(t, tc.mapping))
		if (err != nil) != tc.may {
			t.Errorf("%s: got %v", tc.name, err)
		}
		if tc.may {
			name, err := Mapper{GECOS: tc.machine}.Map(t.Context(), mapping(t, tc.mapping), directory.Account{Name: "eve", GECOS: "root,root,root,root,root", Local: true})
			if name != "" || !errors.Is(err, ErrNoName) {
				t.Errorf("%s: eve becomes %q, %v", tc.name, name, err)
			}
		}
	}
}

func TestGECOS(t *testing.T) {
	p := Mapper{GECOS: machine(t, 0, "")}
	for _, tc := range []struct {
		mapping, gecos, want string
		remote               bool
	}{
		{`{ gecos = 1 }`, "Alice Smith,,,,asmith", "Alice Smith", false},
		{`{ gecos = 5 }`, "Alice Smith,,,,asmith", "asmith", false},
		{`{ gecos = 5 }`, "Alice Smith,,,, asmith ", "asmith", false},
		{`{ gecos = 2 }`, "Alice Smith,,,,asmith", "", false},
		{`{ gecos = 6 }`, "Alice Smith,,,,asmith", "", false},
		{`{ gecos = 1 }`, "", "", false},
		{`{ gecos = 2, delimiter = ";" }`, "Alice, Room 1;asmith", "asmith", false},
		{`{ gecos = 5, case = "lower" }`, ",,,,ASmith", "asmith", false},
		{`{ gecos = 5 }`, ",,,,asmith", "", true}, // who may write it there?
	} {
		got, err := p.Map(t.Context(), mapping(t, tc.mapping), directory.Account{Name: "alice", GECOS: tc.gecos, Local: !tc.remote})
		if got != tc.want && err == nil || (err == nil) != (tc.want != "") || err != nil && !errors.Is(err, ErrNoName) {
			t.Errorf("%s of %q: got %q, %v, want %q", tc.mapping, tc.gecos, got, err, tc.want)
		}
	}
}

// Whatever an account is called and has in its GECOS field, what comes out is a
// name that can be shown and sent, or none.
func FuzzMap(f *testing.F) {
	for _, name := range []string{"alice", `EX\alice`, "alice@ex.org", "adm-alice", "\\", "@", "a\x00b", "\xff", "a@@b", `\@`} {
		for i := range 6 {
			f.Add(name, "Alice,,,,asmith", i)
		}
	}
	var mappings []config.Mapping
	for _, text := range []string{`"as-is"`, `"strip-domain"`, `"keep-domain"`, `{ domain = "strip", case = "lower", pattern = '(.*)-(.+)', name = '${2}' }`,
		`{ gecos = 5 }`, `{ gecos = 2, delimiter = ";", domain = "keep" }`} {
		mappings = append(mappings, mapping(f, text))
	}
	p := Mapper{GECOS: GECOS{Root: f.TempDir()}}
	f.Fuzz(func(t *testing.T, name, gecos string, which int) {
		m := mappings[uint(which)%uint(len(mappings))]
		got, err := p.Map(context.Background(), m, directory.Account{Name: name, GECOS: gecos, Local: true})
		if (err == nil) == (got == "") {
			t.Fatalf("got %q and %v", got, err)
		}
		if err != nil && !errors.Is(err, ErrNoName) {
			t.Fatalf("nobody was asked, and yet it is not known: %v", err)
		}
		if len(got) > maxName || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q is no name", got)
		}
		if user, domain := directory.SplitDomain(name); domain != "" && user == "" {
			t.Fatalf("%q is split into %q and %q", name, user, domain)
		}
	})
}
