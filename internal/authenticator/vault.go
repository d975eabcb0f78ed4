// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// MinPassphrase is the fewest characters of a passphrase. What a thief of the
// files can try is bounded by scrypt alone, so more are better.
const MinPassphrase = 8

// sealKeySize is that of AES-256.
const sealKeySize = 32

// Errors of a vault.
var (
	ErrPassphrase = errors.New("the passphrase is wrong")
	ErrNotSealed  = errors.New("it was altered, or sealed by another key")
)

// Vault seals and opens the secrets of a store: private keys, offline roots and
// TOTP secrets. Each is sealed by AES-256-GCM together with what it is for, so that
// one cannot be put in the place of another. It is safe for concurrent use.
//
// The key of the vault is a file beside them: in base64 as it is, where it protects
// nothing from whoever can read the folder, or encrypted by a passphrase (the
// scrypt recipient of age-encryption.org/v1, armored).
type Vault struct {
	key  []byte
	aead cipher.AEAD
}

func newVault(key []byte) (*Vault, error) {
	if len(key) != sealKeySize {
		return nil, fmt.Errorf("the key that seals secrets has %d bytes, not %d", len(key), sealKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key that seals secrets: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use the key that seals secrets: %w", err)
	}
	return &Vault{key: key, aead: aead}, nil
}

// What a sealed text is for.
const (
	sealPrivateKey  = "private_key"
	sealOfflineRoot = "offline_root"
	sealTOTP        = "totp"
)

func sealedFor(kind, id string) []byte {
	return []byte("sallyport-authenticator-v1\x00" + kind + "\x00" + id)
}

func (v *Vault) seal(kind, id string, secret []byte) string {
	sealed := v.aead.Seal(nil, nil, secret, sealedFor(kind, id)) //nolint:gosec // it draws a nonce itself
	return base64.StdEncoding.EncodeToString(sealed)
}

func (v *Vault) open(kind, id, sealed string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", kind, id, err)
	}
	secret, err := v.aead.Open(nil, nil, raw, sealedFor(kind, id))
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", kind, id, ErrNotSealed)
	}
	return secret, nil
}

func (s Store) vaultPath() string { return filepath.Join(s.Dir, "seal.key") }

const ageHead = "-----BEGIN AGE ENCRYPTED FILE-----"

// Protected says whether the secrets of the store need a passphrase.
func (s Store) Protected() (bool, error) {
	text, err := s.readVault()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return strings.HasPrefix(string(text), ageHead), err
}

func (s Store) readVault() ([]byte, error) {
	if err := private(s.vaultPath()); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(s.vaultPath())
	if err != nil {
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	}
	return text, nil
}

// Vault opens the vault of the store. ask is called only where a passphrase is
// needed; a wrong one is ErrPassphrase. A store that has no vault gets one, without
// a passphrase.
func (s Store) Vault(ask func() (string, error)) (*Vault, error) {
	text, err := s.readVault()
	if errors.Is(err, fs.ErrNotExist) {
		text, err = s.makeVault()
	}
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(text), ageHead) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			return nil, fmt.Errorf("read the key that seals secrets, %s: %w", s.vaultPath(), err)
		}
		return newVault(key)
	}
	passphrase, err := ask()
	if err != nil {
		return nil, err
	}
	key, err := unlock(text, passphrase)
	if err != nil {
		return nil, err
	}
	return newVault(key)
}

// makeVault makes the key, unless another process was faster, and returns the
// text of the file.
func (s Store) makeVault() (text []byte, err error) {
	if err := s.Prepare(); err != nil {
		return nil, err
	}
	err = s.locked(func() error {
		if text, err = s.readVault(); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A lost key cannot be made anew: what it sealed would stay closed.
		if lost, err := s.sealed(); err != nil {
			return err
		} else if lost != "" {
			return fmt.Errorf("%s is gone: without it the secrets here cannot be opened: put it back, or remove %s and activate again", s.vaultPath(), lost)
		}
		key := make([]byte, sealKeySize)
		if _, err := rand.Read(key); err != nil {
			return fmt.Errorf("make the key that seals secrets: %w", err)
		}
		text = append([]byte(base64.StdEncoding.EncodeToString(key)), '\n')
		return durable.Replace(s.vaultPath(), text, 0o600)
	})
	return text, err
}

// sealed is the path of a file with sealed secrets, if there is one.
func (s Store) sealed() (string, error) {
	accounts, err := s.List()
	if err != nil {
		return "", err
	}
	for _, a := range accounts {
		if a.SealedKey != "" {
			return s.path(a.AuthenticatorID), nil
		}
	}
	tokens, err := s.Tokens()
	if err != nil || len(tokens) == 0 {
		return "", err
	}
	return s.tokensPath(), nil
}

// SetPassphrase encrypts the key of the vault by a passphrase, or, if that is empty,
// puts it down without one. Accounts of an earlier release are sealed on the way.
// Copies of the folder that were made before stay as open as they were.
func (s Store) SetPassphrase(v *Vault, passphrase string) error {
	return s.setPassphrase(v, passphrase, 0)
}

// setPassphrase is SetPassphrase with the work factor of scrypt; 0: that of age.
func (s Store) setPassphrase(v *Vault, passphrase string, work int) error {
	text := append([]byte(base64.StdEncoding.EncodeToString(v.key)), '\n')
	if passphrase != "" {
		if n := utf8.RuneCountInString(passphrase); n < MinPassphrase {
			return fmt.Errorf("a passphrase of %d characters is too short: take at least %d, better five words or more", n, MinPassphrase)
		}
		var err error
		if text, err = lock(v.key, passphrase, work); err != nil {
			return err
		}
	}
	return s.locked(func() error {
		accounts, err := s.List()
		if err != nil {
			return err
		}
		for _, a := range accounts {
			if a.SealedKey != "" {
				continue
			}
			secrets, err := a.Secrets(v)
			if err != nil {
				return err
			}
			if a, err = a.seal(v, secrets); err != nil {
				return err
			}
			if err := s.replace(a); err != nil {
				return err
			}
		}
		return durable.Replace(s.vaultPath(), text, 0o600)
	})
}

// lock encrypts key by a passphrase.
func lock(key []byte, passphrase string, work int) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("use the passphrase: %w", err)
	}
	if work > 0 {
		recipient.SetWorkFactor(work)
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, fmt.Errorf("encrypt by the passphrase: %w", err)
	}
	_, err = w.Write(key)
	if err = errors.Join(err, w.Close(), armored.Close()); err != nil {
		return nil, fmt.Errorf("encrypt by the passphrase: %w", err)
	}
	return out.Bytes(), nil
}

// unlock is the inverse of lock.
func unlock(text []byte, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase // an empty one
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), identity)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	}
	key, err := io.ReadAll(io.LimitReader(r, sealKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	}
	return key, nil
}
