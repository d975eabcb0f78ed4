// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

type personAccount = directory.Account

const batchRule = `
[[rules]]
name = "nightly"
reason = "cron on db1"
action = "bypass"
users = ["backup"]
services = ["sshd"]
keys = ["` + sshFingerprint + `"]
sources = ["10.0.4.0/24"]
`

// want runs a hook and checks outcome and number of log events so far.
func (h *host) want(name string, peer login.Peer, req *frames.Request, outcome frames.Outcome, events int) {
	h.Helper()
	if got, p := h.run(peer, req); got != outcome {
		h.Errorf("%s: %s, want %s\n%s\n%v", name, got, outcome, &p.script, h.events())
	}
	if got := len(h.events()); got != events {
		h.Errorf("%s: %d log events, want %d: %v", name, got, events, h.events())
	}
}

// withoutKey is how sshd asks at the account hook of a login by key alone.
func withoutKey(r *frames.Request) *frames.Request {
	r.PAMEnv["SSH_AUTH_INFO_0"] = ""
	return r
}

func withKey(r *frames.Request, key string) *frames.Request {
	r.PAMEnv["SSH_AUTH_INFO_0"] = "publickey " + key + "\n"
	return r
}

func from(r *frames.Request, addr string) *frames.Request {
	r.PAMEnv["SSH_CONNECTION"] = addr + " 4711 10.0.0.1 22"
	r.RHost = addr
	return r
}

// sshd authenticates in a child (pid 101) of the monitor (pid 100), and the
// monitor opens the session.
func TestGateAfterKeyboardInteractive(t *testing.T) {
	h := newHost(t, "")
	h.verifier.Codes = []string{"123456"}
	if got, p := h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.want("account in the child", rootPeer(101), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeAllow, 1)
	h.want("setcred", rootPeer(100), sshRequest(frames.HookSetcred, "alice"), frames.OutcomeAllow, 1)
	h.want("session in the monitor", rootPeer(100), sshRequest(frames.HookOpenSession, "alice"), frames.OutcomeAllow, 1)
	h.want("session of another user", rootPeer(100), sshRequest(frames.HookOpenSession, "root"), frames.OutcomeDeny, 2)
	h.want("account of another user", rootPeer(101), sshRequest(frames.HookAcctMgmt, "backup"), frames.OutcomeDeny, 3)
	h.want("account in another process", rootPeer(103), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeDeny, 4)
	h.want("session in a grandparent", rootPeer(99), sshRequest(frames.HookOpenSession, "alice"), frames.OutcomeDeny, 5)
	reused := rootPeer(101)
	reused.Process.ID.Start++
	h.want("account in a process with the same pid", reused, sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeDeny, 6)
	h.want("close", rootPeer(100), sshRequest(frames.HookCloseSession, "alice"), frames.OutcomeAllow, 6)
	h.want("session after close", rootPeer(100), sshRequest(frames.HookOpenSession, "alice"), frames.OutcomeDeny, 7)
}

func TestGrantsAge(t *testing.T) {
	h := newHost(t, "[timeouts]\ngrant_ttl = \"1m\"\n")
	h.verifier.Codes = []string{"123456"}
	start := time.Now()
	h.setNow(func() time.Time { return start })
	h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "123456")
	h.setNow(func() time.Time { return start.Add(59 * time.Second) })
	h.want("in time", rootPeer(101), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeAllow, 1)
	h.setNow(func() time.Time { return start.Add(61 * time.Second) })
	h.want("too late", rootPeer(101), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeDeny, 2)
}

func TestRefusalTakesTheGrantBack(t *testing.T) {
	h := newHost(t, "[services.default]\nattempts = 1\n")
	h.verifier.Codes = []string{"123456"}
	h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "123456")
	h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "000000")
	h.want("account", rootPeer(101), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeDeny, 3)
}

// A login by key alone meets the account hook without its key, and the session
// hook with it.
func TestGateOfBatchLogins(t *testing.T) {
	acct := func() *frames.Request { return withoutKey(sshRequest(frames.HookAcctMgmt, "backup")) }
	open := func() *frames.Request { return sshRequest(frames.HookOpenSession, "backup") }

	h := newHost(t, batchRule)
	h.want("account", rootPeer(100), acct(), frames.OutcomeAllow, 0)
	h.want("session", rootPeer(100), open(), frames.OutcomeAllow, 1)
	h.wantEvent(map[string]any{"reason": "rule_bypass", "rule": "nightly", "hook": "open_session", "user": "backup", "source": "10.0.4.7"})

	h = newHost(t, batchRule)
	h.want("session without account", rootPeer(100), open(), frames.OutcomeDeny, 1)
	h.want("account from one address", rootPeer(101), from(acct(), "10.0.4.8"), frames.OutcomeAllow, 1)
	h.want("session from another", rootPeer(101), open(), frames.OutcomeDeny, 2)
	h.want("account in one process", rootPeer(102), acct(), frames.OutcomeAllow, 2)
	h.want("session in another", rootPeer(103), open(), frames.OutcomeDeny, 3)

	h = newHost(t, batchRule)
	h.want("account", rootPeer(100), acct(), frames.OutcomeAllow, 0)
	h.want("other key", rootPeer(100), withKey(open(), otherKey), frames.OutcomeDeny, 1)
	h.want("no key named", rootPeer(100), withoutKey(open()), frames.OutcomeDeny, 2)
	h.want("other address, account", rootPeer(100), from(acct(), "10.0.5.7"), frames.OutcomeDeny, 3)
	h.want("other address, session", rootPeer(100), from(open(), "10.0.5.7"), frames.OutcomeDeny, 4)
	h.want("host name instead of an address", rootPeer(100), from(open(), "db1.example"), frames.OutcomeDeny, 5)
	h.want("other user, account", rootPeer(100), withoutKey(sshRequest(frames.HookAcctMgmt, "alice")), frames.OutcomeDeny, 6)
	h.want("other user, session", rootPeer(100), sshRequest(frames.HookOpenSession, "alice"), frames.OutcomeDeny, 7)

	h = newHost(t, "")
	h.want("no rule, account", rootPeer(100), acct(), frames.OutcomeDeny, 1)
	h.want("no rule, session", rootPeer(100), open(), frames.OutcomeDeny, 2)
}

func TestGateOfSudo(t *testing.T) {
	h := newHost(t, "")
	h.want("NOPASSWD", rootPeer(100), sudoRequest(frames.HookAcctMgmt), frames.OutcomeAllow, 1)
	h.wantEvent(map[string]any{"reason": "without_auth", "setting": "account_without_auth", "user": "alice"})
	session := sudoRequest(frames.HookOpenSession)
	session.User = "root"
	h.want("its session is the same login", rootPeer(100), session, frames.OutcomeAllow, 1)
	h.want("a session on its own is a login of its own", rootPeer(200), session, frames.OutcomeAllow, 2)

	h = newHost(t, "[services.sudo]\naccount_without_auth = \"deny\"\n")
	h.verifier.Codes = []string{"123456"}
	h.want("NOPASSWD", rootPeer(100), sudoRequest(frames.HookAcctMgmt), frames.OutcomeDeny, 1)
	h.run(rootPeer(200), sudoRequest(frames.HookAuthenticate), "123456")
	h.want("account after authenticate", rootPeer(200), sudoRequest(frames.HookAcctMgmt), frames.OutcomeAllow, 2)
	h.want("session for the target", rootPeer(200), session, frames.OutcomeAllow, 2)
	h.want("session without authenticate", rootPeer(300), session, frames.OutcomeDeny, 3)

	h = newHost(t, "[[rules]]\nname = \"no sudo\"\naction = \"deny\"\nusers = [\"alice\"]\nservices = [\"sudo\"]\n")
	h.want("a deny rule holds for NOPASSWD too", rootPeer(100), sudoRequest(frames.HookAcctMgmt), frames.OutcomeDeny, 1)
}

func TestWhoHasToProveThemselves(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings string
		req      frames.Request
		user     string
		target   any
	}{
		{"su: the caller", "", frames.Request{Service: "su", User: "root", RUID: 1000, RUser: "root"}, "alice", "root"},
		{"su, by setting the target", "[services.su]\nperson = \"user\"\n", frames.Request{Service: "su", User: "root", RUID: 1000}, "root", nil},
		{"sudo: the invoking user", "", frames.Request{Service: "sudo", User: "root", RUser: "alice"}, "alice", "root"},
		{"sudo without PAM_RUSER", "", frames.Request{Service: "sudo", User: "alice"}, "alice", nil},
		{"login: the user, canonical", "", frames.Request{Service: "login", User: "ALICE"}, "alice", "ALICE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t, tc.settings)
			h.verifier.Codes = []string{"123456"}
			tc.req.Hook = frames.HookAuthenticate
			if got, p := h.run(rootPeer(1), &tc.req, "123456"); got != frames.OutcomeAllow {
				t.Fatalf("%s\n%s", got, &p.script)
			}
			h.wantEvent(map[string]any{"user": tc.user})
			if got := h.event()["target"]; got != tc.target {
				t.Errorf("target %v, want %v", got, tc.target)
			}
			if got := h.verifier.Calls("/auth/v2/auth")[0].Params.Get("username"); got != tc.user {
				t.Errorf("the verifier was asked for %q", got)
			}
		})
	}
}

// What a process of an ordinary user claims is worth nothing.
func TestUserSocket(t *testing.T) {
	h := newHost(t, batchRule+"[services.sshd]\nfirst_factor = \"stack\"\n[services.unprivileged]\nattempts = 1\n")
	peer := login.Peer{Socket: login.UserSocket, UID: 2000, Process: process(100)}
	req := from(sshRequest(frames.HookAuthenticate, "backup"), "10.0.4.7") // would be bypassed, were it sshd
	got, p := h.run(peer, req, "000000")
	if got != frames.OutcomeMaxTries {
		t.Errorf("%s\n%s", got, &p.script)
	}
	h.wantEvent(map[string]any{"service": "unprivileged", "user": "backup", "source": "unknown"})
}

// Who asks for themselves has nobody else confirmed by it, in the same process.
func TestUserSocketConfirmsNobodyElse(t *testing.T) {
	h := newHost(t, "[services.unprivileged]\nperson = \"invoking\"\n")
	peer := login.Peer{Socket: login.UserSocket, UID: 2000, Process: process(100)}
	ask := func(hook frames.Hook, user string) *frames.Request {
		return &frames.Request{Hook: hook, Service: "xlock", User: user}
	}
	h.want("own account", peer, ask(frames.HookAcctMgmt, "backup"), frames.OutcomeAllow, 1)
	h.want("own session", peer, ask(frames.HookOpenSession, "backup"), frames.OutcomeAllow, 1)
	h.want("another's session", peer, ask(frames.HookOpenSession, "alice"), frames.OutcomeDeny, 2)
	h.verifier.Codes = []string{"123456"}
	if got, p := h.run(peer, ask(frames.HookAuthenticate, "backup"), "123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.want("another's account, after a factor", peer, ask(frames.HookAcctMgmt, "alice"), frames.OutcomeDeny, 4)
	h.want("another's session, after a factor", peer, ask(frames.HookOpenSession, "alice"), frames.OutcomeDeny, 5)
}

func TestOrdinaryUsersCannotHoldTheNameService(t *testing.T) {
	h := newHost(t, "[services.unprivileged]\nattempts = 1\n")
	h.verifier.Codes = []string{"123456"}
	h.engine.UserPeople = accounts{err: errors.New("every place is taken")}
	peer := login.Peer{Socket: login.UserSocket, UID: 2000, Process: process(100)}
	h.want("user.sock", peer, &frames.Request{Hook: frames.HookAuthenticate, Service: "xlock", User: "backup"}, frames.OutcomeUnavailable, 1)
	if got, p := h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "123456"); got != frames.OutcomeAllow {
		t.Errorf("authd.sock: %s\n%s", got, &p.script)
	}
}

func TestGrantsAreBounded(t *testing.T) {
	g := login.NewGrants(time.Now)
	for i := int32(1); i <= 100; i++ {
		g.Add(process(i*10), "sshd", "alice", "", 8)
	}
	if n := g.Len(); n != 8 {
		t.Errorf("%d grants, want 8", n)
	}
	if g.Authenticated(process(10).ID, "sshd", "alice", time.Minute) || !g.Authenticated(process(1000).ID, "sshd", "alice", time.Minute) {
		t.Error("not the oldest went")
	}
	g.Add(login.Process{}, "sshd", "alice", "", 8)
	if g.Authenticated(login.ProcessID{}, "sshd", "alice", time.Minute) {
		t.Error("a process that is not known has a grant")
	}
	g.Drop(process(1000).Parent)
	if g.Session(process(1000).ID, "sshd", "alice", time.Minute) {
		t.Error("the child's grant outlived its parent's session")
	}
}

func TestOrdinaryUsersCannotPushLoginsOut(t *testing.T) {
	h := newHost(t, "[limits]\ngrants = 4\n")
	h.verifier.Codes = []string{"123456"}
	h.run(rootPeer(101), sshRequest(frames.HookAuthenticate, "alice"), "123456")
	for i := range int32(20) {
		peer := login.Peer{Socket: login.UserSocket, UID: 2000, Process: process(1000 + 10*i)}
		h.run(peer, &frames.Request{Hook: frames.HookAcctMgmt, Service: "xlock", User: "backup"})
	}
	h.want("account", rootPeer(101), sshRequest(frames.HookAcctMgmt, "alice"), frames.OutcomeAllow, 21)
}
