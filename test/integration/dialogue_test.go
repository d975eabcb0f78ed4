// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

// What the person reads. The patterns stand in one place, because they are what
// a change of wording changes.
const (
	// asksFactor is the question for the second factor, with or without a menu.
	asksFactor = `Passcode(?: or option \([^)]*\))?: $`
	// asksDigits is the question of a verified push: it shows the six digits, and
	// takes Enter, a passcode or another choice.
	asksDigits = `Type this code there: (\d{6})[^:]*: $`
	// saysWhy ends a refusal that the person must read: sshd shows nothing but questions.
	saysWhy = `Press Enter to end this login\. $`
)

// answers types a passcode at the question for the factor.
func (v *visit) answers(code string) {
	v.t.Helper()
	v.expect(asksFactor)
	v.types(code)
}
