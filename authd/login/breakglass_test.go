// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/breakglass/server"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// breakGlass starts sallyport-breakglass beside the host's authd and makes codes
// for alice by sshd and sudo.
func (h *host) breakGlass(count int) []string {
	h.Helper()
	dir := h.TempDir()
	store, socket := breakglass.Open(filepath.Join(dir, "store")), filepath.Join(dir, "b.sock")
	codes, err := store.Generate(h.Context(), breakglass.Request{
		Users: []breakglass.Account{{Name: "alice", UID: 1000}}, Services: []string{"sshd", "sudo"}, Count: count, Owners: breakglass.NoOwners,
	}, time.Now(), rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	s := &server.Server{
		Store: store, PolicyPath: filepath.Join(dir, "none"), Accounts: server.LocalAccounts(), Hostname: "web1", AuthdUID: -1,
		Now: time.Now, Sleep: func(context.Context, time.Duration) {}, Log: h.engine.Log,
	}
	l, err := server.Listen(socket, -1)
	if err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	h.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.Error(err)
		}
	})
	h.engine.BreakGlass = &breakglass.Client{Path: socket}
	var out []string
	for _, c := range codes {
		out = append(out, c.Reveal())
	}
	return out
}

func down(h *host) { h.verifier.Spoil(verifiertest.Refuse(duoapi.CodeServerError)) }

// breakGlassFailures are the rows of the table about break-glass.
func breakGlassFailures() []failure {
	var code string
	return []failure{
		{reason: "breakglass", setting: "fail_mode", outcome: frames.OutcomeAllow, answers: []any{func() any { return code }},
			setup: func(h *host) { down(h); code = h.breakGlass(1)[0] }},
		{reason: "verifier_down", setting: "fail_mode", name: "no break-glass code", outcome: frames.OutcomeUnavailable, answers: []any{""},
			setup: func(h *host) { down(h); h.breakGlass(1) }},
		{reason: "too_many_attempts", setting: "attempts", name: "break-glass", outcome: frames.OutcomeMaxTries, answers: []any{"123456", "bg-1", "push"},
			setup: func(h *host) { down(h); h.breakGlass(1) }},
	}
}

func TestBreakGlassAtThePrompt(t *testing.T) {
	h := newHost(t, "")
	down(h)
	codes := h.breakGlass(2)
	outcome, p := h.ssh("123456", codes[0])
	if outcome != frames.OutcomeAllow {
		t.Errorf("outcome %s", outcome)
	}
	screen := strings.ReplaceAll(p.script.String(), codes[0], "bg-CODE")
	p.script.Reset()
	p.script.WriteString(screen)
	golden(t, p)
	e := h.event()
	if e["reason"] != "breakglass" || e["level"] != "WARN" || e["factor"] != "breakglass_code" || e["cause"] == nil {
		t.Errorf("event %v", e)
	}
	if strings.Contains(h.log.String(), codes[0][8:]) {
		t.Error("the log holds the code")
	}
	outcome, p = h.ssh(codes[0], codes[1])
	if outcome != frames.OutcomeAllow || !strings.Contains(p.script.String(), "has been used") {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
	if outcome, p = h.ssh(); outcome != frames.OutcomeUnavailable {
		t.Errorf("asked although no code is left: %s\n%s", outcome, &p.script)
	}
}

// Break-glass is for outages: what a rule or the verifier has decided stands, and
// an ordinary user's program is not asked.
func TestBreakGlassOverridesNoAnswer(t *testing.T) {
	user := login.Peer{Socket: login.UserSocket, UID: 1000, Process: process(100)}
	for name, tc := range map[string]struct {
		settings string
		peer     *login.Peer
		setup    func(*host)
		want     string
	}{
		"deny rule":    {"[[rules]]\naction = \"deny\"\nusers = [\"alice\"]\n", nil, down, "rule_deny"},
		"401":          {"", nil, func(h *host) { h.verifier.Spoil(verifiertest.Refuse(40102)) }, "verifier_refused"},
		"403":          {"", nil, func(h *host) { h.verifier.Spoil(verifiertest.Refuse(40301)) }, "verifier_refused"},
		"disabled":     {"", nil, func(h *host) { h.verifier.Preauth = duoapi.Preauth{Result: duoapi.ResultDeny} }, "verifier_deny"},
		"not enrolled": {"", nil, func(h *host) { h.verifier.Preauth = duoapi.Preauth{Result: duoapi.ResultEnroll} }, "not_enrolled"},
		"user.sock":    {"", &user, down, "verifier_down"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, tc.settings)
			h.breakGlass(1)
			tc.setup(h)
			peer := rootPeer(100)
			if tc.peer != nil {
				peer = *tc.peer
			}
			p := &human{h: h}
			h.engine.Handle(t.Context(), peer, sshRequest(frames.HookAuthenticate, "alice"), p)
			if strings.Contains(p.script.String(), "break-glass") {
				t.Errorf("a break-glass code was asked for:\n%s", &p.script)
			}
			h.wantEvent(map[string]any{"reason": tc.want})
		})
	}
}

// A factor that was begun is not replaced by a code within the same login.
func TestNoBreakGlassAfterAFactor(t *testing.T) {
	h := newHost(t, "[timeouts]\nrequest_timeout = \"3s\"\nconnect_timeout = \"3s\"\n")
	h.breakGlass(1)
	outcome, p := h.ssh(func() any { h.verifier.Close(); return "123456" })
	if outcome != frames.OutcomeUnavailable {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
	h.wantEvent(map[string]any{"reason": "verifier_lost"})
}

// The hooks after authenticate pass in an authd that was not there when the code was
// taken, for that process alone, and against no rule.
func TestLaterHooksOfABreakGlassLogin(t *testing.T) {
	for name, settings := range map[string]string{"": "", "deny": "[[rules]]\naction = \"deny\"\nusers = [\"alice\"]\n"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, settings)
			code := h.breakGlass(1)[0]
			child := process(100)
			answer, err := h.engine.BreakGlass.Try(t.Context(), breakglass.Login{Person: "alice", User: "alice", Service: "sshd", Process: child}, frames.Secret(code))
			if err != nil || !answer.Accepted {
				t.Fatal(answer, err)
			}
			h.verifier.Spoil(func(http.ResponseWriter, *http.Request) bool { t.Error("the verifier was asked"); return false })
			want := frames.OutcomeAllow
			if name == "deny" {
				want = frames.OutcomeDeny
			}
			if got, _ := h.run(login.Peer{Process: process(200)}, sshRequest(frames.HookAcctMgmt, "alice")); got != frames.OutcomeDeny {
				t.Errorf("another process: %s", got)
			}
			if got, _ := h.run(login.Peer{Process: child}, sshRequest(frames.HookAcctMgmt, "alice")); got != want {
				t.Errorf("account: %s", got)
			}
			if got, _ := h.run(login.Peer{Process: login.Process{ID: child.Parent}}, sshRequest(frames.HookOpenSession, "alice")); name == "" && got != want {
				t.Errorf("session: %s", got)
			}
			events := h.events()
			if last := events[len(events)-1]; name == "" && (last["reason"] != "breakglass" || last["hook"] != "acct_mgmt" || last["level"] != "WARN") {
				t.Errorf("events %v", events)
			}
		})
	}
}

// In mode offline one question takes both kinds of code, and each is told from the
// other by its form.
func TestBreakGlassAndOfflineCodesShareAQuestion(t *testing.T) {
	h := newHost(t, offlineMode)
	_, told := withOffline(h)
	down(h)
	told.err = errors.New("the disk is full") // which must not keep break-glass from working
	codes := h.breakGlass(2)
	outcome, p := h.ssh("push", "bg-nonsense", codes[0])
	screen := p.script.String()
	if outcome != frames.OutcomeAllow || !strings.Contains(screen, "A break-glass code (bg-...) of this host is taken too.\n\nCode: ") ||
		!strings.Contains(screen, "That code is not right. 2 attempts left.") {
		t.Errorf("outcome %s\n%s", outcome, screen)
	}
	h.wantEvent(map[string]any{"reason": "breakglass", "factor": "breakglass_code", "setting": "fail_mode"})
	told.err = nil
	outcome, p = h.ssh(offlineCode(t, 0))
	if e := h.events()[1]; outcome != frames.OutcomeAllow || e["reason"] != "offline" || e["factor"] != "offline_code" {
		t.Errorf("outcome %s, event %v\n%s", outcome, e, &p.script)
	}
	// Without offline codes the break-glass code is what is left.
	h.engine.Offline = nil
	outcome, p = h.ssh(codes[1])
	if outcome != frames.OutcomeAllow || strings.Contains(p.script.String(), "offline") {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
}
