// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"io"
	"mime/quotedprintable"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// outbox is where the verifier of the browser tests puts its mails.
const outbox = "/var/lib/sallyport/outbox"

const mailConfig = `
[mail]
from = "sallyport@verifier.example"
outbox_dir = "` + outbox + `"
`

var enrollmentLink = regexp.MustCompile(`https://\S+/enroll/#se1\.\S+`)

// mails are the texts of the mails to an address, as far as they have been sent.
func (s *site) mails(t *testing.T, address string) string {
	t.Helper()
	out, err := s.verifier.Shell(t.Context(), "grep -l 'To:.*"+address+"' "+outbox+"/*.eml 2>/dev/null | xargs -r cat || true")
	must(t, err)
	text, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(out)))
	if err != nil {
		return out
	}
	return string(text)
}

// Somebody is enrolled by the link in a mail: phone and passcodes, recovery codes,
// and a login with one of these. The link is used up then.
func TestEnrolment(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	camera := newPhotographer(t)
	p := s.stranger(t, "robin")
	address := p.name + "@people.example"
	s.admin(t, nil, "user", "enroll", p.name, "--email", address, "--send")
	var link string
	eventually(t, "the mail with the link", func() bool {
		link = enrollmentLink.FindString(s.mails(t, address))
		return link != ""
	})

	w := s.newWebPhone(t, p, "phone of "+p.name)
	tab := w.tab
	tab.Go(link)
	tab.See("Your link is ready")
	if strings.Contains(tab.URL(), "se1") {
		t.Errorf("the secret of the link stays in the address: %s", tab.URL())
	}
	audit(t, tab, "enrolment begins")
	camera.takes(tab, "enroll-start")
	tab.Press("Begin")
	tab.See("Add a second factor")
	audit(t, tab, "enrolment")
	camera.takes(tab, "enroll-setup")

	// Nothing in the browser but a cookie that no script reads and no other site sends.
	var cookies string
	tab.Run(`document.cookie`, &cookies)
	if cookies != "" {
		t.Errorf("scripts can read %q", cookies)
	}

	tab.Press("Set up passcodes")
	tab.See("Type the code that it shows")
	audit(t, tab, "passcodes")
	camera.takes(tab, "enroll-totp")
	secret := regexp.MustCompile(`\b(?:[A-Z2-7]{4} ?){6,}`).FindString(tab.Text())
	tab.Fill("Code", totpNow(t, strings.ReplaceAll(strings.TrimSpace(secret), " ", "")))
	tab.Press("Confirm")
	tab.See("Passcodes are set up")

	tab.Press("Add my phone")
	tab.See("Scan this code with your phone")
	audit(t, tab, "phone")
	camera.takes(tab, "enroll-phone")
	var activation string
	tab.Run(`document.querySelector('a[href*="/sallyport/activate"]').href`, &activation)
	app := *w
	app.tab = w.browser.Tab()
	app.activate(activation)
	tab.See("Your phone is set up")
	tab.Press("Next: recovery codes")
	tab.See("Keep your recovery codes")
	audit(t, tab, "recovery codes")
	camera.takes(tab, "enroll-codes")
	codes := regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{4}(?:-[0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{4}){3}\b`).FindAllString(tab.Text(), -1)
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes: %q", len(codes), codes)
	}
	tab.Click("checkbox", "I have kept my recovery codes")
	tab.Press("Finish")
	tab.See("You are set up")
	audit(t, tab, "enrolled")
	camera.takes(tab, "enroll-done")

	v := p.ssh(t, s.client, "22")
	v.answers(codes[0])
	v.comesIn()
	v = p.ssh(t, s.client, "22")
	v.answers(codes[0])
	v.isTurnedDown()

	second := s.newWebPhone(t, p, "another")
	second.browser.Forgive("server responded with a status of")
	second.tab.Go(link)
	second.tab.Press("Begin")
	second.tab.See("This link cannot be used")
	eventually(t, "a mail that says what happened", func() bool {
		return strings.Count(s.mails(t, address), "Subject:") >= 2
	})
}

// A guessed link opens nothing, whoever asks; what begins an enrolment comes from the
// verifier's own page; its cookie is the browser's secret.
func TestEnrolmentAttacked(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	client := s.httpClient(t)
	begin := func(link string, change func(*http.Request)) *http.Response {
		t.Helper()
		response, _ := ask(t, client, http.MethodPost, webURL+"/enroll/begin", func(r *http.Request) {
			body := url.Values{"link": {link}}.Encode()
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			if change != nil {
				change(r)
			}
		})
		return response
	}
	for _, guess := range []string{"", "se1.", "se1." + strings.Repeat("A", 32) + ".", webURL + "/enroll/#se1." + strings.Repeat("B", 32) + "."} {
		response := begin(guess, nil)
		if response.StatusCode < 400 || len(response.Header.Values("Set-Cookie")) > 0 {
			t.Errorf("the guess %q: status %d, cookies %q", guess, response.StatusCode, response.Header.Values("Set-Cookie"))
		}
	}

	p := s.stranger(t, "attacked")
	address := p.name + "@people.example"
	s.admin(t, nil, "user", "enroll", p.name, "--email", address, "--send")
	var link string
	eventually(t, "the mail with the link", func() bool {
		link = enrollmentLink.FindString(s.mails(t, address))
		return link != ""
	})
	for _, from := range []http.Header{{"Origin": {"https://evil.example"}}, {"Sec-Fetch-Site": {"cross-site"}}} {
		response := begin(link, func(r *http.Request) {
			for name, values := range from {
				r.Header[name] = values
			}
			if r.Header.Get("Origin") != "" {
				r.Header.Del("Sec-Fetch-Site")
			}
		})
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("a form from %v: status %d, want 403", from, response.StatusCode)
		}
	}
	// Looking at the page, as what scans mails does, spends nothing.
	for range 3 {
		ask(t, client, http.MethodGet, webURL+"/enroll/", nil)
	}
	response := begin(link, nil)
	cookies := response.Cookies()
	if len(cookies) != 1 {
		t.Fatalf("begun with status %d and cookies %v", response.StatusCode, cookies)
	}
	c := cookies[0]
	if !strings.HasPrefix(c.Name, "__Host-") || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie is %s", c.Raw)
	}
	if again := begin(link, nil); again.StatusCode < 400 || len(again.Cookies()) > 0 {
		t.Errorf("the link works twice: status %d", again.StatusCode)
	}
}
