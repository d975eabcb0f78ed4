// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// cache keeps answers by age. Many who ask the same at once ask the directory
// once; what is asked for least goes first when the cache is full.
type cache struct {
	client  *Client
	entries *lru.Cache[string, entry]
	flights singleflight.Group
}

// answer is something that the directory may have said.
type answer interface {
	found() bool // it is there; else the answer is "there is none"
}

type entry struct {
	value answer
	asked time.Time // when the question went out
}

func newCache(c *Client, size int) *cache {
	entries, err := lru.New[string, entry](size)
	if err != nil {
		panic(err) // package config has checked the size
	}
	return &cache{client: c, entries: entries}
}

// cached is the answer kept under key, or what find brings. An answer that is too
// old is still used while the directory is away, for cache_stale.
func cached[T answer](ctx context.Context, c *cache, key string, find func(context.Context) (T, error)) (T, error) {
	kept, have := c.entries.Get(key)
	if have && c.fresh(kept) {
		return kept.value.(T), nil
	}
	value, err := c.ask(ctx, key, func(ctx context.Context) (answer, error) { return find(ctx) })
	if err == nil {
		return value.(T), nil
	}
	stale := c.client.set.CacheStale
	if have && stale > 0 && c.age(kept) < c.maxAge(kept)+stale && (isAway(err) || ctx.Err() != nil) {
		c.client.opt.Log.Warn("the directory is away, an old answer is used", slog.String("event", "ldap_stale"), slog.String("setting", "cache_stale"),
			slog.String("question", key), slog.Duration("age", c.age(kept).Round(time.Second)), slog.Any("error", err))
		return kept.value.(T), nil //nolint:nilerr // the old answer stands in for the error, which the log has
	}
	var none T
	return none, err
}

// isAway tells a directory that does not answer from an answer that helps nobody.
func isAway(err error) bool {
	var away *Away
	return errors.As(err, &away) || errors.Is(err, errTimeout)
}

// age is negative where the clock was set back, and then more than any limit.
func (c *cache) age(e entry) time.Duration {
	if age := c.client.opt.Now().Sub(e.asked); age >= 0 {
		return age
	}
	return 1<<63 - 1
}

func (c *cache) fresh(e entry) bool { return c.age(e) < c.maxAge(e) }

func (c *cache) maxAge(e entry) time.Duration {
	if e.value.found() {
		return c.client.set.CacheMaxAge
	}
	return c.client.set.CacheNegative
}

// ask runs find once for all who wait for key. It goes on when one of them gives
// up: the next one will want the answer.
func (c *cache) ask(ctx context.Context, key string, find func(context.Context) (answer, error)) (answer, error) {
	flight := c.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(c.client.ctx, c.client.opt.Timeout, errTimeout)
		defer cancel()
		// The flight before this one may have landed just now.
		if kept, have := c.entries.Get(key); have && c.fresh(kept) {
			return kept.value, nil
		}
		asked := c.client.opt.Now()
		value, err := find(ctx)
		if err == nil {
			c.entries.Add(key, entry{value, asked})
		}
		return value, err
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(answer), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the directory: %w", context.Cause(ctx))
	}
}
