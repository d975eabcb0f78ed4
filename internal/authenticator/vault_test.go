// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

const passphrase = "correct horse battery"

// work keeps scrypt fast; it is no test of its strength.
const work = 10

func unasked(t *testing.T) func() (string, error) {
	return func() (string, error) {
		t.Error("asked for a passphrase")
		return "", errors.New("asked")
	}
}

func say(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func TestPassphrase(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "a")}
	v, err := s.Vault(unasked(t))
	if err != nil {
		t.Fatal(err)
	}
	a, secrets := add(t, s, v, "DPA", 1)
	if protected, err := s.Protected(); protected || err != nil {
		t.Errorf("protected %v, %v", protected, err)
	}
	if err := s.setPassphrase(v, passphrase, work); err != nil {
		t.Fatal(err)
	}
	if protected, err := s.Protected(); !protected || err != nil {
		t.Errorf("protected %v, %v", protected, err)
	}
	for _, wrong := range []string{"", "correct horse", passphrase + " "} {
		if _, err := s.Vault(say(wrong)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	again, err := s.Vault(say(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.Secrets(again)
	if err != nil || !got.Key.Equal(secrets.Key) || !bytes.Equal(got.OfflineRoot, secrets.OfflineRoot) {
		t.Errorf("the secrets did not survive: %v", err)
	}
	text, err := os.ReadFile(s.vaultPath())
	if err != nil || strings.Contains(string(text), base64.StdEncoding.EncodeToString(v.key)) {
		t.Errorf("the key stands in its file: %v", err)
	}
	if err := s.SetPassphrase(again, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Vault(unasked(t)); err != nil {
		t.Error(err)
	}
	if err := s.SetPassphrase(v, "seven c"); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a short passphrase: %v", err)
	}
}

// What an earlier release wrote is read, and sealed when a passphrase is set.
func TestVersion1(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := keyproof.EncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old := Account{Version: 1, AuthenticatorID: "DPA", PrivateKey: string(pem), OfflineRoot: "cm9vdA=="}
	if err := s.replace(old); err != nil {
		t.Fatal(err)
	}
	secrets, err := old.Secrets(nil)
	if err != nil || !secrets.Key.Equal(key) || string(secrets.OfflineRoot) != "root" {
		t.Fatalf("%+v, %v", secrets, err)
	}
	v, err := s.Vault(unasked(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.setPassphrase(v, passphrase, work); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.path("DPA"))
	if err != nil || bytes.Contains(text, []byte("PRIVATE KEY")) || bytes.Contains(text, []byte("cm9vdA")) {
		t.Errorf("secrets stand in the file: %v", err)
	}
	accounts, err := s.List()
	if err != nil || len(accounts) != 1 {
		t.Fatalf("%+v, %v", accounts, err)
	}
	secrets, err = accounts[0].Secrets(v)
	if err != nil || !secrets.Key.Equal(key) || string(secrets.OfflineRoot) != "root" {
		t.Errorf("%+v, %v", secrets, err)
	}
}

// A secret is sealed for one use of one account.
func TestSealedStaysWhereItIs(t *testing.T) {
	v := newVault32(t)
	sealed := v.seal(sealTOTP, "a", []byte("secret"))
	if got, err := v.open(sealTOTP, "a", sealed); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	if again := v.seal(sealTOTP, "a", []byte("secret")); again == sealed {
		t.Error("a nonce was used twice")
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	other, err := newVault(bytes.Repeat([]byte{1}, sealKeySize))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() ([]byte, error){
		"other kind": func() ([]byte, error) { return v.open(sealOfflineRoot, "a", sealed) },
		"other name": func() ([]byte, error) { return v.open(sealTOTP, "b", sealed) },
		"other key":  func() ([]byte, error) { return other.open(sealTOTP, "a", sealed) },
		"altered":    func() ([]byte, error) { return v.open(sealTOTP, "a", base64.StdEncoding.EncodeToString(raw)) },
		"cut off":    func() ([]byte, error) { return v.open(sealTOTP, "a", "AAAA") },
	} {
		if got, err := f(); !errors.Is(err, ErrNotSealed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := v.open(sealTOTP, "a", "*"); err == nil {
		t.Error("garbage was opened")
	}
}

// A key that is gone is not made anew while something is sealed by it.
func TestLostKey(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v, err := s.Vault(unasked(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddToken(v, Token{Name: "a", Algorithm: "SHA1", Digits: 6, Period: 30}, "GEZDGNBV"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.vaultPath()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Vault(unasked(t)); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("with a token: %v", err)
	}
	if err := s.RemoveToken("A"); err != nil {
		t.Fatal(err)
	}
	add(t, s, v, "DPA", 1)
	if _, err := s.Vault(unasked(t)); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("with an account: %v", err)
	}
	if err := s.Remove("DPA"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Vault(unasked(t)); err != nil {
		t.Errorf("with nothing: %v", err)
	}
}

func TestVaultRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"open to others": {"AAAA\n", 0o644, "chmod 600"},
		"not base64":     {"*\n", 0o600, "illegal base64"},
		"short":          {"AAAA\n", 0o600, "has 3 bytes, not 32"},
		"broken":         {ageHead + "\nAAAA\n-----END AGE ENCRYPTED FILE-----\n", 0o600, "read the key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Store{Dir: t.TempDir()}
			if err := os.WriteFile(s.vaultPath(), []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(s.vaultPath(), c.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Vault(say(passphrase)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// All who begin at once have the same key.
func TestVaultIsMadeOnce(t *testing.T) {
	s := Store{Dir: filepath.Join(t.TempDir(), "a")}
	keys := make([]string, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			v, err := s.Vault(unasked(t))
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = string(v.key)
		})
	}
	all.Wait()
	for _, k := range keys {
		if k != keys[0] {
			t.Fatal("two keys were made")
		}
	}
}
