// SPDX-License-Identifier: Apache-2.0

package sshcert

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Revoked is what is taken back, in the form that ssh-keygen -k reads: public keys, or
// lines of serial:, id:, key:, sha256: and hash:.
type Revoked struct {
	keys    [][]byte
	hashes  []string // SHA256:…
	ids     []string
	serials [][2]uint64 // first and last
}

// ParseRevoked reads a list. A line that is not understood is an error: what it was to
// revoke must not go on being believed.
func ParseRevoked(text string) (*Revoked, error) {
	r := &Revoked{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := r.add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return r, nil
}

func (r *Revoked) add(line string) error {
	word, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch strings.ToLower(word) {
	case "serial":
		first, last, isRange := strings.Cut(value, "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(strings.TrimSpace(first), 0, 64)
		if err != nil {
			return err
		}
		b, err := strconv.ParseUint(strings.TrimSpace(last), 0, 64)
		if err != nil {
			return err
		}
		if b < a {
			return fmt.Errorf("the range %q ends before it begins", value)
		}
		r.serials = append(r.serials, [2]uint64{a, b})
	case "id":
		r.ids = append(r.ids, value)
	case "hash", "sha256":
		hash := "SHA256:" + strings.TrimRight(strings.TrimPrefix(value, "SHA256:"), "=")
		if raw, err := base64.RawStdEncoding.DecodeString(hash[7:]); err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("%q is no SHA256 fingerprint", value)
		}
		r.hashes = append(r.hashes, hash)
	case "key":
		return r.addKey(value)
	default:
		return r.addKey(line)
	}
	return nil
}

func (r *Revoked) addKey(line string) error {
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return err
	}
	if len(options) > 0 {
		return errors.New("a key with options")
	}
	if c, ok := key.(*ssh.Certificate); ok {
		key = c.Key
	}
	r.keys = append(r.keys, key.Marshal())
	return nil
}

// Holds says whether a key is on the list; of a certificate, whether it, its key or its CA's
// key is.
func (r *Revoked) Holds(key ssh.PublicKey) bool {
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		blob := key.Marshal()
		return slices.ContainsFunc(r.keys, func(b []byte) bool { return bytes.Equal(b, blob) }) || slices.Contains(r.hashes, ssh.FingerprintSHA256(key))
	}
	for _, s := range r.serials {
		if s[0] <= cert.Serial && cert.Serial <= s[1] {
			return true
		}
	}
	return r.Holds(cert.Key) || r.Holds(cert.SignatureKey) || slices.Contains(r.ids, cert.KeyId)
}
