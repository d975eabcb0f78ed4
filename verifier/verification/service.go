// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-webauthn/webauthn/protocol"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// ChallengeFor is how long a challenge can be used.
const ChallengeFor = 5 * time.Minute

// dialogFor is what browsers are told about how long to ask, in milliseconds.
const dialogFor = 120_000

// Service registers, removes and demands user verification. All fields but
// Notices must be set; it is safe for concurrent use. What the caller is to blame
// for is a *duoapi.Error.
type Service struct {
	Store   store.Store
	Party   Party // zero: registers nothing
	Now     func() time.Time
	Random  io.Reader
	Notices notice.Notices // nil: nobody is told
}

// Premise is what an operation of an authenticator rests on. It runs first in the
// update of the operation, once, and its error ends that.
type Premise func(store.Writer) error

// Begin makes PublicKeyCredentialCreationOptionsJSON for the authenticator p.
func (s *Service) Begin(ctx context.Context, p store.Phone) (json.RawMessage, error) {
	if err := s.mayRegister(p); err != nil {
		return nil, err
	}
	challenge, err := s.challenge(ctx, p, store.ChallengeRegister)
	if err != nil {
		return nil, err
	}
	name, err := s.username(ctx, p)
	if err != nil {
		return nil, err
	}
	label := p.Name
	if label == "" {
		label = name
	}
	return marshal(protocol.PublicKeyCredentialCreationOptions{
		RelyingParty: protocol.RelyingPartyEntity{CredentialEntity: protocol.CredentialEntity{Name: "Sallyport"}, ID: s.Party.ID},
		User: protocol.UserEntity{
			CredentialEntity: protocol.CredentialEntity{Name: name}, DisplayName: label, ID: protocol.URLEncodedBase64(p.ID),
		},
		Challenge: challenge, Parameters: algorithms, Timeout: dialogFor, Attestation: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			AuthenticatorAttachment: protocol.Platform, ResidentKey: protocol.ResidentKeyRequirementDiscouraged,
			UserVerification: protocol.VerificationRequired,
		},
	})
}

func (s *Service) mayRegister(p store.Phone) error {
	switch {
	case !s.Party.Available():
		return duoapi.NewError(duoapi.CodeVerificationOff, "the verifier's url has no host name")
	case p.Verification != "":
		return duoapi.NewError(duoapi.CodeVerificationOff, "it is registered already")
	}
	return nil
}

// Finish registers the credential of a RegistrationResponseJSON. From then on the
// authenticator approves nothing without it.
func (s *Service) Finish(ctx context.Context, p store.Phone, raw json.RawMessage, address string) error {
	if err := s.mayRegister(p); err != nil {
		return err
	}
	made, challenge, err := s.Party.register(raw)
	if err != nil {
		return refusal(err)
	}
	made.PhoneID = p.ID
	return s.update(ctx, p, address, "user_verification_add", func(w store.Writer) error {
		made.Created = s.Now()
		if err := s.spend(w, p, store.ChallengeRegister, challenge); err != nil {
			return err
		}
		won, err := w.AddVerification(made, p.Generation)
		if err == nil && !won {
			err = duoapi.NewError(duoapi.CodeVerificationOff, "it is registered already")
		}
		return err
	})
}

// Challenge makes PublicKeyCredentialRequestOptionsJSON for one operation.
func (s *Service) Challenge(ctx context.Context, p store.Phone) (json.RawMessage, error) {
	if p.Verification == "" {
		return nil, duoapi.NewError(duoapi.CodeVerificationOff, "none is registered")
	}
	id, err := protocolID(p.Verification)
	if err != nil {
		return nil, err
	}
	challenge, err := s.challenge(ctx, p, store.ChallengeOperation)
	if err != nil {
		return nil, err
	}
	return marshal(protocol.PublicKeyCredentialRequestOptions{
		Challenge: challenge, Timeout: dialogFor, RelyingPartyID: s.Party.ID, UserVerification: protocol.VerificationRequired,
		AllowedCredentials: []protocol.CredentialDescriptor{{
			Type: protocol.PublicKeyCredentialType, CredentialID: id, Transport: []protocol.AuthenticatorTransport{protocol.Internal},
		}},
	})
}

// Remove takes the credential away, by an assertion of its own.
func (s *Service) Remove(ctx context.Context, p store.Phone, raw json.RawMessage, address string) error {
	if p.Verification == "" {
		return duoapi.NewError(duoapi.CodeVerificationOff, "none is registered")
	}
	premise, err := s.Operation(ctx, p, raw)
	if err != nil {
		return err
	}
	return s.update(ctx, p, address, "user_verification_remove", func(w store.Writer) error {
		if err := premise(w); err != nil {
			return err
		}
		won, err := w.RemoveVerification(p.ID, p.Verification)
		if err == nil && !won {
			err = changed()
		}
		if err != nil {
			return err
		}
		return s.tell(w, p, address)
	})
}

// Operation checks the assertion that an operation of the authenticator p came
// with; raw is Missing if it came without. The premise repeats, in the update of the
// operation, that p is as it was when its proof was checked, and spends the challenge.
func (s *Service) Operation(ctx context.Context, p store.Phone, raw json.RawMessage) (Premise, error) {
	if p.Verification == "" {
		return Unchanged(p), nil
	}
	if Missing(raw) {
		return nil, duoapi.NewError(duoapi.CodeVerificationNone, "")
	}
	parsed, err := s.Party.parse(raw)
	if err != nil {
		return nil, refusal(err)
	}
	var v store.UserVerification
	err = s.Store.View(ctx, func(r store.Reader) (err error) {
		v, err = r.UserVerification(p.ID)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("find the user verification of an authenticator: %w", err)
	}
	challenge := parsed.Response.CollectedClientData.Challenge
	assertion, err := s.Party.check(v, parsed, challenge)
	if err != nil {
		return nil, refusal(err)
	}
	return func(w store.Writer) error {
		if err := unchanged(w, p); err != nil {
			return err
		}
		if err := s.spend(w, p, store.ChallengeOperation, challenge); err != nil {
			return err
		}
		won, err := assertion.Count(w)
		if err == nil && !won {
			err = duoapi.NewError(duoapi.CodeVerificationWrong, "the credential's count has gone back")
		}
		return err
	}, nil
}

// Unchanged is the premise of an operation that needs no assertion.
func Unchanged(p store.Phone) Premise {
	return func(w store.Writer) error { return unchanged(w, p) }
}

// unchanged says that the phone still is as p: its row stays so to the end of the update.
func unchanged(w store.Writer, p store.Phone) error {
	held, err := w.HoldPhone(p)
	if err == nil && !held {
		err = changed()
	}
	return err
}

func changed() error {
	return duoapi.NewError(duoapi.CodeDeviceUnknown, "the authenticator was changed meanwhile")
}

// spend uses the challenge up.
func (s *Service) spend(w store.Writer, p store.Phone, purpose, challenge string) error {
	won, err := w.UseChallenge(store.VerificationChallenge{
		Hash: hash(challenge), PhoneID: p.ID, Generation: p.Generation, Purpose: purpose,
	}, s.Now())
	if err == nil && !won {
		err = duoapi.NewError(duoapi.CodeVerificationWrong, "the challenge is not known, was used, or is over 5 minutes old")
	}
	return err
}

// challenge makes a challenge and keeps its hash.
func (s *Service) challenge(ctx context.Context, p store.Phone, purpose string) ([]byte, error) {
	challenge := make([]byte, 32)
	if _, err := io.ReadFull(s.Random, challenge); err != nil {
		return nil, fmt.Errorf("make a challenge: %w", err)
	}
	err := s.Store.Update(ctx, func(w store.Writer) error {
		if err := unchanged(w, p); err != nil {
			return err
		}
		now := s.Now()
		return w.AddChallenge(store.VerificationChallenge{
			Hash: hash(encode(challenge)), PhoneID: p.ID, Generation: p.Generation, Purpose: purpose,
			Created: now, Expires: now.Add(ChallengeFor),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("keep a challenge: %w", err)
	}
	return challenge, nil
}

// update makes a change and its entry in the administrator log.
func (s *Service) update(ctx context.Context, p store.Phone, address, action string, change func(store.Writer) error) error {
	err := s.Store.Update(ctx, func(w store.Writer) error {
		if err := change(w); err != nil {
			return err
		}
		users, err := w.PhoneUsers(p.ID)
		if err != nil {
			return err
		}
		for _, u := range users {
			err := audit.Person(w, s.Now(), u.Username, action, map[string]any{"user_id": u.ID, "phone_id": p.ID, "ip_address": address})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("change user verification: %w", err)
	}
	return nil
}

// tell lets people know that their approvals need less from now on.
func (s *Service) tell(w store.Writer, p store.Phone, address string) error {
	users, err := w.PhoneUsers(p.ID)
	for _, u := range users {
		if err == nil {
			err = notice.Tell(s.Notices, w, u.ID, notice.UserVerificationRemoved, map[string]string{
				notice.Authenticator: p.Name, notice.Platform: p.Platform, notice.Address: address,
			})
		}
	}
	return err
}

func (s *Service) username(ctx context.Context, p store.Phone) (name string, err error) {
	err = s.Store.View(ctx, func(r store.Reader) error {
		users, err := r.PhoneUsers(p.ID)
		if len(users) > 0 {
			name = users[0].Username
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("find the user of an authenticator: %w", err)
	}
	return name, nil
}

// refusal is ErrWrong as the caller reads it.
func refusal(err error) error {
	if errors.Is(err, ErrWrong) {
		return duoapi.NewError(duoapi.CodeVerificationWrong, err.Error())
	}
	return err
}

func marshal(options any) (json.RawMessage, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return nil, fmt.Errorf("encode options of WebAuthn: %w", err)
	}
	return text, nil
}
