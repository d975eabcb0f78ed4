// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

func newAccount(t *testing.T, id string, created int64) Account {
	t.Helper()
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := keyproof.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Account{Version: 1, AuthenticatorID: id, URL: "https://v.example", Username: "alice", Created: created, PrivateKey: string(text)}
}

func TestStore(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "a", "b")}
	if accounts, err := s.List(); err != nil || len(accounts) != 0 {
		t.Fatalf("a folder that is not there: %v, %v", accounts, err)
	}
	if err := s.Prepare(); err != nil {
		t.Fatal(err)
	}
	first, second := newAccount(t, "DPB", 1), newAccount(t, "DPA", 2)
	for _, a := range []Account{second, first} {
		if err := s.Add(a); err != nil {
			t.Fatal(err)
		}
	}
	accounts, err := s.List()
	if err != nil || len(accounts) != 2 || accounts[0] != first || accounts[1] != second {
		t.Fatalf("%v, %+v", err, accounts)
	}
	key, err := accounts[0].Key()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := keyproof.EncodePrivateKey(key); err != nil || string(text) != first.PrivateKey {
		t.Errorf("the key did not survive: %v", err)
	}
	if err := s.Add(newAccount(t, "DPA", 3)); err == nil {
		t.Error("an account was replaced")
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) != 2 {
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
	if err := s.Add(newAccount(t, "DPA", 1)); err != nil {
		t.Fatal(err)
	}
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
		if err := s.Add(newAccount(t, id, 1)); err == nil {
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
		"other version":  {`{"v":2,"authenticator_id":"DPA"}`, 0o600, "not an account of this version"},
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

func TestKeyRefuses(t *testing.T) {
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := (&Account{PrivateKey: text}).Key(); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}
