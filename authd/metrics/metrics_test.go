// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/status"
)

func full() status.Report {
	now := time.Unix(1_700_000_000, 0)
	return status.Report{Version: "1", Started: now, Config: status.Config{Loaded: now, Rules: 2, ReloadError: "broken"},
		Verifiers: []status.Verifier{{Address: "a:1", Up: true, LastContact: now}, {Address: "b:1"}}, FailOpen: 7,
		Sockets: []status.Socket{{Name: "authd.sock", Connections: 1, Limit: 8}}, Grants: 4, Throttled: 5,
		Events: &status.Events{Unreported: 3, Kept: true}, LDAP: []status.LDAP{{Server: "ldap", Up: true}}}
}

func scrape(m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func used() *Metrics {
	m := New(full)
	m.Login("sshd", "allow", "passcode")
	m.Request("preauth", "answer", time.Second)
	m.Slowed("throttle.max_delay", time.Second)
	m.Refused("user.sock", "too many connections")
	m.Reloaded(true)
	return m
}

func TestReportBecomesMetrics(t *testing.T) {
	text := scrape(used())
	for _, want := range []string{
		`sallyport_verifier_up{address="a:1"} 1`, `sallyport_verifier_up{address="b:1"} 0`, `sallyport_verifier_last_contact_time_seconds{address="b:1"} 0`,
		`sallyport_fail_open_logins 7`, `sallyport_connections{socket="authd.sock"} 1`, `sallyport_grants 4`, `sallyport_throttle_entries 5`,
		`sallyport_unreported_events 3`, `sallyport_ldap_up{server="ldap"} 1`, `sallyport_config_reload_failed 1`, `sallyport_rules 2`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := scrape(New(func() status.Report { return status.Report{} })); strings.Contains(text, "unreported") {
		t.Errorf("what is not in use is shown:\n%s", text)
	}
}

// Root's programs name the services; however many they name, the metrics stay small.
func TestServicesAreBounded(t *testing.T) {
	m := used()
	for i := range 1000 {
		m.Login(fmt.Sprint("service", i), "deny", "rule_deny")
	}
	m.Login("sshd", "allow", "passcode")
	text := scrape(m)
	if n := strings.Count(text, "sallyport_logins_total{"); n != maxServices+1 {
		t.Errorf("%d series", n)
	}
	if !strings.Contains(text, fmt.Sprintf("reason=\"rule_deny\",result=\"deny\",service=\"other\"} %d\n", 1000-maxServices+1)) ||
		!strings.Contains(text, "service=\"sshd\"} 2\n") {
		t.Error(text)
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/authd.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(scrape(used()), -1)
	if len(names) < 15 {
		t.Fatalf("%d metrics", len(names))
	}
	for _, n := range names {
		if !strings.Contains(string(page), "`"+n[1]+"`") {
			t.Errorf("%s is not in docs/reference/authd.md", n[1])
		}
	}
}
