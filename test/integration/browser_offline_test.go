// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// With the verifier cut off, the app is closed and opened again without a network, and
// shows the offline code by which its host lets the person in. Before that: a request
// that nobody answers expires.
func TestAppOffline(t *testing.T) {
	t.Parallel()
	s, err := newSiteOf(t.Context(), plan{url: webURL, aliases: []string{webName}})
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	s.setAuthdConfig(t, strings.Replace(s.authdConfig(t)+impatience, `fail_mode = "secure"`, `fail_mode = "offline"`, 1))
	p := s.person(t, "appoffline")
	token := p.hotp(t)
	w := p.webPhone(t)

	s.admin(t, nil, "settings", "set", "push_timeout=10")
	s.push(t, s.application(t, "short"), p.name, url.Values{"type": {"SSH login"}})
	w.asked()
	w.tab.Hear("Expired")

	p.online(t, token, 10)
	w.tab.Follow("Codes")
	w.tab.Find("button", "Show next code")
	w.tab.Run(`navigator.serviceWorker.ready.then(() => true)`, nil)

	w.browser.Close()
	w.network.Cut()
	s.cut(t)
	w.start()
	w.tab.Go(webURL + "/app/#codes")
	w.tab.Press("Show next code")
	shown := regexp.MustCompile(`\b\d{3,4}[ \x{2009}\x{202f}\x{a0}]?\d{3,4}\b`)
	var code string
	w.tab.Await("a code", func() bool {
		_, after, _ := strings.Cut(w.tab.Text(), "Offline codes of hosts")
		code = strings.Join(regexp.MustCompile(`\d`).FindAllString(shown.FindString(after), -1), "")
		return code != ""
	})
	v := p.ssh(t, s.client, "22")
	v.expect(asksOffline)
	v.types(code)
	v.comesIn()
	must(t, s.verifier.Connect(context.WithoutCancel(t.Context())))
}

// A time-based token that the app was given by its link makes the codes that a login
// takes, with the app opened anew and without a network, too.
func TestAppTOTP(t *testing.T) {
	t.Parallel()
	p := webTown(t).person(t, "apptotp")
	w := p.webPhone(t)
	w.addsToken(p.token(t, "totp").URI)
	w.tab.See(p.name)
	code := w.totp("")
	v := p.ssh(t, p.site.client, "22")
	v.answers(code)
	v.comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "valid_passcode"})

	w.tab.Run(`navigator.serviceWorker.ready.then(() => true)`, nil)
	w.browser.Close()
	w.network.Cut()
	w.start()
	w.tab.Go(webURL + "/app/#codes")
	v = p.ssh(t, p.site.client, "22")
	v.answers(w.totp(code)) // a code is taken once
	v.comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "valid_passcode"})
}

// addsToken gives the app a time-based token by its otpauth:// link.
func (w *webPhone) addsToken(link string) {
	w.t.Helper()
	w.tab.Go(webURL + "/app/#add-code")
	w.tab.Fill("Link", link)
	w.tab.Press("Add by link")
	w.tab.Hear("Added")
}

// totp is the code of the app's token, once it is another one than used.
func (w *webPhone) totp(used string) (code string) {
	w.t.Helper()
	w.tab.Await("a code", func() bool {
		err := w.tab.TryRun(`(document.querySelector('[data-totp] [data-code]')?.textContent ?? '').replace(/\D/g, '')`, &code)
		return err == nil && len(code) == 6 && code != used
	})
	return code
}

// Names that a stranger chose are shown as text: no markup, no script, nothing that
// turns the reading direction.
func TestAppShowsTextAsText(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	const markup = `<img src=x onerror="window.ran=1"><b>bold</b>`
	p := &person{site: s, name: `<i>mallory</i>`}
	s.admin(t, nil, "user", "add", p.name)
	w := p.webPhone(t)
	app := s.application(t, `App <script>window.ran=1</script>`)
	s.push(t, app, p.name, url.Values{
		"type": {markup}, "hostname": {"host" + markup}, "display_username": {"\u202egnirts" + markup},
		"pushinfo": {url.Values{"from" + markup: {"\u2066x" + markup}}.Encode()},
	})
	w.asked()
	for _, text := range []string{"<b>bold</b>", "<script>window.ran=1</script>"} {
		w.tab.See(text)
	}
	var made bool
	w.tab.Run(`document.querySelector('main img, main b, main i, main script') !== null || window.ran !== undefined`, &made)
	if made {
		t.Error("what strangers chose became a part of the page")
	}
	if strings.ContainsAny(w.tab.Text(), "\u202e\u2066") {
		t.Error("a character that turns the reading direction reaches the page")
	}
}
