// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

func newVault32(t *testing.T) *Vault {
	t.Helper()
	v, err := newVault([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// vaultOf is the vault of a store without a passphrase.
func vaultOf(t *testing.T, s Store) *Vault {
	t.Helper()
	v, err := s.Vault(unasked(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newAccount(t *testing.T, id string, created int64) (Account, Secrets) {
	t.Helper()
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return Account{AuthenticatorID: id, URL: "https://v.example", Username: "alice", Created: created},
		Secrets{Key: key, OfflineRoot: []byte(fmt.Sprintf("root of %024s", id))}
}

// add makes an account in a store.
func add(t *testing.T, s Store, v *Vault, id string, created int64) (Account, Secrets) {
	t.Helper()
	a, secrets := newAccount(t, id, created)
	a, err := s.Add(a, secrets, v)
	if err != nil {
		t.Fatal(err)
	}
	return a, secrets
}

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "a", "b")}
	if accounts, err := s.List(); err != nil || len(accounts) != 0 {
		t.Fatalf("a folder that is not there: %v, %v", accounts, err)
	}
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	v := vaultOf(t, s)
	second, _ := add(t, s, v, "DPA", 2)
	first, secrets := add(t, s, v, "DPB", 1)
	accounts, err := s.List()
	if err != nil || len(accounts) != 2 || accounts[0] != first || accounts[1] != second {
		t.Fatalf("%v, %+v", err, accounts)
	}
	got, err := accounts[0].Secrets(v)
	if err != nil || !got.Key.Equal(secrets.Key) || !bytes.Equal(got.OfflineRoot, secrets.OfflineRoot) {
		t.Errorf("the secrets did not survive: %v", err)
	}
	other, otherSecrets := newAccount(t, "DPA", 3)
	if _, err := s.Add(other, otherSecrets, v); err == nil {
		t.Error("an account was replaced")
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 3 { // two accounts, and the key
		t.Errorf("leftovers: %v, %v", entries, err)
	}
	for _, path := range []string{s.Dir, filepath.Join(s.Dir, "DPA.json")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestRemove(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	add(t, s, vaultOf(t, s), "DPA", 1)
	for _, id := range []string{"", "../" + filepath.Base(s.Dir) + "/DPA", "DPB"} {
		if err := s.Remove(id); err == nil {
			t.Errorf("removed %q", id)
		}
	}
	if err := s.Remove("DPA"); err != nil {
		t.Fatal(err)
	}
	if accounts, err := s.List(); err != nil || len(accounts) != 0 {
		t.Errorf("%v, %v", accounts, err)
	}
}

// The id comes from a server and names a file.
func TestAddRefusesPaths(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	for _, id := range []string{"", "../x", "a/b", ".x", "a\x00", "a\n", strings.Repeat("A", 65)} {
		a, secrets := newAccount(t, id, 1)
		if _, err := s.Add(a, secrets, vaultOf(t, s)); err == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
}

func TestListRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open to others": {`{"v":1,"authenticator_id":"DPA"}`, 0o640, "chmod 600"},
		"not JSON":       {`{`, 0o600, "unexpected end"},
		"other version":  {`{"v":3,"authenticator_id":"DPA"}`, 0o600, "not an account of this version"},
		"other name":     {`{"v":1,"authenticator_id":"DPB"}`, 0o600, "not an account of this version"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			path := filepath.Join(s.Dir, "DPA.json")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := s.List(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestDefaultDir(t *testing.T) {
	for _, c := range []struct{ state, home, want string }{
		{"/s", "/h", "/s/sallyport/authenticators"},
		{"", "/h", "/h/.local/state/sallyport/authenticators"},
		{"relative", "/h", "/h/.local/state/sallyport/authenticators"}, // as the specification demands
		{"", "", ""},
	} {
		got, err := DefaultDir(func(name string) string { return map[string]string{"XDG_STATE_HOME": c.state, "HOME": c.home}[name] })
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestSecretsRefuse(t *testing.T) {
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := (&Account{Version: 1, PrivateKey: text}).Secrets(nil); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}
