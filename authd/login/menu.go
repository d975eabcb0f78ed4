// SPDX-License-Identifier: Apache-2.0

package login

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// choice is what a person chose: a factor with its device, or a passcode.
type choice struct {
	factor string // duoapi.Factor…
	nth    int    // of the verifier's devices that have this factor, from 1
	device duoapi.Device
	code   frames.Secret
}

// name is what may be typed for the choice, like "push2". It hangs on the
// verifier's order alone, so that it means the same device at each login,
// whichever was used last.
func (c choice) name() string { return c.factor + strconv.Itoa(c.nth) }

// menu is the list of ways that preauth offered. A passcode may be typed
// whatever it holds: bypass codes belong to no device.
type menu struct {
	options    []choice
	noPasscode bool // a rule permits none
}

// maxOptions bounds the menu: a prompt must fit a frame and a screen.
const maxOptions = 20

// newMenu orders the options as Duo's users know them, per device push, phone
// call, SMS; but the one that the person used last comes first.
func newMenu(devices []duoapi.Device, last Habit) menu {
	var m menu
	count := map[string]int{}
	for _, d := range devices {
		for _, o := range []struct{ capability, factor string }{
			{duoapi.CapabilityPush, duoapi.FactorPush},
			{duoapi.CapabilityPhone, duoapi.FactorPhone},
			{duoapi.CapabilitySMS, duoapi.FactorSMS},
		} {
			if slices.Contains(d.Capabilities, o.capability) && len(m.options) < maxOptions {
				count[o.factor]++
				m.options = append(m.options, choice{factor: o.factor, nth: count[o.factor], device: d})
			}
		}
	}
	i := slices.IndexFunc(m.options, func(c choice) bool { return c.factor == last.Factor && c.device.Device == last.Device })
	if i > 0 {
		c := m.options[i]
		m.options = slices.Insert(slices.Delete(m.options, i, i+1), 0, c)
	}
	return m
}

// only leaves the factors that a rule permits; nil permits all. Names and numbers
// of what is left stay what they were.
func (m menu) only(factors []string) menu {
	if factors == nil {
		return m
	}
	m.options = slices.DeleteFunc(slices.Clone(m.options), func(c choice) bool { return !slices.Contains(factors, c.factor) })
	m.noPasscode = !slices.Contains(factors, duoapi.FactorPasscode)
	return m
}

// several says that more than one device has this factor.
func (m menu) several(factor string) bool {
	_, ok := m.find(factor, 2)
	return ok
}

// first is the option of a factor that stands highest in the menu.
func (m menu) first(factor string) (choice, bool) {
	i := slices.IndexFunc(m.options, func(c choice) bool { return c.factor == factor })
	if i < 0 {
		return choice{}, false
	}
	return m.options[i], true
}

// silent is the first option that works without anything to type: push, else phone.
func (m menu) silent() (choice, bool) {
	for _, factor := range []string{duoapi.FactorPush, duoapi.FactorPhone} {
		if c, ok := m.find(factor, 1); ok {
			return c, true
		}
	}
	return choice{}, false
}

// find is the n-th option of a factor, from 1, as the verifier counts.
func (m menu) find(factor string, n int) (choice, bool) {
	i := slices.IndexFunc(m.options, func(c choice) bool { return c.factor == factor && c.nth == n })
	if i < 0 {
		return choice{}, false
	}
	return m.options[i], true
}

func deviceName(d duoapi.Device) string {
	for _, name := range []string{d.DisplayName, d.Name, d.Number, d.Device} {
		if name != "" {
			return printable(name, 64)
		}
	}
	return textDevice()
}

// maxCode is the longest passcode worth sending, in bytes; Yubico OTPs have 44.
const maxCode = 64

// parse reads an answer: the number of an option, a factor's name with or
// without a number ("push", "phone2"), or a passcode. The error is for people.
func (m menu) parse(answer frames.Secret) (choice, error) {
	text := strings.TrimSpace(answer.Reveal())
	if text == "" {
		return choice{}, sayable(textNothingEntered(m))
	}
	if n, err := strconv.Atoi(text); err == nil && len(text) <= 2 {
		if n < 1 || n > len(m.options) {
			return choice{}, sayable(textNoSuchOption(n))
		}
		return m.options[n-1], nil
	}
	if c, known, err := m.word(strings.ToLower(text)); known {
		return c, err
	}
	code := strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' {
			return -1 // people group digits
		}
		return r
	}, text)
	if code == "" || len(code) > maxCode || strings.ContainsFunc(code, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) }) {
		return choice{}, sayable(textNotUnderstood())
	}
	if m.noPasscode {
		return choice{}, sayable(textNoPasscode())
	}
	return choice{factor: duoapi.FactorPasscode, code: frames.Secret(code)}, nil
}

// word reads "push", "push2" and the like. known is false if it is none.
func (m menu) word(text string) (c choice, known bool, err error) {
	name := strings.TrimRight(text, "0123456789")
	digits := text[len(name):]
	if len(digits) > 2 {
		return choice{}, false, nil
	}
	n := 1
	if digits != "" {
		n = int(digits[0] - '0')
		if len(digits) == 2 {
			n = n*10 + int(digits[1]-'0')
		}
	}
	switch name {
	case duoapi.FactorAuto:
		c, ok := m.silent()
		if !ok {
			return choice{}, true, sayable(textNoSuchDevice())
		}
		return c, true, nil
	case duoapi.FactorPush, duoapi.FactorPhone, duoapi.FactorSMS:
		c, ok := m.find(name, n)
		if !ok {
			return choice{}, true, sayable(textNoSuchDevice())
		}
		return c, true, nil
	}
	return choice{}, false, nil
}

// sayable is an error whose text a person may read.
type sayable string

func (s sayable) Error() string { return string(s) }

// printable makes a string of another party fit for a terminal: what does not
// print is shown as an escape, and no more than limit runes are.
func printable(s string, limit int) string {
	var b strings.Builder
	for i, r := range []rune(s) {
		if i == limit {
			b.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}
