// SPDX-License-Identifier: Apache-2.0

package pushservice

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// claims are those of RFC 8292, section 2.
type claims struct {
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Subject  string `json:"sub"`
}

// checkVAPID checks an Authorization header (RFC 8292, section 3). want is the
// key that the subscription is restricted to; nil: any. An error about the key
// begins with "k:".
func checkVAPID(header, origin string, want []byte, now time.Time) (claims, error) {
	var c claims
	params, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return c, errors.New("authorization: not of the scheme vapid")
	}
	var token, key string
	for part := range strings.SplitSeq(params, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			token = value
		case "k":
			key = value
		default:
			return c, fmt.Errorf("authorization: parameter %q", name)
		}
	}
	point, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil {
		return c, fmt.Errorf("k: %w", err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return c, fmt.Errorf("k: %w", err)
	}
	if want != nil && !bytes.Equal(want, point) {
		return c, errors.New("k: not the key of the subscription")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("t: not a compact JWS")
	}
	var head struct {
		Type      string `json:"typ"`
		Algorithm string `json:"alg"`
	}
	if err := decodePart(parts[0], &head); err != nil || head.Algorithm != "ES256" || head.Type != "JWT" {
		return c, fmt.Errorf("t: header %+v, %w", head, err)
	}
	if err := decodePart(parts[1], &c); err != nil {
		return c, fmt.Errorf("t: claims: %w", err)
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		return c, fmt.Errorf("t: signature of %d bytes, %w", len(signature), err)
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	expires := time.Unix(c.Expires, 0)
	switch {
	case !ecdsa.Verify(public, hash[:], r, s):
		return c, errors.New("t: the signature is not by k")
	case c.Audience != origin:
		return c, fmt.Errorf("t: aud %q, want %q", c.Audience, origin)
	case !expires.After(now):
		return c, errors.New("t: expired")
	case expires.After(now.Add(24 * time.Hour)):
		return c, errors.New("t: good for more than 24 hours")
	case !strings.HasPrefix(c.Subject, "mailto:") && !strings.HasPrefix(c.Subject, "https://") || strings.Contains(c.Subject[6:], "mailto:"):
		return c, fmt.Errorf("t: sub %q is no contact", c.Subject)
	}
	return c, nil
}

func decodePart(text string, into any) error {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
