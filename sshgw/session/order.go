// SPDX-License-Identifier: Apache-2.0

package session

import (
	"sync"

	"golang.org/x/crypto/ssh"
)

// queued is how many requests of one peer may wait for those before them.
const queued = 128

// inOrder handles requests one after the other, as their replies must go out in order, and
// reads on while one is being handled: a peer's connection stands still otherwise. What
// early takes is done with: requests without a reply that may overtake others. It returns
// true when the requests have ended and all are handled, false at once when too many wait.
func inOrder(spawn func(func()), requests <-chan *ssh.Request, early func(*ssh.Request) bool, handle func(*ssh.Request)) bool {
	var (
		mu   sync.Mutex
		wait []*ssh.Request
		busy bool
		all  sync.WaitGroup
	)
	work := func() {
		defer all.Done()
		for {
			mu.Lock()
			if len(wait) == 0 {
				busy = false
				mu.Unlock()
				return
			}
			r := wait[0]
			wait = wait[1:]
			mu.Unlock()
			handle(r)
		}
	}
	for r := range requests {
		if early(r) {
			continue
		}
		mu.Lock()
		if len(wait) >= queued {
			mu.Unlock()
			return false
		}
		wait = append(wait, r)
		start := !busy
		busy = true
		mu.Unlock()
		if start {
			all.Add(1)
			spawn(work)
		}
	}
	all.Wait()
	return true
}

// refuse answers requests with no until they end.
func refuse(requests <-chan *ssh.Request) {
	for r := range requests {
		_ = r.Reply(false, nil)
	}
}
