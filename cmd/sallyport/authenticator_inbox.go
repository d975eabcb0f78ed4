// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
)

// inbox holds the login requests that wait to be shown, of all accounts, and knows
// which of those that were shown are still open. It is safe for concurrent use.
type inbox struct {
	more chan struct{} // has an element after a change

	mu    sync.Mutex
	queue []request
	open  map[string]map[string]chan struct{} // by account and transaction; closed when it is not open any more
}

func newInbox() *inbox {
	return &inbox{more: make(chan struct{}, 1), open: map[string]map[string]chan struct{}{}}
}

// update takes the list of all open requests to an account. What it returns is wrong
// with requests that are new and cannot be shown.
func (b *inbox) update(a authenticator.Account, client *agentapi.Client, list []agentapi.Transaction) []error {
	var bad []error
	b.mu.Lock()
	defer b.mu.Unlock()
	before, now := b.open[a.AuthenticatorID], map[string]chan struct{}{}
	for _, tx := range list {
		if gone, known := before[tx.TxID]; known {
			now[tx.TxID] = gone
			delete(before, tx.TxID)
			continue
		}
		gone := make(chan struct{})
		now[tx.TxID] = gone
		r, err := newRequest(a, client, tx)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		r.gone = gone
		b.queue = append(b.queue, r)
	}
	for _, gone := range before {
		close(gone)
	}
	b.open[a.AuthenticatorID] = now
	select {
	case b.more <- struct{}{}:
	default:
	}
	return bad
}

// next takes the oldest request that was not shown and is still open.
func (b *inbox) next() (r request, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 {
		r, b.queue = b.queue[0], b.queue[1:]
		select {
		case <-r.gone:
		default:
			return r, true
		}
	}
	return request{}, false
}
