// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func create(t *testing.T) (*Keys, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seal.json")
	k, err := Create(path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func TestSealOpen(t *testing.T) {
	k, path := create(t)
	sealed := k.Seal([]byte("secret"), "token", "DH1")
	if bytes.Contains(sealed, []byte("secret")) {
		t.Fatal("plaintext in the sealed value")
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range []*Keys{k, again} {
		got, err := keys.Open(sealed, "token", "DH1")
		if err != nil || string(got) != "secret" {
			t.Fatalf("open: %q, %v", got, err)
		}
	}
	if bytes.Equal(sealed, k.Seal([]byte("secret"), "token", "DH1")) {
		t.Fatal("sealing twice gives the same bytes")
	}
	for _, identity := range [][]string{{"token", "DH2"}, {"integration", "DH1"}, {"token"}, {"tokenDH1"}, {"tokenD", "H1"}, nil} {
		if _, err := k.Open(sealed, identity...); !errors.Is(err, ErrOpen) {
			t.Errorf("opened as %q: %v", identity, err)
		}
	}
	for i := range sealed {
		altered := bytes.Clone(sealed)
		altered[i] ^= 1
		if _, err := k.Open(altered, "token", "DH1"); !errors.Is(err, ErrOpen) {
			t.Errorf("opened with byte %d altered: %v", i, err)
		}
	}
	for n := range sealed {
		if _, err := k.Open(sealed[:n], "token", "DH1"); !errors.Is(err, ErrOpen) {
			t.Errorf("opened %d bytes: %v", n, err)
		}
	}
	other, _ := create(t)
	if _, err := other.Open(sealed, "token", "DH1"); !errors.Is(err, ErrOpen) {
		t.Errorf("opened with another key: %v", err)
	}
}

func TestRotation(t *testing.T) {
	k, path := create(t)
	old := k.Seal([]byte("old"), "x")
	hash := k.Hash("bypass", "123456", "DU1")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	f.Keys[2], f.Primary = f.Pepper, 2 // any 32 bytes
	if b, err = json.Marshal(f); err != nil {
		t.Fatal(err)
	}
	rotated, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rotated.Open(old, "x"); err != nil || string(got) != "old" {
		t.Fatalf("value of the old key: %q, %v", got, err)
	}
	if _, err := k.Open(rotated.Seal([]byte("new"), "x"), "x"); !errors.Is(err, ErrOpen) {
		t.Fatalf("value of the new key opened with the old: %v", err)
	}
	if !bytes.Equal(hash, rotated.Hash("bypass", "123456", "DU1")) {
		t.Fatal("the rotation changed the hash of codes")
	}
}

func TestHash(t *testing.T) {
	k, _ := create(t)
	other, _ := create(t)
	h := k.Hash("bypass", "123456", "DU1")
	if len(h) != 32 || !bytes.Equal(h, k.Hash("bypass", "123456", "DU1")) {
		t.Fatalf("hash %x is not stable or not 32 bytes", h)
	}
	for what, different := range map[string][]byte{
		"purpose": k.Hash("sms", "123456", "DU1"), "code": k.Hash("bypass", "123457", "DU1"),
		"user": k.Hash("bypass", "123456", "DU2"), "split": k.Hash("bypass", "123456D", "U1"), "key": other.Hash("bypass", "123456", "DU1"),
	} {
		if bytes.Equal(h, different) {
			t.Errorf("another %s gives the same hash", what)
		}
	}
}

func TestFile(t *testing.T) {
	_, path := create(t)
	if _, err := Create(path, rand.Reader); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("created over a key file: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Fatal("loaded a key file that the group can read")
	}
	for _, text := range []string{
		"", "{}", `{"version":2}`, `{"version":1,"primary":1,"keys":{},"pepper":"` + b32 + `"}`,
		`{"version":1,"primary":1,"keys":{"1":"AAAA"},"pepper":"` + b32 + `"}`,
		`{"version":1,"primary":1,"keys":{"1":"` + b32 + `"},"pepper":"AAAA"}`,
		`{"version":1,"primary":2,"keys":{"1":"` + b32 + `"},"pepper":"` + b32 + `"}`,
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("parsed %q", text)
		}
	}
}

const b32 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// FuzzOpen: what stands in the database cannot crash the verifier, nor open unless it was sealed.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seal.json")
	k, err := Create(path, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Seal([]byte("x"), "y"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := k.Open(b, "z"); err == nil {
			t.Fatalf("opened %x", b)
		}
	})
}
