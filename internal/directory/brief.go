// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Brief bounds what it takes to answer for names that anybody may send: a look-up has a
// limit of time, and who was not there a moment ago is not looked up again.
type Brief struct {
	names, rest Directory
	limit, keep time.Duration
	now         func() time.Time

	mu     sync.Mutex
	absent *simplelru.LRU[string, time.Time] // until when
}

// maxAbsent bounds how many names are remembered for not being there.
const maxAbsent = 4096

// NewBrief asks names for accounts by name, and rest for all else: what is asked about
// people who are known does not wait behind strangers. keep is how long a name that is
// not there is not looked up again.
func NewBrief(names, rest Directory, limit, keep time.Duration, now func() time.Time) *Brief {
	absent, err := simplelru.NewLRU[string, time.Time](maxAbsent, nil)
	if err != nil {
		panic(err) // the size is a constant above zero
	}
	return &Brief{names: names, rest: rest, limit: limit, keep: keep, now: now, absent: absent}
}

// ByName implements Directory.
func (b *Brief) ByName(ctx context.Context, name string) (Account, error) {
	if b.wasAbsent(name) {
		return Account{}, ErrNoSuchUser
	}
	ctx, cancel := b.within(ctx)
	defer cancel()
	a, err := b.names.ByName(ctx, name)
	if errors.Is(err, ErrNoSuchUser) {
		b.mu.Lock()
		b.absent.Add(name, b.now().Add(b.keep))
		b.mu.Unlock()
	}
	return a, err
}

func (b *Brief) wasAbsent(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.absent.Get(name)
	return ok && b.now().Before(until)
}

// ByUID implements Directory.
func (b *Brief) ByUID(ctx context.Context, uid uint32) (Account, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	return b.rest.ByUID(ctx, uid)
}

// InGroup implements Directory.
func (b *Brief) InGroup(ctx context.Context, account Account, group string) (bool, error) {
	ctx, cancel := b.within(ctx)
	defer cancel()
	return b.rest.InGroup(ctx, account, group)
}

func (b *Brief) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, b.limit, fmt.Errorf("the name service did not answer within %s", b.limit))
}
