// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/status"
)

func TestStatusSaysWhatIsWrong(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.Local)
	show := func(t time.Time) string { return t.Format("2006-01-02 15:04:05Z07:00") }
	two := 2
	s := hostStatus{Authd: up, BreakGlass: &two, Report: &status.Report{
		Version: "1.2", Started: at,
		Config: status.Config{Rules: 3, Loaded: at, RuleFiles: []string{"authd.toml", "rules.d/a.toml"}},
		Verifiers: []status.Verifier{
			{Address: "a:8443", Up: true, Since: at, LastContact: at, First: true},
			{Address: "b:8443", Up: true},
		},
		FailOpen: 4, Events: &status.Events{Unreported: 2, Oldest: at, Kept: true}, Sockets: []status.Socket{{Name: "authd.sock", Connections: 1, Limit: 9, Refused: 5}}, Throttled: 6,
	}}
	want := func(rows ...string) {
		t.Helper()
		text := strings.Join(s.rows(), "\n") + "\n"
		for _, r := range rows {
			if !strings.Contains(text, "\n"+r+"\n") {
				t.Errorf("no %q in\n%s", r, text)
			}
		}
	}
	want("Break-glass codes left\n2", "Version\n1.2, started "+show(at),
		"authd to a:8443\nup since "+show(at)+", asked first, last contact "+show(at),
		"authd to b:8443\nup, no contact yet",
		"Rules\n3, read "+show(at)+" from authd.toml, rules.d/a.toml",
		"Passed by fail mode open\n4", "Events to report\n2, the oldest of "+show(at), "authd.sock\n1 of 9 conversations, 5 refused", "Counts of failures kept\n6")
	if s.bad() {
		t.Error("all is well and it says that it is not")
	}
	s.Report.Verifiers[1] = status.Verifier{Address: "b:8443", Since: at, Cause: "refused", Error: "connection refused"}
	want("authd to b:8443\ndown since " + show(at) + ", no contact yet: connection refused")
	if !s.bad() {
		t.Error("a verifier is down")
	}
	s.Report.Verifiers = nil
	s.Report.Config.ReloadError, s.Report.Config.ReloadFailed = "unknown key x", at
	want("Reload\nfailed " + show(at) + ", what was in force before still is: unknown key x")
	if !s.bad() {
		t.Error("a reload has failed")
	}
	s.Report.Config.ReloadError, s.Report.Events.Kept = "", false
	want("Events to report\ncannot be kept: see state_dir")
	if !s.bad() {
		t.Error("events cannot be kept")
	}
	s.Report, s.ReportError = nil, "only root may ask"
	want("State of authd\nnot known: only root may ask")
	if s.bad() {
		t.Error("who may not ask is told that something is wrong")
	}
}
