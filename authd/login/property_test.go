// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/offline"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/passport/passporttest"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// worlds is how many random worlds TestNobodyComesInWithoutReason tries; each
// has logins one after the other.
const worlds = 500

// Over random rule files, settings, people, verifiers and faults, success has
// one of its reasons, and what the reason says did happen: in the other party's
// words, not in authd's. All time is the bubble's.
func TestNobodyComesInWithoutReason(t *testing.T) {
	reasons := map[string]int{}
	for seed := range uint64(worlds) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			for range 4 {
				w.login(reasons)
			}
		})
	}
	for _, r := range []string{"rule_bypass", "verifier_allow", "passcode", "approved", "remembered", "fail_open", "offline", "breakglass", "without_auth", "grant"} {
		if reasons[r] == 0 {
			t.Errorf("in no world somebody came in by %s: this test shows nothing of it (%v)", r, reasons)
		}
	}
}

// world is a host, its people and its verifier, all by chance. It takes note of
// what really happened.
type world struct {
	*testing.T
	seed   uint64
	proc   passporttest.Proc
	pid    int32
	hers   bool // the process is of alice's login
	rng    *rand.Rand
	engine *login.Engine
	cfg    *config.Config
	log    *lockedBuffer
	text   string // of the configuration

	contact time.Time           // with the verifier
	opened  map[string]int      // logins by fail_mode open in this outage
	proven  map[string]bool     // processes that authenticate has let in, by process, service and user
	codes   map[string]struct{} // passcodes that have not been spent

	mu        sync.Mutex
	pre       string // what preauth answers: outage, refused, busy or a result
	preOutage bool
	allowed   bool // by preauth
	passed    int  // passcodes that were right
	approved  bool
	session   bool // a live session of this login
	honoured  bool // the session was used
	codeTaken bool // an offline code
	glass     bool // there are break-glass codes
	glassUsed bool
	glassHeld map[string]bool // logins that a break-glass code let in, as proven
}

var worldUsers = []string{"root", "alice", "backup"}

// start is when a process of that number began, after alice had logged in.
func start(pid int32) uint64 { return uint64(pid) + 10000 }

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func newWorld(t *testing.T, seed uint64) *world {
	return newWorldWith(t, seed, (*world).settings)
}

func newWorldWith(t *testing.T, seed uint64, settings func(*world) string) *world {
	w := &world{T: t, seed: seed, proc: passporttest.Host(), pid: 1000, rng: rand.New(rand.NewPCG(seed, 1)), log: &lockedBuffer{}, opened: map[string]int{},
		proven: map[string]bool{}, glassHeld: map[string]bool{}, codes: map[string]struct{}{"000001": {}, "000002": {}}}
	w.text = "state_dir = \"" + t.TempDir() + "\"\n[verifier]\nurls = [\"https://verifier.example\"]\nintegration_key = \"DIAAAAAAAAAAAAAAAAAA\"\nsecret_key_file = \"unused\"\n" + settings(w)
	var err error
	if w.cfg, err = config.Parse("authd.toml", w.text); err != nil {
		t.Fatalf("%v\n%s", err, w.text)
	}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	born := time.Now()
	gate := failmode.New(failmode.Options{Dir: w.cfg.StateDir, Clock: clock.Clock{Now: time.Now, Boot: func() (string, time.Duration) { return "boot", time.Since(born) }}, Log: log})
	t.Cleanup(gate.Close)
	if w.chance(90) {
		gate.Contact(true)
		w.contact = time.Now()
	}
	time.Sleep(pick(w.rng, time.Minute, 3*time.Hour, 5*time.Hour))
	w.engine = &login.Engine{
		People: accounts{}, UserPeople: accounts{}, Grants: login.NewGrants(time.Now), UserGrants: login.NewGrants(time.Now), FailMode: gate, Now: time.Now,
		NewID: func() string { return "id" }, Log: log, Command: func(int32) string { return "" },
		LoginUID: func(login.ProcessID) (uint32, error) { return 0, errors.New("not set") },
		Passport: passport.New(passport.Proc{FS: w.proc}), Offline: w, BreakGlass: glass{w}, Events: &notebook{},
	}
	w.engine.Use(&login.State{Config: w.cfg, Verifier: w, Host: w})
	return w
}

// settings is a random configuration of services and rules.
func (w *world) settings() string {
	var b strings.Builder
	for _, name := range []string{"default", "sshd", "sudo"} {
		fmt.Fprintf(&b, "[services.%s]\nfail_mode = %q\nopen_local = %v\nopen_uses = 1\naccept_env_factor = %v\nautopush = %v\nunattended = %q\n",
			name, pick(w.rng, "secure", "open", "offline"), w.chance(50), w.chance(30), w.chance(20), pick(w.rng, "deny", "auto"))
	}
	fmt.Fprintf(&b, "account_without_auth = %q\n", pick(w.rng, "deny", "allow"))
	for i := range w.rng.IntN(5) {
		fmt.Fprintf(&b, "[[rules]]\nname = \"r%d\"\nreason = \"chance\"\naction = %q\n", i, pick(w.rng, "require", "require", "bypass", "deny"))
		conditions := 0
		for _, c := range []struct{ key, value string }{
			{"users", pick(w.rng, "alice", "root", "backup")},
			{"groups", pick(w.rng, "ops", "ghosts", "nobody")},
			{"services", pick(w.rng, "sshd", "sudo", "su")},
			{"sources", pick(w.rng, "10.0.4.0/24", "192.0.2.0/24")},
			{"keys", pick(w.rng, sshFingerprint, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")},
		} {
			local := strings.Contains(b.String()[strings.LastIndex(b.String(), "[[rules]]"):], `services = ["su`)
			if !w.chance(30) || local && (c.key == "keys" || c.key == "sources") {
				continue // the configuration refuses what sudo and su cannot know
			}
			conditions++
			fmt.Fprintf(&b, "%s = [%q]\n", c.key, c.value)
		}
		rule := b.String()[strings.LastIndex(b.String(), "[[rules]]"):]
		switch {
		case strings.Contains(rule, `"bypass"`):
			b.WriteString("broad = true\n")
		case strings.Contains(rule, `"require"`) && w.chance(40):
			fmt.Fprintf(&b, "fail_mode = %q\n", pick(w.rng, "secure", "open", "offline"))
		case strings.Contains(rule, `"require"`) && w.chance(30):
			fmt.Fprintf(&b, "factors = [%q]\n", pick(w.rng, "push", "passcode"))
		}
	}
	return b.String()
}

// login plays one login with its hooks.
func (w *world) login(reasons map[string]int) {
	w.Helper()
	w.pid += 10 // no login is another's process, or its child
	pid := w.pid
	if w.hers = w.chance(50); w.hers {
		w.proc.Add(passporttest.Process{PID: pid, Parent: 306, Start: start(pid)})
	}
	var req *frames.Request
	switch w.rng.IntN(4) {
	case 0, 1:
		req = sshRequest(frames.HookAuthenticate, pick(w.rng, worldUsers...))
		if w.chance(10) {
			req.PAMEnv["SSH_AUTH_INFO_0"] = pick(w.rng, "", "password\n", "publickey "+otherKey+"\n")
		}
	case 2:
		req = sudoRequest(frames.HookAuthenticate)
		req.RUser = pick(w.rng, worldUsers...)
	case 3:
		req = &frames.Request{Hook: frames.HookAuthenticate, Service: "su", User: "root", RUID: pick(w.rng, uint32(1000), uint32(2000)), TTY: pick(w.rng, "/dev/pts/1", "tty1")}
	}
	if w.chance(20) {
		req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": frames.Secret(w.answer().(string))}
	}
	for _, hook := range []frames.Hook{frames.HookAuthenticate, frames.HookAcctMgmt, frames.HookOpenSession} {
		if hook == frames.HookAuthenticate && w.chance(25) {
			continue // as for a key alone, or NOPASSWD
		}
		call := *req
		call.Hook = hook
		w.call(pid, &call, reasons)
		time.Sleep(time.Duration(w.rng.IntN(90)) * time.Second)
	}
}

// call is one hook, and the judgement.
func (w *world) call(pid int32, req *frames.Request, reasons map[string]int) {
	w.Helper()
	w.mu.Lock()
	w.pre = pick(w.rng, "outage", "outage", "refused", duoapi.ResultAllow, duoapi.ResultDeny, duoapi.ResultEnroll, duoapi.ResultAuth, duoapi.ResultAuth, duoapi.ResultAuth)
	w.preOutage, w.allowed, w.passed, w.approved, w.honoured, w.codeTaken, w.glassUsed = false, false, 0, false, false, false, false
	w.session, w.glass = w.chance(30), w.chance(30)
	w.mu.Unlock()
	w.log.Lock()
	w.log.Reset()
	w.log.Unlock()
	p := &human{}
	for range 14 {
		p.answers = append(p.answers, w.answer())
	}
	if w.chance(15) {
		p.answers = nil // nobody there
	}
	ctx, cancel := context.WithTimeoutCause(w.Context(), 10*time.Minute, login.ErrPeerGone)
	peer := login.Peer{Socket: login.RootSocket, Process: login.Process{ID: login.ProcessID{PID: pid, Start: start(pid)}, Parent: login.ProcessID{PID: pid - 1, Start: start(pid) - 1}}}
	outcome := w.engine.Handle(ctx, peer, req, p)
	cancel()
	synctest.Wait()
	reason, action := w.logged(), w.decide(req)
	if outcome != frames.OutcomeAllow {
		if req.Hook == frames.HookAuthenticate {
			delete(w.proven, w.process(pid, req))
		}
		return
	}
	reasons[reason]++
	key := w.process(pid, req)
	service := w.cfg.Service(req.Service, req.Service == "sshd")
	mode := string(service.FailMode)
	if action.Rule != nil && action.Rule.FailMode != "" {
		mode = action.Rule.FailMode
	}
	fail := func(why string) {
		w.Errorf("%s of %s for %s: in by %q, but %s\n%s\n%s\n%s", req.Hook, w.person(req), req.Service, reason, why, w.text, &p.script, w.log)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// At the account hook sshd does not name the key yet: the session hook decides.
	if action.Action == rules.Deny && reason != "grant" && reason != "rule_bypass_pending" {
		fail("a rule denies it")
	}
	if req.Hook == frames.HookAuthenticate && req.Service == "sshd" && req.PAMEnv["SSH_AUTH_INFO_0"] == "" {
		fail("there was no first factor")
	}
	right := false
	switch reason {
	case "rule_bypass":
		right = action.Action == rules.Bypass
	case "verifier_allow":
		right = w.allowed
	case "passcode":
		right = w.passed == 1
	case "approved":
		right = w.approved
	case "remembered":
		right = w.honoured && req.Service != "sshd" && w.hers && w.person(req) == "alice"
	case "offline":
		right = w.codeTaken && w.preOutage && mode == "offline"
	case "breakglass":
		authenticating := req.Hook == frames.HookAuthenticate
		right = authenticating && w.glassUsed && w.preOutage || !authenticating && w.glassHeld[key]
		w.glassHeld[key] = true
	case "fail_open":
		w.opened[w.person(req)]++
		local := req.Service == "su" && req.TTY == "tty1"
		right = w.preOutage && mode == "open" && !w.contact.IsZero() && time.Since(w.contact) <= 4*time.Hour+time.Minute &&
			w.opened[w.person(req)] <= 1 && (!local || service.OpenLocal)
	case "grant", "account":
		right = w.proven[key] || reason == "account"
	case "without_auth":
		right = service.AccountWithoutAuth == config.GateAllow
	case "rule_bypass_pending":
		right = req.Hook == frames.HookAcctMgmt && req.Service == "sshd"
	}
	if !right {
		fail(fmt.Sprintf("that is not what happened (seed %d)", w.seed))
	}
	if only := only(action); only != nil && (reason == "passcode" && !slices.Contains(only, "passcode") || reason == "approved" && !slices.ContainsFunc(only, func(f string) bool { return f == "push" || f == "phone" })) {
		fail("the rule demands " + strings.Join(only, ", "))
	}
	if req.Hook == frames.HookAuthenticate {
		w.proven[key] = true
	}
}

func only(d rules.Decision) []string {
	if d.Rule == nil {
		return nil
	}
	return d.Rule.Factors
}

func (w *world) process(pid int32, req *frames.Request) string {
	return fmt.Sprint(pid, req.Service, req.User)
}

// person is whom the service asks.
func (w *world) person(req *frames.Request) string {
	switch req.Service {
	case "sudo":
		return req.RUser
	case "su":
		return worldUsers[req.RUID/1000]
	}
	return req.User
}

// logged is the reason that the log gives: in the event, or, for hooks that
// leave none, in the line for those who debug.
func (w *world) logged() string {
	w.log.Lock()
	defer w.log.Unlock()
	reason := ""
	for line := range strings.Lines(w.log.String()) {
		var e struct{ Event, Msg, Reason string }
		if json.Unmarshal([]byte(line), &e) == nil && (e.Event == "login" || e.Msg == "hook passed") {
			reason = e.Reason
		}
	}
	return reason
}

// decide is what the rules come to, found by the plainest reading of them.
func (w *world) decide(req *frames.Request) rules.Decision {
	all := func(truths ...rules.Truth) rules.Truth { return slices.Min(truths) }
	is := func(condition []string, have string) rules.Truth {
		if len(condition) == 0 || slices.Contains(condition, have) {
			return rules.True
		}
		return rules.False
	}
	who := w.person(req)
	for _, r := range w.cfg.RuleSet().Rules() {
		group := rules.True
		if len(r.Groups) > 0 {
			group = map[string]rules.Truth{"ghosts": rules.Unknown, "nobody": rules.False}[r.Groups[0]]
			if r.Groups[0] == "ops" && who == "alice" {
				group = rules.True
			}
		}
		source, key := rules.True, rules.True
		if len(r.Sources) > 0 && !(req.Service == "sshd" && r.Sources[0] == "10.0.4.0/24") {
			source = rules.False
		}
		if len(r.Keys) > 0 && !(r.Keys[0] == sshFingerprint && strings.Contains(req.PAMEnv["SSH_AUTH_INFO_0"], sshKey)) {
			key = rules.False
		}
		truth := all(is(r.Users, who), is(r.Services, req.Service), group, source, key)
		if truth == rules.True || truth == rules.Unknown && r.Action != rules.Bypass {
			return rules.Decision{Action: r.Action, Rule: &r}
		}
	}
	return rules.Decision{Action: rules.Require}
}

// answer is what a person types, right or wrong.
func (w *world) answer() any {
	return pick[any](w.rng, "000001", "000002", "999999", "push", "phone", "sms", "1", "2", "", "12345678", "bg-1234", "x", "push2", "no")
}

// The verifier.

// slow may take its time. In the bubble no time passes while somebody holds a lock.
func (w *world) slow(ctx context.Context) error {
	w.mu.Lock()
	slow := w.chance(10)
	w.mu.Unlock()
	if !slow {
		return nil
	}
	select {
	case <-time.After(time.Minute):
		return nil
	case <-ctx.Done():
		return &upstream.Outage{Setting: "request_timeout", Err: context.Cause(ctx)}
	}
}

func (w *world) fault() error {
	switch w.rng.IntN(12) {
	case 0:
		return &upstream.Outage{Err: errors.New("no answer")}
	case 1:
		return duoapi.NewError(duoapi.CodeInvalidSignature, "")
	}
	return nil
}

func (w *world) Preauth(context.Context, url.Values) (duoapi.Preauth, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.pre {
	case "outage":
		w.preOutage = true
		return duoapi.Preauth{}, &upstream.Outage{Err: errors.New("no answer")}
	case "refused":
		return duoapi.Preauth{}, duoapi.NewError(duoapi.CodeForbidden, "")
	}
	clear(w.opened) // the outage is over
	w.allowed = w.pre == duoapi.ResultAllow
	out := duoapi.Preauth{Result: w.pre, StatusMsg: "words"}
	if w.pre == duoapi.ResultAuth {
		out.Devices = []duoapi.Device{{Device: "DP1", Capabilities: []string{"push", "phone", "sms"}}}
		if w.chance(50) {
			out.TxID, out.VerificationCode, out.Expiration = "TX", "424242", 60
		}
	}
	return out, nil
}

func (w *world) Auth(ctx context.Context, p url.Values) (duoapi.Auth, error) {
	if err := w.slow(ctx); err != nil {
		return duoapi.Auth{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fault(); err != nil {
		return duoapi.Auth{}, err
	}
	switch p.Get("factor") {
	case duoapi.FactorPasscode:
		if _, fresh := w.codes[p.Get("passcode")]; fresh {
			delete(w.codes, p.Get("passcode"))
			w.passed++
			return duoapi.Auth{Result: duoapi.ResultAllow, Status: "allow"}, nil
		}
		return duoapi.Auth{Result: duoapi.ResultDeny, Status: pick(w.rng, "deny", "locked_out")}, nil
	case duoapi.FactorSMS:
		return duoapi.Auth{Result: duoapi.ResultDeny, Status: "sent"}, nil
	}
	return duoapi.Auth{TxID: "TX2"}, nil
}

func (w *world) AuthStatus(ctx context.Context, _ string) (duoapi.Auth, error) {
	if err := w.slow(ctx); err != nil {
		return duoapi.Auth{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.fault(); err != nil {
		return duoapi.Auth{}, err
	}
	switch w.rng.IntN(6) {
	case 0:
		// An answer that the login can no longer see is none.
		w.approved = w.approved || ctx.Err() == nil
		return duoapi.Auth{Result: duoapi.ResultAllow, Status: "allow"}, nil
	case 1:
		return duoapi.Auth{Result: duoapi.ResultDeny, Status: pick(w.rng, "deny", "fraud", "timeout")}, nil
	}
	return duoapi.Auth{Result: duoapi.ResultWaiting, Status: "pushed"}, nil
}

func (w *world) Cancel(context.Context, string) error { return nil }

// Host is the verifier as those meet it who sign with the host's key.
func (w *world) Host(ctx context.Context, _ bool, call func(context.Context, *agentapi.Client) error) error {
	base := &url.URL{Scheme: "https", Host: "verifier.example"}
	return call(ctx, &agentapi.Client{BaseURL: base, Key: testKey, KeyID: "HO1", HTTP: &http.Client{Transport: w}, Now: time.Now})
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := `{"stat":"OK","response":{"allowed":false}}`
	if strings.HasSuffix(r.URL.Path, "/use") && w.session && w.pre != "outage" {
		w.honoured = true
		body = `{"stat":"OK","response":{"allowed":true,"session_id":"DS1","txid":"TX3"}}`
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewBufferString(body)), Request: r}, nil
}

// Offline codes.

func (w *world) Standing(name string) (offline.Standing, bool) {
	return offline.Standing{Label: "host", Left: 3, Until: time.Now().Add(time.Hour)}, name != "backup"
}

func (w *world) LoggedIn(string, string) {}

func (w *world) Try(_, code string) offline.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code == "12345678" && w.chance(50) {
		w.codeTaken = true
		return offline.Result{Reason: offline.Accepted, Left: 2, Until: time.Now().Add(time.Hour)}
	}
	return offline.Result{Reason: pick(w.rng, offline.WrongCode, offline.Replayed, offline.UsedUp, offline.Expired, offline.StateFailed), Left: 2}
}

// glass is sallyport-breakglass.
type glass struct{ *world }

func (g glass) Available(context.Context, breakglass.Login) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.glass, nil
}

func (g glass) Try(_ context.Context, _ breakglass.Login, code frames.Secret) (breakglass.Answer, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.glassUsed = g.glassUsed || code.Reveal() == "bg-1234" && g.chance(50)
	return breakglass.Answer{Accepted: g.glassUsed}, nil
}

func (g glass) Granted(context.Context, frames.Hook, breakglass.Login) (bool, error) {
	return false, nil
}
