// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const sshKey = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI\n"

// host is a running program on a socket of its own.
type host struct {
	testing.TB
	server *Server
	store  *breakglass.Store
	client *breakglass.Client
	path   string
	ended  chan error

	mu    sync.Mutex
	log   strings.Builder
	skew  time.Duration
	slept []time.Duration
}

func (h *host) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

// now is the clock, which Sleep moves at once.
func (h *host) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.skew)
}

func (h *host) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.skew += d
}

func newHost(t testing.TB) *host {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	h := &host{TB: t, store: breakglass.Open(filepath.Join(dir, "store")), path: filepath.Join(dir, "b.sock"), ended: make(chan error, 1)}
	h.client = &breakglass.Client{Path: h.path, Version: "test"}
	h.server = &Server{
		Store: h.store, PolicyPath: filepath.Join(dir, "policy"), Hostname: "web1", AuthdUID: int64(os.Getuid()), Now: h.now,
		Accounts: &Accounts{
			Passwd:   write("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n"),
			Group:    write("group", "ops:x:50:alice\nbobs:x:1001:\n"),
			Nsswitch: write("nsswitch.conf", "passwd: files\ngroup: files systemd # local\n"),
		},
		Sleep: func(_ context.Context, d time.Duration) {
			h.advance(d)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.slept = append(h.slept, d)
		},
		Log: slog.New(slog.NewJSONHandler(h, nil)),
	}
	return h
}

func (h *host) start() *host {
	h.Helper()
	l, err := Listen(h.path, -1)
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		h.ended <- h.server.Serve(ctx, l)
		close(h.ended)
	}()
	h.Cleanup(func() {
		cancel()
		for range h.ended {
		}
	})
	return h
}

func (h *host) codes(count int, services string, users ...string) []breakglass.Code {
	h.Helper()
	r := breakglass.Request{Services: strings.Split(services, ","), Count: count, Owners: breakglass.NoOwners}
	for _, u := range users {
		uid, ok := h.server.Accounts.UID(u)
		if !ok {
			uid = 4000
		}
		r.Users = append(r.Users, breakglass.Account{Name: u, UID: uid})
	}
	codes, err := h.store.Generate(h.Context(), r, time.Now(), rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	return codes
}

func (h *host) rules(list ...rules.Rule) {
	h.Helper()
	if err := breakglass.NewPolicy(nil, list, time.Now()).Write(h.server.PolicyPath); err != nil {
		h.Fatal(err)
	}
}

func request(hook frames.Hook, service, user string) *frames.Request {
	r := &frames.Request{Hook: hook, Version: "test", Service: service, User: user, TTY: "tty1"}
	if service == "sshd" {
		r.RHost = "10.0.4.7"
		r.PAMEnv = map[string]string{"SSH_AUTH_INFO_0": sshKey, "SSH_CONNECTION": "10.0.4.7 4711 10.0.0.1 22"}
	}
	return r
}

// call is one call as the module makes it; it returns the outcome and what was
// asked and shown.
func (h *host) call(r *frames.Request, answers ...string) (frames.Outcome, string) {
	h.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.path, Net: "unix"})
	if err != nil {
		h.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if err := frames.WriteFrame(conn, r); err != nil {
		h.Fatal(err)
	}
	var screen strings.Builder
	for {
		f, err := frames.ReadFrame(conn)
		if err != nil {
			h.Fatalf("%v after:\n%s", err, &screen)
		}
		var reply frames.Frame
		switch f := f.(type) {
		case *frames.Done:
			if len(answers) > 0 {
				h.Errorf("%d answers were not asked for:\n%s", len(answers), &screen)
			}
			return f.Outcome, screen.String()
		case *frames.Show:
			screen.WriteString(f.Text + "\n")
		case *frames.Ask:
			screen.WriteString(f.Text + "\n")
			reply = &frames.Abort{Reason: frames.ReasonConversation}
			if len(answers) > 0 {
				reply = &frames.Answer{Text: frames.Secret(answers[0])}
				answers = answers[1:]
			}
		}
		if reply != nil {
			if err := frames.WriteFrame(conn, reply); err != nil {
				h.Fatal(err)
			}
		}
	}
}

func (h *host) want(what string, got, want frames.Outcome) {
	h.Helper()
	if got != want {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.Errorf("%s: %s, want %s\n%s", what, got, want, h.log.String())
	}
}

// event is the newest log event of a login.
func (h *host) event() map[string]any {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var last map[string]any
	for line := range strings.Lines(h.log.String()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == "breakglass" {
			last = e
		}
	}
	return last
}

func (h *host) wantReason(reason string) {
	h.Helper()
	if e := h.event(); e["reason"] != reason || e["level"] != "WARN" {
		h.Errorf("the log says %v, want the reason %s at WARN", e, reason)
	}
}

func TestCodeLetsInOnce(t *testing.T) {
	h := newHost(t).start()
	codes := h.codes(2, "sshd,login", "root")
	got, screen := h.call(request(frames.HookAuthenticate, "login", "root"), codes[0].Reveal())
	h.want("the first time", got, frames.OutcomeAllow)
	h.wantReason("breakglass")
	if !strings.Contains(screen, "break-glass code for web1") || !strings.Contains(screen, "Codes left for root here: 1.") {
		t.Errorf("screen:\n%s", screen)
	}
	got, screen = h.call(request(frames.HookAuthenticate, "sshd", "root"), codes[0].Reveal(), codes[1].Reveal())
	h.want("again, then the next", got, frames.OutcomeAllow)
	if !strings.Contains(screen, "has been used") {
		t.Errorf("screen:\n%s", screen)
	}
	if e := h.event(); e["source"] != "10.0.4.7" || e["code"] != codes[1].ID() || e["via"] != "module" {
		t.Errorf("event %v", e)
	}
	got, screen = h.call(request(frames.HookAuthenticate, "login", "root"))
	h.want("no codes left", got, frames.OutcomeUnavailable)
	if screen != "" {
		t.Errorf("asked although there is no code:\n%s", screen)
	}
}

func TestNoQuestionWithoutACodeForThisLogin(t *testing.T) {
	h := newHost(t).start()
	h.codes(1, "sshd", "root")
	for what, r := range map[string]*frames.Request{
		"another user":    request(frames.HookAuthenticate, "sshd", "alice"),
		"another service": request(frames.HookAuthenticate, "login", "root"),
	} {
		got, screen := h.call(r)
		h.want(what, got, frames.OutcomeUnavailable)
		if screen != "" {
			t.Errorf("%s: asked:\n%s", what, screen)
		}
	}
}

func TestWhatLetsNobodyIn(t *testing.T) {
	h := newHost(t).start()
	code := h.codes(1, "sshd", "root")[0]
	elsewhere := h.codes(1, "login", "alice")[0]
	typo := []byte(code.Reveal())
	typo[8] = "01"[map[bool]int{true: 1}[typo[8] == '0']]
	ssh := request(frames.HookAuthenticate, "sshd", "root")
	for _, c := range []struct {
		what    string
		r       *frames.Request
		answers []string
		want    frames.Outcome
		reason  string
	}{
		{"nobody there", ssh, nil, frames.OutcomeAborted, "unattended"},
		{"given up", ssh, []string{" "}, frames.OutcomeDeny, "given_up"},
		{"three wrong", ssh, []string{"123456", string(typo), "push"}, frames.OutcomeMaxTries, "wrong_code"},
		{"a code for another", ssh, []string{elsewhere.Reveal(), ""}, frames.OutcomeDeny, "given_up"},
		{"no first factor", &frames.Request{Hook: frames.HookAuthenticate, Version: "t", Service: "sshd", User: "root"}, nil, frames.OutcomeDeny, "no_first_factor"},
		{"sshd's variables by another name", &frames.Request{Hook: frames.HookAuthenticate, Version: "t", Service: "sshd", User: "root",
			PAMEnv: map[string]string{"SSH_CONNECTION": "10.0.4.7 4711 10.0.0.1 22"}}, nil, frames.OutcomeDeny, "no_first_factor"},
	} {
		got, _ := h.call(c.r, c.answers...)
		h.want(c.what, got, c.want)
		h.wantReason(c.reason)
	}
	if got, _ := h.call(request(frames.HookChauthtok, "sshd", "root")); got != frames.OutcomeDeny {
		t.Errorf("chauthtok: %s", got)
	}
	if got, _ := h.call(request(frames.HookSetcred, "doctor", "root")); got != frames.OutcomeAllow {
		t.Errorf("a probe: %s", got)
	}
	got, _ := h.call(ssh, code.Reveal())
	h.want("the right one after all that", got, frames.OutcomeAllow)
}

func TestExplicitDenyStands(t *testing.T) {
	var ended rules.Moment
	if err := ended.UnmarshalTOML(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		list []rules.Rule
		user string
		want frames.Outcome
	}{
		"deny":                            {[]rules.Rule{{Action: rules.Deny, Users: []string{"root"}}}, "root", frames.OutcomeDeny},
		"deny of another":                 {[]rules.Rule{{Action: rules.Deny, Users: []string{"alice"}}}, "root", frames.OutcomeAllow},
		"shielded by a require":           {[]rules.Rule{{Action: rules.Require, Users: []string{"root"}}, {Action: rules.Deny}}, "root", frames.OutcomeAllow},
		"deny by network":                 {[]rules.Rule{{Action: rules.Deny, Sources: []string{"10.0.0.0/8"}}}, "root", frames.OutcomeDeny},
		"deny by another network":         {[]rules.Rule{{Action: rules.Deny, Sources: []string{"192.0.2.0/24"}}}, "root", frames.OutcomeAllow},
		"deny by a local group":           {[]rules.Rule{{Action: rules.Deny, Groups: []string{"ops"}}}, "alice", frames.OutcomeDeny},
		"deny by a primary group":         {[]rules.Rule{{Action: rules.Deny, Groups: []string{"bobs"}}}, "bob", frames.OutcomeDeny},
		"deny by a group without them":    {[]rules.Rule{{Action: rules.Deny, Groups: []string{"ops"}}}, "bob", frames.OutcomeAllow},
		"deny by a group, person of LDAP": {[]rules.Rule{{Action: rules.Deny, Groups: []string{"ops"}}}, "carol", frames.OutcomeDeny},
		"a bypass above a deny":           {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"root"}}, {Action: rules.Deny}}, "root", frames.OutcomeAllow},
		"deny by a group of LDAP, root":   {[]rules.Rule{{Action: rules.Deny, LDAPGroups: []string{"staff"}}}, "root", frames.OutcomeAllow},
		"deny by a group of LDAP":         {[]rules.Rule{{Action: rules.Deny, LDAPGroups: []string{"staff"}}}, "alice", frames.OutcomeDeny},
		"deny that has ended":             {[]rules.Rule{{Name: "n", Action: rules.Deny, NotAfter: ended}}, "root", frames.OutcomeAllow},
		"deny by a certificate":           {[]rules.Rule{{Action: rules.Deny, Certificates: []rules.Certificates{{CA: "ca"}}}}, "root", frames.OutcomeAllow},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t).start()
			h.rules(c.list...)
			code := h.codes(1, "sshd", c.user)[0]
			answers := []string{code.Reveal()}
			if c.want == frames.OutcomeDeny {
				answers = nil
			}
			got, _ := h.call(request(frames.HookAuthenticate, "sshd", c.user), answers...)
			h.want(name, got, c.want)
			if c.want == frames.OutcomeDeny {
				h.wantReason("rule_deny")
			}
		})
	}
}

// Rules that cannot be read are no rules: who can damage them is authd already, and
// the owner must get in.
func TestDamagedPolicy(t *testing.T) {
	h := newHost(t).start()
	if err := os.WriteFile(h.server.PolicyPath, []byte("\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := h.codes(1, "sshd", "root")[0]
	got, _ := h.call(request(frames.HookAuthenticate, "sshd", "root"), code.Reveal())
	h.want("with a damaged copy of the rules", got, frames.OutcomeAllow)
	if !strings.Contains(h.log.String(), "breakglass_policy") {
		t.Error("the log does not say so")
	}
}

func TestPersonOfSudoAndSu(t *testing.T) {
	h := newHost(t).start()
	h.codes(2, "su,sudo", "alice")
	h.codes(1, "su", "carol") // uid 4000, of no local file
	su := request(frames.HookAuthenticate, "su", "root")
	sudo := request(frames.HookAuthenticate, "sudo", "root")
	for what, c := range map[string]struct {
		r    *frames.Request
		ruid uint32
		by   string
		want bool
	}{
		"su by alice":     {su, 1000, "", true},
		"su by bob":       {su, 1001, "", false},
		"su by carol":     {su, 4000, "", true},
		"su by nobody":    {su, 65534, "", false},
		"sudo by alice":   {sudo, 1000, "alice", true},
		"sudo by bob":     {sudo, 1001, "bob", false},
		"sudo of the old": {sudo, 1000, "", false},
	} {
		r := *c.r
		r.RUID, r.RUser = c.ruid, c.by
		got, _ := h.call(&r)
		if asked := got == frames.OutcomeAborted; asked != c.want {
			t.Errorf("%s: %s, asked %t, want %t", what, got, asked, c.want)
		}
	}
}

// The hooks after authenticate pass for the login that a code let in, and for no
// other.
func TestLaterHooks(t *testing.T) {
	h := newHost(t).start()
	code := h.codes(1, "sshd", "root")[0]
	account, session := request(frames.HookAcctMgmt, "sshd", "root"), request(frames.HookOpenSession, "sshd", "root")
	got, _ := h.call(account)
	h.want("account before", got, frames.OutcomeUnavailable)
	got, _ = h.call(request(frames.HookAuthenticate, "sshd", "root"), code.Reveal())
	h.want("authenticate", got, frames.OutcomeAllow)
	for _, r := range []*frames.Request{account, session} {
		got, _ = h.call(r)
		h.want(r.Hook.String(), got, frames.OutcomeAllow)
	}
	got, _ = h.call(request(frames.HookAcctMgmt, "sshd", "alice"))
	h.want("another user", got, frames.OutcomeUnavailable)
	got, _ = h.call(request(frames.HookAcctMgmt, "login", "root"))
	h.want("another service", got, frames.OutcomeUnavailable)
	h.advance(grantTTL + time.Second)
	got, _ = h.call(account)
	h.want("too late", got, frames.OutcomeUnavailable)
}

func TestGrants(t *testing.T) {
	child := process.Process{ID: process.ID{PID: 11, Start: 110}, Parent: process.ID{PID: 10, Start: 100}}
	parent := process.Process{ID: child.Parent, Parent: process.ID{PID: 1, Start: 1}}
	reused := process.Process{ID: process.ID{PID: 11, Start: 999}, Parent: process.ID{PID: 10, Start: 998}}
	ssh := func(hook frames.Hook, user string) *frames.Request { return request(hook, "sshd", user) }
	now := time.Now()
	var g grants
	g.add(child, ssh(frames.HookAuthenticate, "root"), now)
	g.add(process.Process{ID: process.ID{PID: 5}}, ssh(frames.HookAuthenticate, "root"), now)
	for _, c := range []struct {
		what string
		p    process.Process
		r    *frames.Request
		any  bool
		want bool
	}{
		{"account in the process", child, ssh(frames.HookAcctMgmt, "root"), false, true},
		{"account in its parent", parent, ssh(frames.HookAcctMgmt, "root"), false, false},
		{"session in its parent", parent, ssh(frames.HookOpenSession, "root"), false, true},
		{"a reused pid", reused, ssh(frames.HookOpenSession, "root"), false, false},
		{"a process that cannot be told", process.Process{ID: process.ID{PID: 5}}, ssh(frames.HookAcctMgmt, "root"), false, false},
		{"another user", child, ssh(frames.HookOpenSession, "bob"), false, false},
		{"another user, sudo's session", child, ssh(frames.HookOpenSession, "bob"), true, true},
		{"another user, sudo's account", child, ssh(frames.HookAcctMgmt, "bob"), true, false},
	} {
		if got := g.holds(c.p, c.r, c.any, now); got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
	}
	g.drop(parent)
	if g.holds(child, ssh(frames.HookAcctMgmt, "root"), false, now) {
		t.Error("after the session's end")
	}
	for range 2 * maxGrants {
		g.add(child, ssh(frames.HookAuthenticate, "root"), now)
	}
	if len(g.list) != maxGrants || !g.empty(now.Add(grantTTL+1)) {
		t.Errorf("%d grants", len(g.list))
	}
}

func loginOf(user, service string) breakglass.Login {
	return breakglass.Login{Person: user, User: user, Service: service, TTY: "ssh", RHost: "10.0.4.7", SSHConnection: "10.0.4.7 4711 10.0.0.1 22",
		Process: process.Process{ID: process.ID{PID: 77, Start: 770}, Parent: process.ID{PID: 70, Start: 700}}}
}

// What authd asks: whether there is a code, whether this one is right, whether one
// let this process in.
func TestAuthdAsks(t *testing.T) {
	h := newHost(t)
	if ok, err := h.client.Available(t.Context(), loginOf("root", "sshd")); ok || err != nil {
		t.Errorf("without the program: %t, %v", ok, err)
	}
	h.start()
	codes := h.codes(2, "sshd", "root")
	// authd has applied the rules, so that of authd's copy none counts here.
	h.rules(rules.Rule{Action: rules.Deny, Groups: []string{"ops"}})
	for _, c := range []struct {
		l    breakglass.Login
		want bool
	}{{loginOf("root", "sshd"), true}, {loginOf("alice", "sshd"), false}, {loginOf("root", "su"), false}} {
		if ok, err := h.client.Available(t.Context(), c.l); ok != c.want || err != nil {
			t.Errorf("%+v: %t, %v", c.l, ok, err)
		}
	}
	l := loginOf("root", "sshd")
	if ok, err := h.client.Granted(t.Context(), frames.HookAcctMgmt, l); ok || err != nil {
		t.Errorf("granted before: %t, %v", ok, err)
	}
	for _, c := range []struct {
		typed    string
		accepted bool
		text     string
	}{
		{"bg-nonsense", false, "not right"},
		{codes[0].Reveal(), true, ""},
		{codes[0].Reveal(), false, "has been used"},
	} {
		a, err := h.client.Try(t.Context(), l, frames.Secret(c.typed))
		if err != nil || a.Accepted != c.accepted || !strings.Contains(a.Text, c.text) {
			t.Errorf("%s: %+v, %v", c.typed, a, err)
		}
	}
	if e := h.event(); e["via"] != "authd" || fmt.Sprint(e["pid"]) != "77" {
		t.Errorf("event %v", e)
	}
	if ok, err := h.client.Granted(t.Context(), frames.HookAcctMgmt, l); !ok || err != nil {
		t.Errorf("granted: %t, %v", ok, err)
	}
	l.Process.ID.Start++
	if ok, err := h.client.Granted(t.Context(), frames.HookAcctMgmt, l); ok || err != nil {
		t.Errorf("granted to another process: %t, %v", ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.client.Available(ctx, l); err == nil {
		t.Error("a login that has ended goes on")
	}
}

// Wrong codes cost who types them growing delays, and nobody else anything.
func TestDelays(t *testing.T) {
	h := newHost(t).start()
	codes := h.codes(2, "sshd", "root", "alice")
	ssh := func(user string) *frames.Request { return request(frames.HookAuthenticate, "sshd", user) }
	for range 4 {
		got, _ := h.call(ssh("alice"), "wrong", "wrong", "wrong")
		h.want("wrong", got, frames.OutcomeMaxTries)
	}
	if len(h.slept) != 12 || h.slept[0] != time.Second || h.slept[1] != 2*time.Second || h.slept[11] != longestDelay {
		t.Errorf("delays %v", h.slept)
	}
	n := len(h.slept)
	got, _ := h.call(ssh("alice"), codes[0].Reveal())
	h.want("the right one", got, frames.OutcomeAllow)
	got, _ = h.call(ssh("root"), codes[1].Reveal())
	h.want("root's", got, frames.OutcomeAllow)
	if len(h.slept) != n {
		t.Errorf("a right code was held back: %v", h.slept[n:])
	}
}

func TestThrottleIsBounded(t *testing.T) {
	var th throttle
	now := time.Now()
	for i := range 10 * maxRemember {
		if d := th.fail(fmt.Sprint("user", i), "", now); d < firstDelay || d > longestDelay {
			t.Fatalf("delay %s", d)
		}
	}
	if len(th.counts) > maxRemember+1 {
		t.Errorf("%d counters", len(th.counts))
	}
	if th.quiet(now) || !th.quiet(now.Add(forgetAfter+time.Second)) {
		t.Error("quiet at the wrong time")
	}
	if d := th.fail("user1", "", now.Add(forgetAfter+time.Second)); d != firstDelay {
		t.Errorf("after a pause the delay is %s", d)
	}
}

// However many others knock, root has a place.
func TestRootHasRoom(t *testing.T) {
	h := newHost(t).start()
	var names []string
	for i := range breakglass.MaxNames - 1 {
		names = append(names, fmt.Sprint("user", i))
	}
	code := h.codes(1, "login", append(names, "root")...)[0]
	var waiting []*net.UnixConn
	defer func() {
		for _, c := range waiting {
			_ = c.Close()
		}
	}()
	refused := 0
	for _, name := range names {
		for range maxPerPerson + 1 {
			conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, conn)
			if err := frames.WriteFrame(conn, request(frames.HookAuthenticate, "login", name)); err != nil {
				t.Fatal(err)
			}
			f, err := frames.ReadFrame(conn)
			if err != nil {
				t.Fatal(err)
			}
			if f.Type() == frames.TypeDone {
				refused++
			}
		}
	}
	if places := len(waiting) - refused; places != maxPlaces-rootRoom {
		t.Errorf("%d places are taken, want %d", places, maxPlaces-rootRoom)
	}
	got, _ := h.call(request(frames.HookAuthenticate, "login", "root"), code.Reveal())
	h.want("root among a crowd", got, frames.OutcomeAllow)
}

// dial connects and says nothing.
func (h *host) dial() *net.UnixConn {
	h.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: h.path, Net: "unix"})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Whoever has a first factor of root's, as by a stolen key, cannot keep root out at
// the console.
func TestConsoleHasRoom(t *testing.T) {
	h := newHost(t).start()
	code := h.codes(1, "login", "root")[0]
	places := 0
	for range maxPlaces + 1 {
		req := request(frames.HookAuthenticate, "login", "root")
		req.RHost = "192.0.2.7"
		conn := h.dial()
		if err := frames.WriteFrame(conn, req); err != nil {
			t.Fatal(err)
		}
		f, err := frames.ReadFrame(conn)
		if err != nil {
			t.Fatal(err)
		}
		if f.Type() != frames.TypeDone {
			places++
		}
	}
	if places != maxPlaces-consoleRoom {
		t.Errorf("%d places are taken, want %d", places, maxPlaces-consoleRoom)
	}
	got, _ := h.call(request(frames.HookAuthenticate, "login", "root"), code.Reveal())
	h.want("root at the console", got, frames.OutcomeAllow)
}

// Programs that users start, such as su, knock in any number: those that have said
// nothing yet take no places, and those that have are served some at a time.
func TestKnocksTakeNoPlace(t *testing.T) {
	h := newHost(t).start()
	code := h.codes(1, "login", "root")[0]
	for range maxPlaces + 10 {
		h.dial()
	}
	got, _ := h.call(request(frames.HookAuthenticate, "login", "root"), code.Reveal())
	h.want("root among those who say nothing", got, frames.OutcomeAllow)

	s := &Server{}
	for range maxCallers {
		if !s.enterCaller(1000) {
			t.Fatal("refused within the limit")
		}
	}
	if s.enterCaller(1001) || !s.enterCaller(0) {
		t.Error("a user's program beyond the limit, or root's not")
	}
	s.leaveCaller(0)
	s.leaveCaller(1000)
	if !s.enterCaller(1001) {
		t.Error("refused after one has left")
	}
}

func TestOthersAreNotServed(t *testing.T) {
	if os.Getuid() == 0 {
		h := newHost(t).start()
		h.codes(1, "login", "root")
		got, _ := h.call(request(frames.HookAcctMgmt, "login", "root"))
		h.want("root is served", got, frames.OutcomeUnavailable)
		return
	}
	h := newHost(t)
	h.server.AuthdUID = -1
	h.start()
	h.codes(1, "login", "root")
	got, _ := h.call(request(frames.HookAuthenticate, "login", "root"))
	h.want("a peer that is neither root nor authd", got, frames.OutcomeUnavailable)
}

// The program ends when nobody comes, but not while the hooks of a login are still
// to come.
func TestIdle(t *testing.T) {
	h := newHost(t)
	h.server.Idle = 20 * time.Millisecond
	code := h.codes(1, "login", "root")[0]
	h.start()
	got, _ := h.call(request(frames.HookAuthenticate, "login", "root"), code.Reveal())
	h.want("authenticate", got, frames.OutcomeAllow)
	select {
	case err := <-h.ended:
		t.Fatalf("ended with a login under way: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	got, _ = h.call(request(frames.HookAcctMgmt, "login", "root"))
	h.want("account", got, frames.OutcomeAllow)
	h.advance(grantTTL + time.Second)
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
}
