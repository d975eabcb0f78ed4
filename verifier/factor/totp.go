// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// TOTP is the time-based one-time password of RFC 6238 with SHA-1 and 6 or 8
// digits. The step before and the step after the one that the token is at count
// too, for codes that are typed slowly (RFC 6238, section 5.2). Where the token is,
// each success tells anew (section 6): its drift. A step that was used, or any
// before it, does not count.
type TOTP struct{}

const (
	// skewSteps is how many steps on each side of the token's count.
	skewSteps = 1
	// maxDrift is how many steps a token's clock may be off. A code that is further
	// off than its drift and skewSteps does not count, but the code after it does.
	maxDrift = 10
)

// TOTPAhead is how many steps ahead of the token's a code may have been used.
const TOTPAhead = skewSteps

// Name implements Factor.
func (TOTP) Name() string { return "hardware_token" }

// Find implements Passcode.
func (f TOTP) Find(h Holder, code string, now time.Time) ([]Match, error) {
	var out []Match
	for _, t := range h.Tokens {
		if (t.Type != store.TOTP6 && t.Type != store.TOTP8) || !fits(t, code) {
			continue
		}
		matches, err := f.ofToken(h, t, code, now)
		if err != nil {
			return nil, err
		}
		out = append(out, matches...)
	}
	return out, nil
}

// ofToken looks near the token's own step first: of two steps with the same code
// that is the one it was.
func (f TOTP) ofToken(h Holder, t store.Token, code string, now time.Time) ([]Match, error) {
	current := Step(t, now)
	own := current + t.Drift
	least := max(t.LastStep+1, 0)
	near, isNear, err := search(h.Keys, t, code, max(own-skewSteps, least), own+skewSteps+1)
	if err != nil {
		return nil, err
	}
	far, isFar, err := search(h.Keys, t, code, max(current-maxDrift, least), current+maxDrift+1)
	if err != nil || !isNear && !isFar {
		return nil, err
	}
	return []Match{tokenMatch(f, t, func(w store.Writer) (bool, error) {
		switch {
		case isNear:
			won, err := w.UseTOTPStep(h.User.ID, t.ID, near)
			if drift := learnt(near - current); err == nil && won && drift != t.Drift {
				err = w.LearnDrift(t.ID, near, drift)
			}
			return won, err
		case inResync(t, far, now):
			return w.UseResync(h.User.ID, t.ID, far, learnt(far-current), now)
		}
		return false, noteResync(w, h, t, far, now)
	})}, nil
}

// FirstCode says at which step a new token of type TOTP6 or TOTP8, which nobody has
// used yet, gives that code, and how many steps that is ahead of now. Its clock may
// be off by as much as at a login.
func FirstCode(keys *seal.Keys, t store.Token, code string, now time.Time) (step, drift int64, ok bool, err error) {
	if code = Normalise(code); !fits(t, code) {
		return 0, 0, false, nil
	}
	current := Step(t, now)
	step, ok, err = search(keys, t, code, current-skewSteps, current+skewSteps+1)
	return step, step - current, ok, err
}

// learnt is the drift that a step shows, within what it may be.
func learnt(steps int64) int64 { return min(max(steps, -maxDrift), maxDrift) }

// Step is the number of the token's time step at a time.
func Step(t store.Token, at time.Time) int64 {
	seconds := int64(t.Step)
	if seconds <= 0 {
		seconds = 30
	}
	return at.Unix() / seconds
}
