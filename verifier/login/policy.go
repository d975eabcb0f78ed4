// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Endpoints knows which devices are managed.
type Endpoints interface {
	// Trust says whether the device that names itself so is managed. It must not
	// call the store but through r, and is asked for names that nobody has too.
	Trust(r store.Reader, q EndpointQuery) (policy.Trust, error)
}

// EndpointQuery is a device of which it is asked whether it is managed.
type EndpointQuery struct {
	Integration store.Integration
	User        store.User // without ID: nobody has that name
	DeviceID    string     // as the client says; empty: it says nothing
}

// origin is where somebody logs in from, as the client says.
type origin struct {
	ip, device string
	// judged says that trust is known: for a push that of its beginning.
	judged bool
	trust  policy.Trust
}

// evaluate says what statuses, groups and policies come to for p. version is that
// of the snapshot that p was read from.
func (s *Service) evaluate(r store.Reader, p *person, version int64) error {
	applied, err := r.AppliedPolicies(p.client.Integration.Key)
	if err != nil {
		return err
	}
	p.version = version
	if applied.Version != version { // newer than groups and memberships: nothing that could be held
		p.version = 0
	}
	p.endpoint = p.origin.trust
	if s.Endpoints != nil && !p.origin.judged {
		p.endpoint, err = s.Endpoints.Trust(r, EndpointQuery{p.client.Integration, p.user, p.origin.device})
		if err != nil {
			return fmt.Errorf("find out whether a device is managed: %w", err)
		}
	}
	p.outcome, err = policy.Evaluate(s.subject(*p, applied))
	if err != nil {
		return fmt.Errorf("evaluate the policies: %w", err)
	}
	return nil
}

func (s *Service) subject(p person, applied store.AppliedPolicies) policy.Subject {
	return policy.Subject{
		User: p.user, Groups: p.groups, Integration: p.client.Integration, Settings: p.settings, Applied: applied,
		Enrolled: s.enrolled(p), Locked: p.user.Status == store.LockedOut && !s.lockExpired(p), IP: p.origin.ip, Endpoint: p.endpoint,
	}
}

// hold keeps the policies as they are until the update ends. If they are others
// than those that p was evaluated by, p is read and evaluated anew.
func (s *Service) hold(w store.Writer, p *person) error {
	version, err := w.HoldPolicies()
	if err != nil || version == p.version {
		return err
	}
	return s.again(w, p)
}

// again reads and evaluates anew. The caller holds the policies.
func (s *Service) again(w store.Writer, p *person) error {
	var err error
	c := p.client
	if c.Integration, err = w.Integration(c.Integration.Key); errors.Is(err, store.ErrNotFound) {
		p.outcome = policy.Outcome{Effect: policy.Deny, Reason: audit.Error, Because: "application"}
		return nil
	}
	if err != nil {
		return err
	}
	name, id := p.name, p.user.ID
	if id != "" {
		name = "" // the same person, whatever they are called now
	}
	fresh, err := s.lookUp(w, c, name, id, p.origin)
	if err != nil {
		return err
	}
	fresh.name, fresh.remember = p.name, p.remember
	*p = fresh
	return nil
}

// standing is what was decided without a factor. False: a factor is needed.
func (s *Service) standing(p person) (verdict, bool) {
	o := p.outcome
	if o.Effect == policy.Ask {
		return verdict{}, false
	}
	message := messageOf(o)
	switch o.Effect {
	case policy.Allow:
		return verdict{
			result: duoapi.ResultAllow, status: "bypass", message: message, logResult: audit.Success, reason: o.Reason,
			state: store.TxApproved,
		}, true
	case policy.Enroll:
		v := deny("deny", message, o.Reason, p)
		v.result, v.message = duoapi.ResultEnroll, message
		return v, true
	}
	status := "deny"
	if o.Reason == audit.LockedOut {
		status = "locked_out"
	}
	return deny(status, message, o.Reason, p), true
}

// unasked is standing, made sure of inside an update: the policies are held, and
// who is let in still has the status that it rests on. False: a factor is needed.
func (s *Service) unasked(w store.Writer, p *person) (verdict, bool, error) {
	if err := s.hold(w, p); err != nil {
		return verdict{}, false, err
	}
	v, decided := s.standing(*p)
	if !decided || v.result != duoapi.ResultAllow || !p.known() {
		return v, decided, nil
	}
	now := s.Now()
	note := w.NoteUnasked
	if p.outcome.Reason == audit.BypassUser && p.outcome.Because == "user" {
		note = w.NoteBypass
	} else if _, err := w.UnlockExpired(p.user.ID, p.attempts().LockFor, now); err != nil {
		return v, false, err
	}
	ok, err := note(p.user.ID, now)
	if err == nil && !ok {
		v = deny("deny", msgChanged, audit.Error, *p)
	}
	return v, true, err
}

// settle writes what was decided without a pending transaction. Who is let in
// without a factor is so only if that still holds when it is written.
func (s *Service) settle(ctx context.Context, p person, e store.Event, v verdict, async bool) (verdict, error) {
	var out verdict
	err := s.Store.Update(ctx, func(w store.Writer) error {
		out = v
		if v.result == duoapi.ResultAllow {
			now := p
			made, decided, err := s.unasked(w, &now)
			if err != nil {
				return err
			}
			if out = made; !decided { // by now a factor is asked for
				out = deny("deny", msgChanged, audit.Error, p)
			}
		}
		return s.conclude(w, p, e, out, async)
	})
	if err != nil {
		return verdict{}, fmt.Errorf("write the decision: %w", err)
	}
	s.logDecision(e, out)
	return out, nil
}

// restricted is the refusal of a way that policy does not allow here; false: it does.
func restricted(p person, factorName string) (verdict, bool) {
	if p.outcome.Rules.Allows(policy.MethodOf(factorName)) {
		return verdict{}, false
	}
	return deny("deny", msgRestricted, audit.FactorRestricted, p), true
}

// offers says whether a way by telephone reaches the person and policy allows it.
func (s *Service) offers(p person, way string) bool {
	return s.reaches(p, way) && p.outcome.Rules.Allows(policy.MethodOf(prompts[way].Name()))
}

// mayPush says whether a push may go to the person: with digits, or plainly.
func (p person) mayPush(digits bool) bool {
	rules := p.outcome.Rules
	return rules.Allows(policy.MethodPush) && (digits || p.client.Integration.AllowPlainPush && !rules.RequireVerifiedPush)
}

// trustOf is what an event says of the device that somebody logs in from.
func trustOf(e store.Event) policy.Trust {
	if e.TrustedEndpointStatus == untold {
		return policy.TrustUnknown
	}
	return policy.Trust(e.TrustedEndpointStatus)
}

// untold is TrustUnknown in an event.
const untold = "unknown"

// recheck evaluates anew what a transaction is about to be approved for. True: it
// is denied, with that verdict.
func (s *Service) recheck(w store.Writer, tx store.Transaction) (verdict, bool, error) {
	if _, err := w.HoldPolicies(); err != nil {
		return verdict{}, false, err
	}
	e, err := eventOf(tx)
	if err != nil {
		return verdict{}, false, err
	}
	p := person{
		client: Client{Integration: store.Integration{Key: tx.IntegrationKey}}, user: store.User{ID: tx.UserID},
		origin: origin{ip: e.AccessDevice.IP, judged: true, trust: trustOf(e)},
	}
	if err := s.again(w, &p); err != nil {
		return verdict{}, false, err
	}
	switch {
	case p.outcome.Because == "user": // the deciding statement has the user's status as a premise
		return verdict{}, false, nil
	case p.outcome.Effect == policy.Allow: // the push goes on as it was
		return verdict{}, false, nil
	case p.outcome.Effect == policy.Ask:
		if v, not := restricted(p, e.Factor); not {
			return v, true, nil
		}
		if tx.Factor == duoapi.FactorPush && !p.mayPush(len(tx.CodeHash) > 0) {
			return deny("deny", msgNoPlainPush, audit.FactorRestricted, p), true, nil
		}
		return verdict{}, false, nil
	}
	v, _ := s.standing(p)
	v.result = duoapi.ResultDeny
	return v, true, nil
}

// Permitted says whether the person may do without a factor what a factor was given
// for before, by the policies as they are, which it holds until the update ends. The
// factor is one of the log. Nothing is known of where the person is.
func (s *Service) Permitted(w store.Writer, i store.Integration, userID, factorName string) (bool, error) {
	if _, err := w.HoldPolicies(); err != nil {
		return false, err
	}
	p, err := s.lookUp(w, Client{Integration: i}, "", userID, origin{})
	if err != nil {
		return false, err
	}
	switch p.outcome.Effect {
	case policy.Allow:
		return true, nil
	case policy.Ask:
		return p.outcome.Rules.RememberHosts && p.outcome.Rules.Allows(policy.MethodOf(factorName)), nil
	}
	return false, nil
}
