// SPDX-License-Identifier: Apache-2.0

// Package sshkey owns which SSH public keys may stand for a person, and the one
// text form in which they are kept. It never says whose a key is.
package sshkey

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// Limits of a key.
const (
	MaxLine    = 4096 // bytes of a line, comment and all
	MaxComment = 100  // bytes
	MinRSA     = 2048 // bits
	MaxRSA     = 16384
	// MaxKeys is how many one person may have.
	MaxKeys = 32
)

// ErrRefused is wrapped by the errors of Parse.
var ErrRefused = errors.New("no key that may stand for a person")

// Key is a public key of a person.
type Key struct {
	Text        string // TYPE BASE64, as in authorized_keys
	Type        string
	Fingerprint string // SHA256:…
	Comment     string
}

// types are those that are taken. DSA is broken, and a certificate is its CA's word.
var types = map[string]bool{
	ssh.KeyAlgoRSA: true, ssh.KeyAlgoECDSA256: true, ssh.KeyAlgoECDSA384: true, ssh.KeyAlgoECDSA521: true,
	ssh.KeyAlgoED25519: true, ssh.KeyAlgoSKECDSA256: true, ssh.KeyAlgoSKED25519: true,
}

// Parse reads one line of the form "TYPE BASE64 [COMMENT]". Options, which
// authorized_keys puts before it, are refused: who asks for them must not believe
// that they hold.
func Parse(line string) (Key, error) {
	line = strings.TrimSpace(line)
	switch {
	case line == "":
		return Key{}, refused("it is empty")
	case strings.HasPrefix(line, "-----BEGIN"), strings.HasPrefix(line, "---- BEGIN"), strings.HasPrefix(line, "PuTTY-User-Key"):
		return Key{}, refused("it is no public key in one line; take the file with .pub at its end")
	case len(line) > MaxLine:
		return Key{}, refused("it has over %d bytes", MaxLine)
	case strings.ContainsAny(line, "\r\n\x00"):
		return Key{}, refused("it is more than one line")
	}
	public, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return Key{}, refused("it is not of the form TYPE BASE64 [COMMENT]")
	case len(options) > 0:
		return Key{}, refused("options before a key are not taken")
	case len(rest) > 0:
		return Key{}, refused("it is more than one line")
	}
	if err := check(public); err != nil {
		return Key{}, err
	}
	if kind, _, _ := strings.Cut(line, " "); kind != public.Type() {
		return Key{}, refused("it says %q and is of type %s", kind, public.Type())
	}
	comment = strings.TrimSpace(comment)
	if err := CheckComment(comment); err != nil {
		return Key{}, err
	}
	return Key{
		Text: strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(public)), "\n"), Type: public.Type(),
		Fingerprint: ssh.FingerprintSHA256(public), Comment: comment,
	}, nil
}

func check(public ssh.PublicKey) error {
	switch {
	case public.Type() == "ssh-dss":
		return refused("it is a DSA key, which is broken; make one with ssh-keygen -t ed25519")
	case strings.Contains(public.Type(), "-cert-"):
		return refused("it is a certificate; name its CA to the gateway instead")
	case !types[public.Type()]:
		return refused("the type %s is not taken", public.Type())
	case public.Type() != ssh.KeyAlgoRSA:
		return nil
	}
	holder, ok := public.(ssh.CryptoPublicKey)
	if !ok {
		return refused("its size cannot be told")
	}
	key, ok := holder.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return refused("its size cannot be told")
	}
	if bits := key.N.BitLen(); bits < MinRSA || bits > MaxRSA {
		return refused("it has %d bits; RSA keys have %d to %d", bits, MinRSA, MaxRSA)
	}
	return nil
}

// CheckComment refuses a comment that is too long or does not print.
func CheckComment(comment string) error {
	if len(comment) > MaxComment || !utf8.ValidString(comment) || strings.ContainsFunc(comment, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return refused("the comment is not one line of at most %d bytes", MaxComment)
	}
	return nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}
