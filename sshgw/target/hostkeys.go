// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// How a target's host key was known.
const (
	byKnownHosts  = "known_hosts"
	byCertificate = "certificate"
	byFirstSight  = "first_sight"
)

// hostCheck decides whether a host key is the target's. Its methods are called by
// goroutines of the SSH library, also when keys are exchanged again later.
type hostCheck struct {
	attempt *attempt
	address string   // host:port
	names   []string // that a certificate may be for
	cas     []ssh.PublicKey
	plain   []ssh.PublicKey

	mu       sync.Mutex
	accepted []byte // the key of this connection; it may not change
	print    string
	by       string
	refusal  *Error
}

// knownOf collects what is known of a target: by the name that is dialled and, as with
// OpenSSH's HostKeyAlias, by the name that people type.
func (a *attempt) knownOf(t *inventory.Target) *hostCheck {
	host := strings.ToLower(t.Host)
	h := &hostCheck{attempt: a, address: strings.ToLower(join(t)), names: []string{host}}
	for _, n := range append([]string{t.Name}, t.Aliases...) {
		if n = strings.ToLower(n); n != "" && !slices.Contains(h.names, n) {
			h.names = append(h.names, n)
		}
	}
	port := strconv.Itoa(int(portOf(t)))
	lookups := []string{h.address}
	if name := strings.ToLower(t.Name); name != "" {
		lookups = append(lookups, net.JoinHostPort(name, port), net.JoinHostPort(name, "22"))
	}
	for i, at := range lookups {
		if slices.Contains(lookups[:i], at) {
			continue
		}
		// The first name that known_hosts has keys for decides alone.
		decided := len(h.plain) > 0
		for _, k := range a.lookups.keys(a.known, at) {
			switch {
			case k.Cert:
				h.cas = append(h.cas, k.PublicKey)
			case !decided:
				h.plain = append(h.plain, k.PublicKey)
			}
		}
	}
	for _, name := range t.HostCAs {
		h.cas = append(h.cas, a.authorities[name]...)
	}
	// What an administrator wrote down counts before what was seen.
	if len(h.plain) == 0 {
		h.plain = a.seen[xknownhosts.Normalize(h.address)]
	}
	return h
}

// lookups remembers what known_hosts has for a name: a file of ten thousand hashed names
// takes the better part of a tenth of a second to go through.
type lookups struct {
	mu sync.Mutex
	by map[string][]knownhosts.PublicKey
}

// lookupsMax bounds what is remembered: patterns of targets let people make up names.
const lookupsMax = 8192

func (l *lookups) keys(in *knownhosts.HostKeyDB, at string) []knownhosts.PublicKey {
	l.mu.Lock()
	list, ok := l.by[at]
	l.mu.Unlock()
	if ok {
		return list
	}
	list = in.HostKeys(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || len(l.by) >= lookupsMax {
		l.by = map[string][]knownhosts.PublicKey{}
	}
	l.by[at] = list
	return list
}

var (
	certAlgorithms = []string{
		ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
		ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
	}
	keyAlgorithms = []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
)

// algorithms puts first what is known of the target, so that a target with keys of
// several kinds shows one that can be compared. The others follow: a key that cannot be
// right is better seen, and named, than not shown.
func (h *hostCheck) algorithms() []string {
	var list []string
	if len(h.cas) > 0 {
		list = append(list, certAlgorithms...)
	}
	known := func(algorithm string) bool {
		return slices.ContainsFunc(h.plain, func(k ssh.PublicKey) bool {
			return k.Type() == algorithm ||
				k.Type() == ssh.KeyAlgoRSA && (algorithm == ssh.KeyAlgoRSASHA512 || algorithm == ssh.KeyAlgoRSASHA256)
		})
	}
	for _, want := range []bool{true, false} {
		for _, algorithm := range keyAlgorithms {
			if known(algorithm) == want {
				list = append(list, algorithm)
			}
		}
	}
	if len(h.cas) == 0 {
		list = append(list, certAlgorithms...)
	}
	return list
}

// check is the callback of the SSH library: the other side has the private key of key.
func (h *hostCheck) check(_ string, _ net.Addr, key ssh.PublicKey) (err error) {
	defer guard(&err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.accepted != nil {
		// Keys are exchanged again. A certificate may have run out since; the key is the same.
		if bytes.Equal(h.accepted, key.Marshal()) {
			return nil
		}
		return errors.New("the target changed its host key within a connection")
	}
	by, e := h.decide(key)
	if e != nil {
		h.refusal = e
		return e
	}
	h.accepted, h.by, h.print = key.Marshal(), by, ssh.FingerprintSHA256(bare(key))
	return nil
}

func (h *hostCheck) problem() *Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refusal
}

func (h *hostCheck) result() (fingerprint, by string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.print, h.by
}

func (h *hostCheck) decide(key ssh.PublicKey) (string, *Error) {
	a := h.attempt
	cert, _ := key.(*ssh.Certificate)
	own := bare(key)
	shown := describe(own)
	if a.revoked(own) || cert != nil && a.revoked(cert.SignatureKey) {
		return "", problem(HostKeyRevoked, nil, "%s shows a host key that was revoked (%s)", a.name, shown)
	}
	if cert != nil && among(h.cas, cert.SignatureKey) {
		if err := h.checkCertificate(cert); err != nil {
			return "", problem(CertificateInvalid, err, "the certificate of %s's host key does not hold: %s", a.name, harmless(strings.TrimPrefix(err.Error(), "ssh: "), lineMax))
		}
		return byCertificate, nil
	}
	switch {
	case among(h.plain, own):
		return byKnownHosts, nil
	case len(h.plain) > 0:
		return "", problem(HostKeyChanged, fmt.Errorf("known: %s", describe(h.plain...)),
			"%s shows another host key (%s) than the one that is known. Somebody may be between the gateway and it, or it was installed anew", a.name, shown)
	case len(h.cas) > 0:
		return "", problem(HostKeyUnknown, nil, "%s shows a host key (%s) without a certificate of the CA that vouches for it", a.name, shown)
	case !a.firstSight:
		return "", problem(HostKeyUnknown, nil, "the gateway does not know the host key of %s (%s)", a.name, shown)
	}
	return h.first(own)
}

// checkCertificate looks at a certificate of a CA that counts for this target.
func (h *hostCheck) checkCertificate(cert *ssh.Certificate) error {
	// For OpenSSH such a certificate is good for every host.
	if len(cert.ValidPrincipals) == 0 {
		return errors.New("it names no host")
	}
	checker := ssh.CertChecker{Clock: h.attempt.dialer.now, IsHostAuthority: func(ssh.PublicKey, string) bool { return true }}
	name := h.names[0]
	for _, n := range h.names {
		if slices.Contains(cert.ValidPrincipals, n) {
			name = n
		}
	}
	return checker.CheckHostKey(net.JoinHostPort(name, "22"), nil, cert)
}

// revoked says whether a line of known_hosts does.
func (s *settings) revoked(key ssh.PublicKey) bool {
	var revoked *xknownhosts.RevokedError
	nowhere := &net.TCPAddr{IP: net.IPv4zero}
	return errors.As(s.known.HostKeyCallback()("0.0.0.0:0", nowhere, key), &revoked)
}

// bare is the key of a certificate, or the key.
func bare(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

func among(list []ssh.PublicKey, key ssh.PublicKey) bool {
	blob := key.Marshal()
	return slices.ContainsFunc(list, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), blob) })
}

func describe(list ...ssh.PublicKey) string {
	var out []byte
	for i, k := range list {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = append(out, k.Type()+" "+ssh.FingerprintSHA256(k)...)
	}
	return string(out)
}
