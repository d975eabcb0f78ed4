// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// asksBreakGlass is the question for a break-glass code, of authd or in its place.
const asksBreakGlass = `break-glass code for \S+, or nothing to give up: $`

// rootPort is where an sshd takes root too.
const rootPort = "2210"

// breakGlassSite is a site of the test's own with break-glass, whose host has
// everything under /var/lib/sallyport on one small disk, and root among its people.
func breakGlassSite(t *testing.T) (s *site, root *person) {
	t.Helper()
	ctx := t.Context()
	s, err := newSiteWith(ctx, harness.Options{Tmpfs: []string{"/var/lib/sallyport:size=2m,mode=0755"}})
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	must(t, install(ctx, s.host, []string{"sallyport-breakglass"}))
	must(t, s.host.Put(ctx, files(map[string]string{
		"/etc/pam.d/login":          matrixFiles["/etc/pam.d/login"],
		"/etc/ssh/sshd_config_root": "PermitRootLogin yes\n" + sshdCommon + "\nAuthenticationMethods publickey,keyboard-interactive:pam\n",
	})...))
	_, err = s.host.Shell(ctx, "echo 'LOGIN_RETRIES 1' >>/etc/login.defs; groupadd mode-offline")
	must(t, err)
	s.setAuthdConfig(t, s.authdConfig(t)+impatience+`
[[rules]]
name = "not them"
action = "deny"
users = ["denied1"]

[[rules]]
name = "offline"
action = "require"
groups = ["mode-offline"]
fail_mode = "offline"
`)
	sshd := harness.Command{Args: []string{"/usr/local/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config_root", "-p", rootPort}}
	must(t, s.host.Daemon(ctx, "sshd_config_root", sshd))
	must(t, s.host.AwaitPort(ctx, rootPort))
	program := harness.Command{Args: []string{"sallyport-breakglass", "--listen", "/run/sallyport/breakglass.sock", "--log", "json"}}
	must(t, s.host.Daemon(ctx, "breakglass", program))
	must(t, s.host.AwaitFile(ctx, "/run/sallyport/breakglass.sock"))
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, name := range []string{"breakglass", "authd", "sshd_config_root"} {
			text, _ := s.host.Log(context.Background(), name)
			t.Logf("log of %s:\n%s", name, text)
		}
		text, _ := s.host.Read(context.Background(), syslog)
		t.Logf("syslog:\n%s", text)
	})
	return s, s.root(t)
}

// root is the owner of the host, with a key.
func (s *site) root(t *testing.T) *person {
	t.Helper()
	private, public := newKey(t)
	file := harness.File{Path: "/root/keys/root", Mode: 0o600, Data: []byte(private)}
	must(t, s.client.Put(t.Context(), file))
	_, err := s.host.Shell(t.Context(), "install -d -m 700 /root/.ssh; echo '"+public+"' >>/root/.ssh/authorized_keys")
	must(t, err)
	return &person{site: s, name: "root", password: rootPassword, key: private}
}

// breakGlass makes codes on the host.
func (s *site) breakGlass(t *testing.T, user, services string, count int) []string {
	t.Helper()
	out, err := s.host.Must(t.Context(), "sallyport", "breakglass", "generate", "--user", user, "--service", services, "--count", strconv.Itoa(count))
	must(t, err)
	codes := strings.Fields(out)
	if len(codes) != count {
		t.Fatalf("asked for %d codes, got %q", count, out)
	}
	return codes
}

// typesCode answers the question for a break-glass code.
func (v *visit) typesCode(code string) {
	v.t.Helper()
	v.expect(asksBreakGlass)
	v.types(code)
}

// givesUp types nothing at the question, and is refused.
func (v *visit) givesUp() {
	v.t.Helper()
	v.typesCode("")
	v.isRefused()
}

// breakGlassEvents is what sallyport-breakglass has logged of a person.
func (p *person) breakGlassEvents(t *testing.T) []decision {
	t.Helper()
	log, err := p.site.host.Log(t.Context(), "breakglass")
	must(t, err)
	var found []decision
	for line := range strings.Lines(log) {
		var d struct {
			Event string `json:"event"`
			decision
		}
		if json.Unmarshal([]byte(line), &d) == nil && d.Event == "breakglass" && d.User == p.name {
			found = append(found, d.decision)
		}
	}
	return found
}

func (p *person) lastBreakGlass(t *testing.T, reason string) {
	t.Helper()
	all := p.breakGlassEvents(t)
	if len(all) == 0 || all[len(all)-1].Reason != reason {
		t.Errorf("the log of sallyport-breakglass says %+v of %s, want %s last", all, p.name, reason)
	}
}

// glassDoors are root by sshd and at the console, and people by sudo and su.
var glassDoors = []struct {
	name, service string
	knock         func(t *testing.T, root, p *person) *visit
}{
	{"sshd", "sshd", func(t *testing.T, root, _ *person) *visit { return root.ssh(t, root.site.client, rootPort) }},
	{"login", "login", func(t *testing.T, root, _ *person) *visit { return root.login(t) }},
	{"sudo", "sudo", func(t *testing.T, _, p *person) *visit { return p.sudo(t) }},
	{"su", "su", func(t *testing.T, _, p *person) *visit { return p.su(t) }},
}

// Whatever has become of authd, a code lets in once at every door, and a deny of
// its last good rules stands.
func TestBreakGlassWithoutAuthd(t *testing.T) {
	t.Parallel()
	s, root := breakGlassSite(t)
	p, denied := s.stranger(t, "owner"), s.stranger(t, "denied")
	deniedCode := s.breakGlass(t, denied.name, "all", 1)[0]
	shell := func(script string) func(*testing.T) {
		return func(t *testing.T) {
			_, err := s.host.Shell(t.Context(), script)
			must(t, err)
		}
	}
	const garbage = "/etc/sallyport/authd.toml"
	for _, state := range []struct {
		name       string
		begin, end func(t *testing.T)
		full       bool
	}{
		{"its binary deleted", func(t *testing.T) {
			must(t, s.host.Signal(t.Context(), "authd", "KILL"))
			shell("mv /usr/sbin/sallyport-authd /root/")(t)
		}, shell("mv /root/sallyport-authd /usr/sbin/"), false},
		{"its configuration garbage", shell(
			"cp " + garbage + " /root/; head -c 3000 /dev/urandom >" + garbage + "; rm -f /run/sallyport/authd.sock; ! sallyport-authd --config " + garbage + " 2>/dev/null",
		), shell("cp /root/authd.toml " + garbage), false},
		{"its disk full", func(t *testing.T) {
			out, err := s.host.Shell(t.Context(), "dd if=/dev/zero of=/var/lib/sallyport/filler bs=4k 2>/dev/null || true; df --output=avail /var/lib/sallyport | tail -n 1")
			must(t, err)
			if strings.TrimSpace(out) != "0" {
				t.Fatalf("the disk is not full: %s left", out)
			}
		}, shell("rm /var/lib/sallyport/filler"), true},
	} {
		t.Run(state.name, func(t *testing.T) {
			codes := map[string]string{}
			for _, d := range glassDoors {
				user := p.name
				if d.name == "sshd" || d.name == "login" {
					user = "root"
				}
				codes[d.name] = s.breakGlass(t, user, d.service, 1)[0]
			}
			state.begin(t)
			defer state.end(t)
			for _, d := range glassDoors {
				t.Run(d.name, func(t *testing.T) {
					v := d.knock(t, root, p)
					v.typesCode(codes[d.name])
					v.comesIn()
					again := d.knock(t, root, p)
					// No code is left, so nothing is asked any more.
					again.isRefused()
					if screen := again.terminal.Screen(); strings.Contains(screen, "break-glass") {
						t.Errorf("a code was asked for, and none is left:\n%s", screen)
					}
				})
			}
			t.Run("deny", func(t *testing.T) {
				v := denied.sudo(t)
				v.isRefused()
				denied.lastBreakGlass(t, "rule_deny")
			})
			if !state.full {
				return
			}
			out, err := s.host.Run(t.Context(), harness.Command{Args: []string{"sallyport", "breakglass", "generate", "--user", "root", "--service", "all"}})
			must(t, err)
			if out.Code == 0 || !strings.Contains(out.Stderr, "no space left") {
				t.Errorf("codes made on a full disk: %+v", out)
			}
		})
	}
	if log, err := s.host.Log(t.Context(), "breakglass"); err != nil || strings.Contains(log, deniedCode[8:]) {
		t.Errorf("the log holds a code, or: %v", err)
	}
	t.Run("the list tells all", func(t *testing.T) {
		out, err := s.host.Must(t.Context(), "sallyport", "breakglass", "list", "--json")
		must(t, err)
		var list []struct{ State string }
		must(t, json.Unmarshal([]byte(out), &list))
		count := map[string]int{}
		for _, c := range list {
			count[c.State]++
		}
		if count["used"] != 12 || count["unused"] != 1 {
			t.Errorf("the list has %v", count)
		}
	})
}

// A code tried again, a wrong one, a mistyped one and another's: refused, and the
// right one works after all of it.
func TestBreakGlassWrongCodes(t *testing.T) {
	t.Parallel()
	s, root := breakGlassSite(t)
	codes := s.breakGlass(t, "root", "sshd,login", 3)
	others := s.breakGlass(t, "daemon", "all", 1)[0]
	must(t, s.host.Signal(t.Context(), "authd", "KILL"))
	first := root.login(t)
	first.typesCode(codes[0])
	first.comesIn()

	v := root.ssh(t, s.client, rootPort)
	v.typesCode(codes[0])
	v.expect("has been used")
	v.typesCode(others)
	v.expect("not for this account")
	v.typesCode("bg-0000")
	v.isRefused()
	root.lastBreakGlass(t, "wrong_code")

	root.login(t).givesUp()
	v = root.ssh(t, s.client, rootPort)
	v.typesCode(strings.ToLower(strings.ReplaceAll(codes[1], "-", " ")))
	v.comesIn()

	_, err := s.host.Must(t.Context(), "sallyport", "breakglass", "revoke", codes[2][:7])
	must(t, err)
	root.ssh(t, s.client, rootPort).isRefused()
}

// An authd that is there and does not answer: the module has patience, then asks.
func TestBreakGlassWhileAuthdHangs(t *testing.T) {
	t.Parallel()
	s, root := breakGlassSite(t)
	code := s.breakGlass(t, "root", "sshd", 1)[0]
	must(t, s.host.Signal(t.Context(), "authd", "STOP"))
	v := root.ssh(t, s.client, rootPort)
	v.typesCode(code)
	v.comesIn()
}

// authd works and no verifier answers: authd asks for the code, after its rules.
func TestBreakGlassWithoutVerifier(t *testing.T) {
	t.Parallel()
	s, root := breakGlassSite(t)
	offline, denied := s.stranger(t, "offliner"), s.stranger(t, "denied")
	offline.joins(t, "mode-offline")
	codes := s.breakGlass(t, "root", "sshd,login", 2)
	offlineCode := s.breakGlass(t, offline.name, "sudo", 1)[0]
	s.breakGlass(t, denied.name, "all", 1)
	must(t, s.verifier.Signal(t.Context(), "verifier", "KILL"))
	v := root.ssh(t, s.client, rootPort)
	v.typesCode(codes[0])
	v.comesIn()
	root.lastDecision(t, decision{Reason: "breakglass", Setting: "fail_mode"})
	root.lastBreakGlass(t, "breakglass")

	v = root.login(t)
	v.typesCode(codes[0])
	v.expect("has been used")
	v.typesCode(codes[1])
	v.comesIn()

	v = offline.sudo(t)
	v.typesCode(offlineCode)
	v.comesIn()
	offline.lastDecision(t, decision{Reason: "breakglass", Setting: "fail_mode"})

	denied.sudo(t).isRefused()
	denied.lastDecision(t, decision{Reason: "rule_deny"})
}

// authd comes and goes: a login that a code let in while it was away passes the
// hooks of the authd that is back.
func TestBreakGlassAcrossARestart(t *testing.T) {
	t.Parallel()
	s, root := breakGlassSite(t)
	code := s.breakGlass(t, "root", "sshd", 1)[0]
	must(t, s.host.Signal(t.Context(), "authd", "KILL"))
	v := root.ssh(t, s.client, rootPort)
	v.expect(asksBreakGlass)
	must(t, s.startAuthd(t.Context()))
	eventually(t, "authd serves", func() bool {
		log, err := s.host.Log(t.Context(), "authd")
		return err == nil && strings.Count(log, `"event":"start"`) >= 3
	})
	v.types(code)
	v.comesIn()
	log, err := s.host.Log(t.Context(), "authd")
	must(t, err)
	if !strings.Contains(log, `"reason":"breakglass"`) {
		t.Error("authd let the login pass and does not say why")
	}
}

// breakGlassUnderSystemd goes on in TestUnderSystemd: the program in its sandbox,
// started by its socket, while authd crashes at every start.
func breakGlassUnderSystemd(t *testing.T, s *site, p *person) {
	_, err := s.host.Shell(t.Context(), "systemctl enable --now sallyport-breakglass.socket")
	must(t, err)
	codes := s.breakGlass(t, p.name, "sshd,sudo", 3)
	_, err = s.host.Shell(t.Context(), `
mv /usr/sbin/sallyport-authd /root/
printf '#!/bin/sh\nexit 1\n' >/usr/sbin/sallyport-authd; chmod +x /usr/sbin/sallyport-authd
systemctl stop sallyport-authd.service
`)
	must(t, err)
	defer func() {
		_, err := s.host.Shell(context.Background(), "mv /root/sallyport-authd /usr/sbin/; systemctl restart sallyport-authd.service")
		must(t, err)
	}()
	for i, knock := range []func() *visit{func() *visit { return p.ssh(t, s.client, "22") }, func() *visit { return p.sudo(t) }} {
		v := knock()
		v.typesCode(codes[i])
		v.comesIn()
	}
	status, err := s.host.Read(t.Context(), fmt.Sprintf("/proc/%s/status", s.unit(t, "sallyport-breakglass.service", "MainPID")))
	must(t, err)
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("sallyport-breakglass lacks %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		t.Error("sallyport-breakglass runs as root")
	}
	entry := s.journal(t, "sallyport-breakglass", p.name)
	for field, want := range map[string]string{"EVENT": "breakglass", "REASON": "breakglass", "VIA": "module", "SERVICE": "sudo"} {
		if entry["SALLYPORT_"+field] != want {
			t.Errorf("SALLYPORT_%s is %v, want %s: %v", field, entry["SALLYPORT_"+field], want, entry)
		}
	}
	// authd, when it is back, may read what was used, and nothing of the codes.
	out, err := s.host.Shell(t.Context(), `
cd /var/lib/sallyport/breakglass
runuser -u sallyport-authd -- grep -c '"state":"used"' uses
as() { runuser -u sallyport-"$@" 2>/dev/null; }
if as authd -- cat codes; then echo 'authd reads the codes'; fi
if as breakglass -- touch more; then echo 'the program makes files'; fi
if as breakglass -- sh -c 'echo >>codes'; then echo 'the program makes codes'; fi
if as breakglass -- test -r ../authd/breakglass-policy.json; then echo 'everybody reads the rules'; fi
if as breakglass -G sallyport-authd -- test -r ../authd/breakglass-policy.json; then :; else echo 'the program does not read the rules'; fi
`)
	must(t, err)
	if strings.TrimSpace(out) != "2" {
		t.Errorf("who may read and write what: %s", out)
	}
}
