// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
)

// watch collects what a page logs as an error. It is called on the goroutine that
// reads the browser's messages.
func (b *Browser) watch(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.report("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == "error" || e.Type == "assert" {
			var words []string
			for _, arg := range e.Args {
				words = append(words, string(arg.Value)+arg.Description)
			}
			b.report("console." + string(e.Type) + ": " + strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && !b.expected(e.Entry) {
			b.report(fmt.Sprintf("%s error: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

// expected reports whether an error of the network is part of the day: an answer of
// the API that says no, the icon that a text without one makes the browser ask for, or
// anything at all where the network has been cut.
func (b *Browser) expected(entry *log.Entry) bool {
	if entry.Source != log.EntrySourceNetwork {
		return false
	}
	u, err := url.Parse(entry.URL)
	return err == nil && (strings.HasPrefix(u.Path, "/sallyport/v1/") || u.Path == "/favicon.ico") || b.network.disturbed()
}

// chromiumsOwn reports whether an authority belongs to Chromium's maker, whose
// services the browser asks for by itself.
func chromiumsOwn(authority string) bool {
	host, _, _ := strings.Cut(authority, ":")
	for _, domain := range []string{"google.com", "googleapis.com", "gstatic.com", "gvt1.com"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}
