// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// nobody is a store without integrations.
type nobody struct {
	store.Store
	store.Reader
}

func (n nobody) View(_ context.Context, f func(store.Reader) error) error { return f(n) }

func (nobody) Integration(string) (store.Integration, error) {
	return store.Integration{}, store.ErrNotFound
}

func TestStrangersDoNotFloodTheLog(t *testing.T) {
	var log bytes.Buffer
	g := New(Config{Store: nobody{}, Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	h := g.Signed(Route{})
	for range 2 * refusalsPerMinute {
		r := httptest.NewRequest("GET", "/auth/v2/check", nil)
		r.SetBasicAuth(strings.Repeat("K", 10_000), "00")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 401 && w.Code != 429 {
			t.Fatalf("status %d", w.Code)
		}
	}
	// A minute may have ended meanwhile.
	if most := 2 * refusalsPerMinute * 512; log.Len() == 0 || log.Len() > most {
		t.Errorf("%d bytes of log, at most %d expected", log.Len(), most)
	}
}
