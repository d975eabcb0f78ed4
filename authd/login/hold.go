// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// held asks for a factor where nobody can type: while the gateway holds the reply
// to a public key, and on the way to a target without a terminal. The authenticator
// alone answers.
func (a *asking) held(ctx context.Context) verdict {
	c, ok := a.menu.first(duoapi.FactorPush)
	if !ok {
		c, ok = a.menu.first(duoapi.FactorPhone)
	}
	if !ok {
		return deny("no_method").saying(textNothingToHoldFor(a.cfg.Contact))
	}
	v, _ := a.tryToUse(ctx, c)
	if v != nil {
		return *v
	}
	return deny("not_approved").saying(a.note)
}

// heldDigits shows the digits of a verified push to whoever can only read.
func (a *asking) heldDigits(ctx context.Context, c choice, w *watcher, digits string) *verdict {
	if err := a.conv.Show(frames.StyleInfo, textDigitsOnly(c, digits)); err != nil {
		w.stop()
		a.cancel(ctx)
		v := a.failed(err)
		return &v
	}
	return a.concludeQuietly(ctx, w)
}
