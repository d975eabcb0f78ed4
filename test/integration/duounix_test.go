// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// Debian's libpam-duo and login-duo, unmodified: they speak the legacy Auth API in
// BSON, signed with SHA-1 and no date. All that is set on their host is what Duo's
// own instructions set: keys, the verifier's name, and a CA file.

// duoSSHDs are the SSH servers of the host with Duo's client. Each has a PAM service
// of its own, or login_duo as forced command.
var duoSSHDs = []struct{ service, config, port string }{
	{"sshd", "sshd_config", "22"},
	{"sshd-strict", "sshd_config", "2201"},
	{"sshd-push", "sshd_config", "2202"},
	{"sshd", "sshd_config_forced", "2203"},
}

func duoConfig(i integration, more string) []byte {
	return fmt.Appendf(nil, "[duo]\nikey = %s\nskey = %s\nhost = verifier:8443\ncafile = %s\nfailmode = secure\npushinfo = yes\n%s",
		i.Key, i.Secret, verifierCA, more)
}

var duoHostFiles = map[string]string{
	"/etc/ssh/sshd_config": sshdCommon + "AuthenticationMethods publickey,keyboard-interactive:pam\n",
	"/etc/ssh/sshd_config_forced": strings.Replace(sshdCommon, "UsePAM yes", "UsePAM no", 1) +
		"AuthenticationMethods publickey\nForceCommand /usr/sbin/login_duo\nPermitTunnel no\nAllowTcpForwarding no\n",
	"/etc/pam.d/sshd":        "auth required pam_duo.so\naccount required pam_unix.so\nsession required pam_unix.so\n",
	"/etc/pam.d/sshd-strict": "auth required pam_duo.so conf=/etc/security/strict.conf\naccount required pam_unix.so\nsession required pam_unix.so\n",
	"/etc/pam.d/sshd-push":   "auth required pam_duo.so conf=/etc/security/autopush.conf\naccount required pam_unix.so\nsession required pam_unix.so\n",
	"/etc/pam.d/sudo":        "auth requisite pam_unix.so\nauth required pam_duo.so\naccount required pam_unix.so\nsession required pam_unix.so\n",
	"/etc/pam.d/su":          "auth sufficient pam_rootok.so\nauth requisite pam_unix.so\nauth required pam_duo.so\naccount required pam_unix.so\nsession required pam_unix.so\n",
	"/etc/sudoers.d/people":  "Defaults timestamp_timeout=0, passwd_tries=1, lecture=never\n%people ALL=(ALL) ALL\n",
}

const duoHostSetUp = `
groupadd people
echo 'root:` + rootPassword + `' | chpasswd
chmod 0440 /etc/sudoers.d/people
mkdir -p /run/sshd
for name in sshd sshd-strict sshd-push; do ln -sf /usr/sbin/sshd /usr/local/sbin/$name; done
chown sshd /etc/security/login_duo.conf
`

// newDuoSite is the town with another host, where Duo's client guards the doors.
func newDuoSite(t *testing.T) *site {
	t.Helper()
	ctx := t.Context()
	host, err := town.lab.Start(ctx, "duohost", harness.Options{})
	must(t, err)
	s := &site{
		lab: town.lab, url: town.url, verifier: town.verifier, host: host, client: town.client, elsewhere: town.elsewhere,
		phones: town.phones, provider: town.provider, proxy: town.proxy,
		people: map[string]int{"telephone": 5000}, // numbers that nobody in the town has
	}
	weak := application(t, "Debian's duo_unix", "--allow-v1", "--allow-sha1", "--allow-plain-push")
	strict := application(t, "duo_unix without plain push", "--allow-v1", "--allow-sha1")
	ca, err := town.verifier.Read(ctx, verifierData+"/ca.pem")
	must(t, err)
	secret := func(path string, data []byte) harness.File { return harness.File{Path: path, Mode: 0o600, Data: data} }
	must(t, host.Put(ctx, append(files(duoHostFiles),
		harness.File{Path: verifierCA, Mode: 0o644, Data: []byte(ca)},
		secret("/etc/security/pam_duo.conf", duoConfig(weak, "")),
		secret("/etc/security/login_duo.conf", duoConfig(weak, "")),
		secret("/etc/security/strict.conf", duoConfig(strict, "")),
		secret("/etc/security/autopush.conf", duoConfig(weak, "autopush = yes\nprompts = 1\n")))...))
	must(t, install(ctx, host, []string{"drv"}))
	_, err = host.Shell(ctx, duoHostSetUp)
	must(t, err)
	must(t, s.startSyslog(ctx))
	must(t, s.startDuoSSHDs(ctx))
	return s
}

func (s *site) startDuoSSHDs(ctx context.Context) error {
	for _, d := range duoSSHDs {
		args := []string{"/usr/local/sbin/" + d.service, "-D", "-e", "-f", "/etc/ssh/" + d.config, "-p", d.port}
		if err := s.host.Daemon(ctx, "sshd-"+d.port, harness.Command{Args: args}); err != nil {
			return err
		}
		if err := s.host.AwaitPort(ctx, d.port); err != nil {
			return err
		}
	}
	return s.knowHost(ctx)
}

// What Duo's client shows.
const (
	duoAsks = `Passcode or option \(1-(\d)\): $`
	duoPass = `Passcode: $`
)

// plainEvent is an event as this file looks at it.
type plainEvent struct {
	Result string `json:"result"`
	Reason string `json:"reason"`
	Factor string `json:"factor"`
	Plain  bool   `json:"plain_push"`
}

// logSays asserts what the newest event of the verifier's log says of the person.
func (p *person) logSays(t *testing.T, want plainEvent) {
	t.Helper()
	var events []plainEvent
	p.site.admin(t, &events, "log", "auth", "--user", p.name)
	if len(events) == 0 || events[len(events)-1] != want {
		t.Errorf("the log of %s says %+v, want %+v at its end", p.name, events, want)
	}
}

// TestDuoUnixOfDebian: every way of the menu through every door.
func TestDuoUnixOfDebian(t *testing.T) {
	t.Parallel()
	s := newDuoSite(t)
	for _, scenario := range []struct {
		name string
		run  func(*testing.T, *site, door)
	}{
		{"push", duoPush}, {"passcode", duoPasscode}, {"phone", duoPhone}, {"sms", duoSMS}, {"denied and locked", duoDenied},
		{"status", duoStatus}, {"whole menu", duoMenu},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			for _, d := range doors {
				t.Run(d.name, func(t *testing.T) {
					t.Parallel()
					scenario.run(t, s, d)
				})
			}
		})
	}
	t.Run("no plain push", func(t *testing.T) { t.Parallel(); duoWithoutPlainPush(t, s) })
	t.Run("autopush", func(t *testing.T) { t.Parallel(); duoAutopush(t, s) })
	t.Run("login_duo", func(t *testing.T) { t.Parallel(); duoForced(t, s) })
}

// chooses answers the menu, which has so many options.
func (v *visit) chooses(options, choice string) {
	v.t.Helper()
	if got := v.expect(duoAsks)[1]; got != options {
		v.t.Errorf("the menu has %s options, want %s; terminal:\n%s", got, options, v.terminal.Screen())
	}
	v.types(choice)
}

// A push without digits, by its number at the menu; the log tells that it had none.
func duoPush(t *testing.T, s *site, d door) {
	p := s.person(t, "duopush")
	phone := p.authenticator(t)
	v := d.knock(t, p)
	v.chooses("1", "1")
	if out := phone.approve(""); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.comesIn()
	p.logSays(t, plainEvent{"success", "user_approved", "duo_push", true})
}

// A wrong code is said to be wrong and costs one of three tries; the right one lets in.
func duoPasscode(t *testing.T, s *site, d door) {
	p := s.person(t, "duocode")
	token := p.hotp(t)
	v := d.knock(t, p)
	v.expect(duoPass)
	v.types(token.wrong())
	v.expect(duoPass)
	p.logSays(t, plainEvent{Result: "denied", Reason: "invalid_passcode", Factor: "passcode"})
	v.types(token.next())
	v.comesIn()
	p.logSays(t, plainEvent{Result: "success", Reason: "valid_passcode", Factor: "hardware_token"})
}

// A call, by its number at the menu.
func duoPhone(t *testing.T, s *site, d door) {
	p := s.person(t, "duocall")
	telephone := p.telephone(t)
	v := d.knock(t, p)
	v.chooses("2", "1")
	call := telephone.rings()
	telephone.report(webhookSecret, call, map[string]string{"event": "answered"})
	if status := telephone.report(webhookSecret, call, press(call.ApproveKey)); status != 200 {
		t.Errorf("the callback was answered with %d", status)
	}
	v.comesIn()
	p.logSays(t, plainEvent{Result: "success", Reason: "user_approved", Factor: "phone_call"})
}

var smsCode = regexp.MustCompile(`\b\d{6,8}\b`)

// Codes by SMS: the client says that they were sent and asks again.
func duoSMS(t *testing.T, s *site, d door) {
	p := s.person(t, "duosms")
	telephone := p.telephone(t)
	v := d.knock(t, p)
	v.chooses("2", "2")
	code := smsCode.FindString(telephone.rings().Text)
	v.chooses("2", code)
	v.comesIn()
	p.logSays(t, plainEvent{Result: "success", Reason: "valid_passcode", Factor: "sms_passcode"})
}

// Each number of a menu with everything does what stands beside it, and the client
// asks again after each that did not let in.
func duoMenu(t *testing.T, s *site, d door) {
	p := s.person(t, "duomenu")
	phone := p.authenticator(t)
	telephone := p.telephone(t)
	v := d.knock(t, p)
	v.chooses("3", "1")
	if out := phone.run("deny", "--txid", phone.waiting()); out.Code != 0 {
		t.Fatalf("deny: %s", out.Output())
	}
	v.chooses("3", "2")
	telephone.report(webhookSecret, telephone.rings(), map[string]string{"event": "hangup"})
	v.chooses("3", "3")
	var code string
	eventually(t, "an SMS", func() bool {
		code = smsCode.FindString(telephone.rings().Text)
		return code != ""
	})
	v.leaves() // all three tries are used
	for _, want := range []string{`1\. Push to `, `2\. Phone call to `, `3\. SMS passcodes to `, "XXX-XXX-"} {
		if !regexp.MustCompile(want).MatchString(v.terminal.Screen()) {
			t.Errorf("the menu does not say %s:\n%s", want, v.terminal.Screen())
		}
	}
	v = d.knock(t, p)
	v.chooses("3", code)
	v.comesIn()
}

// Who denies a push as not theirs locks the account, and the next login reads so.
func duoDenied(t *testing.T, s *site, d door) {
	p := s.person(t, "duofraud")
	phone := p.authenticator(t)
	v := d.knock(t, p)
	v.chooses("1", "1")
	if out := phone.run("deny", "--txid", phone.waiting(), "--fraud"); out.Code != 0 {
		t.Fatalf("deny: %s", out.Output())
	}
	v.isKeptOut()
	p.logSays(t, plainEvent{"denied", "locked_out", "not_available", false})
	v = d.knock(t, p)
	v.isKeptOut()
	if d.name != "sshd" { // which shows nothing without a question behind it
		v.hasRead("locked out")
	}
}

// What the status of a user says holds without a question.
func duoStatus(t *testing.T, s *site, d door) {
	p := s.person(t, "duostatus", "--status", "bypass")
	d.knock(t, p).comesIn()
	p.logSays(t, plainEvent{Result: "success", Reason: "bypass_user", Factor: "not_available"})
	p.setStatus(t, "disabled")
	v := d.knock(t, p)
	v.isKeptOut()
	p.logSays(t, plainEvent{Result: "denied", Reason: "user_disabled", Factor: "not_available"})
	stranger := s.stranger(t, "duonobody")
	d.knock(t, stranger).isKeptOut()
}

// Where the integration does not allow plain push, the menu has none, and asking for it anyhow is denied.
func duoWithoutPlainPush(t *testing.T, s *site) {
	p := s.person(t, "duostrict")
	p.authenticator(t)
	telephone := p.telephone(t)
	_ = telephone
	token := p.hotp(t)
	v := p.ssh(t, s.client, "2201")
	v.chooses("2", "push1")
	v.expect(duoAsks)
	if strings.Contains(v.terminal.Screen(), "Push to") {
		t.Errorf("push is in the menu:\n%s", v.terminal.Screen())
	}
	p.logSays(t, plainEvent{Result: "denied", Reason: "factor_restricted", Factor: "duo_push"})
	v.types(token.next())
	v.comesIn()
}

// With autopush the client chooses the default itself.
func duoAutopush(t *testing.T, s *site) {
	p := s.person(t, "duoauto")
	phone := p.authenticator(t)
	v := p.ssh(t, s.client, "2202")
	if out := phone.approve(""); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.comesIn()
	p.logSays(t, plainEvent{"success", "user_approved", "duo_push", true})
}

// login_duo as sshd's forced command, without PAM.
func duoForced(t *testing.T, s *site) {
	p := s.person(t, "duoforced")
	phone := p.authenticator(t)
	token := p.hotp(t)
	shell := func() *visit {
		v := p.visit(t, s.client, harness.Command{Args: p.sshArgs("2203", "-tt")})
		v.shell = true
		return v
	}
	v := shell()
	v.chooses("1", token.wrong())
	v.chooses("1", token.next())
	v.comesIn()

	// Who gives a command is not asked: login_duo pushes by itself.
	v = p.ssh(t, s.client, "2203")
	if out := phone.approve(""); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.comesIn()

	v = shell()
	v.chooses("1", "1")
	if out := phone.run("deny", "--txid", phone.waiting()); out.Code != 0 {
		t.Fatalf("deny: %s", out.Output())
	}
	v.expect(duoAsks)
	p.logSays(t, plainEvent{"denied", "user_mistake", "duo_push", true})
	v.leaves()
}

// isKeptOut asserts that the visit ends without the person being let in.
func (v *visit) isKeptOut() {
	v.t.Helper()
	for range 4 {
		if _, err := v.terminal.Expect(duoAsks + "|" + duoPass); errors.Is(err, harness.ErrEnded) {
			break
		}
		v.types("1")
	}
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if screen := v.terminal.Screen(); code == 0 || strings.Contains(screen, isIn) {
		v.t.Errorf("let in, status %d; terminal:\n%s", code, screen)
	}
}
