// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// The fault matrix: every door, every way in which the verifier can be away or
// wrong, every fail mode. Each login has a result, an end within the time that
// the settings allow, and a line in the log that names reason and setting.

// matrixDoors are all programs that a person comes in by.
var matrixDoors = append(append([]door{}, doors...),
	door{"login", func(t *testing.T, p *person) *visit { return p.login(t) }},
	door{"pkexec", func(t *testing.T, p *person) *visit { return p.pkexec(t) }},
)

// matrixModes are the fail modes; people belong to one by their group.
var matrixModes = []string{"secure", "open", "offline"}

// matrixConfig gives each group its fail mode.
func matrixConfig() string {
	var b strings.Builder
	// polkit's helper has no terminal, so it could be anybody at the console.
	b.WriteString("\n[services.polkit-1]\nopen_local = true\n")
	for _, mode := range matrixModes {
		fmt.Fprintf(&b, "\n[[rules]]\nname = %q\naction = \"require\"\ngroups = [%q]\nfail_mode = %q\n",
			"fail mode "+mode, "mode-"+mode, mode)
	}
	return b.String()
}

// longest is what a login may take with the settings of [impatience]: the person
// answers at once, so it is machine time. The rest is for a slow machine.
const longest = 85 * time.Second

// matrixFault is one way to be away or wrong.
type matrixFault struct {
	name       string
	begin, end func(t *testing.T, s *site)
	// says is part of the error that the log names.
	says string
	// kind is what it comes to.
	kind faultKind
}

type faultKind int

const (
	outage     faultKind = iota // the fail mode decides
	refusal                     // an answer: denied in every mode
	none                        // the login goes on as ever
	unrecorded                  // an outage, and what lets in cannot be written down
)

func TestFaultMatrix(t *testing.T) {
	t.Parallel()
	s := matrixSite(t)
	people := map[string]map[string]*person{}
	tokens := map[*person]*codes{}
	phones := map[*person]*authenticator{}
	for _, d := range matrixDoors {
		people[d.name] = map[string]*person{}
		for _, mode := range matrixModes {
			p := s.person(t, d.name+mode)
			p.joins(t, "mode-"+mode)
			people[d.name][mode], tokens[p] = p, p.hotp(t)
			if mode == "offline" {
				phones[p] = p.authenticator(t)
				v := p.ssh(t, s.client, "22")
				v.answers(tokens[p].next())
				v.comesIn()
			}
		}
	}
	eventually(t, "keys for offline codes come", func() bool {
		out, err := s.host.Shell(t.Context(), "ls "+offlineKeys+" | grep -c json || true")
		must(t, err)
		return strings.TrimSpace(out) == strconv.Itoa(len(phones))
	})
	each := func(t *testing.T, do func(t *testing.T, d door, mode string, p *person)) {
		t.Helper()
		for _, d := range matrixDoors {
			for _, mode := range matrixModes {
				t.Run(d.name+"/"+mode, func(t *testing.T) {
					t.Parallel()
					do(t, d, mode, people[d.name][mode])
				})
			}
		}
	}
	for _, f := range matrixFaults(s) {
		t.Run(f.name, func(t *testing.T) {
			f.begin(t, s)
			defer func() {
				f.end(t, s)
				s.recovers(t)
			}()
			// A group, so that the fault ends when all of them have ended.
			t.Run("at", func(t *testing.T) {
				each(t, func(t *testing.T, d door, mode string, p *person) {
					begun, before := time.Now(), len(p.decisions(t))
					v := d.knock(t, p)
					// polkit may end a dialogue by itself, before anything was decided.
					refused := func() {
						v.isRefused()
						for range 2 {
							if len(p.decisions(t)) > before {
								return
							}
							t.Logf("once more, since nobody was asked; terminal:\n%s", v.terminal.Screen())
							v = d.knock(t, p)
							v.isRefused()
						}
					}
					f.plays(t, v, refused, mode, p, tokens[p], phones[p])
					if t.Failed() || len(p.decisions(t)) == before {
						t.Errorf("terminal:\n%s", v.terminal.Screen())
					}
					if took := time.Since(begun); took > longest {
						t.Errorf("it took %s, more than all the settings allow", took)
					}
				})
			})
		})
	}
	t.Run("killed while waiting", func(t *testing.T) {
		asked := map[*person]*visit{}
		for _, d := range matrixDoors {
			for _, mode := range matrixModes {
				p := people[d.name][mode]
				asked[p] = d.knock(t, p)
				asked[p].expect(asksFactor)
			}
		}
		must(t, s.proxy.Signal(t.Context(), "proxy", "KILL"))
		defer func() {
			s.startProxy(t)
			s.recovers(t)
		}()
		t.Run("answers", func(t *testing.T) {
			each(t, func(t *testing.T, d door, mode string, p *person) {
				v := asked[p].as(t)
				v.types(tokens[p].shown())
				v.isRefused()
				p.lastDecision(t, decision{Reason: "verifier_lost"})
			})
		})
	})
	t.Run("the verifier hears of what was decided without it", func(t *testing.T) {
		eventually(t, "nothing waits to be reported", func() bool {
			// One error is that of a verifier which does not answer yet.
			out, _ := s.host.Shell(t.Context(), "sallyport status --json || true")
			var status struct {
				Report struct {
					Events struct{ Unreported *int }
				}
			}
			must(t, json.Unmarshal([]byte(out), &status))
			waiting := status.Report.Events.Unreported
			return waiting != nil && *waiting == 0
		})
		for mode, reason := range map[string]string{"open": "fail_open", "offline": "offline"} {
			for _, d := range matrixDoors {
				p := people[d.name][mode]
				if decided, heard := p.countDecisions(t, reason), p.countEvents(t, reason); decided == 0 || heard != decided {
					t.Errorf("%s at %s: decided %d times, heard of %d", reason, d.name, decided, heard)
				}
			}
		}
	})
}

// countDecisions is how often authd's log gives that reason.
func (p *person) countDecisions(t *testing.T, reason string) (n int) {
	t.Helper()
	for _, d := range p.decisions(t) {
		if d.Reason == reason {
			n++
		}
	}
	return n
}

// countEvents is the same in the verifier's log.
func (p *person) countEvents(t *testing.T, reason string) (n int) {
	t.Helper()
	for _, e := range p.events(t) {
		if e.Reason == reason {
			n++
		}
	}
	return n
}

// plays is a login during the fault.
func (f matrixFault) plays(t *testing.T, v *visit, refused func(), mode string, p *person, token *codes, phone *authenticator) {
	t.Helper()
	switch {
	case f.kind == none:
		v.answers(token.next())
		v.comesIn()
		p.lastDecision(t, decision{Reason: "passcode"})
	case f.kind == refusal:
		refused()
		p.lastDecision(t, decision{Reason: "verifier_refused", Error: f.says})
	case f.kind == unrecorded && mode != "secure":
		if mode == "offline" {
			v.expect(asksOffline)
			code, _ := phone.as(t).offlineCode()
			v.types(code)
		}
		v.isRefused()
		p.lastDecision(t, map[string]decision{
			"open":    {Reason: "fail_open_unrecorded", Setting: "state_dir"},
			"offline": {Reason: "offline_state_failed", Setting: "state_dir"},
		}[mode])
	case mode == "open":
		v.comesIn()
		p.lastDecision(t, decision{Reason: "fail_open", Setting: "fail_mode", Error: f.says})
	case mode == "offline":
		v.expect(asksOffline)
		code, _ := phone.as(t).offlineCode()
		v.types(code)
		v.comesIn()
		p.lastDecision(t, decision{Reason: "offline", Setting: "fail_mode"})
	default:
		refused()
		p.lastDecision(t, decision{Reason: "verifier_down", Setting: "fail_mode", Error: f.says})
	}
}

func matrixFaults(s *site) []matrixFault {
	mode := func(word, says string, kind faultKind) matrixFault {
		return matrixFault{
			name: word, says: says, kind: kind,
			begin: func(t *testing.T, s *site) { s.restartProxy(t, word) },
			end:   func(t *testing.T, s *site) { s.restartProxy(t, "pass") },
		}
	}
	firewall := func(name, rule, says string) matrixFault {
		iptables := func(t *testing.T, what string) {
			t.Helper()
			_, err := s.host.Shell(t.Context(), "iptables "+what+" OUTPUT "+rule+" -j DROP")
			must(t, err)
		}
		return matrixFault{
			name: name, says: says,
			begin: func(t *testing.T, _ *site) { iptables(t, "-I") },
			end:   func(t *testing.T, _ *site) { iptables(t, "-D") },
		}
	}
	dns := firewall("DNS dead", "-d 127.0.0.11", "")
	dns.begin = func(begin func(*testing.T, *site)) func(*testing.T, *site) {
		return func(t *testing.T, s *site) {
			begin(t, s)
			s.restartProxy(t, "pass") // what is connected needs no name
		}
	}(dns.begin)
	return []matrixFault{
		{
			name: "refused", says: "connection refused",
			begin: func(t *testing.T, s *site) { must(t, s.proxy.Signal(t.Context(), "proxy", "KILL")) },
			end:   func(t *testing.T, s *site) { s.startProxy(t) },
		},
		firewall("dropped packets", "-p tcp --dport 8443", ""),
		dns,
		mode("expired", "certificate has expired", outage),
		mode("wrongca", "certificate signed by unknown authority", outage),
		mode("401", "", refusal),
		mode("403", "", refusal),
		mode("429", "", refusal),
		mode("500", "", outage),
		mode("slow", "", outage),
		{
			name:  "link down",
			begin: func(t *testing.T, s *site) { must(t, s.proxy.Disconnect(t.Context())) },
			end:   func(t *testing.T, s *site) { must(t, s.proxy.Connect(t.Context())) },
		},
		{
			name: "clock off by an hour", kind: none,
			begin: func(t *testing.T, s *site) { s.runAuthdAhead(t, time.Hour) },
			end:   func(t *testing.T, s *site) { s.runAuthdAhead(t, 0) },
		},
		{
			name: "disk full under authd's state", kind: none,
			begin: func(t *testing.T, s *site) { s.fillState(t) },
			end:   func(t *testing.T, s *site) { s.emptyState(t) },
		},
		{
			name: "disk full and nobody answers", kind: unrecorded,
			begin: func(t *testing.T, s *site) {
				s.fillState(t)
				must(t, s.proxy.Signal(t.Context(), "proxy", "KILL"))
			},
			end: func(t *testing.T, s *site) {
				s.startProxy(t)
				s.emptyState(t)
			},
		},
	}
}

// matrixSite is a [faultySite] whose host has a firewall, a small disk for
// authd's state, and all doors.
func matrixSite(t *testing.T) *site {
	t.Helper()
	s, err := newSiteWith(t.Context(), harness.Options{
		Capabilities: []string{"NET_ADMIN"},
		Tmpfs:        []string{"/var/lib/sallyport/authd:size=8m,mode=0700"},
	})
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	must(t, s.host.Put(t.Context(), files(matrixFiles)...))
	_, err = s.host.Shell(t.Context(), matrixSetUp)
	must(t, err)
	s.setAuthdConfig(t, s.authdConfig(t)+impatience+matrixConfig())
	s.putProxyBetween(t)
	return s
}

var matrixFiles = map[string]string{
	"/etc/pam.d/login": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_unix.so
`,
	"/etc/pam.d/polkit-1": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_unix.so
`,
	// Whoever asks proves themselves, not an administrator.
	"/etc/polkit-1/rules.d/10-self.rules": `
polkit.addAdminRule(function(action, subject) { return ["unix-user:" + subject.user]; });
`,
}

const matrixSetUp = `
echo 'LOGIN_RETRIES 1' >>/etc/login.defs
for mode in secure open offline; do groupadd mode-$mode; done
mkdir -p /run/dbus
dbus-daemon --system --fork
(/usr/lib/polkit-1/polkitd --no-debug >/var/log/polkitd 2>&1 &)
until dbus-send --system --print-reply --dest=org.freedesktop.PolicyKit1 /org/freedesktop/PolicyKit1/Authority \
	org.freedesktop.DBus.Peer.Ping >/dev/null 2>&1; do sleep 0.1; done
`

// restartProxy starts the proxy anew, so that nothing stays connected.
func (s *site) restartProxy(t *testing.T, mode string) {
	t.Helper()
	must(t, s.spoil(t.Context(), mode))
	must(t, s.proxy.Signal(t.Context(), "proxy", "KILL"))
	s.startProxy(t)
}

// runAuthdAhead runs authd by a clock that is ahead.
func (s *site) runAuthdAhead(t *testing.T, ahead time.Duration) {
	t.Helper()
	ctx := t.Context()
	must(t, s.host.Signal(ctx, "authd", "TERM"))
	_, err := s.host.Shell(ctx, "rm -f /run/sallyport/authd.sock")
	must(t, err)
	if ahead == 0 {
		must(t, s.startAuthd(ctx))
		return
	}
	run := harness.Command{Args: []string{"drv", "authd", "-ahead", ahead.String(), "-config", "/etc/sallyport/authd.toml"}}
	must(t, s.host.Daemon(ctx, "authd", run))
	must(t, s.host.AwaitFile(ctx, "/run/sallyport/authd.sock"))
}

const stateFiller = "/var/lib/sallyport/authd/filler"

func (s *site) fillState(t *testing.T) {
	t.Helper()
	out, err := s.host.Shell(t.Context(), "dd if=/dev/zero of="+stateFiller+" bs=4k 2>/dev/null || true; df --output=avail /var/lib/sallyport/authd | tail -n 1")
	must(t, err)
	if strings.TrimSpace(out) != "0" {
		t.Fatalf("the disk is not full: %s left", out)
	}
}

func (s *site) emptyState(t *testing.T) {
	t.Helper()
	_, err := s.host.Must(t.Context(), "rm", "-f", stateFiller)
	must(t, err)
}

// login comes in at a console: getty's part is played by root.
func (p *person) login(t *testing.T) *visit {
	t.Helper()
	v := p.visit(t, p.site.host, harness.Command{Args: []string{"login", p.name}})
	v.expect(`Password: $`)
	v.types(p.password)
	v.shell = true
	return v
}

// pkexec asks polkit, with the agent for terminals. It is pkexec's parent whom
// polkit decides about, so there has to be one.
func (p *person) pkexec(t *testing.T) *visit {
	t.Helper()
	const command = `
mkfifo ready-$$
pkttyagent --process $$ --notify-fd 9 9>ready-$$ & cat ready-$$
pkexec --disable-internal-agent sh -c '` + inside + `'
status=$?; kill $!; exit $status`
	v := p.visit(t, p.site.host, harness.Command{User: p.name, Args: []string{"sh", "-c", "cd; " + command}})
	v.expect(`Password: $`)
	// The agent throws away what came before it switched the echo off.
	for typed := ""; typed == "" || strings.Contains(typed, p.password); {
		v.types(p.password)
		typed = v.expect(`[^\n]*\n`)[0]
	}
	v.hasty = true
	return v
}
