// SPDX-License-Identifier: Apache-2.0

// Package enrollment lets a person who has a link add factors: a phone, a TOTP
// token, recovery codes. It decides who may begin and go on, each time in the one
// update that also makes the change. It knows no HTTP, and never logs anyone in:
// what it adds counts at a login only beside the first factor.
//
// docs/explanation/enrollment.md draws the states of links and sessions.
package enrollment

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// How long a link can be used.
const (
	// DefaultValid is for who names no time.
	DefaultValid = 7 * 24 * time.Hour
	// MinValid and MaxValid bound what is asked for.
	MinValid = time.Minute
	MaxValid = 30 * 24 * time.Hour
)

const (
	// SessionTime is how long a person has from opening the link to the end: enough to
	// install an app, too short for a browser that was left open.
	SessionTime = 30 * time.Minute
	// MaxTries is how many wrong first codes a new token may have. They are no guesses,
	// since the page shows the secret; but nothing is counted without an end.
	MaxTries = 10
	// MaxMade is how many phone links, token secrets and sets of codes one session may
	// make, of each. Who begins anew takes two or three.
	MaxMade = 10

	sessionPrefix = "ES"
	tokenLen      = 32
)

// Actor is the name in the administrator log of who only has a link.
const Actor = "enrollment link"

var (
	// ErrLink means that a link cannot be used: unknown, used, expired, void, or its
	// person may not enrol. Which of these, strangers do not learn.
	ErrLink = errors.New("the enrolment link cannot be used")
	// ErrOver means that there is no session: it ended, expired, or never was.
	ErrOver = errors.New("the enrolment is over")
	// ErrCode means that the first code of a token is wrong.
	ErrCode = errors.New("the code is not the one that the token gives now")
	// ErrTries means that a token had too many wrong first codes: make another one.
	ErrTries = errors.New("too many wrong codes")
	// ErrSpent means that a session has made MaxMade of what was asked for.
	ErrSpent = errors.New("the enrolment has made enough of these")
	// ErrStep means that a step was taken that is not due.
	ErrStep = errors.New("that step is not due")
)

// Mailer mails links; *mail.Service is one.
type Mailer interface {
	EnrollmentLink(w store.Writer, u store.User, link string, expires time.Time) error
}

// Service makes links and goes through enrolments. All fields but Mail must be set;
// it is safe for concurrent use.
type Service struct {
	Store     store.Store
	Directory *directory.Directory // whose keys, clock and randomness it uses
	Mail      Mailer               // nil: no mail is sent
	Log       *slog.Logger
}

// LinkRequest asks for a link.
type LinkRequest struct {
	directory.Invitee
	Valid time.Duration // 0: DefaultValid
	Send  bool          // by mail; without Service.Mail that is an error
}

// Link is an enrolment link. It is a secret, and given this once.
type Link struct {
	User    store.User
	URL     string
	Expires time.Time
	Mailed  bool
}

// NewLink makes a link for a person. Links of that person from before are void, and
// an enrolment that is under way ends. Errors for the caller are *duoapi.Error.
func (s *Service) NewLink(ctx context.Context, a directory.Actor, q LinkRequest) (l Link, err error) {
	if q.Valid == 0 {
		q.Valid = DefaultValid
	}
	if q.Valid < MinValid || q.Valid > MaxValid {
		return l, duoapi.NewError(duoapi.CodeInvalidParameter, fmt.Sprintf("valid_secs: not from %d to %d",
			int(MinValid.Seconds()), int(MaxValid.Seconds())))
	}
	if q.Send && s.Mail == nil {
		return l, duoapi.NewError(duoapi.CodeMailOff, "set [mail] in verifier.toml, or hand the link over yourself")
	}
	err = s.Store.Update(ctx, func(w store.Writer) (err error) {
		l, err = s.LinkIn(w, a, q)
		return err
	})
	return l, directory.ClientError(err)
}

// LinkIn is NewLink in an update that the caller began; q.Valid is set and checked.
func (s *Service) LinkIn(w store.Writer, a directory.Actor, q LinkRequest) (l Link, err error) {
	d, now := s.Directory, s.Directory.Now()
	if l.User, err = d.Invite(w, a, q.Invitee); err != nil {
		return l, err
	}
	if l.User.Status != store.Active && l.User.Status != store.Bypass {
		return l, duoapi.NewError(duoapi.CodeMayNotEnroll, fmt.Sprintf("the user is %s", l.User.Status))
	}
	if err := s.endAll(w, l.User, a); err != nil {
		return l, err
	}
	token := invite.New(invite.Enroll, nil)
	l.URL, l.Expires = invite.EnrollLink(d.Base, token), now.Add(q.Valid)
	err = w.AddEnrollLink(store.EnrollLink{Hash: token.Hash(), UserID: l.User.ID, Created: now, Expires: l.Expires}, now)
	if err != nil {
		return l, fmt.Errorf("keep the link: %w", err)
	}
	if q.Send {
		if l.User.Email == "" {
			return l, duoapi.NewError(duoapi.CodeInvalidParameter, "email: the user has no address, so give one")
		}
		if err := s.Mail.EnrollmentLink(w, l.User, l.URL, l.Expires); err != nil {
			return l, duoapi.NewError(duoapi.CodeInvalidParameter, "email: "+err.Error())
		}
		l.Mailed = true
	}
	return l, d.Audit(w, a, "enrollment_link_create", l.User, map[string]any{"expires": l.Expires.Unix(), "mailed": l.Mailed})
}

// VoidLinks makes the user's unused link void and ends an enrolment that is under
// way. It says whether there was any.
func (s *Service) VoidLinks(ctx context.Context, a directory.Actor, userID string) (bool, error) {
	n := 0
	err := s.Store.Update(ctx, func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		live, err := w.LiveEnrollSessions(u.ID)
		if err != nil {
			return err
		}
		if err := s.endAll(w, u, a); err != nil {
			return err
		}
		n, err = w.VoidEnrollLinks(u.ID, s.Directory.Now())
		if n += len(live); err != nil || n == 0 {
			return err
		}
		return s.Directory.Audit(w, a, "enrollment_link_delete", u, nil)
	})
	return n > 0, directory.ClientError(err)
}

// Begin spends a link, as a person pasted or followed it, and opens a session. The
// token is for the person's browser alone. Errors: ErrLink.
func (s *Service) Begin(ctx context.Context, link, address string) (token string, err error) {
	parsed, err := invite.ParseEnroll(link)
	if err != nil {
		return "", ErrLink
	}
	d := s.Directory
	// What is made up never comes to the one writer.
	err = s.Store.View(ctx, func(r store.Reader) error {
		_, err := r.EnrollLinkByHash(parsed.Hash(), d.Now())
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", ErrLink
	case err != nil:
		return "", fmt.Errorf("find the link: %w", err)
	}
	secret := make([]byte, tokenLen)
	if _, err := io.ReadFull(d.Random, secret); err != nil {
		return "", fmt.Errorf("make a session: %w", err)
	}
	id, err := d.NewID(sessionPrefix)
	if err != nil {
		return "", err
	}
	token = base64.RawURLEncoding.EncodeToString(secret)
	err = s.Store.Update(ctx, func(w store.Writer) error {
		now := d.Now()
		session, won, err := w.BeginEnroll(parsed.Hash(), store.EnrollSession{
			ID: id, Hash: hashToken(token), Created: now, Expires: now.Add(SessionTime),
		}, now)
		if err != nil {
			return fmt.Errorf("spend the link: %w", err)
		}
		if !won {
			return ErrLink
		}
		u, err := w.User(session.UserID)
		if err != nil {
			return err
		}
		if err := d.Audit(w, actor(address), "enrollment_link_use", u, map[string]any{"session_id": id}); err != nil {
			return err
		}
		return notice.Tell(d.Notices, w, u.ID, notice.LinkUsed, map[string]string{notice.Address: address})
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

func actor(address string) directory.Actor { return directory.Actor{Name: Actor, Address: address} }

// hashToken is what is kept of a session's token, which has 256 random bits.
func hashToken(token string) []byte {
	sum := sha256.Sum256([]byte("sallyport enroll session " + token))
	return sum[:]
}

// pending is what a session shows again after a reload. It is kept sealed, until
// the step is done or the session ends.
type pending struct {
	Activation string       `json:"activation,omitempty"` // link
	Token      *store.Token `json:"token,omitempty"`      // without its secret
	Secret     string       `json:"secret,omitempty"`     // base32
	URI        string       `json:"uri,omitempty"`        // otpauth
}

func (s *Service) open(e store.EnrollSession) (p pending, err error) {
	if len(e.Sealed) == 0 {
		return p, nil
	}
	text, err := s.Directory.Keys.Open(e.Sealed, "enroll session", e.ID)
	if err != nil {
		return p, fmt.Errorf("open what an enrolment shows: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, errors.New("decode what an enrolment shows: not what was sealed")
	}
	return p, nil
}

func (s *Service) seal(e *store.EnrollSession, p pending) error {
	if p == (pending{}) {
		e.Sealed = nil
		return nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode what an enrolment shows: %w", err)
	}
	e.Sealed = s.Directory.Keys.Seal(text, "enroll session", e.ID)
	return nil
}
