// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAttackStrangersTakeAllLookups: names of strangers, for which the name service takes
// its time, hold every place; what is asked about people who are in is answered.
func TestAttackStrangersTakeAllLookups(t *testing.T) {
	const slow = "case \"$3\" in stranger*) exec sleep 100;; esac\necho 'ops:*:500:alice'"
	strangers, people := fakeNSS(t, "", slow, ""), fakeNSS(t, "", slow, "")
	strangers.slots, people.slots = make(chan struct{}, maxLookups), make(chan struct{}, maxLookups)
	b := NewBrief(strangers, people, 20*time.Second, time.Minute, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for i := range 4 * maxLookups {
		go func() {
			_, _ = b.ByName(ctx, fmt.Sprint("stranger", i))
			ended <- struct{}{}
		}()
	}
	for len(strangers.slots) < maxLookups {
		time.Sleep(time.Millisecond)
	}
	in, err := b.InGroup(ctx, Account{Name: "alice"}, "ops")
	if err != nil || !in {
		t.Errorf("a group of somebody who is in: %v, %v", in, err)
	}
	cancel()
	for range 4 * maxLookups {
		<-ended
	}
}

// slowNames is a name service that answers for nobody, or not at all.
type slowNames struct {
	Directory
	hangs bool
	calls int
}

func (s *slowNames) ByName(ctx context.Context, _ string) (Account, error) {
	s.calls++
	if s.hangs {
		<-ctx.Done()
		return Account{}, context.Cause(ctx)
	}
	return Account{}, ErrNoSuchUser
}

func TestBrief(t *testing.T) {
	now := time.Unix(1e9, 0)
	names := &slowNames{}
	b := NewBrief(names, nil, 10*time.Millisecond, 5*time.Second, func() time.Time { return now })
	for range 10 {
		if _, err := b.ByName(t.Context(), "nobody"); !errors.Is(err, ErrNoSuchUser) {
			t.Fatal(err)
		}
	}
	if names.calls != 1 {
		t.Errorf("a name that is not there was looked up %d times", names.calls)
	}
	now = now.Add(5 * time.Second)
	names.hangs = true
	if _, err := b.ByName(t.Context(), "nobody"); err == nil || errors.Is(err, ErrNoSuchUser) || !strings.Contains(err.Error(), "10ms") {
		t.Errorf("without an answer in time: %v", err)
	}
	names.hangs = false // what is not known is not kept
	if _, err := b.ByName(t.Context(), "nobody"); !errors.Is(err, ErrNoSuchUser) || names.calls != 3 {
		t.Errorf("%v after %d look-ups", err, names.calls)
	}
	for i := range maxAbsent + 10 {
		_, _ = b.ByName(t.Context(), fmt.Sprint(i))
	}
	if b.absent.Len() > maxAbsent {
		t.Errorf("%d names are remembered", b.absent.Len())
	}
}
