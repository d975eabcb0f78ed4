// SPDX-License-Identifier: Apache-2.0

package login

import "github.com/sallyport-mfa/sallyport/internal/duoapi"

// Habit is the factor that a person used last, and with which device. The zero
// value is none.
type Habit struct {
	Factor string `json:"factor"`
	Device string `json:"device,omitempty"`
}

// Habits remembers them by the name that the verifier knows. What it has
// forgotten costs a person nothing but the order of a menu. It is safe for
// concurrent use.
type Habits interface {
	Last(username string) Habit
	Used(username string, h Habit)
}

func (a *asking) lastHabit() Habit {
	if a.Habits == nil {
		return Habit{}
	}
	return a.Habits.Last(a.username)
}

// remember notes what the person chose, once it has let them in. Who types a
// code that came by SMS will want the SMS again.
func (a *asking) remember(c choice) {
	if a.Habits == nil {
		return
	}
	if c.factor == duoapi.FactorPasscode && a.texted.factor != "" {
		c = a.texted
	}
	a.Habits.Used(a.username, Habit{Factor: c.factor, Device: c.device.Device})
}
