// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// tokenLife is half of what RFC 8292 (section 2) permits, so that clocks may differ.
	tokenLife = 12 * time.Hour
	// tokenReuse is how long a token serves before another is made.
	tokenReuse = tokenLife / 2
	// maxOrigins bounds the tokens that are kept.
	maxOrigins = 256
)

// vapid identifies the verifier to push services (RFC 8292). It is safe for concurrent use.
type vapid struct {
	public  string // base64url of the uncompressed point
	subject string
	signer  jose.Signer
	now     func() time.Time

	mu     sync.Mutex
	tokens *lru.Cache[string, token] // by origin
}

type token struct {
	text string
	made time.Time
}

func newVAPID(raw []byte, subject string, now func() time.Time) (*vapid, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("push key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("push key: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("push key: %w", err)
	}
	tokens, err := lru.New[string, token](maxOrigins)
	if err != nil {
		return nil, err
	}
	return &vapid{
		public: base64.RawURLEncoding.EncodeToString(point), subject: subject, signer: signer, now: now, tokens: tokens,
	}, nil
}

// authorization is the value of the Authorization header for a push service.
func (v *vapid) authorization(origin string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	known, ok := v.tokens.Get(origin)
	if age := now.Sub(known.made); !ok || age < 0 || age >= tokenReuse {
		claims, err := json.Marshal(struct {
			Audience string `json:"aud"`
			Expires  int64  `json:"exp"`
			Subject  string `json:"sub"`
		}{origin, now.Add(tokenLife).Unix(), v.subject})
		if err != nil {
			return "", fmt.Errorf("make a token: %w", err)
		}
		signed, err := v.signer.Sign(claims)
		if err != nil {
			return "", fmt.Errorf("sign a token: %w", err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			return "", fmt.Errorf("sign a token: %w", err)
		}
		known = token{text, now}
		v.tokens.Add(origin, known)
	}
	return "vapid t=" + known.text + ", k=" + v.public, nil
}

// identity is what the sealed key is bound to.
func identity() []string { return []string{"push key", store.PushKeyID} }

// vapid loads the key, which is made if there has never been one.
func (s *Service) vapid(ctx context.Context) (*vapid, error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if s.key != nil {
		return s.key, nil
	}
	var sealed []byte
	err := s.store.View(ctx, func(r store.Reader) (err error) {
		sealed, err = r.PushKey()
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		sealed, err = s.makeKey(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("load the push key: %w", err)
	}
	raw, err := s.keys.Open(sealed, identity()...)
	if err != nil {
		return nil, fmt.Errorf("open the push key: %w", err)
	}
	s.key, err = newVAPID(raw, s.subject, s.now)
	return s.key, err
}

// makeKey keeps another key, unless another verifier has just kept one: then that one counts.
func (s *Service) makeKey(ctx context.Context) (sealed []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	mine := s.keys.Seal(raw, identity()...)
	made := false
	err = s.store.Update(ctx, func(w store.Writer) (err error) {
		if made, err = w.AddPushKey(mine, s.now()); err != nil {
			return err
		}
		sealed, err = w.PushKey()
		return err
	})
	if err == nil && made {
		s.log.Info("made the key by which push services know this verifier")
	}
	return sealed, err
}

// PublicKey is the key with which an authenticator subscribes (the
// applicationServerKey of the Push API): base64url of an uncompressed P-256
// point. It is made at the first call ever.
func (s *Service) PublicKey(ctx context.Context) (string, error) {
	v, err := s.vapid(ctx)
	if err != nil {
		return "", err
	}
	return v.public, nil
}
