// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// One machine, installed by `make install`, on which systemd runs the verifier
// and, when the first login comes, authd: both under accounts of their own, in
// the units' sandboxes.
func TestUnderSystemd(t *testing.T) {
	t.Parallel()
	s := systemdSite(t)
	t.Run("authd is not there before the first login", func(t *testing.T) {
		if got := s.unit(t, "sallyport-authd.service", "ActiveState"); got != "inactive" {
			t.Errorf("authd is %s", got)
		}
	})
	p := s.person(t, "served")
	token := p.hotp(t)
	t.Run("the first login starts it", func(t *testing.T) {
		v := p.ssh(t, s.client, "22")
		v.answers(token.next())
		v.comesIn()
		if got := s.unit(t, "sallyport-authd.service", "ActiveState"); got != "active" {
			t.Errorf("authd is %s", got)
		}
	})
	t.Run("the journal has the login", func(t *testing.T) {
		entry := s.journal(t, "sallyport-authd", p.name)
		for field, want := range map[string]string{"EVENT": "login", "RESULT": "allow", "REASON": "passcode", "SERVICE": "sshd", "USERNAME": p.name} {
			if entry["SALLYPORT_"+field] != want {
				t.Errorf("SALLYPORT_%s is %v, want %s: %v", field, entry["SALLYPORT_"+field], want, entry)
			}
		}
		wrong := s.person(t, "wrong")
		badToken := wrong.hotp(t)
		v := wrong.ssh(t, s.client, "22")
		for range 3 {
			v.answers(badToken.wrong())
		}
		v.isRefused()
		entry = s.journal(t, "sallyport-authd", wrong.name)
		for field, want := range map[string]string{"RESULT": "too many tries", "REASON": "too_many_attempts", "SETTING": "attempts"} {
			if entry["SALLYPORT_"+field] != want {
				t.Errorf("SALLYPORT_%s is %v, want %s: %v", field, entry["SALLYPORT_"+field], want, entry)
			}
		}
	})
	t.Run("authd says how it is", func(t *testing.T) {
		out, err := s.host.Must(t.Context(), "sallyport", "status", "--json")
		must(t, err)
		var state struct {
			Authd  string        `json:"authd"`
			Report status.Report `json:"report"`
		}
		must(t, json.Unmarshal([]byte(out), &state))
		if r := state.Report; state.Authd != "up" || len(r.Verifiers) != 1 || !r.Verifiers[0].Up || r.Verifiers[0].LastContact.IsZero() || r.Config.ReloadError != "" {
			t.Errorf("sallyport status: %s", out)
		}
		const read = `(printf "GET /metrics HTTP/1.0\r\n\r\n"; sleep 1) | nc -U /run/sallyport/status.sock`
		out, err = s.host.Shell(t.Context(), read)
		must(t, err)
		if want := `sallyport_logins_total{reason="passcode",result="allow",service="sshd"} 1`; !strings.Contains(out, want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
		out, err = s.host.Shell(t.Context(), "su "+p.name+" -s /bin/sh -c '"+read+"' 2>&1 || true")
		must(t, err)
		if strings.Contains(out, "sallyport_logins") {
			t.Errorf("an ordinary user read the metrics:\n%s", out)
		}
	})
	t.Run("neither daemon runs as root", func(t *testing.T) {
		for _, daemon := range []string{"sallyport-authd", "sallyport-verifier"} {
			pid := s.unit(t, daemon+".service", "MainPID")
			status, err := s.host.Read(t.Context(), "/proc/"+pid+"/status")
			must(t, err)
			for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
				if !strings.Contains(status, want) {
					t.Errorf("%s lacks %q:\n%s", daemon, want, status)
				}
			}
			if strings.Contains(status, "Uid:\t0\t") {
				t.Errorf("%s runs as root", daemon)
			}
		}
	})
	for _, c := range []struct{ what, command string }{
		{"a restart", "systemctl restart sallyport-authd.service"},
		{"a reload", "systemctl reload sallyport-authd.service"},
		{"a crash", crash("sallyport-authd.service")},
		{"a crash of the verifier", crash("sallyport-verifier.service")},
	} {
		t.Run("logins go on after "+c.what, func(t *testing.T) {
			_, err := s.host.Shell(t.Context(), c.command)
			must(t, err)
			v := p.ssh(t, s.client, "22")
			v.answers(token.next())
			v.comesIn()
		})
	}
	t.Run("a login is remembered", func(t *testing.T) {
		s.policy(t, "--on", "--ask")
		defer s.policy(t, "--off")
		m := s.insider(t, "boxed")
		v := m.logsIn(t, "y")
		wantRemembered(t, "sudo", v.sudoAsks(m.password))
		v.leavesShell()
		eventually(t, "the logout ends the session", func() bool {
			list := m.sessions(t)
			return len(list) == 1 && list[0].Why == "logout"
		})
	})
	t.Run("sudo and su work too", func(t *testing.T) {
		for _, v := range []*visit{p.sudo(t), p.su(t)} {
			v.answers(token.next())
			v.comesIn()
		}
	})
	t.Run("the gateway serves", func(t *testing.T) { gatewayUnderSystemd(t, s) })
	t.Run("break-glass while authd crashes", func(t *testing.T) { breakGlassUnderSystemd(t, s, p) })
	t.Run("logins go on after that", func(t *testing.T) {
		v := p.ssh(t, s.client, "22")
		v.answers(token.next())
		v.comesIn()
	})
}

// crash is a shell command that kills a service and returns when systemd has
// brought it back: `systemctl kill` itself returns before the process is gone,
// while the unit still counts as active.
func crash(service string) string {
	return strings.ReplaceAll(`
pid() { systemctl show --value -p MainPID SERVICE; }
old=$(pid)
systemctl kill --signal=KILL SERVICE
until [ "$(pid)" != "$old" ] && systemctl is-active --quiet SERVICE; do sleep 0.1; done
`, "SERVICE", service)
}

// systemdSite is a site whose verifier and host are one machine under systemd.
func systemdSite(t *testing.T) *site {
	t.Helper()
	ctx := context.Background()
	box, err := town.lab.Start(ctx, "box", harness.Options{Systemd: true})
	must(t, err)
	s := &site{
		lab: town.lab, verifier: box, host: box, url: "https://box:8443",
		client: town.client, elsewhere: town.elsewhere, phones: town.phones, people: map[string]int{},
	}
	must(t, box.Put(ctx, installation(t)...))
	must(t, box.Put(ctx, files(hostFiles)...))
	_, err = box.Shell(ctx, `
until systemctl is-system-running --wait | grep -qE 'running|degraded'; do sleep 0.1; done
systemctl daemon-reload
systemd-sysusers
systemd-tmpfiles --create sallyport.conf
runuser -u sallyport-verifier -- sallyport-verifier init --data `+verifierData+` --url `+s.url+`
systemctl enable --now sallyport-verifier.service
`)
	must(t, err)
	var token struct{ Token string }
	s.admin(t, &token, "host", "token")
	_, err = box.Must(ctx, "sallyport", "host", "join", s.url, "--token", token.Token)
	must(t, err)
	_, err = box.Shell(ctx, hostSetUp+`
systemctl enable --now sallyport-authd.socket sallyport-authd-user.socket sallyport-authd-status.socket
systemctl restart ssh.service
`)
	must(t, err)
	must(t, s.knowHost(ctx))
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := box.Shell(ctx, "systemctl --no-pager status 'sallyport-*' ssh; journalctl --no-pager -n 60")
			t.Logf("systemd:\n%s", out)
		}
	})
	return s
}

// installation is what `make install` puts in place.
func installation(t *testing.T) []harness.File {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	var found []harness.File
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found = append(found, harness.File{Path: strings.TrimPrefix(path, dir), Mode: int64(info.Mode().Perm()), Data: data})
		return nil
	}))
	return found
}

// unit returns a property of a unit.
func (s *site) unit(t *testing.T, name, property string) string {
	t.Helper()
	out, err := s.host.Must(t.Context(), "systemctl", "show", "--value", "--property", property, name)
	must(t, err)
	return strings.TrimSpace(out)
}

// journal returns the newest entry of a unit that names the user.
func (s *site) journal(t *testing.T, unit, user string) map[string]any {
	t.Helper()
	out, err := s.host.Must(t.Context(), "journalctl", "--no-pager", "--output=json", "--unit", unit)
	must(t, err)
	var last map[string]any
	for line := range strings.Lines(out) {
		var entry map[string]any
		must(t, json.Unmarshal([]byte(line), &entry))
		if entry["SALLYPORT_USER"] == user && entry["SALLYPORT_HOOK"] == "authenticate" {
			last = entry
		}
	}
	return last
}
