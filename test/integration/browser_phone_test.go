// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/test/integration/browser"
)

// webPhone is a person's authenticator in a browser.
type webPhone struct {
	t       *testing.T
	p       *person
	name    string // of the device
	id      string // of the phone at the verifier
	dir     string // of the browser's profile
	network *browser.Network
	browser *browser.Browser
	tab     *browser.Tab
}

// activationLink makes a phone for a user and a link that activates it.
func (s *site) activationLink(t *testing.T, user, phone string) (link, id string) {
	t.Helper()
	var made struct {
		PhoneID string `json:"phone_id"`
	}
	s.admin(t, &made, "phone", "add", "--user", user, "--name", phone)
	var activation struct {
		URL string `json:"activation_url"`
	}
	s.admin(t, &activation, "phone", "activate", made.PhoneID)
	return activation.URL, made.PhoneID
}

// newWebPhone is a browser in somebody's hand that is no authenticator yet.
func (s *site) newWebPhone(t *testing.T, p *person, name string) *webPhone {
	t.Helper()
	phone := &webPhone{t: t, p: p, name: name, dir: browser.Dir(t), network: s.network(t)}
	phone.start()
	return phone
}

// start starts the browser, with what its profile holds.
func (w *webPhone) start() {
	w.t.Helper()
	w.browser = browser.Start(w.t, browser.Options{Dir: w.dir, CA: w.p.site.ca(w.t), Network: w.network})
	w.tab = w.browser.Tab()
}

// webPhone gives the person an authenticator in a browser: activated by the link
// that an administrator makes, and ready for requests.
func (p *person) webPhone(t *testing.T) *webPhone {
	t.Helper()
	w := p.site.newWebPhone(t, p, "phone of "+p.name)
	link, id := p.site.activationLink(t, p.name, w.name)
	w.id = id
	w.activate(link)
	w.tab.Follow("Go to requests")
	w.connected()
	return w
}

// activate opens an activation link and uses it.
func (w *webPhone) activate(link string) {
	w.t.Helper()
	w.tab.Go(link)
	w.tab.Fill("Name of this device", w.name)
	w.tab.Press("Activate")
	w.tab.Hear("This device is ready")
}

// connected waits until the app hears of requests: at once, or where the stream has
// broken off, by asking for them.
func (w *webPhone) connected() {
	w.t.Helper()
	w.tab.AwaitTrue("the app's connection", `['stream', 'polling'].includes(document.getElementById('connection')?.dataset.connection)`)
}

// approves types the digits and approves.
func (w *webPhone) approves(digits string) {
	w.t.Helper()
	w.tab.Fill("Digits shown at the login", digits)
	w.tab.Press("Approve")
}

// denies denies the request for this reason: "By mistake" or "It was not me".
func (w *webPhone) denies(reason string) {
	w.t.Helper()
	w.tab.Press("Deny")
	w.tab.Press(reason)
}

// asked waits for a request.
func (w *webPhone) asked() {
	w.t.Helper()
	w.tab.Find("button", "Approve")
}

// refusals are the reasons in the administrator log why answers of the person were
// refused.
func (p *person) refusals(t *testing.T) []string {
	t.Helper()
	var events []struct {
		Action      string `json:"action"`
		Object      string `json:"object"`
		Description string `json:"description"`
	}
	p.site.admin(t, &events, "log", "admin")
	var reasons []string
	for _, e := range events {
		if e.Action == "answer_refused" && e.Object == p.name {
			_, reason, _ := strings.Cut(e.Description, `"reason":"`)
			reason, _, _ = strings.Cut(reason, `"`)
			reasons = append(reasons, reason)
		}
	}
	return reasons
}

// approvals is how many login requests of the person an authenticator has approved.
func (p *person) approvals(t *testing.T) int {
	t.Helper()
	var events []struct {
		event
		Type string `json:"event_type"`
	}
	p.site.admin(t, &events, "log", "auth", "--user", p.name)
	approved := 0
	for _, e := range events {
		// That the authenticator was activated is in the log, too, as an approval.
		if e.Type == "authentication" && e.Result == "success" && e.Reason == "user_approved" {
			approved++
		}
	}
	return approved
}

// push has an application at the site ask a user's phone, with these parameters of the
// Auth API, and returns the digits that the application would show.
func (s *site) push(t *testing.T, i integration, user string, params url.Values) (digits string) {
	t.Helper()
	base, err := url.Parse(s.url)
	must(t, err)
	client := &duoapi.Client{BaseURL: base, IntegrationKey: i.Key, Secret: []byte(i.Secret), HTTP: s.httpClient(t), Now: time.Now, Nonce: duoapi.RandomNonce}
	known := url.Values{"username": {user}, "client_supports_verified_push": {"1"}}
	var pre duoapi.Preauth
	_, err = client.Call(t.Context(), "POST", "/auth/v2/preauth", known, &pre)
	must(t, err)
	asked := url.Values{"username": {user}, "factor": {"push"}, "device": {"auto"}, "async": {"1"}, "txid": {pre.TxID}}
	maps.Copy(asked, params)
	_, err = client.Call(t.Context(), "POST", "/auth/v2/auth", asked, nil)
	must(t, err)
	return pre.VerificationCode
}
