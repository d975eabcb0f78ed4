// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// switchSite is a host with the stacks and the sshd_config that Debian installs,
// joined to the site's verifier. Nothing is switched on.
func switchSite(t *testing.T, name string) *site {
	t.Helper()
	ctx := context.Background()
	host, err := town.lab.Start(ctx, name, harness.Options{})
	must(t, err)
	s := town.with(host)
	must(t, install(ctx, host, []string{"sallyport", "sallyport-authd", "pam_sallyport.so", "drv"}))
	must(t, host.Put(ctx, files(map[string]string{sudoers: hostFiles[sudoers]})...))
	must(t, s.joinHost(ctx))
	_, err = host.Shell(ctx, hostSetUp)
	must(t, err)
	s.startSwitchHost(t)
	must(t, s.knowHost(ctx))
	return s
}

const sudoers = "/etc/sudoers.d/people"

// with is the site with another host.
func (s *site) with(host *harness.Container) *site {
	return &site{
		lab: s.lab, url: s.url, verifier: s.verifier, host: host,
		client: s.client, elsewhere: s.elsewhere, phones: s.phones, people: map[string]int{},
	}
}

func (s *site) startSwitchHost(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	must(t, s.startSyslog(ctx))
	must(t, s.startAuthd(ctx))
	must(t, s.host.Daemon(ctx, "sshd", harness.Command{Args: []string{"/usr/sbin/sshd", "-D", "-e"}}))
	must(t, s.host.AwaitPort(ctx, "22"))
}

// pamSwitch runs `sallyport pam` without a terminal.
func (s *site) pamSwitch(t *testing.T, args ...string) harness.Result {
	t.Helper()
	out, err := s.host.Run(t.Context(), harness.Command{Args: append([]string{"sallyport", "pam"}, args...)})
	must(t, err)
	return out
}

// pamOnTerminal starts `sallyport pam` on a terminal.
func (s *site) pamOnTerminal(t *testing.T, args ...string) *visit {
	t.Helper()
	terminal, err := s.host.Terminal(harness.Command{Args: append([]string{"sallyport", "pam"}, args...)})
	must(t, err)
	t.Cleanup(terminal.Kill)
	return &visit{t: t, terminal: terminal}
}

func (v *visit) ends(want int) {
	v.t.Helper()
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if code != want {
		v.t.Errorf("exit status %d, want %d; terminal:\n%s", code, want, v.terminal.Screen())
	}
}

// has says whether a file of the host holds a text.
func (s *site) has(t *testing.T, path, text string) bool {
	t.Helper()
	out, err := s.host.Run(t.Context(), harness.Command{Args: []string{"grep", "-qs", text, path}})
	must(t, err)
	return out.Code == 0
}

const (
	module      = "pam_sallyport"
	dropIn      = "/etc/ssh/sshd_config.d/00-sallyport.conf"
	asksGoOn    = `Put this in place\? \[y/N\] $`
	asksKeep    = `Does it work\? \[keep/undo\] $`
	passwordFor = `(?i)password: ?$`
)

// switchesOn is what an administrator does: enable, log in, confirm.
func (s *site) switchesOn(t *testing.T) {
	t.Helper()
	p := s.switcher(t)
	token := p.hotp(t)
	root := s.pamOnTerminal(t, "enable", "sshd", "sudo")
	// Not "tried" with a reservation: authd was reached through each stack.
	root.expect("the new stacks load, and authd answers through them")
	if screen := root.terminal.Screen(); strings.Contains(screen, "before the module is asked") {
		t.Errorf("the trial has not reached the module:\n%s", screen)
	}
	root.expect(asksGoOn)
	root.types("y")
	root.expect(asksKeep)
	for _, v := range []*visit{p.ssh(t, s.client, "22"), p.sudo(t)} {
		v.answers(token.next())
		v.comesIn()
	}
	root.types("keep")
	root.ends(0)
	if out := s.pamSwitch(t, "rollback"); out.Code == 0 {
		t.Errorf("a confirmed change was taken back: %s", out.Output())
	}
	for _, f := range s.doctor(t, []string{"pam", "sshd"}, "--user", p.name) {
		if f.Status == "fail" {
			t.Errorf("%+v", f)
		}
	}
	// The key alone is not enough any more.
	p.ssh(t, s.client, "22", "-o", "KbdInteractiveAuthentication=no").isRefused()
}

// switcher is a person of the site whose name is not that of one of another host.
func (s *site) switcher(t *testing.T) *person {
	t.Helper()
	return s.person(t, s.host.Name)
}

// takesItselfBack: enable, then the terminal dies and nobody confirms.
func (s *site) takesItselfBack(t *testing.T) {
	t.Helper()
	p := s.switcher(t)
	root := s.pamOnTerminal(t, "enable", "su", "--confirm-within", "10s")
	root.expect(asksGoOn)
	root.types("y")
	root.expect(asksKeep)
	if !s.has(t, "/etc/pam.d/su", module) {
		t.Error("su is not switched on")
	}
	_, err := s.host.Must(t.Context(), "pkill", "-KILL", "-f", "^sallyport pam enable")
	must(t, err)
	root.leaves()
	eventually(t, "the change is taken back", func() bool { return !s.has(t, "/etc/pam.d/su", module) })
	p.su(t).comesIn()
	eventually(t, "it is recorded", func() bool { return s.pamSwitch(t, "confirm").Code != 0 })
}

func TestSwitchOn(t *testing.T) {
	t.Parallel()
	s := switchSite(t, "switch")
	t.Run("a stack that does not load is never put in place", func(t *testing.T) {
		before, err := s.host.Read(t.Context(), "/etc/pam.d/login")
		must(t, err)
		for what, line := range map[string]string{
			"names pam_nowhere.so, which is not installed": "auth required pam_nowhere.so",
			"does not exist": "@include nowhere",
		} {
			must(t, s.host.Put(t.Context(), harness.File{Path: "/etc/pam.d/login", Mode: 0o644, Data: []byte(before + line + "\n")}))
			out := s.pamSwitch(t, "enable", "login", "--yes", "--force")
			if out.Code != 1 || !strings.Contains(out.Stderr, what) || s.has(t, "/etc/pam.d/login", module) {
				t.Errorf("exit status %d: %s", out.Code, out.Output())
			}
		}
		must(t, s.host.Put(t.Context(), harness.File{Path: "/etc/pam.d/login", Mode: 0o644, Data: []byte(before)}))
	})
	t.Run("nothing is switched on while authd is away", func(t *testing.T) {
		must(t, s.host.Signal(t.Context(), "authd", "TERM"))
		out := s.pamSwitch(t, "enable", "su", "--yes")
		if out.Code != 1 || !strings.Contains(out.Stderr, "people would be locked out") || s.has(t, "/etc/pam.d/su", module) {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		// Whoever insists gets it, and the way back.
		if out := s.pamSwitch(t, "enable", "su", "--yes", "--force", "--confirm-within", "10s"); out.Code != 0 || !s.has(t, "/etc/pam.d/su", module) {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		eventually(t, "the change is taken back", func() bool { return !s.has(t, "/etc/pam.d/su", module) && s.pamSwitch(t, "confirm").Code != 0 })
		must(t, s.startAuthd(t.Context()))
	})
	t.Run("it takes itself back when nobody confirms", func(t *testing.T) { s.takesItselfBack(t) })
	t.Run("a person logs in through the new stack first", func(t *testing.T) {
		p := s.switcher(t)
		token := p.hotp(t)
		root := s.pamOnTerminal(t, "enable", "sshd", "sudo", "su", "--try", p.name)
		for _, service := range []string{"sshd", "sudo", "su"} {
			root.expect(service + `: log in now, as ` + p.name)
			switch service {
			case "sudo":
				root.expect(passwordFor)
				root.types(p.password)
			case "su":
				root.expect(passwordFor)
				root.types(rootPassword)
			}
			root.answers(token.next())
		}
		root.expect(asksGoOn)
		root.types("n")
		root.ends(1)
		root = s.pamOnTerminal(t, "enable", "sudo", "--try", p.name)
		root.expect(passwordFor)
		root.types("not the password")
		root.ends(1)
		if s.has(t, "/etc/pam.d/sudo", module) {
			t.Error("sudo was switched on although nobody got in")
		}
	})
	t.Run("the other services of Debian", func(t *testing.T) {
		out := s.pamSwitch(t, "enable", "login", "polkit-1", "--yes", "--confirm-within", "10s")
		if out.Code != 0 || strings.Contains(out.Stderr, "before the module is asked") || !s.has(t, "/etc/pam.d/polkit-1", module) {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		eventually(t, "the change is taken back", func() bool {
			return !s.has(t, "/etc/pam.d/polkit-1", module) && !s.has(t, "/etc/pam.d/login", module) && s.pamSwitch(t, "confirm").Code != 0
		})
	})
	t.Run("it is confirmed after a login", func(t *testing.T) { s.switchesOn(t) })
	t.Run("switching off takes itself back too", func(t *testing.T) {
		out := s.pamSwitch(t, "disable", "sshd", "sudo", "--yes", "--confirm-within", "10s")
		if out.Code != 0 {
			t.Fatal(out.Output())
		}
		if s.has(t, dropIn, "UsePAM") || s.has(t, "/etc/pam.d/sudo", module) {
			t.Error("it is not switched off")
		}
		eventually(t, "the change is taken back", func() bool {
			return s.has(t, dropIn, "UsePAM") && s.has(t, "/etc/pam.d/sudo", module) && s.has(t, "/etc/pam.d/sshd", module)
		})
	})
	t.Run("a line that sshd reads first is found out", func(t *testing.T) {
		before, err := s.host.Read(t.Context(), "/etc/ssh/sshd_config")
		must(t, err)
		if out := s.pamSwitch(t, "disable", "sshd", "--yes", "--confirm-within", "0"); out.Code != 0 {
			t.Fatal(out.Output())
		}
		_, err = s.host.Shell(t.Context(), "sed -i '1i PasswordAuthentication yes' /etc/ssh/sshd_config")
		must(t, err)
		out := s.pamSwitch(t, "enable", "sshd", "--yes")
		if out.Code != 1 || !strings.Contains(out.Stderr, "PasswordAuthentication yes, not no") || s.has(t, "/etc/pam.d/sshd", module) || s.has(t, dropIn, "UsePAM") {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		must(t, s.host.Put(t.Context(), harness.File{Path: "/etc/ssh/sshd_config", Mode: 0o644, Data: []byte(before)}))
	})
	t.Run("a restart is no confirmation", func(t *testing.T) {
		if out := s.pamSwitch(t, "enable", "su", "--yes", "--confirm-within", "1h"); out.Code != 0 {
			t.Fatal(out.Output())
		}
		must(t, s.host.Restart(t.Context()))
		// Without systemd, what starts the host runs this.
		if out := s.pamSwitch(t, "rollback", "--pending"); out.Code != 0 {
			t.Error(out.Output())
		}
		if s.has(t, "/etc/pam.d/su", module) {
			t.Error("su is still switched on")
		}
	})
}

func TestSwitchOnUnderSystemd(t *testing.T) {
	t.Parallel()
	s := systemdSwitchSite(t)
	t.Run("it takes itself back when nobody confirms", func(t *testing.T) { s.takesItselfBack(t) })
	t.Run("it is confirmed after a login", func(t *testing.T) { s.switchesOn(t) })
	t.Run("a restart is no confirmation", func(t *testing.T) {
		if out := s.pamSwitch(t, "enable", "su", "--yes", "--confirm-within", "1h"); out.Code != 0 {
			t.Fatal(out.Output())
		}
		if got := s.unit(t, "sallyport-pam-rollback.service", "UnitFileState"); got != "enabled" {
			t.Errorf("the unit that takes it back at boot is %s", got)
		}
		must(t, s.host.Restart(t.Context()))
		_, err := s.host.Shell(t.Context(), awaitBoot)
		must(t, err)
		if s.has(t, "/etc/pam.d/su", module) {
			out, _ := s.host.Shell(t.Context(), "journalctl --no-pager -u sallyport-pam-rollback")
			t.Errorf("su is still switched on: %s", out)
		}
		if got := s.unit(t, "sallyport-pam-rollback.service", "UnitFileState"); got != "disabled" {
			t.Errorf("the unit that takes it back at boot is %s", got)
		}
		if !s.has(t, "/etc/pam.d/sudo", module) {
			t.Error("what was confirmed before is gone too")
		}
	})
}

const awaitBoot = "until systemctl is-system-running --wait | grep -qE 'running|degraded'; do sleep 0.1; done\n"

func systemdSwitchSite(t *testing.T) *site {
	t.Helper()
	ctx := context.Background()
	box, err := town.lab.Start(ctx, "switchbox", harness.Options{Systemd: true})
	must(t, err)
	s := town.with(box)
	must(t, box.Put(ctx, installation(t)...))
	must(t, box.Put(ctx, files(map[string]string{sudoers: hostFiles[sudoers]})...))
	_, err = box.Shell(ctx, awaitBoot+`
systemctl daemon-reload
systemd-sysusers
systemd-tmpfiles --create sallyport.conf
`)
	must(t, err)
	must(t, s.joinHost(ctx))
	_, err = box.Shell(ctx, hostSetUp+`
systemctl enable --now sallyport-authd.socket sallyport-authd-user.socket
systemctl restart ssh.service
`)
	must(t, err)
	must(t, s.knowHost(ctx))
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := box.Shell(ctx, "systemctl --no-pager status 'sallyport-*' ssh; journalctl --no-pager -n 80")
			t.Logf("systemd:\n%s", out)
		}
	})
	return s
}
