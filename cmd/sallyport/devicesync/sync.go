// SPDX-License-Identifier: Apache-2.0

package devicesync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Batch is how many identifiers go in one call: the most that the API takes.
const Batch = 1000

// Bounds of trying again.
const (
	tries      = 8
	firstWait  = 2 * time.Second // never below one: within a second the same request has the same date, and is a replay
	longest    = 32 * time.Second
	giveUp     = 10 * time.Minute // for one call
	tidyWithin = 15 * time.Second
)

// Client calls the server; *duoapi.Client is one.
type Client interface {
	Call(ctx context.Context, method, path string, params url.Values, out any) (*duoapi.Metadata, error)
}

// Sync uploads a list.
type Sync struct {
	Client Client
	System string // DM…
	// DryRun deletes the new cache in place of activating it.
	DryRun bool
	// KeepPending refuses to go on if there is a pending cache, which else is taken
	// for what a run that was killed has left, and deleted.
	KeepPending bool
	// Say shows a line of progress, and Note what a person should know besides.
	Say, Note func(format string, args ...any)
}

// Result is what a run came to, with the names of the API where it has some.
type Result struct {
	System      string `json:"mkey"`
	CacheKey    string `json:"cache_key"`
	Read        int    `json:"devices_read"` // different ones
	Duplicates  int    `json:"duplicates"`
	Blank       int    `json:"blank"`
	DeviceCount int    `json:"device_count"` // as the server counts
	Activated   bool   `json:"activated"`
	DryRun      bool   `json:"dry_run"`
}

// ErrPending says that there is a pending cache and KeepPending is set.
var ErrPending = errors.New("a pending device cache is there already")

type cache struct {
	Key    string `json:"cache_key"`
	Status string `json:"status"`
	Count  int    `json:"device_count"`
}

func (s *Sync) base() string {
	return "/device/v1/management_systems/" + url.PathEscape(s.System) + "/device_cache"
}

func (s *Sync) path(key string) string { return s.base() + "/" + url.PathEscape(key) }

// Run makes a new cache of the list and activates it, which deletes the active
// one. A run that fails or is interrupted deletes what it made; the active cache
// stays as it was until the last step.
func (s *Sync) Run(ctx context.Context, l List) (Result, error) {
	out := Result{System: s.System, Read: len(l.IDs), Duplicates: l.Duplicates, Blank: l.Blank, DryRun: s.DryRun}
	s.Say("Starting device sync")
	var err error
	if out.CacheKey, err = s.create(ctx); err != nil {
		return out, err
	}
	if out.DeviceCount, err = s.upload(ctx, out.CacheKey, l.IDs); err != nil {
		s.abandon(ctx, out.CacheKey)
		return out, err
	}
	if out.DeviceCount != len(l.IDs) {
		s.Note("the server counts %d devices where %d different ones were sent", out.DeviceCount, len(l.IDs))
	}
	if s.DryRun {
		return out, s.remove(ctx, out.CacheKey)
	}
	s.Say("Attempting to activate device cache cache_key: %s", out.CacheKey)
	if err := s.call(ctx, "activate the device cache", http.MethodPost, s.path(out.CacheKey)+"/activate", nil, nil); err != nil {
		s.abandon(ctx, out.CacheKey)
		return out, err
	}
	out.Activated = true
	s.Say("Activated device cache cache_key: %s", out.CacheKey)
	s.Say("Devices synced: %d", out.DeviceCount)
	return out, nil
}

// create makes a pending cache, in place of one that may be left over.
func (s *Sync) create(ctx context.Context) (string, error) {
	var pending []cache
	if err := s.call(ctx, "list device caches", http.MethodGet, s.base(), url.Values{"status": {"pending"}}, &pending); err != nil {
		return "", err
	}
	for _, c := range pending {
		if c.Status != "pending" {
			continue
		}
		if s.KeepPending {
			return "", fmt.Errorf("%w: %s", ErrPending, c.Key)
		}
		if err := s.remove(ctx, c.Key); err != nil {
			return "", err
		}
	}
	s.Say("Attempting to create new cache for mkey: %s", s.System)
	var made cache
	if err := s.call(ctx, "create a device cache", http.MethodPost, s.base(), nil, &made); err != nil {
		return "", err
	}
	if made.Key == "" {
		return "", errors.New("create a device cache: the server names no cache_key")
	}
	s.Say("New cache created cache_key: %s", made.Key)
	return made.Key, nil
}

func (s *Sync) remove(ctx context.Context, key string) error {
	s.Say("Attempting to delete existing cache cache_key: %s", key)
	if err := s.call(ctx, "delete a device cache", http.MethodDelete, s.path(key), nil, nil); err != nil {
		return err
	}
	s.Say("Deleted existing cache cache_key: %s", key)
	return nil
}

// abandon deletes the cache of a run that failed, once, also if the run was
// interrupted. If that fails, the next run does it.
func (s *Sync) abandon(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyWithin)
	defer cancel()
	if _, err := s.Client.Call(ctx, http.MethodDelete, s.path(key), nil, nil); err != nil {
		s.Note("device cache %s stays pending, and the next run deletes it: %v", key, err)
	}
}

func (s *Sync) upload(ctx context.Context, key string, ids []string) (int, error) {
	type device struct {
		ID string `json:"device_id"`
	}
	s.Say("Attempting to upload devices count: %d", len(ids))
	count := 0
	for part := range slices.Chunk(ids, Batch) {
		devices := make([]device, len(part))
		for i, id := range part {
			devices[i].ID = id
		}
		text, err := json.Marshal(devices)
		if err != nil {
			return 0, fmt.Errorf("encode devices: %w", err)
		}
		var answer struct {
			Count *int `json:"device_count"`
		}
		err = s.call(ctx, fmt.Sprintf("upload %d devices", len(part)), http.MethodPost, s.path(key)+"/devices", url.Values{"devices": {string(text)}}, &answer)
		if err != nil {
			return 0, err
		}
		if answer.Count == nil {
			return 0, errors.New("upload devices: the server tells no device_count")
		}
		count = *answer.Count
	}
	s.Say("%d, devices uploaded", count)
	return count, nil
}

// call makes one call, again where another try may help. All calls may be
// repeated: to add twice, or to activate twice, comes to the same, and a cache
// that a lost answer leaves is deleted by the next run.
func (s *Sync) call(ctx context.Context, what, method, path string, params url.Values, out any) error {
	waits := &backoff.ExponentialBackOff{InitialInterval: firstWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: longest}
	var last error
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		_, last = s.Client.Call(ctx, method, path, params, out)
		return struct{}{}, mayHelp(last)
	}, backoff.WithBackOff(waits), backoff.WithMaxTries(tries), backoff.WithMaxElapsedTime(giveUp),
		backoff.WithNotify(func(_ error, wait time.Duration) {
			s.Note("%s: %v; trying again in %s", what, last, wait.Round(100*time.Millisecond))
		}))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w", what, last)
}

// mayHelp tells the library whether to try again, and when.
func mayHelp(err error) error {
	var refused *duoapi.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, duoapi.ErrTransport), errors.Is(err, duoapi.ErrMalformed):
		return err
	case !errors.As(err, &refused):
		return backoff.Permanent(err)
	case refused.RetryAfter > 0:
		return backoff.RetryAfter(refused.RetryAfter)
	case refused.Code/100 == http.StatusTooManyRequests, refused.Code/100 >= http.StatusInternalServerError,
		refused.Code == duoapi.CodeCannotDecide, refused.Code == duoapi.CodeReplay: // another run made the same call in this second
		return err
	}
	return backoff.Permanent(err)
}
