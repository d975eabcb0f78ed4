// SPDX-License-Identifier: Apache-2.0

// Package authenticator is an authenticator that lives in files: accounts with
// their own P-256 keys. A software key that lies beside the login it approves is
// no second factor; the package cannot know that and never claims otherwise. It
// talks to nobody.
package authenticator

import (
	"crypto/ecdsa"
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

	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// Account is one activated authenticator. Its JSON form is the file format.
type Account struct {
	Version         int    `json:"v"` // 1
	AuthenticatorID string `json:"authenticator_id"`
	URL             string `json:"url"`
	UserID          string `json:"user_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	CAPEM           string `json:"ca_pem,omitempty"`
	Created         int64  `json:"created"`     // Unix seconds
	PrivateKey      string `json:"private_key"` // PKCS #8 in PEM
	// OfflineRoot is what offline codes are made from, in base64; empty if the
	// verifier gave none.
	OfflineRoot string `json:"offline_root,omitempty"`
}

// Key is the private key of the account.
func (a *Account) Key() (*ecdsa.PrivateKey, error) {
	return keyproof.DecodePrivateKey([]byte(a.PrivateKey))
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

// Add writes an account durably. An account of that id is an error.
func (s Store) Add(a Account) error {
	if !validID.MatchString(a.AuthenticatorID) {
		return fmt.Errorf("the verifier gave an authenticator id that is none: %q", a.AuthenticatorID)
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("encode account: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	// Link, unlike rename, refuses to replace.
	if err := os.Link(f.Name(), s.path(a.AuthenticatorID)); err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	return durable.SyncDir(s.Dir)
}

// Remove deletes an account, whatever state its file is in.
func (s Store) Remove(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("remove account: %q is no id of an account", id)
	}
	if err := os.Remove(s.path(id)); err != nil {
		return fmt.Errorf("remove account: %w", err)
	}
	if err := os.Remove(s.hostsPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove account: %w", err)
	}
	return durable.SyncDir(s.Dir)
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
	info, err := os.Stat(path)
	if err != nil {
		return a, fmt.Errorf("read account: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return a, fmt.Errorf("read account %s: mode %04o lets others read a private key: chmod 600 it, or remove it and activate again", path, mode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return a, fmt.Errorf("read account: %w", err)
	}
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("read account %s: %w", path, err)
	}
	if a.Version != 1 || a.AuthenticatorID != id {
		return a, fmt.Errorf("read account %s: not an account of this version", path)
	}
	return a, nil
}
