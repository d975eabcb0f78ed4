// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/deviceid"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Status is the value of trusted_endpoint_status in the authentication log.
type Status string

// What is known of an endpoint.
const (
	Trusted    Status = "trusted"
	NotTrusted Status = "not trusted"
	Unknown    Status = "unknown" // the login told no identity, or nobody vouches for this person's devices
)

// Endpoint is the device that a person logs in from, by an identity that somebody
// has proved; a login through PAM has none.
type Endpoint struct {
	ID string
	OS string // one of the operating systems of a management system
}

// Lookup says whether an endpoint is trusted for a person in these groups: an
// enabled management system of its operating system has it in the active cache.
func (s *Service) Lookup(ctx context.Context, e Endpoint, groups []string) (status Status, err error) {
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		status, err = LookupIn(r, e, groups)
		return err
	})
	return status, err
}

// LookupIn is Lookup in a transaction that the caller has.
func LookupIn(r store.Reader, e Endpoint, groups []string) (Status, error) {
	id, err := deviceid.Clean(e.ID)
	if err != nil {
		return Unknown, nil //nolint:nilerr // what is no identifier is no identity
	}
	having, err := r.SystemsWithDevice(id)
	if err != nil {
		return Unknown, fmt.Errorf("look up the endpoint: %w", err)
	}
	if slices.ContainsFunc(having, func(m store.ManagementSystem) bool { return m.OS == e.OS && vouches(m, groups) }) {
		return Trusted, nil
	}
	// Not of the page's length: there are as many systems as tools and operating systems.
	systems, _, err := r.ManagementSystems(store.Page{Limit: maxSystems})
	if err != nil {
		return Unknown, fmt.Errorf("look up the endpoint: %w", err)
	}
	if slices.ContainsFunc(systems, func(m store.ManagementSystem) bool { return vouches(m, groups) }) {
		return NotTrusted, nil
	}
	return Unknown, nil
}

// maxSystems bounds what is read of the management systems at once.
const maxSystems = 10_000

// vouches says whether a system is asked about the devices of a person in these groups.
func vouches(m store.ManagementSystem, groups []string) bool {
	switch m.Status {
	case store.ManagementAll:
		return true
	case store.ManagementTestGroup:
		return slices.ContainsFunc(m.GroupIDs, func(g string) bool { return slices.Contains(groups, g) })
	case store.ManagementDisabled:
	}
	return false
}

func trimmed(id string) string { return strings.TrimSpace(id) }

// StaleAfter is the age from which on an active cache is warned about: lists are
// meant to be uploaded every day.
const StaleAfter = 48 * time.Hour

// Age is how old the list of a management system is.
type Age struct {
	System store.ManagementSystem
	Cache  store.DeviceCache // active; without a key: there is none
	Age    time.Duration     // since it became active; without a cache, since the system was made
}

// Stale says that the list should have been replaced.
func (a Age) Stale() bool { return a.Age > StaleAfter }

// Ages tells the age of each management system's list, by the names of the systems.
func (s *Service) Ages(ctx context.Context) (out []Age, err error) {
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		out, err = AgesIn(r, s.config.Now())
		return err
	})
	return out, err
}

// AgesIn is Ages in a transaction that the caller has.
func AgesIn(r store.Reader, now time.Time) ([]Age, error) {
	systems, _, err := r.ManagementSystems(store.Page{Limit: maxSystems})
	if err != nil {
		return nil, fmt.Errorf("read the ages of device caches: %w", err)
	}
	caches, err := r.DeviceCaches("")
	if err != nil {
		return nil, fmt.Errorf("read the ages of device caches: %w", err)
	}
	out := make([]Age, len(systems))
	for i, m := range systems {
		out[i] = Age{System: m, Age: now.Sub(m.Created)}
		for _, c := range caches {
			if c.SystemKey == m.Key && c.Status == store.CacheActive {
				out[i].Cache, out[i].Age = c, now.Sub(c.Activated)
			}
		}
	}
	return out, nil
}

const (
	// sweepRows is how many rows of deleted caches go in one update, and sweepPause
	// how long the store's writer then is for others.
	sweepRows  = 1000
	sweepPause = 20 * time.Millisecond
	// checkEvery is how often the ages are looked at, and warnEvery how often the
	// same cache is warned about.
	checkEvery = 10 * time.Minute
	warnEvery  = 24 * time.Hour
)

// Run removes what is left of deleted caches and warns of old ones, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	warned := map[string]time.Time{}
	for {
		s.Sweep(ctx)
		s.warn(ctx, warned)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-s.config.After(checkEvery):
		}
	}
}

// sweepSoon wakes Run.
func (s *Service) sweepSoon() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// Sweep removes the rows of deleted caches, a few at a time.
func (s *Service) Sweep(ctx context.Context) {
	for {
		var more bool
		err := s.config.Store.Update(ctx, func(w store.Writer) (err error) {
			more, err = w.SweepDeviceCaches(sweepRows)
			return err
		})
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrClosed) {
				s.config.Log.Error("cannot remove what is left of a deleted device cache; it takes room and harms nobody", "error", err)
			}
			return
		}
		if !more {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.config.After(sweepPause):
		}
	}
}

func (s *Service) warn(ctx context.Context, warned map[string]time.Time) {
	ages, err := s.Ages(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.config.Log.Error("cannot tell how old the device caches are", "error", err)
		}
		return
	}
	now := s.config.Now()
	for _, a := range ages {
		if !a.Stale() || a.System.Status == store.ManagementDisabled {
			delete(warned, a.System.Key)
			continue
		}
		if last, ok := warned[a.System.Key]; ok && now.Sub(last) < warnEvery {
			continue
		}
		warned[a.System.Key] = now
		s.config.Log.Warn("the device cache of a management system is old: new devices are not trusted, and ones that are gone still are",
			"management_system", a.System.Key, "name", a.System.Name, "cache_key", a.Cache.Key, "age", a.Age.Round(time.Minute))
	}
}
