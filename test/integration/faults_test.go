// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	proxyCA   = "/etc/proxy-ca.pem"
	proxyMode = "/etc/proxy-mode"
)

// impatience makes authd give up soon, so that tests need not wait long.
const impatience = `
[timeouts]
connect_timeout = "1s"
request_timeout = "2s"
approval_timeout = "5s"
probe_interval = "200ms"
`

// ownSite is a site of the test's own, with an impatient authd.
func ownSite(t *testing.T) *site {
	t.Helper()
	s, err := newSite(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	s.setAuthdConfig(t, s.authdConfig(t)+impatience)
	return s
}

// faultySite is an [ownSite] whose host reaches the verifier through a proxy that
// can spoil what passes.
func faultySite(t *testing.T) *site {
	t.Helper()
	s := ownSite(t)
	s.putProxyBetween(t)
	return s
}

// putProxyBetween puts the spoiling proxy between host and verifier: it takes
// over the verifier's name, by which hosts prove who they are.
func (s *site) putProxyBetween(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	must(t, s.verifier.Readdress(ctx))
	must(t, s.proxy.Readdress(ctx, "proxy", s.verifier.Name))
	address, err := s.verifier.IP(ctx)
	must(t, err)
	for _, c := range []*harness.Container{s.verifier, s.phones, s.provider} { // theirs is the way around it
		_, err := c.Shell(ctx, "echo "+address+" "+s.verifier.Name+" >>/etc/hosts")
		must(t, err)
	}
	must(t, s.proxy.Put(ctx, harness.File{Path: proxyMode, Mode: 0o644, Data: []byte("pass")}))
	s.startProxy(t)
	ca, err := s.proxy.Read(ctx, proxyCA)
	must(t, err)
	must(t, s.host.Put(ctx, harness.File{Path: "/etc/sallyport/ca.pem", Mode: 0o644, Data: []byte(ca)}))
	s.setAuthdConfig(t, s.authdConfig(t))
}

func (s *site) startProxy(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	must(t, s.proxy.Daemon(ctx, "proxy", harness.Command{Args: []string{"drv", "proxy", "-name", s.verifier.Name,
		"-target", "https://backend:8443", "-target-name", s.verifier.Name, "-target-ca", verifierCA, "-ca", proxyCA, "-mode", proxyMode}}))
	must(t, s.proxy.AwaitPort(ctx, "8443"))
}

// recovers waits until logins work again.
func (s *site) recovers(t *testing.T) {
	t.Helper()
	p := s.person(t, "recovery", "--status", "bypass")
	eventually(t, "logins work again", func() bool {
		return p.sudo(t).isOver() == 0
	})
}

// fault is a way in which the verifier does not answer as it should.
type fault struct {
	name       string
	begin, end func(ctx context.Context, s *site) error
	// refusal says that this is an answer, which no fail mode may overrule.
	refusal bool
}

// spoiled is the proxy's doing.
func spoiled(mode string, refusal bool) fault {
	return fault{
		name:    mode,
		begin:   func(ctx context.Context, s *site) error { return s.spoil(ctx, mode) },
		end:     func(ctx context.Context, s *site) error { return s.spoil(ctx, "pass") },
		refusal: refusal,
	}
}

// spoil sets what the proxy does from here on.
func (s *site) spoil(ctx context.Context, mode string) error {
	// By a rename, so that the proxy never reads half a word.
	_, err := s.proxy.Shell(ctx, fmt.Sprintf("echo %s >%s.new; mv %[2]s.new %[2]s", mode, proxyMode))
	return err
}

// The verifier answers, but not as it should.
func TestVerifierTalksNonsense(t *testing.T) {
	t.Parallel()
	faultySite(t).suffers(t,
		spoiled("401", true),
		spoiled("403", true),
		spoiled("429", true),
		spoiled("500", false),
		spoiled("503", false),
		spoiled("garbage", false),
		spoiled("truncated", false),
		spoiled("abort", false),
		spoiled("close", false),
		spoiled("notls", false),
		spoiled("hang", false),
	)
}

// The verifier does not answer at all.
func TestVerifierIsGone(t *testing.T) {
	t.Parallel()
	ownSite(t).suffers(t,
		fault{
			name:  "killed",
			begin: func(ctx context.Context, s *site) error { return s.verifier.Signal(ctx, "verifier", "KILL") },
			end:   func(ctx context.Context, s *site) error { return s.runVerifier(ctx) },
		},
		fault{
			name:  "stopped",
			begin: func(ctx context.Context, s *site) error { return s.verifier.Signal(ctx, "verifier", "STOP") },
			end:   func(ctx context.Context, s *site) error { return s.verifier.Signal(ctx, "verifier", "CONT") },
		},
		fault{
			name:  "cut off",
			begin: func(ctx context.Context, s *site) error { return s.verifier.Disconnect(ctx) },
			end:   func(ctx context.Context, s *site) error { return s.verifier.Connect(ctx) },
		},
	)
}

// suffers plays a login of three services through each fault. Before a factor was
// offered, the service's fail mode decides what an outage means; a refusal is an
// answer and denies in every mode. After that, nothing but the factor lets in.
func (s *site) suffers(t *testing.T, faults ...fault) {
	secure, sudoer, opener := s.person(t, "secure"), s.person(t, "sudoer"), s.person(t, "opener")
	opener.joins(t, "openers")
	knocks := map[*person]func() *visit{
		secure: func() *visit { return secure.ssh(t, s.client, "22") },
		sudoer: func() *visit { return sudoer.sudo(t) },
		opener: func() *visit { return opener.sudo(t) },
	}
	tokens := map[*person]*codes{}
	for p := range knocks {
		tokens[p] = p.hotp(t)
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			asked := map[*person]*visit{}
			for p, knock := range knocks {
				asked[p] = knock()
				asked[p].expect(asksFactor)
			}
			must(t, f.begin(t.Context(), s))
			t.Run("after the question", func(t *testing.T) {
				want := decision{Reason: "verifier_lost"}
				if f.refusal {
					want = decision{Reason: "verifier_refused"}
				}
				for p, v := range asked {
					v.types(tokens[p].shown())
				}
				for p, v := range asked {
					v.isRefused()
					p.lastDecision(t, want)
				}
			})
			t.Run("before any question", func(t *testing.T) {
				for p, knock := range knocks {
					v := knock()
					switch {
					case f.refusal:
						v.isRefused()
						p.lastDecision(t, decision{Reason: "verifier_refused"})
					case p == opener:
						v.comesIn()
						p.lastDecision(t, decision{Reason: "fail_open", Setting: "fail_mode"})
					default:
						v.isRefused()
						p.lastDecision(t, decision{Reason: "verifier_down", Setting: "fail_mode"})
					}
				}
			})
			must(t, f.end(t.Context(), s))
			s.recovers(t)
		})
	}
}

// Revoking a host is an answer: it opens no door, not even where the service
// fails open.
func TestRevokedHost(t *testing.T) {
	t.Parallel()
	s := faultySite(t)
	opener := s.person(t, "opener", "--status", "bypass")
	opener.joins(t, "openers")
	opener.sudo(t).comesIn()

	var hosts []struct {
		ID string `json:"host_id"`
	}
	s.admin(t, &hosts, "host", "list")
	if len(hosts) != 1 {
		t.Fatalf("hosts: %+v", hosts)
	}
	_, err := s.verifier.Must(t.Context(), "sallyport", "admin", "--profile", adminProfile, "host", "revoke", hosts[0].ID)
	must(t, err)
	opener.sudo(t).isRefused()
	opener.lastDecision(t, decision{Reason: "verifier_refused"})
}

// What the verifier has said "yes" to is on its disk: after a crash the event is
// in the log, and the code is spent.
func TestVerifierCrash(t *testing.T) {
	t.Parallel()
	s := ownSite(t)
	p := s.person(t, "crash")
	token := p.hotp(t)
	bypass := p.bypassCodes(t, 1)[0]
	for _, code := range []string{token.next(), bypass} {
		v := p.sudo(t)
		v.answers(code)
		v.comesIn()
		must(t, s.verifier.Signal(t.Context(), "verifier", "KILL"))
		must(t, s.runVerifier(t.Context()))
		s.recovers(t)
		p.lastEvent(t, event{Result: "success"})
		v = p.sudo(t)
		v.answers(code)
		v.expect(asksFactor)
		v.leaves()
	}
}

// An approval that comes when the login has stopped waiting is void.
func TestLateApproval(t *testing.T) {
	t.Parallel()
	s := ownSite(t)
	for _, d := range doors {
		t.Run("push to "+d.name, func(t *testing.T) {
			p := s.person(t, "late")
			phone := p.authenticator(t)
			v := d.knock(t, p)
			digits := v.asksForPush()
			txid := phone.waiting()
			v.types("")
			v.expect(asksFactor) // approval_timeout is over
			if out := phone.run("approve", "--txid", txid, "--code", digits); out.Code == 0 {
				t.Errorf("a late approval was taken: %s", out.Output())
			}
			v.leaves()
		})
		t.Run("call to "+d.name, func(t *testing.T) {
			p := s.person(t, "late")
			telephone := p.telephone(t)
			v := d.knock(t, p)
			v.asksFor("phone")
			call := telephone.rings()
			v.expect(asksFactor)
			if status := telephone.report(webhookSecret, call, press(call.ApproveKey)); status == 200 {
				t.Error("a key pressed after the login had stopped waiting was taken")
			}
			v.leaves()
		})
	}
}

// authd killed or stopped at each step of the conversation lets nobody in, and
// leaves nobody waiting.
func TestAuthdFaults(t *testing.T) {
	t.Parallel()
	s := faultySite(t)
	p := s.person(t, "orphan")
	token := p.hotp(t)
	phone := p.authenticator(t)
	unreachable := s.person(t, "unreachable")
	unreachable.joins(t, "unreachable")
	kill := func(t *testing.T) { must(t, s.host.Signal(t.Context(), "authd", "KILL")) }

	for _, d := range doors {
		t.Run("killed before "+d.name, func(t *testing.T) {
			kill(t)
			d.knock(t, p).isRefused()
			s.moduleSays(t, "reason=refused")
			must(t, s.startAuthd(t.Context()))
		})
		t.Run("killed at the question of "+d.name, func(t *testing.T) {
			v := d.knock(t, p)
			v.expect(asksFactor)
			kill(t)
			v.types(token.shown())
			v.isRefused()
			must(t, s.startAuthd(t.Context()))
		})
		t.Run("killed while asking the verifier for "+d.name, func(t *testing.T) {
			v := d.knock(t, p)
			v.expect(asksFactor)
			must(t, s.spoil(t.Context(), "hang"))
			v.types(token.shown())
			kill(t)
			v.isRefused()
			must(t, s.spoil(t.Context(), "pass"))
			must(t, s.startAuthd(t.Context()))
		})
		t.Run("killed while a push waits for "+d.name, func(t *testing.T) {
			v := d.knock(t, p)
			digits := v.asksForPush()
			txid := phone.waiting()
			v.types("")
			kill(t)
			phone.run("approve", "--txid", txid, "--code", digits)
			v.isRefused()
			must(t, s.startAuthd(t.Context()))
		})
		t.Run("stopped before "+d.name, func(t *testing.T) {
			must(t, s.host.Signal(t.Context(), "authd", "STOP"))
			d.knock(t, p).isRefused()
			s.moduleSays(t, "limit_ms=10000")
			must(t, s.host.Signal(t.Context(), "authd", "CONT"))
		})
		t.Run("works again for "+d.name, func(t *testing.T) {
			v := d.knock(t, p)
			v.answers(token.next())
			v.comesIn()
		})
	}
	t.Run("unreachable=allow", func(t *testing.T) {
		kill(t)
		unreachable.sudo(t).comesIn()
		s.moduleSays(t, "let in without asking authd, by unreachable=allow")
		must(t, s.startAuthd(t.Context()))

		// A daemon that runs and does not answer is not unreachable.
		must(t, s.host.Signal(t.Context(), "authd", "STOP"))
		unreachable.sudo(t).isRefused()
		must(t, s.host.Signal(t.Context(), "authd", "CONT"))
	})
}

// moduleSays asserts that the newest words of the PAM module in the system's log
// contain text.
func (s *site) moduleSays(t *testing.T, text string) {
	t.Helper()
	log, err := s.host.Read(t.Context(), syslog)
	must(t, err)
	last := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "pam_sallyport") {
			last = line
		}
	}
	if !strings.Contains(last, text) {
		t.Errorf("the module's last words are %q, want them to contain %q", last, text)
	}
}
