// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// keyTypes are those that may sign.
var keyTypes = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSA,
}

// signatureAlgorithms are those by which they may: without SHA-1.
var signatureAlgorithms = []string{
	ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
}

// Sizes of RSA keys, in bits. What is larger costs the gateway more than the client.
const (
	leastRSA = 2048 // where the configuration says nothing
	mostRSA  = 16384
)

// checkKey refuses keys of kinds and sizes that do not count.
func (v *Visit) checkKey(key ssh.PublicKey) error {
	if !slices.Contains(keyTypes, key.Type()) {
		return no("key_kind", "keys of type %s do not count", key.Type())
	}
	if key.Type() != ssh.KeyAlgoRSA {
		return nil
	}
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return no("key_kind", "an RSA key that cannot be measured")
	}
	k, ok := c.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return no("key_kind", "an RSA key that cannot be measured")
	}
	if n, least := k.N.BitLen(), cmp.Or(v.policy.First.MinRSABits, leastRSA); n < least || n > mostRSA {
		return no("key_kind", "an RSA key of %d bits; from %d to %d count", n, least, mostRSA)
	}
	return nil
}

// securityKey says that a key lives in a FIDO2 device. The library takes a signature of
// one only with a touch, unless something waives it, and here nothing does.
func securityKey(key ssh.PublicKey) bool {
	return key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256
}

// fingerprint is that of a key, of a certificate its own key's.
func fingerprint(key ssh.PublicKey) string {
	if c, ok := key.(*ssh.Certificate); ok {
		key = c.Key
	}
	return ssh.FingerprintSHA256(key)
}

// proveKey says what a key or certificate would prove for a user, if it signed.
func (v *Visit) proveKey(user string, key ssh.PublicKey) (*proof, error) {
	bare := key
	cert, isCert := key.(*ssh.Certificate)
	if isCert {
		bare = cert.Key
	}
	if err := v.checkKey(bare); err != nil {
		return nil, err
	}
	if err := v.notRevoked(key); err != nil {
		return nil, err
	}
	account, name, err := v.person(user)
	if err != nil {
		if errors.Is(err, directory.ErrNoSuchUser) && !isCert {
			// The same is asked, and fails alike, as for somebody who is there.
			if _, asked := v.verifierKnows(directory.NoAccount(name.User), bare); asked != nil {
				err = asked
			}
		}
		return nil, err
	}
	p := &proof{
		user: user, name: name, account: account, method: identity.PublicKey, key: fingerprint(bare), keyType: bare.Type(),
		authInfo: "publickey " + key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal()), touched: securityKey(bare),
	}
	if isCert {
		return p, v.proveCertificate(p, cert)
	}
	p.limits, p.expires, err = v.authorized(account, bare)
	return p, err
}

// notRevoked refuses what the configuration takes back, wherever it is authorized. A list
// that cannot be read takes back everything.
func (v *Visit) notRevoked(key ssh.PublicKey) error {
	path := v.policy.First.RevokedKeys
	if path == "" {
		return nil
	}
	list, err := v.revoked.get(path, func() (*sshcert.Revoked, error) { return readRevoked(path) })
	switch {
	case err != nil:
		return cannot("revocations_unreadable", "what is revoked cannot be read: %w", err)
	case list.Holds(key):
		return no("key_revoked", "the key is revoked")
	}
	return nil
}

// authorized looks a plain key up, in files and at the verifier: what it is limited to, and
// until when it counts.
func (v *Visit) authorized(account directory.Account, key ssh.PublicKey) (identity.Limits, time.Time, error) {
	why := no("key_unknown", "no authorized key")
	for _, pattern := range v.policy.First.AuthorizedKeys {
		lines, err := readAuthorized(expand(pattern, account.Name), account)
		if err != nil {
			why = cannot("keys_unreadable", "authorized keys: %w", err)
			continue
		}
		for _, l := range lines {
			if l.authority || !bytes.Equal(l.key.Marshal(), key.Marshal()) {
				continue
			}
			if l.err != nil {
				why = no("key_line", "authorized keys: %w", l.err)
				continue
			}
			if err := l.permits(v.who.Source.Addr(), v.door.opt.Now()); err != nil {
				why = no("key_line", "authorized keys: %w", err)
				continue
			}
			return l.limits, l.expires, nil
		}
	}
	if known, err := v.verifierKnows(account, key); known || err != nil {
		return identity.Limits{}, time.Time{}, err
	}
	return identity.Limits{}, time.Time{}, why
}

// verifierKnows says whether the verifier knows the key as this person's.
func (v *Visit) verifierKnows(account directory.Account, key ssh.PublicKey) (bool, error) {
	if !v.policy.First.VerifierKeys || v.door.opt.Authd == nil {
		return false, nil
	}
	known, err := v.keys.get(account.Name, func() ([]ssh.PublicKey, error) { return v.verifierKeys(account) })
	return slices.ContainsFunc(known, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) }), err
}

// verifierKeys asks authd which keys the verifier knows of a person.
func (v *Visit) verifierKeys(account directory.Account) ([]ssh.PublicKey, error) {
	var list keyList
	outcome, err := v.door.opt.Authd.Call(v.ctx, &frames.Request{
		Hook: frames.HookSSHKeys, RUID: uint32(os.Getuid()), EUID: uint32(os.Geteuid()), Version: version.String(),
		Service: "sshgw", User: account.Name, RHost: v.who.Source.Addr().String(),
	}, &list)
	switch {
	case err != nil:
		return nil, cannot("keys_unreadable", "the verifier's keys: %w", err)
	case outcome == frames.OutcomeDeny || outcome == frames.OutcomeUserUnknown:
		return nil, nil // they have none
	case outcome != frames.OutcomeAllow:
		return nil, cannot("keys_unreadable", "the verifier's keys: %s", outcome)
	}
	return list.keys, nil
}

// keyList collects keys that are shown one by one.
type keyList struct{ keys []ssh.PublicKey }

// Show implements conversation.Person. A line with options is no key of the verifier's.
func (l *keyList) Show(_ frames.Style, text string) error {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err == nil && len(options) == 0 && len(bytes.TrimSpace(rest)) == 0 {
		if _, isCert := key.(*ssh.Certificate); !isCert {
			l.keys = append(l.keys, key)
		}
	}
	return nil
}

// Ask implements conversation.Person.
func (*keyList) Ask(context.Context, string, bool) (frames.Secret, error) {
	return "", conversation.ErrNobody
}

// proveCertificate checks a certificate and adds what it says to the proof: by the CAs of
// the configuration, else by those of the person's authorized keys.
func (v *Visit) proveCertificate(p *proof, cert *ssh.Certificate) error {
	if err := v.checkKey(cert.SignatureKey); err != nil {
		return fmt.Errorf("the key of the certificate's CA: %w", err)
	}
	limits, err := certificateLimits(cert)
	if err != nil {
		return no("certificate_refused", "the certificate: %w", err)
	}
	ca, more, expires, err := v.authority(p.account, cert)
	if err != nil {
		return err
	}
	if limits, err = merge(limits, more); err != nil {
		return no("certificate_refused", "the certificate: %w", err)
	}
	p.method, p.ca, p.keyID, p.serial, p.limits = identity.Certificate, ca, cert.KeyId, cert.Serial, limits
	p.expires = sooner(expires, validBefore(cert))
	return nil
}

// validBefore is when a certificate expires, the zero time for never.
func validBefore(cert *ssh.Certificate) time.Time {
	if cert.ValidBefore > math.MaxInt64 { // ssh.CertTimeInfinity among them
		return time.Time{}
	}
	return time.Unix(int64(cert.ValidBefore), 0)
}

// sooner is the first of two times of expiry; the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ownAuthority is the name, for the log, of a CA that a person's authorized keys name.
const ownAuthority = "authorized_keys"

// authority returns the CA that vouches for the certificate, and lets the account be opened
// with it.
func (v *Visit) authority(account directory.Account, cert *ssh.Certificate) (string, identity.Limits, time.Time, error) {
	now, source := v.door.opt.Now(), v.who.Source.Addr()
	why := no("certificate_refused", "the certificate: %w", sshcert.ErrNotOurs)
	for _, ca := range v.policy.First.CAs {
		err := checkAuthority(ca, account, cert, func(a sshcert.Authorities) error {
			_, err := a.Check(cert, now, source)
			return err
		})
		if err == nil {
			return ca.Name, identity.Limits{}, time.Time{}, nil
		}
		if !errors.Is(err, sshcert.ErrNotOurs) {
			why = err
		}
	}
	for _, pattern := range v.policy.First.AuthorizedKeys {
		lines, err := readAuthorized(expand(pattern, account.Name), account)
		if err != nil {
			why = cannot("keys_unreadable", "authorized keys: %w", err)
			continue
		}
		for _, l := range lines {
			if !l.authority || !bytes.Equal(l.key.Marshal(), cert.SignatureKey.Marshal()) {
				continue
			}
			err := l.err
			if err == nil {
				err = l.permits(source, now)
			}
			if err == nil {
				_, err = sshcert.Authorities{ownAuthority: {l.key}}.Check(cert, now, source)
			}
			if err == nil && !slices.ContainsFunc(cert.ValidPrincipals, func(s string) bool { return slices.Contains(l.principalsOf(account.Name), s) }) {
				err = errPrincipal
			}
			if err == nil {
				return ownAuthority, l.limits, l.expires, nil
			}
			why = no("key_line", "authorized keys: %w", err)
		}
	}
	return "", identity.Limits{}, time.Time{}, why
}

// errPrincipal says that a certificate is somebody else's.
var errPrincipal = errors.New("the certificate names none of the principals that may be this user")

// checkAuthority checks a certificate by one CA of the configuration.
func checkAuthority(ca config.UserCA, account directory.Account, cert *ssh.Certificate, check func(sshcert.Authorities) error) error {
	text, err := readOurs(ca.KeysFile)
	if err != nil {
		return cannot("ca_unreadable", "CA %s: %w", ca.Name, err)
	}
	keys, err := sshcert.ParseAuthority(string(text))
	if err != nil {
		return cannot("ca_unreadable", "CA %s: %s: %w", ca.Name, ca.KeysFile, err)
	}
	if err := check(sshcert.Authorities{ca.Name: keys}); err != nil {
		if errors.Is(err, sshcert.ErrNotOurs) {
			return err
		}
		return no("certificate_refused", "the certificate: %w", err)
	}
	may := []string{account.Name}
	if ca.PrincipalsFile != "" {
		if may, err = readPrincipals(expand(ca.PrincipalsFile, account.Name)); err != nil {
			return cannot("ca_unreadable", "CA %s: %w", ca.Name, err)
		}
	}
	if !slices.ContainsFunc(cert.ValidPrincipals, func(s string) bool { return slices.Contains(may, s) }) {
		return no("certificate_refused", "CA %s: %w", ca.Name, errPrincipal)
	}
	if ca.RevokedKeys != "" {
		list, err := readRevoked(ca.RevokedKeys)
		if err != nil {
			return cannot("revocations_unreadable", "CA %s: what is revoked cannot be read: %w", ca.Name, err)
		}
		if list.Holds(cert) {
			return no("key_revoked", "CA %s: the certificate or its key is revoked", ca.Name)
		}
	}
	return nil
}

// certificateLimits is what a certificate takes away, by its options and by the
// extensions that it does not have.
func certificateLimits(cert *ssh.Certificate) (identity.Limits, error) {
	if _, ok := cert.CriticalOptions["verify-required"]; ok {
		return identity.Limits{}, errVerify
	}
	// The library would take a signature without a touch on the certificate's word.
	if _, ok := cert.Extensions["no-touch-required"]; ok && securityKey(cert.Key) {
		return identity.Limits{}, errNoTouch
	}
	if command, ok := cert.CriticalOptions["force-command"]; ok && command == "" {
		return identity.Limits{}, errNoCommand
	}
	has := func(name string) bool {
		_, ok := cert.Extensions[name]
		return ok
	}
	return identity.Limits{
		NoPTY: !has("permit-pty"), NoAgent: !has("permit-agent-forwarding"), NoForwarding: !has("permit-port-forwarding"),
		NoX11: !has("permit-X11-forwarding"), Command: cert.CriticalOptions["force-command"],
	}, nil
}

// Options that promise more, or less, than the gateway can see to.
var (
	errVerify  = errors.New("verify-required cannot be enforced: the flag for it is not seen here")
	errNoTouch = errors.New("no-touch-required is never granted")
	// An empty Command is none: everything would be permitted where nothing is meant.
	errNoCommand = errors.New("force-command is there, and empty")
)

// merge is what two sets of limits take away together.
func merge(a, b identity.Limits) (identity.Limits, error) {
	command := a.Command
	if command == "" {
		command = b.Command
	} else if b.Command != "" && b.Command != command {
		return a, errors.New("the certificate and the line of its CA force different commands")
	}
	return identity.Limits{
		NoPTY: a.NoPTY || b.NoPTY, NoAgent: a.NoAgent || b.NoAgent, NoForwarding: a.NoForwarding || b.NoForwarding, NoX11: a.NoX11 || b.NoX11,
		Command: command, PermitOpen: b.PermitOpen, PermitListen: b.PermitListen,
	}, nil
}
