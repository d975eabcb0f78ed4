// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"testing"

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
