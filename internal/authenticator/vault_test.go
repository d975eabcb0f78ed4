// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
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
	if a, err = s.read(a.AuthenticatorID); err != nil {
		t.Fatal(err)
	}
	got, err := a.Secrets(again)
	if err != nil || !got.Key.Equal(secrets.Key) || !bytes.Equal(got.OfflineRoot, secrets.OfflineRoot) {
		t.Errorf("the secrets did not survive: %v", err)
	}
	text, err := os.ReadFile(s.vaultPath())
	if err != nil || strings.Contains(string(text), base64.StdEncoding.EncodeToString(again.key)) {
		t.Errorf("the key stands in its file: %v", err)
	}
	if err := s.SetPassphrase(again, ""); err != nil {
		t.Fatal(err)
	}
	if v, err = s.Vault(unasked(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPassphrase(v, "seven c"); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a short passphrase: %v", err)
	}
}

// A copy of the key from before a change opens nothing that is written later, and
// what was opened before seals nothing any more.
func TestPassphraseDrawsAKey(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v := vaultOf(t, s)
	add(t, s, v, "DPA", 1)
	if _, err := s.AddToken(v, Token{Name: "a", Algorithm: "SHA1", Digits: 6, Period: 30}, "GEZDGNBV"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with a passphrase, and from one to another
		if err := s.setPassphrase(v, passphrase, work); err != nil {
			t.Fatal(err)
		}
		next, err := s.Vault(say(passphrase))
		if err != nil {
			t.Fatal(err)
		}
		if len(next.key) != sealKeySize || bytes.Equal(next.key, v.key) {
			t.Error("the key was not changed")
		}
		wantSecrets(t, s, next)
		accounts, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := accounts[0].Secrets(v); !errors.Is(err, ErrNotSealed) {
			t.Errorf("the key before opens the account: %v", err)
		}
		tokens, err := s.Tokens()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tokens[0].URI(v); !errors.Is(err, ErrNotSealed) {
			t.Errorf("the key before opens the token: %v", err)
		}
		other, secrets := newAccount(t, "DPB", 2)
		if _, err := s.Add(other, secrets, v); !errors.Is(err, ErrVaultChanged) {
			t.Errorf("an account was added by the key before: %v", err)
		}
		if _, err := s.AddToken(v, Token{Name: "b", Algorithm: "SHA1", Digits: 6, Period: 30}, "GEZDGNBV"); !errors.Is(err, ErrVaultChanged) {
			t.Errorf("a token was added by the key before: %v", err)
		}
		if err := s.setPassphrase(v, "another passphrase", work); !errors.Is(err, ErrVaultChanged) {
			t.Errorf("the passphrase was changed by the key before: %v", err)
		}
		v = next
	}
}

// wantSecrets checks that a vault opens all that is in a store.
func wantSecrets(t *testing.T, s Store, v *Vault) {
	t.Helper()
	accounts, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if _, err := a.Secrets(v); err != nil {
			t.Error(err)
		}
	}
	tokens, err := s.Tokens()
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if _, err := token.URI(v); err != nil {
			t.Error(err)
		}
	}
}

// A change that a crash broke off is finished when the vault is opened next, however
// far it came.
func TestPassphraseBrokenOff(t *testing.T) {
	for name, secret := range map[string]string{"with a passphrase": passphrase, "without": ""} {
		for _, written := range []int{0, 1, 2, 3} {
			t.Run(fmt.Sprintf("%s, after %d files", name, written), func(t *testing.T) {
				s := Store{Dir: t.TempDir()}
				v := vaultOf(t, s)
				add(t, s, v, "DPA", 1)
				add(t, s, v, "DPB", 2)
				if _, err := s.AddToken(v, Token{Name: "a", Algorithm: "SHA1", Digits: 6, Period: 30}, "GEZDGNBV"); err != nil {
					t.Fatal(err)
				}
				next, _, err := s.beginChange(v, secret, work)
				if err != nil {
					t.Fatal(err)
				}
				accounts, tokens, err := s.resealed(next)
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range accounts[:min(written, 2)] {
					if err := s.replace(a); err != nil {
						t.Fatal(err)
					}
				}
				if written > 2 {
					if err := s.writeTokens(tokens); err != nil {
						t.Fatal(err)
					}
				}
				wantSecrets(t, s, next)
				again, err := s.Vault(say(secret))
				if err != nil {
					t.Fatal(err)
				}
				wantSecrets(t, s, again)
				if again.before != nil || bytes.Equal(again.key, v.key) || !bytes.HasPrefix(next.key, again.key) {
					t.Error("the change was not finished")
				}
				if last, err := s.Vault(say(secret)); err != nil || !bytes.Equal(last.key, again.key) {
					t.Errorf("the file holds another key: %v", err)
				}
				if _, err := s.AddToken(again, Token{Name: "b", Algorithm: "SHA1", Digits: 6, Period: 30}, "GEZDGNBV"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// What cannot be opened stops a change before anything is written.
func TestPassphraseNeedsAll(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v := vaultOf(t, s)
	a, _ := add(t, s, v, "DPA", 1)
	broken := a
	broken.SealedKey = a.SealedRoot
	if err := s.replace(broken); err != nil {
		t.Fatal(err)
	}
	if err := s.setPassphrase(v, passphrase, work); !errors.Is(err, ErrNotSealed) {
		t.Errorf("an account that cannot be opened: %v", err)
	}
	if err := s.replace(a); err != nil {
		t.Fatal(err)
	}
	wantSecrets(t, s, vaultOf(t, s))
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
	if v, err = s.Vault(say(passphrase)); err != nil {
		t.Fatal(err)
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
	aside := s.vaultPath() + ".aside"
	lose := func() {
		t.Helper()
		if err := os.Rename(s.vaultPath(), aside); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	if _, err := s.Vault(unasked(t)); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("with a token: %v", err)
	}
	if err := s.RemoveToken("A"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, s.vaultPath()); err != nil {
		t.Fatal(err)
	}
	add(t, s, v, "DPA", 1)
	lose()
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
