// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// What the authenticator shows as the kind of the request, and how many digits a person types there.
const (
	verificationType   = "Identity verification"
	verificationDigits = 6
)

// VerificationResult is what became of a verification push.
type VerificationResult string

// The results of a verification push.
const (
	VerificationWaiting VerificationResult = "waiting"
	VerificationApprove VerificationResult = "approve"
	VerificationDeny    VerificationResult = "deny"
	VerificationFraud   VerificationResult = "fraud"
	VerificationTimeout VerificationResult = "timeout"
)

// VerificationPush implements API.
func (s *Service) VerificationPush(ctx context.Context, c Client, userID, phoneID string) (pushID, digits string, err error) {
	txID, err := s.newTxID()
	if err != nil {
		return "", "", err
	}
	if digits, err = factor.NewPushDigits(s.Random, verificationDigits); err != nil {
		return "", "", err
	}
	a := attempt{
		request: AuthRequest{UserID: userID, Factor: duoapi.FactorPush, Device: phoneID, Type: verificationType},
		factor:  duoapi.FactorPush,
	}
	if err := s.Store.View(ctx, func(r store.Reader) (err error) {
		a.person, err = s.lookUp(r, c, "", userID, origin{})
		return err
	}); err != nil {
		return "", "", fmt.Errorf("verification push: %w", err)
	}
	if a.phone, err = verifiable(a.person, phoneID); err != nil {
		return "", "", err
	}
	a.event = event(txID, a.person, "", "")
	a.event.Factor, a.event.AuthDevice = factor.Push{}.Name(), phoneDevice(a.phone)
	tx, err := s.pending(a, "pushed", msgPushed)
	if err != nil {
		return "", "", err
	}
	tx.CodeHash = factor.HashPush(s.Keys, txID, digits)
	if tx.Context, err = a.context(txID, tx.Created, tx.Expires); err != nil {
		return "", "", err
	}
	// No policy of an application is asked: nobody logs in. The budget is.
	var sent bool
	var refused verdict
	err = s.Store.Update(ctx, func(w store.Writer) (err error) {
		if sent, err = w.SpendPush(userID, a.pushes(), s.Now()); err != nil {
			return err
		}
		if !sent {
			refused, err = s.refusedPush(w, a.person)
			return err
		}
		return w.AddTransaction(tx)
	})
	if err != nil {
		return "", "", fmt.Errorf("verification push: %w", err)
	}
	if !sent {
		return "", "", duoapi.NewError(duoapi.CodeInvalidParameter, "user_id: no push was sent: "+refusalOf(refused))
	}
	s.deliver(ctx, tx)
	return txID, digits, nil
}

// isVerification says whether a push only asked who somebody is: by the Admin API,
// which logs nobody in. No policy holds for it, and it makes good no failure.
func isVerification(r store.Reader, tx store.Transaction) (bool, error) {
	i, err := r.Integration(tx.IntegrationKey)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return i.Type == store.AdminAPI, err
}

// verifiable is the person's phone, if a push to it can prove anything.
func verifiable(p person, phoneID string) (store.Phone, error) {
	if !p.known() {
		return store.Phone{}, duoapi.NewError(duoapi.CodeNotFound, "")
	}
	if p.user.Status != store.Active {
		return store.Phone{}, duoapi.NewError(duoapi.CodeInvalidParameter, "user_id: the user's status is "+string(p.user.Status)+", not active")
	}
	for _, phone := range p.phones {
		if phone.ID == phoneID && phone.CanPush() {
			return phone, nil
		}
	}
	return store.Phone{}, duoapi.NewError(duoapi.CodeInvalidParameter, "phone_id: no authenticator of this user")
}

// VerificationResult implements API.
func (s *Service) VerificationResult(ctx context.Context, c Client, userID, pushID string) (VerificationResult, error) {
	tx, err := s.transaction(ctx, c.Integration.Key, pushID)
	var refused *duoapi.Error
	if errors.As(err, &refused) || err == nil && tx.UserID != userID {
		return "", duoapi.NewError(duoapi.CodeInvalidParameter, "push_id: no push to this user by this integration")
	}
	if err != nil {
		return "", err
	}
	results := map[store.TxState]VerificationResult{
		store.TxPending: VerificationWaiting, store.TxApproved: VerificationApprove, store.TxFraud: VerificationFraud,
		store.TxExpired: VerificationTimeout,
	}
	if result, ok := results[tx.State]; ok {
		return result, nil
	}
	return VerificationDeny, nil
}

// refusalOf is what a program is told of a refusal: its detail, which is exact.
func refusalOf(v verdict) string {
	if v.detail != "" {
		return v.detail
	}
	return v.message
}
