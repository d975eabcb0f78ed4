// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Tab is a page in a browser. It is for one goroutine.
type Tab struct {
	t       testing.TB
	browser *Browser
	ctx     context.Context
	stop    context.CancelFunc
}

// listen notes what live regions say, since some of it is gone before a test looks.
const listen = `(() => {
	globalThis.heardByTest = [];
	const note = () => {
		for (const region of document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log], output')) {
			const text = region.textContent.trim().replace(/\s+/g, ' ');
			if (text && heardByTest.at(-1) !== text && !heardByTest.slice(-8).includes(text)) heardByTest.push(text);
		}
	};
	globalThis.forgetForTest = () => {
		heardByTest.length = 0;
		for (const region of document.querySelectorAll('[role=status].visually-hidden, [role=alert].visually-hidden')) region.replaceChildren();
	};
	new MutationObserver(note).observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
	document.addEventListener('DOMContentLoaded', note);
})()`

// Tab opens an empty tab of 390 x 844 pixels, as a phone has.
func (b *Browser) Tab() *Tab {
	b.t.Helper()
	ctx, stop := chromedp.NewContext(b.ctx, chromedp.WithListener(b.watch))
	tab := &Tab{t: b.t, browser: b, ctx: ctx, stop: stop}
	tab.do("open a tab", func(ctx context.Context) error {
		return chromedp.Do(ctx)
	})
	_, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: listen})
	tab.must("prepare a tab", err)
	tab.Resize(390, 844)
	tab.Offline(false)
	return tab
}

// Close closes the tab.
func (tab *Tab) Close() {
	tab.t.Helper()
	_ = chromedp.Cancel(tab.ctx)
	tab.stop()
}

// As is the tab in another test, which goes on with it.
func (tab *Tab) As(t testing.TB) *Tab {
	c := *tab
	c.t = t
	return &c
}

// Context is the tab's context for commands of the protocol of Chromium's developer
// tools that this package does not name.
func (tab *Tab) Context() context.Context { return tab.ctx }

func (tab *Tab) must(what string, err error) {
	tab.t.Helper()
	if err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
}

// do is for the first command of a tab, whose context must not end.
func (tab *Tab) do(what string, f func(context.Context) error) {
	tab.t.Helper()
	tab.must(what, f(tab.ctx))
}

// Go opens an address and waits until the page is loaded. An address that differs
// from the page's in its fragment alone moves within the page.
func (tab *Tab) Go(url string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, limit)
	defer cancel()
	tab.must("open "+url, chromedp.Do(ctx, chromedp.Navigate(url)))
}

// TryGo is [Tab.Go] for an address that may not be served; it returns the error.
func (tab *Tab) TryGo(url string) error {
	ctx, cancel := context.WithTimeout(tab.ctx, limit)
	defer cancel()
	return chromedp.Do(ctx, chromedp.Navigate(url))
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, limit)
	defer cancel()
	tab.must("reload", chromedp.Do(ctx, chromedp.Reload()))
}

// Resize gives the page another size in CSS pixels.
func (tab *Tab) Resize(width, height int64) {
	tab.t.Helper()
	_, err := chromedp.Call(tab.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600,
	})
	tab.must("resize", err)
}

// Prefer sets what the person prefers: "light" or "dark", and less motion or not.
func (tab *Tab) Prefer(scheme string, reducedMotion bool) {
	tab.t.Helper()
	motion := "no-preference"
	if reducedMotion {
		motion = "reduce"
	}
	_, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: motion},
		},
	})
	tab.must("set preferences", err)
}

// Offline tells the page that the device has or has no network, as the system would.
// What really goes through is the [Network]'s matter.
func (tab *Tab) Offline(offline bool) {
	tab.t.Helper()
	_, err := chromedp.Call(tab.ctx, network.OverrideNetworkState, network.OverrideNetworkStateParams{
		Offline: offline, DownloadThroughput: -1, UploadThroughput: -1,
	})
	tab.must("offline", err)
}

// Run evaluates an expression of JavaScript, waits for its promise, and decodes its
// value into out, unless that is nil.
func (tab *Tab) Run(expression string, out any) {
	tab.t.Helper()
	tab.must("run "+short(expression), tab.TryRun(expression, out))
}

// TryRun is [Tab.Run] with the error.
func (tab *Tab) TryRun(expression string, out any) error {
	ctx, cancel := context.WithTimeout(tab.ctx, limit)
	defer cancel()
	yes, no := true, false
	result, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{
		// The page's policy holds for what a test runs in it, too.
		Expression: expression, ReturnByValue: &yes, AwaitPromise: &yes, AllowUnsafeEvalBlockedByCSP: &no,
	})
	if err != nil {
		return err
	}
	if result.ExceptionDetails != nil {
		text := result.ExceptionDetails.Text
		if result.ExceptionDetails.Exception != nil {
			text += " " + result.ExceptionDetails.Exception.Description
		}
		return fmt.Errorf("%s", text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(result.Result.Value, out)
}

func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}

// Text is what the page shows.
func (tab *Tab) Text() string {
	tab.t.Helper()
	var text string
	// A page that is just being replaced has no body.
	_ = tab.TryRun(`document.body ? document.body.innerText : ""`, &text)
	return text
}

// URL is the page's address.
func (tab *Tab) URL() string {
	tab.t.Helper()
	var text string
	tab.Run(`location.href`, &text)
	return text
}

// See waits until the page shows a text; upper and lower case are the same.
func (tab *Tab) See(text string) {
	tab.t.Helper()
	tab.Await("the text "+text, func() bool { return tab.Shows(text) })
}

// Unsee waits until the page no longer shows a text.
func (tab *Tab) Unsee(text string) {
	tab.t.Helper()
	tab.Await("the end of the text "+text, func() bool { return !tab.Shows(text) })
}

// Shows reports whether the page shows a text now.
func (tab *Tab) Shows(text string) bool {
	tab.t.Helper()
	return strings.Contains(strings.ToLower(tab.Text()), strings.ToLower(text))
}

// Hear waits until a live region says a text, or has said it since the page was
// loaded; upper and lower case are the same.
func (tab *Tab) Hear(text string) {
	tab.t.Helper()
	tab.Await("a live region that says "+text, func() bool {
		for _, said := range tab.Heard() {
			if strings.Contains(strings.ToLower(said), strings.ToLower(text)) {
				return true
			}
		}
		return false
	})
}

// Forget empties what live regions have said, so that [Tab.Hear] waits for news.
func (tab *Tab) Forget() {
	tab.t.Helper()
	tab.Run(`forgetForTest(), true`, nil)
}

// Heard is all that live regions have said since the page was loaded.
func (tab *Tab) Heard() []string {
	var said []string
	_ = tab.TryRun(`globalThis.heardByTest || []`, &said)
	return said
}

// Await waits until a condition holds.
func (tab *Tab) Await(what string, condition func() bool) {
	tab.t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if condition() {
			return
		}
	}
	tab.t.Fatalf("%s: did not come; the page at %s shows:\n%s\nlive regions said: %q; it reported: %q",
		what, tab.URL(), tab.Text(), tab.Heard(), tab.browser.takeErrors())
}

// AwaitTrue waits until an expression of JavaScript holds.
func (tab *Tab) AwaitTrue(what, expression string) {
	tab.t.Helper()
	tab.Await(what, func() bool {
		var ok bool
		return tab.TryRun("Boolean("+expression+")", &ok) == nil && ok
	})
}

// Keys types keys where the focus is.
func (tab *Tab) Keys(keys string) {
	tab.t.Helper()
	tab.must("type", chromedp.Do(tab.ctx, chromedp.KeyEvent(keys)))
}

// Screenshot is what the page shows, as PNG; full includes what is scrolled away.
func (tab *Tab) Screenshot(full bool) []byte {
	tab.t.Helper()
	result, err := chromedp.Call(tab.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &full})
	tab.must("screenshot", err)
	return result.Data
}

// onNode calls a function of JavaScript whose this is a node of the page.
func (tab *Tab) onNode(node cdp.BackendNodeID, function string, out any) error {
	resolved, err := chromedp.Call(tab.ctx, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: node})
	if err != nil {
		return err
	}
	yes := true
	result, err := chromedp.Call(tab.ctx, runtime.CallFunctionOn, runtime.CallFunctionOnParams{
		FunctionDeclaration: function, ObjectID: resolved.Object.ObjectID, ReturnByValue: &yes, AwaitPromise: &yes,
	})
	if err != nil {
		return err
	}
	if result.ExceptionDetails != nil {
		return fmt.Errorf("%s", result.ExceptionDetails.Text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(result.Result.Value, out)
}
