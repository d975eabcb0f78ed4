// SPDX-License-Identifier: Apache-2.0

package sshkeys

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/sshkey"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"
	keyB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9VnmRW2oEu2QMtrSkGs9YxhSjD0GSVxt9Rqhcbzxih"
)

var hostKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

// verifier answers calls that a host signs.
type verifier struct {
	mu    sync.Mutex
	keys  map[string][]string
	err   error
	delay time.Duration
	asked []string
}

func (v *verifier) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

func (v *verifier) calls() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.asked)
}

func (v *verifier) Host(ctx context.Context, _ bool, call func(context.Context, *agentapi.Client) error) error {
	v.mu.Lock()
	err, delay := v.err, v.delay
	v.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return &upstream.Outage{Err: ctx.Err()}
		}
	}
	if err != nil {
		return err
	}
	base := &url.URL{Scheme: "https", Host: "verifier.example"}
	return call(ctx, &agentapi.Client{BaseURL: base, Key: hostKey, KeyID: "HO1", HTTP: &http.Client{Transport: v}, Now: time.Now})
}

func (v *verifier) RoundTrip(r *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	name := r.URL.Query().Get("username")
	v.asked = append(v.asked, name)
	status := http.StatusOK
	var body map[string]any
	if keys, ok := v.keys[name]; ok {
		body = map[string]any{"stat": "OK", "response": agentapi.SSHKeys{UserID: "DU1", Keys: keys}}
	} else {
		status, body = http.StatusNotFound, map[string]any{"stat": "FAIL", "code": duoapi.CodeNotFound, "message": "Resource not found"}
	}
	text, err := json.Marshal(body)
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, err
}

// in runs a test in a bubble, whose time is its own.
func in(t *testing.T, f func(t *testing.T, k *Keys, v *verifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, New(time.Now, slog.New(slog.DiscardHandler)), &verifier{keys: map[string][]string{"alice": {keyA, keyB}, "bob": {}}})
	})
}

func of(t *testing.T, k *Keys, v *verifier, name string, maxAge time.Duration) ([]string, error) {
	t.Helper()
	return k.Of(t.Context(), v, name, maxAge)
}

var away = &upstream.Outage{Err: errors.New("no answer")}

func TestKeysAreKeptForAMinute(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		for name, want := range map[string][]string{"alice": {keyA, keyB}, "bob": nil} {
			for range 3 {
				if got, err := of(t, k, v, name, 0); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			}
		}
		if _, err := of(t, k, v, "mallory", 0); !errors.Is(err, login.ErrNoPerson) {
			t.Errorf("nobody: %v", err)
		}
		if _, err := of(t, k, v, "mallory", 0); !errors.Is(err, login.ErrNoPerson) || v.calls() != 3 {
			t.Errorf("nobody again: %v, %d calls", err, v.calls())
		}
		v.set(func() { v.keys["alice"], v.keys["mallory"] = []string{keyB}, []string{keyA} })
		time.Sleep(fresh - time.Second)
		if got, _ := of(t, k, v, "alice", 0); len(got) != 2 || v.calls() != 3 {
			t.Errorf("before a minute is over: %q, %d calls", got, v.calls())
		}
		time.Sleep(time.Second)
		if got, err := of(t, k, v, "alice", 0); err != nil || !slices.Equal(got, []string{keyB}) {
			t.Errorf("after it: %q, %v", got, err)
		}
		if got, err := of(t, k, v, "mallory", 0); err != nil || !slices.Equal(got, []string{keyA}) {
			t.Errorf("a new person: %q, %v", got, err)
		}
		v.set(func() { delete(v.keys, "alice") })
		time.Sleep(fresh)
		if got, err := of(t, k, v, "alice", time.Hour); !errors.Is(err, login.ErrNoPerson) {
			t.Errorf("disabled: %q, %v", got, err)
		}
	})
}

func TestKeysWhileTheVerifierIsAway(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		if _, err := of(t, k, v, "alice", time.Hour); err != nil {
			t.Fatal(err)
		}
		v.set(func() { v.err = away })
		time.Sleep(59 * time.Minute)
		if got, err := of(t, k, v, "alice", time.Hour); err != nil || len(got) != 2 {
			t.Errorf("within keys_max_age: %q, %v", got, err)
		}
		if got, err := of(t, k, v, "alice", 30*time.Minute); !errors.As(err, new(*upstream.Outage)) {
			t.Errorf("beyond a shorter one: %q, %v", got, err)
		}
		if got, err := of(t, k, v, "bob", time.Hour); !errors.As(err, new(*upstream.Outage)) {
			t.Errorf("never known: %q, %v", got, err)
		}
		time.Sleep(time.Minute)
		if got, err := of(t, k, v, "alice", time.Hour); err == nil {
			t.Errorf("beyond it: %q", got)
		}
		v.set(func() { v.err = nil })
		if got, err := of(t, k, v, "alice", 0); err != nil || len(got) != 2 {
			t.Errorf("back: %q, %v", got, err)
		}
	})
}

// A host that is revoked, and a person who is gone, have nothing left to go on with
// when the verifier cannot be reached afterwards.
func TestAttackStaleKeysAfterARefusal(t *testing.T) {
	for name, refuse := range map[string]func(v *verifier){
		"host revoked":    func(v *verifier) { v.err = duoapi.NewError(duoapi.CodeInvalidProof, "") },
		"host forbidden":  func(v *verifier) { v.err = duoapi.NewError(duoapi.CodeForbidden, "") },
		"person disabled": func(v *verifier) { delete(v.keys, "alice") },
	} {
		in(t, func(t *testing.T, k *Keys, v *verifier) {
			if _, err := of(t, k, v, "alice", time.Hour); err != nil {
				t.Fatal(err)
			}
			time.Sleep(fresh)
			v.set(func() { refuse(v) })
			if got, err := of(t, k, v, "alice", time.Hour); err == nil {
				t.Errorf("%s: %q", name, got)
			}
			v.set(func() { v.err = away })
			time.Sleep(fresh)
			if got, err := of(t, k, v, "alice", time.Hour); err == nil {
				t.Errorf("%s, and then away: %q", name, got)
			}
		})
	}
}

// A verifier that is busy, or whose store is away, has not taken anything back; but
// its answer is none.
func TestBusyVerifier(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		if _, err := of(t, k, v, "alice", time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(fresh)
		for _, code := range []int{duoapi.CodeTooManyRequests, duoapi.CodeCannotDecide} {
			v.set(func() { v.err = duoapi.NewError(code, "") })
			if got, err := of(t, k, v, "alice", time.Hour); err == nil {
				t.Errorf("%d: %q", code, got)
			}
		}
		v.set(func() { v.err = away })
		if got, err := of(t, k, v, "alice", time.Hour); err != nil || len(got) != 2 {
			t.Errorf("away: %q, %v", got, err)
		}
	})
}

// Names are the choice of strangers: they are bounded, and those of nobody do not
// push out the keys of people.
func TestAttackManyNames(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		if _, err := of(t, k, v, "alice", 0); err != nil {
			t.Fatal(err)
		}
		for i := range maxPeople + 100 {
			if _, err := of(t, k, v, fmt.Sprintf("nobody%d", i), 0); !errors.Is(err, login.ErrNoPerson) {
				t.Fatal(err)
			}
		}
		if n := k.nobody.order.Len(); n != maxPeople || len(k.nobody.byName) != n {
			t.Errorf("%d names of nobody, %d", n, len(k.nobody.byName))
		}
		calls := v.calls()
		if got, err := of(t, k, v, "alice", 0); err != nil || len(got) != 2 || v.calls() != calls {
			t.Errorf("alice: %q, %v", got, err)
		}
		v.set(func() {
			for i := range maxPeople + 1 {
				v.keys[fmt.Sprintf("person%d", i)] = []string{keyA}
			}
		})
		for i := range maxPeople + 1 {
			if _, err := of(t, k, v, fmt.Sprintf("person%d", i), 0); err != nil {
				t.Fatal(err)
			}
		}
		if n := k.people.order.Len(); n != maxPeople || len(k.people.byName) != n || len(k.underWay) != 0 {
			t.Errorf("%d people, %d, %d under way", n, len(k.people.byName), len(k.underWay))
		}
	})
}

// Many who ask for one name at once are one question; who hangs up leaves it to the
// others.
func TestOneQuestionForMany(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		v.delay = 2 * time.Second
		gone, hangUp := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if got, err := k.Of(gone, v, "alice", 0); !errors.Is(err, login.ErrPeerGone) {
				t.Errorf("who hung up: %q, %v", got, err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if got, err := of(t, k, v, "alice", 0); err != nil || len(got) != 2 {
					t.Errorf("%q, %v", got, err)
				}
			})
		}
		time.Sleep(time.Second)
		hangUp(login.ErrPeerGone)
		wg.Wait()
		if v.calls() != 1 {
			t.Errorf("%d calls", v.calls())
		}
	})
}

// A verifier that never answers holds nobody for longer than their own wait, and
// does not stay under way for ever.
func TestVerifierNeverAnswers(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		v.delay = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		begun := time.Now()
		if got, err := k.Of(ctx, v, "alice", time.Hour); err == nil || time.Since(begun) != 8*time.Second {
			t.Errorf("%q, %v after %s", got, err, time.Since(begun))
		}
		time.Sleep(callTimeout)
		synctest.Wait()
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.underWay) != 0 {
			t.Error("the call is under way still")
		}
	})
}

// What is no key that may stand for a person goes to no gateway, whoever says it.
func TestAttackVerifierTellsOtherKeys(t *testing.T) {
	in(t, func(t *testing.T, k *Keys, v *verifier) {
		many := make([]string, sshkey.MaxKeys+5)
		for i := range many {
			many[i] = keyA
		}
		v.keys["alice"] = []string{"ssh-dss AAAA", `command="x" ` + keyA, keyB + " comment", keyA + "\n" + keyB, "", "cert-authority " + keyA, keyA + "\x1b[2J", strings.Repeat("x", 9000)}
		v.keys["bob"] = many
		if got, err := of(t, k, v, "alice", 0); err != nil || !slices.Equal(got, []string{keyB}) {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := of(t, k, v, "bob", 0); err != nil || len(got) != sshkey.MaxKeys {
			t.Errorf("%d keys, %v", len(got), err)
		}
	})
}

func TestWithoutHostKey(t *testing.T) {
	k := New(time.Now, slog.New(slog.DiscardHandler))
	if _, err := k.Of(t.Context(), nil, "alice", time.Hour); !errors.Is(err, upstream.ErrNoHostKey) {
		t.Error(err)
	}
}

// A clock that was set back makes no answer younger.
func TestClockSetBack(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	k := New(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	v := &verifier{keys: map[string][]string{"alice": {keyA}}}
	if _, err := of(t, k, v, "alice", time.Hour); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	v.set(func() { v.err = away })
	if got, err := of(t, k, v, "alice", time.Hour); err == nil {
		t.Errorf("%q", got)
	}
}
