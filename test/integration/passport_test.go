// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	asksToRemember = `Remember this login for sudo and su for (.*)\? \[y/N\] $`
	shellPrompt    = `ready> $`
)

// passportFiles are the host's own beside those of every site: a console, and cron as
// on Debian.
var passportFiles = map[string]string{
	"/etc/pam.d/login": `
auth    requisite pam_unix.so
auth    required  pam_sallyport.so
account required  pam_unix.so
account required  pam_sallyport.so
session required  pam_loginuid.so
session required  pam_sallyport.so
session required  pam_unix.so
`,
	// A user namespace in which setuid programs work: root outside has mapped everybody.
	"/usr/local/bin/in-userns": `#!/bin/sh
mkfifo /run/mapped.$$
unshare --user sh -c 'read -r _ <"$0"; exec "$@"' /run/mapped.$$ "$@" &
until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/$$/ns/user)" ]; do sleep 0.1; done
echo 0 0 65536 >/proc/$!/uid_map
echo 0 0 65536 >/proc/$!/gid_map
echo >/run/mapped.$$
wait
`,
}

// One site for all scenarios of remembered logins: its verifier remembers.
func TestPassport(t *testing.T) {
	s, err := newSiteWith(t.Context(), harness.Options{Capabilities: []string{"SYS_ADMIN"}})
	must(t, err)
	t.Cleanup(func() { must(t, s.close()) })
	must(t, s.host.Put(t.Context(), files(passportFiles)...))
	_, err = s.host.Must(t.Context(), "chmod", "755", "/usr/local/bin/in-userns")
	must(t, err)
	must(t, s.host.Daemon(t.Context(), "cron", harness.Command{Args: []string{"cron", "-f"}}))
	s.policy(t, "--on", "--ask", "--for", "8h")

	cron := s.cronJob(t)
	for _, scenario := range []struct {
		name string
		run  func(t *testing.T, s *site)
	}{
		{"sudo and su after ssh ask nothing", rememberedAfterSSH},
		{"whoever declines is asked", declined},
		{"the console", rememberedAtConsole},
		{"other logins and people", othersAreAsked},
		{"programs that left the login", leavers},
		{"containers", containers},
		{"a number that came round again", pidReuse},
		{"channels of one connection", oneConnection},
		{"ends", ends},
		{"the verifier is away", verifierAway},
		{"authd restarts", authdRestarts},
		{"the policy decides silently", silentPolicy},
	} {
		t.Run(scenario.name, func(t *testing.T) { scenario.run(t, s) })
	}
	t.Run("a cron job", func(t *testing.T) { cron(t) })
}

// policy sets the verifier's policy for remembered logins.
func (s *site) policy(t *testing.T, flags ...string) {
	t.Helper()
	s.admin(t, nil, append([]string{"policy", "remembered-devices"}, flags...)...)
}

// insider is a person with a token, and a program that tells whether sudo asks.
type insider struct {
	*person
	token *codes
	probe string
}

func (s *site) insider(t *testing.T, what string) *insider {
	t.Helper()
	p := s.person(t, what)
	m := &insider{p, p.hotp(t), "/usr/local/bin/probe-" + p.name}
	// sudo -S takes the password from the pipe; the question for a factor meets its end.
	script := fmt.Sprintf(`#!/bin/sh
out=$(echo '%s' | sudo -k -S -p '' echo remembered 2>/dev/null </dev/stdin)
echo "${out:-asked}" >"$1.new"
mv "$1.new" "$1"
`, p.password)
	must(t, s.host.Put(t.Context(), harness.File{Path: m.probe, Mode: 0o755, Data: []byte(script)}))
	return m
}

// logsIn logs in by ssh, gives that answer to the offer, and stands in a shell.
func (m *insider) logsIn(t *testing.T, answer string, options ...string) *visit {
	t.Helper()
	args := append(m.sshArgs("22", append([]string{"-tt"}, options...)...), "env", "PS1='ready> '", "bash", "--norc", "--noprofile")
	v := m.visit(t, m.site.client, harness.Command{Args: args})
	v.answers(m.token.next())
	v.expect(asksToRemember)
	v.types(answer)
	v.expect(shellPrompt)
	return v
}

// runs types a command and waits for the prompt.
func (v *visit) runs(command string) {
	v.t.Helper()
	v.types(command)
	v.expect(shellPrompt)
}

// sudoAsks runs sudo in a shell and says whether it asks for the factor.
func (v *visit) sudoAsks(password string) bool {
	v.t.Helper()
	v.types("sudo -k sh -c '" + inside + "'")
	v.expect(`password for \S+: $`)
	v.types(password)
	return v.asked()
}

// asked says whether the program at work asks for a factor; then it is given up.
func (v *visit) asked() bool {
	v.t.Helper()
	m := v.expect(isIn + `|` + strings.TrimSuffix(asksFactor, "$") + `|` + strings.TrimSuffix(saysWhy, "$"))
	if m[0] != isIn {
		v.terminal.Press("\x03")
	}
	v.expect(shellPrompt)
	return m[0] != isIn
}

// leavesShell logs out.
func (v *visit) leavesShell() {
	v.t.Helper()
	v.types("exit")
	_, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
}

// verdict waits for what a probe has written.
func (s *site) verdict(t *testing.T, file string) string {
	t.Helper()
	var text string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := s.host.Run(t.Context(), harness.Command{Args: []string{"cat", file}})
		must(t, err)
		if text = strings.TrimSpace(out.Stdout); text != "" {
			return text
		}
	}
	t.Fatalf("%s was not written", file)
	return ""
}

func wantAsked(t *testing.T, who string, asked bool) {
	t.Helper()
	if !asked {
		t.Errorf("%s was not asked", who)
	}
}

func wantRemembered(t *testing.T, who string, asked bool) {
	t.Helper()
	if asked {
		t.Errorf("%s was asked", who)
	}
}

// listed is a session as the administrator sees it.
type listed struct {
	ID     string `json:"session_id"`
	Status string `json:"status"`
	Why    string `json:"ended_reason"`
	Uses   int    `json:"uses"`
}

// sessions is what the administrator sees of the person's.
func (m *insider) sessions(t *testing.T) (out []listed) {
	t.Helper()
	m.site.admin(t, &out, "session", "list", "--user", m.name, "--all")
	return out
}

func rememberedAfterSSH(t *testing.T, s *site) {
	m := s.insider(t, "remembered")
	v := m.logsIn(t, "y")
	wantRemembered(t, "sudo", v.sudoAsks(m.password))
	m.lastDecision(t, decision{Reason: "remembered"})
	m.lastEvent(t, event{Result: "success", Reason: "remembered_device", Factor: "remembered_device"})
	v.types("su -c '" + inside + "'")
	v.expect(`Password: $`)
	v.types(rootPassword)
	wantRemembered(t, "su", v.asked())
	v.runs(m.probe + " /tmp/script-" + m.name)
	if got := s.verdict(t, "/tmp/script-"+m.name); got != "remembered" {
		t.Errorf("a script in the login: %s", got)
	}
	if list := m.sessions(t); len(list) != 1 || list[0].Status != "live" || list[0].Uses != 3 {
		t.Errorf("sessions %+v", list)
	}
	v.leavesShell()
	eventually(t, "the logout ends the session", func() bool {
		list := m.sessions(t)
		return len(list) == 1 && list[0].Why == "logout"
	})
}

func declined(t *testing.T, s *site) {
	m := s.insider(t, "declined")
	for _, answer := range []string{"n", "", "maybe"} {
		v := m.logsIn(t, answer)
		wantAsked(t, "who answered "+answer, v.sudoAsks(m.password))
		v.leavesShell()
	}
	if list := m.sessions(t); len(list) != 0 {
		t.Errorf("sessions %+v", list)
	}
}

func rememberedAtConsole(t *testing.T, s *site) {
	m := s.insider(t, "console")
	_, err := s.host.Must(t.Context(), "sh", "-c", "echo \"PS1='ready> '\" >/home/"+m.name+"/.bash_profile")
	must(t, err)
	login := func(args ...string) *visit {
		v := m.visit(t, s.host, harness.Command{Args: append([]string{"login"}, args...)})
		v.expect(`Password: $`)
		v.types(m.password)
		v.answers(m.token.next())
		return v
	}
	v := login(m.name)
	v.expect(asksToRemember)
	v.types("y")
	v.expect(shellPrompt)
	wantRemembered(t, "sudo at the console", v.sudoAsks(m.password))
	v.leavesShell()
	eventually(t, "the logout ends the session", func() bool {
		list := m.sessions(t)
		return len(list) == 1 && list[0].Why == "logout"
	})
}

func othersAreAsked(t *testing.T, s *site) {
	m, other := s.insider(t, "first"), s.insider(t, "other")
	v := m.logsIn(t, "y")
	second := m.logsIn(t, "n")
	wantAsked(t, "the same person in a second login", second.sudoAsks(m.password))
	third := other.logsIn(t, "n")
	wantAsked(t, "another person", third.sudoAsks(other.password))

	// In the login, as somebody else: it is the first person who becomes that, and
	// who is remembered; the other then is not.
	file := "/tmp/inside-" + other.name
	v.types("su " + other.name + " -c '" + other.probe + " " + file + "'")
	v.expect(`Password: $`)
	v.types(other.password)
	v.expect(shellPrompt)
	if got := s.verdict(t, file); got != "asked" {
		t.Errorf("another person in the login: %s", got)
	}
	wantRemembered(t, "the person in the first login", v.sudoAsks(m.password))
}

// leavers are programs of the person that are of the login no more.
func leavers(t *testing.T, s *site) {
	m := s.insider(t, "leaver")
	v := m.logsIn(t, "y")
	file := func(name string) string { return "/tmp/" + name + "-" + m.name }
	// Each waits for a word, so that its parents are gone when it asks.
	for name, command := range map[string]string{
		"daemon":   "(setsid sh -c 'until [ -e /tmp/go-%[1]s ]; do sleep 0.1; done; %[2]s %[3]s' >/dev/null 2>&1 &)",
		"outlived": "nohup sh -c 'until [ -e /tmp/gone-%[1]s ]; do sleep 0.1; done; %[2]s %[3]s' >/dev/null 2>&1 &",
	} {
		v.runs(fmt.Sprintf(command, m.name, m.probe, file(name)))
	}
	v.runs("touch /tmp/go-" + m.name)
	if got := s.verdict(t, file("daemon")); got != "asked" {
		t.Errorf("a daemon was %s", got)
	}
	wantRemembered(t, "the person meanwhile", v.sudoAsks(m.password))
	v.leavesShell()
	_, err := s.host.Must(t.Context(), "touch", "/tmp/gone-"+m.name)
	must(t, err)
	if got := s.verdict(t, file("outlived")); got != "asked" {
		t.Errorf("what outlived the login was %s", got)
	}
}

// A namespace is a container of the simplest kind. What runs in it is below the
// login, and has its loginuid and audit session.
func containers(t *testing.T, s *site) {
	m := s.insider(t, "contained")
	v := m.logsIn(t, "y")
	for name, command := range map[string]string{
		"pid":     "unshare --pid --fork --mount-proc",
		"pid-old": "unshare --pid --fork",
		"user":    "/usr/local/bin/in-userns",
	} {
		file := "/tmp/" + name + "-" + m.name
		v.types(fmt.Sprintf("sudo %s setpriv --reuid %s --regid %[2]s --init-groups %s %s", command, m.name, m.probe, file))
		v.expect(`password for \S+: $`)
		v.types(m.password)
		v.expect(shellPrompt)
		if got := s.verdict(t, file); got != "asked" {
			t.Errorf("in a container (%s): %s", command, got)
		}
	}
	// The same without a namespace: it is that, and not the way there.
	file := "/tmp/none-" + m.name
	v.types(fmt.Sprintf("sudo setpriv --reuid %s --regid %[1]s --init-groups %s %s", m.name, m.probe, file))
	v.expect(`password for \S+: $`)
	v.types(m.password)
	v.expect(shellPrompt)
	if got := s.verdict(t, file); got != "remembered" {
		t.Errorf("without a container: %s", got)
	}
}

// pidReuse has a process that outlived its login run sudo below a process with the
// number that the anchor of the login had.
func pidReuse(t *testing.T, s *site) {
	m := s.insider(t, "reuse")
	v := m.logsIn(t, "y")
	name := m.name
	v.runs("ps -o ppid= -p $PPID >/tmp/anchor-" + name)
	wantRemembered(t, "the person", v.sudoAsks(m.password))
	// It waits without making processes, and makes one for each word.
	v.runs("mkfifo /tmp/words-" + name)
	v.runs(fmt.Sprintf("nohup bash -c 'while read -r word </tmp/words-%[1]s; do sh -c \"echo \\$\\$ >/tmp/pid-%[1]s; %[2]s /tmp/reused-%[1]s; exit 0\"; done' >/dev/null 2>&1 &",
		name, m.probe))
	v.leavesShell()
	anchor := strings.TrimSpace(s.verdict(t, "/tmp/anchor-"+name))
	_, err := s.host.Shell(t.Context(), "mount -o remount,rw /proc/sys; while kill -0 "+anchor+" 2>/dev/null; do sleep 0.1; done")
	must(t, err)
	for range 20 {
		_, err := s.host.Shell(t.Context(), fmt.Sprintf("rm -f /tmp/reused-%[1]s; echo $((%[2]s-1)) >/proc/sys/kernel/ns_last_pid; echo word >/tmp/words-%[1]s", name, anchor))
		must(t, err)
		got := s.verdict(t, "/tmp/reused-"+name)
		if got != "asked" {
			t.Errorf("below another process: %s", got)
		}
		if s.verdict(t, "/tmp/pid-"+name) == anchor {
			return
		}
	}
	t.Errorf("no process got the number %s", anchor)
}

// Channels of one connection have the same monitor, so they are one login.
func oneConnection(t *testing.T, s *site) {
	m := s.insider(t, "multiplexed")
	control := "ControlPath=/tmp/control-" + m.name
	v := m.logsIn(t, "y", "-o", "ControlMaster=yes", "-o", control)
	args := append(m.sshArgs("22", "-tt", "-o", control), "env", "PS1='ready> '", "bash", "--norc", "--noprofile")
	second := m.visit(t, s.client, harness.Command{Args: args})
	second.expect(shellPrompt)
	wantRemembered(t, "the second channel", second.sudoAsks(m.password))
	second.leavesShell()
	wantRemembered(t, "the first channel after it", v.sudoAsks(m.password))
}

// forgotten says that the person has no live session.
func (m *insider) forgotten(t *testing.T) func() bool {
	return func() bool {
		return !slices.ContainsFunc(m.sessions(t), func(x listed) bool { return x.Status == "live" })
	}
}

func ends(t *testing.T, s *site) {
	m := s.insider(t, "ended")
	for _, c := range []struct {
		name string
		end  func()
		undo func()
	}{
		{"administrator, by id", func() { s.admin(t, nil, "session", "end", m.sessions(t)[0].ID) }, nil},
		{"administrator, by person", func() { s.admin(t, nil, "session", "end", "--user", m.name) }, nil},
		{"the policy, off", func() { s.policy(t, "--off") }, func() { s.policy(t, "--on") }},
		{"the policy, shorter", func() { s.policy(t, "--for", "1s") }, func() { s.policy(t, "--for", "8h") }},
	} {
		v := m.logsIn(t, "y")
		wantRemembered(t, "before: "+c.name, v.sudoAsks(m.password))
		c.end()
		eventually(t, "no session is live: "+c.name, m.forgotten(t))
		wantAsked(t, "after: "+c.name, v.sudoAsks(m.password))
		if c.undo != nil {
			c.undo()
		}
		wantAsked(t, "and again: "+c.name, v.sudoAsks(m.password))
		v.leavesShell()
	}

	// Its time is over.
	s.policy(t, "--for", "2s")
	v := m.logsIn(t, "y")
	eventually(t, "the session expires", m.forgotten(t))
	s.policy(t, "--for", "8h")
	wantAsked(t, "after its time", v.sudoAsks(m.password))
	v.leavesShell()

	// Who is disabled has nothing of it: the verifier refuses.
	v = m.logsIn(t, "y")
	m.setStatus(t, "disabled")
	wantAsked(t, "who is disabled", v.sudoAsks(m.password))
	m.lastDecision(t, decision{Reason: "verifier_deny"})
}

// Without a verifier nobody is remembered; the fail mode decides.
func verifierAway(t *testing.T, s *site) {
	m := s.insider(t, "away")
	v := m.logsIn(t, "y")
	wantRemembered(t, "before", v.sudoAsks(m.password))
	must(t, s.verifier.Signal(t.Context(), "verifier", "KILL"))
	wantAsked(t, "without a verifier", v.sudoAsks(m.password))
	m.lastDecision(t, decision{Reason: "verifier_down", Setting: "fail_mode"})
	must(t, s.runVerifier(t.Context()))
	eventually(t, "it is remembered again", func() bool { return !v.sudoAsks(m.password) })
}

// authd keeps nothing that a session needs.
func authdRestarts(t *testing.T, s *site) {
	m := s.insider(t, "restart")
	v := m.logsIn(t, "y")
	must(t, s.host.Signal(t.Context(), "authd", "TERM"))
	must(t, s.startAuthd(t.Context()))
	wantRemembered(t, "after a restart", v.sudoAsks(m.password))
	v.leavesShell()
	eventually(t, "the logout ends the session", func() bool {
		list := m.sessions(t)
		return len(list) == 1 && list[0].Why == "logout"
	})
}

// By policy nobody is asked whether to remember.
func silentPolicy(t *testing.T, s *site) {
	s.policy(t, "--silent")
	defer s.policy(t, "--ask")
	m := s.insider(t, "silent")
	args := append(m.sshArgs("22", "-tt"), "env", "PS1='ready> '", "bash", "--norc", "--noprofile")
	v := m.visit(t, s.client, harness.Command{Args: args})
	v.answers(m.token.next())
	v.expect(shellPrompt)
	if strings.Contains(v.terminal.Screen(), "Remember") {
		t.Errorf("the person was asked:\n%s", v.terminal.Screen())
	}
	wantRemembered(t, "sudo", v.sudoAsks(m.password))
}

// cronJob sets one up for a person who is logged in and remembered. It runs with the
// next minute; the function that comes back looks at what it saw.
func (s *site) cronJob(t *testing.T) func(t *testing.T) {
	t.Helper()
	m := s.insider(t, "cron")
	v := m.logsIn(t, "y")
	wantRemembered(t, "the person of the cron job", v.sudoAsks(m.password))
	file := "/tmp/cron-" + m.name
	_, err := s.host.Shell(t.Context(), fmt.Sprintf("echo '* * * * * cat /proc/self/loginuid >/tmp/uid-%[1]s; %[2]s %[3]s' | crontab -u %[1]s -", m.name, m.probe, file))
	must(t, err)
	return func(t *testing.T) {
		if got := s.verdict(t, file); got != "asked" {
			t.Errorf("a cron job was %s", got)
		}
		// It has the person's own loginuid, by pam_loginuid: that is not what tells it apart.
		uid, err := s.host.Must(t.Context(), "id", "-u", m.name)
		must(t, err)
		if got := s.verdict(t, "/tmp/uid-"+m.name); got != strings.TrimSpace(uid) {
			t.Errorf("the cron job has the loginuid %s", got)
		}
	}
}
