// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// noteEvery is how often it is noted at most that a host was heard of.
const noteEvery = 5 * time.Minute

// sightings remember when each host was noted last.
type sightings struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due says whether the host is to be noted at this time, to one caller only.
func (s *sightings) due(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.last[id]; ok && now.Sub(last) < noteEvery {
		return false
	}
	if s.last == nil || len(s.last) >= maxCached {
		s.last = map[string]time.Time{}
	}
	s.last[id] = now
	return true
}

// noteHost keeps for administrators when a host's integration was heard of. A
// login does not depend on it.
func (g *Gate) noteHost(ctx context.Context, id string) {
	if id == "" || !g.seen.due(id, g.now()) {
		return
	}
	err := g.store.Update(ctx, func(w store.Writer) error { return w.TouchHost(id, g.now()) })
	if err != nil {
		g.log.Warn("cannot note that a host was heard of", "host", id, "error", err)
	}
}
