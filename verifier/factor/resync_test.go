// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// counts says whether a code that was found is good for a login.
func counts(t *testing.T, matches []Match) bool {
	t.Helper()
	won := false
	for _, m := range matches {
		ok, err := m.Use(&spy{})
		if err != nil {
			t.Fatal(err)
		}
		won = won || ok
	}
	return won
}

const rfcBase32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"

func codeAt(t *testing.T, moving int64, digits int) string {
	t.Helper()
	v, err := value(rfcBase32, moving, digits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// play types the code of a TOTP token whose clock is off by steps, and keeps of what
// the store would do.
func play(t *testing.T, k *store.Token, h func(store.Token) Holder, at time.Time, off int64) (won bool) {
	t.Helper()
	step := Step(*k, at) + off
	m := find(t, TOTP{}, h(*k), codeAt(t, step, 8), at)
	if len(m) == 0 {
		return false
	}
	s := &spy{}
	won, err := m[0].Use(s)
	if err != nil {
		t.Fatal(err)
	}
	if won {
		k.LastStep = max(s.step, s.resync)
	}
	if s.drift != nil {
		k.Drift = *s.drift
	}
	if s.noted != 0 {
		k.ResyncNext, k.ResyncUntil = s.noted, at.Add(resyncTime)
	}
	return won
}

// TestDriftIsLearnt: a clock that goes wrong slowly is followed as far as ten steps,
// in both directions, and a jump is not.
func TestDriftIsLearnt(t *testing.T) {
	k := keys(t)
	h := func(tok store.Token) Holder { return holder(k, tok) }
	for _, way := range []int64{1, -1} {
		tok := token(k, store.TOTP8)
		at := time.Unix(1_800_000_000, 0)
		for off := int64(1); off <= maxDrift+1; off++ {
			at = at.Add(time.Hour)
			if !play(t, &tok, h, at, way*off) {
				t.Fatalf("%+d steps off after %+d: refused", way*off, tok.Drift)
			}
			if want := way * min(off, maxDrift); tok.Drift != want {
				t.Fatalf("%+d steps off: learnt %+d", way*off, tok.Drift)
			}
		}
		at = at.Add(time.Hour)
		if play(t, &tok, h, at, way*(maxDrift+2)) {
			t.Errorf("%+d steps off: accepted", way*(maxDrift+2))
		}
		if play(t, &tok, h, at, 0) {
			t.Error("the true time counts for a token that is ten steps off")
		}
	}
}

// TestDriftKeepsWatermark: what was learnt gives no used step back.
func TestDriftKeepsWatermark(t *testing.T) {
	k := keys(t)
	h := func(tok store.Token) Holder { return holder(k, tok) }
	tok := token(k, store.TOTP8)
	at := time.Unix(1_800_000_000, 0)
	if !play(t, &tok, h, at, 1) || tok.Drift != 1 {
		t.Fatalf("token %+v", tok)
	}
	used := tok.LastStep
	for later := range int64(4) {
		now := at.Add(time.Duration(later) * 30 * time.Second)
		if m := find(t, TOTP{}, h(tok), codeAt(t, used, 8), now); len(m) != 0 {
			t.Errorf("the used code was found %d steps later", later)
		}
		if m := find(t, TOTP{}, h(tok), codeAt(t, used-1, 8), now); len(m) != 0 {
			t.Errorf("the code before it was found %d steps later", later)
		}
	}
}

// TestTOTPResync: of a token whose clock has jumped, two codes in a row count, within
// five minutes and ten steps; then it is in step.
func TestTOTPResync(t *testing.T) {
	k := keys(t)
	h := func(tok store.Token) Holder { return holder(k, tok) }
	at := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name        string
		off         int64
		later       time.Duration // of the second code
		skip        int64         // codes between
		first, then bool
	}{
		{"in a row, ahead", 7, 30 * time.Second, 0, false, true},
		{"in a row, behind", -7, 30 * time.Second, 0, false, true},
		{"one between", 7, 60 * time.Second, 1, false, false},
		{"the same again", 7, 0, -1, false, false},
		{"too late", 4, 5 * time.Minute, -9, false, false},
		{"too far", 11, 30 * time.Second, 0, false, false},
	} {
		tok := token(k, store.TOTP8)
		step := Step(tok, at) + c.off
		got := []bool{play(t, &tok, h, at, c.off)}
		second := at.Add(c.later)
		got = append(got, play(t, &tok, h, second, step+1+c.skip-Step(tok, second)))
		if got[0] != c.first || got[1] != c.then {
			t.Errorf("%s: %v", c.name, got)
		}
		if c.then && (tok.Drift != c.off || !play(t, &tok, h, second.Add(time.Minute), c.off)) {
			t.Errorf("%s: not in step, drift %+d", c.name, tok.Drift)
		}
	}
}

// TestHOTPResync: a counter that is 10 to 99 ahead counts with the code after it.
func TestHOTPResync(t *testing.T) {
	k := keys(t)
	at := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		first, then int64
		later       time.Duration
		noted, ok   bool
	}{
		{LookAhead, LookAhead + 1, time.Minute, true, true}, {farAhead - 2, farAhead - 1, 0, true, true},
		{50, 52, 0, true, false}, {50, 50, 0, true, false}, {50, 51, resyncTime, true, false}, {farAhead, farAhead + 1, 0, false, false},
	} {
		tok := token(k, store.HOTP8)
		m := find(t, HOTP{}, holder(k, tok), codeAt(t, c.first, 8), at)
		if (len(m) == 1) != c.noted {
			t.Errorf("%+v: %d matches", c, len(m))
		}
		if len(m) == 0 {
			continue
		}
		s := &spy{}
		if won, err := m[0].Use(s); won || err != nil || s.noted != c.first+1 {
			t.Errorf("%+v: %v, %v, noted %d", c, won, err, s.noted)
		}
		tok.ResyncNext, tok.ResyncUntil = s.noted, at.Add(resyncTime)
		if got := counts(t, find(t, HOTP{}, holder(k, tok), codeAt(t, c.then, 8), at.Add(c.later))); got != c.ok {
			t.Errorf("%+v: the second code counts: %v", c, got)
		}
	}
}
