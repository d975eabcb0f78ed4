// SPDX-License-Identifier: Apache-2.0

// Package seal keeps secrets unreadable in the database: an AEAD for what must
// be read back, a keyed hash for what must only be recognised. Its keys live in
// a file outside the database. It never stores, logs or compares anything
// itself.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

const (
	keySize   = 32
	idSize    = 4
	nonceSize = 12
	version   = 1
)

// ErrOpen means that a sealed value was made with another key, for another
// identity, or was altered.
var ErrOpen = errors.New("sealed value does not open: wrong key, moved to another row, or altered")

// Keys seals, opens and hashes. It is safe for concurrent use.
type Keys struct {
	ring    atomic.Pointer[ring]
	pepper  []byte
	derived sync.Map // purpose to key
	path    string   // of the key file
}

// ring is the keys that seal and open; a rotation puts another in its place.
type ring struct {
	primary uint32
	aeads   map[uint32]cipher.AEAD
}

// file is the form of the key file: JSON. Keys are kept as long as a row is
// sealed under them; primary seals.
type file struct {
	Version int               `json:"version"`
	Primary uint32            `json:"primary"`
	Keys    map[uint32]string `json:"keys"`   // base64 of 32 bytes
	Pepper  string            `json:"pepper"` // base64 of 32 bytes; never changes, or all codes are void
}

// Create makes a key file at path, mode 0600, synced. It never overwrites:
// the error wraps fs.ErrExist.
func Create(path string, random io.Reader) (*Keys, error) {
	secret := make([]byte, 2*keySize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	f := file{
		Version: version,
		Primary: 1,
		Keys:    map[uint32]string{1: base64.StdEncoding.EncodeToString(secret[:keySize])},
		Pepper:  base64.StdEncoding.EncodeToString(secret[keySize:]),
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode keys: %w", err)
	}
	if err := writeNew(path, append(b, '\n')); err != nil {
		return nil, fmt.Errorf("write key file: %w", err)
	}
	k, err := parse(b)
	if err != nil {
		return nil, err
	}
	k.path = path
	return k, nil
}

func writeNew(path string, b []byte) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Load reads a key file. One that group or others can read is refused.
func Load(path string) (*Keys, error) {
	in, err := open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	k, _, err := read(in)
	return k, err
}

// open opens a key file that nobody else can read.
func open(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	info, err := in.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s: mode %04o lets others read it; set it to 0600", path, info.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read key file: %w", err), in.Close())
	}
	return in, nil
}

func read(in *os.File) (*Keys, file, error) {
	b, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		return nil, file{}, fmt.Errorf("read key file: %w", err)
	}
	k, err := parse(b)
	if err != nil {
		return nil, file{}, fmt.Errorf("read key file %s: %w", in.Name(), err)
	}
	k.path = in.Name()
	var f file
	err = json.Unmarshal(b, &f)
	return k, f, err
}

func parse(b []byte) (*Keys, error) {
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("decode keys: %w", err)
	}
	pepper, err := decodeKey(f.Pepper)
	if err != nil {
		return nil, fmt.Errorf("decode pepper: %w", err)
	}
	k := &Keys{pepper: pepper}
	r, err := f.ring()
	if err != nil {
		return nil, err
	}
	k.ring.Store(r)
	return k, nil
}

func (f file) ring() (*ring, error) {
	if f.Version != version {
		return nil, fmt.Errorf("decode keys: version %d, want %d", f.Version, version)
	}
	r := &ring{primary: f.Primary, aeads: map[uint32]cipher.AEAD{}}
	for id, text := range f.Keys {
		key, err := decodeKey(text)
		if err != nil {
			return nil, fmt.Errorf("decode key %d: %w", id, err)
		}
		if r.aeads[id], err = newAEAD(key); err != nil {
			return nil, fmt.Errorf("key %d: %w", id, err)
		}
	}
	if r.aeads[r.primary] == nil {
		return nil, fmt.Errorf("decode keys: primary key %d is not among them", r.primary)
	}
	return r, nil
}

func decodeKey(s string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("%d bytes, want %d", len(key), keySize)
	}
	return key, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal encrypts plaintext for the row that identity names: the kind of object
// and its id. Only Open with the same identity reads it, so a sealed value
// cannot be moved to another row. The form is: version (1 byte), key id (4),
// nonce (12, random), AES-256-GCM ciphertext and tag. With random nonces a key
// is good for 2^32 values (NIST SP 800-38D, 8.3).
func (k *Keys) Seal(plaintext []byte, identity ...string) []byte {
	r := k.ring.Load()
	out := make([]byte, 1+idSize+nonceSize, 1+idSize+nonceSize+len(plaintext)+16)
	out[0] = version
	binary.BigEndian.PutUint32(out[1:], r.primary)
	nonce := out[1+idSize:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand.Read ends the process instead
	return r.aeads[r.primary].Seal(out, nonce, plaintext, bind(out[:1+idSize], identity))
}

// Open decrypts what Seal made for the same identity. Errors wrap ErrOpen.
func (k *Keys) Open(sealed []byte, identity ...string) ([]byte, error) {
	if len(sealed) < 1+idSize+nonceSize || sealed[0] != version {
		return nil, ErrOpen
	}
	aead := k.ring.Load().aeads[binary.BigEndian.Uint32(sealed[1:])]
	if aead == nil {
		return nil, ErrOpen
	}
	header, rest := sealed[:1+idSize], sealed[1+idSize:]
	plaintext, err := aead.Open(nil, rest[:nonceSize], rest[nonceSize:], bind(header, identity))
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// Hash is the HMAC-SHA-256 of value under a key derived for purpose, such as
// "bypass": codes are short, so that without the key a stolen database could be
// searched. The parts are bound with their lengths.
func (k *Keys) Hash(purpose string, value string, identity ...string) []byte {
	mac := hmac.New(sha256.New, k.derive(purpose))
	mac.Write(bind(nil, append([]string{value}, identity...)))
	return mac.Sum(nil)
}

// derive makes the key of a purpose (HKDF, RFC 5869).
func (k *Keys) derive(purpose string) []byte {
	if key, ok := k.derived.Load(purpose); ok {
		return key.([]byte) //nolint:forcetypeassert // only what is stored below
	}
	key, err := hkdf.Key(sha256.New, k.pepper, nil, purpose, sha256.Size)
	if err != nil {
		panic(err) // 32 bytes from SHA-256 are always in range
	}
	k.derived.Store(purpose, key)
	return key
}

// bind joins parts, each with its length, so that no two lists give the same bytes.
func bind(prefix []byte, parts []string) []byte {
	out := append([]byte(nil), prefix...)
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
		out = append(out, p...)
	}
	return out
}
