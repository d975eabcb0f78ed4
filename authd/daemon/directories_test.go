// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/login"
)

func withLDAP(t *testing.T, settings string) *config.Config {
	t.Helper()
	c, err := config.Parse("authd.toml", "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"unused\"\n"+settings)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A reload that changes nothing of the directory keeps its answers, and one that
// does leaves them to logins under way.
func TestReloadKeepsTheDirectory(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "missing.pem")
	log := slog.New(slog.DiscardHandler)
	settings := "[ldap]\nurls = [\"ldaps://ldap.example\"]\nbase_dn = \"dc=example\"\n"
	first, err := newDirectories(withLDAP(t, settings), nil, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	for name, tc := range map[string]struct {
		settings string
		kept     bool
	}{
		"nothing":                     {settings, true},
		"something else":              {"[timeouts]\ngrant_ttl = \"1m\"\n" + settings, true},
		"a server":                    {strings.Replace(settings, "ldap.", "ldap2.", 1), false},
		"an attribute":                {settings + "[services.su]\nmapping = { ldap = \"mail\" }\n", false},
		"the time that it may take":   {"[timeouts]\nldap_timeout = \"1s\"\n" + settings, false},
		"it is not asked any more":    {"", false},
		"what is remembered of rules": {settings + "cache_max_age = \"1m\"\n", false},
	} {
		next, err := newDirectories(withLDAP(t, tc.settings), first, time.Now, log)
		if err != nil {
			t.Fatal(err)
		}
		if (next == first) != tc.kept {
			t.Errorf("%s: kept is %v", name, next == first)
		}
		if next != first {
			next.close()
		}
	}
	none, err := newDirectories(withLDAP(t, ""), nil, time.Now, log)
	if err != nil {
		t.Fatal(err)
	}
	var s login.State
	if none.into(&s); s.LDAP != nil || s.UserLDAP != nil {
		t.Error("without a directory there is one")
	}
	if _, err := newDirectories(withLDAP(t, settings+"ca_file = \""+ca+"\"\n"), nil, time.Now, log); err == nil || !strings.Contains(err.Error(), "ldap.ca_file") {
		t.Errorf("a CA file that is not there: %v", err)
	}
}
