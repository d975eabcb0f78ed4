// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// finding is one line of `sallyport doctor --json`.
type finding struct {
	Area    string `json:"area"`
	Subject string `json:"subject"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

// doctor examines the host and returns what it found in some areas.
func (s *site) doctor(t *testing.T, areas []string, args ...string) []finding {
	t.Helper()
	out, err := s.host.Run(t.Context(), harness.Command{Args: append([]string{"sallyport", "doctor", "--json"}, args...)})
	must(t, err)
	var report struct {
		Findings []finding `json:"findings"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &report); err != nil {
		t.Fatalf("doctor: %v: %s", err, out.Output())
	}
	var found []finding
	for _, f := range report.Findings {
		for _, area := range areas {
			if f.Area == area {
				found = append(found, f)
			}
		}
	}
	return found
}

// On a host that works the doctor finds module, sockets, verifier and sshd well.
func TestDoctorOfHealthyHost(t *testing.T) {
	t.Parallel()
	p := town.stranger(t, "healthy")
	found := town.doctor(t, []string{"module", "sockets", "verifier", "sshd"}, "--user", p.name)
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Area] = true
		if f.Status != "ok" {
			t.Errorf("%+v", f)
		}
	}
	if len(seen) != 4 {
		t.Errorf("not everything was examined: %+v", found)
	}
}

// The lost AuthenticationMethods line is what the doctor is there for.
func TestDoctorFindsLostAuthenticationMethods(t *testing.T) {
	t.Parallel()
	p := town.stranger(t, "ill")
	found := town.doctor(t, []string{"sshd"}, "--user", p.name, "--sshd-config", "/etc/ssh/sshd_config_lost")
	failed := false
	for _, f := range found {
		failed = failed || f.Status == "fail" && strings.Contains(f.Fix, "AuthenticationMethods")
	}
	if !failed {
		t.Errorf("the doctor found nothing: %+v", found)
	}
}
