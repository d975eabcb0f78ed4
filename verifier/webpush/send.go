// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// kind is what a message says. It is also the topic: a push service that still
// holds one of the kind delivers the later one alone (RFC 8030, section 5.4).
type kind string

const (
	login kind = "login"
	test  kind = "test"
)

// padTo is more than any message has, so that all are of one length.
const padTo = 64

func (k kind) payload() []byte { return []byte(`{"v":1,"t":"` + string(k) + `"}`) }

// answered is an answer of a push service that is not what was hoped for.
type answered struct {
	status int
	after  time.Duration // that it asks to wait
	text   string
}

// Error names what the status means here.
func (a *answered) Error() string {
	why := fmt.Sprintf("the push service answers with HTTP status %d", a.status)
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		why += ": it refuses this verifier; the subscription was made with another key, or web_push.subject or the clock are wrong"
	case a.status == http.StatusRequestEntityTooLarge:
		why += ": the message is too large for it"
	case a.status == http.StatusTooManyRequests:
		why += ": too many messages"
	case a.status/100 == 3:
		why += ": redirects are not followed"
	}
	if a.text != "" {
		why += fmt.Sprintf(" (it says %q)", a.text)
	}
	return why
}

func (a *answered) gone() bool {
	return a.status == http.StatusNotFound || a.status == http.StatusGone
}

// deliver brings one message to the phone's push service.
func (s *Service) deliver(ctx context.Context, phoneID string, k kind) (push.Outcome, error) {
	sub, ttl, err := s.subscription(ctx, phoneID, k)
	if errors.Is(err, store.ErrNotFound) {
		return push.Unsubscribed, nil
	}
	if err != nil {
		return push.Failed, fmt.Errorf("notify %s: %w", phoneID, err)
	}
	log := s.log.With("phone", phoneID, "kind", string(k), "push_service", sub.url.Host, "subscription", mark(sub.Endpoint))
	if until, ok := s.silent.Get(sub.kept.Edition); ok && s.now().Before(until) {
		err = fmt.Errorf("the push service asked for silence until %s", until.UTC().Format(time.RFC3339))
	} else {
		err = s.post(ctx, sub, k, ttl)
	}
	var answer *answered
	switch {
	case err == nil:
		log.Info("an authenticator was notified", "ttl", ttl)
		return push.Taken, nil
	case errors.As(err, &answer) && answer.gone():
		if err := s.forget(ctx, sub); err != nil {
			log.Error("a subscription that is gone could not be deleted", "error", err)
		}
		log.Info("a subscription is gone: the push service does not know it any more", "status", answer.status)
		return push.Gone, nil
	case errors.As(err, &answer) && answer.status == http.StatusTooManyRequests:
		s.silent.Add(sub.kept.Edition, s.now().Add(min(answer.after, maxPause)))
	}
	err = fmt.Errorf("notify %s: %w", phoneID, withoutURL(err))
	log.Warn("an authenticator could not be notified", "error", err)
	return push.Failed, err
}

// withoutURL takes out the address that net/http puts in front of its errors.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// forget deletes the very subscription that was asked.
func (s *Service) forget(ctx context.Context, sub subscribed) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.attemptTime)
	defer cancel()
	return s.store.Update(ctx, func(w store.Writer) error {
		_, err := w.DeletePushSubscription(sub.kept.PhoneID, sub.kept.Generation, sub.kept.Edition)
		return err
	})
}

// post encrypts a message and tries to send it until ctx ends.
func (s *Service) post(ctx context.Context, sub subscribed, k kind, ttl time.Duration) error {
	sender, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(s.random, salt); err != nil {
		return fmt.Errorf("make a salt: %w", err)
	}
	body, err := encrypt(k.payload(), padTo, sub.key, sub.auth, sender, salt)
	if err != nil {
		return err
	}
	key, err := s.vapid(ctx)
	if err != nil {
		return err
	}
	authorization, err := key.authorization(origin(sub.url))
	if err != nil {
		return err
	}
	header := http.Header{
		"Authorization":    {authorization},
		"Content-Encoding": {"aes128gcm"},
		"Content-Type":     {"application/octet-stream"},
		"Ttl":              {strconv.Itoa(int(ttl.Seconds()))},
		"Urgency":          {"high"},
		"Topic":            {string(k)},
		"User-Agent":       {"sallyport"},
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = s.first
	var last error // says more than that the time is over
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		last = s.attempt(ctx, sub.Endpoint, header, body)
		return struct{}{}, s.again(ctx, last)
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(maxAttempts), backoff.WithMaxElapsedTime(s.budget))
	if err == nil {
		return nil
	}
	return last
}

// again says whether, and when, to try again after err.
func (s *Service) again(ctx context.Context, err error) error {
	var answer *answered
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errAddress):
		return backoff.Permanent(err)
	case !errors.As(err, &answer):
		return err
	case answer.status < 500 && answer.status != http.StatusTooManyRequests:
		return backoff.Permanent(err)
	case answer.after == 0:
		return err
	}
	// Who asks for a longer silence than there is time gets it.
	deadline, ok := ctx.Deadline()
	if ok && time.Until(deadline) < answer.after {
		return backoff.Permanent(err)
	}
	return &backoff.RetryAfterError{Duration: answer.after}
}

// attempt sends one request.
func (s *Service) attempt(ctx context.Context, endpoint string, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.attemptTime, fmt.Errorf("no answer within %s", s.attemptTime))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return errors.New("make a request to the push service: its address is not a URL")
	}
	req.Header = header.Clone()
	res, err := s.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("reach the push service: %w", withoutURL(err))
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // it explains, and decides nothing
	if res.StatusCode/100 == 2 {
		return nil
	}
	return &answered{res.StatusCode, retryAfter(res.Header.Get("Retry-After"), s.now()), brief(string(text))}
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section
// 10.2.3). What cannot be read counts as a second.
func retryAfter(text string, now time.Time) time.Duration {
	if text == "" {
		return 0
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return time.Second
}

// brief is the beginning of what a push service says, fit for a log.
func brief(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most]
	}
	return strings.TrimSpace(strings.ToValidUTF8(text, "?"))
}
