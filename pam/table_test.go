// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const tableFile = "../docs/reference/pam-module.md"

// Linux-PAM's numbers, <security/_pam_types.h>.
const (
	pamSuccess = 0
	pamIgnore  = 25
)

var pamCodes = map[string]int{
	"PAM_SUCCESS": pamSuccess, "PAM_SERVICE_ERR": 3, "PAM_PERM_DENIED": 6, "PAM_AUTH_ERR": 7,
	"PAM_AUTHINFO_UNAVAIL": 9, "PAM_USER_UNKNOWN": 10, "PAM_MAXTRIES": 11, "PAM_SESSION_ERR": 14,
	"PAM_CONV_ERR": 19,
}

var hookNames = []string{"authenticate", "acct_mgmt", "open_session", "close_session", "setcred", "chauthtok"}

// row is one state of the documented table.
type row struct {
	state string
	codes []string // by hookNames
}

func readTable(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- table: results -->\n\n")
	if !ok {
		t.Fatalf("%s has no table of results", tableFile)
	}
	var rows []row
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) == len(hookNames)+1 {
			rows = append(rows, row{state: cells[0], codes: cells[1:]})
		}
	}
	if len(rows) == 0 || !slices.Equal(rows[0].codes, hookNames) {
		t.Fatalf("the table's head is %q, want the hooks %q", rows[0], hookNames)
	}
	return rows[1:]
}

// setup produces a state. The zero value is a daemon that does not exist.
type setup struct {
	daemon  func(*conn)         // listens on the socket
	glass   func(*conn)         // listens on the socket of break-glass
	prepare func(string) func() // makes something else of the socket's path
	steps   []string            // before the hooks
	user    *string             // alice if nil
	foreign bool                // the module expects another uid
	args    []string
	env     []string
	reason  string // the log names it, for hooks that ask authd
}

func ptr(s string) *string { return &s }

func fault(name string, errno syscall.Errno) []string {
	return []string{"FAULT=" + name + ":" + strconv.Itoa(int(errno))}
}

// plainStates are the states that the table gives without "unreachable=allow".
func plainStates() map[string]setup {
	states := map[string]setup{}
	for o := frames.OutcomeAllow; o <= frames.OutcomeAborted; o++ {
		states["authd decides: "+o.String()] = setup{daemon: script(done(o))}
	}
	maps.Copy(states, conversationStates())
	maps.Copy(states, connectStates())
	maps.Copy(states, brokenStates())
	maps.Copy(states, slowStates())
	maps.Copy(states, inputStates())
	maps.Copy(states, glassStates(states))
	return states
}

// glassStates are states in which a second daemon answers in place of authd, or
// would if it were asked.
func glassStates(plain map[string]setup) map[string]setup {
	states := map[string]setup{}
	with := func(state, suffix string, glass func(*conn)) {
		s, ok := plain[state]
		if !ok {
			panic("no state " + state)
		}
		s.glass = glass
		states[state+suffix] = s
	}
	for o := frames.OutcomeAllow; o <= frames.OutcomeAborted; o++ {
		with("no-socket", "; break-glass decides: "+o.String(), script(done(o)))
	}
	ask := &frames.Ask{Text: "Code: "}
	with("no-socket", "; break-glass asks; answered; allow", script(ask, done(frames.OutcomeAllow)))
	answered := states["no-socket; break-glass asks; answered; allow"]
	answered.steps = []string{"answer=1"}
	states["no-socket; break-glass asks; answered; allow"] = answered
	with("no-socket", "; break-glass is gone", func(*conn) {})
	with("no-socket", "; break-glass is slow", func(c *conn) { c.linger() })
	slow := states["no-socket; break-glass is slow"]
	slow.env = []string{"FLY=timeout"}
	states["no-socket; break-glass is slow"] = slow
	allow := script(done(frames.OutcomeAllow))
	for _, state := range []string{
		"refused", "refused: a file that is no socket", "connect-limit: the queue of the socket is full",
		"gone: closed at once", "gone: closed after REQUEST", "gone: closed inside a frame", "gone: closed after a message",
		"gone: closed after a question", "broken-frame: not the protocol", "broken-frame: another version",
		"broken-frame: unknown outcome", "broken-frame: too long", "too-many-rounds", "read-limit", "wait-limit", "timeout",
		"too-large: PAM_USER", "authd decides: deny", "authd decides: unavailable", "no user name",
	} {
		with(state, "; break-glass decides: allow", allow)
	}
	return states
}

func conversationStates() map[string]setup {
	ask := &frames.Ask{Text: "Passcode: "}
	show := &frames.Show{Text: "Hello", Style: frames.StyleInfo}
	return map[string]setup{
		"authd asks; answered; allow":                           {daemon: script(ask, done(frames.OutcomeAllow)), steps: []string{"answer=1"}},
		"authd asks; the conversation fails; aborted":           {daemon: script(ask, done(frames.OutcomeAborted))},
		"authd asks; there is no conversation; aborted":         {daemon: script(ask, done(frames.OutcomeAborted)), steps: []string{"noconv"}},
		"authd asks; the conversation gives no answer; aborted": {daemon: script(ask, done(frames.OutcomeAborted)), steps: []string{"answer=-"}},
		"authd asks; the conversation fails; allow":             {daemon: script(ask, done(frames.OutcomeAllow))},
		"authd shows; the conversation fails; allow":            {daemon: script(show, done(frames.OutcomeAllow)), steps: []string{"noconv"}},
	}
}

func connectStates() map[string]setup {
	allow := script(done(frames.OutcomeAllow))
	dead := func(path string) func() {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}
		return func() {}
	}
	return map[string]setup{
		"no-socket":                   {reason: "no-socket"},
		"refused":                     {prepare: dead, reason: "refused"},
		"no-socket, unreachable=deny": {args: []string{"unreachable=deny"}, reason: "no-socket"},
		"refused, unreachable=deny":   {prepare: dead, args: []string{"unreachable=deny"}, reason: "refused"},
		"connect-error: EACCES":       {daemon: allow, env: fault("connect", syscall.EACCES), reason: "connect-error"},
		"connect-error: ENOTDIR":      {daemon: allow, env: fault("connect", syscall.ENOTDIR), reason: "connect-error"},
		"refused: a file that is no socket": {prepare: func(path string) func() {
			_ = os.WriteFile(path, nil, 0o600)
			return func() {}
		}, reason: "refused"},
		"connect-limit: the queue of the socket is full": {prepare: fullQueue, env: []string{"FLY=timeout"}, reason: "connect-limit"},
		"no-resources: EMFILE":                           {daemon: allow, env: fault("socket", syscall.EMFILE), reason: "no-resources"},
		"no-resources: ENFILE":                           {daemon: allow, env: fault("socket", syscall.ENFILE), reason: "no-resources"},
		"no-resources: ENOMEM":                           {daemon: allow, env: fault("socket", syscall.ENOMEM), reason: "no-resources"},
		"wrong-owner":                                    {daemon: allow, foreign: true, reason: "wrong-owner"},
	}
}

// fullQueue makes a socket on which nobody accepts and whose queue is full.
func fullQueue(path string) func() {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	fds := []int{fd}
	_ = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	_ = syscall.Listen(fd, 0)
	for err == nil {
		var c int
		if c, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0); err == nil {
			fds = append(fds, c)
			err = syscall.Connect(c, &syscall.SockaddrUnix{Name: path})
		}
	}
	return func() {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	}
}

func brokenStates() map[string]setup {
	allow := script(done(frames.OutcomeAllow))
	sends := func(data string) func(*conn) {
		return func(c *conn) {
			c.request()
			_, _ = c.Write([]byte(data))
			c.linger()
		}
	}
	return map[string]setup{
		"gone: closed at once":       {daemon: func(*conn) {}, reason: "gone"},
		"gone: closed after REQUEST": {daemon: func(c *conn) { c.request() }, reason: "gone"},
		"gone: closed inside a frame": {daemon: func(c *conn) {
			c.request()
			_, _ = c.Write([]byte("SP\x01\x14\x00\x00\x00\x04\x13\x00\x01"))
		}, reason: "gone"},
		"gone: closed after a message": {daemon: func(c *conn) {
			c.request()
			c.say(&frames.Show{Text: "x", Style: frames.StyleError})
		}, reason: "gone"},
		"gone: closed after a question": {daemon: func(c *conn) {
			if c.request().Hook == frames.HookAuthenticate {
				c.say(&frames.Ask{Text: "x"})
			}
		}, steps: []string{"answer=1"}, reason: "gone"},
		"gone: reset":                    {daemon: allow, env: fault("recv", syscall.ECONNRESET), reason: "gone"},
		"io-error: EIO from send":        {daemon: allow, env: fault("send", syscall.EIO), reason: "io-error"},
		"io-error: EIO from recv":        {daemon: allow, env: fault("recv", syscall.EIO), reason: "io-error"},
		"io-error: ENOMEM from poll":     {daemon: func(c *conn) { c.linger() }, env: fault("poll", syscall.ENOMEM), reason: "io-error"},
		"io-error: getsockopt fails":     {daemon: allow, env: fault("getsockopt", syscall.EPERM), reason: "io-error"},
		"broken-frame: not the protocol": {daemon: sends("HTTP/1.1 200 OK\r\n\r\n"), reason: "broken-frame"},
		"broken-frame: another version":  {daemon: sends("SP\x02\x14\x00\x00\x00\x04\x13\x00\x01\x01"), reason: "broken-frame"},
		"broken-frame: unknown outcome":  {daemon: sends("SP\x01\x14\x00\x00\x00\x04\x13\x00\x01\x00"), reason: "broken-frame"},
		"broken-frame: too long":         {daemon: sends("SP\x01\x14\xff\xff\xff\xff\x13\x00\x01\x01"), reason: "broken-frame"},
		"too-many-rounds": {daemon: func(c *conn) {
			c.request()
			for range frames.MaxRounds + 1 {
				c.say(&frames.Show{Text: "x", Style: frames.StyleInfo})
			}
			c.say(done(frames.OutcomeAllow))
			c.linger()
		}, reason: "too-many-rounds"},
	}
}

// awaitRead returns when the module has read all that was written to it.
func awaitRead(c *conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for unread := 1; unread > 0; time.Sleep(time.Millisecond) {
		if err := raw.Control(func(fd uintptr) {
			unread, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
			if err != nil {
				unread = 0
			}
		}); err != nil {
			return
		}
	}
}

func slowStates() map[string]setup {
	fly := []string{"FLY=timeout"}
	silent := func(c *conn) { c.linger() }
	return map[string]setup{
		"write-limit": {daemon: silent, env: append(fault("send", syscall.EAGAIN), fly...), reason: "write-limit"},
		"read-limit":  {daemon: silent, env: fly, reason: "read-limit"},
		"read-limit: bytes drip in": {daemon: func(c *conn) {
			c.request()
			for _, b := range []byte("SP\x01\x14\x00\x00\x00\x04\x13\x00\x01\x01") {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				awaitRead(c)
			}
			c.linger()
		}, env: []string{"FLY=always"}, reason: "read-limit"},
		"wait-limit": {daemon: script(&frames.Wait{For: 15e9}), env: fly, reason: "wait-limit"},
		"timeout":    {daemon: script(&frames.Wait{For: 60e9}), args: []string{"timeout=1"}, env: fly, reason: "timeout"},
	}
}

func inputStates() map[string]setup {
	allow := script(done(frames.OutcomeAllow))
	long := strings.Repeat("x", 256)
	states := map[string]setup{
		"too-large: PAM_USER":        {daemon: allow, user: &long, reason: "too-large"},
		"too-large: SSH_AUTH_INFO_0": {daemon: allow, steps: []string{"pamenv=SSH_AUTH_INFO_0=" + strings.Repeat("x", 6144)}, reason: "too-large"},
		"no user name":               {daemon: allow, user: ptr("-")},
		"an empty user name":         {daemon: allow, user: ptr("")},
	}
	for _, item := range []string{"SERVICE", "TTY", "RHOST", "RUSER"} {
		states["too-large: PAM_"+item] = setup{daemon: allow, steps: []string{"item=" + item + "=" + long}, reason: "too-large"}
	}
	for name, arg := range map[string]string{
		"unknown argument":         "use_first_pass",
		"timeout=0":                "timeout=0",
		"timeout=3601":             "timeout=3601",
		"timeout=90s":              "timeout=90s",
		"timeout=":                 "timeout=",
		"unreachable=yes":          "unreachable=yes",
		"socket_dir=run":           "socket_dir=run",
		"socket_dir= of 200 bytes": "socket_dir=/" + strings.Repeat("x", 199),
	} {
		states["bad argument: "+name] = setup{daemon: allow, args: []string{arg}}
	}
	return states
}

// allStates adds the same with unreachable=allow, where the table has it.
func allStates(rows []row) map[string]setup {
	const suffix = ", unreachable=allow"
	states := plainStates()
	for _, r := range rows {
		if s, ok := states[strings.TrimSuffix(r.state, suffix)]; ok && strings.HasSuffix(r.state, suffix) {
			s.args = append([]string{"unreachable=allow"}, s.args...)
			states[r.state] = s
		}
	}
	return states
}

func TestEveryStateOfTheDocumentedTable(t *testing.T) {
	rows := readTable(t)
	states := allStates(rows)
	for _, r := range rows {
		s, ok := states[r.state]
		if !ok {
			t.Errorf("the table has the state %q, which this test cannot make", r.state)
			continue
		}
		delete(states, r.state)
		t.Run(r.state, func(t *testing.T) {
			t.Parallel()
			checkRow(t, r, s)
		})
	}
	for name := range states {
		t.Errorf("the state %q is not in the table of %s", name, tableFile)
	}
}

func checkRow(t *testing.T, r row, s setup) {
	dir := socketDir(t)
	switch {
	case s.daemon != nil:
		dir = serve(t, s.daemon).dir
	case s.prepare != nil:
		t.Cleanup(s.prepare(SocketPath(dir)))
	case s.glass == nil:
		dir = filepath.Join(dir, "missing")
	}
	if s.glass != nil {
		listen(t, filepath.Join(dir, BreakGlassSocket), s.glass)
	}
	user := "alice"
	if s.user != nil {
		user = *s.user
	}
	module := built.module
	if s.foreign {
		module = built.foreign
	}
	args := append([]string{"socket_dir=" + dir}, s.args...)
	steps := append([]string{"start=" + user}, s.steps...)
	report := hostRun{
		env:   append([]string{"LD_PRELOAD=" + built.preload}, s.env...),
		steps: append(steps, rawSteps(module, args)...),
	}.run(t)
	text := strings.Join(report, "\n")
	for i, hook := range hookNames {
		code, ok := pamCodes[r.codes[i]]
		if !ok {
			t.Fatalf("unknown code %q in the table", r.codes[i])
		}
		if line := fmt.Sprintf("%s %d", hook, code); !slices.Contains(report, line) {
			t.Errorf("want %s %s = %q, got\n%s", hook, r.codes[i], line, text)
		}
	}
	for _, line := range report {
		if strings.HasSuffix(line, fmt.Sprintf(" %d", pamIgnore)) {
			t.Errorf("PAM_IGNORE: %s", line)
		}
	}
	checkReason(t, s, report)
}

// checkReason looks that the log names the reason, once for each hook that asks authd.
func checkReason(t *testing.T, s setup, report []string) {
	t.Helper()
	n := 0
	for _, line := range report {
		if s.reason != "" && strings.HasPrefix(line, "log ") && strings.Contains(line, "reason="+s.reason+" ") {
			n++
		}
	}
	if s.reason != "" && n < 3 {
		t.Errorf("the reason %s is in the log %d times, want one for each hook:\n%s", s.reason, n, strings.Join(report, "\n"))
	}
}
