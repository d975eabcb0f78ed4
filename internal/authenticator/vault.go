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
	// ErrVaultChanged: the passphrase was changed since the vault was opened.
	ErrVaultChanged = errors.New("the passphrase was changed meanwhile: run it again")
)

// Vault seals and opens the secrets of a store: private keys, offline roots and
// TOTP secrets. Each is sealed by AES-256-GCM together with what it is for, so that
// one cannot be put in the place of another. It is safe for concurrent use.
//
// The key of the vault is a file beside them: in base64 as it is, where it protects
// nothing from whoever can read the folder, or encrypted by a passphrase (the
// scrypt recipient of age-encryption.org/v1, armored). While the key is being changed
// the file holds two, one after the other: the new one, which seals, and the one
// before, which opens what has not been sealed anew yet.
type Vault struct {
	key    []byte // all of the file
	aead   cipher.AEAD
	before cipher.AEAD // nil, if there is one key
	file   []byte      // the text of the file that it was read from
}

func newVault(key []byte) (*Vault, error) {
	if len(key) != sealKeySize && len(key) != 2*sealKeySize {
		return nil, fmt.Errorf("the key that seals secrets has %d bytes, not %d", len(key), sealKeySize)
	}
	aead, err := newAEAD(key[:sealKeySize])
	if err != nil {
		return nil, err
	}
	v := &Vault{key: key, aead: aead}
	if len(key) > sealKeySize {
		v.before, err = newAEAD(key[sealKeySize:])
	}
	return v, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key that seals secrets: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use the key that seals secrets: %w", err)
	}
	return aead, nil
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
	if err != nil && v.before != nil {
		secret, err = v.before.Open(nil, nil, raw, sealedFor(kind, id))
	}
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
// a passphrase. A change of the key that was broken off is finished.
func (s Store) Vault(ask func() (string, error)) (*Vault, error) {
	text, err := s.readVault()
	if errors.Is(err, fs.ErrNotExist) {
		text, err = s.makeVault()
	}
	if err != nil {
		return nil, err
	}
	var key []byte
	var passphrase string
	if strings.HasPrefix(string(text), ageHead) {
		if passphrase, err = ask(); err == nil {
			key, err = unlock(text, passphrase)
		}
	} else if key, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err != nil {
		err = fmt.Errorf("read the key that seals secrets, %s: %w", s.vaultPath(), err)
	}
	if err != nil {
		return nil, err
	}
	v, err := newVault(key)
	if err != nil {
		return nil, err
	}
	v.file = text
	if v.before == nil {
		return v, nil
	}
	last, err := encodeVault(key[:sealKeySize], passphrase, 0)
	if err != nil {
		return nil, err
	}
	if err := s.locked(func() error { return s.finishChange(v, last) }); err != nil {
		return v, nil //nolint:nilerr // it opens everything, also where nothing can be written
	}
	return lastVault(key, last)
}

// lastVault is the vault of a change that is finished.
func lastVault(key, text []byte) (*Vault, error) {
	v, err := newVault(key[:sealKeySize])
	if err == nil {
		v.file = text
	}
	return v, err
}

// current says whether the vault is still that of the store; what it sealed otherwise
// could not be opened again. It is for who has locked the store.
func (s Store) current(v *Vault) error {
	text, err := s.readVault()
	if err == nil && !bytes.Equal(text, v.file) {
		err = ErrVaultChanged
	}
	return err
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
		if text, err = encodeVault(key, "", 0); err != nil {
			return err
		}
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

// SetPassphrase draws a new key, seals all secrets by it, and puts it down encrypted
// by a passphrase or, if that is empty, without one. v is of no use afterwards. Accounts
// of an earlier release are sealed on the way. Copies of the folder that were made
// before stay as open as they were, and open nothing of what is written from now on.
//
// A crash at any point leaves what the passphrase before opens, or what the new one
// opens; [Store.Vault] then goes on where it stopped. A process that reads meanwhile
// may find secrets that its vault does not open; opening the vault again helps.
func (s Store) SetPassphrase(v *Vault, passphrase string) error {
	return s.setPassphrase(v, passphrase, 0)
}

// setPassphrase is SetPassphrase with the work factor of scrypt; 0: that of age.
func (s Store) setPassphrase(v *Vault, passphrase string, work int) error {
	if n := utf8.RuneCountInString(passphrase); n > 0 && n < MinPassphrase {
		return fmt.Errorf("a passphrase of %d characters is too short: take at least %d, better five words or more", n, MinPassphrase)
	}
	return s.locked(func() error {
		if err := s.current(v); err != nil {
			return err
		}
		if v.before != nil { // two keys are all that a file holds
			return errors.New("the last change of the passphrase could not be finished: see that the folder can be written, and run it again")
		}
		next, last, err := s.beginChange(v, passphrase, work)
		if err != nil {
			return err
		}
		return s.finishChange(next, last)
	})
}

// beginChange puts down a new key beside that of v. It returns the vault of both, and
// the text of the file that ends the change.
func (s Store) beginChange(v *Vault, passphrase string, work int) (next *Vault, last []byte, err error) {
	key := make([]byte, sealKeySize, 2*sealKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, nil, fmt.Errorf("make the key that seals secrets: %w", err)
	}
	if last, err = encodeVault(key, passphrase, work); err != nil {
		return nil, nil, err
	}
	key = append(key, v.key...)
	if next, err = newVault(key); err != nil {
		return nil, nil, err
	}
	if next.file, err = encodeVault(key, passphrase, work); err != nil {
		return nil, nil, err
	}
	// What cannot be opened must be found before anything is written.
	if _, _, err := s.resealed(next); err != nil {
		return nil, nil, err
	}
	return next, last, durable.Replace(s.vaultPath(), next.file, 0o600)
}

// finishChange seals all by the new key of a vault that has two, and then forgets the
// other: last is the text of the file without it.
func (s Store) finishChange(v *Vault, last []byte) error {
	if err := s.current(v); err != nil {
		return err
	}
	accounts, tokens, err := s.resealed(v)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if err := s.replace(a); err != nil {
			return err
		}
	}
	if len(tokens) > 0 {
		if err := s.writeTokens(tokens); err != nil {
			return err
		}
	}
	return durable.Replace(s.vaultPath(), last, 0o600)
}

// resealed are all accounts and tokens, sealed anew.
func (s Store) resealed(v *Vault) ([]Account, []Token, error) {
	accounts, err := s.List()
	if err != nil {
		return nil, nil, err
	}
	for i, a := range accounts {
		secrets, err := a.Secrets(v)
		if err != nil {
			return nil, nil, err
		}
		if accounts[i], err = a.seal(v, secrets); err != nil {
			return nil, nil, err
		}
	}
	tokens, err := s.Tokens()
	if err != nil {
		return nil, nil, err
	}
	for i, t := range tokens {
		secret, err := v.open(sealTOTP, t.Name, t.Sealed)
		if err != nil {
			return nil, nil, err
		}
		tokens[i].Sealed = v.seal(sealTOTP, t.Name, secret)
	}
	return accounts, tokens, nil
}

// encodeVault is the text of the file of a key: encrypted by a passphrase, unless that
// is empty.
func encodeVault(key []byte, passphrase string, work int) ([]byte, error) {
	if passphrase == "" {
		return append([]byte(base64.StdEncoding.EncodeToString(key)), '\n'), nil
	}
	return lock(key, passphrase, work)
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
	key, err := io.ReadAll(io.LimitReader(r, 2*sealKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	}
	return key, nil
}
