// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// fakeVerifier answers an authenticator's calls for login requests.
type fakeVerifier struct {
	stream  http.HandlerFunc
	waiting http.HandlerFunc // a long poll
	now     http.HandlerFunc // a poll that does not wait

	mu    sync.Mutex
	calls []string // "stream", "wait", "now" in their order
}

func (f *fakeVerifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, handler := "now", f.now
	switch {
	case strings.HasSuffix(r.URL.Path, "/stream"):
		name, handler = "stream", f.stream
	case r.URL.Query().Get("wait") != "":
		name, handler = "wait", f.waiting
	}
	f.mu.Lock()
	f.calls = append(f.calls, name)
	f.mu.Unlock()
	handler(w, r)
}

func (f *fakeVerifier) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func list(ids ...string) string {
	out := agentapi.Transactions{Transactions: []agentapi.Transaction{}}
	for _, id := range ids {
		out.Transactions = append(out.Transactions, agentapi.Transaction{TxID: id})
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func answers(ids ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"stat":"OK","response":%s}`, list(ids...))
	}
}

func refuses(status, code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"stat":"FAIL","code":%d,"message":"no"}`, code)
	}
}

// streams sends events and breaks off.
func streams(events ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", agentapi.StreamType)
		for _, e := range events {
			fmt.Fprint(w, e)
		}
	}
}

// away is what stands in the verifier's place while it is not there. (A connection
// that breaks would have the HTTP client try again by itself.)
var away = refuses(http.StatusServiceUnavailable, 50301)

func breaksOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func event(ids ...string) string {
	return "event: transactions\ndata: " + list(ids...) + "\n\n"
}

func ends(reason string) string { return "event: end\ndata: {\"reason\":\"" + reason + "\"}\n\n" }

// fed is a feed on a clock of its own, whose pauses take no time.
type fed struct {
	*feed
	verifier *fakeVerifier
	stop     context.CancelFunc
	ctx      context.Context

	mu     sync.Mutex
	clock  time.Time
	pauses []time.Duration
	notes  []string
	lists  []string
}

func newFed(t *testing.T, v *fakeVerifier) *fed {
	t.Helper()
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fed{verifier: v, clock: time.Unix(1_800_000_000, 0)}
	f.ctx, f.stop = context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(f.stop)
	now := func() time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.clock
	}
	f.feed = &feed{
		account: authenticator.Account{AuthenticatorID: "DPA", Username: "alice", URL: "https://v.example"},
		client:  &agentapi.Client{BaseURL: base, Key: key, KeyID: "DPA", HTTP: agentapi.HTTPClient(nil, time.Minute), Now: now},
		now:     now,
		note:    func(format string, args ...any) { f.notes = append(f.notes, fmt.Sprintf(format, args...)) },
		each: func(list []agentapi.Transaction) {
			ids := []string{}
			for _, tx := range list {
				ids = append(ids, tx.TxID)
			}
			f.lists = append(f.lists, strings.Join(ids, ","))
		},
		wait: func(_ context.Context, d time.Duration) {
			f.pauses = append(f.pauses, d)
			f.pass(d)
		},
	}
	return f
}

// pass lets time go by on the feed's clock.
func (f *fed) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = f.clock.Add(d)
}

// until stops the feed in the n-th call that handler gets.
func (f *fed) until(n int, handler http.HandlerFunc) http.HandlerFunc {
	calls := 0
	return func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == n {
			f.stop()
			breaksOff(w, r)
		}
		handler(w, r)
	}
}

func (f *fed) mustEnd(t *testing.T) {
	t.Helper()
	if err := f.run(f.ctx); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(f.ctx.Err(), context.Canceled) {
		t.Fatalf("calls %v, notes %q: %v", f.verifier.called(), f.notes, f.ctx.Err())
	}
}

func (f *fed) wantCalls(t *testing.T, want ...string) {
	t.Helper()
	if got := f.verifier.called(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

// A stream that the verifier renews is opened again at once.
func TestFeedByStream(t *testing.T) {
	v := &fakeVerifier{now: answers("A"), stream: streams(event("A"), event("A", "B"), ": \n\n", event(), ends("renew"))}
	f := newFed(t, v)
	v.stream = f.until(3, v.stream)
	f.mustEnd(t)
	f.wantCalls(t, "now", "stream", "now", "stream", "now", "stream")
	if want := []string{"A", "A", "A,B", "", "A", "A", "A,B", "", "A"}; !slices.Equal(f.lists, want) {
		t.Errorf("lists %q, want %q", f.lists, want)
	}
	if len(f.notes) != 0 || len(f.pauses) != 0 {
		t.Errorf("notes %q, pauses %v", f.notes, f.pauses)
	}
}

// A verifier that knows no stream, or has given it to others, is polled.
func TestFeedByLongPoll(t *testing.T) {
	for name, stream := range map[string]http.HandlerFunc{
		"an earlier release": refuses(http.StatusNotFound, duoapi.CodeNotFound),
		"not of ours":        func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"replaced":           streams(event(), ends("replaced")),
	} {
		t.Run(name, func(t *testing.T) {
			v := &fakeVerifier{now: answers(), stream: stream, waiting: answers("A")}
			f := newFed(t, v)
			v.waiting = f.until(3, v.waiting)
			f.mustEnd(t)
			f.wantCalls(t, "now", "stream", "now", "wait", "wait", "wait")
			if len(f.notes) != 0 || len(f.pauses) != 0 {
				t.Errorf("notes %q, pauses %v", f.notes, f.pauses)
			}
		})
	}
}

// What breaks off again and again while the verifier can be reached is given up for
// the next way, and tried again later.
func TestFeedStepsDown(t *testing.T) {
	v := &fakeVerifier{now: answers(), stream: streams(event()), waiting: away}
	f := newFed(t, v)
	v.stream = f.until(soonBreaks+1, v.stream)
	f.mustEnd(t)
	var want []string
	for range soonBreaks {
		want = append(want, "now", "stream")
	}
	for range soonBreaks {
		want = append(want, "now", "wait")
	}
	got := f.verifier.called()
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Fatalf("calls %v, want %v first", got, want)
	}
	short := got[len(want) : len(got)-1]
	if n := int(retryBetter / shortPollEvery); len(short) < n || slices.Contains(short, "wait") || got[len(got)-1] != "stream" {
		t.Errorf("then %d calls %v; want at least %d short polls and the stream again", len(short), short, n)
	}
	if len(f.notes) != 0 {
		t.Errorf("notes %q: the verifier could be reached all the time", f.notes)
	}
}

// A stream that lasted is opened again, however often it breaks off.
func TestFeedKeepsAStreamThatLasts(t *testing.T) {
	v := &fakeVerifier{now: answers()}
	f := newFed(t, v)
	v.stream = f.until(3*soonBreaks, func(w http.ResponseWriter, r *http.Request) {
		f.pass(soon)
		streams(event())(w, r)
	})
	f.mustEnd(t)
	if got := f.verifier.called(); slices.Contains(got, "wait") {
		t.Errorf("calls %v", got)
	}
}

// An outage is said once, waited out with growing pauses, and its end is said.
func TestFeedWaitsOutAnOutage(t *testing.T) {
	v := &fakeVerifier{}
	f := newFed(t, v)
	tries := 0
	v.now = func(w http.ResponseWriter, r *http.Request) {
		switch tries++; {
		case tries == 5:
			w.Header().Set("Retry-After", "100")
			refuses(http.StatusTooManyRequests, 42901)(w, r)
		case tries < 10:
			away(w, r)
		default:
			answers()(w, r)
		}
	}
	v.stream = f.until(1, breaksOff)
	f.mustEnd(t)
	if len(f.notes) != 2 || !strings.HasPrefix(f.notes[0], "lost the connection to https://v.example: ") ||
		!strings.HasPrefix(f.notes[1], "connected to https://v.example again, after ") {
		t.Errorf("notes %q", f.notes)
	}
	if len(f.pauses) != 9 || f.pauses[4] != 100*time.Second {
		t.Fatalf("pauses %v", f.pauses)
	}
	for i, d := range f.pauses {
		base := min(firstPause<<i, longPause)
		if i != 4 && (d < base/2 || d > base*3/2) {
			t.Errorf("pause %d is %s, want %s, give or take half", i, d, base)
		}
	}
}

// A refusal ends the feed and says what to do.
func TestFeedRefused(t *testing.T) {
	v := &fakeVerifier{now: refuses(http.StatusUnauthorized, duoapi.CodeInvalidProof)}
	f := newFed(t, v)
	if err := f.run(f.ctx); err == nil || !strings.Contains(err.Error(), "was removed or activated elsewhere") {
		t.Errorf("%v", err)
	}
	v = &fakeVerifier{now: answers(), stream: streams(ends("removed"))}
	f = newFed(t, v)
	v.now = func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(v.called(), "stream") {
			refuses(http.StatusUnauthorized, duoapi.CodeInvalidProof)(w, r)
			return
		}
		answers()(w, r)
	}
	if err := f.run(f.ctx); err == nil || !strings.Contains(err.Error(), "was removed or activated elsewhere") {
		t.Errorf("%v", err)
	}
	f.wantCalls(t, "now", "stream", "now")
}

// The inbox shows each request once, and none that is over.
func TestInbox(t *testing.T) {
	tx := func(id string) agentapi.Transaction {
		return agentapi.Transaction{TxID: id, Context: fmt.Sprintf(`{"v":1,"txid":%q}`, id)}
	}
	alice, bob := authenticator.Account{AuthenticatorID: "DPA"}, authenticator.Account{AuthenticatorID: "DPB"}
	b := newInbox()
	update := func(a authenticator.Account, txs ...agentapi.Transaction) {
		t.Helper()
		if bad := b.update(a, nil, txs); bad != nil {
			t.Fatal(bad)
		}
	}
	update(alice, tx("1"), tx("2"), tx("3"))
	update(bob, tx("4"))
	update(alice, tx("1"), tx("3"), tx("5"))
	one, ok := b.next()
	if !ok || one.TxID != "1" {
		t.Fatalf("%+v", one)
	}
	update(alice, tx("1"), tx("5"))
	select {
	case <-one.gone:
		t.Error("an open request is gone")
	default:
	}
	update(alice)
	<-one.gone
	r, ok := b.next()
	if !ok || r.TxID != "4" || r.AuthenticatorID != "DPB" {
		t.Fatalf("%+v", r)
	}
	if r, ok := b.next(); ok {
		t.Errorf("%+v", r)
	}
	// What cannot be shown is said once and never shown.
	wrong := tx("6")
	wrong.Context = `{"v":1,"txid":"7"}`
	if bad := b.update(alice, nil, []agentapi.Transaction{wrong, tx("8")}); len(bad) != 1 {
		t.Errorf("%v", bad)
	}
	update(alice, wrong, tx("8"))
	if r, ok := b.next(); !ok || r.TxID != "8" {
		t.Errorf("%+v", r)
	}
	if r, ok := b.next(); ok {
		t.Errorf("%+v", r)
	}
}
