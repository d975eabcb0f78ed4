// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// pollEvery is how often the queue is looked at. What is queued cannot wake the
	// sender: its update is not committed yet.
	pollEvery = 2 * time.Second
	// batch bounds how many mails one look takes.
	batch = 20
	// giveUpAfter is how long a mail is tried. After a day a notice is of little use,
	// and a link can be made anew.
	giveUpAfter = 24 * time.Hour
	// firstPause is the pause after the first attempt; each further one doubles it,
	// up to maxPause.
	firstPause = time.Minute
	maxPause   = time.Hour
	// exchanges bounds how many exchanges with a server make one sending.
	exchanges = 8
)

// sendLimit bounds one sending, of which timeout bounds each exchange.
func sendLimit(timeout time.Duration) time.Duration { return exchanges * timeout }

// pause is how long nobody tries a mail after that many attempts.
func (s *Service) pause(attempts int) time.Duration {
	p := firstPause
	for range attempts - 1 {
		p = min(2*p, maxPause)
	}
	// A sending that is under way is not begun a second time.
	return max(p, s.limit+pollEvery)
}

// Run sends what is queued until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := s.Deliver(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("cannot look after the mails that wait", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Deliver tries each mail once that is due. A mail goes out at least once: if the
// verifier stops between sending and noting so, it goes out again with the same
// Message-ID. The error is of the store; that mails could not be sent is logged.
func (s *Service) Deliver(ctx context.Context) error {
	var due []store.Mail
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		due, err = r.DueMails(s.now(), batch)
		return err
	})
	if err != nil {
		return fmt.Errorf("list mails: %w", err)
	}
	for _, m := range due {
		if err := s.deliver(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) deliver(ctx context.Context, m store.Mail) error {
	if !s.now().Before(m.Created.Add(giveUpAfter)) {
		return s.giveUp(ctx, m)
	}
	var mine bool
	err := s.store.Update(ctx, func(w store.Writer) (err error) {
		mine, err = w.TakeMail(m, s.now().Add(s.pause(m.Attempts+1)))
		return err
	})
	if err != nil || !mine {
		return err
	}
	if err := s.sendSealed(ctx, m); err != nil {
		s.log.Warn("a mail could not be sent; it is tried again", "mail", m.ID, "kind", m.Kind, "user_id", m.UserID,
			"attempts", m.Attempts+1, "error", err)
		return nil
	}
	return s.store.Update(ctx, func(w store.Writer) error {
		_, err := w.DeleteMail(m.ID)
		return err
	})
}

func (s *Service) sendSealed(ctx context.Context, m store.Mail) error {
	body, err := s.keys.Open(m.Sealed, "mail", m.ID)
	if err != nil {
		return fmt.Errorf("open mail: %w", err)
	}
	var l letter
	if err := json.Unmarshal(body, &l); err != nil {
		return errors.New("decode mail: not what was queued")
	}
	msg, err := s.message(m.ID, l)
	if err != nil {
		return err
	}
	return s.send(ctx, msg)
}

// send bounds the whole of one sending, and says so where that was the end of it.
func (s *Service) send(ctx context.Context, m *gomail.Msg) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("the mail server took over %s (%d times mail.timeout)", s.limit, exchanges))
	defer cancel()
	return s.out.send(ctx, m)
}

// giveUp removes a mail and tells administrators.
func (s *Service) giveUp(ctx context.Context, m store.Mail) error {
	err := s.store.Update(ctx, func(w store.Writer) error {
		gone, err := w.DeleteMail(m.ID)
		if err != nil || !gone {
			return err
		}
		u, err := w.User(m.UserID)
		if err != nil {
			return err
		}
		return audit.System(w, s.now(), "mail_given_up", u.Username, map[string]any{
			"user_id": u.ID, "kind": m.Kind, "attempts": m.Attempts, "queued": m.Created.Unix(),
		})
	})
	if err != nil {
		return fmt.Errorf("give a mail up: %w", err)
	}
	s.log.Error("a mail was given up", "mail", m.ID, "kind", m.Kind, "user_id", m.UserID, "attempts", m.Attempts)
	return nil
}
