// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// The golden sessions: all that a person sees, and types, in testdata.
func TestSessions(t *testing.T) {
	const pushOnly = "[services.sshd]\nautopush = true\n"
	cases := []struct {
		name     string
		settings string
		setup    func(h *host)
		answers  func(h *host) []any
		outcome  frames.Outcome
		event    map[string]any
		log      string // that the log must hold
	}{
		{
			name:    "passcode",
			answers: says("123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode", "factor": "passcode", "user": "alice", "username": "alice", "source": "10.0.4.7"},
		},
		{
			name:    "passcode with blanks",
			answers: says(" 123 456 "),
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "wrong three times",
			answers: says("000000", "111111", "222222"),
			outcome: frames.OutcomeMaxTries,
			event:   map[string]any{"reason": "too_many_attempts", "setting": "attempts"},
		},
		{
			name:    "wrong then right",
			answers: says("000000", "123456"),
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "answers that make no sense cost nothing",
			answers: says("", "9", "push2", "phone7", "pässword", login.ErrTooLong, "000000", "1111111", "123456"),
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "push approved",
			setup:   func(h *host) { approveNext(h) },
			answers: says("1"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "approved", "factor": "push", "txid": "tx1"},
		},
		{
			name:    "push by name denied then passcode",
			setup:   func(h *host) { finishNext(h, "deny", "deny", "Login request denied.") },
			answers: says("Push", "123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode"},
		},
		{
			name:    "fraud",
			setup:   func(h *host) { finishNext(h, "deny", "fraud", "Login request reported as fraudulent.") },
			answers: says("push"),
			outcome: frames.OutcomeDeny,
			event:   map[string]any{"reason": "fraud"},
		},
		{
			name: "locked out meanwhile",
			setup: func(h *host) {
				h.verifier.Answer = func(string, url.Values) *duoapi.Auth {
					return &duoapi.Auth{Result: "deny", Status: "locked_out", StatusMsg: "Your account is locked out."}
				}
			},
			answers: says("000000"),
			outcome: frames.OutcomeDeny,
			event:   map[string]any{"reason": "locked_out"},
		},
		{
			name:     "push unanswered",
			settings: "[timeouts]\napproval_timeout = \"1s\"\n",
			answers:  says("push", "123456"),
			outcome:  frames.OutcomeAllow,
		},
		{
			name:    "phone approved",
			setup:   func(h *host) { approveNext(h) },
			answers: says("phone"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"factor": "phone"},
		},
		{
			name:    "sms then code",
			answers: says("3", "sms1", "123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"factor": "passcode"},
		},
		{
			name:     "automatic push",
			settings: pushOnly,
			setup:    func(h *host) { approveNext(h) },
			answers:  says(),
			outcome:  frames.OutcomeAllow,
		},
		{
			name:    "two devices",
			setup:   func(h *host) { twoDevices(h); approveNext(h) },
			answers: says("push2"),
			outcome: frames.OutcomeAllow,
		},
		{
			name: "only a token",
			setup: func(h *host) {
				h.verifier.Preauth.Devices = []duoapi.Device{{Device: "DHTOKEN", Type: "token", Name: "0"}}
			},
			answers: says("123456"),
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "verified push approved before Enter",
			setup:   verified,
			answers: func(h *host) []any { return []any{"1", approveThen(h, "")} },
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "approved", "factor": "push"},
		},
		{
			name:    "verified push Enter then approved",
			setup:   verified,
			answers: func(h *host) []any { return []any{"1", func() any { approveNext(h); return "" }} },
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "verified push passcode instead",
			setup:   verified,
			answers: says("1", "123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode", "factor": "passcode"},
		},
		{
			name:    "verified push digits typed here by mistake",
			setup:   verified,
			answers: func(h *host) []any { return []any{"1", "418 302", approveThen(h, "")} },
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "verified push nonsense then phone",
			setup:   verified,
			answers: func(h *host) []any { return []any{"1", "17", func() any { drain(h); approveNext(h); return "phone" }} },
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"factor": "phone"},
		},
		{
			name:    "verified push denied while at the prompt",
			setup:   verified,
			answers: func(h *host) []any { return []any{"1", denyThen(h, ""), "123456"} },
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode"},
		},
		{
			name:     "verified push expired while at the prompt",
			settings: "[timeouts]\napproval_timeout = \"1s\"\n",
			setup:    verified,
			answers: func(*host) []any {
				return []any{"1", func() any { time.Sleep(1500 * time.Millisecond); return "" }, "123456"}
			},
			outcome: frames.OutcomeAllow,
		},
		{
			name:     "verified push expired and a passcode typed",
			settings: "[timeouts]\napproval_timeout = \"1s\"\n[services.sshd]\nattempts = 1\n",
			setup:    verified,
			answers: func(*host) []any {
				return []any{"1", func() any { time.Sleep(1500 * time.Millisecond); return "123456" }}
			},
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode"},
		},
		{
			name:    "verified push not delivered then passcode",
			setup:   func(h *host) { verified(h); undelivered(h) },
			answers: says("1", "123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode", "factor": "passcode"},
		},
		{
			name:     "push not delivered costs no attempt",
			settings: "[services.sshd]\nattempts = 1\nautopush = true\n",
			setup:    undelivered,
			answers:  says("push", "phone", "123456"),
			outcome:  frames.OutcomeAllow,
		},
		{
			name:     "push not delivered and nobody there",
			settings: "[services.sshd]\nunattended = \"auto\"\n",
			setup:    undelivered,
			answers:  says(login.ErrAborted),
			outcome:  frames.OutcomeDeny,
			event:    map[string]any{"reason": "unattended"},
		},
		{
			name: "verified push of which nothing is known",
			setup: func(h *host) {
				verified(h)
				h.verifier.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
					return r.URL.Path == "/auth/v2/auth_status" && verifiertest.Hang(w, r)
				})
			},
			answers: says("1", "123456"),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "passcode"},
		},
		{
			name:     "verified push expired by the time of the verifier",
			settings: "[timeouts]\napproval_timeout = \"80s\"\n",
			setup:    func(h *host) { verified(h); h.verifier.Life = 10 },
			answers:  says("1", "", "123456"),
			outcome:  frames.OutcomeAllow,
			log:      `"event":"timeout","setting":"push_timeout"`,
		},
		{
			name: "not enrolled",
			setup: func(h *host) {
				h.verifier.Preauth = duoapi.Preauth{Result: "enroll", EnrollPortalURL: "https://secret.example/x"}
			},
			answers: says(""),
			outcome: frames.OutcomeDeny,
			event:   map[string]any{"reason": "not_enrolled"},
		},
		{
			name: "disabled",
			setup: func(h *host) {
				h.verifier.Preauth = duoapi.Preauth{Result: "deny", StatusMsg: "Your account is \x1b[31mdisabled.\r\n"}
			},
			answers: says(""),
			outcome: frames.OutcomeDeny,
			event:   map[string]any{"reason": "verifier_deny"},
		},
		{
			name:    "not enrolled and nobody there",
			setup:   func(h *host) { h.verifier.Preauth = duoapi.Preauth{Result: "enroll"} },
			answers: says(login.ErrAborted),
			outcome: frames.OutcomeDeny,
			event:   map[string]any{"reason": "not_enrolled"},
		},
		{
			name:    "bypassed at the verifier",
			setup:   func(h *host) { h.verifier.Preauth = duoapi.Preauth{Result: "allow", StatusMsg: "bypass"} },
			answers: says(),
			outcome: frames.OutcomeAllow,
			event:   map[string]any{"reason": "verifier_allow"},
		},
		{
			name: "device with control characters in its name",
			setup: func(h *host) {
				h.verifier.Preauth.Devices = []duoapi.Device{verifiertest.Phone("DPX", "evil\x1b]0;x\x07\nphone\u202e")}
			},
			answers: says("123456"),
			outcome: frames.OutcomeAllow,
		},
		{
			name:    "nobody there",
			answers: says(login.ErrAborted),
			outcome: frames.OutcomeAborted,
			event:   map[string]any{"reason": "unattended", "setting": "unattended"},
		},
		{
			name:     "nobody there automatic",
			settings: "[services.sshd]\nunattended = \"auto\"\n",
			setup:    func(h *host) { approveNext(h) },
			answers:  says(login.ErrAborted),
			outcome:  frames.OutcomeAllow,
			event:    map[string]any{"reason": "approved", "factor": "push"},
		},
		{
			name:    "too many questions",
			answers: says("", "", "", "", "", "", "", "", "", "", "", ""),
			outcome: frames.OutcomeMaxTries,
			event:   map[string]any{"reason": "too_many_questions"},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, tc.settings)
				h.verifier.Codes = []string{"123456"}
				if tc.setup != nil {
					tc.setup(h)
				}
				outcome, p := h.ssh(tc.answers(h)...)
				if outcome != tc.outcome {
					t.Errorf("outcome %s, want %s", outcome, tc.outcome)
				}
				if tc.event != nil {
					h.wantEvent(tc.event)
				} else {
					h.event()
				}
				if !strings.Contains(h.log.String(), tc.log) {
					t.Errorf("no %s in the log:\n%s", tc.log, h.log)
				}
				golden(t, p)
			})
		})
	}
}

func says(answers ...any) func(*host) []any { return func(*host) []any { return answers } }

// approveNext approves the next transaction as soon as it is there.
func approveNext(h *host) { finishNext(h, "allow", "allow", "Success. Logging you in...") }

func finishNext(h *host, result, status, message string) {
	go func() { h.verifier.Finish(h.verifier.Started(h.T), result, status, message) }()
}

func undelivered(h *host) { h.verifier.NoWay = true }

// drain takes note of the transaction that is there.
func drain(h *host) { h.verifier.Started(h.T) }

// approveThen approves the push that is out, waits until authd knows, and then answers.
func approveThen(h *host, answer string) func() any { return endThen(h, "allow", "allow", answer) }

func denyThen(h *host, answer string) func() any { return endThen(h, "deny", "deny", answer) }

func endThen(h *host, result, status, answer string) func() any {
	return func() any {
		h.verifier.Finish(h.verifier.Started(h.T), result, status, "Login request "+status+".")
		time.Sleep(time.Second) // authd sees it while the person is still at the prompt
		synctest.Wait()
		return answer
	}
}

func verified(h *host) { h.verifier.Verified = true }

func twoDevices(h *host) {
	tablet := verifiertest.Phone("DPTWO", "")
	tablet.Name, tablet.Number = "tablet", ""
	tablet.Capabilities = []string{duoapi.CapabilityPush}
	sms := verifiertest.Phone("DPTHREE", "old phone")
	sms.Capabilities, sms.SMSNextCode = []string{duoapi.CapabilitySMS}, "5"
	h.verifier.Preauth.Devices = append(h.verifier.Preauth.Devices, tablet, sms)
}
