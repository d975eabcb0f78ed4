// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/test/pushservice"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// place is a Service on a store with one phone, and a push service on the loopback.
type place struct {
	t     *testing.T
	dir   string
	store store.Store
	keys  *seal.Keys
	push  *pushservice.Started
	*Service

	mu      sync.Mutex
	offset  time.Duration
	log     bytes.Buffer
	counted map[push.Outcome]int
}

// Write takes the log.
func (p *place) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *place) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *place) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.offset)
}

func (p *place) later(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset += d
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// done is closed when a test has waited long enough.
func (p *place) done() <-chan struct{} {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p.t.Cleanup(cancel)
	return ctx.Done()
}

// blank is an empty store: to make one takes seconds under the race detector.
var blank = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "webpush")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "v.db")
	db, err := sqlite.Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newPlace(t *testing.T, change func(*Config)) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir(), push: pushservice.Start(t), counted: map[push.Outcome]int{}}
	empty, err := blank()
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.dir, "v.db"), empty, 0o600))
	db, err := sqlite.Open(t.Context(), filepath.Join(p.dir, "v.db"))
	p.must(err)
	t.Cleanup(func() { p.must(db.Close()) })
	p.store = db
	p.keys, err = seal.Create(filepath.Join(p.dir, "keys"), rand.Reader)
	p.must(err)
	p.must(db.Update(t.Context(), func(w store.Writer) error { return w.AddPhone(p.phone()) }))
	p.Service = p.another(change)
	return p
}

// phone is activated in generation 3.
func (p *place) phone() store.Phone {
	return store.Phone{ID: "DP1", PublicKey: "KEY", Generation: 3, Name: "phone", Type: "mobile"}
}

// another is another Service on the same store.
func (p *place) another(change func(*Config)) *Service {
	p.t.Helper()
	c := Config{
		Store: p.store, Keys: p.keys, Now: p.clock, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(p, nil)),
		Base: &url.URL{Scheme: "https", Host: "verifier.example:8443"},
		Settings: config.WebPush{
			Enabled: true, CAFile: p.push.CAFile, AllowNetworks: []string{"127.0.0.0/8"}, AllowPorts: []int{p.push.Port},
		},
		Observe: func(o push.Outcome, _ time.Duration) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.counted[o]++
		},
	}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	p.must(err)
	// A machine that is busy must not look like a push service that is slow.
	s.first, s.attemptTime, s.budget = time.Millisecond, patience, patience
	s.client.Transport.(*http.Transport).TLSHandshakeTimeout = patience
	p.t.Cleanup(s.Close)
	return s
}

// subscribe makes a user agent and names it to the Service.
func (p *place) subscribe() *pushservice.UserAgent {
	p.t.Helper()
	key, err := p.PublicKey(p.t.Context())
	p.must(err)
	ua, err := p.push.Subscribe(key)
	p.must(err)
	p.must(p.Subscribe(p.t.Context(), p.phone(), Subscription{ua.Endpoint, ua.P256dh, ua.Auth}))
	return ua
}

func (p *place) kept() (sub store.PushSubscription, err error) {
	err = p.store.View(p.t.Context(), func(r store.Reader) (err error) { sub, err = r.PushSubscription("DP1"); return err })
	return sub, err
}

func (p *place) notify(want push.Outcome) error {
	p.t.Helper()
	outcome, err := p.Notify(p.t.Context(), "DP1")
	if outcome != want || (err != nil) != (want == push.Failed) {
		p.t.Fatalf("notify: %s, %v; want %s\n%s", outcome, err, want, p.logged())
	}
	return err
}

// A message goes to the push service as the RFCs say, and its user agent opens it.
func TestNotify(t *testing.T) {
	p := newPlace(t, func(c *Config) { c.Settings.Subject = "mailto:ops@example.org" })
	if outcome, err := p.Notify(t.Context(), "DP1"); outcome != push.Unsubscribed || err != nil {
		t.Fatalf("without a subscription: %s, %v", outcome, err)
	}
	ua := p.subscribe()
	p.notify(push.Taken)
	m, plain, err := ua.Receive(p.done())
	p.must(err)
	if string(plain) != `{"v":1,"t":"login"}` || m.Urgency != "high" || m.Topic != "login" || m.TTL != time.Minute || m.Subject != "mailto:ops@example.org" {
		t.Errorf("%s %+v", plain, m)
	}
	outcome, detail, err := p.Test(t.Context(), p.phone())
	if outcome != push.Taken || detail != "" || err != nil {
		t.Fatalf("test: %s %q, %v", outcome, detail, err)
	}
	second, plain, err := ua.Receive(p.done())
	p.must(err)
	if string(plain) != `{"v":1,"t":"test"}` || len(second.Body) != len(m.Body) {
		t.Errorf("%s, %d bytes and %d", plain, len(second.Body), len(m.Body))
	}
	for _, r := range p.push.Requests() {
		for name := range r.Header {
			switch name {
			case "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Length", "Content-Type", "Topic", "Ttl", "Urgency":
			case "User-Agent":
				if r.Header.Get(name) != "sallyport" {
					t.Errorf("%s: %s", name, r.Header.Get(name))
				}
			default:
				t.Errorf("header %s", name)
			}
		}
	}
	for _, secret := range []string{strings.TrimPrefix(ua.Endpoint, "https://127.0.0.1"), ua.Auth, ua.P256dh} {
		if _, path, _ := strings.Cut(secret, "/push/"); path != "" {
			secret = path
		}
		if strings.Contains(p.logged(), secret) {
			t.Errorf("the log tells %s:\n%s", secret, p.logged())
		}
	}
	if p.counted[push.Taken] != 2 || p.counted[push.Unsubscribed] != 1 {
		t.Errorf("counted %v", p.counted)
	}
}

// What nobody has fetched is replaced, and ends with the request that it is about.
func TestTopicAndTTL(t *testing.T) {
	p := newPlace(t, nil)
	ua := p.subscribe()
	now := p.clock()
	add := func(id string, in time.Duration) {
		p.must(p.store.Update(t.Context(), func(w store.Writer) error {
			return w.AddTransaction(store.Transaction{
				TxID: id, UserID: "DU1", IntegrationKey: "DI1", Factor: "push", PhoneID: "DP1", Generation: 3, State: store.TxPending,
				Created: now, Expires: now.Add(in), Context: []byte("{}"), Event: []byte("{}"),
			})
		}))
	}
	p.notify(push.Taken)
	add("T1", 5*time.Minute)
	add("T2", 2*time.Minute)
	p.notify(push.Taken)
	if n := ua.Waiting(); n != 1 {
		t.Errorf("%d messages wait", n)
	}
	m, _, err := ua.Receive(p.done())
	p.must(err)
	// The clock runs on between the reading of it here and there.
	if m.TTL > 5*time.Minute+time.Second || m.TTL < 5*time.Minute-patience {
		t.Errorf("TTL %s", m.TTL)
	}
	if got := lifetime([]store.Transaction{{Expires: now.Add(time.Hour)}}, now); got != maxTTL {
		t.Errorf("TTL %s for a request of an hour", got)
	}
	if got := lifetime([]store.Transaction{{Expires: now.Add(1500 * time.Millisecond)}}, now); got != 2*time.Second {
		t.Errorf("TTL %s for a request of 1.5 s", got)
	}
}

// Each answer of a push service has its outcome, and only some are asked again.
func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		script   []pushservice.Answer
		want     push.Outcome
		requests int
		says     string
		kept     bool
	}{
		"201":             {nil, push.Taken, 1, "", true},
		"202":             {[]pushservice.Answer{{Status: 202}}, push.Taken, 1, "", true},
		"200":             {[]pushservice.Answer{{Status: 200}}, push.Taken, 1, "", true},
		"404":             {[]pushservice.Answer{{Status: 404}}, push.Gone, 1, "", false},
		"410":             {[]pushservice.Answer{{Status: 410}}, push.Gone, 1, "", false},
		"400":             {[]pushservice.Answer{{Status: 400, Body: "BadWebPushTopic"}}, push.Failed, 1, "BadWebPushTopic", true},
		"401":             {[]pushservice.Answer{{Status: 401}}, push.Failed, 1, "refuses this verifier", true},
		"403":             {[]pushservice.Answer{{Status: 403}}, push.Failed, 1, "another key", true},
		"413":             {[]pushservice.Answer{{Status: 413}}, push.Failed, 1, "too large", true},
		"redirect":        {[]pushservice.Answer{{Status: 307, Location: "/elsewhere"}}, push.Failed, 1, "redirects", true},
		"429 once":        {[]pushservice.Answer{{Status: 429, RetryAfter: "1"}}, push.Taken, 2, "", true},
		"429 for long":    {[]pushservice.Answer{{Status: 429, RetryAfter: "3600"}}, push.Failed, 1, "too many", true},
		"429 untold":      {[]pushservice.Answer{{Status: 429}}, push.Taken, 2, "", true},
		"503 once":        {[]pushservice.Answer{{Status: 503, RetryAfter: "0"}}, push.Taken, 2, "", true},
		"503 for long":    {[]pushservice.Answer{{Status: 503, RetryAfter: "3600"}}, push.Failed, 1, "503", true},
		"500 for ever":    {[]pushservice.Answer{{Status: 500}, {Status: 502}, {Status: 503}, {Status: 504}}, push.Failed, 4, "504", true},
		"500 then gone":   {[]pushservice.Answer{{Status: 500}, {Status: 410}}, push.Gone, 2, "", false},
		"broken once":     {[]pushservice.Answer{{Close: true}}, push.Taken, 2, "", true},
		"broken for ever": {[]pushservice.Answer{{Close: true}, {Close: true}, {Close: true}, {Close: true}}, push.Failed, 4, "reach the push service", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, nil)
			ua := p.subscribe()
			p.push.Script(c.script...)
			err := p.notify(c.want)
			if got := len(p.push.Requests()); got != c.requests {
				t.Errorf("%d requests, want %d", got, c.requests)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "/push/")) {
				t.Errorf("error %v", err)
			}
			if _, err := p.kept(); (err == nil) != c.kept {
				t.Errorf("subscription: %v, want it kept: %v", err, c.kept)
			}
			if _, path, _ := strings.Cut(ua.Endpoint, "/push/"); strings.Contains(p.logged(), path) {
				t.Errorf("the log tells the endpoint:\n%s", p.logged())
			}
		})
	}
}

// The push service refuses a subscription that was made with another key.
func TestAnotherKey(t *testing.T) {
	p := newPlace(t, nil)
	other := newPlace(t, nil)
	key, err := other.PublicKey(t.Context())
	p.must(err)
	ua, err := p.push.Subscribe(key)
	p.must(err)
	p.must(p.Subscribe(t.Context(), p.phone(), Subscription{ua.Endpoint, ua.P256dh, ua.Auth}))
	if err := p.notify(push.Failed); !strings.Contains(err.Error(), "made with another key") {
		t.Error(err)
	}
}

// One that has subscribed again meanwhile keeps the new subscription.
func TestGoneDeletesOnlyWhatWasAsked(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	answer := make(chan struct{})
	p.push.Script(pushservice.Answer{Status: 410, Until: answer})
	outcome := make(chan push.Outcome, 1)
	go func() {
		o, _ := p.Notify(t.Context(), "DP1")
		outcome <- o
	}()
	_, err := p.push.AwaitRequests(1, p.done())
	p.must(err)
	again := p.subscribe()
	close(answer)
	if o := <-outcome; o != push.Gone {
		t.Fatalf("outcome %s", o)
	}
	p.notify(push.Taken)
	if again.Waiting() != 1 {
		t.Error("the new subscription got nothing")
	}
}

// Many requests for one phone at once are one message, for two phones two.
func TestOneInFlight(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	answer := make(chan struct{})
	p.push.Script(pushservice.Answer{Status: 201, Until: answer})
	const callers = 20
	outcomes := make(chan push.Outcome, callers)
	for range callers {
		go func() {
			o, _ := p.Notify(t.Context(), "DP1")
			outcomes <- o
		}()
	}
	_, err := p.push.AwaitRequests(1, p.done())
	p.must(err)
	// One whose patience ends leaves the message to the others.
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if o, err := p.Notify(short, "DP1"); o != push.Failed || !errors.Is(err, context.Canceled) {
		t.Errorf("out of patience: %s, %v", o, err)
	}
	close(answer)
	for range callers {
		if o := <-outcomes; o != push.Taken {
			t.Errorf("outcome %s", o)
		}
	}
	// Callers that came when the message had been taken already had another sent, one after the other.
	for _, r := range p.push.Requests() {
		if r.Status != 201 {
			t.Errorf("%+v", r)
		}
	}
}

// A push service that asks for silence gets it, for a bounded time.
func TestSilence(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	p.push.Script(pushservice.Answer{Status: 429, RetryAfter: "86400"})
	p.notify(push.Failed)
	if err := p.notify(push.Failed); !strings.Contains(err.Error(), "silence until") {
		t.Errorf("%v", err)
	}
	if n := len(p.push.Requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	p.later(maxPause + time.Second)
	p.notify(push.Taken)
	// Another subscription is not silent.
	p.push.Script(pushservice.Answer{Status: 429, RetryAfter: p.clock().Add(time.Hour).UTC().Format(http.TimeFormat)})
	p.notify(push.Failed)
	p.subscribe()
	p.notify(push.Taken)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "Sun, 01 Mar 2026 12:00:09 GMT": 9 * time.Second, "Sun, 01 Mar 2026 11:00:00 GMT": 0,
		"soon": time.Second, "-1": time.Second, "99999999999999999999": time.Second,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Nothing is sent to where nothing may go, whatever name leads there.
func TestDialedAddress(t *testing.T) {
	p := newPlace(t, nil)
	ua := p.subscribe()
	strict := p.another(func(c *Config) {
		c.Settings.AllowNetworks, c.Settings.AllowHosts = nil, []string{"localhost", "127.0.0.1"}
	})
	local := strings.Replace(ua.Endpoint, "127.0.0.1", "localhost", 1)
	p.must(strict.Subscribe(t.Context(), p.phone(), Subscription{local, ua.P256dh, ua.Auth}))
	if o, err := strict.Notify(t.Context(), "DP1"); o != push.Failed || !errors.Is(err, errAddress) {
		t.Errorf("%s, %v", o, err)
	}
	if o, detail, err := strict.Test(t.Context(), p.phone()); o != push.Failed || err != nil || detail != "the push service could not be reached" {
		t.Errorf("the phone learns %q (%s, %v)", detail, o, err)
	}
	// What was kept when the settings were wider is not used either.
	p.must(p.Subscribe(t.Context(), p.phone(), Subscription{ua.Endpoint, ua.P256dh, ua.Auth}))
	if o, err := strict.Notify(t.Context(), "DP1"); o != push.Failed || err == nil {
		t.Errorf("%s, %v", o, err)
	}
	if n := len(p.push.Requests()); n != 0 {
		t.Errorf("%d requests came", n)
	}
}

// A push service whose certificate nobody vouches for is not trusted.
func TestUntrusted(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	o, err := p.another(func(c *Config) { c.Settings.CAFile = "" }).Notify(t.Context(), "DP1")
	if o != push.Failed || err == nil || len(p.push.Requests()) != 0 {
		t.Errorf("%s, %v, %d requests", o, err, len(p.push.Requests()))
	}
}

// Only a proxy that the settings name is used.
func TestProxy(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	if p.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the environment may name a proxy")
	}
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer proxy.Close()
	through := p.another(func(c *Config) { c.Settings.ProxyURL = proxy.URL })
	if o, err := through.Notify(t.Context(), "DP1"); o != push.Failed || err == nil {
		t.Errorf("%s, %v", o, err)
	}
	if got, want := <-asked, fmt.Sprintf("CONNECT 127.0.0.1:%d", p.push.Port); got != want {
		t.Errorf("the proxy was asked for %q, want %q", got, want)
	}
	if n := len(p.push.Requests()); n != 0 {
		t.Errorf("%d requests came", n)
	}
}

// A push service that never answers holds nobody up for long, nor the end of the verifier.
func TestClose(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	p.push.Script(pushservice.Answer{Hang: true})
	outcome := make(chan push.Outcome, 1)
	go func() {
		o, _ := p.Notify(context.Background(), "DP1")
		outcome <- o
	}()
	_, err := p.push.AwaitRequests(1, p.done())
	p.must(err)
	p.Close()
	if o := <-outcome; o != push.Failed {
		t.Errorf("outcome %s", o)
	}
	if err := p.notify(push.Failed); !strings.Contains(err.Error(), "stops") {
		t.Error(err)
	}
}

// A push service that never answers has had its time: after one attempt, and after all.
func TestSlow(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	for _, c := range []struct {
		attempt, budget time.Duration
		script          []pushservice.Answer
		want            string
	}{
		{10 * time.Millisecond, patience, []pushservice.Answer{{Hang: true}, {Hang: true}, {Hang: true}, {Hang: true}}, "no answer within 10ms"},
		{patience, 20 * time.Millisecond, []pushservice.Answer{{Hang: true}}, ""}, // it may be over before the request is made,
	} {
		slow := p.another(nil)
		if _, err := slow.PublicKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		slow.attemptTime, slow.budget = c.attempt, c.budget
		p.push.Script(c.script...)
		if o, err := slow.Notify(t.Context(), "DP1"); o != push.Failed || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %v, want %q", o, err, c.want)
		}
	}
}

// All verifiers on one store have one key, for ever, whoever comes first.
func TestOneKey(t *testing.T) {
	p := newPlace(t, nil)
	const services = 8
	keys := make(chan string, services)
	for range services {
		s := p.another(nil)
		go func() {
			key, err := s.PublicKey(t.Context())
			if err != nil {
				t.Error(err)
			}
			keys <- key
		}()
	}
	first := <-keys
	for range services - 1 {
		if key := <-keys; key != first || len(key) != 87 {
			t.Errorf("keys %q and %q", first, key)
		}
	}
	// Another seal key does not open it, and no other is made in its place.
	var err error
	own := p.keys
	p.keys, err = seal.Create(filepath.Join(p.dir, "other"), rand.Reader)
	p.must(err)
	if key, err := p.another(nil).PublicKey(t.Context()); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("key %q, %v", key, err)
	}
	p.keys = own
	if key, err := p.another(nil).PublicKey(t.Context()); key != first || err != nil {
		t.Errorf("key %q, %v; want %q", key, err, first)
	}
}

// A token serves for hours, one for each push service, and is renewed long before its end.
func TestTokens(t *testing.T) {
	p := newPlace(t, nil)
	v, err := p.vapid(t.Context())
	p.must(err)
	token := func(origin string) string {
		t.Helper()
		text, err := v.authorization(origin)
		p.must(err)
		return text
	}
	first := token("https://a.example")
	if token("https://a.example") != first || token("https://b.example") == first {
		t.Error("tokens are not one for each push service")
	}
	p.later(tokenReuse - time.Minute)
	if token("https://a.example") != first {
		t.Error("not used again")
	}
	p.later(2 * time.Minute)
	second := token("https://a.example")
	if second == first {
		t.Error("not renewed")
	}
	p.later(-24 * time.Hour) // the clock was wrong, and is set right
	if token("https://a.example") == second {
		t.Error("a token from the future is used")
	}
	for i := range 2 * maxOrigins {
		token(fmt.Sprintf("https://%d.example", i))
	}
	if n := v.tokens.Len(); n != maxOrigins {
		t.Errorf("%d tokens are kept", n)
	}
}

// What is sealed opens for its phone and generation alone.
func TestSealed(t *testing.T) {
	p := newPlace(t, nil)
	ua := p.subscribe()
	sub, err := p.kept()
	p.must(err)
	for _, secret := range []string{ua.Endpoint, ua.Auth, ua.P256dh} {
		if bytes.Contains(sub.Sealed, []byte(secret)) {
			t.Errorf("the store tells %s", secret)
		}
	}
	p.must(p.store.Update(t.Context(), func(w store.Writer) error {
		other := p.phone()
		other.ID = "DP2"
		if err := w.AddPhone(other); err != nil {
			return err
		}
		sub.PhoneID = "DP2"
		_, err := w.SetPushSubscription(sub)
		return err
	}))
	if o, err := p.Notify(t.Context(), "DP2"); o != push.Failed || !errors.Is(err, seal.ErrOpen) {
		t.Errorf("another phone's subscription: %s, %v", o, err)
	}
	if n := len(p.push.Requests()); n != 0 {
		t.Errorf("%d requests came", n)
	}
}

// Who has lost the phone's key meanwhile cannot subscribe any more.
func TestSubscribeTooLate(t *testing.T) {
	p := newPlace(t, nil)
	ua := p.subscribe()
	p.must(p.store.Update(t.Context(), func(w store.Writer) error { return w.DeactivatePhone("DP1") }))
	err := p.Subscribe(t.Context(), p.phone(), Subscription{ua.Endpoint, ua.P256dh, ua.Auth})
	var refused *duoapi.Error
	if !errors.As(err, &refused) || refused.Code != duoapi.CodeForbidden {
		t.Errorf("%v", err)
	}
	p.notify(push.Unsubscribed)
}

// A broken store is a failure, not a missing subscription.
func TestStoreFails(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	broken := p.another(func(c *Config) { c.Store = failing{p.store} })
	if o, err := broken.Notify(t.Context(), "DP1"); o != push.Failed || !errors.Is(err, errDisk) {
		t.Errorf("%s, %v", o, err)
	}
	if key, err := broken.PublicKey(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("key %q, %v", key, err)
	}
}

// A bug ends a message, not the verifier.
func TestPanic(t *testing.T) {
	p := newPlace(t, nil)
	p.subscribe()
	broken := p.another(func(c *Config) { c.Random = panicking{} })
	o, err := broken.Notify(t.Context(), "DP1")
	if o != push.Failed || err == nil || strings.Contains(err.Error(), "goroutine") || !strings.Contains(p.logged(), "panicking.Read") {
		t.Errorf("%s, %v\n%s", o, err, p.logged())
	}
	p.notify(push.Taken)
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("a bug") }

var errDisk = errors.New("disk I/O error")

type failing struct{ store.Store }

func (failing) View(context.Context, func(store.Reader) error) error { return errDisk }

// The dialer's check is asked for every attempt, after the name was resolved.
func TestDialerChecks(t *testing.T) {
	transport, err := newTransport(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		conn, err := transport.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", host, port))
		if !errors.Is(err, errAddress) {
			t.Errorf("%s: %v, %v", host, conn, err)
		}
	}
}
