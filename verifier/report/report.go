// SPDX-License-Identifier: Apache-2.0

// Package report takes what hosts decided by themselves into the authentication
// log: each event once, in its order, and marked as the word of that host. It
// decides nothing that happened.
package report

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Bounds of what a host says of the time. Beyond them the event is dated by the
// verifier, and what the host said stands beside it.
const (
	maxAhead = 5 * time.Minute
	maxAge   = 90 * 24 * time.Hour
)

// Service takes reports. All fields must be set; it is safe for concurrent use.
// Errors for which the caller is to blame are *duoapi.Error.
type Service struct {
	Store store.Store
	Now   func() time.Time
	Log   *slog.Logger
}

var epochs = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Take stores the events that it does not have, and says up to which it has them.
func (s *Service) Take(ctx context.Context, h store.Host, q agentapi.HostEvents) (uint64, error) {
	if err := check(q); err != nil {
		return 0, err
	}
	var mark int64
	fresh := 0
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		fresh = 0
		integration, err := w.Integration(h.IntegrationKey)
		if errors.Is(err, store.ErrNotFound) { // deleted, without the host
			integration, err = store.Integration{Key: h.IntegrationKey, Name: h.Name}, nil
		}
		if err != nil {
			return err
		}
		for i, raw := range q.Events {
			seq := int64(q.First) + int64(i)
			won, err := w.TakeReport(h.ID, q.Epoch, seq, s.Now())
			if err != nil {
				return err
			}
			if !won {
				continue
			}
			fresh++
			if err := s.add(w, h, integration, q.Epoch, seq, raw); err != nil {
				return err
			}
		}
		mark, err = w.ReportedSeq(h.ID, q.Epoch)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("take the events of host %s: %w", h.ID, err)
	}
	if fresh > 0 {
		s.Log.Info("a host has reported what it decided by itself", "host", h.ID, "name", h.Name, "events", fresh)
	}
	return uint64(mark), nil
}

func check(q agentapi.HostEvents) error {
	invalid := func(param, why string) error {
		return duoapi.NewError(duoapi.CodeInvalidParameter, param+": "+why)
	}
	switch {
	case !epochs.MatchString(q.Epoch):
		return invalid("epoch", "not 32 hexadecimal digits")
	case q.First < 1 || q.First > math.MaxInt64-agentapi.MaxReportEvents:
		return invalid("first", "not a sequence number")
	case len(q.Events) == 0 || len(q.Events) > agentapi.MaxReportEvents:
		return invalid("events", fmt.Sprintf("1 to %d", agentapi.MaxReportEvents))
	}
	for _, raw := range q.Events {
		if len(raw) > agentapi.MaxEventBytes {
			return invalid("events", fmt.Sprintf("one has over %d bytes", agentapi.MaxEventBytes))
		}
	}
	return nil
}

// add writes one event. What it cannot make sense of is an event all the same:
// one refused would hold up all behind it.
func (s *Service) add(w store.Writer, h store.Host, i store.Integration, epoch string, seq int64, raw []byte) error {
	var said agentapi.HostEvent
	if err := json.Unmarshal(raw, &said); err != nil {
		said = agentapi.HostEvent{Reason: "unreadable"}
	}
	now := s.Now()
	user, name, err := whose(w, i, said)
	if err != nil {
		return err
	}
	groups, err := w.UserGroups(user.ID)
	if err != nil {
		return err
	}
	e := audit.New(eventID(h.ID, epoch, seq), audit.Request{
		Integration: i, User: user, Groups: groups, Name: name, IP: said.Source, Hostname: h.Name,
	})
	at := time.UnixMilli(said.Time)
	switch {
	case at.After(now.Add(maxAhead)):
		at, e.Detail = now, "the host's clock was ahead, or it lies: dated by the verifier"
	case at.Before(now.Add(-maxAge)) || at.Before(h.Created.Add(-maxAhead)):
		at, e.Detail = now, "the host's clock was behind, or it lies: dated by the verifier"
	}
	result := audit.Denied
	if said.Result == "allow" {
		result = audit.Success
	}
	e = audit.Outcome(e, at, result, reason(said.Reason))
	e.HostReport = &store.HostReport{
		HostID: h.ID, Epoch: epoch, Seq: seq, Reported: now.Unix(), Claimed: said.Time / 1000,
		ID: audit.Printable(said.ID), Hook: audit.Printable(said.Hook), Service: audit.Printable(said.Service),
		User: audit.Printable(said.User), Target: audit.Printable(said.Target), Result: audit.Printable(said.Result),
		Setting: audit.Printable(said.Setting), Rule: audit.Printable(said.Rule), TTY: audit.Printable(said.TTY),
	}
	if said.Offline != nil {
		if err := s.use(w, h, user, said, &e); err != nil {
			return err
		}
	}
	if err := w.AddEvent(e); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil // it is there
}

// use notes the use of an offline code.
func (s *Service) use(w store.Writer, h store.Host, user store.User, said agentapi.HostEvent, e *store.Event) error {
	u := said.Offline
	e.Factor = agentapi.FactorOffline
	e.HostReport.Number = &u.Counter
	if user.ID != u.UserID {
		e.Detail = strings.TrimPrefix(e.Detail+"; ", "; ") + "the code is of user " + audit.Printable(u.UserID)
	}
	phone, err := w.Phone(u.PhoneID)
	switch {
	case err == nil:
		e.AuthDevice = store.AuthDevice{Key: phone.ID, Name: audit.Printable(phone.Name)}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if u.Counter < 0 || u.Counter == math.MaxInt64 {
		return nil
	}
	// A key that is gone meanwhile has no counter any more; the event stays.
	_, err = w.UseOfflineCounter(store.OfflineKey{
		HostID: h.ID, UserID: u.UserID, PhoneID: u.PhoneID, Generation: u.Generation, Edition: u.Edition,
	}, u.Counter)
	return err
}

// whose finds the person that an event names; a name that nobody has is kept.
func whose(r store.Reader, i store.Integration, said agentapi.HostEvent) (store.User, string, error) {
	name := said.Username
	if name == "" {
		name = said.User
	}
	user, err := r.UserByName(login.CanonicalName(i.NamePolicy, name))
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, name, nil
	}
	return user, name, err
}

var word = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// reason is the host's word, if it is one.
func reason(s string) string {
	if !word.MatchString(s) {
		return "unreadable"
	}
	return s
}

// eventID is the id of an event in the log: the same for the same place in the
// log of the same host.
func eventID(host, epoch string, seq int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", host, epoch, seq))
	return "HE" + base32.StdEncoding.EncodeToString(sum[:])[:30]
}
