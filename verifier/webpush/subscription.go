// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Subscription is what a browser's PushSubscription holds. It is kept sealed.
type Subscription struct {
	Endpoint string `json:"endpoint"`
	P256dh   string `json:"p256dh"` // base64url of an uncompressed point of P-256
	Auth     string `json:"auth"`   // base64url of 16 bytes
}

// subscribed is a subscription that was opened and checked.
type subscribed struct {
	Subscription
	kept store.PushSubscription
	url  *url.URL
	key  *ecdh.PublicKey
	auth []byte
}

// check reads a subscription. The error is for the phone to read.
func (s *Service) check(sub Subscription) (subscribed, error) {
	out := subscribed{Subscription: sub}
	var err error
	if out.url, err = s.bounds.endpoint(sub.Endpoint); err != nil {
		return out, duoapi.NewError(duoapi.CodePushEndpoint, err.Error())
	}
	point, err := decode(sub.P256dh)
	if err == nil && len(point) == pointSize {
		out.key, err = ecdh.P256().NewPublicKey(point)
	}
	if err != nil || out.key == nil {
		return out, duoapi.NewError(duoapi.CodePushKeys, "p256dh: not the 65 bytes of a P-256 key in base64url")
	}
	if out.auth, err = decode(sub.Auth); err != nil || len(out.auth) != authSize {
		return out, duoapi.NewError(duoapi.CodePushKeys, "auth: not 16 bytes in base64url")
	}
	return out, nil
}

// decode reads base64url with or without padding, as libraries of browsers make both.
func decode(text string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
}

// sealedFor is what a sealed subscription is bound to.
func sealedFor(phoneID string, generation int64) []string {
	return []string{"push subscription", phoneID, strconv.FormatInt(generation, 10)}
}

// Subscribe keeps where the phone, as it proved itself, is notified from now on.
// Refusals are *duoapi.Error.
func (s *Service) Subscribe(ctx context.Context, phone store.Phone, sub Subscription) error {
	checked, err := s.check(sub)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(sub)
	if err != nil {
		return fmt.Errorf("encode a subscription: %w", err)
	}
	edition := make([]byte, 8)
	if _, err := io.ReadFull(s.random, edition); err != nil {
		return fmt.Errorf("name a subscription: %w", err)
	}
	kept := store.PushSubscription{
		PhoneID: phone.ID, Generation: phone.Generation, Edition: hex.EncodeToString(edition), Created: s.now(),
		Sealed: s.keys.Seal(plain, sealedFor(phone.ID, phone.Generation)...),
	}
	won := false
	err = s.store.Update(ctx, func(w store.Writer) (err error) {
		won, err = w.SetPushSubscription(kept)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep a subscription: %w", err)
	}
	if !won {
		return duoapi.NewError(duoapi.CodeForbidden, "the authenticator was removed or moved meanwhile")
	}
	s.log.Info("an authenticator has subscribed to Web Push", "phone", phone.ID, "push_service", checked.url.Host, "subscription", mark(sub.Endpoint))
	return nil
}

// Unsubscribe forgets where the phone is notified. That there is nothing to forget is no error.
func (s *Service) Unsubscribe(ctx context.Context, phone store.Phone) error {
	won := false
	err := s.store.Update(ctx, func(w store.Writer) (err error) {
		won, err = w.DeletePushSubscription(phone.ID, phone.Generation, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("forget a subscription: %w", err)
	}
	if won {
		s.log.Info("an authenticator has ended its subscription to Web Push", "phone", phone.ID)
	}
	return nil
}

// Test sends a test message to the phone. detail says why it failed, as far as
// the phone may know: what a push service answered, but not where the verifier's
// network ends. Refusals are *duoapi.Error.
func (s *Service) Test(ctx context.Context, phone store.Phone) (outcome push.Outcome, detail string, err error) {
	now := s.now()
	if before, ok := s.tested.Get(phone.ID); ok && now.Sub(before).Abs() < testEvery {
		return "", "", duoapi.NewError(duoapi.CodePushTooOften, fmt.Sprintf("one test message in %s", testEvery))
	}
	s.tested.Add(phone.ID, now)
	outcome, err = s.send(ctx, phone.ID, test)
	var answer *answered
	switch {
	case outcome == push.Unsubscribed:
		return outcome, "", duoapi.NewError(duoapi.CodePushUnsubscribed, "")
	case outcome == push.Gone:
		return outcome, "the push service does not know the subscription any more", nil
	case errors.As(err, &answer):
		return outcome, fmt.Sprintf("the push service answers with HTTP status %d", answer.status), nil
	case outcome == push.Failed:
		return outcome, "the push service could not be reached", nil
	}
	return outcome, "", nil
}

// subscription reads where a phone is notified, and how long a message of the
// kind is worth anything.
func (s *Service) subscription(ctx context.Context, phoneID string, k kind) (sub subscribed, ttl time.Duration, err error) {
	var waiting []store.Transaction
	var kept store.PushSubscription
	now := s.now()
	err = s.store.View(ctx, func(r store.Reader) (err error) {
		if kept, err = r.PushSubscription(phoneID); err != nil || k != login {
			return err
		}
		waiting, err = r.PhoneTransactions(phoneID, now)
		return err
	})
	if err != nil {
		return sub, 0, fmt.Errorf("read the subscription: %w", err)
	}
	plain, err := s.keys.Open(kept.Sealed, sealedFor(kept.PhoneID, kept.Generation)...)
	if err != nil {
		return sub, 0, fmt.Errorf("open the subscription: %w", err)
	}
	var text Subscription
	if err := json.Unmarshal(plain, &text); err != nil {
		return sub, 0, fmt.Errorf("decode the subscription: %w", err)
	}
	// The settings may have become narrower since it was kept.
	if sub, err = s.check(text); err != nil {
		return sub, 0, err
	}
	sub.kept = kept
	return sub, lifetime(waiting, now), nil
}

// lifetime is how long the latest of the requests waits, in whole seconds.
func lifetime(waiting []store.Transaction, now time.Time) time.Duration {
	var longest time.Duration
	for _, tx := range waiting {
		longest = max(longest, tx.Expires.Sub(now))
	}
	if longest <= 0 {
		return defaultTTL
	}
	return min(longest.Truncate(time.Second)+time.Second, maxTTL)
}
