// SPDX-License-Identifier: Apache-2.0

// Package pamswitch switches the second factor of PAM services on and off so that
// a mistake takes itself back: it plans a change of /etc/pam.d and of sshd's
// drop-in, tries the new stacks, keeps what was there, and undoes the change
// unless a person confirms it in time, also after a crash or a restart. It never
// puts a stack in place that doctor fails, and never decides about a login.
//
// A change goes through these states, each on disk before the next begins:
//
//	kept ──► pending ──► in place ──┬─► confirmed
//	            │                   └─► taken back
//	            └── crash: taken back ──────┘
//
// "pending" is a link to the change's folder. While it is there, the timer, the
// unit at boot and any `sallyport pam rollback` take the change back; taking back
// what is not yet in place, or already taken back, does nothing.
package pamswitch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Host is the system that is changed.
type Host struct {
	Root  string // prefix of all files; "" for this machine
	Store Store
	Clock Clock
	SSHD  *SSHD // nil: none is told of changes
	Now   func() time.Time
}

// Clock takes a change back when its time is over, whatever becomes of this process.
type Clock interface {
	// Set makes it certain that the change is taken back after a time, and at boot.
	Set(ctx context.Context, id string, after time.Duration) error
	// Clear ends that.
	Clear(ctx context.Context, id string) error
}

// ErrPending says that an earlier change waits for its confirmation.
var ErrPending = errors.New("a change waits for its confirmation")

// ErrNothingPending says that no change waits for a confirmation.
var ErrNothingPending = errors.New("no change waits for its confirmation")

// Apply puts a plan in place. With a time to confirm it returns a change that is
// pending; without one the change is for good. On an error nothing has changed,
// or the error says what has.
func (h *Host) Apply(ctx context.Context, plan *Plan, within time.Duration, check func(context.Context) error) (*Change, error) {
	unlock, err := h.Store.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c, err := h.Store.Pending(); err == nil {
		return nil, fmt.Errorf("%w: %s of %s", ErrPending, c.Action, c.Made.Format(time.RFC3339))
	} else if !errors.Is(err, ErrNothingPending) {
		return nil, err
	}
	c, err := h.Store.keep(h.Root, plan, h.Now(), within)
	if err != nil {
		return nil, err
	}
	if err := h.Store.markPending(c); err != nil {
		return nil, err
	}
	if within > 0 {
		if err := h.Clock.Set(ctx, c.ID, within); err != nil {
			return nil, errors.Join(fmt.Errorf("nothing was changed: %w", err), h.settle(ctx, c, TakenBack))
		}
	}
	installing, cancel := context.WithTimeout(ctx, installTime)
	defer cancel()
	if err := h.install(installing, c, check); err != nil {
		if back := h.takeBack(ctx, c); back != nil {
			return nil, errors.Join(err, back)
		}
		return nil, fmt.Errorf("%w; the old files are back", err)
	}
	if within > 0 {
		return c, nil
	}
	return c, h.settle(ctx, c, Confirmed)
}

// installTime bounds what Apply does between the clock's start and its end: while
// it lasts nobody else can take the change back.
const installTime = time.Minute

func (h *Host) install(ctx context.Context, c *Change, check func(context.Context) error) error {
	for _, f := range c.Files {
		text, err := h.Store.text(c, f.After)
		if err != nil {
			return err
		}
		if err := replace(h.Root, f, text); err != nil {
			return err
		}
	}
	if c.SSHD && h.SSHD != nil {
		if check != nil {
			if err := check(ctx); err != nil {
				return err
			}
		}
		if err := h.SSHD.Reload(ctx); err != nil {
			return err
		}
	}
	// This process may have stood still for so long that the clock was faster.
	if now, err := h.Store.Pending(); err != nil || now.ID != c.ID {
		return errors.New("the change was taken back before it was in place")
	}
	return nil
}

// Confirm keeps the pending change for good. id may be empty.
func (h *Host) Confirm(ctx context.Context, id string) (*Change, error) {
	unlock, err := h.Store.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	c, err := h.pending(id)
	if err != nil {
		return nil, err
	}
	return c, h.settle(ctx, c, Confirmed)
}

// TakeBack undoes the pending change. id may be empty. A change that is settled
// already is ErrNothingPending. A process that stands still with the lock does
// not keep it from that for ever.
func (h *Host) TakeBack(ctx context.Context, id string) (*Change, error) {
	waiting, cancel := context.WithTimeout(ctx, installTime+10*time.Second)
	defer cancel()
	unlock, err := h.Store.lock(waiting)
	switch {
	case err == nil:
		defer unlock()
	case waiting.Err() == nil || ctx.Err() != nil:
		return nil, err
	}
	c, err := h.pending(id)
	if err != nil {
		return nil, err
	}
	return c, h.takeBack(ctx, c)
}

func (h *Host) pending(id string) (*Change, error) {
	c, err := h.Store.Pending()
	if err == nil && id != "" && c.ID != id {
		return nil, ErrNothingPending
	}
	return c, err
}

// takeBack restores the files. The change stays pending until all are restored,
// so that the next try, at boot at the latest, goes on.
func (h *Host) takeBack(ctx context.Context, c *Change) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installTime)
	defer cancel()
	var errs []error
	for i := len(c.Files) - 1; i >= 0; i-- {
		errs = append(errs, h.restore(c, c.Files[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the change back: %w", err)
	}
	err := h.settle(ctx, c, TakenBack)
	if c.SSHD && h.SSHD != nil {
		err = errors.Join(err, h.SSHD.Reload(ctx))
	}
	return err
}

// settle ends the state pending.
func (h *Host) settle(ctx context.Context, c *Change, s State) error {
	if err := h.Store.settle(c, s, h.Now()); err != nil {
		return err
	}
	if c.Within == 0 {
		return nil
	}
	return h.Clock.Clear(ctx, c.ID)
}
