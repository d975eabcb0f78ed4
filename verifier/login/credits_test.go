// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (w *world) setCredits(n int64, change func(*store.Settings)) {
	w.Helper()
	set := store.DefaultSettings()
	set.PushBudget, set.PushDelay = 1000, 0
	if change != nil {
		change(&set)
	}
	w.update(func(x store.Writer) error { return errors.Join(x.SetCredits(n), x.SetSettings(set)) })
}

func (w *world) credits() int64 {
	w.Helper()
	var c store.Credits
	err := w.Store.View(context.Background(), func(r store.Reader) (err error) {
		c, err = r.Credits()
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return c.Left
}

func (w *world) telephonyLog() (out []string) {
	w.Helper()
	err := w.Store.View(context.Background(), func(r store.Reader) error {
		list, err := r.TelephonyEntries(store.TelephonyFilter{})
		for _, e := range list {
			out = append(out, fmt.Sprint(e.Context, " ", e.Type, " ", e.Phone, " ", e.UserID, " ", e.Credits))
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// TestZeroCredits: without credits, calls and SMS are in no menu, no device and no
// automatic choice, asking for them is refused, and everything else goes on.
func TestZeroCredits(t *testing.T) {
	w := newWorld(t)
	w.setCredits(0, nil)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true, TextPrompt: true})
	if got := strings.Join(pre.Devices[0].Capabilities, " "); got != "auto push" {
		t.Fatalf("capabilities %q", got)
	}
	if text := pre.Prompt.Text; strings.Contains(text, "Phone call") || strings.Contains(text, "SMS") || !strings.Contains(text, "1. Push") {
		t.Fatalf("menu %q", text)
	}
	// A client that cannot show digits has only the tokens left.
	pre = w.preauth(PreauthRequest{Username: "alice", TextPrompt: true})
	for _, d := range pre.Devices {
		if d.Type == "phone" {
			t.Fatalf("device %+v", d)
		}
	}
	if !strings.Contains(pre.Prompt.Text, "Enter a passcode.") || len(pre.Prompt.Factors) != 0 {
		t.Fatalf("menu %+v", pre.Prompt)
	}
	for i, r := range []AuthRequest{
		{Factor: duoapi.FactorPhone}, {Factor: duoapi.FactorSMS, Device: "DP1"}, {Factor: duoapi.FactorPrompt, Prompt: "phone1"},
		{Factor: duoapi.FactorPrompt, Prompt: "sms"},
	} {
		out := w.auth(r)
		w.want(out, "deny", "deny")
		if !strings.Contains(out.StatusMsg, "not available now") {
			t.Fatalf("%+v: %+v", r, out)
		}
		w.wantEvent(i, "denied", "factor_restricted", map[bool]string{true: "phone_call", false: "sms_refresh"}[i%2 == 0])
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorAuto}), "deny", "deny") // no push without digits, and no call instead
	if u := w.user(); u.Failures != 0 {
		t.Fatalf("%d failures", u.Failures)
	}
	txID, digits := w.startPush()
	if _, err := w.answer(txID, Approve, digits, nil); err != nil {
		t.Fatal(err)
	}
	w.want(w.status(txID), "allow", "allow")
	w.want(w.pass(w.code(0, 6)), "allow", "allow")
	w.senders.Wait()
	if n := len(w.provider.calls) + len(w.provider.texts); n != 0 {
		t.Fatalf("the provider was asked %d times", n)
	}
	// Somebody with nothing but a number still counts as enrolled: there may be a bypass code.
	w.update(func(x store.Writer) error {
		return errors.Join(x.AddPhone(store.Phone{ID: "DP2", Number: "+15550100999", Type: "mobile"}), x.AttachPhone("DU2", "DP2"))
	})
	if pre := w.preauth(PreauthRequest{Username: "bob"}); pre.Result != duoapi.ResultAuth || len(pre.Devices) != 0 {
		t.Fatalf("preauth of somebody with a number alone: %+v", pre)
	}
	w.setCredits(1, nil)
	if got := strings.Join(w.preauth(PreauthRequest{Username: "alice"}).Devices[0].Capabilities, " "); got != "auto phone sms" {
		t.Fatalf("with credits again: %q", got)
	}
}

// TestCreditsSpent: each call and SMS costs what the settings say, and administrators
// are told once of each threshold.
func TestCreditsSpent(t *testing.T) {
	w := newWorld(t)
	w.setCredits(7, func(s *store.Settings) { s.TelephonyCallCost, s.TelephonySMSCost, s.TelephonyWarningMin = 3, 1, 4 })
	w.auth(AuthRequest{Factor: duoapi.FactorPhone, Async: true})
	for range 2 {
		w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "sent")
	}
	if got := strings.Join(w.preauth(PreauthRequest{Username: "alice"}).Devices[0].Capabilities, " "); got != "sms" {
		t.Fatalf("with two credits left, where a call costs three: %q", got)
	}
	if got := w.alarms(); !slices.Equal(got, []string{"telephony_credits_low "}) {
		t.Fatalf("administrator log %v", got)
	}
	for range 2 {
		w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "sent")
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "deny")
	if got := w.alarms(); !slices.Contains(got, "telephony_credits_exhausted ") || len(got) != 2 {
		t.Fatalf("administrator log %v", got)
	}
	got := w.telephonyLog()
	slices.Sort(got)
	sms := "authentication sms +15550100123 DU1 1"
	if want := []string{"authentication phone +15550100123 DU1 3", sms, sms, sms, sms}; !slices.Equal(got, want) {
		t.Fatalf("telephony log %q", got)
	}
	w.setCredits(100, func(s *store.Settings) { s.TelephonyCallCost, s.UserTelephonyCostMax = 3, 2 })
	if got := strings.Join(w.preauth(PreauthRequest{Username: "alice"}).Devices[0].Capabilities, " "); got != "sms" {
		t.Fatalf("where a call costs more than it may: %q", got)
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPhone}), "deny", "deny")
}

// TestCreditsRace: of many who ask at once, as many reach the provider as are paid
// for, and the others are told; nothing is spent twice, and the alert comes once.
func TestCreditsRace(t *testing.T) {
	w := newWorld(t)
	w.setCredits(5, nil)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		sent int
	)
	for range 64 {
		wg.Go(func() {
			out, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorSMS})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if out.Status == "sent" {
				sent++
			}
		})
	}
	wg.Wait()
	w.senders.Wait()
	if sent != 5 || len(w.provider.texts) != 5 || w.credits() != 0 {
		t.Fatalf("%d sent, %d asked for, %d credits left", sent, len(w.provider.texts), w.credits())
	}
	if got := w.alarms(); !slices.Equal(got, []string{"telephony_credits_exhausted "}) {
		t.Fatalf("administrator log %v", got)
	}
}

// TestCreditsGivenBack: only what the provider surely did not do costs nothing.
func TestCreditsGivenBack(t *testing.T) {
	w := newWorld(t)
	w.setCredits(5, nil)
	for _, c := range []struct {
		err  error
		left int64
	}{{errors.New("no answer in time"), 4}, {fmt.Errorf("status 400: %w", ErrRefused), 4}, {nil, 3}} {
		w.provider.err = c.err
		w.auth(AuthRequest{Factor: duoapi.FactorSMS})
		w.senders.Wait()
		if got := w.credits(); got != c.left {
			t.Fatalf("%v: %d credits left, want %d", c.err, got, c.left)
		}
	}
	if got := w.telephonyLog(); len(got) != 3 {
		t.Fatalf("telephony log %q", got)
	}
}

// TestSMSBatch: of the codes in one message each works once and in any order, preauth
// names the digit that the next one begins with, and another message voids the rest.
func TestSMSBatch(t *testing.T) {
	w := newWorld(t)
	w.setCredits(store.Uncounted, func(s *store.Settings) { s.SMSBatch, s.LockoutThreshold = 4, 1000 })
	next := func() string {
		pre := w.preauth(PreauthRequest{Username: "alice", TextPrompt: true})
		digit := pre.Devices[0].SMSNextCode
		if digit != "" && !strings.Contains(pre.Prompt.Text, "(next code starts with: "+digit+")") {
			t.Fatalf("menu %q", pre.Prompt.Text)
		}
		return digit
	}
	send := func() []string {
		w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "sent")
		codes := strings.Fields(strings.TrimPrefix(w.provider.texts[len(w.provider.texts)-1].Text, "Login codes: "))
		if len(codes) != 4 {
			t.Fatalf("codes %q", codes)
		}
		for i, c := range codes {
			if len(c) != factor.SMSDigits || c[0] != '0'+(codes[0][0]-'0'+byte(i))%10 {
				t.Fatalf("codes %q", codes)
			}
		}
		return codes
	}
	if got := next(); got != "" {
		t.Fatalf("next code %q before any was sent", got)
	}
	first := send()
	for i, use := range []int{0, 2, 1} {
		w.want(w.pass(first[use]), "allow", "allow")
		w.want(w.pass(first[use]), "deny", "deny")
		if got, want := next(), first[[]int{1, 1, 3}[i]][:1]; got != want {
			t.Fatalf("after code %d: next begins with %q, want %q", use, got, want)
		}
	}
	second := send()
	w.want(w.pass(first[3]), "deny", "deny")
	w.want(w.pass(second[0]), "allow", "allow")
	w.clock.Add(10 * time.Minute)
	w.want(w.pass(second[1]), "deny", "deny")
	if got := next(); got != "" {
		t.Fatalf("next code %q after they expired", got)
	}
}
