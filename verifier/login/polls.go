// SPDX-License-Identifier: Apache-2.0

package login

import (
	"sync"
	"time"
)

const (
	// pollGap is how long after a poll the next one is waited for: a long poll takes
	// 25 seconds, and a short one comes every 5.
	pollGap = 40 * time.Second
	// maxPolls bounds how many authenticators are remembered; beyond it the record
	// starts anew, and who polls is in it again within seconds.
	maxPolls = 10_000
)

// polls remembers which authenticators ask again and again instead of holding a
// connection. It is a hint in memory: it keeps a push waiting that would be given up,
// and decides nothing. The zero value is ready; it is safe for concurrent use.
type polls struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (p *polls) note(phoneID string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.at[phoneID]; p.at == nil || !known && len(p.at) >= maxPolls {
		p.at = map[string]time.Time{}
	}
	p.at[phoneID] = now
}

func (p *polls) forget(phoneID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, phoneID)
}

// within says whether the authenticator has polled in the last pollGap.
func (p *polls) within(phoneID string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.at[phoneID]
	return ok && now.Sub(at) < pollGap
}

// Polled implements API.
func (s *Service) Polled(phoneID string) { s.polls.note(phoneID, s.Now()) }
