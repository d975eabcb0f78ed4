// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"encoding/json"
	"fmt"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// nodes are those of the page that assistive technology is told of, with a role and
// an accessible name; an empty one is any.
func (tab *Tab) nodes(role, name string) ([]*accessibility.Node, error) {
	document, err := chromedp.Call(tab.ctx, dom.GetDocument, dom.GetDocumentParams{})
	if err != nil {
		return nil, err
	}
	result, err := chromedp.Call(tab.ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{
		BackendNodeID: document.Root.BackendNodeID, Role: role, AccessibleName: name,
	})
	if err != nil {
		return nil, err
	}
	var found []*accessibility.Node
	for _, node := range result.Nodes {
		if !node.Ignored && node.BackendDOMNodeID != 0 {
			found = append(found, node)
		}
	}
	return found, nil
}

// Has reports whether the page has something with this role and accessible name now.
func (tab *Tab) Has(role, name string) bool {
	nodes, err := tab.nodes(role, name)
	return err == nil && len(nodes) > 0
}

// Count is how many things with this role and accessible name the page has now.
func (tab *Tab) Count(role, name string) int {
	nodes, _ := tab.nodes(role, name)
	return len(nodes)
}

// Find waits for something with this role and accessible name.
func (tab *Tab) Find(role, name string) cdp.BackendNodeID {
	tab.t.Helper()
	var node cdp.BackendNodeID
	tab.Await(fmt.Sprintf("a %s named %q", role, name), func() bool {
		nodes, err := tab.nodes(role, name)
		if err != nil || len(nodes) == 0 {
			return false
		}
		node = nodes[0].BackendDOMNodeID
		return true
	})
	return node
}

// uncovered scrolls the node to the middle of the screen and tells whether a click
// there reaches it.
const uncovered = `function() {
	this.scrollIntoView({block: 'center', behavior: 'instant'});
	const box = this.getBoundingClientRect();
	const x = box.left + box.width / 2, y = box.top + box.height / 2;
	const hit = document.elementFromPoint(x, y);
	const free = !this.disabled && hit !== null &&
		(hit === this || this.contains(hit) || hit.contains(this) && hit.matches('label, summary') || hit.closest('label')?.control === this);
	return {free, x, y};
}`

// Click waits for something with this role and accessible name that can be clicked,
// and clicks it.
func (tab *Tab) Click(role, name string) {
	tab.t.Helper()
	var x, y float64
	tab.Await(fmt.Sprintf("a %s named %q that can be clicked", role, name), func() bool {
		nodes, err := tab.nodes(role, name)
		if err != nil || len(nodes) == 0 || disabled(nodes[0]) {
			return false
		}
		node := nodes[0].BackendDOMNodeID
		var at struct {
			Free bool
			X, Y float64
		}
		err = tab.onNode(node, uncovered, &at)
		x, y = at.X, at.Y
		return err == nil && at.Free
	})
	tab.must("click "+name, chromedp.Do(tab.ctx, chromedp.MouseClickXY(x, y)))
}

// Press clicks a button.
func (tab *Tab) Press(name string) {
	tab.t.Helper()
	tab.Click("button", name)
}

// Follow clicks a link.
func (tab *Tab) Follow(name string) {
	tab.t.Helper()
	tab.Click("link", name)
}

// Fill types a text into the field of this label, in place of what is there.
func (tab *Tab) Fill(label, text string) {
	tab.t.Helper()
	node := tab.Find("textbox", label)
	_, err := chromedp.Call(tab.ctx, dom.Focus, dom.FocusParams{BackendNodeID: node})
	tab.must("focus "+label, err)
	tab.must("select "+label, tab.onNode(node, `function() { this.select(); return true }`, nil))
	if text == "" {
		tab.Keys("\b")
		return
	}
	tab.Keys(text)
}

// Paste puts a text into the field of this label as the clipboard would.
func (tab *Tab) Paste(label, text string) {
	tab.t.Helper()
	node := tab.Find("textbox", label)
	_, err := chromedp.Call(tab.ctx, dom.Focus, dom.FocusParams{BackendNodeID: node})
	tab.must("focus "+label, err)
	tab.must("select "+label, tab.onNode(node, `function() { this.select(); return true }`, nil))
	_, err = chromedp.Call(tab.ctx, input.InsertText, input.InsertTextParams{Text: text})
	tab.must("paste", err)
}

// Value is what the field of this label holds.
func (tab *Tab) Value(label string) string {
	tab.t.Helper()
	var text string
	tab.must("read "+label, tab.onNode(tab.Find("textbox", label), `function() { return this.value }`, &text))
	return text
}

// disabled reports whether assistive technology is told that the node does not react.
func disabled(node *accessibility.Node) bool {
	for _, property := range node.Properties {
		if property.Name == accessibility.PropertyNameDisabled {
			return string(property.Value.Value) == "true"
		}
	}
	return false
}

// word decodes a string of the accessibility tree.
func word(value *accessibility.Value) string {
	if value == nil {
		return ""
	}
	var text string
	_ = json.Unmarshal(value.Value, &text)
	return text
}
