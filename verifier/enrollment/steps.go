// SPDX-License-Identifier: Apache-2.0

package enrollment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Progress is how far a step is.
type Progress string

// How far a step can be.
const (
	None    Progress = "none"
	Waiting Progress = "waiting" // for the phone's activation, or for the token's first code
	Done    Progress = "done"
)

// View is what the person of a session may see.
type View struct {
	Username  string
	Expires   time.Time
	Phone     Progress
	PhoneName string // as the phone calls itself, once it is activated
	// Activation is the link that activates the phone while it waits.
	Activation string
	TOTP       Progress
	// Secret (base32) and URI (otpauth) are the token's while it waits.
	Secret, URI string
	TriesLeft   int
	CodesMade   bool
}

// CanFinish says that something was added, so that recovery codes are of use.
func (v View) CanFinish() bool { return v.Phone == Done || v.TOTP == Done }

// step runs f on the live session of a token, whose user may enrol, both held as they
// are until the update ends. Then what f changed of the session is written. Errors:
// ErrOver, and those of f.
func (s *Service) step(ctx context.Context, token string, f func(w store.Writer, e *store.EnrollSession, u store.User, p *pending) error) error {
	if token == "" {
		return ErrOver
	}
	return s.Store.Update(ctx, func(w store.Writer) error {
		e, live, err := w.HoldEnroll(hashToken(token), s.Directory.Now())
		if err != nil {
			return fmt.Errorf("find the enrolment: %w", err)
		}
		if !live {
			return ErrOver
		}
		u, err := w.User(e.UserID)
		if err != nil {
			return err
		}
		p, err := s.open(e)
		if err != nil {
			return err
		}
		if err := f(w, &e, u, &p); err != nil {
			return err
		}
		if err := s.seal(&e, p); err != nil {
			return err
		}
		if err := w.SetEnroll(e); err != nil {
			return fmt.Errorf("keep the enrolment: %w", err)
		}
		return nil
	})
}

// count counts one more that the session makes. It is part of the update that makes it.
func count(w store.Writer, e *store.EnrollSession, what store.EnrollCount) error {
	more, err := w.CountEnroll(e.ID, what, MaxMade)
	if err != nil {
		return fmt.Errorf("count what an enrolment makes: %w", err)
	}
	if !more {
		return ErrSpent
	}
	return nil
}

// Show is what the session of a token looks like. Errors: ErrOver.
func (s *Service) Show(ctx context.Context, token string) (v View, err error) {
	if token == "" {
		return v, ErrOver
	}
	err = s.Store.View(ctx, func(r store.Reader) error {
		e, err := r.EnrollByHash(hashToken(token))
		if errors.Is(err, store.ErrNotFound) {
			return ErrOver
		}
		if err != nil {
			return err
		}
		u, err := r.User(e.UserID)
		if err != nil {
			return err
		}
		if !e.EndedAt.IsZero() || !s.Directory.Now().Before(e.Expires) || u.Status != store.Active && u.Status != store.Bypass {
			return ErrOver
		}
		v, err = s.view(r, e, u)
		return err
	})
	return v, err
}

func (s *Service) view(r store.Reader, e store.EnrollSession, u store.User) (View, error) {
	v := View{
		Username: u.Username, Expires: e.Expires, Phone: None, TOTP: None, TriesLeft: MaxTries - e.Tries, CodesMade: !e.CodesMade.IsZero(),
	}
	p, err := s.open(e)
	if err != nil {
		return v, err
	}
	phone, has, err := ownPhone(r, e, u)
	switch {
	case err != nil:
		return v, err
	case has && phone.CanPush():
		v.Phone, v.PhoneName = Done, phone.Name
	case has && p.Activation != "":
		v.Phone, v.Activation = Waiting, p.Activation
	}
	switch {
	case e.TokenID != "" && e.TokenDone:
		v.TOTP = Done
	case e.TokenID != "" && p.Token != nil:
		v.TOTP, v.Secret, v.URI = Waiting, p.Secret, p.URI
	}
	return v, nil
}

// ownPhone is the phone that the session made, if it is still the user's.
func ownPhone(r store.Reader, e store.EnrollSession, u store.User) (store.Phone, bool, error) {
	if e.PhoneID == "" {
		return store.Phone{}, false, nil
	}
	phones, err := r.UserPhones(u.ID)
	for _, p := range phones {
		if p.ID == e.PhoneID {
			return p, true, err
		}
	}
	return store.Phone{}, false, err
}

// StartPhone makes a phone and the link that activates it. While that one waits,
// another call makes another link for the same phone. Errors: ErrOver; ErrSpent;
// ErrStep if the phone is activated.
func (s *Service) StartPhone(ctx context.Context, token, address string) error {
	return s.step(ctx, token, func(w store.Writer, e *store.EnrollSession, u store.User, p *pending) error {
		phone, has, err := ownPhone(w, *e, u)
		switch {
		case err != nil:
			return err
		case has && phone.CanPush():
			return ErrStep
		}
		if err := count(w, e, store.EnrollPhoneLinks); err != nil {
			return err
		}
		if !has {
			if phone, err = s.Directory.AddMobile(w, actor(address), u); err != nil {
				return err
			}
			e.PhoneID = phone.ID
		}
		// The code dies with the session, so that nothing of it stays open.
		made, err := s.Directory.NewActivation(w, actor(address), u, phone, e.Expires.Sub(s.Directory.Now()))
		if err != nil {
			return err
		}
		p.Activation = made.Link
		return nil
	})
}

// StartTOTP makes a token that waits for its first code, in place of one that waits
// already. Errors: ErrOver; ErrSpent; ErrStep if the session has added a token.
func (s *Service) StartTOTP(ctx context.Context, token string) error {
	return s.step(ctx, token, func(w store.Writer, e *store.EnrollSession, u store.User, p *pending) error {
		if e.TokenDone {
			return ErrStep
		}
		if err := count(w, e, store.EnrollTokenSecrets); err != nil {
			return err
		}
		made, err := s.Directory.MakeTOTP(u)
		if err != nil {
			return err
		}
		e.TokenID, e.Tries = made.ID, 0
		p.Token, p.Secret, p.URI = &made.Token, made.Secret, made.URI
		return nil
	})
}

// ConfirmTOTP takes the first code of the token that waits, and adds the token. The
// attempt is counted before the code is looked at. Errors: ErrOver, ErrStep,
// ErrCode, ErrTries.
func (s *Service) ConfirmTOTP(ctx context.Context, token, code, address string) error {
	var refused error
	err := s.step(ctx, token, func(w store.Writer, e *store.EnrollSession, u store.User, p *pending) error {
		refused = nil // the function may run again
		switch {
		case e.TokenDone || e.TokenID == "" || p.Token == nil:
			return ErrStep
		case e.Tries >= MaxTries:
			return ErrTries
		}
		e.Tries++
		t, err := s.Directory.SealTOTP(*p.Token, p.Secret)
		if err != nil {
			return err
		}
		step, drift, ok, err := factor.FirstCode(s.Directory.Keys, t, code, s.Directory.Now())
		if err != nil {
			return err
		}
		if !ok {
			if refused = ErrCode; e.Tries >= MaxTries {
				refused = ErrTries
			}
			return nil // so that the attempt stays counted
		}
		t.LastStep, t.Drift = step, drift
		if err := s.Directory.AddTOTP(w, actor(address), u, t); err != nil {
			return err
		}
		e.TokenDone, e.Tries = true, 0
		p.Token, p.Secret, p.URI = nil, "", ""
		return nil
	})
	return errors.Join(err, refused)
}

// RecoveryCodes makes the person's recovery codes and gives them this once. Another
// call makes another set, and the one before is void. Errors: ErrOver; ErrSpent;
// ErrStep if nothing was added.
func (s *Service) RecoveryCodes(ctx context.Context, token, address string) (codes []string, err error) {
	err = s.step(ctx, token, func(w store.Writer, e *store.EnrollSession, u store.User, p *pending) error {
		v, err := s.view(w, *e, u)
		if err != nil {
			return err
		}
		if !v.CanFinish() {
			return ErrStep
		}
		if err := count(w, e, store.EnrollCodeSets); err != nil {
			return err
		}
		if v.Phone == Done {
			p.Activation = ""
		}
		e.CodesMade = s.Directory.Now()
		codes, err = s.Directory.ReplaceRecoveryCodes(w, actor(address), u)
		return err
	})
	return codes, err
}

// Finish ends a session whose person has recovery codes. Errors: ErrOver, ErrStep.
func (s *Service) Finish(ctx context.Context, token, address string) error {
	if token == "" {
		return ErrOver
	}
	return s.Store.Update(ctx, func(w store.Writer) error {
		e, live, err := w.HoldEnroll(hashToken(token), s.Directory.Now())
		if err != nil {
			return fmt.Errorf("find the enrolment: %w", err)
		}
		switch {
		case !live:
			return ErrOver
		case e.CodesMade.IsZero():
			return ErrStep
		}
		return s.end(w, e, "enrollment_finish", actor(address))
	})
}

// end ends a session, with an entry of what came of it, and drops what it began and
// nobody finished.
func (s *Service) end(w store.Writer, e store.EnrollSession, action string, a directory.Actor) error {
	won, err := w.EndEnroll(e.ID, s.Directory.Now())
	if err != nil || !won {
		return err
	}
	u, err := w.User(e.UserID)
	if err != nil {
		return err
	}
	phone, has, err := ownPhone(w, e, u)
	if err != nil {
		return err
	}
	description := map[string]any{
		"session_id": e.ID, "phone": has && phone.CanPush(), "totp": e.TokenDone, "recovery_codes": !e.CodesMade.IsZero(),
	}
	if has {
		if err := s.Directory.DropMobile(w, a, phone.ID); err != nil {
			return err
		}
	}
	return s.Directory.Audit(w, a, action, u, description)
}

// endAll ends the sessions of a user that go on. What they began and nobody finished
// goes with them: also the link that would activate a phone.
func (s *Service) endAll(w store.Writer, u store.User, a directory.Actor) error {
	live, err := w.LiveEnrollSessions(u.ID)
	if err != nil {
		return fmt.Errorf("list enrolments: %w", err)
	}
	for _, e := range live {
		if err := s.end(w, e, "enrollment_end", a); err != nil {
			return fmt.Errorf("end an enrolment: %w", err)
		}
	}
	return nil
}

const (
	// sweepEvery is how often Run looks for sessions that were left.
	sweepEvery = time.Minute
	sweepBatch = 50
)

// Run ends the sessions that were left, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("enrolments that were left stay as they are", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Sweep ends sessions whose time is over. What was confirmed in them stays; a phone
// that was not activated goes.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Directory.Now()
	var overdue []store.EnrollSession
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		overdue, err = r.OverdueEnrollSessions(now, sweepBatch)
		return err
	})
	if err != nil {
		return fmt.Errorf("list enrolments: %w", err)
	}
	for _, e := range overdue {
		err := s.Store.Update(ctx, func(w store.Writer) error { return s.end(w, e, "enrollment_expire", actor("")) })
		if err != nil {
			return fmt.Errorf("end an enrolment that was left: %w", err)
		}
	}
	return nil
}
