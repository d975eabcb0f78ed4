// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"bytes"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// rfcSecret is the secret of RFC 4226, appendix D, and RFC 6238, appendix B.
const rfcSecret = "12345678901234567890"

func keys(t testing.TB) *seal.Keys {
	t.Helper()
	k, err := seal.Create(filepath.Join(t.TempDir(), "seal.json"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func token(k *seal.Keys, typ store.TokenType) store.Token {
	return store.Token{ID: "DH1", Type: typ, SecretSealed: k.Seal([]byte(rfcSecret), "token", "DH1"), LastStep: -1, Step: 30}
}

func holder(k *seal.Keys, tokens ...store.Token) Holder {
	return Holder{Reader: nothing{}, Keys: k, User: store.User{ID: "DU1"}, Tokens: tokens}
}

// nothing is a reader in which no code is found.
type nothing struct{ store.Reader }

func (nothing) BypassCodeByHash(string, []byte) (store.BypassCode, error) {
	return store.BypassCode{}, store.ErrNotFound
}

func (nothing) SMSCodeByHash(string, []byte) (store.SMSCode, error) {
	return store.SMSCode{}, store.ErrNotFound
}

// spy records what a match wants to use.
type spy struct {
	store.Writer
	step, counter int64
	drift         *int64 // learnt; nil: none
	resync, noted int64  // used, and noted to be next
	code          string
}

func (s *spy) LearnDrift(_ string, _, drift int64) error { s.drift = &drift; return nil }

func (s *spy) NoteResync(_, _ string, next int64, _ time.Time) (bool, error) {
	s.noted = next
	return true, nil
}

func (s *spy) UseResync(_, _ string, at, drift int64, _ time.Time) (bool, error) {
	s.resync, s.drift = at, &drift
	return true, nil
}

func (s *spy) UseTOTPStep(_, _ string, step int64) (bool, error) { s.step = step; return true, nil }

func (s *spy) UseHOTPCounter(_, _ string, counter int64) (bool, error) {
	s.counter = counter
	return true, nil
}

func (s *spy) UseYubicoCounter(_, _ string, counter int64) (bool, error) {
	s.counter = counter
	return true, nil
}

func (s *spy) UseBypassCode(_, id string, _ time.Time) (bool, error) { s.code = id; return true, nil }

func (s *spy) UseSMSCode(_, id string, _ time.Time) (bool, error) { s.code = id; return true, nil }

func use(t *testing.T, matches []Match) *spy {
	t.Helper()
	if len(matches) != 1 {
		t.Fatalf("%d matches, want 1", len(matches))
	}
	s := &spy{}
	if won, err := matches[0].Use(s); !won || err != nil {
		t.Fatal(won, err)
	}
	return s
}

func find(t *testing.T, f Passcode, h Holder, code string, at time.Time) []Match {
	t.Helper()
	m, err := f.Find(h, code, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNormalise(t *testing.T) {
	for in, want := range map[string]string{
		"123456": "123456", " 123 456\r\n": "123456", "123-456-789": "123456789", "": "", " ": "", "--": "",
		"12\x003": "", "12\x1b[2J": "", "１２３": "", "ccccccbcgujh": "ccccccbcgujh",
		strings.Repeat("1", 64): strings.Repeat("1", 64), strings.Repeat("1", 65): "",
	} {
		if got := Normalise(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	f.Add("123 456")
	f.Add("\x1b[31m")
	f.Fuzz(func(t *testing.T, in string) {
		out := Normalise(in)
		if len(out) > maxCode || out != Normalise(out) {
			t.Fatalf("%q gives %q", in, out)
		}
		for i := range len(out) {
			if out[i] <= ' ' || out[i] > '~' || out[i] == '-' {
				t.Fatalf("%q gives %q", in, out)
			}
		}
	})
}

func TestDigits(t *testing.T) {
	seen := map[byte]int{}
	for range 2000 {
		code, err := Digits(rand.Reader, 6)
		if err != nil || len(code) != 6 || !isDigits(code) {
			t.Fatalf("%q, %v", code, err)
		}
		seen[code[0]]++
	}
	for d := byte('0'); d <= '9'; d++ {
		if seen[d] < 100 {
			t.Errorf("%d of 2000 codes begin with %c", seen[d], d)
		}
	}
	// What is out of range is drawn anew, not folded: 0xFFFFF is above 999999.
	got, err := Digits(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0x00, 0x00, 0x10}), 6)
	if err != nil || got != "000001" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := Digits(bytes.NewReader(nil), 6); err == nil {
		t.Fatal("a code without randomness")
	}
}

func TestFindNothing(t *testing.T) {
	k := keys(t)
	for _, code := range []string{"", "000000", "12345678", "abcdef"} {
		m, err := Find(holder(k, token(k, store.TOTP6), token(k, store.HOTP8)), code, time.Unix(59, 0))
		if err != nil || len(m) != 0 {
			t.Errorf("%q: %d matches, %v", code, len(m), err)
		}
	}
	// A secret that does not open is an error, not a wrong code.
	broken := token(k, store.HOTP6)
	broken.ID = "DH2"
	if _, err := Find(holder(k, broken), "755224", time.Unix(59, 0)); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a secret of another token: %v", err)
	}
}
