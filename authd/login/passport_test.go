// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/passport/passporttest"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// testKey is the key of every host of these tests.
var testKey = func() *ecdsa.PrivateKey {
	key, err := keyproof.GenerateKey()
	if err != nil {
		panic(err)
	}
	return key
}()

// sessions is the verifier's side of remembered logins: it takes what a host's key
// has signed, and keeps what it is told.
type sessions struct {
	*host
	proc passporttest.Proc

	mu    sync.Mutex
	live  map[string]bool // by binding
	made  []agentapi.NewSession
	uses  []agentapi.SessionUse
	ends  []string
	fault func(path string, w http.ResponseWriter, r *http.Request) bool
}

// remembering is a host that has joined, whose verifier remembers logins.
func remembering(t *testing.T, settings string, policy *duoapi.RememberedDevices) *sessions {
	t.Helper()
	return rememberOn(newHost(t, settings), policy)
}

func rememberOn(h *host, policy *duoapi.RememberedDevices) *sessions {
	s := &sessions{host: h, proc: passporttest.Host(), live: map[string]bool{}}
	s.engine.Passport = passport.New(passport.Proc{FS: s.proc})
	s.state.Host = s.client
	s.verifier.Lock() // authd's probe may be there already
	defer s.verifier.Unlock()
	s.verifier.Codes = []string{"111111", "222222", "333333"}
	s.verifier.Preauth.RememberedDevices = policy
	s.verifier.Answer = func(_ string, p url.Values) *duoapi.Auth {
		if code := p["passcode"]; len(code) == 1 && code[0] == "111111" {
			a := &duoapi.Auth{Result: duoapi.ResultAllow, Status: "allow"}
			if p["sallyport_passport"] != nil {
				a.TxID = "TXPASSCODE"
			}
			return a
		}
		return nil
	}
	s.verifier.Fault = s.serve
	return s
}

// rememberedBefore is a host on which the login of passporttest is remembered.
func rememberedBefore(h *host) {
	s := rememberOn(h, nil)
	b, err := passport.Proc{FS: s.proc}.Opened(passporttest.Monitor, 1000)
	if err != nil {
		h.Fatal(err)
	}
	s.live[b.String()] = true
}

var asks8h = &duoapi.RememberedDevices{MaxSeconds: 8 * 3600, UserChoice: true}

func (s *sessions) serve(w http.ResponseWriter, r *http.Request) bool {
	path, ours := strings.CutPrefix(r.URL.Path, "/sallyport/v1/sessions")
	if !ours {
		return false
	}
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(path, w, r) {
		return true
	}
	body, _ := io.ReadAll(r.Body)
	proof, err := keyproof.ParseHeader(r)
	if err == nil {
		_, err = proof.Verify(&testKey.PublicKey, r, body, "https://"+s.verifier.URL.Host, time.Now())
	}
	if err != nil {
		s.Errorf("%s: %v", r.URL.Path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out any
	switch path {
	case "":
		var n agentapi.NewSession
		s.decode(body, &n)
		s.made, s.live[n.Binding] = append(s.made, n), true
		out = agentapi.Session{SessionID: "DSONE", Expires: time.Now().Add(time.Hour).Unix()}
	case "/use":
		var u agentapi.SessionUse
		s.decode(body, &u)
		s.uses = append(s.uses, u)
		used := agentapi.SessionUsed{}
		for _, b := range u.Bindings {
			if s.live[b] {
				used = agentapi.SessionUsed{Allowed: true, Session: agentapi.Session{SessionID: "DSONE"}, TxID: "DSUSE"}
			}
		}
		out = used
	case "/end":
		var e agentapi.SessionEnd
		s.decode(body, &e)
		s.ends = append(s.ends, e.Binding)
		out = agentapi.SessionEnded{Ended: s.live[e.Binding]}
		delete(s.live, e.Binding)
	}
	text, _ := json.Marshal(map[string]any{"stat": "OK", "response": out})
	_, _ = w.Write(text)
	return true
}

func (s *sessions) decode(body []byte, into any) {
	if err := json.Unmarshal(body, into); err != nil {
		s.Error(err)
	}
}

// Peers of the login of passporttest.Host: sshd asks in a child of the monitor.
func childOfMonitor() login.Peer {
	return login.Peer{Process: login.Process{ID: login.ProcessID{PID: 301, Start: 5001}, Parent: passporttest.Monitor}}
}

func monitor() login.Peer {
	return login.Peer{Process: login.Process{ID: passporttest.Monitor, Parent: login.ProcessID{PID: 200, Start: 100}}}
}

func sudoPeer() login.Peer {
	return login.Peer{Process: login.Process{ID: passporttest.Sudo, Parent: login.ProcessID{PID: 306, Start: 5011}}}
}

// logsIn is a login by ssh up to the open session; answers are to the questions.
func (s *sessions) logsIn(answers ...any) *human {
	s.Helper()
	outcome, p := s.run(childOfMonitor(), sshRequest(frames.HookAuthenticate, "alice"), answers...)
	if outcome != frames.OutcomeAllow {
		s.Fatalf("not let in:\n%s", &p.script)
	}
	if outcome, _ := s.run(monitor(), sshRequest(frames.HookOpenSession, "alice")); outcome != frames.OutcomeAllow {
		s.Fatalf("the session is not opened: %s", outcome)
	}
	return p
}

// sudoAsks says whether sudo in the login asks for a factor; a code then lets in.
func (s *sessions) sudoAsks() bool {
	s.Helper()
	p := &human{h: s.host, answers: []any{"222222"}}
	s.verifier.Lock()
	s.verifier.Codes = []string{"222222"}
	s.verifier.Unlock()
	if outcome := s.engine.Handle(s.Context(), sudoPeer(), sudoRequest(frames.HookAuthenticate), p); outcome != frames.OutcomeAllow {
		s.Errorf("sudo: %s\n%s", outcome, &p.script)
	}
	return p.asked > 0
}

func TestRememberedLogin(t *testing.T) {
	s := remembering(t, "", asks8h)
	p := s.logsIn("111111", "y")
	if !strings.Contains(p.script.String(), "Remember this login for sudo and su for 8 hours? [y/N] «y»") {
		t.Errorf("the person was not asked:\n%s", &p.script)
	}
	want, err := passport.Proc{FS: s.proc}.Opened(passporttest.Monitor, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.made) != 1 || s.made[0] != (agentapi.NewSession{TxID: "TXPASSCODE", Binding: want.String(), Service: "sshd", TTY: "ssh"}) {
		t.Fatalf("made %+v", s.made)
	}
	asked := len(s.verifier.Calls("/auth/v2/preauth"))
	if s.sudoAsks() {
		t.Error("sudo asked")
	}
	if n := len(s.verifier.Calls("/auth/v2/preauth")); n != asked {
		t.Errorf("%d preauths of a remembered login", n-asked)
	}
	if u := s.uses[0]; u.Username != "alice" || u.Service != "sudo" || len(u.Bindings) != 6 {
		t.Errorf("asked for %+v", u)
	}
	events := s.events()
	last := events[len(events)-1]
	for field, value := range map[string]string{"reason": "remembered", "session": "DSONE", "txid": "DSUSE", "service": "sudo", "result": "allow"} {
		if last[field] != value {
			t.Errorf("the event says %s=%v", field, last[field])
		}
	}
	// A second session of the same grant is not made.
	s.run(monitor(), sshRequest(frames.HookOpenSession, "alice"))
	if len(s.made) != 1 {
		t.Errorf("made %+v", s.made)
	}

	if outcome, _ := s.run(monitor(), sshRequest(frames.HookCloseSession, "alice")); outcome != frames.OutcomeAllow {
		t.Errorf("logout: %s", outcome)
	}
	s.await("the logout to reach the verifier", func() bool { return len(s.ends) == 1 && s.ends[0] == want.String() })
	if !s.sudoAsks() {
		t.Error("sudo did not ask after the logout")
	}
}

// await waits for what happens beside the login.
func (s *sessions) await(what string, done func() bool) {
	s.Helper()
	for range 6000 {
		s.mu.Lock()
		ok := done()
		s.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Errorf("waited in vain for %s", what)
}

func TestPushIsRemembered(t *testing.T) {
	s := remembering(t, "", asks8h)
	s.verifier.Answer = nil
	approveNext(s.host)
	s.logsIn("push", "YES ")
	if len(s.made) != 1 || s.made[0].TxID != "tx1" {
		t.Errorf("made %+v", s.made)
	}
}

// Who is asked, and who is not remembered whatever they answer.
func TestOfferToRemember(t *testing.T) {
	silent := &duoapi.RememberedDevices{MaxSeconds: 90}
	for _, c := range []struct {
		name, settings string
		policy         *duoapi.RememberedDevices
		setup          func(s *sessions)
		answers        []any
		made           int
	}{
		{name: "no", policy: asks8h, answers: []any{"111111", "n"}},
		{name: "Enter", policy: asks8h, answers: []any{"111111", ""}},
		{name: "something else", policy: asks8h, answers: []any{"111111", "yes please"}},
		{name: "too long", policy: asks8h, answers: []any{"111111", login.ErrTooLong}},
		{name: "nobody there", policy: asks8h, answers: []any{"111111", login.ErrAborted}},
		{name: "too late", policy: asks8h, settings: "[timeouts]\nanswer_timeout = \"1s\"\n", answers: []any{"111111", nil}},
		{name: "yes", policy: asks8h, answers: []any{"111111", "Yes"}, made: 1},
		{name: "no policy", answers: []any{"111111"}},
		{name: "by policy", policy: silent, answers: []any{"111111"}, made: 1},
		{name: "by policy, but the host asks", policy: silent, settings: "[services.sshd]\npassport = \"ask\"\n", answers: []any{"111111", "n"}},
		{name: "not on this host", policy: silent, settings: "[services.default]\npassport = \"never\"\n", answers: []any{"111111"}},
		{name: "no key", policy: silent, answers: []any{"111111"}, setup: func(s *sessions) { s.state.Host = nil }},
		{name: "no time", policy: &duoapi.RememberedDevices{}, answers: []any{"111111"}},
		{name: "no audit identity", policy: silent, answers: []any{"111111"}, setup: func(s *sessions) {
			s.proc.Add(passporttest.Process{PID: 300, Parent: 200, Start: 5000, LoginUID: "4294967295", Session: "4294967295"})
		}},
		{name: "another's login", policy: silent, answers: []any{"111111"}, setup: func(s *sessions) {
			s.proc.Add(passporttest.Process{PID: 300, Parent: 200, Start: 5000, LoginUID: "1001"})
		}},
		{name: "a txid is missing", policy: silent, answers: []any{"333333"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := remembering(t, c.settings, c.policy)
				if c.setup != nil {
					c.setup(s)
				}
				s.logsIn(c.answers...)
				if len(s.made) != c.made {
					t.Errorf("made %+v", s.made)
				}
				if asks := s.sudoAsks(); asks != (c.made == 0) {
					t.Errorf("sudo asks: %v", asks)
				}
			})
		})
	}
}

// Where nobody can be asked, or the caller is silent, there is no question.
func TestSilentLoginsAreNotAsked(t *testing.T) {
	s := remembering(t, "", asks8h)
	req := sshRequest(frames.HookAuthenticate, "alice")
	req.Flags = 0x8000
	if outcome, p := s.run(childOfMonitor(), req, "111111"); outcome != frames.OutcomeAllow {
		t.Errorf("%s\n%s", outcome, &p.script)
	}
	s.run(monitor(), sshRequest(frames.HookOpenSession, "alice"))
	if len(s.made) != 0 {
		t.Errorf("made %+v", s.made)
	}
}

// The verifier's failures: the login goes on, and sudo asks.
func TestVerifierFailsToRemember(t *testing.T) {
	const quick = "[timeouts]\nrequest_timeout = \"5s\"\nconnect_timeout = \"5s\"\n"
	faults := map[string]func(http.ResponseWriter, *http.Request) bool{
		"500": verifiertest.Refuse(duoapi.CodeServerError), "403": verifiertest.Refuse(duoapi.CodeSessionRefused),
		"401": verifiertest.Refuse(duoapi.CodeInvalidProof), "404": verifiertest.Refuse(duoapi.CodeNotFound),
		"garbage": verifiertest.Garbage, "hangs": verifiertest.Hang,
		"cut off": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"allowed in a refusal": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusForbidden)
			_, err := w.Write([]byte(`{"stat":"FAIL","code":40301,"message":"no","response":{"allowed":true,"session_id":"DSONE"}}`))
			return err == nil
		},
		"allowed without a session": func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := w.Write([]byte(`{"stat":"OK","response":{"allowed":true}}`))
			return err == nil
		},
		"a session that is not allowed": func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := w.Write([]byte(`{"stat":"OK","response":{"allowed":false,"session_id":"DSONE"}}`))
			return err == nil
		},
	}
	for name, fault := range faults {
		for _, path := range []string{"", "/use"} {
			if path == "" && strings.Contains(name, "allowed") {
				continue
			}
			t.Run(name+" "+path, func(t *testing.T) {
				t.Parallel()
				settings := ""
				if name == "hangs" {
					settings = quick
				}
				s := remembering(t, settings, &duoapi.RememberedDevices{MaxSeconds: 60})
				s.mu.Lock()
				s.fault = func(at string, w http.ResponseWriter, r *http.Request) bool { return at == path && fault(w, r) }
				s.mu.Unlock()
				s.logsIn("111111")
				if !s.sudoAsks() {
					t.Error("sudo did not ask")
				}
			})
		}
	}
}

// The verifier is away when sudo asks: as without a session, the fail mode decides.
func TestRememberedLoginAndNoVerifier(t *testing.T) {
	for mode, want := range map[string]frames.Outcome{"secure": frames.OutcomeUnavailable, "open": frames.OutcomeAllow} {
		s := remembering(t, fmt.Sprintf("[services.sudo]\nfail_mode = %q\nopen_local = true\n", mode), &duoapi.RememberedDevices{MaxSeconds: 60})
		s.logsIn("111111")
		s.verifier.Lock()
		s.verifier.Fault = verifiertest.Garbage
		s.verifier.Unlock()
		if outcome, _ := s.run(sudoPeer(), sudoRequest(frames.HookAuthenticate)); outcome != want {
			t.Errorf("%s: %s", mode, outcome)
		}
		events := s.events()
		if reason := events[len(events)-1]["reason"]; reason == "remembered" {
			t.Errorf("%s: %v", mode, reason)
		}
	}
}

// Who asks nothing of sessions: ordinary users' programs, sshd, services of which
// it is not said.
func TestWhoNeverUsesASession(t *testing.T) {
	s := remembering(t, "", &duoapi.RememberedDevices{MaxSeconds: 60})
	s.logsIn("111111")
	user := sudoPeer()
	user.Socket, user.UID = login.UserSocket, 1000
	gateway := sudoPeer()
	gateway.Socket = login.GatewaySocket
	ssh := sudoRequest(frames.HookAuthenticate)
	ssh.PAMEnv = sshRequest(frames.HookAuthenticate, "alice").PAMEnv
	other := sudoRequest(frames.HookAuthenticate)
	other.Service = "vlock"
	for name, c := range map[string]struct {
		peer login.Peer
		req  *frames.Request
	}{
		"user.sock": {user, sudoRequest(frames.HookAuthenticate)}, "sshgw.sock": {gateway, gatewayRequest("alice", "door")},
		"sudo with sshd's variables": {sudoPeer(), ssh}, "another service": {sudoPeer(), other},
	} {
		p := &human{h: s.host}
		if outcome := s.engine.Handle(t.Context(), c.peer, c.req, p); outcome == frames.OutcomeAllow {
			t.Errorf("%s: %s\n%s", name, outcome, &p.script)
		}
	}
	if len(s.uses) != 0 {
		t.Errorf("asked for %+v", s.uses)
	}
}

// A rule has the first word, and a session none against it.
func TestRuleBeforeSession(t *testing.T) {
	s := remembering(t, "[[rules]]\nname = \"no sudo\"\naction = \"deny\"\nservices = [\"sudo\"]\n", &duoapi.RememberedDevices{MaxSeconds: 60})
	s.logsIn("111111")
	if outcome, _ := s.run(sudoPeer(), sudoRequest(frames.HookAuthenticate)); outcome != frames.OutcomeDeny {
		t.Errorf("outcome %s", outcome)
	}
}

// A rule that demands a factor asks for sessions that were proved by it.
func TestRuleNamesTheFactor(t *testing.T) {
	s := remembering(t, "[[rules]]\nname = \"codes\"\naction = \"require\"\nservices = [\"sudo\"]\nfactors = [\"sms\", \"passcode\"]\n", &duoapi.RememberedDevices{MaxSeconds: 60})
	s.logsIn("111111")
	if s.sudoAsks() {
		t.Error("sudo asked")
	}
	if len(s.uses) != 1 || !slices.Equal(s.uses[0].Factors, []string{duoapi.FactorPasscode}) {
		t.Errorf("asked for %+v", s.uses)
	}
}

// A logout of a login that another authd has opened ends its session too; one that
// was not remembered asks nothing of the verifier.
func TestLogoutAfterARestart(t *testing.T) {
	s := remembering(t, "", &duoapi.RememberedDevices{MaxSeconds: 60})
	s.logsIn("111111")
	// An authd that began after the login, and one that began before it.
	for start, want := range map[uint64]int{6000: 1, 4000: 0} {
		s.proc.Add(passporttest.Process{PID: int32(os.Getpid()), Parent: 1, Start: start})
		s.engine.Passport = passport.New(passport.Proc{FS: s.proc})
		s.mu.Lock()
		s.ends = nil
		s.mu.Unlock()
		s.run(monitor(), sshRequest(frames.HookCloseSession, "alice"))
		if want == 1 {
			s.await("the end", func() bool { return len(s.ends) == want && s.ends[0] == s.made[0].Binding })
		}
		if _, known := s.engine.Passport.Closed(passporttest.Monitor); known != (want == 1) {
			t.Errorf("authd of start %d knows the login: %v", start, known)
		}
	}
}
