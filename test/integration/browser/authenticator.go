// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Platform is the authenticator that is built into the device of a tab: a finger, a
// face or a PIN, played by Chromium.
type Platform struct {
	tab *Tab
	id  webauthn.AuthenticatorID
}

// Platform gives the tab's device one that recognises its owner.
func (tab *Tab) Platform() *Platform {
	tab.t.Helper()
	_, err := chromedp.Call(tab.ctx, webauthn.Enable, webauthn.EnableParams{})
	tab.must("virtual authenticators", err)
	result, err := chromedp.Call(tab.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol:                    webauthn.AuthenticatorProtocolCtap2,
			Ctap2version:                webauthn.Ctap2versionCtap21,
			Transport:                   webauthn.AuthenticatorTransportInternal,
			HasResidentKey:              true,
			HasUserVerification:         true,
			IsUserVerified:              true,
			AutomaticPresenceSimulation: true,
		},
	})
	tab.must("virtual authenticator", err)
	return &Platform{tab: tab, id: result.AuthenticatorID}
}

// Recognises says whether the device recognises its owner from now on.
func (p *Platform) Recognises(owner bool) {
	p.tab.t.Helper()
	_, err := chromedp.Call(p.tab.ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{
		AuthenticatorID: p.id, IsUserVerified: owner,
	})
	p.tab.must("virtual authenticator", err)
}
