// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"sync"
	"time"
)

// strangersPerMinute is how many lines a minute strangers can make in the log:
// whoever scans a network must not drown what an administrator looks for.
const strangersPerMinute = 60

// strangers counts such lines. It is safe for concurrent use.
type strangers struct {
	mu     sync.Mutex
	window time.Time
	count  int
}

// mayLog counts one and says whether it is within the limit.
func (s *strangers) mayLog(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if window := now.Truncate(time.Minute); !window.Equal(s.window) {
		s.window, s.count = window, 0
	}
	s.count++
	return s.count <= strangersPerMinute
}
