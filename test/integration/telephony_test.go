// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// number is a telephone of a person; the telephone company is a program of the
// tests, at the other end of the webhook.
type number struct {
	t      *testing.T
	site   *site
	digits string
}

func (p *person) telephone(t *testing.T) *number {
	t.Helper()
	p.site.mu.Lock()
	p.site.people["telephone"]++
	n := &number{t, p.site, fmt.Sprintf("+1555010%04d", p.site.people["telephone"])}
	p.site.mu.Unlock()
	p.site.admin(t, nil, "phone", "add", "--user", p.name, "--number", n.digits)
	return n
}

// request is what the verifier asks the telephone company for.
type request struct {
	ID     string `json:"id"`
	TxID   string `json:"txid"`
	Type   string `json:"type"`
	Number string `json:"number"`
	Text   string `json:"text"`

	ApproveKey string `json:"approve_key"`
	FraudKey   string `json:"fraud_key"`
}

// rings returns the first request for the number.
func (n *number) rings() request {
	n.t.Helper()
	var found request
	eventually(n.t, "a request to the telephone company for "+n.digits, func() bool {
		text, err := n.site.provider.Read(n.t.Context(), providerLog)
		must(n.t, err)
		for line := range strings.Lines(text) {
			var r request
			must(n.t, json.Unmarshal([]byte(line), &r))
			if r.Number == n.digits {
				found = r
			}
		}
		return found.ID != ""
	})
	return found
}

// report tells the verifier what came of a request, signed with secret, and
// returns the HTTP status of its answer.
func (n *number) report(secret string, r request, fields map[string]string, flags ...string) int {
	n.t.Helper()
	body := map[string]string{"id": r.ID, "txid": r.TxID}
	for k, v := range fields {
		body[k] = v
	}
	text, err := json.Marshal(body)
	must(n.t, err)
	args := append([]string{"drv", "callback", "-secret", secret, "-ca", verifierCA,
		"-url", verifierURL + "/sallyport/v1/telephony/callback"}, flags...)
	result, err := n.site.provider.Run(n.t.Context(), harness.Command{Args: args, Stdin: bytes.NewReader(text)})
	must(n.t, err)
	var answer struct{ Status int }
	if err := json.Unmarshal([]byte(result.Stdout), &answer); err != nil {
		n.t.Fatalf("callback: %s", result.Output())
	}
	return answer.Status
}

func press(key string) map[string]string {
	return map[string]string{"event": "keypress", "key": key}
}

// asksFor chooses at the menu.
func (v *visit) asksFor(choice string) {
	v.t.Helper()
	v.expect(asksFactor)
	v.types(choice)
}

// A call, answered and confirmed with the key that the voice names.
func TestPhoneCall(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "call")
		telephone := p.telephone(t)
		v := d.knock(t, p)
		v.asksFor("phone")
		call := telephone.rings()
		telephone.report(webhookSecret, call, map[string]string{"event": "answered"})
		if status := telephone.report(webhookSecret, call, press(call.ApproveKey)); status != 200 {
			t.Errorf("the callback was answered with %d", status)
		}
		v.comesIn()
	})
}

// What else can come of a call.
func TestPhoneCallWithoutApproval(t *testing.T) {
	for name, outcome := range map[string]string{
		"fraud key": "keypress", "hang-up": "hangup", "no answer": "no_answer", "failed": "failed",
	} {
		t.Run(name, func(t *testing.T) {
			atEveryDoor(t, func(t *testing.T, d door) {
				p := town.person(t, "nocall")
				telephone := p.telephone(t)
				v := d.knock(t, p)
				v.asksFor("phone")
				call := telephone.rings()
				fields := map[string]string{"event": outcome}
				if outcome == "keypress" {
					fields["key"] = call.FraudKey
				}
				telephone.report(webhookSecret, call, fields)
				v.isTurnedDown()
				if status := telephone.report(webhookSecret, call, press(call.ApproveKey)); status == 200 {
					t.Error("a key pressed after the end of the call was taken")
				}
				want := event{Result: "denied"}
				if name == "fraud key" {
					want = event{Result: "fraud", Reason: "user_marked_fraud"}
				}
				p.lastEvent(t, want)
			})
		})
	}
}

// Who forges a callback, or repeats an old one, lets nobody in.
func TestForgedCallback(t *testing.T) {
	t.Parallel()
	p := town.person(t, "forged")
	telephone := p.telephone(t)
	v := p.ssh(t, town.client, "22")
	v.asksFor("phone")
	call := telephone.rings()
	if status := telephone.report("whsec_bm90IHRoZSBzZWNyZXQgdGhhdCB3YXMgYWdyZWVkIG9u", call, press(call.ApproveKey)); status != 401 {
		t.Errorf("a forged callback was answered with %d, want 401", status)
	}
	if status := telephone.report(webhookSecret, call, press(call.ApproveKey), "-age", "1h"); status != 401 {
		t.Errorf("a callback of an hour ago was answered with %d, want 401", status)
	}
	other := call
	other.TxID = strings.Repeat("0", len(call.TxID))
	if status := telephone.report(webhookSecret, other, press(call.ApproveKey)); status == 200 {
		t.Error("a callback for another transaction was taken")
	}
	// The call is still good.
	if status := telephone.report(webhookSecret, call, press(call.ApproveKey)); status != 200 {
		t.Errorf("the genuine callback was answered with %d", status)
	}
	v.comesIn()
}

// A code by SMS is typed at the login, and is good once.
func TestSMSCode(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "sms")
		telephone := p.telephone(t)
		v := d.knock(t, p)
		v.asksFor("sms")
		code := regexp.MustCompile(`\b\d{6,8}\b`).FindString(telephone.rings().Text)
		v.answers(code)
		v.comesIn()

		v = d.knock(t, p)
		v.answers(code)
		v.expect(asksFactor)
		v.leaves()
	})
}
