// SPDX-License-Identifier: Apache-2.0

// Package offline keeps this host's keys for offline codes, and decides about
// codes: a number counts once, within its window, its uses and its days. It owns
// state_dir/offline; what it decides is on disk before it says so. It never
// decides whether an offline code may be asked for: that is package failmode's.
//
// docs/explanation/offline-codes.md has the states and the reasons.
package offline

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// Reasons of a Result: words of docs/explanation/offline-codes.md.
const (
	Accepted    = "offline"
	NotEnrolled = "offline_not_enrolled"
	WrongCode   = "offline_wrong_code"
	Replayed    = "offline_replayed"
	Wait        = "offline_wait"
	UsedUp      = "offline_used_up"
	Expired     = "offline_expired"
	ClockBack   = "offline_clock"
	Locked      = "offline_locked"
	StateFailed = "offline_state_failed"
)

const (
	// MaxFailures locks until the next hand-over.
	MaxFailures = 10
	// clockTolerance is how far the clock may be before the latest time seen.
	clockTolerance = 2 * time.Minute
	// maxDelay bounds the delay after wrong codes.
	maxDelay = 5 * time.Minute
	// lookBehind is how many numbers before the next one are looked at to tell a
	// code that was used from one that is wrong.
	lookBehind = 100
	// maxPeople bounds whom the host keeps keys of.
	maxPeople = 4096
	// maxHave bounds the keys that a request names.
	maxHave = 64
)

// Options is what Open needs.
type Options struct {
	Dir string // made if it is not there, for its owner alone
	Now func() time.Time
	Log *slog.Logger
}

// Ring is the keys of this host. It is safe for concurrent use: of two that bring
// one code at once, one is refused.
type Ring struct {
	opt Options

	mu     sync.Mutex
	people map[string]*state // by user id
	names  map[string]string // name at the verifier → user id
	latest int64             // the latest time seen by the host, Unix seconds
}

// clockFile keeps Ring.latest.
const clockFile = "clock"

// Open reads what earlier processes left. A file that makes no sense is logged
// and counts as none: its person gets another key at the next login.
func Open(opt Options) (*Ring, error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for offline keys: %w", err)
	}
	entries, err := os.ReadDir(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("read offline keys: %w", err)
	}
	r := &Ring{opt: opt, people: map[string]*state{}, names: map[string]string{}}
	for _, e := range entries {
		path := filepath.Join(opt.Dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			_ = os.Remove(path) // a write that a crash cut off
			continue
		}
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		text, err := readFile(path)
		var s *state
		if err == nil {
			s, err = parse(text, id)
		}
		if err != nil {
			opt.Log.Error("keys for offline codes are not read", slog.String("event", "offline_unreadable"),
				slog.String("file", path), slog.Any("error", err))
			continue
		}
		r.people[id] = s
		for _, name := range s.Names {
			r.names[name] = id
		}
	}
	if text, err := readFile(filepath.Join(opt.Dir, clockFile)); err == nil {
		if err := json.Unmarshal(text, &r.latest); err != nil {
			opt.Log.Error("the latest time seen is not read", slog.String("event", "offline_unreadable"), slog.Any("error", err))
		}
	}
	return r, nil
}

// Standing is what a person may know before they type a code.
type Standing struct {
	Label string // of this host
	Left  int    // uses
	Until time.Time
}

// Standing says whether the person of that name at the verifier has a key here.
func (r *Ring) Standing(name string) (Standing, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.people[r.names[name]]
	if s == nil {
		return Standing{}, false
	}
	return Standing{Label: s.Label, Left: s.UsesLeft, Until: time.Unix(s.Until, 0)}, true
}

// Result is what became of a code.
type Result struct {
	Reason string
	Use    agentapi.OfflineUse // if accepted
	Left   int                 // uses, after this one
	Until  time.Time
	Wait   time.Duration // with Wait: how long
	// From is the first number that is taken, and To the last, with WrongCode and
	// Replayed; of the first authenticator if there are several.
	From, To int64
	Err      error // with StateFailed
}

// Try decides about a code of the person of that name. code comes from
// offlinecode.Normalise. Whatever the result, it holds over a restart.
func (r *Ring) Try(name, code string) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.people[r.names[name]]
	if s == nil {
		return Result{Reason: NotEnrolled}
	}
	now := r.opt.Now()
	if res, refused := r.closed(s, now); refused {
		return res
	}
	next := s.clone()
	next.Latest = max(next.Latest, now.Unix())
	res := next.check(code, now)
	// In memory first: a write of which nobody knows whether it reached the disk
	// must not leave a code good that the disk says is spent.
	r.people[s.UserID] = next
	if err := r.write(next); err != nil {
		return Result{Reason: StateFailed, Err: err}
	}
	return res
}

// closed says why no code at all is looked at.
func (r *Ring) closed(s *state, now time.Time) (Result, bool) {
	res := Result{Left: s.UsesLeft, Until: time.Unix(s.Until, 0)}
	latest := time.Unix(max(s.Latest, r.latest), 0)
	again := time.UnixMilli(s.FailedAt).Add(delay(s.Failures))
	switch {
	case s.Failures >= MaxFailures:
		res.Reason = Locked
	case now.Before(latest.Add(-clockTolerance)):
		res.Reason = ClockBack
	case now.After(res.Until):
		res.Reason = Expired
	case s.UsesLeft == 0:
		res.Reason = UsedUp
	case now.Before(again):
		res.Reason, res.Wait = Wait, again.Sub(now)
	}
	return res, res.Reason != ""
}

// delay is how long the next code must wait after so many wrong ones.
func delay(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(time.Second<<(failures-1), maxDelay)
}

// check looks at a code and changes s accordingly.
func (s *state) check(code string, now time.Time) Result {
	res := Result{Reason: WrongCode, Until: time.Unix(s.Until, 0)}
	for i, k := range s.Keys {
		number, found, err := offlinecode.Find(k.Key, code, k.Next, k.Next+offlinecode.Window)
		if err == nil && !found && res.Reason == WrongCode {
			if _, used, _ := offlinecode.Find(k.Key, code, k.Next-lookBehind, k.Next); used {
				res.Reason = Replayed
			}
		}
		if err != nil || !found {
			continue
		}
		s.Keys[i].Next = number + 1
		s.UsesLeft--
		s.Failures, s.FailedAt = 0, 0
		res.Reason, res.Left = Accepted, s.UsesLeft
		res.Use = agentapi.OfflineUse{OfflineKeyID: s.id(k), Counter: number}
		return res
	}
	s.Failures++
	s.FailedAt = now.UnixMilli()
	res.Left = s.UsesLeft
	res.From, res.To = s.Keys[0].Next, s.Keys[0].Next+offlinecode.Window-1
	return res
}

func (r *Ring) path(id string) string { return filepath.Join(r.opt.Dir, id+".json") }

func (r *Ring) write(s *state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode offline keys: %w", err)
	}
	if err := durable.Replace(r.path(s.UserID), text, 0o600); err != nil {
		return fmt.Errorf("write offline keys: %w", err)
	}
	return nil
}

// forget deletes a person's keys, from the disk as well.
func (r *Ring) forget(s *state) error {
	delete(r.people, s.UserID)
	for _, name := range s.Names {
		if r.names[name] == s.UserID {
			delete(r.names, name)
		}
	}
	if err := removeFile(r.path(s.UserID)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete offline keys: %w", err)
	}
	return nil
}

// Have names the keys of the person of that name; if there is none, those of
// others, one of whom may be that person by another name.
func (r *Ring) Have(name string) []agentapi.OfflineKeyID {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []agentapi.OfflineKeyID{}
	if s := r.people[r.names[name]]; s != nil {
		for _, k := range s.Keys {
			out = append(out, s.id(k))
		}
		return out
	}
	for _, s := range r.people {
		for _, k := range s.Keys {
			if len(out) < maxHave {
				out = append(out, s.id(k))
			}
		}
	}
	return out
}

// fullFor is how long after a hand-over another one brings nothing, if no code was tried.
const fullFor = 10 * time.Minute

// Full says that a hand-over for that person would bring nothing now.
func (r *Ring) Full(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.people[r.names[name]]
	return s != nil && s.UsesLeft == s.MaxUses && s.Failures == 0 && r.opt.Now().Sub(time.Unix(s.Granted, 0)).Abs() < fullFor
}

// Take keeps what the verifier has handed over for the person of that name. A key
// that is here already keeps its counter.
func (r *Ring) Take(name string, g agentapi.OfflineGrant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.people[g.UserID]
	if len(g.Keys) == 0 {
		err := r.moveName(name, g.UserID)
		if before != nil {
			err = errors.Join(err, r.forget(before))
		}
		return err
	}
	if !validID.MatchString(g.UserID) || len(g.Keys) > maxKeys || g.MaxUses < 1 || g.MaxDays < 1 || g.Time < 1 {
		return errors.New("take offline keys: the verifier's answer makes no sense")
	}
	s := &state{
		Version: 1, UserID: g.UserID, Label: g.Label, MaxUses: g.MaxUses, UsesLeft: g.MaxUses,
		Granted: g.Time, Latest: g.Time, Until: time.Unix(g.Time, 0).AddDate(0, 0, g.MaxDays).Unix(),
	}
	if before != nil {
		s.Names = before.Names
	} else if len(r.people) >= maxPeople {
		return fmt.Errorf("take offline keys: over %d people", maxPeople)
	}
	if !slices.Contains(s.Names, name) {
		s.Names = append(slices.Clone(s.Names[max(0, len(s.Names)-maxNames+1):]), name)
	}
	for _, k := range g.Keys {
		if len(k.Key) != offlinecode.Size || k.UserID != g.UserID {
			return errors.New("take offline keys: the verifier's answer makes no sense")
		}
		s.Keys = append(s.Keys, keptOr(before, key{
			PhoneID: k.PhoneID, Name: k.Name, Generation: k.Generation, Edition: k.Edition, Key: k.Key,
		}))
	}
	if err := r.moveName(name, g.UserID); err != nil {
		return err
	}
	r.people[s.UserID] = s
	for _, n := range s.Names {
		r.names[n] = s.UserID
	}
	if err := r.write(s); err != nil {
		return err
	}
	return r.note(g.Time)
}

// keptOr is k with the counter that the host has for it.
func keptOr(before *state, k key) key {
	if before == nil {
		return k
	}
	for _, old := range before.Keys {
		if old.PhoneID == k.PhoneID && old.Generation == k.Generation && old.Edition == k.Edition {
			k.Next = old.Next
		}
	}
	return k
}

// moveName takes a name from whoever had it: it is somebody else's now.
func (r *Ring) moveName(name, userID string) error {
	other := r.people[r.names[name]]
	if other == nil || other.UserID == userID {
		return nil
	}
	other = other.clone()
	other.Names = slices.DeleteFunc(other.Names, func(n string) bool { return n == name })
	r.people[other.UserID] = other
	delete(r.names, name)
	return r.write(other)
}

// Prune deletes the keys that are not among those alive, and those of which more
// numbers were used than this host knows. It returns how many went.
func (r *Ring) Prune(live agentapi.LiveKeys) (gone int, err error) {
	next := map[agentapi.OfflineKeyID]int64{}
	for _, k := range live.Keys {
		next[k.OfflineKeyID] = k.Next
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.people {
		left := s.clone()
		left.Keys = slices.DeleteFunc(left.Keys, func(k key) bool {
			used, alive := next[s.id(k)]
			return !alive || used > k.Next
		})
		left.Latest = min(left.Latest, live.Time)
		gone += len(s.Keys) - len(left.Keys)
		switch {
		case len(left.Keys) == 0:
			errs = append(errs, r.forget(s))
		case len(left.Keys) < len(s.Keys) || left.Latest != s.Latest:
			r.people[s.UserID] = left
			errs = append(errs, r.write(left))
		}
	}
	errs = append(errs, r.note(live.Time))
	return gone, errors.Join(errs...)
}

// Clear deletes all keys: the verifier does not know this host any more.
func (r *Ring) Clear() (gone int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.people {
		gone += len(s.Keys)
		errs = append(errs, r.forget(s))
	}
	return gone, errors.Join(errs...)
}

// Tick notes the time, so that a clock that is set back later is noticed.
func (r *Ring) Tick() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.opt.Now().Unix()
	if now <= r.latest || len(r.people) == 0 {
		return nil
	}
	return r.note(now)
}

// note sets the latest time seen.
func (r *Ring) note(now int64) error {
	r.latest = now
	text, err := json.Marshal(now)
	if err == nil {
		err = durable.Replace(filepath.Join(r.opt.Dir, clockFile), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note the time: %w", err)
	}
	return nil
}
