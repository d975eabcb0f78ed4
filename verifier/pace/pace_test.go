// SPDX-License-Identifier: Apache-2.0

package pace

import (
	"strconv"
	"testing"
	"time"
)

func TestTake(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := New(time.Minute, 3)
	take := func(key string, want ...bool) {
		t.Helper()
		for i, w := range want {
			if got := p.Take(key, now); got != w {
				t.Errorf("%s, %d: %v", key, i+1, got)
			}
		}
	}
	take("a", true, true, true, false, false)
	take("b", true)
	now = now.Add(time.Minute)
	take("a", true, false)
}

// Many others do not make one forgotten that goes on.
func TestTakeAmongMany(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := New(time.Hour, 1)
	if !p.Take("busy", now) {
		t.Fatal("refused at once")
	}
	for i := range 3 * keys {
		p.Take(strconv.Itoa(i), now)
		if i%100 == 0 && p.Take("busy", now) {
			t.Fatalf("its count starts anew after %d others", i)
		}
	}
	if n := p.limiters.Len(); n != keys {
		t.Errorf("%d are remembered", n)
	}
}
