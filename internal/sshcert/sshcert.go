// SPDX-License-Identifier: Apache-2.0

// Package sshcert says which certificate authority stands behind an SSH user
// certificate, whether it may be used now and from an address, and which keys were taken
// back. Which account a
// certificate opens, it leaves to others.
package sshcert

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Authorities are the CAs whose SSH certificates count, by the names that
// authd.toml gives them. Several keys of one name are one CA, as during a change
// of keys.
type Authorities map[string][]ssh.PublicKey

// ParseAuthority reads the public keys of a CA: lines as in authorized_keys
// without options, blank lines and comments.
func ParseAuthority(text string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		_, isCert := key.(*ssh.Certificate)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w: not a public key as ssh-keygen writes it", i+1, ErrMalformed)
		case len(options) > 0:
			return nil, fmt.Errorf("line %d: %w: options such as %q are for sshd", i+1, ErrMalformed, options[0])
		case isCert:
			return nil, fmt.Errorf("line %d: %w: a certificate, not the public key of a CA", i+1, ErrMalformed)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no public key", ErrMalformed)
	}
	return keys, nil
}

// ErrMalformed is wrapped by the errors about certificates and keys that are not in order.
var ErrMalformed = errors.New("malformed")

// Errors of Authorities.Check.
var (
	// ErrNotOurs says that no CA of that name list signed the certificate.
	ErrNotOurs = errors.New("the certificate is of no CA in the configuration")
	// ErrCannotTell says that a condition of the certificate cannot be looked at.
	ErrCannotTell = errors.New("the certificate is bound to source addresses, and the address is not known")
)

// Algorithms of CA signatures that OpenSSH does not accept, for their hash.
var brokenSignatures = []string{ssh.KeyAlgoRSA, "ssh-dss"}

// criticalOptions are those that OpenSSH knows. It enforces force-command and
// verify-required itself; source-address is looked at here.
var criticalOptions = []string{"force-command", "verify-required", "source-address"}

// Check returns the name of the CA that signed a user certificate which sshd says
// was proven, if the signature is right, the certificate is valid at now, and it
// may be used from source (the zero value: not known). Which of its principals
// opens which account is for sshd to say, and so is revocation.
func (a Authorities) Check(cert *ssh.Certificate, now time.Time, source netip.Addr) (string, error) {
	name := a.signer(cert)
	switch {
	case name == "":
		return "", ErrNotOurs
	case cert.CertType != ssh.UserCert:
		return "", fmt.Errorf("certificate of CA %s: %w: not a user certificate", name, ErrMalformed)
	case cert.Signature == nil || slices.Contains(brokenSignatures, cert.Signature.Format):
		return "", fmt.Errorf("certificate of CA %s: %w: signed with a broken algorithm", name, ErrMalformed)
	}
	checker := ssh.CertChecker{SupportedCriticalOptions: criticalOptions, Clock: func() time.Time { return now }}
	principal := "" // any of its own: CheckCert asks for one
	if len(cert.ValidPrincipals) > 0 {
		principal = cert.ValidPrincipals[0]
	}
	if err := checker.CheckCert(principal, cert); err != nil {
		return "", fmt.Errorf("certificate of CA %s: %w", name, err)
	}
	if addresses, bound := cert.CriticalOptions["source-address"]; bound {
		if err := sourcePermitted(addresses, source); err != nil {
			return "", fmt.Errorf("certificate of CA %s: %w", name, err)
		}
	}
	return name, nil
}

// signer is the name of the CA with the key in the certificate, the first in
// alphabetical order; "" for none. Whether it signed is not looked at here.
func (a Authorities) signer(cert *ssh.Certificate) string {
	found := ""
	for name, keys := range a {
		ours := slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), cert.SignatureKey.Marshal()) })
		if ours && (found == "" || name < found) {
			found = name
		}
	}
	return found
}

// sourcePermitted reads the option source-address: addresses and networks,
// separated by commas, as in PROTOCOL.certkeys of OpenSSH.
func sourcePermitted(addresses string, source netip.Addr) error {
	if !source.IsValid() {
		return ErrCannotTell
	}
	source = source.Unmap().WithZone("")
	for _, s := range strings.Split(addresses, ",") {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Unmap() == source {
			return nil
		}
		if p, err := netip.ParsePrefix(s); err == nil && p.Masked().Contains(source) {
			return nil
		}
	}
	return fmt.Errorf("%w: it may not be used from %s", ErrMalformed, source)
}
