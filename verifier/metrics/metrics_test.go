// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// TestAlarms: what the verifier wrote to the administrator log is counted, once it is
// on disk; what administrators did is not.
func TestAlarms(t *testing.T) {
	db, err := sqlite.Open(context.Background(), filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := New(func() Report { return Report{} })
	s := m.Store(db, func() {})
	refused := errors.New("refused")
	for _, c := range []struct {
		action string
		result error
	}{{audit.PushFatigue, nil}, {audit.PushFatigue, nil}, {audit.UserLockout, refused}} {
		err := s.Update(context.Background(), func(w store.Writer) error {
			return errors.Join(
				audit.System(w, time.Unix(1, 0), c.action, "alice", map[string]any{"user_id": "DU1"}),
				w.AddAdminEvent(store.AdminEvent{Time: time.Unix(1, 0), Username: "root", Action: "user_update", Description: []byte("{}")}),
				c.result)
		})
		if !errors.Is(err, c.result) {
			t.Fatal(err)
		}
	}
	page := httptest.NewRecorder()
	m.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`sallyport_verifier_alarms_total{action="push_fatigue"} 2`, `sallyport_verifier_alarms_total{action="user_lockout"} 0`,
	} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, page.Body)
		}
	}
	if strings.Contains(page.Body.String(), "user_update") {
		t.Error("what administrators do is counted")
	}
}
