// SPDX-License-Identifier: Apache-2.0

package browser

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed audit.js
var auditScript string

//go:embed tabstops.js
var tabStopScript string

// mostStops is more than any page has of places that the Tab key reaches.
const mostStops = 100

// Audit checks the page as it stands for what WCAG 2.2 AA demands and a program can
// tell: names and roles, headings and landmarks, labels, contrast, size of targets,
// order and visibility of the focus, fit to a width of 320 pixels, and motion where
// the person wants none. While a dialog is open, the keyboard is for it alone. The
// focus is on nothing in particular afterwards. The test goes on after complaints.
func (tab *Tab) Audit(what string) {
	tab.t.Helper()
	for _, complaint := range slices.Concat(tab.Look(), tab.names(), tab.focusOrder(), tab.fit(), tab.motion()) {
		tab.t.Errorf("%s: %s", what, complaint)
	}
}

// Look is the part of [Tab.Audit] that changes nothing: parts, labels, sizes, contrast.
func (tab *Tab) Look() []string {
	tab.t.Helper()
	var complaints []string
	tab.Run(auditScript, &complaints)
	return complaints
}

// interactive are the roles that a person operates.
var interactive = map[string]bool{
	"button": true, "link": true, "textbox": true, "checkbox": true, "radio": true, "combobox": true, "switch": true,
	"tab": true, "menuitem": true, "searchbox": true, "spinbutton": true, "slider": true, "DisclosureTriangle": true,
}

// names complains of what can be operated but has no name or no role.
func (tab *Tab) names() (complaints []string) {
	tab.t.Helper()
	tree, err := chromedp.Call(tab.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	tab.must("read the accessibility tree", err)
	for _, node := range tree.Nodes {
		role := word(node.Role)
		if node.Ignored || !interactive[role] && role != "dialog" && !focusable(node) {
			continue
		}
		if slices.Contains([]string{"generic", "none", "div", ""}, role) {
			complaints = append(complaints, fmt.Sprintf("something takes the focus and has no role (%q)", word(node.Name)))
		}
		if strings.TrimSpace(word(node.Name)) == "" && !slices.Contains([]string{"main", "RootWebArea", "region"}, role) {
			complaints = append(complaints, "a "+role+" has no name")
		}
	}
	return complaints
}

func focusable(node *accessibility.Node) bool {
	for _, property := range node.Properties {
		if property.Name == accessibility.PropertyNameFocusable {
			return string(property.Value.Value) == "true"
		}
	}
	return false
}

// stop is a place that the Tab key reaches.
type stop struct {
	Number                   int
	HTML, Group              string
	Left, Top, Right, Bottom float64
	Ringed, OnScreen         bool
	Astray                   bool // outside of the dialog that is open
}

// focusOrder presses Tab through the page, or through the dialog that is open.
func (tab *Tab) focusOrder() (complaints []string) {
	tab.t.Helper()
	// The Tab key goes on from where the focus was last, so that is the beginning.
	tab.Run(`(() => {
		const root = document.querySelector('dialog[open]') ?? document.body;
		root.tabIndex = -1;
		root.focus();
		root.removeAttribute('tabindex');
		globalThis.stopsOfTest = new Map();
		scrollTo(0, 0);
		getSelection().removeAllRanges();
		return true;
	})()`, nil)
	var stops []stop
	for range mostStops {
		tab.Keys(kb.Tab)
		var at *stop
		tab.Run(tabStopScript, &at)
		if at == nil || at.Number < len(stops) {
			break
		}
		stops = append(stops, *at)
	}
	for i, s := range stops {
		if !s.Ringed {
			complaints = append(complaints, "the focus cannot be seen: "+s.HTML)
		}
		if s.Astray {
			complaints = append(complaints, "the focus leaves the dialog for "+s.HTML)
		}
		if !s.OnScreen {
			complaints = append(complaints, "the focus is off the screen: "+s.HTML)
		}
		if i == 0 || stops[i-1].Group != s.Group {
			continue
		}
		before := stops[i-1]
		above := s.Bottom <= before.Top
		leftInRow := s.Right <= before.Left && s.Top < before.Bottom && before.Top < s.Bottom
		if above || leftInRow {
			complaints = append(complaints, fmt.Sprintf("the focus goes back from %s to %s", before.HTML, s.HTML))
		}
	}
	var missed []string
	tab.Run(`(() => {
		return [...(document.querySelector('dialog[open]') ?? document).querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')].filter((e) => {
			if (e.disabled || e.tabIndex < 0 || !e.checkVisibility({checkVisibilityCSS: true})) return false;
			if (globalThis.stopsOfTest?.has(e)) return false;
			return e.type !== 'radio' || ![...stopsOfTest.keys()].some((other) => other.type === 'radio' && other.name === e.name);
		}).map((e) => e.outerHTML.slice(0, 120));
	})()`, &missed)
	for _, html := range missed {
		complaints = append(complaints, "the keyboard does not reach "+html)
	}
	tab.Run(`document.activeElement?.blur(), scrollTo(0, 0), true`, nil)
	return complaints
}

// fit complains of a page or a dialog that a screen of 320 pixels shows only by
// scrolling sideways, and of a dialog of which no scrolling shows the whole.
func (tab *Tab) fit() (complaints []string) {
	tab.t.Helper()
	var width, height int64
	tab.Run(`innerWidth`, &width)
	tab.Run(`innerHeight`, &height)
	tab.Resize(320, height)
	defer tab.Resize(width, height)
	var wide []string
	tab.Run(`(() => {
		const complaints = [...document.querySelectorAll('dialog[open]')].flatMap((dialog) => {
			const box = dialog.getBoundingClientRect();
			return [
				(box.left < 0 || box.right > 320 || dialog.scrollWidth > dialog.clientWidth) && 'a dialog is too wide for a screen of 320 pixels',
				(box.top < 0 || box.bottom > innerHeight) && 'a dialog is higher than the screen',
			].filter(Boolean);
		});
		if (document.scrollingElement.scrollWidth <= 320) return complaints;
		return [...complaints, 'the page is ' + document.scrollingElement.scrollWidth + ' pixels wide on a screen of 320',
			...[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 321).slice(0, 3).map((e) => 'too wide: ' + e.outerHTML.slice(0, 120))];
	})()`, &wide)
	return append(complaints, wide...)
}

// motion complains of what moves although the person prefers that nothing does.
func (tab *Tab) motion() []string {
	tab.t.Helper()
	scheme, before := tab.preference()
	tab.Prefer(scheme, true)
	defer tab.Prefer(scheme, before)
	var moving []string
	tab.Run(`[...document.querySelectorAll('*')].filter((e) => {
		const style = getComputedStyle(e);
		const long = (list) => list.split(',').some((d) => parseFloat(d) * (d.trim().endsWith('ms') ? 1 : 1000) > 10);
		return style.animationName !== 'none' && long(style.animationDuration) ||
			long(style.transitionDuration) && /all|transform|left|top|width|height|margin/.test(style.transitionProperty);
	}).slice(0, 5).map((e) => 'moves although less motion is preferred: ' + e.outerHTML.slice(0, 120))`, &moving)
	return moving
}

// preference is what the page believes that the person prefers.
func (tab *Tab) preference() (scheme string, reducedMotion bool) {
	tab.t.Helper()
	tab.Run(`matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'`, &scheme)
	tab.Run(`matchMedia('(prefers-reduced-motion: reduce)').matches`, &reducedMotion)
	return scheme, reducedMotion
}
