// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// asksOffline is the question for an offline code; it names the host.
const asksOffline = `Enter an offline code of this host, (host-[A-Z2-7]{4})\.[^:]*[Cc]ode: $`

const offlineKeys = "/var/lib/sallyport/authd/offline"

// offlineSite is a site of the test's own that takes offline codes when the
// verifier is away, one try at each login, so that each refusal has its own event.
func offlineSite(t *testing.T) *site {
	t.Helper()
	s := ownSite(t)
	s.setAuthdConfig(t, strings.Replace(s.authdConfig(t), `fail_mode = "secure"`, "fail_mode = \"offline\"\nattempts = 1", 1))
	return s
}

// online logs in by way of the verifier, by ssh, and waits for the keys that follow.
func (p *person) online(t *testing.T, token *codes, uses int) {
	t.Helper()
	v := p.ssh(t, p.site.client, "22")
	v.answers(token.next())
	v.comesIn()
	eventually(t, "keys for offline codes come", func() bool {
		out, err := p.site.host.Shell(t.Context(), "cat "+offlineKeys+"/*.json 2>/dev/null || true")
		must(t, err)
		return strings.Contains(out, fmt.Sprintf(`"uses_left":%d,`, uses))
	})
}

// offlineCode is what the authenticator shows for the host.
func (a *authenticator) offlineCode(args ...string) (code string, number int64) {
	a.t.Helper()
	out := a.run(append([]string{"offline", "--json"}, args...)...)
	var shown struct {
		Code   string
		Number int64
	}
	if err := json.Unmarshal([]byte(out.Stdout), &shown); err != nil || out.Code != 0 {
		a.t.Fatalf("offline: %v\n%s", err, out.Output())
	}
	return shown.Code, shown.Number
}

// patience is longer than the delay after one wrong code, and after two.
func patience() { time.Sleep(2500 * time.Millisecond) }

func (s *site) cut(t *testing.T)  { t.Helper(); must(t, s.verifier.Disconnect(t.Context())) }
func (s *site) mend(t *testing.T) { t.Helper(); must(t, s.verifier.Connect(t.Context())) }

// refusedOffline types a code and wants to be refused for that reason.
func (p *person) refusedOffline(t *testing.T, code, reason string) {
	t.Helper()
	patience()
	v := p.ssh(t, p.site.client, "22")
	v.expect(asksOffline)
	v.types(code)
	v.isRefused()
	p.lastDecision(t, decision{Reason: reason})
}

// The network is cut: people come in by offline codes, each once and within its
// limits, and the verifier hears of each use once when it is back.
func TestOfflineCodes(t *testing.T) {
	t.Parallel()
	s := offlineSite(t)
	p, lodger := s.person(t, "offline"), s.person(t, "lodger")
	token := p.hotp(t)
	a := p.authenticator(t)
	s.admin(t, nil, "settings", "set", "offline_max_uses=4", "offline_max_days=7")
	p.online(t, token, 4)
	eventually(t, "the authenticator lists the host", func() bool { return strings.Contains(a.run("hosts").Stdout, "host-") })
	a.addsAnotherHost()

	s.cut(t)
	used := map[int64]bool{}
	for _, d := range doors {
		code, number := a.offlineCode(s.host.Name)
		v := d.knock(t, p)
		v.expect(asksOffline)
		v.types(code)
		v.comesIn()
		used[number] = true
		if d.name == "sshd" {
			p.lastDecision(t, decision{Reason: "offline", Setting: "fail_mode"})
			p.refusedOffline(t, code, "offline_replayed")
			other, _ := a.offlineCode("elsewhere-AAAA")
			p.refusedOffline(t, other, "offline_wrong_code")
			patience()
		}
	}

	// Whoever has no key here is told whom to ask, and is asked nothing.
	v := lodger.ssh(t, s.client, "22")
	v.isRefused()
	v.hasRead("you have no offline code for this host")
	lodger.lastDecision(t, decision{Reason: "offline_not_enrolled"})

	// The clock: too far ahead, back before what it was, and right again.
	code, number := a.offlineCode(s.host.Name)
	s.runAuthdAhead(t, 8*24*time.Hour)
	p.refusedOffline(t, code, "offline_expired")
	s.runAuthdAhead(t, -time.Hour)
	p.refusedOffline(t, code, "offline_clock")
	s.runAuthdAhead(t, 0)
	v = p.ssh(t, s.client, "22")
	v.expect(asksOffline)
	v.types(code)
	v.comesIn()
	used[number] = true
	code, _ = a.offlineCode(s.host.Name)
	p.refusedOffline(t, code, "offline_used_up")

	// authd dies, and the verifier is back.
	must(t, s.host.Signal(t.Context(), "authd", "KILL"))
	s.mend(t)
	_, err := s.host.Shell(t.Context(), "rm -f /run/sallyport/authd.sock")
	must(t, err)
	must(t, s.startAuthd(t.Context()))
	var got []reported
	eventually(t, "the uses are reported", func() bool {
		got = s.reported(t)
		return count(got, "offline") >= len(used) && count(got, "offline_used_up") == 1
	})
	for _, e := range got {
		if e.Reason != "offline" {
			continue
		}
		if e.HostReport.Number == nil || !used[*e.HostReport.Number] || e.User.Name != p.name || e.Result != "success" || e.AccessDevice.Hostname != s.host.Name {
			t.Errorf("event %+v", e)
			continue
		}
		delete(used, *e.HostReport.Number)
	}
	for number := range used {
		t.Errorf("the use of code %d is not in the log, or another twice", number)
	}
	for reason, n := range map[string]int{
		"offline": 4, "offline_replayed": 1, "offline_wrong_code": 1, "offline_not_enrolled": 1, "offline_expired": 1, "offline_clock": 1, "offline_used_up": 1,
	} {
		if count(got, reason) != n {
			t.Errorf("%d events %s, want %d", count(got, reason), reason, n)
		}
	}

	// A login by way of the verifier brings new uses; numbers go on.
	p.online(t, token, 4)
	s.cut(t)
	v = p.sudo(t)
	v.expect(asksOffline)
	code, _ = a.offlineCode(s.host.Name)
	v.types(code)
	v.comesIn()

	// A disabled person has no codes any more once the host has asked.
	s.mend(t)
	eventually(t, "the verifier is back for administrators", func() bool {
		return s.adminErr(t.Context(), nil, "user", "set", p.name, "--status", "disabled") == nil
	})
	s.runAuthdAhead(t, 0)
	eventually(t, "the keys are gone", func() bool {
		out, err := s.host.Shell(t.Context(), "ls "+offlineKeys)
		must(t, err)
		return !strings.Contains(out, ".json")
	})
	s.cut(t)
	v = p.ssh(t, s.client, "22")
	v.isRefused()
	p.lastDecision(t, decision{Reason: "offline_not_enrolled"})
}

// addsAnotherHost makes the authenticator believe that it has codes for a host of
// another id as well: its codes are right, for that host.
func (a *authenticator) addsAnotherHost() {
	a.t.Helper()
	path := "/root/" + a.p.name + "/.local/state/sallyport/authenticators/*.hosts"
	text, err := a.p.site.phones.Shell(a.t.Context(), "cat "+path)
	must(a.t, err)
	var h map[string]any
	must(a.t, json.Unmarshal([]byte(text), &h))
	hosts, ok := h["hosts"].([]any)
	if !ok || len(hosts) != 1 {
		a.t.Fatalf("hosts: %s", text)
	}
	other := map[string]any{}
	for k, v := range hosts[0].(map[string]any) {
		other[k] = v
	}
	other["host_id"], other["name"], other["label"] = "HOAAAAAAAAAAAAAAAAAA", "elsewhere", "elsewhere-AAAA"
	h["hosts"] = append(hosts, other)
	edited, err := json.Marshal(h)
	must(a.t, err)
	name, err := a.p.site.phones.Shell(a.t.Context(), "echo "+path)
	must(a.t, err)
	must(a.t, a.p.site.phones.Put(a.t.Context(), harness.File{Path: strings.TrimSpace(name), Mode: 0o600, Data: edited}))
}

// reported is an event that a host has reported.
type reported struct {
	Result, Reason string
	User           struct{ Name string }
	AccessDevice   struct{ Hostname string } `json:"access_device"`
	HostReport     *struct{ Number *int64 }  `json:"host_report"`
}

func (s *site) reported(t *testing.T) (out []reported) {
	t.Helper()
	var all []reported
	if s.adminErr(t.Context(), &all, "log", "auth", "--since", "30d") != nil {
		return nil // the network is not back yet
	}
	for _, e := range all {
		if e.HostReport != nil {
			out = append(out, e)
		}
	}
	return out
}

func count(events []reported, reason string) (n int) {
	for _, e := range events {
		if e.Reason == reason {
			n++
		}
	}
	return n
}
