// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/verification"
)

// Pending implements API.
func (s *Service) Pending(ctx context.Context, phoneID string, wait time.Duration) ([]PendingPush, error) {
	var giveUp <-chan time.Time
	if wait > 0 {
		giveUp = s.After(wait)
	}
	for {
		woken, stop := s.Hub.Wait(push.Phone(phoneID))
		list, err := s.pendingOf(ctx, phoneID)
		if err != nil || len(list) > 0 || wait <= 0 {
			stop()
			return list, err
		}
		select {
		case <-woken:
		case <-giveUp:
			wait = 0
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		}
		stop()
	}
}

func (s *Service) pendingOf(ctx context.Context, phoneID string) (out []PendingPush, err error) {
	err = s.Store.View(ctx, func(r store.Reader) error {
		out, err = PendingOf(r, phoneID, s.Now())
		return err
	})
	return out, err
}

// PendingOf lists the pushes that wait for a phone, oldest first.
func PendingOf(r store.Reader, phoneID string, now time.Time) ([]PendingPush, error) {
	list, err := r.PhoneTransactions(phoneID, now)
	if err != nil {
		return nil, fmt.Errorf("list pending pushes: %w", err)
	}
	out := make([]PendingPush, 0, len(list))
	for _, tx := range list {
		out = append(out, PendingPush{
			TxID: tx.TxID, Context: tx.Context, Verified: len(tx.CodeHash) > 0, Created: tx.Created, Expires: tx.Expires,
		})
	}
	return out, nil
}

// Answer implements API.
func (s *Service) Answer(ctx context.Context, phoneID, txID string, sent agentapi.SignedAnswer) (Answer, error) {
	answer, err := s.answer(ctx, phoneID, txID, sent)
	if reason := refusedFor(answer, err); reason != "" {
		s.noteRefusal(ctx, phoneID, txID, reason)
	}
	return answer, err
}

func (s *Service) answer(ctx context.Context, phoneID, txID string, sent agentapi.SignedAnswer) (Answer, error) {
	var a asked
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		a, err = readAsked(r, phoneID, txID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && (a.tx.PhoneID != phoneID || a.tx.Factor != duoapi.FactorPush || a.tx.State == store.TxOffered) {
		return Answer{}, duoapi.NewError(duoapi.CodeTxUnknown, "")
	}
	if err != nil {
		return Answer{}, fmt.Errorf("answer: %w", err)
	}
	answer, err := factor.OpenAnswer(a.phone, a.tx, s.Audience, sent.Answer, s.Now())
	if err != nil {
		return Answer{}, misfit(err)
	}
	// The key that was checked is the one that the transaction started with;
	// the deciding statement repeats that it still is.
	if a.phone.Generation != a.tx.Generation {
		return Answer{}, duoapi.NewError(duoapi.CodeTxAnswer, "the authenticator was activated anew after the request")
	}
	if err := Over(a.tx, s.Now()); err != nil {
		return Answer{}, err
	}
	switch answer.Decision {
	case Approve:
		proof, err := s.verifyPerson(a, sent)
		if err != nil {
			return Answer{}, err
		}
		if len(a.tx.CodeHash) > 0 {
			return s.approveDigits(ctx, a, proof, answer.Digits)
		}
		return s.answered(ctx, a, proof, store.Decision{State: store.TxApproved, Status: "allow", StatusMsg: msgAllow}, audit.Success, audit.UserApproved)
	case Fraud:
		return s.answered(ctx, a, personProof{}, store.Decision{State: store.TxFraud, Status: "fraud", StatusMsg: msgFraud}, audit.Fraud, audit.UserMarkedFraud)
	default:
		return s.answered(ctx, a, personProof{}, store.Decision{State: store.TxDenied, Status: "deny", StatusMsg: msgDenied}, audit.Denied, audit.UserMistake)
	}
}

// asked is a push and what its answer is checked against.
type asked struct {
	tx         store.Transaction
	phone      store.Phone
	credential store.UserVerification // zero: the phone has none
	settings   store.Settings
}

func readAsked(r store.Reader, phoneID, txID string) (a asked, err error) {
	if a.tx, err = r.Transaction(txID); err != nil {
		return a, err
	}
	if a.phone, err = r.Phone(phoneID); err != nil {
		return a, err
	}
	if a.phone.Verification != "" {
		if a.credential, err = r.UserVerification(phoneID); err != nil {
			return a, err
		}
	}
	a.settings, err = r.Settings()
	return a, err
}

// misfit is the refusal of an answer that is not one to the request.
func misfit(err error) error {
	for is, code := range map[error]int{
		factor.ErrAnswerSignature: duoapi.CodeAnswerSignature, factor.ErrAnswerTransaction: duoapi.CodeAnswerTransaction,
		factor.ErrAnswerContext: duoapi.CodeAnswerContext, factor.ErrAnswerAudience: duoapi.CodeAnswerAudience,
		factor.ErrAnswerTime: duoapi.CodeAnswerTime,
	} {
		if errors.Is(err, is) {
			return duoapi.NewError(code, "")
		}
	}
	return duoapi.NewError(duoapi.CodeTxAnswer, err.Error())
}

// personProof is how the person was verified who answers: by an assertion, which
// counts with the decision; zero: not at all.
type personProof struct{ assertion verification.Assertion }

// verifyPerson checks the assertion of an approval, which a phone with user
// verification must send along. One that is not needed is not looked at.
func (s *Service) verifyPerson(a asked, sent agentapi.SignedAnswer) (personProof, error) {
	switch {
	case a.phone.Verification == "":
		return personProof{}, nil
	case verification.Missing(sent.Verification):
		return personProof{}, duoapi.NewError(duoapi.CodeVerificationNone, "")
	}
	assertion, err := verification.PartyOf(s.Audience).Check(a.credential, sent.Verification, agentapi.AnswerChallenge(sent.Answer))
	if err != nil {
		return personProof{}, duoapi.NewError(duoapi.CodeVerificationWrong, err.Error())
	}
	return personProof{assertion}, nil
}

// count counts the assertion, in the update of the decision.
func (p personProof) count(w store.Writer) error {
	if p == (personProof{}) {
		return nil
	}
	won, err := p.assertion.Count(w)
	if err == nil && !won {
		err = duoapi.NewError(duoapi.CodeVerificationWrong, "the credential was removed, or its count has gone back")
	}
	return err
}

// Over says, as a *duoapi.Error, why a transaction cannot be answered any more; nil:
// it can.
func Over(tx store.Transaction, now time.Time) error {
	switch {
	case tx.State == store.TxExpired, tx.State == store.TxPending && !now.Before(tx.Expires):
		return duoapi.NewError(duoapi.CodeTxExpired, "")
	case tx.State == store.TxCancelled:
		return duoapi.NewError(duoapi.CodeTxCanceled, "")
	case tx.State != store.TxPending:
		return duoapi.NewError(duoapi.CodeTxAnswered, "")
	}
	return nil
}

// answered ends a transaction by the answer of the phone.
func (s *Service) answered(ctx context.Context, a asked, proof personProof, d store.Decision, result, reason string) (Answer, error) {
	d.TxID, d.PhoneID, d.NeedsKey, d.Verification = a.tx.TxID, a.phone.ID, true, proof.assertion.CredentialID
	var won bool
	var made ending
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		if err := proof.count(w); err != nil {
			return err
		}
		d.Now = s.Now()
		made, won, err = s.decideAnswer(w, a.tx, d, result, reason)
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("answer: %w", err)
	}
	return s.outcome(ctx, a.tx, won, made)
}

// decideAnswer is decideIn, and a fraud locks the user in the same update.
func (s *Service) decideAnswer(w store.Writer, tx store.Transaction, d store.Decision, result, reason string) (ending, bool, error) {
	made, won, err := s.decideIn(w, tx, d, result, reason)
	if won && err == nil && d.State == store.TxFraud {
		if _, err = w.LockUser(tx.UserID, store.LockoutFraud, d.Now); err != nil {
			return made, won, err
		}
		err = s.alarm(w, audit.UserFraudReport, tx.UserID, map[string]any{
			"txid": tx.TxID, "factor": tx.Factor, "integration_key": tx.IntegrationKey, "phone_id": tx.PhoneID,
		})
		if err == nil {
			err = notice.Tell(s.Notices, w, tx.UserID, notice.LockedAfterFraud, nil)
		}
	}
	return made, won, err
}

// alarm writes what the verifier itself did to a user into the administrator log.
func (s *Service) alarm(w store.Writer, action, userID string, description map[string]any) error {
	u, err := w.User(userID)
	if err != nil {
		return err
	}
	description["user_id"] = userID
	return audit.System(w, s.Now(), action, u.Username, description)
}

// outcome reports to the phone what became of its answer.
func (s *Service) outcome(ctx context.Context, tx store.Transaction, won bool, made ending) (Answer, error) {
	if won {
		s.ended(tx, made)
		if made.state == store.TxFraud {
			s.Log.Warn("login request reported as fraud, user locked", "txid", tx.TxID, "user_id", tx.UserID, "factor", tx.Factor)
		}
		return Answer{State: made.state}, nil
	}
	tx, err := s.reread(ctx, tx)
	if err != nil {
		return Answer{}, err
	}
	if err := Over(tx, s.Now()); err != nil {
		return Answer{}, err
	}
	return Answer{}, duoapi.NewError(duoapi.CodeTxAnswer, "the user or the authenticator was changed after the request")
}

// failAttempt ends a failed attempt, says whether it locked the user, and tells the
// administrators if so.
func (s *Service) failAttempt(w store.Writer, userID string, p person, txID string, now time.Time) (bool, error) {
	locked, err := w.FailAttempt(userID, p.attempts(), now)
	if err != nil || !locked {
		return false, err
	}
	return true, s.alarm(w, audit.UserLockout, userID, map[string]any{"txid": txID, "reason": store.LockoutFailures})
}

// approveDigits is an approval with the digits of a verified push. The try is
// counted before the digits are compared; the last wrong one ends the
// transaction and counts as a failed attempt of the user.
func (s *Service) approveDigits(ctx context.Context, a asked, proof personProof, digits string) (Answer, error) {
	tx := a.tx
	if digits == "" {
		return Answer{}, duoapi.NewError(duoapi.CodeTxDigitsMissing, "")
	}
	right := factor.DigitsMatch(s.Keys, tx, digits)
	p := person{settings: a.settings}
	d := store.Decision{TxID: tx.TxID, PhoneID: a.phone.ID, NeedsKey: true, Verification: proof.assertion.CredentialID}
	result, reason := audit.Success, audit.UserApproved
	d.State, d.Status, d.StatusMsg = store.TxApproved, "allow", msgAllow
	if !right {
		result, reason = audit.Denied, audit.InvalidPasscode
		d.State, d.Status, d.StatusMsg = store.TxDenied, "deny", msgWrongDigits
	}
	var (
		tries   int
		counted bool
		won     bool
		made    ending
	)
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		d.Now, won = s.Now(), false
		if err := proof.count(w); err != nil {
			return err
		}
		if tries, counted, err = w.TryDigits(tx.TxID, factor.MaxTries, d.Now); err != nil || !counted {
			return err
		}
		if !right && tries < factor.MaxTries {
			return nil
		}
		if !right {
			made := p.attempts()
			made.Made = true
			if _, err := w.BeginAttempt(tx.UserID, made, d.Now); err != nil {
				return err
			}
			if _, err := s.failAttempt(w, tx.UserID, p, tx.TxID, d.Now); err != nil {
				return err
			}
		}
		made, won, err = s.decideIn(w, tx, d, result, reason)
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("answer: %w", err)
	}
	if counted && !right && tries < factor.MaxTries {
		return Answer{State: store.TxPending, TriesLeft: factor.MaxTries - tries}, nil
	}
	out, err := s.outcome(ctx, tx, won, made)
	if err == nil && !right {
		return Answer{}, duoapi.NewError(duoapi.CodeTxDigits, "the login was denied")
	}
	return out, err
}
