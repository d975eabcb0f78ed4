// SPDX-License-Identifier: Apache-2.0

// Package trust decides which devices an organisation vouches for: the life of
// device caches, the identifiers in them, and whether a device is a trusted
// endpoint. It never decides about a login by itself, holds no HTTP and no SQL,
// and takes an identifier for text.
package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/deviceid"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxBatch is how many identifiers one call takes.
const MaxBatch = 1000

// uploadsAtOnce bounds the updates that wait for the store's one writer with
// a thousand rows each, so that a login never waits behind more than these.
const uploadsAtOnce = 2

// uploadsWaiting bounds the uploads that are under way or wait for that, each with
// its identifiers in memory. The next is told to come again.
const uploadsWaiting = 64

// pagesAtOnce bounds the listings that step through a long cache, so that they
// leave most of the store's readers to logins.
const pagesAtOnce = 2

// Service looks after device caches. All fields must be set, New does the rest.
type Service struct {
	config Config
	turns  chan struct{} // uploads under way
	pages  chan struct{} // listings under way

	waiting atomic.Int64  // uploads under way, or waiting for a turn
	wake    chan struct{} // there is something to sweep
}

// Config is what a Service needs; all of it.
type Config struct {
	Store  store.Store
	Base   *url.URL // of this verifier, for the URL of a cache
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Random io.Reader
	Log    *slog.Logger
}

// New makes a Service.
func New(c Config) *Service {
	return &Service{config: c, turns: make(chan struct{}, uploadsAtOnce), pages: make(chan struct{}, pagesAtOnce), wake: make(chan struct{}, 1)}
}

// Caller is the integration that calls, bound to one management system.
type Caller struct {
	Integration store.Integration
	System      string // key, as the request names it
	Address     string
}

// mayUse refuses a caller that is another management system's. It does not say
// whether the system is there: an integration has to know its own alone.
func (c Caller) mayUse(r store.Reader) error {
	m, err := r.ManagementSystem(c.System)
	if err == nil && m.IntegrationKey == c.Integration.Key {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return duoapi.NewError(duoapi.CodeForbidden, "this integration does not belong to that management system")
}

// cache reads a live cache of the caller's system.
func (c Caller) cache(r store.Reader, key string) (store.DeviceCache, error) {
	if err := c.mayUse(r); err != nil {
		return store.DeviceCache{}, err
	}
	cache, err := r.DeviceCache(key)
	if errors.Is(err, store.ErrNotFound) || err == nil && cache.SystemKey != c.System {
		return cache, duoapi.NewError(duoapi.CodeNotFound, "no such device cache")
	}
	return cache, err
}

// note writes an entry of the administrator log: who is trusted has changed.
func (s *Service) note(w store.Writer, c Caller, action string, description map[string]any) error {
	description["management_system_key"] = c.System
	description["integration_key"] = c.Integration.Key
	description["ip_address"] = c.Address
	text, err := json.Marshal(description)
	if err != nil {
		return fmt.Errorf("encode administrator log entry: %w", err)
	}
	return w.AddAdminEvent(store.AdminEvent{
		Time: s.config.Now(), Username: c.Integration.Name, Action: action, Object: c.System, Description: text,
	})
}

// URL is where a cache is found.
func (s *Service) URL(system, cache string) string {
	return s.config.Base.JoinPath("device/v1/management_systems", system, "device_cache", cache).String()
}

const keyDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// newKey makes the key of a cache: DC and 18 characters (90 bits).
func (s *Service) newKey() (string, error) {
	buf := make([]byte, 18)
	if _, err := io.ReadFull(s.config.Random, buf); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	for i, b := range buf {
		buf[i] = keyDigits[b%32] // 32 divides 256: all are equally likely
	}
	return "DC" + string(buf), nil
}

// Create makes an empty cache, pending or active at once. A system has at most
// one of each.
func (s *Service) Create(ctx context.Context, c Caller, active bool) (store.DeviceCache, error) {
	key, err := s.newKey()
	if err != nil {
		return store.DeviceCache{}, err
	}
	cache := store.DeviceCache{Key: key, SystemKey: c.System, Status: store.CachePending, Created: s.config.Now()}
	if active {
		cache.Status, cache.Activated = store.CacheActive, cache.Created
	}
	err = s.config.Store.Update(ctx, func(w store.Writer) error {
		if err := c.mayUse(w); err != nil {
			return err
		}
		won, err := w.AddDeviceCache(cache)
		if err != nil {
			return err
		}
		if !won {
			return s.taken(w, cache)
		}
		return s.note(w, c, "device_cache_create", map[string]any{"cache_key": cache.Key, "status": cache.Status})
	})
	return cache, err
}

// taken is the error for a cache whose place is taken. Clients find the key of the
// other as the last part of the URL, up to which there is white space.
func (s *Service) taken(r store.Reader, cache store.DeviceCache) error {
	caches, err := r.DeviceCaches(cache.SystemKey)
	if err != nil {
		return err
	}
	for _, other := range caches {
		if other.Status == cache.Status {
			return duoapi.NewError(duoapi.CodeCacheExists,
				fmt.Sprintf("a device cache with status %s exists already: %s", other.Status, s.URL(other.SystemKey, other.Key)))
		}
	}
	return fmt.Errorf("no place for device cache %s: %w", cache.Key, store.ErrNotFound)
}

// List is the caches of the caller's system; status "" for all.
func (s *Service) List(ctx context.Context, c Caller, status store.CacheStatus) (out []store.DeviceCache, err error) {
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		if err := c.mayUse(r); err != nil {
			return err
		}
		caches, err := r.DeviceCaches(c.System)
		out = out[:0]
		for _, cache := range caches {
			if status == "" || cache.Status == status {
				out = append(out, cache)
			}
		}
		return err
	})
	return out, err
}

// Get is one cache.
func (s *Service) Get(ctx context.Context, c Caller, key string) (cache store.DeviceCache, err error) {
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		cache, err = c.cache(r, key)
		return err
	})
	return cache, err
}

// Activate puts a pending cache in the place of the active one, which is deleted
// by that. To activate the active one changes nothing, so that a client whose
// answer was lost may ask again.
func (s *Service) Activate(ctx context.Context, c Caller, key string) (cache store.DeviceCache, err error) {
	err = s.config.Store.Update(ctx, func(w store.Writer) error {
		if cache, err = c.cache(w, key); err != nil || cache.Status == store.CacheActive {
			return err
		}
		before, err := w.DeviceCaches(c.System)
		if err != nil {
			return err
		}
		won, err := w.ActivateDeviceCache(key, s.config.Now())
		if err != nil {
			return err
		}
		if !won {
			return duoapi.NewError(duoapi.CodeNotFound, "no such device cache")
		}
		if cache, err = w.DeviceCache(key); err != nil {
			return err
		}
		entry := map[string]any{"cache_key": key, "device_count": cache.DeviceCount}
		for _, old := range before {
			if old.Status == store.CacheActive {
				entry["replaced"] = map[string]any{"cache_key": old.Key, "device_count": old.DeviceCount}
			}
		}
		return s.note(w, c, "device_cache_activate", entry)
	})
	if err == nil {
		s.sweepSoon()
	}
	return cache, err
}

// Delete deletes a pending cache; the active one is only ever replaced.
func (s *Service) Delete(ctx context.Context, c Caller, key string) error {
	err := s.config.Store.Update(ctx, func(w store.Writer) error {
		cache, err := c.cache(w, key)
		if err != nil {
			return err
		}
		won, err := w.DeleteDeviceCache(key)
		if err != nil {
			return err
		}
		if !won {
			return duoapi.NewError(duoapi.CodeCacheActive, "an active device cache is not deleted; activate another in its place")
		}
		return s.note(w, c, "device_cache_delete", map[string]any{"cache_key": key, "device_count": cache.DeviceCount})
	})
	if err == nil {
		s.sweepSoon()
	}
	return err
}

// Add adds identifiers and says how many the cache holds then; one that is there
// already counts once.
func (s *Service) Add(ctx context.Context, c Caller, key string, ids []string) (int, error) {
	return s.change(ctx, c, key, ids, "device_cache_devices_add", func(w store.Writer, clean []string) (int, bool, error) {
		return w.AddCachedDevices(key, clean, s.config.Now())
	})
}

// Remove removes identifiers; those that are not there are no error.
func (s *Service) Remove(ctx context.Context, c Caller, key string, ids []string) (int, error) {
	return s.change(ctx, c, key, ids, "device_cache_devices_delete", func(w store.Writer, clean []string) (int, bool, error) {
		return w.DeleteCachedDevices(key, clean)
	})
}

func (s *Service) change(ctx context.Context, c Caller, key string, ids []string, action string, do func(store.Writer, []string) (int, bool, error)) (n int, err error) {
	clean, err := cleanAll("devices", ids)
	if err != nil {
		return 0, err
	}
	if s.waiting.Add(1) > uploadsWaiting {
		s.waiting.Add(-1)
		busy := duoapi.NewError(duoapi.CodeTooManyRequests, "other uploads wait for their turn")
		busy.RetryAfter = 2
		return 0, busy
	}
	defer s.waiting.Add(-1)
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	err = s.config.Store.Update(ctx, func(w store.Writer) error {
		cache, err := c.cache(w, key)
		if err != nil {
			return err
		}
		count, won, err := do(w, clean)
		if err != nil {
			return err
		}
		if !won {
			return duoapi.NewError(duoapi.CodeNotFound, "no such device cache")
		}
		n = count
		if cache.Status != store.CacheActive || n == cache.DeviceCount {
			return nil
		}
		return s.note(w, c, action, map[string]any{"cache_key": key, "before": cache.DeviceCount, "after": n})
	})
	return n, err
}

// cleanAll gives the identifiers in the form in which they are kept, each once.
func cleanAll(param string, ids []string) ([]string, error) {
	if len(ids) > MaxBatch {
		return nil, duoapi.NewError(duoapi.CodeInvalidParameter, fmt.Sprintf("%s: more than %d", param, MaxBatch))
	}
	seen := make(map[string]bool, len(ids))
	out := make([]string, 0, len(ids))
	for i, id := range ids {
		clean, err := deviceid.Clean(id)
		if err != nil {
			return nil, duoapi.NewError(duoapi.CodeInvalidParameter, fmt.Sprintf("%s: number %d %v", param, i+1, err))
		}
		if !seen[clean] {
			seen[clean] = true
			out = append(out, clean)
		}
	}
	return out, nil
}

// Find looks identifiers up. Those that the cache holds come back as they were
// given, in their order, each once.
func (s *Service) Find(ctx context.Context, c Caller, key, param string, ids []string) (out []store.CachedDevice, err error) {
	clean, err := cleanAll(param, ids)
	if err != nil {
		return nil, err
	}
	given := make(map[string]string, len(ids))
	for i := len(ids) - 1; i >= 0; i-- { // the first spelling stays
		if id, err := deviceid.Clean(ids[i]); err == nil {
			given[id] = trimmed(ids[i])
		}
	}
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		if _, err := c.cache(r, key); err != nil {
			return err
		}
		out, err = r.CachedDevices(key, clean)
		return err
	})
	for i := range out {
		out[i].ID = given[out[i].ID]
	}
	return out, err
}

// Page lists a part of a cache, in the form in which identifiers are kept, and how
// many it holds.
func (s *Service) Page(ctx context.Context, c Caller, key string, p store.Page) (out []store.CachedDevice, total int, err error) {
	select {
	case s.pages <- struct{}{}:
		defer func() { <-s.pages }()
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	err = s.config.Store.View(ctx, func(r store.Reader) error {
		cache, err := c.cache(r, key)
		if err != nil {
			return err
		}
		total = cache.DeviceCount
		out, err = r.CachedDevicePage(key, p)
		return err
	})
	return out, total, err
}
