// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/browser"
	"github.com/sallyport-mfa/sallyport/test/integration/harness"
	"github.com/sallyport-mfa/sallyport/test/pushservice"
	"github.com/sallyport-mfa/sallyport/test/pushservice/gcm"
)

// Where the push service's machine keeps what others need of it.
const (
	pushRoot = "/etc/push-ca.pem"
	pushSPKI = "/etc/push-spki"
)

// pushTown is a site with a push service, in the place of the browser maker's.
type pushTown struct {
	*site
	push *harness.Container
	spki string
	tell pushservice.Client
}

// newPushTown founds one: the verifier knows the push service by the names of the
// real one.
func newPushTown(t *testing.T) *pushTown {
	t.Helper()
	ctx := t.Context()
	s, err := newSiteOf(context.Background(), plan{url: webURL, aliases: []string{webName}})
	must(t, err)
	t.Cleanup(func() { _ = s.close() })
	s.keepLogs(t)
	town := &pushTown{site: s}
	town.push, err = s.lab.Start(ctx, "push", harness.Options{Aliases: gcm.Senders()})
	must(t, err)
	must(t, install(ctx, town.push, []string{"drv"}))
	must(t, town.push.Daemon(ctx, "pushservice", harness.Command{Args: []string{
		"drv", "pushservice", "-names", "push", "-ca", pushRoot, "-spki", pushSPKI,
	}}))
	must(t, town.push.AwaitFile(ctx, pushSPKI))
	town.spki, err = town.push.Read(ctx, pushSPKI)
	must(t, err)
	root, err := town.push.Read(ctx, pushRoot)
	must(t, err)
	address, err := town.push.IP(ctx)
	must(t, err)
	must(t, s.verifier.Put(ctx, harness.File{Path: verifierData + "/push-ca.pem", Mode: 0o644, Data: []byte(root)}))
	_, err = s.verifier.Shell(ctx, fmt.Sprintf("printf '[web_push]\\nca_file = \"push-ca.pem\"\\nallow_networks = [\"%s/32\"]\\n' >>%s/verifier.toml",
		address, verifierData))
	must(t, err)
	must(t, s.verifier.Signal(ctx, "verifier", "KILL"))
	must(t, s.runVerifier(ctx))

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(root)) {
		t.Fatal("the push service has no certificate")
	}
	town.tell = pushservice.Client{URL: "https://push", HTTP: &http.Client{Transport: &http.Transport{
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return town.dialPush(t, "8080")() },
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}}
	return town
}

// dialPush opens connections to a port of the push service's machine.
func (town *pushTown) dialPush(t *testing.T, port string) browser.Dial {
	t.Helper()
	address, err := town.push.IP(context.Background())
	must(t, err)
	return func() (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 20*time.Second)
		if err != nil {
			return town.push.Dial("127.0.0.1", port)
		}
		return conn, nil
	}
}

// browser starts one whose maker's push service is the site's.
func (town *pushTown) browser(t *testing.T) *browser.Browser {
	t.Helper()
	network, err := browser.NewOpenNetwork(map[string]browser.Dial{webName + ":8443": town.dialVerifier(t)})
	must(t, err)
	t.Cleanup(func() { _ = network.Close() })
	flags := map[string]any{"disable-background-networking": false}
	for name, value := range gcm.Switches("push:8080", "push:5228", town.spki) {
		flags[name] = value
	}
	for _, port := range []string{"8080", "5228"} {
		network.Route("push:"+port, town.dialPush(t, port))
	}
	b := browser.Start(t, browser.Options{CA: town.ca(t), Network: network, Flags: flags})
	b.Allow(webURL, "notifications")
	return b
}

// sent waits until the push service has had n requests of the verifier, and
// returns the status of the last one.
func (town *pushTown) sent(t *testing.T, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := town.tell.Requests(ctx, n)
	must(t, err)
	return got[n-1].Status
}

const (
	// notification is what the app's worker shows, as a text; empty: nothing.
	notification = `navigator.serviceWorker.getRegistration('/app/')
		.then((registration) => registration.getNotifications())
		.then((shown) => shown.map((one) => one.title + ': ' + one.body).join())`
	dismiss = `navigator.serviceWorker.getRegistration('/app/')
		.then((registration) => registration.getNotifications())
		.then((shown) => shown.forEach((one) => one.close()))`
)

// A person whose app is closed is notified by the browser's push service, opens the
// app, and approves. A login that the push service does not take, for whatever reason,
// says so at once and takes another factor. Who has the app open needs no push service.
//
// It runs beside no other test; see [browser.NewOpenNetwork].
func TestWebPush(t *testing.T) {
	town := newPushTown(t)
	p := town.person(t, "webpush")
	token := p.hotp(t)
	var phone struct {
		PhoneID string `json:"phone_id"`
	}
	town.admin(t, &phone, "phone", "add", "--user", p.name, "--name", "phone of "+p.name)
	var activation struct {
		URL string `json:"activation_url"`
	}
	town.admin(t, &activation, "phone", "activate", phone.PhoneID)

	b := town.browser(t)
	tab := b.Tab()
	tab.Go(activation.URL)
	tab.Press("Activate")
	tab.Hear("This device is ready")
	tab.Go(webURL + "/app/#settings")
	tab.Press("Turn on notifications")
	tab.See("Notifications are on for this device")
	tab.Press("Send a test")
	tab.See("It should appear in a moment")
	if status := town.sent(t, 1); status != http.StatusCreated {
		t.Fatalf("the push service answered the test message with %d", status)
	}
	shows := func(want string) {
		t.Helper()
		var text string
		tab.Await("the notification "+want, func() bool { return tab.TryRun(notification, &text) == nil && text == want })
	}
	shows("Notifications work: ")

	tab.Go(webURL + "/healthz") // the app is closed
	tab.Run(dismiss, nil)
	shows("")
	v := p.ssh(t, town.client, "22")
	digits := v.asksForPush()
	shows("Login request: Open Sallyport to answer")
	if status := town.sent(t, 2); status != http.StatusCreated {
		t.Errorf("the push service answered with %d", status)
	}
	tab.Go(webURL + "/app/")
	tab.Fill("Digits shown at the login", digits)
	tab.Press("Approve")
	tab.Hear("Approved")
	v.types("")
	v.comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "user_approved"})

	asked := 2 // requests that the push service has had
	for _, c := range []struct {
		name   string
		script []pushservice.Answer
	}{
		{"refused", []pushservice.Answer{{Status: http.StatusBadRequest}}},
		{"not known", []pushservice.Answer{{Status: http.StatusNotFound}}},
		{"gone", []pushservice.Answer{{Status: http.StatusGone}}},
		{"broken", []pushservice.Answer{{Status: http.StatusBadGateway}, {Status: http.StatusServiceUnavailable, RetryAfter: "3600"}}},
		{"slow", []pushservice.Answer{{Hang: true}, {Status: http.StatusInsufficientStorage, RetryAfter: "3600"}}},
		{"busy", []pushservice.Answer{{Status: http.StatusTooManyRequests, RetryAfter: "3600"}}},
	} {
		town.renews(t, tab)
		must(t, town.tell.Script(t.Context(), c.script...))
		if atOnce := p.hearsOfFailure(t, token); !atOnce && len(c.script) == 1 {
			t.Errorf("%s: the login said so only after Enter", c.name)
		}
		asked += len(c.script)
		if status, want := town.sent(t, asked), c.script[len(c.script)-1].Status; status != want {
			t.Errorf("%s: the push service answered with %d, not %d", c.name, status, want)
		}
	}
	// A push service that wants silence has it.
	if atOnce := p.hearsOfFailure(t, token); !atOnce {
		t.Error("in silence: the login said so only after Enter")
	}
	if all, err := town.tell.Requests(t.Context(), asked); err != nil || len(all) != asked {
		t.Errorf("the push service had %d requests, not %d: %v", len(all), asked, err)
	}

	// What it takes after a pause is delivered.
	town.renews(t, tab)
	must(t, town.tell.Script(t.Context(), pushservice.Answer{Status: http.StatusTooManyRequests, RetryAfter: "1"}))
	v = p.ssh(t, town.client, "22")
	v.asksForPush()
	shows("Login request: Open Sallyport to answer")
	if status := town.sent(t, asked+2); status != http.StatusCreated {
		t.Errorf("after the pause the push service answered with %d", status)
	}
	v.types(token.next())
	v.comesIn()

	// Without a push service, the app that is closed is not reached, and the one that is
	// open is.
	must(t, town.push.Signal(t.Context(), "pushservice", "KILL"))
	p.hearsOfFailure(t, token)
	tab.Go(webURL + "/app/")
	tab.AwaitTrue("the app's connection", `document.getElementById('connection')?.dataset.connection === 'stream'`)
	v = p.ssh(t, town.client, "22")
	tab.Fill("Digits shown at the login", v.asksForPush())
	tab.Press("Approve")
	tab.Hear("Approved")
	v.types("")
	v.comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "user_approved"})
}

// renews opens the app, which makes good a subscription that has ended, and closes it.
func (town *pushTown) renews(t *testing.T, tab *browser.Tab) {
	t.Helper()
	subscribed := func() int {
		log, err := town.verifier.Log(t.Context(), "verifier")
		must(t, err)
		return strings.Count(log, "an authenticator has subscribed to Web Push")
	}
	before := subscribed()
	tab.Go(webURL + "/app/")
	tab.Await("the subscription of the app", func() bool { return subscribed() > before })
	tab.Run(dismiss, nil)
	tab.Go(webURL + "/healthz")
}

// hearsOfFailure chooses push at a login, reads that the request could not be
// delivered, and comes in with a passcode. Where the verifier tries for longer than a
// login waits to hear of it, the person reads it after Enter, and not at once.
func (p *person) hearsOfFailure(t *testing.T, token *codes) (atOnce bool) {
	t.Helper()
	const failed = `(?s)could not be sent to your device.*` + asksFactor
	v := p.ssh(t, p.site.client, "22")
	v.expect(asksFactor)
	v.types("push")
	if atOnce = v.expect(failed + `|` + asksDigits)[1] == ""; !atOnce {
		v.types("")
		v.expect(failed)
	}
	v.types(token.next())
	v.comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "valid_passcode"})
	return atOnce
}
