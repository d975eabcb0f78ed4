// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestDigitsMatch(t *testing.T) {
	k := keys(t)
	digits, err := NewPushDigits(rand.Reader, 6)
	if err != nil || len(digits) != 6 {
		t.Fatalf("%q, %v", digits, err)
	}
	tx := store.Transaction{TxID: "T1", CodeHash: HashPush(k, "T1", digits)}
	other := store.Transaction{TxID: "T2", CodeHash: tx.CodeHash}
	for _, c := range []struct {
		name  string
		tx    store.Transaction
		typed string
		want  bool
	}{
		{"right", tx, digits, true},
		{"with a space", tx, digits[:3] + " " + digits[3:], true},
		{"part", tx, digits[:5], false},
		{"nothing", tx, "", false},
		{"of another transaction", other, digits, false},
		{"plain push, nothing", store.Transaction{TxID: "T1"}, "", false},
	} {
		if got := DigitsMatch(k, c.tx, c.typed); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// FuzzOpenAnswer: nothing but what the key signed for this transaction opens.
func FuzzOpenAnswer(f *testing.F) {
	key, err := keyproof.GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	public, err := keyproof.EncodeKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	phone, tx := store.Phone{PublicKey: public}, store.Transaction{TxID: "T1", Context: []byte(`{"v":1}`)}
	payload, err := json.Marshal(agentapi.Answer{
		Version: 1, Audience: "https://v", TxID: "T1", Context: keyproof.HashBody(tx.Context), Decision: agentapi.Approve, IssuedAt: now.Unix(),
	})
	if err != nil {
		f.Fatal(err)
	}
	signed, err := keyproof.Sign(key, payload)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add("")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add(signed[:len(signed)-2])
	f.Fuzz(func(t *testing.T, compact string) {
		a, err := OpenAnswer(phone, tx, "https://v", compact, now)
		if err != nil {
			if !errors.Is(err, ErrAnswer) {
				t.Fatal(err)
			}
			return
		}
		if a.TxID != "T1" || a.Decision != agentapi.Approve {
			t.Fatalf("%+v from %q", a, compact)
		}
	})
}
