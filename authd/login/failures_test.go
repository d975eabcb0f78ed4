// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// failure is a row of the table in docs/explanation/login.md.
type failure struct {
	reason, setting string
	outcome         frames.Outcome

	name     string // where a reason has several cases
	settings string
	setup    func(h *host)
	peer     *login.Peer
	req      *frames.Request
	answers  []any
	ctx      func(context.Context) (context.Context, context.CancelFunc)
}

func failures() []failure {
	const open = "[services.default]\nfail_mode = \"open\"\n"
	const quick = "[timeouts]\nrequest_timeout = \"3s\"\nconnect_timeout = \"3s\"\n"
	user := login.Peer{Socket: login.UserSocket, UID: 1000, Process: process(100)}
	as := func(name string) *frames.Request {
		r := sshRequest(frames.HookAuthenticate, name)
		return r
	}
	withInfo := func(info string) *frames.Request {
		r := as("alice")
		r.PAMEnv["SSH_AUTH_INFO_0"] = info
		return r
	}
	fault := func(f func(http.ResponseWriter, *http.Request) bool) func(*host) {
		return func(h *host) { h.verifier.Spoil(f) }
	}
	at := func(path string, f func(http.ResponseWriter, *http.Request) bool) func(*host) {
		return fault(func(w http.ResponseWriter, r *http.Request) bool { return r.URL.Path == path && f(w, r) })
	}
	const bypass = "[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n"
	list := []failure{
		{reason: "not_self", outcome: frames.OutcomeDeny, peer: &user, req: &frames.Request{Hook: frames.HookAuthenticate, Service: "x", User: "root"}},
		{reason: "no_such_user", outcome: frames.OutcomeUserUnknown, req: as("mallory")},
		{reason: "nss_failed", outcome: frames.OutcomeUnavailable, setup: func(h *host) { h.engine.People = accounts{err: errors.New("sssd is away")} }},
		{reason: "nss_failed", setting: "nss_timeout", name: "slow", settings: "[timeouts]\nnss_timeout = \"100ms\"\n", outcome: frames.OutcomeUnavailable,
			setup: func(h *host) { h.engine.People = slowDirectory{} }},
		{reason: "no_loginuid", setting: "person", outcome: frames.OutcomeDeny, settings: "[services.sudo]\nperson = \"loginuid\"\n", req: sudoRequest(frames.HookAuthenticate)},
		{reason: "mapping_failed", setting: "mapping", outcome: frames.OutcomeDeny, settings: withLDAP + "[services.sshd]\nmapping = { ldap = \"uid\" }\n"},
		{reason: "mapping_failed", setting: "mapping", name: "open", outcome: frames.OutcomeDeny, settings: "[services.sshd]\nfail_mode = \"open\"\nmapping = { pattern = 'adm-(.+)', name = '$1' }\n"},
		{reason: "mapping_unknown", setting: "mapping", outcome: frames.OutcomeUnavailable, settings: withLDAP + "[services.sshd]\nfail_mode = \"open\"\nmapping = { ldap = \"away\" }\n"},
		{reason: "no_first_factor", setting: "first_factor", outcome: frames.OutcomeDeny, req: withInfo("")},
		{reason: "no_first_factor", setting: "first_factor", name: "keyboard-interactive only", outcome: frames.OutcomeDeny, req: withInfo("keyboard-interactive/pam\n")},
		{reason: "no_first_factor", setting: "first_factor", name: "malformed", outcome: frames.OutcomeDeny, req: withInfo("publickey ssh-ed25519 x\n")},
		{reason: "no_first_factor", setting: "first_factor", name: "another service name", outcome: frames.OutcomeDeny,
			req: &frames.Request{Hook: frames.HookAuthenticate, Service: "bastion", User: "alice", PAMEnv: map[string]string{"SSH_CONNECTION": "10.0.4.7 1 10.0.0.1 22"}}},
		{reason: "no_first_factor", setting: "first_factor", name: "a bypass rule does not replace it", settings: bypass, outcome: frames.OutcomeDeny, req: withInfo("")},
		{reason: "rule_deny", setting: "rules", outcome: frames.OutcomeDeny, settings: "[[rules]]\nname = \"d\"\naction = \"deny\"\nusers = [\"alice\"]\n"},
		{reason: "rule_deny", setting: "rules", name: "group unknown", outcome: frames.OutcomeDeny, settings: "[[rules]]\nname = \"d\"\naction = \"deny\"\ngroups = [\"ghosts\"]\n"},
		{reason: "rule_bypass", setting: "rules", outcome: frames.OutcomeAllow, settings: bypass},
		{reason: "verifier_refused", outcome: frames.OutcomeDeny, name: "401 at auth, open", settings: open, setup: at("/auth/v2/auth", verifiertest.Refuse(40103)), answers: []any{"123456"}},
		{reason: "verifier_lost", outcome: frames.OutcomeUnavailable, name: "500 at auth, open", settings: open, setup: at("/auth/v2/auth", verifiertest.Refuse(50000)), answers: []any{"123456"}},
		{reason: "verifier_lost", setting: "request_timeout", outcome: frames.OutcomeUnavailable, name: "hangs at auth, open", settings: open + quick, setup: at("/auth/v2/auth", verifiertest.Hang), answers: []any{"123456"}},
		{reason: "verifier_lost", outcome: frames.OutcomeUnavailable, name: "away while a push waits, open", settings: open + quick, answers: []any{"push"},
			setup: func(h *host) { go func() { h.verifier.Started(h.T); h.verifier.Close() }() }},
		{reason: "remembered", outcome: frames.OutcomeAllow, setup: rememberedBefore, peer: new(sudoPeer()), req: sudoRequest(frames.HookAuthenticate)},
		{reason: "verifier_allow", outcome: frames.OutcomeAllow, setup: func(h *host) { h.verifier.Preauth.Result = "allow" }},
		{reason: "verifier_deny", outcome: frames.OutcomeDeny, setup: func(h *host) { h.verifier.Preauth.Result = "deny" }},
		{reason: "not_enrolled", outcome: frames.OutcomeDeny, setup: func(h *host) { h.verifier.Preauth.Result = "enroll" }},
		{reason: "no_method", setting: "unattended", outcome: frames.OutcomeDeny, settings: "[services.sshd]\nunattended = \"auto\"\n",
			setup: func(h *host) { h.verifier.Preauth.Devices = nil }, answers: []any{login.ErrAborted}},
		{reason: "approved", outcome: frames.OutcomeAllow, setup: approveNext, answers: []any{"push"}},
		{reason: "passcode", outcome: frames.OutcomeAllow, answers: []any{"123456"}},
		{reason: "too_many_attempts", setting: "attempts", outcome: frames.OutcomeMaxTries, settings: "[services.default]\nattempts = 1\n", answers: []any{"000000"}},
		{reason: "fraud", outcome: frames.OutcomeDeny, setup: func(h *host) { finishNext(h, "deny", "fraud", "") }, answers: []any{"push"}},
		{reason: "locked_out", outcome: frames.OutcomeDeny, answers: []any{"000000"}, setup: func(h *host) {
			h.verifier.Answer = func(string, url.Values) *duoapi.Auth { return &duoapi.Auth{Result: "deny", Status: "locked_out"} }
		}},
		{reason: "too_many_questions", outcome: frames.OutcomeMaxTries, answers: []any{"", "", "", "", "", "", "", "", "", "", "", ""}},
		{reason: "answer_late", setting: "answer_timeout", outcome: frames.OutcomeDeny, settings: "[timeouts]\nanswer_timeout = \"1s\"\n", answers: []any{nil}},
		{reason: "login_timeout", setting: "login_timeout", outcome: frames.OutcomeUnavailable, settings: "[timeouts]\nlogin_timeout = \"1s\"\n", answers: []any{"push"}},
		{reason: "unattended", setting: "unattended", outcome: frames.OutcomeAborted, answers: []any{login.ErrAborted}},
		{reason: "peer_gone", outcome: frames.OutcomeDeny, answers: []any{login.ErrPeerGone}},
		{reason: "peer_gone", name: "while a push waits", outcome: frames.OutcomeDeny, answers: []any{"push"}, ctx: endsWith(login.ErrPeerGone)},
		{reason: "protocol_error", outcome: frames.OutcomeDeny, answers: []any{login.ErrProtocol}},
		{reason: "shutdown", setting: "stop_timeout", outcome: frames.OutcomeUnavailable, answers: []any{"push"}, ctx: endsWith(login.ErrShutdown)},
		{reason: "bad_claims", outcome: frames.OutcomeDeny, peer: &gatewayPeer, req: gatewayRequest("alice", "open")},
		{reason: "gateway_touch", outcome: frames.OutcomeAllow, peer: &gatewayPeer, req: gatewayRequest("alice", "touch")},
		{reason: "gateway_batch", outcome: frames.OutcomeAllow, peer: &gatewayPeer, req: gatewayRequest("alice", "batch")},
		{reason: "gateway_remembered", outcome: frames.OutcomeAllow, peer: &gatewayPeer, req: gatewayRequest("alice", "door"), settings: withGrace,
			setup: func(h *host) {
				h.verifier.Codes = []string{"123456"}
				h.engine.Handle(h.Context(), gatewayPeer, gatewayRequest("alice", "door"), &human{h: h, answers: []any{"123456"}})
				h.log.Reset()
			}},
		{reason: "not_approved", outcome: frames.OutcomeDeny, peer: &gatewayPeer, req: gatewayRequest("alice", "hold"), setup: undelivered},
		{reason: "no_second_factor", setting: "account_without_auth", outcome: frames.OutcomeDeny, req: sshRequest(frames.HookAcctMgmt, "alice")},
		{reason: "without_auth", setting: "account_without_auth", outcome: frames.OutcomeAllow, req: sudoRequest(frames.HookAcctMgmt)},
	}
	// Every way of being away, in both modes; every refusal, in the open mode.
	for name, f := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"500": verifiertest.Refuse(duoapi.CodeServerError), "garbage": verifiertest.Garbage, "hangs": verifiertest.Hang,
		"cut off": func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"unknown result": func(w http.ResponseWriter, _ *http.Request) bool {
			_, err := w.Write([]byte(`{"stat":"OK","response":{"result":"maybe"}}`))
			return err == nil
		},
	} {
		list = append(list,
			failure{reason: "verifier_down", setting: "fail_mode", outcome: frames.OutcomeUnavailable, name: name, settings: quick, setup: fault(f)},
			failure{reason: "fail_open", setting: "fail_mode", outcome: frames.OutcomeAllow, name: name, settings: open + quick, setup: fault(f)})
	}
	list = append(list, openLimits()...)
	list = append(list, offlineRows()...)
	list = append(list, breakGlassFailures()...)
	for name, code := range map[string]int{"400": 40002, "401": 40102, "403": 40301, "429": 42901} {
		list = append(list, failure{reason: "verifier_refused", outcome: frames.OutcomeDeny, name: name, settings: open, setup: fault(verifiertest.Refuse(code))})
	}
	return list
}

func endsWith(cause error) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		t := time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
		return ctx, func() { t.Stop(); cancel(nil) }
	}
}

// slowDirectory never answers.
type slowDirectory struct{ accounts }

func (slowDirectory) ByName(ctx context.Context, _ string) (a personAccount, err error) {
	<-ctx.Done()
	return a, context.Cause(ctx)
}

func TestFailures(t *testing.T) {
	for _, tc := range failures() {
		t.Run(strings.TrimSuffix(tc.reason+" "+tc.name, " "), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, tc.settings)
				h.verifier.Codes = []string{"123456"}
				if tc.setup != nil {
					tc.setup(h)
				}
				peer, req := rootPeer(100), sshRequest(frames.HookAuthenticate, "alice")
				if tc.peer != nil {
					peer = *tc.peer
				}
				if tc.req != nil {
					req = tc.req
				}
				ctx := t.Context()
				if tc.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = tc.ctx(ctx)
					defer cancel()
				}
				p := &human{h: h, answers: tc.answers}
				if got := h.engine.Handle(ctx, peer, req, p); got != tc.outcome {
					t.Errorf("outcome %s, want %s\n%s", got, tc.outcome, &p.script)
				}
				setting := any(tc.setting)
				if tc.setting == "" {
					setting = nil
				}
				h.wantEvent(map[string]any{"reason": tc.reason, "setting": setting, "result": tc.outcome.String()})
			})
		})
	}
}

// Each reason of the table in the documentation has a case here, and the other
// way round, with the outcome that the table names.
func TestFailuresAreTheTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/explanation/login.md")
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| .* \\| ([^|]*) \\| (`[a-z_` /]+`) \\| [^|]* \\|$")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		for _, reason := range regexp.MustCompile("[a-z_]+").FindAllString(m[2], -1) {
			if reason != "reason" { // the heading
				outcomes[reason] = m[1]
			}
		}
	}
	if len(outcomes) < 20 {
		t.Fatalf("only %d reasons found in the table", len(outcomes))
	}
	tested := map[string]bool{}
	for _, f := range failures() {
		tested[f.reason] = true
		if documented := outcomes[f.reason]; documented != "none can be sent" && documented != "closed" && !strings.HasPrefix(documented, f.outcome.String()) {
			t.Errorf("%s: the outcome is %s, the table says %q", f.reason, f.outcome, documented)
		}
	}
	for reason := range outcomes {
		if !tested[reason] {
			t.Errorf("%s is in the table and has no case", reason)
		}
	}
}
