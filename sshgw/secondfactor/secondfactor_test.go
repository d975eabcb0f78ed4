// SPDX-License-Identifier: Apache-2.0

package secondfactor_test

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

type caller struct {
	got     *frames.Request
	outcome frames.Outcome
	err     error
}

func (c *caller) Call(_ context.Context, req *frames.Request, _ conversation.Person) (frames.Outcome, error) {
	c.got = req
	return c.outcome, c.err
}

func question() secondfactor.Question {
	return secondfactor.Question{
		Identity: &identity.Identity{
			Account: directory.Account{Name: "alice"}, SessionID: strings.Repeat("ab", 32), AuthInfo: "publickey ssh-ed25519 AAAA",
			Source: netip.MustParseAddrPort("192.0.2.7:50000"), Local: netip.MustParseAddrPort("198.51.100.1:22"),
		},
		Kind: secondfactor.StepUp, Rule: "production", Target: "db1", Login: "root", Terminal: "ssh", Fresh: true,
	}
}

func TestRequest(t *testing.T) {
	c := &caller{outcome: frames.OutcomeAllow}
	if err := (&secondfactor.Asker{Client: c}).Ask(t.Context(), question(), conversation.Nobody{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"SSH_CONNECTION": "192.0.2.7 50000 198.51.100.1 22", "SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA", "SALLYPORT_SSH_SESSION": strings.Repeat("ab", 32),
		"SALLYPORT_GATEWAY": "step-up", "SALLYPORT_GATEWAY_RULE": "production", "SALLYPORT_TARGET": "db1", "SALLYPORT_LOGIN": "root", "SALLYPORT_FRESH": "1",
	}
	if !reflect.DeepEqual(c.got.PAMEnv, want) {
		t.Errorf("authd is told %q", c.got.PAMEnv)
	}
	if c.got.Service != "sshgw" || c.got.User != "alice" || c.got.RHost != "192.0.2.7" || c.got.Hook != frames.HookAuthenticate {
		t.Errorf("the request is %s", c.got)
	}
	if _, err := frames.Append(nil, c.got); err != nil {
		t.Errorf("it cannot be sent: %v", err)
	}
	// What there is none of is not sent: authd refuses the empty text.
	q := question()
	q.Kind, q.Rule, q.Target, q.Login, q.Fresh = secondfactor.Door, "", "", "", false
	if err := (&secondfactor.Asker{Client: c}).Ask(t.Context(), q, conversation.Nobody{}); err != nil {
		t.Fatal(err)
	}
	if len(c.got.PAMEnv) != 4 {
		t.Errorf("authd is told %q", c.got.PAMEnv)
	}
}

// Only one outcome lets in.
func TestOutcomes(t *testing.T) {
	away := errors.New("away")
	for outcome := frames.Outcome(0); outcome < 20; outcome++ {
		err := (&secondfactor.Asker{Client: &caller{outcome: outcome}}).Ask(t.Context(), question(), conversation.Nobody{})
		refused := outcome == frames.OutcomeDeny || outcome == frames.OutcomeMaxTries || outcome == frames.OutcomeUserUnknown
		if (err == nil) != (outcome == frames.OutcomeAllow) || errors.Is(err, secondfactor.ErrRefused) != refused {
			t.Errorf("%s: %v", outcome, err)
		}
	}
	if err := (&secondfactor.Asker{Client: &caller{outcome: frames.OutcomeAllow, err: away}}).Ask(t.Context(), question(), conversation.Nobody{}); !errors.Is(err, away) {
		t.Errorf("an error with an allow: %v", err)
	}
}
