// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/ssh"
)

// OpenSSH's PROTOCOL, section 2.5: the server tells which host keys it has, so that
// clients learn those to come before they come, and proves that it has them.

// maxProofs bounds how often one connection makes the gateway sign.
const maxProofs = 4

// announce tells the client all host keys. It may be done once in a connection.
func (c *Conn) announce() {
	var payload []byte
	for _, k := range c.server.opt.Keys.Announced() {
		payload = appendString(payload, k.PublicKey().Marshal())
	}
	if len(payload) > 0 {
		_, _, _ = c.SSH.SendRequest("hostkeys-00@openssh.com", false, payload)
	}
}

// prove signs each host key that the client names, for this session.
func (c *Conn) prove(payload []byte) ([]byte, error) {
	if c.Outer != nil {
		return nil, errors.New("a connection inside another announces none")
	}
	if c.proofs++; c.proofs > maxProofs {
		return nil, fmt.Errorf("asked more than %d times", maxProofs)
	}
	announced := c.server.opt.Keys.Announced()
	var out []byte
	for n := 0; len(payload) > 0; n++ {
		blob, rest, ok := cutString(payload)
		if !ok || n >= len(announced) {
			return nil, errors.New("the request is malformed")
		}
		payload = rest
		i := slices.IndexFunc(announced, func(k ssh.Signer) bool { return string(k.PublicKey().Marshal()) == string(blob) })
		if i < 0 {
			return nil, errors.New("the client asks about a key that was not announced")
		}
		var signed []byte
		for _, s := range [][]byte{[]byte("hostkeys-prove-00@openssh.com"), c.SSH.SessionID(), blob} {
			signed = appendString(signed, s)
		}
		signature, err := c.sign(announced[i], signed)
		if err != nil {
			return nil, err
		}
		out = appendString(out, ssh.Marshal(signature))
	}
	return out, nil
}

// sign signs with the algorithm that the client expects: for RSA the one that the key
// exchange settled on if it was one of RSA's, else SHA-512.
func (c *Conn) sign(k ssh.Signer, data []byte) (*ssh.Signature, error) {
	if k.PublicKey().Type() != ssh.KeyAlgoRSA {
		return k.Sign(c.server.opt.Rand, data)
	}
	signer, ok := k.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("the host key of type RSA signs by SHA-1 alone")
	}
	algorithm := ssh.KeyAlgoRSASHA512
	if m, ok := c.SSH.(ssh.AlgorithmsConnMetadata); ok && m.Algorithms().HostKey == ssh.KeyAlgoRSASHA256 {
		algorithm = ssh.KeyAlgoRSASHA256
	}
	return signer.SignWithAlgorithm(c.server.opt.Rand, data, algorithm)
}

func appendString(to, s []byte) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(s)))
	return append(to, s...)
}

func cutString(from []byte) (s, rest []byte, ok bool) {
	if len(from) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(from)
	from = from[4:]
	if uint64(n) > uint64(len(from)) {
		return nil, nil, false
	}
	return from[:n], from[n:], true
}
