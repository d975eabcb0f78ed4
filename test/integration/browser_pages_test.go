// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"net/url"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/sallyport-mfa/sallyport/test/integration/browser"
)

// widths are the screens that pages are looked at on, in CSS pixels.
var widths = []struct {
	name          string
	width, height int64
}{{"phone", 390, 844}, {"desktop", 1280, 800}}

// audit checks the page as it stands on each screen, light and dark.
func audit(t *testing.T, tab *browser.Tab, what string) {
	t.Helper()
	tab = tab.As(t)
	for _, screen := range widths {
		tab.Resize(screen.width, screen.height)
		tab.Prefer("light", false)
		tab.Audit(what + ", " + screen.name)
		tab.Prefer("dark", false)
		for _, complaint := range tab.Look() {
			t.Errorf("%s, %s, dark: %s", what, screen.name, complaint)
		}
	}
	tab.Prefer("light", false)
	tab.Resize(widths[0].width, widths[0].height)
}

// The pages that anybody may open can be used by keyboard, by screen reader, on any
// screen, in light and dark.
func TestPublicPages(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	b := s.browser(t)
	b.Forgive("status of 404 () (" + webURL + "/app/nothing-here)")
	tab := b.Tab()
	for name, path := range map[string]string{
		"first page": "/",
		"lost phone": "/app/lost",
		"not found":  "/app/nothing-here",
	} {
		tab.Go(webURL + path)
		audit(t, tab, name)
	}
	tab.Go(webURL + "/")
	tab.Keys("\t\r") // the first stop leads past what is on every page
	tab.AwaitTrue("the focus in the content", `document.activeElement.closest('main')`)
}

// The app's questions are dialogs: the focus goes into them, stays there, and goes
// back; Escape is no answer.
func TestAppDialogs(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	p := s.person(t, "appdialogs")
	w := p.webPhone(t)
	dialog := func(opener string) {
		t.Helper()
		w.tab.Press(opener)
		w.tab.AwaitTrue("the focus in the dialog of "+opener, `document.querySelector('dialog[open]')?.contains(document.activeElement)`)
		audit(t, w.tab, "dialog of "+opener)
		w.tab.Keys(kb.Escape)
		w.tab.AwaitTrue("the end of the dialog of "+opener, `!document.querySelector('dialog')`)
		var at string
		w.tab.Run(`document.activeElement.ariaLabel ?? document.activeElement.textContent`, &at)
		if at != opener {
			t.Errorf("after the dialog of %s the focus is on %q", opener, at)
		}
	}
	s.push(t, s.application(t, "Dialogs"), p.name, url.Values{"type": {"SSH login"}})
	w.asked()
	dialog("Deny")
	if !w.tab.Has("button", "Approve") {
		t.Error("Escape answered the request")
	}

	w.tab.Follow("Devices")
	dialog("Rename: " + w.name)
	dialog("Remove: " + w.name)
	dialog("Move to a new phone")
	if !w.tab.Has("button", "Remove: "+w.name) {
		t.Error("Escape removed the device")
	}

	w.addsToken("otpauth://totp/Example:alice?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example")
	dialog("Move: Example · alice")
	dialog("Remove: Example · alice")
	if w.totp("") == "" {
		t.Error("Escape removed the token")
	}
}
