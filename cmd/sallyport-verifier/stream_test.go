// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const streamSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// receiver gathers the ids of authentication events in the order of their first coming.
type receiver struct {
	t    *testing.T
	down atomic.Bool
	mu   sync.Mutex
	ids  []string
	last int64
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if r.down.Load() || err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	check, err := standard.NewWebhook(streamSecret)
	if err != nil {
		r.t.Error(err)
		return
	}
	if err := check.Verify(body, req.Header); err != nil {
		r.t.Errorf("signature: %v", err)
	}
	var d struct {
		Data struct {
			Events []struct {
				Seq int64  `json:"seq"`
				Log string `json:"log"`
				ID  string `json:"id"`
			} `json:"events"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &d); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range d.Data.Events {
		if e.Seq > r.last+1 {
			r.t.Errorf("event %d after %d", e.Seq, r.last)
		}
		if e.Seq > r.last {
			r.last = e.Seq
			if e.Log == store.AuthenticationLog {
				r.ids = append(r.ids, e.ID)
			}
		}
	}
}

func (r *receiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// process runs the program itself on a data directory.
func process(t *testing.T, dir string) (r *running, kill func()) {
	t.Helper()
	r = &running{t: t, dir: dir, log: &output{}}
	cmd := exec.Command("sallyport-verifier", "serve", "--data", dir)
	cmd.Stderr = r.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(kill)
	address := regexp.MustCompile(`msg=serving .* listen=(\S+)`)
	r.await(func() bool {
		m := address.FindStringSubmatch(r.log.String())
		if m != nil {
			r.addr = m[1]
		}
		return m != nil
	})
	return r, kill
}

// TestStreamOutlivesKill: the verifier is killed while logins go on and the
// receiver comes and goes; every event in the log reaches it, in order.
func TestStreamOutlivesKill(t *testing.T) {
	tmp := t.TempDir()
	to := &receiver{t: t}
	server := httptest.NewServer(to)
	defer server.Close()
	dir := filepath.Join(tmp, "d")
	if err := datadir.Init(t.Context(), datadir.InitOptions{Dir: dir, URL: "https://127.0.0.1:8443", Listen: "127.0.0.1:0"}, time.Now); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hook.secret"), []byte(streamSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, config.FileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\n[streams.siem]\nurl = %q\nsecret_file = \"hook.secret\"\n", server.URL)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r, kill := process(t, dir)
	a := enrol(t, r)
	var acknowledged atomic.Int64
	for round := range 3 {
		to.down.Store(round == 1) // killed while the receiver is away
		ctx, cancel := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for range 3 {
			load.Go(func() {
				for ctx.Err() == nil {
					if ok, err := passcode(a.app, a.forever); err == nil && ok {
						acknowledged.Add(1)
					}
				}
			})
		}
		before := acknowledged.Load()
		r.await(func() bool { return acknowledged.Load() > before+15 })
		kill()
		cancel()
		load.Wait()
		r, kill = process(t, dir)
		a.app.BaseURL.Host = r.addr
	}
	to.down.Store(false)
	var want []string
	data, err := datadir.Open(t.Context(), dir, "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	err = data.Store.View(t.Context(), func(rd store.Reader) error {
		events, err := rd.Events(store.EventFilter{Limit: 1 << 20})
		for _, e := range events {
			want = append(want, e.TxID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(want)) < acknowledged.Load() {
		t.Fatalf("%d events in the log, %d logins were acknowledged", len(want), acknowledged.Load())
	}
	r.await(func() bool { return len(to.got()) >= len(want) })
	got := to.got()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d events at the receiver, %d in the log", len(got), len(want))
	}
}
