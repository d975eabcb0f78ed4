// SPDX-License-Identifier: Apache-2.0

// Package sshinfo reads what sshd puts into the PAM environment about a
// connection: SSH_AUTH_INFO_0 and SSH_CONNECTION. It never decides whether the
// process that sent them is to be believed.
package sshinfo

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Names of the variables, as sshd's auth-pam.c sets them.
const (
	AuthInfoVar   = "SSH_AUTH_INFO_0"
	ConnectionVar = "SSH_CONNECTION"
)

// firstFactors are the methods that prove something on their own.
// keyboard-interactive is missing on purpose: it is the PAM stack itself, and
// so the second factor alone may be all that it asked for.
var firstFactors = []string{"publickey", "password", "hostbased", "gssapi-with-mic", "gssapi-keyex"}

// ErrMalformed is wrapped by the errors of this package.
var ErrMalformed = errors.New("malformed")

// maxAuthInfo bounds SSH_AUTH_INFO_0, in bytes: a frame holds no more.
const maxAuthInfo = 8192

// Auth is what sshd says of the methods that a connection has finished.
type Auth struct {
	Methods []string // in order, without submethods
	Keys    []string // fingerprints of the public keys, SHA256:…; a certificate's is its key's
	// Certificates are those among the keys; nothing about them has been checked
	// but that sshd says they were proven.
	Certificates []*ssh.Certificate
	// KeysUnknown says that Keys is not the whole truth: nothing is finished
	// yet, or a line holds text that the client chose.
	KeysUnknown bool
}

// FirstFactor says whether a method among them is a first factor.
func (a Auth) FirstFactor() bool {
	return slices.ContainsFunc(a.Methods, func(m string) bool { return slices.Contains(firstFactors, m) })
}

// ParseAuth reads the value of SSH_AUTH_INFO_0: a line per finished method,
//
//	method["/"submethod][" "detail]
//
// where the detail of publickey is the key as in authorized_keys. Anything else
// is an error that wraps ErrMalformed, and then nothing is finished.
func ParseAuth(value string) (Auth, error) {
	if len(value) > maxAuthInfo {
		return unknown(), fmt.Errorf("%s: %w: %d bytes", AuthInfoVar, ErrMalformed, len(value))
	}
	value = strings.TrimSuffix(value, "\n")
	if value == "" {
		return unknown(), nil
	}
	var a Auth
	for i, line := range strings.Split(value, "\n") {
		if err := a.add(line); err != nil {
			return unknown(), fmt.Errorf("%s: line %d: %w", AuthInfoVar, i+1, err)
		}
	}
	return a, nil
}

func unknown() Auth { return Auth{KeysUnknown: true} }

func (a *Auth) add(line string) error {
	method, detail, _ := strings.Cut(line, " ")
	name, _, _ := strings.Cut(method, "/")
	if name == "" || strings.ContainsFunc(method, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_/", r) }) {
		return fmt.Errorf("%w: no method name", ErrMalformed)
	}
	a.Methods = append(a.Methods, name)
	switch name {
	case "publickey":
		key, err := publicKey(detail)
		if err != nil {
			return err
		}
		if cert, ok := key.(*ssh.Certificate); ok {
			a.Certificates = append(a.Certificates, cert)
			key = cert.Key
		}
		a.Keys = append(a.Keys, ssh.FingerprintSHA256(key))
	case "hostbased", "gssapi-with-mic", "gssapi-keyex":
		// The detail holds names from the other side: one with a line break in
		// it would look like a line of sshd's own.
		a.KeysUnknown = true
	}
	return nil
}

func publicKey(detail string) (ssh.PublicKey, error) {
	kind, b64, ok := strings.Cut(detail, " ")
	if !ok {
		return nil, fmt.Errorf("%w: publickey without a key", ErrMalformed)
	}
	blob, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil {
		return nil, fmt.Errorf("%w: key is not base64", ErrMalformed)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if key.Type() != kind {
		return nil, fmt.Errorf("%w: key type %q in a line that says %q", ErrMalformed, key.Type(), kind)
	}
	return key, nil
}

// ParseSource reads the client's address from the value of SSH_CONNECTION:
// address and port of the client, address and port of the server.
func ParseSource(value string) (netip.Addr, error) {
	f := strings.Split(value, " ")
	if len(f) != 4 {
		return netip.Addr{}, fmt.Errorf("%s: %w: %d fields", ConnectionVar, ErrMalformed, len(f))
	}
	for _, port := range []string{f[1], f[3]} {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return netip.Addr{}, fmt.Errorf("%s: %w: port", ConnectionVar, ErrMalformed)
		}
	}
	return ParseAddr(f[0])
}

// ParseAddr reads an address; a host name is an error.
func ParseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: not an address", ErrMalformed)
	}
	return addr.Unmap(), nil
}
