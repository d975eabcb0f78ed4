// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"

	"github.com/sallyport-mfa/sallyport/verifier/credits"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// SetCredits sets what is left for calls and text messages; store.Uncounted: they
// are not counted.
func (d *Directory) SetCredits(ctx context.Context, a Actor, left int64) (credits.Alert, error) {
	var alert credits.Alert
	err := d.update(ctx, "", func(w store.Writer) error {
		before, err := w.Credits()
		if err != nil {
			return err
		}
		set, err := w.Settings()
		if err != nil {
			return err
		}
		if alert, err = credits.Set(w, set, left, d.Now()); err != nil {
			return err
		}
		return d.audit(w, a, credits.ActionUpdate, "", map[string]any{
			"before": map[string]any{"credits": before.Left}, "after": map[string]any{"credits": left},
		})
	})
	return alert, err
}
