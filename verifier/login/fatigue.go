// SPDX-License-Identifier: Apache-2.0

package login

import (
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// unheeded tells the administrators, once per window, when tx, which the update has
// just ended as denied, reported or not answered, is one of so many: somebody who
// has the password may hope that the person approves one in the end. It does so
// whether or not a login succeeded in between, since that may be the very one. True:
// they were told.
func (s *Service) unheeded(w store.Writer, tx store.Transaction, now time.Time) (bool, error) {
	if !slices.Contains([]string{duoapi.FactorPush, duoapi.FactorPhone}, tx.Factor) {
		return false, nil
	}
	settings, err := w.Settings()
	if err != nil {
		return false, err
	}
	raised, err := w.RaisePushAlarm(tx.UserID, settings.PushAlarm, pushWindow, now)
	if err != nil || !raised {
		return false, err
	}
	return true, s.alarm(w, audit.PushFatigue, tx.UserID, map[string]any{
		"txid": tx.TxID, "factor": tx.Factor, "integration_key": tx.IntegrationKey, "phone_id": tx.PhoneID,
		"requests": settings.PushAlarm, "minutes": int(pushWindow.Minutes()),
	})
}
