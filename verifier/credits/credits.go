// SPDX-License-Identifier: Apache-2.0

// Package credits accounts for calls and text messages: what one costs, whether
// what is left pays for it, and who is told when it runs out. Credits are spent
// in one statement before the provider is asked. It never asks the provider.
package credits

import (
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Actions of the administrator log.
const (
	ActionLow       = "telephony_credits_low"
	ActionExhausted = "telephony_credits_exhausted"
	ActionUpdate    = "telephony_credits_update"
)

// Cost is what a call or a message (store.TelephonyCall, store.TelephonySMS) costs.
func Cost(set store.Settings, kind string) int64 {
	if kind == store.TelephonyCall {
		return int64(max(set.TelephonyCallCost, 0))
	}
	return int64(max(set.TelephonySMSCost, 0))
}

// Offered says whether a call or a message can be paid for: by what is left, and
// within what one may cost. It prepares; Spend decides.
func Offered(c store.Credits, set store.Settings, kind string) bool {
	cost := Cost(set, kind)
	return affordable(set, cost) && (c.Left < 0 || c.Left >= cost)
}

func affordable(set store.Settings, cost int64) bool { return cost <= int64(set.UserTelephonyCostMax) }

// Alert is what an update has found out about the credits and its caller says
// once it is committed.
type Alert struct {
	Low       bool // the warning threshold was reached
	Exhausted bool // neither a call nor a message can be paid for any more
	Left      int64
}

// Log says so.
func (a Alert) Log(log *slog.Logger) {
	if a.Exhausted {
		log.Error("telephony credits are used up: calls and SMS are off until there are more", "left", a.Left)
	} else if a.Low {
		log.Warn("telephony credits are running out", "left", a.Left)
	}
}

// Spend pays for the call or the message of e and writes e into the telephony
// log. False: what is left does not pay for it, and nothing was written.
func Spend(w store.Writer, set store.Settings, e store.TelephonyEntry) (bool, Alert, error) {
	e.Credits = Cost(set, e.Type)
	if !affordable(set, e.Credits) {
		return false, Alert{}, nil
	}
	won, err := w.SpendCredits(e.Credits)
	if err != nil || !won {
		return false, Alert{}, err
	}
	c, err := w.Credits()
	if err != nil {
		return false, Alert{}, err
	}
	e.Counted = c.Left >= 0
	if err := w.AddTelephonyEntry(e); err != nil {
		return false, Alert{}, err
	}
	a, err := alert(w, set, e.Time)
	return true, a, err
}

// Set sets what is left; the caller writes who did it.
func Set(w store.Writer, set store.Settings, left int64, now time.Time) (Alert, error) {
	if err := w.SetCredits(left); err != nil {
		return Alert{}, err
	}
	return alert(w, set, now)
}

// alert tells administrators of a threshold that was reached. The store says once
// that it was, to one of all verifiers.
func alert(w store.Writer, set store.Settings, now time.Time) (a Alert, err error) {
	cheapest := min(Cost(set, store.TelephonyCall), Cost(set, store.TelephonySMS))
	if set.TelephonyWarningMin > 0 {
		if a.Low, err = w.WarnCredits(int64(set.TelephonyWarningMin)); err != nil {
			return a, err
		}
	}
	if a.Exhausted, err = w.ExhaustCredits(max(cheapest, 1)); err != nil || !a.Low && !a.Exhausted {
		return a, err
	}
	c, err := w.Credits()
	if err != nil {
		return a, err
	}
	a.Left = c.Left
	description := map[string]any{"credits": c.Left, "telephony_warning_min": set.TelephonyWarningMin}
	if a.Low {
		if err := audit.System(w, now, ActionLow, "", description); err != nil {
			return a, err
		}
	}
	if a.Exhausted {
		err = audit.System(w, now, ActionExhausted, "", description)
	}
	return a, err
}
