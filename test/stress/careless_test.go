// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// careless is a store with the mistake that this package looks for: it reads
// whether a code is good in one transaction and writes that it was used in another.
type careless struct{ store.Store }

var errOnlyRead = errors.New("only read")

// Update implements store.Store. The first run is undone, and tells what the
// deciding statements would have said; the second believes it.
func (c careless) Update(ctx context.Context, f func(store.Writer) error) error {
	var said []bool
	var failed error
	err := c.Store.Update(ctx, func(w store.Writer) error {
		said = nil
		if failed = f(asking{w, &said}); failed != nil {
			return failed
		}
		return errOnlyRead
	})
	if failed != nil || !errors.Is(err, errOnlyRead) {
		return err
	}
	return c.Store.Update(ctx, func(w store.Writer) error {
		answers := said
		return f(believing{w, &answers})
	})
}

// asking notes what the deciding statements say.
type asking struct {
	store.Writer
	said *[]bool
}

func (a asking) note(won bool, err error) (bool, error) {
	*a.said = append(*a.said, won)
	return won, err
}

func (a asking) UseTOTPStep(user, token string, step int64) (bool, error) {
	return a.note(a.Writer.UseTOTPStep(user, token, step))
}

func (a asking) UseHOTPCounter(user, token string, counter int64) (bool, error) {
	return a.note(a.Writer.UseHOTPCounter(user, token, counter))
}

func (a asking) UseBypassCode(user, code string, now time.Time) (bool, error) {
	return a.note(a.Writer.UseBypassCode(user, code, now))
}

func (a asking) UseSMSCode(user, code string, now time.Time) (bool, error) {
	return a.note(a.Writer.UseSMSCode(user, code, now))
}

// believing writes, and goes by what was said before.
type believing struct {
	store.Writer
	said *[]bool
}

func (b believing) before(_ bool, err error) (bool, error) {
	if len(*b.said) == 0 {
		return false, errors.New("nothing was said before")
	}
	won := (*b.said)[0]
	*b.said = (*b.said)[1:]
	return won, err
}

func (b believing) UseTOTPStep(user, token string, step int64) (bool, error) {
	return b.before(b.Writer.UseTOTPStep(user, token, step))
}

func (b believing) UseHOTPCounter(user, token string, counter int64) (bool, error) {
	return b.before(b.Writer.UseHOTPCounter(user, token, counter))
}

func (b believing) UseBypassCode(user, code string, now time.Time) (bool, error) {
	return b.before(b.Writer.UseBypassCode(user, code, now))
}

func (b believing) UseSMSCode(user, code string, now time.Time) (bool, error) {
	return b.before(b.Writer.UseSMSCode(user, code, now))
}

// TestCheckerCatchesReadThenWrite: on the careless store the check of the history
// fails for every kind of passcode. It must do so by the history alone, without
// counting who was let in.
func TestCheckerCatchesReadThenWrite(t *testing.T) {
	c := newClock()
	s := newSite(t, c.Now, func(real store.Store) store.Store { return careless{real} })
	key, err := keyproof.GenerateKey()
	s.must(err)
	caught := map[string]bool{}
	for n := 0; n < 20 && len(caught) < 4; n++ {
		r := newRound(s, c, key, n)
		r.populate(1)
		races := r.sameCodes()[:4] // all but the push
		run(8, races)              // to prove that no order explains a history takes time that doubles with each client
		for _, race := range races {
			if !race.h.linearizable(race.model) {
				caught[race.what] = true
			}
		}
	}
	for _, what := range []string{"TOTP", "HOTP", "bypass code", "SMS code"} {
		if !caught[what] {
			t.Errorf("%s: a store that reads and then writes was not found out", what)
		}
	}
}

// TestCheckerModels: what the models allow and what not, by hand.
func TestCheckerModels(t *testing.T) {
	op := func(client int, call, done, n int64, ok bool) porcupine.Operation {
		return porcupine.Operation{ClientId: client, Input: n, Call: call, Output: ok, Return: done}
	}
	for _, c := range []struct {
		name  string
		model porcupine.Model
		ops   []porcupine.Operation
		want  bool
	}{
		{"one of two at once", uses(1), []porcupine.Operation{op(1, 0, 10, 0, true), op(2, 0, 10, 0, false)}, true},
		{"both at once", uses(1), []porcupine.Operation{op(1, 0, 10, 0, true), op(2, 0, 10, 0, true)}, false},
		{"both, one after another", uses(1), []porcupine.Operation{op(1, 0, 10, 0, true), op(2, 20, 30, 0, true)}, false},
		{"neither", uses(1), []porcupine.Operation{op(1, 0, 10, 0, false), op(2, 0, 10, 0, false)}, false},
		{"refused before anyone was let in", uses(1), []porcupine.Operation{op(1, 0, 10, 0, false), op(2, 20, 30, 0, true)}, false},
		{"two of three uses", uses(3), []porcupine.Operation{op(1, 0, 10, 0, true), op(2, 0, 10, 0, true)}, true},
		{"a later counter voids an earlier", watermark(0), []porcupine.Operation{op(1, 0, 10, 3, true), op(2, 20, 30, 1, false)}, true},
		{"an earlier counter after a later", watermark(0), []porcupine.Operation{op(1, 0, 10, 3, true), op(2, 20, 30, 1, true)}, false},
		{"an earlier counter beside a later", watermark(0), []porcupine.Operation{op(1, 0, 10, 3, true), op(2, 5, 30, 1, true)}, true},
		{"a good counter refused", watermark(0), []porcupine.Operation{op(1, 0, 10, 1, true), op(2, 20, 30, 2, false)}, false},
	} {
		h := history{ops: c.ops}
		if got := h.linearizable(c.model); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
