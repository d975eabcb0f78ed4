// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
)

func scrape(m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func used() *Metrics {
	m := New(func() control.Status {
		return control.Status{Version: "test", Connections: 3, Limit: 100, Handshakes: 2, Channels: 4, BytesIn: 5, BytesOut: 6,
			Config: control.Config{Rules: 7, Targets: 8, ReloadError: "wrong"}, Authd: "away", Draining: time.Unix(1, 0)}
	})
	m.Event(audit.LoginAllowed)
	m.Event(audit.LoginAllowed)
	m.Dialled(20*time.Millisecond, nil)
	m.Dialled(time.Second, errors.New("no route"))
	m.Reloaded(false)
	return m
}

func TestWhatIsCounted(t *testing.T) {
	text := scrape(used())
	for _, want := range []string{
		`sallyport_sshgw_events_total{event="gw_login"} 2`,
		`sallyport_sshgw_events_total{event="gw_denied"} 0`,
		`sallyport_sshgw_target_dial_seconds_count{result="failed"} 1`,
		`sallyport_sshgw_target_dial_seconds_bucket{result="ok",le="0.025"} 1`,
		`sallyport_sshgw_config_reloads_total{result="failed"} 1`,
		`sallyport_sshgw_connections 3`, `sallyport_sshgw_connections_limit 100`, `sallyport_sshgw_handshakes 2`, `sallyport_sshgw_channels 4`,
		`sallyport_sshgw_bytes_total{direction="in"} 5`, `sallyport_sshgw_bytes_total{direction="out"} 6`,
		`sallyport_sshgw_rules 7`, `sallyport_sshgw_targets 8`, `sallyport_sshgw_config_reload_failed 1`,
		`sallyport_sshgw_authd_up 0`, `sallyport_sshgw_draining 1`, `sallyport_sshgw_info{version="test"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/sshgw-events.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(scrape(used()), -1)
	if len(names) < 15 {
		t.Fatalf("%d metrics", len(names))
	}
	for _, n := range names {
		if !strings.Contains(string(page), "`"+n[1]+"`") {
			t.Errorf("%s is not in docs/reference/sshgw-events.md", n[1])
		}
	}
}
