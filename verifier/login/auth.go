// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// attempt is one call of Auth.
type attempt struct {
	person
	request AuthRequest
	factor  string // of the call, resolved: passcode, push, phone or sms
	code    string // normalised passcode
	phone   store.Phone
	event   store.Event
	matches []factor.Match
	waits   *progress // of the transaction that a synchronous caller waits for
}

// Auth implements API.
func (s *Service) Auth(ctx context.Context, c Client, r AuthRequest) (duoapi.Auth, error) {
	var waits progress
	out, err := s.begin(ctx, c, r, &waits)
	if err != nil || waits.txID == "" {
		return out, err
	}
	if err := s.await(ctx, &waits); err != nil {
		return duoapi.Auth{}, fmt.Errorf("auth: wait for the answer: %w", err)
	}
	return waits.answer, nil
}

// begin does all of Auth but wait. It sets waits if there is something to wait for.
func (s *Service) begin(ctx context.Context, c Client, r AuthRequest, waits *progress) (duoapi.Auth, error) {
	a, err := s.prepare(ctx, c, r)
	if err != nil {
		return duoapi.Auth{}, fmt.Errorf("auth: %w", err)
	}
	a.waits = waits
	if v, decided := s.standing(a.person); decided {
		return s.end(ctx, a, v)
	}
	if a.factor == duoapi.FactorPasscode {
		if a.code == "" { // no guess, so no attempt
			return s.end(ctx, a, deny("deny", msgIncorrect, audit.InvalidPasscode, person{}))
		}
		return s.passcode(ctx, a)
	}
	phone, v, ok, err := s.choose(&a)
	if err != nil {
		return duoapi.Auth{}, err
	}
	if !ok {
		return s.end(ctx, a, v)
	}
	a.phone, a.event.AuthDevice = phone, phoneDevice(phone)
	switch a.factor {
	case duoapi.FactorPush:
		return s.push(ctx, a)
	case duoapi.FactorPhone:
		return s.call(ctx, a)
	default:
		return s.sms(ctx, a)
	}
}

// prepare reads everything that the decision is prepared from.
func (s *Service) prepare(ctx context.Context, c Client, r AuthRequest) (attempt, error) {
	a := attempt{request: r}
	if err := a.resolve(); err != nil {
		return a, err
	}
	txID, err := s.newTxID()
	if err != nil {
		return a, err
	}
	err = s.Store.View(ctx, func(rd store.Reader) (err error) {
		if a.person, err = s.lookUp(rd, c, r.Username, r.UserID, origin{ip: r.IPAddr, device: r.DeviceID}); err != nil {
			return err
		}
		if a.factor == duoapi.FactorPasscode { // also for a name that nobody has: see lookUp
			h := factor.Holder{Reader: rd, Keys: s.Keys, User: a.user, Tokens: a.tokens}
			a.matches, err = factor.Find(h, a.code, s.Now())
		}
		return err
	})
	a.event = event(txID, a.person, r.IPAddr, r.Hostname)
	return a, err
}

// choice is what people type at a menu instead of a passcode.
var choice = regexp.MustCompile(`^(?i)(push|phone|sms)([1-9][0-9]?)?$`)

// resolve makes the factor of the call one that can be dispatched on.
func (a *attempt) resolve() error {
	r := &a.request
	a.factor = r.Factor
	switch r.Factor {
	case duoapi.FactorPrompt:
		typed := strings.TrimSpace(r.Prompt)
		if m := choice.FindStringSubmatch(typed); m != nil {
			a.factor, r.Device = strings.ToLower(m[1]), m[2]
		} else if strings.EqualFold(typed, duoapi.FactorAuto) {
			a.factor, r.Device = duoapi.FactorAuto, ""
		} else {
			a.factor, r.Passcode = duoapi.FactorPasscode, typed
		}
	case duoapi.FactorPasscode:
		if r.Device != "" {
			return duoapi.NewError(duoapi.CodeInvalidParameter, "device: not with factor passcode")
		}
	case duoapi.FactorAuto, duoapi.FactorPush, duoapi.FactorPhone, duoapi.FactorSMS:
	default:
		return duoapi.NewError(duoapi.CodeInvalidParameter, "factor: one of auto, push, passcode, sms, phone, prompt")
	}
	a.code = factor.Normalise(r.Passcode)
	return nil
}

// logName is the factor's name in the authentication log.
func (a *attempt) logName() string {
	switch a.factor {
	case duoapi.FactorPush:
		return factor.Push{}.Name()
	case duoapi.FactorPhone:
		return factor.Phone{}.Name()
	case duoapi.FactorSMS:
		return audit.SMSRefresh
	case duoapi.FactorPasscode:
		return "passcode"
	}
	return audit.NotAvailable
}

// pushAllowed reports whether the attempt may push: with the digits of an
// offer, or plainly where the integration and policy allow it.
func (a *attempt) pushAllowed() bool { return a.mayPush(a.request.TxID != "") }

// choose finds the phone to reach, and for auto the factor: push before a
// call. Without one the verdict says why.
func (s *Service) choose(a *attempt) (store.Phone, verdict, bool, error) {
	candidates := a.phones
	if device := a.request.Device; device != "" && device != duoapi.FactorAuto {
		p, ok := pick(a.phones, device)
		if !ok {
			return store.Phone{}, verdict{}, false, duoapi.NewError(duoapi.CodeInvalidParameter, "device: not one of this user's")
		}
		candidates = []store.Phone{p}
	}
	ways := []string{a.factor}
	if a.factor == duoapi.FactorAuto {
		ways = nil
		if a.pushAllowed() {
			ways = append(ways, duoapi.FactorPush)
		}
		if s.offers(a.person, duoapi.FactorPhone) {
			ways = append(ways, duoapi.FactorPhone)
		}
	}
	for _, way := range ways {
		for _, p := range candidates {
			if prompts[way].Offers(p) {
				a.factor = way
				a.event.Factor = a.logName()
				refused := s.refusedWay(a)
				return p, refused, refused == verdict{}, nil
			}
		}
	}
	message := msgNoDevice
	if a.factor == duoapi.FactorAuto {
		message = msgNothingUsable
	}
	return store.Phone{}, deny("deny", message, audit.InvalidDevice, a.person), false, nil
}

var prompts = map[string]factor.Prompt{
	duoapi.FactorPush: factor.Push{}, duoapi.FactorPhone: factor.Phone{}, duoapi.FactorSMS: factor.SMS{},
}

// refusedWay is the refusal of a factor that the person could use but that is
// not allowed here; empty if it is.
func (s *Service) refusedWay(a *attempt) verdict {
	if v, not := restricted(a.person, a.logName()); not {
		return v
	}
	switch {
	case a.factor == duoapi.FactorPush && !a.pushAllowed():
		return deny("deny", msgNoPlainPush, audit.FactorRestricted, a.person)
	case a.factor != duoapi.FactorPush && s.Telephony == nil:
		return deny("deny", msgTelephonyOff, audit.FactorRestricted, a.person)
	case a.factor != duoapi.FactorPush && !s.reaches(a.person, a.factor):
		return deny("deny", msgNoCredits, audit.FactorRestricted, a.person)
	}
	return verdict{}
}

// pick finds a phone by its id or by its position among the user's: 1, phone1, …
func pick(phones []store.Phone, device string) (store.Phone, bool) {
	for _, p := range phones {
		if p.ID == device {
			return p, true
		}
	}
	digits := strings.TrimLeft(strings.ToLower(device), "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > len(phones) {
		return store.Phone{}, false
	}
	return phones[n-1], true
}

// end answers an attempt that was decided without a pending transaction.
func (s *Service) end(ctx context.Context, a attempt, v verdict) (duoapi.Auth, error) {
	a.event.Factor = a.logName()
	if v.result == duoapi.ResultAllow { // no factor was looked at
		a.event.Factor = unaskedFactor(v.reason)
	}
	v, err := s.settle(ctx, a.person, a.event, v, a.request.Async)
	if err != nil {
		return duoapi.Auth{}, fmt.Errorf("auth: %w", err)
	}
	return a.answer(v), nil
}

// answer is the answer to the client: the verdict, or for an asynchronous call its txid.
func (a *attempt) answer(v verdict) duoapi.Auth {
	if a.request.Async {
		return duoapi.Auth{TxID: a.event.TxID}
	}
	result := v.result
	if result == duoapi.ResultEnroll { // only preauth can say so
		result = duoapi.ResultDeny
	}
	out := duoapi.Auth{Result: result, Status: v.status, StatusMsg: v.message}
	if a.request.Passport {
		out.TxID = a.event.TxID
	}
	return out
}

// passcode decides by a typed code: the attempt is counted, then the first
// match that the store grants wins, and then the attempt is given back.
func (s *Service) passcode(ctx context.Context, a attempt) (duoapi.Auth, error) {
	var (
		v verdict
		e store.Event
	)
	err := s.Store.Update(ctx, func(w store.Writer) error {
		e = a.event
		p, now := a.person, s.Now()
		unasked, decided, err := s.unasked(w, &p)
		if err != nil {
			return err
		}
		if decided {
			v, e.Factor = unasked, a.logName()
			if v.result == duoapi.ResultAllow {
				e.Factor = unaskedFactor(v.reason)
			}
			return s.conclude(w, p, e, v, a.request.Async)
		}
		e.Factor = a.logName()
		counted, err := w.BeginAttempt(a.user.ID, a.attempts(), now)
		if err != nil {
			return err
		}
		if !counted {
			v, err = s.refusedAttempt(w, a.person)
			if err != nil {
				return err
			}
			return s.conclude(w, a.person, e, v, a.request.Async)
		}
		usable, barred := sift(p, a.matches)
		m, won, err := useFirst(w, usable)
		if err != nil {
			return err
		}
		if won {
			e.Factor, e.AuthDevice = m.Factor, m.Device
			won, err = w.ForgiveAttempts(a.user.ID, now)
		}
		if won && err == nil && m.Recovery {
			err = s.tellRecovery(w, a)
		}
		if err != nil {
			return err
		}
		v = allowed(audit.ValidPasscode)
		if !won {
			v = deny("deny", msgIncorrect, audit.InvalidPasscode, person{})
			if len(barred) > 0 { // right, but of a kind that is not allowed: not spent
				v = deny("deny", msgRestrictedCode, audit.FactorRestricted, person{})
				e.Factor, e.AuthDevice = barred[0].Factor, barred[0].Device
			}
			locked, err := s.failAttempt(w, a.user.ID, a.person, e.TxID, now)
			if err != nil {
				return err
			}
			if locked {
				v = deny("locked_out", msgLockedOut, v.reason, a.person)
			}
		}
		return s.conclude(w, a.person, e, v, a.request.Async)
	})
	if err != nil {
		return duoapi.Auth{}, fmt.Errorf("auth: write the decision: %w", err)
	}
	s.logDecision(e, v)
	return a.answer(v), nil
}

// sift parts the matches into those of factors that policy allows and the others.
func sift(p person, matches []factor.Match) (usable, barred []factor.Match) {
	for _, m := range matches {
		if p.outcome.Rules.Allows(policy.MethodOf(m.Factor)) {
			usable = append(usable, m)
		} else {
			barred = append(barred, m)
		}
	}
	return usable, barred
}

// unaskedFactor is the factor in the event of a login without one.
func unaskedFactor(reason string) string {
	if reason == audit.TrustedNetwork {
		return audit.TrustedNetwork
	}
	return audit.NotAvailable
}

func allowed(reason string) verdict {
	return verdict{
		result: duoapi.ResultAllow, status: "allow", message: msgAllow, logResult: audit.Success, reason: reason,
		state: store.TxApproved,
	}
}

// tellRecovery tells the person that somebody logged in with a recovery code.
func (s *Service) tellRecovery(w store.Writer, a attempt) error {
	left, err := w.RecoveryCodesLeft(a.user.ID)
	if err != nil {
		return fmt.Errorf("count recovery codes: %w", err)
	}
	return notice.Tell(s.Notices, w, a.user.ID, notice.RecoveryCodeUsed, map[string]string{
		notice.Left: strconv.Itoa(left), notice.Application: a.client.Integration.Name, notice.Host: a.event.AccessDevice.Hostname,
		notice.Address: a.event.AccessDevice.IP,
	})
}

func useFirst(w store.Writer, matches []factor.Match) (factor.Match, bool, error) {
	for _, m := range matches {
		won, err := m.Use(w)
		if err != nil || won {
			return m, won, err
		}
	}
	return factor.Match{}, false, nil
}

// tooSoon is the answer to a code that was not looked at, because failures
// before it have not been waited for.
func tooSoon(wait time.Duration, p person) verdict {
	v := deny("deny", fmt.Sprintf(msgTooSoon, waitText(wait)), audit.LockedOut, p)
	v.detail = fmt.Sprintf("too soon after failed attempts, by %d s: not looked at and not counted", wholeSeconds(wait))
	return v
}

func wholeSeconds(wait time.Duration) int { return int((wait + time.Second - 1) / time.Second) }

// waitText is a wait as people read it.
func waitText(wait time.Duration) string {
	switch seconds := wholeSeconds(wait); {
	case seconds == 1:
		return "1 second"
	case seconds > 120:
		return fmt.Sprintf("%d minutes", (seconds+59)/60)
	default:
		return fmt.Sprintf("%d seconds", seconds)
	}
}

// refusedAttempt says why the store would not count an attempt, or grant a
// push: the user changed after the decision was prepared.
func (s *Service) refusedAttempt(w store.Writer, p person) (verdict, error) {
	changed, err := w.User(p.user.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return verdict{}, err
	}
	p.user = changed
	switch changed.Status {
	case store.LockedOut:
		return deny("locked_out", msgLockedOut, audit.LockedOut, p), nil
	case store.Disabled, store.PendingDeletion:
		return deny("deny", msgDisabled, audit.UserDisabled, p), nil
	case store.Active:
		if wait := changed.NextAttempt.Sub(s.Now()); wait > 0 {
			return tooSoon(wait, p), nil
		}
	}
	return deny("deny", msgChanged, audit.Error, p), nil
}
