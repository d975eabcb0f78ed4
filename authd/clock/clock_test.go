// SPDX-License-Identifier: Apache-2.0

package clock_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
)

func TestSince(t *testing.T) {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(boot string, wall, up time.Duration) clock.Clock {
		return clock.Clock{Now: func() time.Time { return begun.Add(wall) }, Boot: func() (string, time.Duration) { return boot, up }}
	}
	then := at("a", 0, time.Hour).Stamp()
	for name, tc := range map[string]struct {
		now  clock.Clock
		want time.Duration
		ok   bool
	}{
		"clocks agree":                 {at("a", time.Minute, time.Hour+time.Minute), time.Minute, true},
		"set back":                     {at("a", -24*time.Hour, time.Hour+time.Minute), time.Minute, true},
		"set forward":                  {at("a", time.Hour, time.Hour+time.Minute), time.Hour, true},
		"boot time backwards":          {at("a", time.Minute, time.Minute), 0, false},
		"rebooted":                     {at("b", 5*time.Minute, time.Minute), 5 * time.Minute, true},
		"rebooted, set back a little":  {at("b", time.Second, time.Minute), time.Minute, true},
		"rebooted, set back before it": {at("b", -time.Second, time.Minute), 0, false},
	} {
		if got, ok := tc.now.Since(then); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, ok, tc.want, tc.ok)
		}
	}
	if _, ok := at("a", 0, 0).Since(clock.Stamp{}); ok {
		t.Error("no moment is some time ago")
	}
}

func TestSystem(t *testing.T) {
	c := clock.System()
	s := c.Stamp()
	if s.Boot == "" || s.Up <= 0 {
		t.Fatalf("stamp %+v", s)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back clock.Stamp
	if err := json.Unmarshal(text, &back); err != nil || back != s {
		t.Errorf("%s read as %+v, %v", text, back, err)
	}
	if d, ok := c.Since(back); !ok || d < 0 || d > time.Minute {
		t.Errorf("since now: %s, %v", d, ok)
	}
}
