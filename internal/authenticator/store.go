// SPDX-License-Identifier: Apache-2.0

// Package authenticator is an authenticator that lives in files: accounts with
// their own P-256 keys, and TOTP tokens. A software key that lies beside the login
// it approves is no second factor; the package cannot know that and never claims
// otherwise. It talks to nobody.
package authenticator

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// Account is one activated authenticator. Its JSON form is the file format.
type Account struct {
	Version         int    `json:"v"` // 2; 1 has its secrets unsealed
	AuthenticatorID string `json:"authenticator_id"`
	URL             string `json:"url"`
	UserID          string `json:"user_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	CAPEM           string `json:"ca_pem,omitempty"`
	Created         int64  `json:"created"` // Unix seconds
	// SealedKey and SealedRoot are the secrets, sealed by the store's Vault.
	SealedKey  string `json:"sealed_private_key,omitempty"`
	SealedRoot string `json:"sealed_offline_root,omitempty"`
	// PrivateKey (PKCS #8 in PEM) and OfflineRoot (base64) are those of version 1.
	PrivateKey  string `json:"private_key,omitempty"`
	OfflineRoot string `json:"offline_root,omitempty"`
}

// Secrets are what nobody but the authenticator may know.
type Secrets struct {
	Key *ecdsa.PrivateKey
	// OfflineRoot is what offline codes are made from; empty if the verifier gave none.
	OfflineRoot []byte
}

// Secrets opens the secrets of the account.
func (a *Account) Secrets(v *Vault) (Secrets, error) {
	var out Secrets
	text, err := []byte(a.PrivateKey), error(nil)
	if a.Version > 1 {
		text, err = v.open(sealPrivateKey, a.AuthenticatorID, a.SealedKey)
	}
	if err == nil {
		out.Key, err = keyproof.DecodePrivateKey(text)
	}
	switch {
	case err != nil:
	case a.Version > 1 && a.SealedRoot != "":
		out.OfflineRoot, err = v.open(sealOfflineRoot, a.AuthenticatorID, a.SealedRoot)
	case a.Version == 1:
		out.OfflineRoot, err = base64.StdEncoding.DecodeString(a.OfflineRoot)
	}
	if err != nil {
		return Secrets{}, fmt.Errorf("read secrets of account %s: %w", a.AuthenticatorID, err)
	}
	return out, nil
}

// seal is the account with these secrets, in the present version.
func (a *Account) seal(v *Vault, secrets Secrets) (Account, error) {
	out := *a
	text, err := keyproof.EncodePrivateKey(secrets.Key)
	if err != nil {
		return out, fmt.Errorf("encode key of account %s: %w", a.AuthenticatorID, err)
	}
	out.Version, out.PrivateKey, out.OfflineRoot, out.SealedRoot = 2, "", "", ""
	out.SealedKey = v.seal(sealPrivateKey, a.AuthenticatorID, text)
	if len(secrets.OfflineRoot) > 0 {
		out.SealedRoot = v.seal(sealOfflineRoot, a.AuthenticatorID, secrets.OfflineRoot)
	}
	return out, nil
}

// Store is a folder of accounts, one file each, for its owner's eyes only.
type Store struct{ Dir string }

// DefaultDir is where accounts live: under XDG_STATE_HOME, by default
// ~/.local/state (XDG Base Directory Specification 0.8).
func DefaultDir(env func(string) string) (string, error) {
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport", "authenticators"), nil
	}
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is set: where accounts are kept is unknown")
	}
	return filepath.Join(home, ".local", "state", "sallyport", "authenticators"), nil
}

// An id names a file, and comes from a server.
var validID = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// Prepare makes the folder and shows that it can be written, before a one-time
// code is spent.
func (s Store) Prepare() error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder for accounts: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("write to folder for accounts: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Add seals the secrets of an account and writes it durably. An account of that id
// is an error.
func (s Store) Add(a Account, secrets Secrets, v *Vault) (Account, error) {
	if !validID.MatchString(a.AuthenticatorID) {
		return a, fmt.Errorf("the verifier gave an authenticator id that is none: %q", a.AuthenticatorID)
	}
	a, err := a.seal(v, secrets)
	if err != nil {
		return a, err
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return a, fmt.Errorf("encode account: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, ".new-*") // 0600
	if err != nil {
		return a, fmt.Errorf("write account: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return a, fmt.Errorf("write account: %w", err)
	}
	return a, s.locked(func() error {
		if err := s.current(v); err != nil {
			return err
		}
		// Link, unlike rename, refuses to replace.
		if err := os.Link(f.Name(), s.path(a.AuthenticatorID)); err != nil {
			return fmt.Errorf("write account: %w", err)
		}
		return durable.SyncDir(s.Dir)
	})
}

// Rename gives an account another name, if it is there.
func (s Store) Rename(id, name string) error {
	return s.lockedFor(id, func() error {
		a, err := s.read(id)
		if err != nil {
			return err
		}
		a.Name = name
		return s.replace(a)
	})
}

// replace puts an account in the place of the one with its id.
func (s Store) replace(a Account) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("encode account: %w", err)
	}
	return durable.Replace(s.path(a.AuthenticatorID), append(text, '\n'), 0o600)
}

// Remove deletes an account, whatever state its file is in.
func (s Store) Remove(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("remove account: %q is no id of an account", id)
	}
	return s.locked(func() error {
		if err := os.Remove(s.path(id)); err != nil {
			return fmt.Errorf("remove account: %w", err)
		}
		if err := os.Remove(s.hostsPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove account: %w", err)
		}
		return durable.SyncDir(s.Dir)
	})
}

func (s Store) path(id string) string { return filepath.Join(s.Dir, id+".json") }

// List reads all accounts in the order of their creation. A folder that does
// not exist has none.
func (s Store) List() ([]Account, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	var out []Account
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue
		}
		a, err := s.read(id)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, func(a, b Account) int { return time.Unix(a.Created, 0).Compare(time.Unix(b.Created, 0)) })
	return out, nil
}

func (s Store) read(id string) (Account, error) {
	var a Account
	path := s.path(id)
	if err := private(path); err != nil {
		return a, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return a, fmt.Errorf("read account: %w", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read account %s: %w", path, err)
	}
	if a.Version < 1 || a.Version > 2 || (a.Version == 2) != (a.SealedKey != "") || a.AuthenticatorID != id {
		return a, fmt.Errorf("read account %s: not an account of this version", path)
	}
	return a, nil
}

// private says whether a file is for its owner's eyes only.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read secrets: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("read %s: mode %04o lets others read a private key: chmod 600 it, or remove it and activate again", path, mode)
	}
	return nil
}

// locked runs f while no other process does for this store. It must not be nested.
func (s Store) locked(f func() error) error {
	lock, err := os.Open(s.Dir)
	if err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock accounts: %w", err)
	}
	return f()
}
