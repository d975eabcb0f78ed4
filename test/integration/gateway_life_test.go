// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	gatewayStays = "echo in-$((40+2)); read line; echo heard-$line"
	sixDigits    = `\b(\d{6})\b`
)

// stays opens a session at a target that waits for a line, with a passcode at the door.
func (s *gatewaySite) stays(t *testing.T, p *person, token *codes, target string, options ...string) *visit {
	t.Helper()
	v := p.throughWith(t, options, target, gatewayStays)
	v.answers(token.next())
	v.expect(isIn)
	return v
}

// leavesWell tells a session that stays to end, and asserts that it still works.
func (v *visit) leavesWell() {
	v.t.Helper()
	v.types("all-is-well")
	v.expect("heard-all-is-well")
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if code != 0 {
		v.t.Errorf("the session ended with status %d; terminal:\n%s", code, v.terminal.Screen())
	}
}

// isEnded asserts that a session that stays is over, not by its own doing.
func (v *visit) isEnded() {
	v.t.Helper()
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if code == 0 {
		v.t.Errorf("the session ended well; terminal:\n%s", v.terminal.Screen())
	}
}

// A verified push at the door shows its digits in the question.
func TestGatewayPush(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "gwpush")
	phone := p.authenticator(t)
	v := p.through(t, "db1")
	if out := phone.approve(v.asksForPush()); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.types("")
	v.comesIn()
}

// A client that can answer nothing waits while the reply to its key is held; the banners
// show the digits and keep a client alive that gives up after three silent seconds.
func TestGatewayHold(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "held")
	s.holds(t, p)
	phone := p.authenticator(t)
	v := p.throughWith(t, []string{"-o", "BatchMode=yes", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"}, "db1")
	digits := v.expect(sixDigits)[1]
	txid := phone.waiting()
	// Longer than the client would wait in silence.
	_, err := s.client.Must(t.Context(), "sleep", "6")
	must(t, err)
	if out := phone.run("approve", "--txid", txid, "--code", digits); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.comesIn()
	s.wantEvent(t, p, "gw_login", map[string]string{"factor": "held"})
}

// A job passes by its key, from its place, to its targets, and nothing else does.
func TestGatewayBatch(t *testing.T) {
	s := harbour(t)
	p, other := s.member(t, "nightly"), s.member(t, "daily")
	fingerprint, err := s.host.Shell(t.Context(), "ssh-keygen -lf /etc/sallyport/authorized_keys/"+p.name+" | cut -d' ' -f2")
	must(t, err)
	address, err := s.client.IP(t.Context())
	must(t, err)
	s.setGatewayConfig(t, gatewayRules+fmt.Sprintf(`
[[batch]]
name = "backup"
reason = "dumps at night, with nobody at the terminal"
users = [%q]
keys = [%q]
sources = ["%s/32"]
targets = ["db1"]
`, p.name, strings.TrimSpace(fingerprint), address))
	batch := []string{"-o", "BatchMode=yes"}
	p.throughWith(t, batch, "db1").comesIn()
	s.wantEvent(t, p, "gw_login", map[string]string{"factor": "batch"})
	p.throughWith(t, batch, "web1").isRefused()
	other.throughWith(t, batch, "db1").isRefused()
}

// A password is checked by PAM, in a process of its own, and then a passcode is asked for.
func TestGatewayPassword(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "typist")
	token := p.hotp(t)
	login := func(password, methods string) *visit {
		v := p.throughWith(t, []string{"-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=" + methods}, "db1")
		v.expect(`password: $`)
		v.types(password)
		return v
	}
	v := login(p.password, "password,keyboard-interactive")
	v.answers(token.next())
	v.comesIn()
	s.wantEvent(t, p, "gw_login", map[string]string{"method": "password"})
	login("not "+p.password, "password").isRefused()
}

// Within the grace the door asks nothing again, and a target's own factor is asked for
// all the same.
func TestGatewayGraceAndStepUp(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "graced")
	token := p.hotp(t)
	before := s.authdConfig(t)
	t.Cleanup(func() { s.setAuthdConfig(t, before) })
	s.setAuthdConfig(t, strings.Replace(before, "[gateway]\n", "[gateway]\ngrace = \"1h\"\n", 1))
	v := p.through(t, "db1")
	v.answers(token.next())
	v.comesIn()
	p.through(t, "db1").comesIn()
	p.through(t, "web1").comesIn()
	v = p.throughWith(t, []string{"-t"}, "vault")
	v.answers(token.next())
	v.comesIn()
	s.wantEvent(t, p, "gw_step_up", map[string]string{"target": "vault"})
}

// Sessions are listed with what they do, and one, or all of a user, are ended.
func TestGatewaySessionsListAndEnd(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "listed")
	token := p.hotp(t)
	first, second, third := s.stays(t, p, token, "db1"), s.stays(t, p, token, deploy+"@db1"), s.stays(t, p, token, "web1")
	list := s.connected(t, p)
	if len(list) != 3 {
		t.Fatalf("%d are listed: %+v", len(list), list)
	}
	c := list[0]
	if c.Factor != "authd" || c.Key == "" || len(c.Targets) != 1 || c.Targets[0] != p.name+"@db1" || len(c.Channels) != 1 || c.Channels[0].Recording == "" || c.BytesOut == 0 {
		t.Errorf("the first is %+v", c)
	}
	if list[2].Channels[0].Recording != "" {
		t.Errorf("recorded, though no rule says so: %+v", list[2])
	}
	_, err := s.host.Must(t.Context(), "sallyport", "gateway", "sessions", "end", c.ID)
	must(t, err)
	first.isEnded()
	s.wantEvent(t, p, "gw_ended", map[string]string{"connection": c.ID, "by_uid": "0"})
	second.types("") // a session that was not named goes on
	second.expect("heard-")
	out, err := s.host.Must(t.Context(), "sallyport", "gateway", "sessions", "end", "--user", p.name)
	must(t, err)
	if !strings.Contains(out, "ended: ") {
		t.Errorf("it says %q", out)
	}
	third.isEnded()
	eventually(t, "nobody is listed", func() bool { return len(s.connected(t, p)) == 0 })
	result, err := s.host.Run(t.Context(), harness.Command{User: p.name, Args: []string{"sallyport", "gateway", "sessions", "list"}})
	must(t, err)
	if result.Code == 0 {
		t.Errorf("an ordinary user lists sessions: %s", result.Output())
	}
}

// A reload puts new rules in force for the next channel, and no session ends; a file that
// is wrong changes nothing.
func TestGatewayReload(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "reloader")
	token := p.hotp(t)
	v := s.stays(t, p, token, "db1")
	s.setGatewayConfig(t, strings.Replace(gatewayRules, `users = ["*"]`, `users = ["nobody"]`, 1))
	w := p.through(t, "db1")
	w.answers(token.next())
	w.isRefused()
	s.wantEvent(t, p, "gw_denied", nil)
	ctx := t.Context()
	must(t, s.host.Put(ctx, harness.File{Path: gatewayConfig, Mode: 0o644, Data: []byte("listen = 7\n")}))
	result, err := s.host.Run(ctx, harness.Command{Args: []string{"sallyport", "gateway", "reload"}})
	must(t, err)
	if result.Code == 0 || !strings.Contains(result.Output(), "listen") {
		t.Errorf("a wrong file: %s", result.Output())
	}
	w = p.through(t, "web1")
	w.answers(token.next())
	w.comesIn()
	v.leavesWell()
}

// Recording is required and the disk is full: the session ends and says so. Where it is
// only wished, the session goes on.
func TestGatewayDiskFull(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "filler")
	token := p.hotp(t)
	flood := "echo in-$((40+2)); head -c 6000000 /dev/urandom | base64; read line; echo heard-$line"
	small := strings.Replace(gatewayRules, "min_free = 0\n", "min_free = 0\ndir = \""+smallDisk+"\"\n", 1)
	empty := func() {
		_, err := s.host.Shell(t.Context(), "rm -rf "+smallDisk+"/*")
		must(t, err)
	}
	t.Cleanup(func() { must(t, s.restartGateway(context.Background())) })
	t.Run("required", func(t *testing.T) {
		s.setGatewayConfig(t, small)
		must(t, s.restartGateway(t.Context())) // where recordings go is fixed at the start
		v := p.through(t, "db1", flood).as(t)
		v.answers(token.next())
		v.expect(isIn)
		v.isEnded()
		v.hasRead("record")
		s.wantEvent(t, p, "gw_record_failed", nil)
		empty()
	})
	t.Run("wished", func(t *testing.T) {
		s.setGatewayConfig(t, strings.Replace(small, `record = "required"`, `record = "on"`, 1))
		must(t, s.restartGateway(t.Context()))
		v := p.through(t, "db1", flood).as(t)
		v.answers(token.next())
		v.expect(isIn)
		v.leavesWell()
		empty()
	})
}

// The verifier is cut off: what happens at the door is authd's fail mode; who is in stays in.
func TestGatewayVerifierCut(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "cutoff")
	token := p.hotp(t)
	before := s.authdConfig(t)
	t.Cleanup(func() { s.setAuthdConfig(t, before) })
	v := s.stays(t, p, token, "db1")
	for mode, in := range map[string]bool{"secure": false, "open": true} {
		t.Run("fail_mode "+mode, func(t *testing.T) {
			s.setAuthdConfig(t, before+impatience+"\n[services.sshgw]\nfail_mode = \""+mode+"\"\n")
			s.person(t, "cutprobe", "--status", "bypass") // the verifier is known to be there
			waiting := p.through(t, "db1").as(t)
			waiting.expect(asksFactor)
			must(t, s.verifier.Signal(t.Context(), "verifier", "STOP"))
			defer func() { must(t, s.verifier.Signal(t.Context(), "verifier", "CONT")) }()
			// After the question nothing but the factor lets in.
			waiting.types(token.shown())
			waiting.isRefused()
			w := p.through(t, "db1").as(t)
			if in {
				w.comesIn()
			} else {
				w.isRefused()
			}
		})
	}
	v.leavesWell()
}

// Without authd nobody comes in, and who is in stays in.
func TestGatewayAuthdKilled(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "orphaned")
	token := p.hotp(t)
	v := s.stays(t, p, token, "db1")
	must(t, s.host.Signal(t.Context(), "authd", "KILL"))
	p.through(t, "db1").isRefused()
	s.wantEvent(t, p, "gw_login_refused", nil)
	result, err := s.host.Run(t.Context(), harness.Command{Args: []string{"sallyport", "gateway", "status"}})
	must(t, err)
	if result.Code == 0 || !strings.Contains(result.Output(), "down") {
		t.Errorf("the status says nothing of it: %s", result.Output())
	}
	must(t, s.startAuthd(t.Context()))
	w := p.through(t, "db1")
	w.answers(token.next())
	w.comesIn()
	v.leavesWell()
}

// The gateway stops: nobody new comes in, a session that is open may end by itself, and
// what lasts longer than the drain is ended.
func TestGatewayDrain(t *testing.T) {
	s := harbour(t)
	p := s.member(t, "drained")
	token := p.hotp(t)
	v, w := s.stays(t, p, token, "db1"), s.stays(t, p, token, "web1")
	s.setGatewayConfig(t, strings.Replace(gatewayRules, `drain = "20s"`, `drain = "8s"`, 1))
	_, err := s.host.Shell(t.Context(), "kill -TERM $(cat /run/daemon-sshgw.pid)")
	must(t, err)
	eventually(t, "no new connections", func() bool {
		result, err := s.client.Run(t.Context(), harness.Command{Args: []string{"nc", "-z", gatewayName, gatewayPort}})
		return err == nil && result.Code != 0
	})
	v.leavesWell()
	w.isEnded()
	s.wantEvent(t, p, "gw_disconnect", map[string]string{"setting": "timeouts.drain"})
	must(t, s.startGateway(t.Context()))
	again := p.through(t, "db1")
	again.answers(token.next())
	again.comesIn()
}

// 200 people come in at the same time, each with a key and a passcode, and all their
// sessions are open at once, while the configuration is read again and again.
func TestGatewayCrowd(t *testing.T) {
	s := harbour(t)
	const many = 200
	private, public := newKey(t)
	_, err := s.host.Shell(t.Context(), fmt.Sprintf(`
for i in $(seq %d); do
	useradd --no-create-home --shell /bin/sh crowd$i
	echo '%s' >/etc/sallyport/authorized_keys/crowd$i
done
`, many, public))
	must(t, err)
	out, err := s.verifier.Shell(t.Context(), fmt.Sprintf(`
export SALLYPORT_PROFILE=%s
for i in $(seq %d); do
	sallyport admin user add crowd$i >/dev/null
	sallyport admin token add --user crowd$i --type hotp --json | tr -d '\n'
	echo
done
`, adminProfile, many))
	must(t, err)
	var c crowd
	for line := range strings.Lines(out) {
		var token newToken
		must(t, json.Unmarshal([]byte(line), &token))
		c.People = append(c.People, crowdEntry{Name: fmt.Sprintf("crowd%d", len(c.People)+1), Key: private, Secret: token.Secret, Logins: 1})
	}
	input, err := json.Marshal(c)
	must(t, err)
	stop := make(chan struct{})
	reloads := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				reloads <- n
				return
			default:
			}
			if result, err := s.host.Run(t.Context(), harness.Command{Args: []string{"sallyport", "gateway", "reload"}}); err == nil && result.Code == 0 {
				n++
			}
		}
	}()
	result, err := s.client.Run(t.Context(), harness.Command{Args: []string{"drv", "gateway", "-addr", gatewayName + ":" + gatewayPort, "-target", deploy + "@db1"}, Stdin: bytes.NewReader(input)})
	close(stop)
	n := <-reloads
	must(t, err)
	var report crowdReport
	must(t, json.Unmarshal([]byte(result.Stdout), &report))
	t.Logf("%d in, in %.1f s, the slowest after %.1f s; %d reloads meanwhile", report.In, report.Seconds, report.Slowest, n)
	if report.In != many || len(report.Wrong) > 0 || n == 0 {
		t.Errorf("%d in of %d, %d reloads; the first of %d others: %q", report.In, many, n, len(report.Wrong), report.Wrong[:min(5, len(report.Wrong))])
	}
}
