// SPDX-License-Identifier: Apache-2.0

// Package mail sends people plain text mails: enrolment links, and notices of what
// happens to their account. A mail is queued in the update that causes it, sealed,
// and goes out later; so nobody waits for a mail server, and what was undone is
// not told. It never decides who is told what, and never reads mail.
package mail

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// enrollmentLink is the kind of the mail that carries an enrolment link.
const enrollmentLink = "enrollment_link"

// maxAddress is the longest address, in bytes (RFC 5321, 4.5.3.1.3, without the brackets).
const maxAddress = 254

// ErrAddress is what errors about an address wrap that no mail can go to.
var ErrAddress = errors.New("not a mail address")

// Service queues mails and sends them. It is safe for concurrent use.
type Service struct {
	store  store.Store
	keys   *seal.Keys
	base   *url.URL
	from   *mail.Address
	out    transport
	limit  time.Duration // of one sending
	now    func() time.Time
	random io.Reader
	log    *slog.Logger
}

var _ notice.Notices = (*Service)(nil)

// transport takes a finished mail to where it goes on from. Its waits are bounded.
type transport interface {
	send(ctx context.Context, m *gomail.Msg) error
}

// New makes a Service of settings that are on; base is the verifier's own address.
func New(c config.Mail, st store.Store, keys *seal.Keys, base *url.URL, now func() time.Time, random io.Reader, log *slog.Logger) (*Service, error) {
	from, err := c.Sender()
	if err != nil {
		return nil, fmt.Errorf("mail.from: %w", err)
	}
	s := &Service{store: st, keys: keys, base: base, from: from, limit: sendLimit(c.Timeout.Duration), now: now, random: random, log: log}
	if c.OutboxDir != "" {
		s.out = outbox{dir: c.OutboxDir, now: now}
		return s, nil
	}
	if s.out, err = newSMTP(c, base.Hostname()); err != nil {
		return nil, fmt.Errorf("set up mail: %w", err)
	}
	return s, nil
}

// Address checks a mail address of the form USER@DOMAIN. Errors wrap ErrAddress.
func Address(s string) error {
	if len(s) > maxAddress || !utf8.ValidString(s) || strings.ContainsFunc(s, unsafe) {
		return ErrAddress
	}
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Address != s || parsed.Name != "" {
		return ErrAddress
	}
	return nil
}

// unsafe are the characters that would end a header, hide something in it, or make
// a second one.
func unsafe(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// letter is what is sealed of a mail.
type letter struct {
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// Notify implements notice.Notices. A user without a usable address is passed over.
func (s *Service) Notify(w store.Writer, userID, kind string, facts map[string]string) error {
	u, err := w.User(userID)
	if err != nil {
		return fmt.Errorf("find who is to be told: %w", err)
	}
	if u.Email == "" {
		return nil
	}
	if Address(u.Email) != nil {
		s.log.Warn("a person cannot be told: the address is none", "user_id", u.ID, "kind", kind)
		return nil //nolint:nilerr // what the person did stands, told or not
	}
	set, err := w.Settings()
	if err != nil {
		return err
	}
	return s.queue(w, u, kind, content{
		Username: u.Username, When: s.now(), Facts: facts, Helpdesk: set.HelpdeskMessage, URL: s.base.String(),
	})
}

// EnrollmentLink puts a mail with a link into the update that makes the link. The
// link is a secret; it stands in the store only sealed. Errors wrap ErrAddress if
// the user has no usable address.
func (s *Service) EnrollmentLink(w store.Writer, u store.User, link string, expires time.Time) error {
	if err := Address(u.Email); err != nil {
		return fmt.Errorf("mail the link to %q: %w", u.Email, err)
	}
	set, err := w.Settings()
	if err != nil {
		return err
	}
	return s.queue(w, u, enrollmentLink, content{
		Username: u.Username, When: s.now(), Link: link, Expires: expires, Helpdesk: set.HelpdeskMessage, URL: s.base.String(),
	})
}

func (s *Service) queue(w store.Writer, u store.User, kind string, c content) error {
	subject, text, err := render(kind, c)
	if err != nil {
		return err
	}
	id, err := s.newID()
	if err != nil {
		return err
	}
	body, err := json.Marshal(letter{To: u.Email, Subject: subject, Text: text})
	if err != nil {
		return fmt.Errorf("encode mail: %w", err)
	}
	now := s.now()
	err = w.AddMail(store.Mail{ID: id, UserID: u.ID, Kind: kind, Sealed: s.keys.Seal(body, "mail", id), Created: now, Due: now})
	if err != nil {
		return fmt.Errorf("queue mail: %w", err)
	}
	return nil
}

func (s *Service) newID() (string, error) {
	var b [15]byte
	if _, err := io.ReadFull(s.random, b[:]); err != nil {
		return "", fmt.Errorf("make the id of a mail: %w", err)
	}
	return "ML" + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}

// message makes the mail. Its id is in Message-ID, so that a mail that was sent
// twice is known as one.
func (s *Service) message(id string, l letter) (*gomail.Msg, error) {
	if err := Address(l.To); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(l.Subject, unsafe) {
		return nil, errors.New("control characters in the subject of a mail")
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(s.from)
	if err := m.To(l.To); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	m.Subject(l.Subject)
	m.SetDateWithValue(s.now())
	m.SetMessageIDWithValue(id + "@" + s.base.Hostname())
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday replies
	m.SetBodyString(gomail.TypeTextPlain, l.Text)
	return m, nil
}

// Test sends a mail that says that mail works, and waits until it is taken.
func (s *Service) Test(ctx context.Context, to string) error {
	if err := Address(to); err != nil {
		return fmt.Errorf("%q: %w", to, err)
	}
	subject, text, err := render("test", content{When: s.now(), URL: s.base.String()})
	if err != nil {
		return err
	}
	id, err := s.newID()
	if err != nil {
		return err
	}
	m, err := s.message(id, letter{To: to, Subject: subject, Text: text})
	if err != nil {
		return err
	}
	return s.send(ctx, m)
}
