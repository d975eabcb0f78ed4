// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// authenticator is a person's authenticator in a terminal, on another machine
// than the one they log in to.
type authenticator struct {
	t *testing.T
	p *person
}

// as is the authenticator in another test, which goes on with it.
func (a *authenticator) as(t *testing.T) *authenticator { return &authenticator{t, a.p} }

// authenticator enrols one.
func (p *person) authenticator(t *testing.T) *authenticator {
	t.Helper()
	var phone struct {
		PhoneID string `json:"phone_id"`
	}
	p.site.admin(t, &phone, "phone", "add", "--user", p.name, "--name", "phone of "+p.name)
	var activation struct {
		URL string `json:"activation_url"`
	}
	p.site.admin(t, &activation, "phone", "activate", phone.PhoneID)
	a := &authenticator{t, p}
	if out := a.run("activate", activation.URL); out.Code != 0 {
		t.Fatalf("activate: %s", out.Output())
	}
	return a
}

func (a *authenticator) run(args ...string) harness.Result {
	a.t.Helper()
	result, err := a.p.site.phones.Run(a.t.Context(), harness.Command{
		Args: append([]string{"sallyport", "authenticator"}, args...),
		Env:  []string{"HOME=/root/" + a.p.name},
	})
	must(a.t, err)
	return result
}

// waiting returns the login request that has arrived.
func (a *authenticator) waiting() string {
	a.t.Helper()
	var txid string
	eventually(a.t, "a login request at the authenticator", func() bool {
		result := a.run("list", "--json")
		var list struct {
			Requests []struct {
				TxID string `json:"txid"`
			} `json:"requests"`
		}
		if err := json.Unmarshal([]byte(result.Stdout), &list); err != nil {
			a.t.Fatalf("authenticator list printed %q: %v", result.Output(), err)
		}
		if len(list.Requests) > 0 {
			txid = list.Requests[0].TxID
		}
		return txid != ""
	})
	return txid
}

func (a *authenticator) approve(digits string) harness.Result {
	a.t.Helper()
	args := []string{"approve", "--txid", a.waiting()}
	if digits != "" {
		args = append(args, "--code", digits)
	}
	return a.run(args...)
}

// asksForPush chooses push at the menu and returns the digits that the question
// then shows.
func (v *visit) asksForPush() string {
	v.t.Helper()
	v.expect(asksFactor)
	v.types("push")
	return v.expect(asksDigits)[1]
}

// The digits shown at the login, typed on the phone, let in.
func TestVerifiedPush(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "push")
		phone := p.authenticator(t)
		v := d.knock(t, p)
		digits := v.asksForPush()
		v.types("")
		if out := phone.approve(digits); out.Code != 0 {
			t.Fatalf("approve: %s", out.Output())
		}
		v.comesIn()
		p.lastEvent(t, event{Result: "success", Reason: "user_approved"})
	})
}

// Approved before the person presses Enter: Enter then lets in at once.
func TestPushApprovedBeforeEnter(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "early")
		phone := p.authenticator(t)
		v := d.knock(t, p)
		if out := phone.approve(v.asksForPush()); out.Code != 0 {
			t.Fatalf("approve: %s", out.Output())
		}
		v.types("")
		v.comesIn()
	})
}

// Other digits than those shown approve nothing; the third time, the request is
// denied.
func TestVerifiedPushWithWrongDigits(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "digits")
		phone := p.authenticator(t)
		v := d.knock(t, p)
		digits := v.asksForPush()
		v.types("")
		for range 3 {
			if out := phone.approve(otherDigits(digits)); out.Code == 0 {
				t.Errorf("wrong digits were taken: %s", out.Output())
			}
		}
		v.isTurnedDown()
		p.lastEvent(t, event{Result: "denied", Reason: "invalid_passcode"})
	})
}

// Who mistypes the digits once can correct them.
func TestVerifiedPushMistypedOnce(t *testing.T) {
	t.Parallel()
	p := town.person(t, "mistyped")
	phone := p.authenticator(t)
	v := p.sudo(t)
	digits := v.asksForPush()
	v.types("")
	phone.approve(otherDigits(digits))
	if out := phone.approve(digits); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.comesIn()
}

// A verified push cannot be approved without the digits.
func TestVerifiedPushWithoutDigits(t *testing.T) {
	t.Parallel()
	p := town.person(t, "nodigits")
	phone := p.authenticator(t)
	v := p.ssh(t, town.client, "22")
	digits := v.asksForPush()
	if out := phone.approve(""); out.Code == 0 {
		t.Errorf("a verified push was approved without its digits: %s", out.Output())
	}
	// It can still be approved with them.
	if out := phone.approve(digits); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.types("")
	v.comesIn()
}

func TestPushDenied(t *testing.T) {
	for flag, reason := range map[string]string{"": "user_mistake", "--fraud": "user_marked_fraud"} {
		t.Run("deny"+flag, func(t *testing.T) {
			atEveryDoor(t, func(t *testing.T, d door) {
				p := town.person(t, "denied")
				phone := p.authenticator(t)
				v := d.knock(t, p)
				v.asksForPush()
				v.types("")
				args := []string{"deny", "--txid", phone.waiting()}
				if flag != "" {
					args = append(args, flag)
				}
				if out := phone.run(args...); out.Code != 0 {
					t.Fatalf("deny: %s", out.Output())
				}
				v.isTurnedDown()
				p.lastEvent(t, event{Result: resultOf(reason), Reason: reason})
			})
		})
	}
}

func resultOf(reason string) string {
	if reason == "user_marked_fraud" {
		return "fraud"
	}
	return "denied"
}

// A push that never arrives strands nobody: the question that shows the digits
// takes a passcode as well, and the push is then void.
func TestPasscodeInsteadOfPush(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "instead")
		phone := p.authenticator(t)
		token := p.hotp(t)
		v := d.knock(t, p)
		digits := v.asksForPush()
		txid := phone.waiting()
		v.types(token.next())
		v.comesIn()
		if out := phone.run("approve", "--txid", txid, "--code", digits); out.Code == 0 {
			t.Errorf("a push that nobody waits for was approved: %s", out.Output())
		}
	})
}

// Where the service says so, the push goes out before any question.
func TestAutomaticPush(t *testing.T) {
	t.Parallel()
	p := town.person(t, "auto")
	phone := p.authenticator(t)
	v := p.ssh(t, town.client, "2203")
	digits := v.expect(asksDigits)[1]
	if out := phone.approve(digits); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	v.types("")
	v.comesIn()
}

// The choice of a factor can come from the environment as well.
func TestPushFromEnvironment(t *testing.T) {
	t.Parallel()
	p := town.person(t, "envpush")
	phone := p.authenticator(t)
	for _, knock := range []func(*testing.T, ...string) *visit{p.sudo, p.su} {
		v := knock(t, "SALLYPORT_PASSCODE=push")
		digits := v.expect(asksDigits)[1]
		if out := phone.approve(digits); out.Code != 0 {
			t.Fatalf("approve: %s", out.Output())
		}
		v.types("")
		v.comesIn()
	}
}

// What the authenticator shows of a login names who, where and from where.
func TestPushSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	p := town.person(t, "context")
	phone := p.authenticator(t)
	v := p.ssh(t, town.client, "22")
	v.asksForPush()
	phone.waiting()
	address, err := town.client.IP(t.Context())
	must(t, err)
	out := phone.run("list").Stdout
	for _, want := range []string{p.name, "host", address} {
		if !strings.Contains(out, want) {
			t.Errorf("the request does not name %q:\n%s", want, out)
		}
	}
	v.leaves()
}

// otherDigits are six digits that differ from these.
func otherDigits(digits string) string {
	var n int
	_, _ = fmt.Sscanf(digits, "%d", &n)
	return fmt.Sprintf("%06d", (n+123457)%1000000)
}

// isTurnedDown asserts that the factor was refused: the person is asked again or
// the visit is over, but is not let in.
func (v *visit) isTurnedDown() {
	v.t.Helper()
	_, err := v.terminal.Expect(asksFactor + "|" + saysWhy)
	if err != nil && !errors.Is(err, harness.ErrEnded) {
		v.t.Error(err)
	}
	v.leaves()
	if screen := v.terminal.Screen(); strings.Contains(screen, isIn) {
		v.t.Errorf("let in; terminal:\n%s", screen)
	}
}
