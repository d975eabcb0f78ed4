// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/credits"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// maxPushInfo bounds the pairs that are shown.
const maxPushInfo = 32

// context is what an authenticator shows of the attempt.
func (a *attempt) context(txID string, created, expires time.Time) ([]byte, error) {
	r := a.request
	b, err := json.Marshal(agentapi.Context{
		Version: 1, TxID: txID, Username: a.user.Username, DisplayUsername: audit.Printable(r.DisplayUsername),
		Type: audit.Printable(r.Type), Application: audit.Printable(a.client.Integration.Name),
		Hostname: audit.Printable(r.Hostname), IPAddr: audit.Printable(r.IPAddr), PushInfo: pushInfo(r.PushInfo),
		Created: created.Unix(), Expires: expires.Unix(),
	})
	if err != nil {
		return nil, fmt.Errorf("encode the context of a push: %w", err)
	}
	return b, nil
}

// pushInfo reads url-encoded pairs. What is malformed is left out: it only
// informs, and must not keep anyone from logging in.
func pushInfo(encoded string) map[string]string {
	values, _ := url.ParseQuery(encoded) // what could be parsed is returned beside the error
	out := map[string]string{}
	for k, v := range values {
		if len(out) == maxPushInfo {
			break
		}
		out[audit.Printable(k)] = audit.Printable(strings.Join(v, ", "))
	}
	return out
}

// ask makes a pending transaction of the attempt, unless the user is not
// active any more or the budget of prompts is spent: then the attempt ends
// with the verdict. start does the store's part and may refuse too.
func (s *Service) ask(ctx context.Context, a attempt, start func(store.Writer) (bool, error), refused verdict) (verdict, bool, error) {
	var (
		v  verdict
		ok bool
	)
	err := s.Store.Update(ctx, func(w store.Writer) error {
		var err error
		if v, ok, err = s.stillAsked(w, a); err != nil {
			return err
		}
		if !ok {
			e := a.event
			if v.result == duoapi.ResultAllow {
				e.Factor = unaskedFactor(v.reason)
			}
			return s.conclude(w, a.person, e, v, a.request.Async)
		}
		now := s.Now()
		if _, err := w.UnlockExpired(a.user.ID, a.attempts().LockFor, now); err != nil {
			return err
		}
		if ok, err = w.SpendPush(a.user.ID, a.pushes(), now); err != nil {
			return err
		}
		if !ok {
			if v, err = s.refusedPush(w, a.person); err != nil {
				return err
			}
			return s.conclude(w, a.person, a.event, v, a.request.Async)
		}
		if ok, err = start(w); err != nil || ok {
			return err
		}
		v = refused
		return s.conclude(w, a.person, a.event, v, a.request.Async)
	})
	if err != nil {
		return v, false, fmt.Errorf("auth: ask: %w", err)
	}
	if !ok {
		s.logDecision(a.event, v)
	}
	return v, ok, nil
}

// stillAsked says whether the person is still asked for a factor, and may use the
// one of the attempt. False: the attempt ends with the verdict.
func (s *Service) stillAsked(w store.Writer, a attempt) (verdict, bool, error) {
	p := a.person
	v, decided, err := s.unasked(w, &p)
	if err != nil || decided {
		return v, false, err
	}
	v, not := restricted(p, a.logName())
	if !not && a.factor == duoapi.FactorPush && !p.mayPush(a.request.TxID != "") {
		v, not = deny("deny", msgNoPlainPush, audit.FactorRestricted, p), true
	}
	return v, !not, nil
}

// refusedPush says why no prompt was granted: another status, a spent budget, or
// the pause after the prompts before it.
func (s *Service) refusedPush(w store.Writer, p person) (verdict, error) {
	u, err := w.User(p.user.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return verdict{}, err
	}
	if u.Status == store.Active {
		return tooManyPushes(u, p, s.Now()), nil
	}
	return s.refusedAttempt(w, p)
}

// tooManyPushes is the refusal of a prompt to u, who is sent no more for a while.
func tooManyPushes(u store.User, p person, now time.Time) verdict {
	wait, why := u.NextPush.Sub(now), "the pause after %d prompts without a success"
	if end := u.PushesSince.Add(pushWindow); now.Before(end) && u.Pushes >= p.settings.PushBudget {
		wait, why = end.Sub(now), "the budget of prompts is spent, by %d without a success"
	}
	wait = max(wait, time.Second) // whatever was in the way has just ended
	v := deny("deny", fmt.Sprintf(msgTooMany, waitText(wait)), audit.AnomalousPush, p)
	v.detail = fmt.Sprintf(why+"; the next one in %d s", u.Pushes, wholeSeconds(wait))
	return v
}

// pending is the transaction of a that waits for the phone.
func (s *Service) pending(a attempt, status, message string) (store.Transaction, error) {
	e, err := encodeEvent(a.event)
	if err != nil {
		return store.Transaction{}, err
	}
	now := s.Now()
	return store.Transaction{
		TxID: a.event.TxID, UserID: a.user.ID, IntegrationKey: a.client.Integration.Key, Factor: a.factor,
		PhoneID: a.phone.ID, Generation: a.phone.Generation, State: store.TxPending, Status: status, StatusMsg: message,
		Event: e, Created: now, Expires: now.Add(a.approvalTime()),
	}, nil
}

// push sends a request to an authenticator.
func (s *Service) push(ctx context.Context, a attempt) (duoapi.Auth, error) {
	refusedID := a.event.TxID
	var offer store.Transaction
	if a.request.TxID != "" {
		var err error
		if offer, err = s.offered(ctx, a); err != nil {
			return duoapi.Auth{}, err
		}
		a.event.TxID = a.request.TxID
	} else {
		a.event.PlainPush = true
	}
	tx, err := s.pending(a, "pushed", msgPushed)
	if err != nil {
		return duoapi.Auth{}, err
	}
	if end := offer.Created.Add(maxApproval); a.request.TxID != "" && end.Before(tx.Expires) { // digits live no longer
		tx.Expires = end
	}
	if tx.Context, err = a.context(tx.TxID, tx.Created, tx.Expires); err != nil {
		return duoapi.Auth{}, err
	}
	start := func(w store.Writer) (bool, error) { return true, w.AddTransaction(tx) }
	if a.request.TxID != "" {
		start = func(w store.Writer) (bool, error) {
			return w.StartTransaction(store.Start{
				TxID: tx.TxID, IntegrationKey: tx.IntegrationKey, UserID: tx.UserID, Factor: tx.Factor, PhoneID: tx.PhoneID,
				Generation: tx.Generation, Status: tx.Status, StatusMsg: tx.StatusMsg, Context: tx.Context, Event: tx.Event,
				Expires: tx.Expires, Now: s.Now(),
			})
		}
		// If it does not start, the offered id may be another attempt's.
		a.event.TxID = refusedID
	}
	v, ok, err := s.ask(ctx, a, start, deny("timeout", msgOfferGone, audit.NoResponse, a.person))
	if err != nil {
		return duoapi.Auth{}, err
	}
	if !ok {
		return a.answer(v), nil
	}
	s.deliver(ctx, tx)
	return a.goesOn(tx), nil
}

// offered is the transaction whose digits preauth showed. A client that names one
// which is not this user's and integration's is told. StartTransaction decides.
func (s *Service) offered(ctx context.Context, a attempt) (store.Transaction, error) {
	var tx store.Transaction
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		tx, err = r.Transaction(a.request.TxID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && (tx.UserID != a.user.ID || tx.IntegrationKey != a.client.Integration.Key) {
		return tx, duoapi.NewError(duoapi.CodeInvalidParameter, "txid: not offered to this user here")
	}
	if err != nil {
		return tx, fmt.Errorf("auth: %w", err)
	}
	return tx, nil
}

// goesOn is the answer for a transaction that waits; a synchronous caller gets the
// one at its end instead.
func (a *attempt) goesOn(tx store.Transaction) duoapi.Auth {
	if !a.request.Async {
		*a.waits = progressOf(tx)
	}
	return duoapi.Auth{TxID: tx.TxID}
}

// reaches says whether a call or an SMS can be made: telephony is on, and the
// credits pay for it. pay decides.
func (s *Service) reaches(p person, way string) bool {
	return s.Telephony != nil && credits.Offered(p.credits, p.settings, way)
}

// pay spends the credits of the call or the SMS of tx.
func (s *Service) pay(w store.Writer, a attempt, tx store.Transaction) (bool, credits.Alert, error) {
	return credits.Spend(w, a.settings, store.TelephonyEntry{
		ID: tx.TxID, Time: s.Now(), Context: store.ContextAuthentication, Type: tx.Factor, Phone: a.phone.Number,
		TxID: tx.TxID, UserID: a.user.ID,
	})
}

// call has the person's phone rung.
func (s *Service) call(ctx context.Context, a attempt) (duoapi.Auth, error) {
	tx, err := s.pending(a, "calling", msgCalling)
	if err != nil {
		return duoapi.Auth{}, err
	}
	var alert credits.Alert
	v, ok, err := s.ask(ctx, a, func(w store.Writer) (paid bool, err error) {
		if paid, alert, err = s.pay(w, a, tx); err != nil || !paid {
			return false, err
		}
		return true, w.AddTransaction(tx)
	}, deny("deny", msgNoCredits, audit.FactorRestricted, a.person))
	if err != nil {
		return duoapi.Auth{}, err
	}
	if !ok {
		return a.answer(v), nil
	}
	alert.Log(s.Log)
	c := Call{
		TxID: tx.TxID, Number: a.phone.Number, Extension: a.phone.Extension, Username: a.user.Username,
		PreDelay: a.phone.PreDelay, PostDelay: a.phone.PostDelay,
		Message: a.settings.CallMessage,
	}
	s.send(tx, func(ctx context.Context) (store.Decision, string, error) {
		err := s.Telephony.Call(ctx, c)
		if err == nil {
			return store.Decision{}, "", nil // the provider reports how it ends
		}
		return store.Decision{State: store.TxFailed, Status: "call_failed", StatusMsg: msgCallFailed}, audit.Error, err
	})
	return a.goesOn(tx), nil
}

// sms sends codes. It ends as a denial with status sent: the person comes back with a code.
func (s *Service) sms(ctx context.Context, a attempt) (duoapi.Auth, error) {
	tx, err := s.pending(a, "sending", msgSending)
	if err != nil {
		return duoapi.Auth{}, err
	}
	codes, plain, err := s.newSMSCodes(a)
	if err != nil {
		return duoapi.Auth{}, err
	}
	var alert credits.Alert
	v, ok, err := s.ask(ctx, a, func(w store.Writer) (paid bool, err error) {
		if paid, alert, err = s.pay(w, a, tx); err != nil || !paid {
			return false, err
		}
		if err := w.ReplaceSMSCodes(a.user.ID, a.phone.ID, codes); err != nil {
			return false, err
		}
		return true, w.AddTransaction(tx)
	}, deny("deny", msgNoCredits, audit.FactorRestricted, a.person))
	if err != nil {
		return duoapi.Auth{}, err
	}
	if !ok {
		return a.answer(v), nil
	}
	alert.Log(s.Log)
	m := SMS{ID: "sms_" + tx.TxID, Number: a.phone.Number, Text: smsText(a.settings, plain)}
	s.send(tx, func(ctx context.Context) (store.Decision, string, error) {
		if err := s.Telephony.SMS(ctx, m); err != nil {
			return store.Decision{State: store.TxFailed, Status: "deny", StatusMsg: msgSMSFailed}, audit.Error, err
		}
		return store.Decision{State: store.TxDenied, Status: "sent", StatusMsg: msgSent}, "", nil
	})
	return a.goesOn(tx), nil
}

func (s *Service) newSMSCodes(a attempt) (codes []store.SMSCode, plain []string, err error) {
	now := s.Now()
	expires := now.Add(time.Duration(max(a.settings.SMSExpiration, 1)) * time.Minute)
	for i := range min(max(a.settings.SMSBatch, 1), 10) {
		code, err := factor.NewSMSCode(s.Random)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 { // the codes of one message begin with digits in a row, so that one can be named
			code = string('0'+(plain[0][0]-'0'+byte(i))%10) + code[1:]
		}
		id, err := s.newTxID()
		if err != nil {
			return nil, nil, err
		}
		plain = append(plain, code)
		codes = append(codes, store.SMSCode{
			ID: id, UserID: a.user.ID, PhoneID: a.phone.ID, Hash: factor.HashSMS(s.Keys, a.user.ID, code), Created: now, Expires: expires,
			Place: i, Digit: code[:1],
		})
	}
	return codes, plain, nil
}

func smsText(set store.Settings, codes []string) string {
	text := set.SMSMessage
	if text == "" {
		text = "Login codes:"
	}
	return text + " " + strings.Join(codes, " ")
}

// send does a request to the telephony provider beside the caller, and ends
// the transaction with the decision that comes back, if there is one.
func (s *Service) send(tx store.Transaction, request func(context.Context) (store.Decision, string, error)) {
	s.senders.Add(1)
	go func() {
		defer s.senders.Done()
		ctx, cancel := context.WithTimeout(context.Background(), telephonyTime)
		defer cancel()
		d, reason, err := request(ctx)
		if errors.Is(err, ErrRefused) {
			if err := s.Store.Update(context.Background(), func(w store.Writer) error {
				_, err := w.RefundEntry(tx.TxID)
				return err
			}); err != nil {
				s.Log.Error("could not give credits back", "txid", tx.TxID, "error", err)
			}
		}
		if err != nil {
			s.Log.Error("telephony request failed", "txid", tx.TxID, "factor", tx.Factor, "error", err)
		}
		if d.State == "" {
			return
		}
		if _, err := s.decide(context.Background(), tx, d, reason); err != nil {
			s.Log.Error("could not end a transaction", "txid", tx.TxID, "error", err)
		}
	}()
}
