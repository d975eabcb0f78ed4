// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// host is a Ring with a clock that the test sets.
type host struct {
	*testing.T
	*Ring
	now time.Time
	dir string
}

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newHost(t *testing.T) *host {
	h := &host{T: t, now: day, dir: filepath.Join(t.TempDir(), "offline")}
	h.restart()
	return h
}

// restart forgets everything but the disk.
func (h *host) restart() {
	h.Helper()
	r, err := Open(Options{Dir: h.dir, Now: func() time.Time { return h.now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.Fatal(err)
	}
	h.Ring = r
}

func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, offlinecode.Size) }

// grant is a hand-over of one key of alice's, of that edition.
func (h *host) grant(n byte, edition int64) agentapi.OfflineGrant {
	return agentapi.OfflineGrant{
		UserID: "DU1", Label: "db1-K7QX", Time: h.now.Unix(), MaxUses: 5, MaxDays: 7,
		Keys: []agentapi.OfflineKey{{
			OfflineKeyID: agentapi.OfflineKeyID{UserID: "DU1", PhoneID: "DP1", Generation: 1, Edition: edition}, Name: "laptop", Key: testKey(n),
		}},
	}
}

func (h *host) take(g agentapi.OfflineGrant) {
	h.Helper()
	if err := h.Take("alice", g); err != nil {
		h.Fatal(err)
	}
}

func code(t testing.TB, n byte, number int64) string {
	t.Helper()
	c, err := offlinecode.Code(testKey(n), number)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// expect tries a code and wants that reason.
func (h *host) expect(code, reason string) Result {
	h.Helper()
	res := h.Try("alice", code)
	if res.Reason != reason {
		h.Fatalf("got %+v, want %s", res, reason)
	}
	return res
}

func TestCodesCountOnce(t *testing.T) {
	h := newHost(t)
	h.expect(code(t, 1, 0), NotEnrolled)
	h.take(h.grant(1, 1))
	if s, ok := h.Standing("alice"); !ok || s.Label != "db1-K7QX" || s.Left != 5 || !s.Until.Equal(day.AddDate(0, 0, 7)) {
		t.Errorf("standing %+v", s)
	}
	res := h.expect(code(t, 1, 3), Accepted)
	if res.Left != 4 || res.Use.Counter != 3 || res.Use.PhoneID != "DP1" {
		t.Errorf("got %+v", res)
	}
	for _, number := range []int64{3, 2, 0} { // used, and passed over
		h.expect(code(t, 1, number), Replayed)
		h.restart()
		h.now = h.now.Add(maxDelay)
	}
	h.expect(code(t, 1, 4+offlinecode.Window), WrongCode)
	h.now = h.now.Add(maxDelay)
	if res := h.expect(code(t, 2, 4), WrongCode); res.From != 4 || res.To != 4+offlinecode.Window-1 { // another host's
		t.Errorf("numbers %d to %d", res.From, res.To)
	}
	h.now = h.now.Add(maxDelay)
	h.expect(code(t, 1, 4+offlinecode.Window-1), Accepted)
}

// Every refusal holds over a restart between the tries.
func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		before func(h *host)
		reason string
	}{
		"uses": {func(h *host) {
			for n := range int64(5) {
				h.expect(code(h, 1, n), Accepted)
				h.restart()
			}
		}, UsedUp},
		"days":          {func(h *host) { h.now = h.now.AddDate(0, 0, 7).Add(time.Second) }, Expired},
		"clock forward": {func(h *host) { h.now = h.now.AddDate(10, 0, 0) }, Expired},
		"clock back":    {func(h *host) { h.now = h.now.Add(-clockTolerance - time.Second) }, ClockBack},
		"clock back after a use": {func(h *host) {
			h.now = h.now.Add(time.Hour)
			h.expect(code(h, 1, 0), Accepted)
			h.now = h.now.Add(-30 * time.Minute)
		}, ClockBack},
		"clock back after a day": {func(h *host) {
			h.now = h.now.AddDate(0, 0, 8)
			if err := h.Tick(); err != nil {
				h.Fatal(err)
			}
			h.now = h.now.AddDate(0, 0, -2)
		}, ClockBack},
		"too soon": {func(h *host) { h.expect("00000000", WrongCode) }, Wait},
		"failures": {func(h *host) {
			for range MaxFailures {
				h.expect("00000000", WrongCode)
				h.now = h.now.Add(maxDelay)
				h.restart()
			}
		}, Locked},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.take(h.grant(1, 1))
			c.before(h)
			h.restart()
			h.expect(code(t, 1, 9), c.reason)
			h.restart()
			h.expect(code(t, 1, 9), c.reason)
			// The next login by way of the verifier puts everything right, by its clock.
			h.now = day.AddDate(0, 0, 3)
			h.take(h.grant(1, 1))
			h.expect(code(t, 1, 9), Accepted)
		})
	}
}

func TestDelaysGrow(t *testing.T) {
	h := newHost(t)
	g := h.grant(1, 1)
	h.take(g)
	for n := range MaxFailures - 1 {
		h.expect("00000000", WrongCode)
		want := min(time.Second<<n, maxDelay)
		if res := h.expect(code(t, 1, 0), Wait); res.Wait != want {
			t.Fatalf("after %d failures: %s, want %s", n+1, res.Wait, want)
		}
		h.now = h.now.Add(want)
	}
	h.expect(code(t, 1, 0), Accepted)
	h.expect("00000000", WrongCode) // failures were given back
	if res := h.expect(code(t, 1, 1), Wait); res.Wait != time.Second {
		t.Errorf("waits %s", res.Wait)
	}
}

// A hand-over of the key that is here keeps the counter; another edition begins anew.
func TestHandOvers(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	h.expect(code(t, 1, 2), Accepted)
	if h.Full("alice") {
		t.Error("full after a use")
	}
	h.take(h.grant(1, 1))
	if !h.Full("alice") || h.Full("bob") {
		t.Error("not full after a hand-over")
	}
	h.expect(code(t, 1, 2), Replayed)
	h.now = h.now.Add(time.Minute)
	h.take(h.grant(2, 2))
	h.expect(code(t, 2, 0), Accepted)
	h.expect(code(t, 1, 9), WrongCode)
	// Another name of the same person has the same counter.
	if err := h.Take("al", h.grant(2, 2)); err != nil {
		t.Fatal(err)
	}
	if res := h.Try("al", code(t, 2, 0)); res.Reason != Replayed {
		t.Errorf("by another name: %+v", res)
	}
	if have := h.Have("al"); len(have) != 1 || have[0].Edition != 2 {
		t.Errorf("have %+v", have)
	}
	// The name of one person becomes that of another.
	g := h.grant(3, 1)
	g.UserID, g.Keys[0].UserID = "DU2", "DU2"
	h.take(g)
	h.restart()
	h.now = h.now.Add(time.Minute)
	h.expect(code(t, 2, 9), WrongCode)
	if res := h.Try("al", code(t, 2, 9)); res.Reason != Accepted {
		t.Errorf("the first person by their other name: %+v", res)
	}
	// No key in the answer: none here.
	g.Keys = nil
	h.take(g)
	h.restart()
	h.expect(code(t, 3, 9), NotEnrolled)
}

func TestEndedKeysGo(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	h.expect(code(t, 1, 4), Accepted)
	id := h.Have("alice")[0]
	prune := func(want int, keys ...agentapi.LiveKey) {
		t.Helper()
		gone, err := h.Prune(agentapi.LiveKeys{Time: h.now.Unix(), Keys: keys})
		if err != nil || gone != want {
			t.Fatalf("%d gone, %v; want %d", gone, err, want)
		}
		h.restart()
	}
	prune(0, agentapi.LiveKey{OfflineKeyID: id, Next: 5})
	h.expect(code(t, 1, 5), Accepted)
	// The verifier knows of a use that this host does not: its state is an old one.
	prune(1, agentapi.LiveKey{OfflineKeyID: id, Next: 7})
	h.expect(code(t, 1, 9), NotEnrolled)
	h.take(h.grant(1, 1))
	other := id
	other.Edition = 2
	prune(1, agentapi.LiveKey{OfflineKeyID: other})
	h.expect(code(t, 1, 9), NotEnrolled)
	h.take(h.grant(1, 1))
	if gone, err := h.Clear(); gone != 1 || err != nil {
		t.Errorf("%d gone, %v", gone, err)
	}
	h.restart()
	h.expect(code(t, 1, 9), NotEnrolled)
}

// A clock that was far ahead when the time was noted is put right by the next contact.
func TestContactSetsTheTime(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	h.now = h.now.AddDate(5, 0, 0)
	if err := h.Tick(); err != nil {
		t.Fatal(err)
	}
	h.now = day.Add(time.Hour)
	h.expect(code(t, 1, 0), ClockBack)
	if _, err := h.Prune(agentapi.LiveKeys{Time: h.now.Unix(), Keys: []agentapi.LiveKey{{OfflineKeyID: h.Have("alice")[0]}}}); err != nil {
		t.Fatal(err)
	}
	h.expect(code(t, 1, 0), Accepted)
}

// What cannot be written is refused, and the code is spent.
func TestUnwritableState(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	broken := h.dir + ".away"
	if err := os.Rename(h.dir, broken); err != nil {
		t.Fatal(err)
	}
	if res := h.expect(code(t, 1, 0), StateFailed); res.Err == nil {
		t.Error("no error")
	}
	if err := os.Rename(broken, h.dir); err != nil {
		t.Fatal(err)
	}
	h.expect(code(t, 1, 0), Replayed)
}

// Files that make no sense, or that others can read, are no keys; the rest is.
func TestUnreadableFiles(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	whole, err := os.ReadFile(h.path("DU1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"DU2": string(whole), "DU3": "{", "DU4": ""} {
		if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.restart()
	if len(h.people) != 1 {
		t.Errorf("people: %v", h.people)
	}
	h.expect(code(t, 1, 0), Accepted)
	if err := os.Chmod(h.path("DU1"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.expect(code(t, 1, 1), NotEnrolled)
}

// One code at many prompts at once lets in one.
func TestParallel(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	var wins atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if h.Try("alice", code(t, 1, 0)).Reason == Accepted {
				wins.Add(1)
			}
		})
	}
	all.Wait()
	if wins.Load() != 1 {
		t.Errorf("%d winners", wins.Load())
	}
}

// Whatever happens in whatever order, no number counts twice for one key, and no
// more uses are made than were handed over.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(25) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		h := newHost(t)
		edition, uses := int64(0), 0
		used := map[string]bool{}
		for range 80 {
			switch rnd.IntN(8) {
			case 0:
				edition = max(edition, 1)
				if rnd.IntN(4) == 0 {
					edition++
				}
				h.take(h.grant(byte(edition), edition))
				uses = 5
			case 1:
				h.restart()
			case 2:
				h.now = h.now.Add(time.Duration(rnd.IntN(48)-12) * time.Hour)
			case 3:
				h.now = h.now.Add(maxDelay)
			case 4:
				if err := h.Tick(); err != nil {
					t.Fatal(err)
				}
			default:
				n := byte(max(edition, 1))
				number := rnd.Int64N(40)
				until := h.untilOf()
				res := h.Try("alice", code(t, n, number))
				if res.Reason != Accepted {
					continue
				}
				id := fmt.Sprint(n, number)
				if uses--; used[id] || uses < 0 || h.now.After(until) || res.Left != uses || res.Use.Counter != number {
					t.Fatalf("seed %d: %+v", seed, res)
				}
				used[id] = true
			}
		}
	}
}

func (h *host) untilOf() time.Time {
	s, _ := h.Standing("alice")
	return s.Until
}

func FuzzState(f *testing.F) {
	h := &state{Version: 1, UserID: "DU1", MaxUses: 5, UsesLeft: 5, Keys: []key{{PhoneID: "DP1", Key: testKey(1)}}}
	text, err := json.Marshal(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"v":1,"user_id":"DU1"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text, "DU1")
		if err != nil {
			return
		}
		before := s.UsesLeft
		for range 3 {
			if res := s.check("12345678", day); res.Reason == Accepted && s.UsesLeft != before-1 {
				t.Fatalf("%+v", res)
			}
			if s.UsesLeft < 0 {
				return
			}
			before = s.UsesLeft
		}
	})
}

// The Keeper is shown with a real verifier in package daemon; here, that a full
// queue blocks nobody and that what is full is not asked for.
func TestKeeperNeverBlocks(t *testing.T) {
	h := newHost(t)
	k := NewKeeper(h.Ring, func(context.Context, bool, func(context.Context, *agentapi.Client) error) error {
		return errors.New("unused")
	})
	for range maxQueue + 10 {
		k.LoggedIn("alice", "TX")
		k.Contact()
	}
	if len(k.logins) != maxQueue {
		t.Errorf("%d wait", len(k.logins))
	}
	k = NewKeeper(h.Ring, nil)
	k.LoggedIn("alice", "")
	h.take(h.grant(1, 1))
	k.LoggedIn("alice", "TX")
	if len(k.logins) != 0 {
		t.Errorf("%d wait", len(k.logins))
	}
}

// A name that is somebody else's now opens nothing with the codes of whoever had it
// before, also where its new owner has no authenticator.
func TestNameMovesWithoutKeys(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	if err := h.Take("alice", agentapi.OfflineGrant{UserID: "DU2", Time: h.now.Unix(), MaxUses: 5, MaxDays: 7}); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.Standing("alice"); ok {
		t.Error("the name still stands for its former owner")
	}
	again, err := Open(h.opt)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := again.Standing("alice"); ok {
		t.Error("after a restart the name stands for its former owner")
	}
}

// A host whose key the verifier refuses has no keys any more; an outage changes nothing.
func TestRefusedHost(t *testing.T) {
	h := newHost(t)
	h.take(h.grant(1, 1))
	answer := errors.New("an outage")
	k := NewKeeper(h.Ring, func(context.Context, bool, func(context.Context, *agentapi.Client) error) error { return answer })
	k.check(t.Context())
	if _, ok := h.Standing("alice"); !ok {
		t.Error("gone by an outage")
	}
	answer = duoapi.NewError(duoapi.CodeProofElsewhere, "")
	k.check(t.Context())
	if _, ok := h.Standing("alice"); !ok {
		t.Error("gone by an address that the verifier does not call its own")
	}
	answer = duoapi.NewError(duoapi.CodeInvalidProof, "")
	k.check(t.Context())
	if _, ok := h.Standing("alice"); ok {
		t.Error("a refused host has keys")
	}
}
