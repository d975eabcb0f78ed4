// SPDX-License-Identifier: Apache-2.0

package login

import (
	"strings"
	"testing"
	"unicode"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

func FuzzMenuParse(f *testing.F) {
	for _, s := range []string{"", "1", "3", "99", "push", "PUSH2", "phone1", "sms", "auto", "123 456", "ccccccbcgujhingjrdejhgfnuetrgigvejhhgbkugded", "pässword", "\x00", "push-1", "-1", "+1"} {
		f.Add(s)
	}
	m := newMenu([]duoapi.Device{{Device: "A", Capabilities: []string{"push", "phone", "sms"}}, {Device: "B", Capabilities: []string{"push"}}}, Habit{})
	f.Fuzz(func(t *testing.T, text string) {
		c, err := m.parse(frames.Secret(text))
		switch {
		case err != nil:
			if strings.Contains(err.Error(), text) && strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("the message repeats control characters: %q", err)
			}
		case c.factor == duoapi.FactorPasscode:
			if code := c.code.Reveal(); code == "" || len(code) > maxCode || c.device.Device != "" {
				t.Errorf("passcode %q", code)
			}
		case c.device.Device == "" || c.code != "":
			t.Errorf("%q became %+v", text, c)
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("iPhone", 5)
	f.Add("\x1b]0;\x07\n\u202e\xff", 64)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, min(limit, 1000))
		got := printable(s, limit)
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q became %q", s, got)
		}
		if len([]rune(got)) > 10*limit+1 {
			t.Errorf("%d runes under a limit of %d", len([]rune(got)), limit)
		}
	})
}
