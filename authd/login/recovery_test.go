// SPDX-License-Identifier: Apache-2.0

package login

import (
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// A person's recovery code is a passcode, however it is typed: no choice of the menu
// and no break-glass code.
func TestRecoveryCodesArePasscodes(t *testing.T) {
	m := newMenu([]duoapi.Device{{Device: "A", Capabilities: []string{"push", "phone", "sms"}}}, Habit{})
	for typed, want := range map[string]string{
		"wazp-7tzg-3vkp-j13c":   "wazp7tzg3vkpj13c",
		" WAZP-7TZG-3VKP-J13C ": "WAZP7TZG3VKPJ13C",
		"wazp 7tzg 3vkp j13c":   "wazp7tzg3vkpj13c",
		"phne-1234-5678-9012":   "phne123456789012",
		"bgaa-7tzg-3vkp-j13c":   "bgaa7tzg3vkpj13c",
		"1234-5678-9012-3456":   "1234567890123456",
		"sms1-2345-6789-0123":   "sms1234567890123",
	} {
		c, err := m.parse(frames.Secret(typed))
		if err != nil || c.factor != duoapi.FactorPasscode || c.code.Reveal() != want {
			t.Errorf("%q became %+v, %v", typed, c, err)
		}
		if breakglass.LooksLike(typed) {
			t.Errorf("%q is taken for a break-glass code", typed)
		}
	}
}
