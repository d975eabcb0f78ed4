// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

const (
	// checkEvery is how often the verifier is asked which keys are alive.
	checkEvery = 5 * time.Minute
	// tickEvery is how often the time is noted.
	tickEvery = 10 * time.Minute
	// maxQueue bounds the logins that wait for their keys.
	maxQueue = 256
	// callTimeout bounds a call with all its addresses.
	callTimeout = 30 * time.Second
)

// Call runs a call that the host's key signs; again says that asking twice does no harm.
type Call func(ctx context.Context, again bool, call func(context.Context, *agentapi.Client) error) error

// Keeper keeps a Ring in step with the verifier, in the background.
type Keeper struct {
	*Ring
	Call Call

	logins  chan login
	contact chan struct{}
}

type login struct{ name, txID string }

// NewKeeper makes a Keeper. Run does its work.
func NewKeeper(r *Ring, call Call) *Keeper {
	return &Keeper{Ring: r, Call: call, logins: make(chan login, maxQueue), contact: make(chan struct{}, 1)}
}

// LoggedIn says that the verifier has granted a login. It never blocks.
func (k *Keeper) LoggedIn(name, txID string) {
	if txID == "" || k.Full(name) {
		return
	}
	select {
	case k.logins <- login{name, txID}:
	default:
		k.opt.Log.Warn("no new keys for offline codes: too many logins at once", slog.String("event", "offline_busy"))
	}
}

// Contact says that a verifier is back. It never blocks.
func (k *Keeper) Contact() {
	select {
	case k.contact <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. One call is under way at a time, so that an answer
// about keys that are alive never comes after a newer hand-over.
func (k *Keeper) Run(ctx context.Context) {
	check, tick := time.NewTicker(checkEvery), time.NewTicker(tickEvery)
	defer check.Stop()
	defer tick.Stop()
	k.check(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-k.logins:
			k.fetch(ctx, l)
		case <-k.contact:
			k.check(ctx)
		case <-check.C:
			k.check(ctx)
		case <-tick.C:
			if err := k.Tick(); err != nil {
				k.opt.Log.Error("the time is not noted", slog.String("event", "offline_state_failed"), slog.Any("error", err))
			}
		}
	}
}

func (k *Keeper) fetch(ctx context.Context, l login) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var got agentapi.OfflineGrant
	err := k.Call(ctx, true, func(ctx context.Context, c *agentapi.Client) (err error) {
		got, err = c.OfflineKeys(ctx, agentapi.OfflineRequest{TxID: l.txID, Have: k.Have(l.name)})
		return err
	})
	if err == nil {
		err = k.Take(l.name, got)
	}
	if err != nil {
		k.opt.Log.Warn("no new keys for offline codes", slog.String("event", "offline_not_granted"),
			slog.String("username", l.name), slog.Any("error", err))
		return
	}
	k.opt.Log.Info("keys for offline codes", slog.String("event", "offline_granted"), slog.String("username", l.name), slog.Int("keys", len(got.Keys)))
}

// check asks which keys are alive, and deletes the others.
func (k *Keeper) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var live agentapi.LiveKeys
	err := k.Call(ctx, true, func(ctx context.Context, c *agentapi.Client) (err error) {
		live, err = c.LiveOfflineKeys(ctx)
		return err
	})
	var refused *duoapi.Error
	var gone int
	switch {
	case err == nil:
		gone, err = k.Prune(live)
	case errors.As(err, &refused) && refused.Code == duoapi.CodeInvalidProof:
		gone, err = k.Clear()
	default:
		k.opt.Log.Debug("not known which keys for offline codes are alive", slog.Any("error", err))
		return
	}
	if gone > 0 {
		k.opt.Log.Warn("keys for offline codes have ended", slog.String("event", "offline_ended"), slog.Int("keys", gone))
	}
	if err != nil {
		k.opt.Log.Error("ended keys for offline codes are not off the disk", slog.String("event", "offline_state_failed"), slog.Any("error", err))
	}
}
