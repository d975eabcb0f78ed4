// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"crypto/ecdsa"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// clients is how many send the same code at once.
const clients = 64

// seed is the secret of every token here.
const seed = "12345678901234567890"

func otpCode(moving int64) string {
	out, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString([]byte(seed)), uint64(moving),
		hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		panic(err) // of a constant secret
	}
	return out
}

// users of a round, one for each kind of code, so that nobody's failures, delays
// and budgets meet another kind's.
type round struct {
	*site
	id  string
	now time.Time
	key *ecdsa.PrivateKey // of every phone
}

func (r round) user(kind string) string { return "DU" + kind + r.id }

func (r round) person(w store.Writer, kind string) error {
	return w.AddUser(store.User{ID: r.user(kind), Username: kind + r.id, Status: store.Active, Created: r.now})
}

func (r round) token(w store.Writer, kind string, typ store.TokenType) error {
	id := "DH" + kind + r.id
	return errors.Join(r.person(w, kind), w.AddToken(store.Token{
		ID: id, Type: typ, Serial: id, SecretSealed: factor.SealToken(r.data.Keys, id, []byte(seed)), LastStep: -1, Step: 30, Created: r.now,
	}), w.AttachToken(r.user(kind), id))
}

// phone gives the person a phone that is an authenticator.
func (r round) phone(w store.Writer, kind, public string) error {
	id := "DP" + kind + r.id
	p := store.Phone{ID: id, Type: "mobile", PublicKey: public, Generation: 1, Created: r.now}
	return errors.Join(r.person(w, kind), w.AddPhone(p), w.AttachPhone(r.user(kind), id))
}

const (
	bypassCode = "123456789"
	smsCode    = "1234567"
)

func (r round) populate(bypassUses int) {
	r.Helper()
	public, err := keyproof.EncodeKey(&r.key.PublicKey)
	r.must(err)
	r.must(r.data.Store.Update(context.Background(), func(w store.Writer) error {
		return errors.Join(
			r.token(w, "totp", store.TOTP6),
			r.token(w, "hotp", store.HOTP6),
			r.person(w, "bypass"),
			w.AddBypassCode(store.BypassCode{
				ID: "DB" + r.id, UserID: r.user("bypass"), Hash: factor.HashBypass(r.data.Keys, r.user("bypass"), bypassCode),
				UsesLeft: bypassUses, Created: r.now,
			}),
			r.phone(w, "sms", public),
			w.ReplaceSMSCodes(r.user("sms"), "DPsms"+r.id, []store.SMSCode{{
				ID: "SC" + r.id, Hash: factor.HashSMS(r.data.Keys, r.user("sms"), smsCode), Created: r.now, Expires: r.now.Add(time.Minute),
			}}),
			r.phone(w, "push", public))
	}))
}

// passcode logs in and says whether the code was accepted. Anything but a yes and
// a no is a failure of the test.
func (r round) passcode(kind, passcode string) bool {
	var out duoapi.Auth
	_, err := r.auth.Call(context.Background(), http.MethodPost, "/auth/v2/auth", url.Values{
		"user_id": {r.user(kind)}, "factor": {duoapi.FactorPasscode}, "passcode": {passcode},
	}, &out)
	if err != nil || out.Result != duoapi.ResultAllow && out.Result != duoapi.ResultDeny {
		r.Errorf("%s: %+v, %v", kind, out, err)
	}
	return out.Result == duoapi.ResultAllow
}

// push starts a push and returns its txid and the phone's signed approval.
func (r round) push() (txID, answer string) {
	r.Helper()
	var out duoapi.Auth
	_, err := r.auth.Call(context.Background(), http.MethodPost, "/auth/v2/auth", url.Values{
		"user_id": {r.user("push")}, "factor": {duoapi.FactorPush}, "device": {"DPpush" + r.id}, "async": {"1"},
	}, &out)
	r.must(err)
	var tx store.Transaction
	r.must(r.data.Store.View(context.Background(), func(rd store.Reader) (err error) {
		tx, err = rd.Transaction(out.TxID)
		return err
	}))
	payload, err := json.Marshal(agentapi.Answer{
		Version: 1, Audience: r.base.String(), TxID: out.TxID, Context: keyproof.HashBody(tx.Context),
		Decision: agentapi.Approve, IssuedAt: r.now.Unix(),
	})
	r.must(err)
	jws, err := keyproof.Sign(r.key, payload)
	r.must(err)
	body, err := json.Marshal(map[string]string{"answer": jws})
	r.must(err)
	return out.TxID, string(body)
}

// approve sends the phone's answer and says whether it decided.
func (r round) approve(txID, answer string) bool {
	u := *r.base
	u.Path = "/sallyport/v1/authenticator/transactions/" + txID
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, u.String(), strings.NewReader(answer))
	if err == nil {
		err = keyproof.SetHeader(req, []byte(answer), r.key, "DPpush"+r.id, r.base.String(), r.now)
	}
	if err != nil {
		r.Error(err)
		return false
	}
	res, err := direct{r.srv}.RoundTrip(req)
	if err == nil {
		defer res.Body.Close()
		_, err = duoapi.ReadAnswer(res, nil)
	}
	if c := code(err); c != 0 && c != duoapi.CodeTxAnswered {
		r.Errorf("push: %v", err)
	}
	return err == nil
}

// assertAllowed asserts that the client of a push is told of its approval.
func (r round) assertAllowed(txID string) {
	r.Helper()
	var out duoapi.Auth
	_, err := r.auth.Call(context.Background(), http.MethodGet, "/auth/v2/auth_status", url.Values{"txid": {txID}}, &out)
	if err != nil || out.Result != duoapi.ResultAllow {
		r.Errorf("status of an approved push: %+v, %v", out, err)
	}
}

// race is one code, or a row of them, and those who send it.
type race struct {
	what  string
	model porcupine.Model
	wins  int                // how many uses must be accepted; -1: as many as the model allows
	pick  func() int64       // which code of the row a client sends
	send  func(n int64) bool // sends it
	after func()             // what is asserted at the end; may be nil
	h     *history
}

// run lets n clients of each race send at the same moment.
func run(n int, races []race) {
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range races {
		r := &races[i]
		r.h = newHistory()
		for client := range n {
			ready.Add(1)
			done.Go(func() {
				number := r.pick()
				ready.Done()
				<-begin
				r.h.record(client, number, func() bool { return r.send(number) })
			})
		}
	}
	ready.Wait()
	close(begin)
	done.Wait()
}

func always(n int64) func() int64 { return func() int64 { return n } }

func between(low, high int64) func() int64 {
	return func() int64 { return low + rand.Int64N(high-low+1) }
}

// sameCodes are 64 clients with one code of each kind.
func (r round) sameCodes() []race {
	step := r.now.Unix() / 30
	txID, answer := r.push()
	return []race{
		{what: "TOTP", model: watermark(step), wins: 1, pick: always(step), send: func(n int64) bool { return r.passcode("totp", otpCode(n)) }},
		{what: "HOTP", model: watermark(0), wins: 1, pick: always(0), send: func(n int64) bool { return r.passcode("hotp", otpCode(n)) }},
		{what: "bypass code", model: uses(1), wins: 1, pick: always(0), send: func(int64) bool { return r.passcode("bypass", bypassCode) }},
		{what: "SMS code", model: uses(1), wins: 1, pick: always(0), send: func(int64) bool { return r.passcode("sms", smsCode) }},
		{
			what: "push answer", model: uses(1), wins: 1, pick: always(0), send: func(int64) bool { return r.approve(txID, answer) },
			after: func() { r.assertAllowed(txID) },
		},
	}
}

// rowsOfCodes are clients with codes of which several are good at first.
func (r round) rowsOfCodes() []race {
	step := r.now.Unix() / 30
	return []race{
		{what: "TOTP of three steps", model: watermark(step - 1), wins: -1, pick: between(step-1, step+1), send: func(n int64) bool { return r.passcode("totp", otpCode(n)) }},
		{what: "HOTP of four counters", model: watermark(0), wins: -1, pick: between(0, 3), send: func(n int64) bool { return r.passcode("hotp", otpCode(n)) }},
		{what: "bypass code for five uses", model: uses(5), wins: 5, pick: always(0), send: func(int64) bool { return r.passcode("bypass", bypassCode) }},
	}
}

func newRound(s *site, c *clock, key *ecdsa.PrivateKey, n int) round {
	// Past every window of time, so that no round is held against the next.
	c.Add(2 * time.Hour)
	return round{site: s, id: fmt.Sprintf("%07d", n), now: c.Now(), key: key}
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)} }

// TestReplay: of 64 clients who send the same code, or the same answer to a push,
// at once, exactly one is let in, each round; and the whole history is one that a
// single verifier that answers one after another could have.
func TestReplay(t *testing.T) {
	c := newClock()
	s := newSite(t, c.Now, nil)
	key, err := keyproof.GenerateKey()
	s.must(err)
	for n := range *rounds {
		r := newRound(s, c, key, n)
		r.populate(1)
		races := r.sameCodes()
		run(clients, races)
		for _, race := range races {
			race.h.check(t, fmt.Sprintf("round %d, %s", n, race.what), race.model)
			if won := race.h.accepted(); won != race.wins {
				t.Errorf("round %d, %s: %d of %d clients were let in, want %d", n, race.what, won, clients, race.wins)
			}
			if race.after != nil {
				race.after()
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestCodesInARow: the same where several codes of a token are good at first, and
// with a code for several uses.
func TestCodesInARow(t *testing.T) {
	c := newClock()
	s := newSite(t, c.Now, nil)
	key, err := keyproof.GenerateKey()
	s.must(err)
	for n := range max(*rounds/5, 1) {
		r := newRound(s, c, key, n)
		r.populate(5)
		races := r.rowsOfCodes()
		run(16, races)
		for _, race := range races {
			race.h.check(t, fmt.Sprintf("round %d, %s", n, race.what), race.model)
			if won := race.h.accepted(); race.wins >= 0 && won != race.wins {
				t.Errorf("round %d, %s: %d were let in, want %d", n, race.what, won, race.wins)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}
