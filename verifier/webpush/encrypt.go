// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	saltSize  = 16 // RFC 8188, section 2.1
	authSize  = 16 // RFC 8291, section 3.2
	pointSize = 65 // uncompressed point of P-256
	// recordSize is what the header names; the one record there is may be shorter.
	recordSize = 4096
	// lastRecord delimits the plaintext of the last record from its padding.
	lastRecord = 2
)

// encrypt makes the body of a push message (RFC 8291, section 3.4): the header of
// aes128gcm (RFC 8188, section 2.1) and one record. sender is good for one
// message, as is salt. The plaintext is padded to padTo bytes, if it is shorter.
func encrypt(plain []byte, padTo int, to *ecdh.PublicKey, auth []byte, sender *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	secret, err := sender.ECDH(to)
	if err != nil {
		return nil, fmt.Errorf("encrypt: agree on a key: %w", err)
	}
	from := sender.PublicKey().Bytes()
	info := slices.Concat([]byte("WebPush: info\x00"), to.Bytes(), from)
	ikm, err := hkdf.Key(sha256.New, secret, auth, string(info), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("encrypt: derive a key: %w", err)
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, fmt.Errorf("encrypt: derive a key: %w", err)
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, fmt.Errorf("encrypt: derive a nonce: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	record := append(slices.Clone(plain), lastRecord)
	record = append(record, make([]byte, max(0, padTo-len(plain)))...)
	if len(record)+gcm.Overhead() > recordSize {
		return nil, fmt.Errorf("encrypt: %d bytes do not fit into a record", len(record))
	}
	out := slices.Clone(salt)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(out, byte(len(from)))
	out = append(out, from...)
	// The nonce of record 0 is the derived one as it is.
	return gcm.Seal(out, nonce, record, nil), nil
}
