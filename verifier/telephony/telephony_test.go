// SPDX-License-Identifier: Apache-2.0

package telephony

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/login"
)

const testSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func provider(t *testing.T, hook string, change func(*config.Telephony)) *Provider {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Telephony{
		URL: hook, SecretFile: file, ApproveKey: "#", FraudKey: "*", Attempts: 3, Timeout: config.Duration{Duration: 5 * time.Second},
	}
	if change != nil {
		change(&c)
	}
	base, _ := url.Parse("https://verifier.example:8443")
	p, err := New(c, base, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	p.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return p
}

// receiver is the provider's end: it checks signatures and answers with the statuses in turn.
type receiver struct {
	mu       sync.Mutex
	statuses []int
	orders   []order
	ids      []string
	bad      error
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(req.Body)
	hook, err := Key(testSecret)
	if err == nil {
		err = hook.Verify(body, req.Header)
	}
	var o order
	r.bad = errors.Join(r.bad, err, json.Unmarshal(body, &o))
	r.orders = append(r.orders, o)
	r.ids = append(r.ids, req.Header.Get("webhook-id"))
	status := http.StatusOK
	if len(r.statuses) > 0 {
		status, r.statuses = r.statuses[0], r.statuses[1:]
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

func TestCallAndSMS(t *testing.T) {
	r := &receiver{}
	srv := httptest.NewServer(r)
	defer srv.Close()
	p := provider(t, srv.URL, nil)
	if err := p.Call(t.Context(), login.Call{TxID: "tx1", Number: "+15551234567", Extension: "12", Username: "alice"}); err != nil {
		t.Fatal(err)
	}
	if err := p.SMS(t.Context(), login.SMS{ID: "sms1", Number: "+15551234567", Text: "code 123456"}); err != nil {
		t.Fatal(err)
	}
	if r.bad != nil {
		t.Fatal(r.bad)
	}
	const callback = "https://verifier.example:8443/sallyport/v1/telephony/callback"
	call := r.orders[0]
	if call.Type != "call" || call.ID != "call_tx1" || call.TxID != "tx1" || call.Extension != "12" ||
		call.ApproveKey != "#" || call.FraudKey != "*" || call.CallbackURL != callback || !strings.Contains(call.Text, "alice") {
		t.Errorf("call %+v", call)
	}
	if sms := r.orders[1]; sms.Type != "sms" || sms.ID != "sms1" || sms.Text != "code 123456" || sms.CallbackURL != callback {
		t.Errorf("sms %+v", sms)
	}
}

func TestTries(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []int
		tries    int
		ok       bool
		refused  bool // surely nothing was done
	}{
		"good at once":                 {nil, 1, true, false},
		"good after trouble":           {[]int{500, 429}, 3, true, false},
		"trouble to the end":           {[]int{503, 503, 503, 503}, 3, false, false},
		"a refusal is final":           {[]int{400}, 1, false, true},
		"a redirect is no yes":         {[]int{302}, 1, false, false},
		"too much to the end":          {[]int{429, 429, 429}, 3, false, true},
		"a refusal after who knows":    {[]int{502, 400}, 2, false, false},
		"a refusal, once there's room": {[]int{429, 403}, 2, false, true},
	} {
		r := &receiver{statuses: c.statuses}
		srv := httptest.NewServer(r)
		err := provider(t, srv.URL, nil).SMS(t.Context(), login.SMS{ID: "x", Number: "+15551234567"})
		srv.Close()
		if (err == nil) != c.ok || len(r.orders) != c.tries {
			t.Errorf("%s: %d tries, %v", name, len(r.orders), err)
		}
		if errors.Is(err, login.ErrRefused) != c.refused {
			t.Errorf("%s: a refusal: %v", name, err)
		}
		for _, id := range r.ids {
			if id != r.ids[0] {
				t.Errorf("%s: the tries bear different ids %q", name, r.ids)
			}
		}
	}
}

func TestProviderAway(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	if err := provider(t, srv.URL, nil).Call(t.Context(), login.Call{TxID: "x"}); err == nil || errors.Is(err, login.ErrRefused) {
		t.Errorf("a call without a provider: %v", err)
	}
}

// signed are the headers of a callback.
func signed(t *testing.T, secret string, at time.Time, body string) http.Header {
	t.Helper()
	hook, err := Key(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := hook.Sign("msg_1", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{
		"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)}, "Webhook-Signature": {sig},
	}
}

func TestVerify(t *testing.T) {
	p := provider(t, "http://127.0.0.1:1", nil)
	const body = `{"id":"call_tx1"}`
	other := "whsec_" + strings.Repeat("QUJD", 10)
	if err := p.Verify(signed(t, testSecret, time.Now(), body), []byte(body)); err != nil {
		t.Errorf("a genuine callback: %v", err)
	}
	moved := signed(t, testSecret, time.Now().Add(-time.Hour), body)
	moved.Set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	for name, h := range map[string]http.Header{
		"another secret": signed(t, other, time.Now(), body),
		"another body":   signed(t, testSecret, time.Now(), body+" "),
		"an hour ago":    signed(t, testSecret, time.Now().Add(-time.Hour), body),
		"in an hour":     signed(t, testSecret, time.Now().Add(time.Hour), body),
		"time moved":     moved,
		"no headers":     {},
	} {
		if err := p.Verify(h, []byte(body)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestKeyRefusesWeakSecrets(t *testing.T) {
	for _, s := range []string{"", "whsec_", "whsec_QUJD", "whsec_!!!", strings.Repeat("*", 60)} {
		if _, err := Key(s); err == nil {
			t.Errorf("secret %q is taken", s)
		}
	}
}

func TestKeyMeaning(t *testing.T) {
	p := provider(t, "http://127.0.0.1:1", nil)
	for pressed, want := range map[string]string{"#": login.KeyApprove, "*": login.KeyFraud, "1": "", "9": "", "": ""} {
		if got := p.Key(pressed); got != want {
			t.Errorf("key %q means %q, want %q", pressed, got, want)
		}
	}
}
