// SPDX-License-Identifier: Apache-2.0

package login

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Many other authenticators do not make one's count start anew.
func TestRefusalsAmongMany(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).Truncate(time.Hour)
	var r refusals
	for i := range 3 * maxRefusers {
		r.take(strconv.Itoa(i), now)
		if i%100 == 0 {
			if n := r.take("busy", now); n != i/100+1 {
				t.Fatalf("after %d others it is the count's %d, want %d", i, n, i/100+1)
			}
		}
	}
	if n := r.counts.Len(); n != maxRefusers {
		t.Errorf("%d are remembered", n)
	}
	if n := r.take("busy", now.Add(time.Hour)); n != 1 {
		t.Errorf("in the next hour it is the %d", n)
	}
}

// What is not noted any more is said once an hour.
func TestRefusalsBeyondAreSummed(t *testing.T) {
	now := time.Unix(1_800_000_000, 0).Truncate(time.Hour)
	var lines strings.Builder
	s := &Service{Config: Config{Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&lines, nil))}}
	for range 2 {
		lines.Reset()
		for range refusalsPerHour {
			s.refused.take("DP1", now)
		}
		for range 100 { // nothing of these comes to the store, which is not there
			s.noteRefusal(t.Context(), "DP1", "TX1", "bad_signature")
		}
		if n := strings.Count(lines.String(), "\n"); n != 1 || !strings.Contains(lines.String(), "phone=DP1") {
			t.Errorf("%d lines: %s", n, lines.String())
		}
		now = now.Add(time.Hour)
	}
}
