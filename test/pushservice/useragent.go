// SPDX-License-Identifier: Apache-2.0

package pushservice

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// UserAgent is a browser with one subscription.
type UserAgent struct {
	*Resource
	// P256dh and Auth are what its PushSubscription tells, in base64url.
	P256dh, Auth string

	key  *ecdh.PrivateKey
	auth []byte
}

// Subscribe makes a user agent whose messages only the owner of the key
// (base64url of an uncompressed point, as the verifier gives it) may send.
func (s *Service) Subscribe(key string) (*UserAgent, error) {
	point, err := base64.RawURLEncoding.Strict().DecodeString(key)
	if err != nil || len(point) != 65 {
		return nil, fmt.Errorf("application server key %q: %w", key, err)
	}
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	auth := make([]byte, 16)
	_, _ = rand.Read(auth) // never fails
	return &UserAgent{
		Resource: s.Add(Path(), point, nil), key: private, auth: auth,
		P256dh: base64.RawURLEncoding.EncodeToString(private.PublicKey().Bytes()),
		Auth:   base64.RawURLEncoding.EncodeToString(auth),
	}, nil
}

// Receive waits for the next message until done is closed, and decrypts it.
func (u *UserAgent) Receive(done <-chan struct{}) (Message, []byte, error) {
	m, err := u.Next(done)
	if err != nil {
		return m, nil, err
	}
	plain, err := Decrypt(m.Body, u.key, u.auth)
	return m, plain, err
}

const headSize = 16 + 4 + 1 // salt, record size, length of the key id

// checkHeader looks at what a push service can see of a body (RFC 8188, section 2.1).
func checkHeader(body []byte) error {
	if len(body) < headSize+65+17 {
		return fmt.Errorf("only %d bytes", len(body))
	}
	size := binary.BigEndian.Uint32(body[16:])
	switch {
	case size < 18:
		return fmt.Errorf("records of %d bytes", size)
	case body[20] != 65 || body[21] != 4:
		return errors.New("keyid: not an uncompressed point")
	}
	return nil
}

// Decrypt opens a push message with the user agent's key and authentication
// secret (RFC 8291, section 3.4). A message has one record.
func Decrypt(body []byte, key *ecdh.PrivateKey, auth []byte) ([]byte, error) {
	if err := checkHeader(body); err != nil {
		return nil, err
	}
	salt, size, sender := body[:16], binary.BigEndian.Uint32(body[16:]), body[headSize:headSize+65]
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, fmt.Errorf("keyid: %w", err)
	}
	secret, err := key.ECDH(public)
	if err != nil {
		return nil, err
	}
	if uint32(len(body)-headSize-65) > size {
		return nil, errors.New("more than one record")
	}
	info := slices.Concat([]byte("WebPush: info\x00"), key.PublicKey().Bytes(), sender)
	return decryptRecords(body[headSize+65:], int(size), salt, expand(extract(auth, secret), info, 32))
}

// decryptRecords opens the records of aes128gcm (RFC 8188, section 2).
func decryptRecords(body []byte, size int, salt, ikm []byte) (plain []byte, err error) {
	prk := extract(salt, ikm)
	block, err := aes.NewCipher(expand(prk, []byte("Content-Encoding: aes128gcm\x00"), 16))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	base := expand(prk, []byte("Content-Encoding: nonce\x00"), 12)
	for seq := uint64(0); len(body) > 0; seq++ {
		record := body[:min(size, len(body))]
		body = body[len(record):]
		nonce := slices.Clone(base)
		for i, b := range binary.BigEndian.AppendUint64(nil, seq) {
			nonce[4+i] ^= b
		}
		padded, err := gcm.Open(nil, nonce, record, nil)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", seq, err)
		}
		end := len(padded) - 1
		for end >= 0 && padded[end] == 0 {
			end--
		}
		last := len(body) == 0
		if end < 0 || padded[end] != 1 && !last || padded[end] != 2 && last {
			return nil, fmt.Errorf("record %d: its delimiter is wrong", seq)
		}
		plain = append(plain, padded[:end]...)
	}
	return plain, nil
}

// extract and expand are HKDF (RFC 5869), written out, so that no function is the sender's too.
func extract(salt, ikm []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write(ikm)
	return mac.Sum(nil)
}

// expand gives up to 32 bytes: one block.
func expand(prk, info []byte, n int) []byte {
	mac := hmac.New(sha256.New, prk)
	mac.Write(info)
	mac.Write([]byte{1})
	return mac.Sum(nil)[:n]
}
