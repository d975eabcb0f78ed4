// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const leastLDAP = "[ldap]\nurls = [\"ldaps://ldap.example\"]\nbase_dn = \"dc=example\"\n"

func TestSchemasComplete(t *testing.T) {
	for schema, want := range map[string]struct {
		attribute, member string
		depth             int
	}{"rfc2307": {"uid", "memberUid", 0}, "rfc2307bis": {"uid", "member", 8}, "ad": {"sAMAccountName", "member", 8}} {
		l := parse(t, leastLDAP+"schema = \""+schema+"\"\n").LDAP
		if l.UserAttribute != want.attribute || l.MemberAttribute != want.member || l.NestedDepth != want.depth || l.UserBase != "dc=example" || l.GroupFilter == "" {
			t.Errorf("%s: %+v", schema, l)
		}
	}
	l := parse(t, leastLDAP+"group_base = \"ou=g,dc=example\"\nuser_attribute = \"mail\"\nnested_depth = 0\n").LDAP
	if l.GroupBase != "ou=g,dc=example" || l.UserBase != "dc=example" || l.UserAttribute != "mail" || l.NestedDepth != 0 {
		t.Errorf("what the file says counts: %+v", l)
	}
	if parse(t, "").LDAP.Configured() {
		t.Error("a directory from nowhere")
	}
}

func TestLDAPServers(t *testing.T) {
	for url, want := range map[string]config.LDAPServer{
		"ldaps://ldap.example":      {Network: "tcp", Address: "ldap.example:636", Host: "ldap.example", TLS: true},
		"ldaps://ldap.example:1636": {Network: "tcp", Address: "ldap.example:1636", Host: "ldap.example", TLS: true},
		"ldaps://[2001:db8::1]/":    {Network: "tcp", Address: "[2001:db8::1]:636", Host: "2001:db8::1", TLS: true},
		"ldap://127.0.0.1":          {Network: "tcp", Address: "127.0.0.1:389", Host: "127.0.0.1"},
		"ldap://[::1]:3389":         {Network: "tcp", Address: "[::1]:3389", Host: "::1"},
		"ldapi://%2Frun%2Fldapi":    {Network: "unix", Address: "/run/ldapi"},
		"ldapi:///run/slapd/ldapi/": {Network: "unix", Address: "/run/slapd/ldapi"},
	} {
		want.URL = url
		got := parse(t, strings.Replace(leastLDAP, "ldaps://ldap.example", url, 1)).LDAP.Servers()
		if !slices.Equal(got, []config.LDAPServer{want}) {
			t.Errorf("%s: got %+v", url, got)
		}
	}
	parse(t, strings.Replace(leastLDAP, "ldaps:", "ldap:", 1)+"start_tls = true\n")
}

func TestLDAPThatIsRefused(t *testing.T) {
	with := func(url string) string { return strings.Replace(leastLDAP, "ldaps://ldap.example", url, 1) }
	for name, tc := range map[string]struct{ text, want string }{
		"in the clear":          {with("ldap://ldap.example"), "is not encrypted"},
		"a name for loopback":   {with("ldap://localhost"), "is not encrypted"},
		"another scheme":        {with("https://ldap.example"), "is not an address"},
		"a base in the URL":     {with("ldaps://ldap.example/dc=example"), "the base stands in base_dn"},
		"a password in the URL": {with("ldaps://u:p@ldap.example"), "is not an address"},
		"no host":               {with("ldaps://"), "is not an address"},
		"no path":               {with("ldapi://"), "is not an address"},
		"no urls":               {"[ldap]\nbase_dn = \"dc=example\"\n", "ldap.urls is missing"},
		"no base":               {"[ldap]\nurls = [\"ldaps://ldap.example\"]\n", "base_dn is missing"},
		"too many":              {with("ldaps://a\"" + strings.Repeat(", \"ldaps://a\"", 8)[:len(", \"ldaps://a\"")*8-1]), "at most 8"},
		"no DN":                 {leastLDAP + "user_base = \"people\"\n", "ldap.user_base"},
		"no filter":             {leastLDAP + "user_filter = \"(a=b\"\n", "ldap.user_filter"},
		"two filters":           {leastLDAP + "group_filter = \"(a=b)(c=d)\"\n", "ldap.group_filter"},
		"no attribute":          {leastLDAP + "user_attribute = \"uid=*)(a\"\n", "ldap.user_attribute"},
		"schema":                {leastLDAP + "schema = \"ipa\"\n", "ldap.schema"},
		"no groups in groups":   {leastLDAP + "schema = \"rfc2307\"\nnested_depth = 3\n", "nested_depth"},
		"DN without password":   {leastLDAP + "bind_dn = \"cn=a\"\n", "belong together"},
		"password without DN":   {leastLDAP + "bind_password_file = \"/x\"\n", "belong together"},
		"domain":                {leastLDAP + "domains = [\"a@b\"]\n", "ldap.domains"},
		"age":                   {leastLDAP + "cache_max_age = \"0s\"\n", "ldap.cache_max_age is 0s"},
		"size":                  {leastLDAP + "cache_size = 0\n", "ldap.cache_size is 0"},
		"deep":                  {leastLDAP + "nested_depth = 33\n", "ldap.nested_depth is 33"},
		"slow":                  {"[timeouts]\nnss_timeout = \"1s\"\n" + leastLDAP, "ldap_timeout is above nss_timeout"},
		"unknown key":           {leastLDAP + "tls = false\n", "unknown key ldap.tls"},
		"rule without LDAP":     {"[[rules]]\nname = \"r\"\naction = \"deny\"\nldap_groups = [\"g\"]\n", "there is no [ldap]"},
		"mapping without LDAP":  {"[services.su]\nmapping = { ldap = \"mail\" }\n", "there is no [ldap]"},
		"loginuid of sshd":      {"[services.sshd]\nperson = \"loginuid\"\n", "before the login has a loginuid"},
		"target of sudo":        {"[services.sudo]\nperson = \"target\"\n", "before it names its target"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("authd.toml", least+tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestBindPasswordIsKept(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := func(password string) (*config.Config, error) {
		t.Helper()
		secret := write("secret", "s", 0o600)
		text := strings.Replace(least, "/etc/sallyport/secret_key", secret, 1)
		text = strings.Replace(text, "ca_file = \"/etc/sallyport/ca.pem\"\n", "", 1)
		return config.Load(write("authd.toml", text+leastLDAP+"bind_dn = \"cn=a\"\nbind_password_file = \""+password+"\"\n", 0o600))
	}
	c, err := load(write("password", " blanks count \n", 0o600))
	if err != nil || c.LDAP.Password() != " blanks count " {
		t.Fatalf("got %v", err)
	}
	for name, path := range map[string]string{
		"open to everybody": write("open", "p", 0o644), "is empty": write("empty", "\n", 0o600), "no such file": filepath.Join(dir, "missing"),
	} {
		if _, err := load(path); err == nil || !strings.Contains(err.Error(), "ldap.bind_password_file") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLDAPWarnings(t *testing.T) {
	c := parse(t, leastLDAP+"cache_stale = \"2h\"\n")
	got := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"anonymously", "cache_stale"} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning of %s: %s", want, got)
		}
	}
}
