// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// TestSignalStorm has the module wait, again and again, under signals.
func TestSignalStorm(t *testing.T) {
	d := serve(t, func(c *conn) {
		c.request()
		for range 40 {
			time.Sleep(2 * time.Millisecond)
			c.say(&frames.Wait{For: time.Minute})
		}
		c.say(done(frames.OutcomeAllow))
		c.linger()
	})
	report := hostRun{socket: d.dir, steps: []string{"start=alice", "storm", "authenticate", "open_session"}}.run(t)
	want(t, report, "authenticate 0", "open_session 0", "end")
}

// loginDaemon asks for a code under authenticate, shows a message, and allows.
func loginDaemon(c *conn) {
	r := c.request()
	if r.Hook == frames.HookAuthenticate {
		reply := c.say(&frames.Wait{For: 60e9}, &frames.Show{Text: "Welcome", Style: frames.StyleInfo}, &frames.Ask{Text: "Code: "})
		if a, ok := reply.(*frames.Answer); !ok || a.Text != "123456" {
			c.say(done(frames.OutcomeDeny))
			return
		}
	}
	c.say(done(frames.OutcomeAllow))
	c.linger()
}

var everyHook = []string{"authenticate", "acct_mgmt", "setcred", "open_session", "close_session"}

func login(before ...string) []string {
	return append([]string{"answer=123456", "start=alice"}, before...)
}

func passes(hooks ...string) []string {
	lines := make([]string, len(hooks))
	for i, hook := range hooks {
		lines[i] = hook + " 0"
	}
	return lines
}

func TestLoginThroughLibpam(t *testing.T) {
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, steps: append(append(login(), everyHook...), "end")}.run(t)
	want(t, report, append([]string{"conv 4 Welcome", "conv 2 Code: "}, append(passes(everyHook...), "end")...)...)
	unwanted(t, report, "log")

	report = hostRun{socket: d.dir, steps: []string{"answer=000000", "start=alice", "authenticate", "end"}}.run(t)
	want(t, report, "authenticate 7", "end")
}

func TestWhatTheDaemonIsTold(t *testing.T) {
	d := serve(t, loginDaemon)
	hostRun{
		socket:  d.dir,
		service: "sshd",
		env:     []string{"DUO_PASSCODE=push", "SALLYPORT_PASSCODE=123456", "SSH_CONNECTION=forged", "OTHER=x"},
		steps: append(login("item=TTY=ssh", "item=RHOST=192.0.2.7", "item=RUSER=bob", "flags=0x8000",
			"pamenv=SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 22", "pamenv=SSH_AUTH_INFO_0=publickey ssh-ed25519 AAAA", "pamenv=OTHER=y"),
			"authenticate"),
	}.run(t)
	uid := uint32(os.Getuid())
	expected := &frames.Request{
		Hook: frames.HookAuthenticate, Flags: 0x8000, RUID: uid, EUID: uid, Version: "test",
		Service: "sshd", User: "alice", TTY: "ssh", RHost: "192.0.2.7", RUser: "bob",
		PAMEnv: map[string]string{
			"SSH_CONNECTION":  "192.0.2.7 50000 192.0.2.1 22",
			"SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA",
		},
		ProcEnv: map[string]frames.Secret{"DUO_PASSCODE": "push", "SALLYPORT_PASSCODE": "123456"},
	}
	if got := d.lastRequest(t); !reflect.DeepEqual(got, expected) {
		t.Errorf("authenticate sent\n%v, want\n%v", got, expected)
	}

	hostRun{socket: d.dir, env: []string{"DUO_PASSCODE=push"}, steps: login("acct_mgmt")}.run(t)
	if got := d.lastRequest(t); got.Hook != frames.HookAcctMgmt || got.ProcEnv != nil || got.User != "alice" {
		t.Errorf("acct_mgmt sent %v, want no passcode in it", got)
	}
}

func TestUserNameIsAskedForByPAM(t *testing.T) {
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, steps: []string{"answer=carol", "answer=123456", "start=-", "authenticate"}}.run(t)
	want(t, report, "authenticate 0")
	if got := d.lastRequest(t).User; got != "carol" {
		t.Errorf("user %q, want carol", got)
	}
}

func TestPasscodeVariableTooLongIsLeftOut(t *testing.T) {
	d := serve(t, script(done(frames.OutcomeAllow)))
	longest := strings.Repeat("1", frames.AnswerMax)
	report := hostRun{
		socket: d.dir,
		env:    []string{"DUO_PASSCODE=" + longest + "1", "SALLYPORT_PASSCODE=" + longest},
		steps:  []string{"start=alice", "authenticate"},
	}.run(t)
	want(t, report, "log 4 DUO_PASSCODE ignored: it has more than 512 bytes", "authenticate 0")
	if got := d.lastRequest(t).ProcEnv; !reflect.DeepEqual(got, map[string]frames.Secret{"SALLYPORT_PASSCODE": frames.Secret(longest)}) {
		t.Errorf("sent the variables %v", d.lastRequest(t))
	}
	for _, line := range report {
		if strings.Contains(line, longest[:20]) {
			t.Errorf("a passcode in the log: %s", line)
		}
	}
}

func TestSilentSuppressesMessagesNotQuestions(t *testing.T) {
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, steps: append(login("flags=0x8000"), "authenticate")}.run(t)
	want(t, report, "conv 2 Code: ", "authenticate 0")
	unwanted(t, report, "conv 4")
}

func TestControlCharactersAreNotShown(t *testing.T) {
	d := serve(t, func(c *conn) {
		c.request()
		c.say(&frames.Show{Text: "a\x1b[2Jb\r\u009bc\xffd\te", Style: frames.StyleError}, &frames.AskSecret{Text: "\x07é: "}, done(frames.OutcomeDeny))
		c.linger()
	})
	report := hostRun{socket: d.dir, steps: append(login(), "authenticate")}.run(t)
	want(t, report, "conv 3 a?[2Jb??c?d\te", "conv 1 ?é: ", "authenticate 7")
}

// What libpam's hosts do: sshd forks between pam_start and authenticate, and again
// before open_session; systemd closes the session in a child.
func TestForks(t *testing.T) {
	tests := map[string][]string{
		"start, fork, authenticate":       {"fork", "authenticate", "acct_mgmt", "setcred", "open_session", "close_session"},
		"authenticate, fork, session":     {"authenticate", "acct_mgmt", "fork", "setcred", "open_session", "close_session"},
		"open_session, fork, close":       {"authenticate", "acct_mgmt", "setcred", "open_session", "fork", "close_session"},
		"a fork between all of the steps": {"fork", "authenticate", "fork", "acct_mgmt", "fork", "setcred", "fork", "open_session", "fork", "close_session"},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			d := serve(t, loginDaemon)
			report := hostRun{socket: d.dir, steps: append(login(steps...), "end")}.run(t)
			want(t, report, append(passes(everyHook...), "end", "child 0")...)
		})
	}
}

func TestOnAThreadWithALittleStack(t *testing.T) {
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, steps: append(login("thread=authenticate", "thread=open_session"), "end")}.run(t)
	want(t, report, "authenticate 0", "open_session 0", "end")
}

func TestHostIsLeftAsItWas(t *testing.T) {
	d := serve(t, loginDaemon)
	silent := serve(t, func(*conn) {})
	for name, h := range map[string]hostRun{
		"allowed": {socket: d.dir, steps: append(append(login("install", "snapshot"), everyHook...), "compare")},
		"denied":  {socket: d.dir, steps: []string{"start=alice", "install", "snapshot", "authenticate", "compare"}},
		"gone":    {socket: silent.dir, steps: append(append(login("install", "snapshot"), everyHook...), "compare")},
		"missing": {socket: filepath.Join(d.dir, "missing"), steps: append(append(login("install", "snapshot"), everyHook...), "compare")},
	} {
		t.Run(name, func(t *testing.T) {
			h.env = []string{"DUO_PASSCODE=1", "HOME=/"}
			report := h.run(t)
			want(t, report, "compared", "end")
			unwanted(t, report, "changed")
		})
	}
}

func TestHardLife(t *testing.T) {
	d := serve(t, loginDaemon)
	for name, h := range map[string]hostRun{
		"64 MB of address space": {steps: login("as=67108864")},
		"empty environment":      {steps: login("clearenv")},
		"no standard streams":    {steps: login("nostdio")},
		"two descriptors left":   {steps: login("descriptors=2")},
		"one descriptor left":    {steps: login("descriptors=1")},
		"file size limit of 0":   {shell: "ulimit -f 0", steps: login()},
		"core limit, few files":  {shell: "ulimit -c 0; ulimit -n 32", steps: login()},
		"a storm of signals":     {steps: login("storm")},
	} {
		t.Run(name, func(t *testing.T) {
			h.socket = d.dir
			h.steps = append(append(h.steps, everyHook...), "end")
			report := h.run(t)
			want(t, report, append(passes(everyHook...), "end")...)
		})
	}
}

func TestWithoutADescriptor(t *testing.T) {
	d := serve(t, loginDaemon)
	for _, args := range [][]string{nil, {"unreachable=allow"}} {
		// libpam itself fails without a descriptor, so the module is called directly.
		raw := rawSteps(built.module, append([]string{"socket_dir=" + d.dir}, args...))
		report := hostRun{socket: d.dir, args: args, steps: append(login("descriptors=0"), raw...)}.run(t)
		want(t, report, "authenticate 9", "acct_mgmt 6", "open_session 14", "close_session 0", "setcred 0")
	}
}

// RLIMIT_NPROC holds for ordinary users alone.
func TestWithoutAProcess(t *testing.T) {
	if os.Getuid() == 0 {
		d := serve(t, loginDaemon)
		user := filepath.Join(d.dir, UserSocket)
		if err := os.Link(d.socket(), user); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(user, 0o666); err != nil {
			t.Fatal(err)
		}
		report := hostRun{socket: d.dir, steps: append(append(login("setuid=61234", "nproc=1"), everyHook...), "end")}.run(t)
		want(t, report, append(passes(everyHook...), "end")...)
		if r := d.lastRequest(t); r.RUID != 61234 || r.EUID != 61234 {
			t.Errorf("uids %d and %d in the request", r.RUID, r.EUID)
		}
		return
	}
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, steps: append(append(login("nproc=1"), everyHook...), "end")}.run(t)
	want(t, report, append(passes(everyHook...), "end")...)
}

// A daemon that dies while the module writes must not kill the host, whose SIGPIPE
// is at its default; and that default must still hold afterwards.
func TestSIGPIPE(t *testing.T) {
	d := serve(t, func(c *conn) {
		if c.request().Hook == frames.HookAuthenticate {
			_ = frames.WriteFrame(c, &frames.Ask{Text: "Code: "})
			_ = frames.WriteFrame(c, &frames.Ask{Text: "Code: "})
		}
	})
	report := hostRun{socket: d.dir, steps: append(login("answer=1"), "authenticate", "acct_mgmt", "end")}.run(t)
	want(t, report, "authenticate 9", "acct_mgmt 6", "end")

	report = hostRun{socket: d.dir, steps: append(login("fork"), "authenticate", "brokenpipe", "end")}.run(t)
	want(t, report, "authenticate 9", fmt.Sprintf("child %d", 128+int(syscall.SIGPIPE)))
}

func TestDaemonIsAskedByUidOnly(t *testing.T) {
	d := serve(t, loginDaemon)
	report := hostRun{socket: d.dir, module: built.foreign, steps: append(login(), "authenticate")}.run(t)
	want(t, report, "authenticate 9")
	unwanted(t, report, "conv")
}

func TestLogOfUnreachableAllow(t *testing.T) {
	report := hostRun{socket: "/nonexistent/sallyport", args: []string{"unreachable=allow"}, steps: append(login(), everyHook...)}.run(t)
	want(t, report, append([]string{}, passes(everyHook...)...)...)
	n := 0
	for _, line := range report {
		if strings.HasPrefix(line, "log 4 let in without asking authd, by unreachable=allow: user=alice reason=no-socket ") {
			n++
		}
	}
	if n != 4 {
		t.Errorf("%d warnings, want one for each hook that asks authd:\n%s", n, strings.Join(report, "\n"))
	}
}

func TestLastArgumentHolds(t *testing.T) {
	report := hostRun{socket: "/nonexistent/sallyport", args: []string{"unreachable=allow", "unreachable=deny"}, steps: append(login(), "authenticate")}.run(t)
	want(t, report, "authenticate 9")
}

func TestDebugNamesTheDecision(t *testing.T) {
	d := serve(t, script(&frames.Show{Text: "x", Style: frames.StyleInfo}, done(frames.OutcomeDeny)))
	report := hostRun{socket: d.dir, args: []string{"debug"}, steps: append(login(), "authenticate")}.run(t)
	if !slices.ContainsFunc(report, func(line string) bool {
		return strings.HasPrefix(line, "log 7 authd at "+d.socket()+" decided 2 after ") && strings.HasSuffix(line, " and 1 rounds")
	}) {
		t.Errorf("no line at debug level:\n%s", strings.Join(report, "\n"))
	}
}

func TestModuleIsPlainC(t *testing.T) {
	symbols, err := exec.Command("nm", "-D", "--defined-only", built.module).Output()
	if err != nil {
		t.Fatal(err)
	}
	var exported []string
	for line := range strings.Lines(string(symbols)) {
		exported = append(exported, strings.Fields(line)[2])
	}
	slices.Sort(exported)
	expected := []string{"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_chauthtok", "pam_sm_close_session", "pam_sm_open_session", "pam_sm_setcred"}
	if !slices.Equal(exported, expected) {
		t.Errorf("exported: %v", exported)
	}

	dynamic, err := exec.Command("readelf", "-dW", built.module).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(dynamic)) {
		if strings.Contains(line, "(NEEDED)") && !strings.Contains(line, "[libpam.so.0]") && !strings.Contains(line, "[libc.so.6]") {
			t.Errorf("needs another library: %s", line)
		}
	}
	if !strings.Contains(string(dynamic), "BIND_NOW") {
		t.Error("not linked with -z now")
	}

	imported, err := exec.Command("nm", "-D", "--undefined-only", built.module).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pthread_", "signal", "sigaction", "malloc", "calloc", "dlopen", "fork", "setenv", "putenv", "umask", "chdir", "system"} {
		if strings.Contains(string(imported), " "+name) {
			t.Errorf("the module uses %s", name)
		}
	}

	// Nothing that can be written to outlives a call.
	sections, err := exec.Command("size", "-A", built.module).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sections)) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == ".data" || f[0] == ".bss") && len(f[1]) > 1 {
			t.Errorf("writable data in the module: %s", line)
		}
	}
}

// Reading the sources also tells the test cache what the results rest on.
func TestModuleIsSmall(t *testing.T) {
	files, err := filepath.Glob("*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	beside, err := filepath.Glob("test/*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, file := range append(append(files, beside...), "pam_sallyport.map") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(files, file) {
			lines += codeLines(string(text))
		}
	}
	if lines < 500 || lines >= 1000 {
		t.Errorf("the module has %d lines of code, want less than 1000 (and the count to be plausible)", lines)
	}
}

// codeLines counts the lines that hold more than a comment.
func codeLines(text string) int {
	n, comment := 0, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		starts := strings.HasPrefix(line, "/*") || strings.HasPrefix(line, "//")
		if line != "" && !comment && !starts {
			n++
		}
		if strings.HasPrefix(line, "/*") {
			comment = true
		}
		if strings.Contains(line, "*/") {
			comment = false
		}
	}
	return n
}
