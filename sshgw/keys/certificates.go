// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// hostLifetime is how long a certificate for a jump's inside is valid. Half of it is
	// over before another is made, and clocks of clients may be off by hostSlack.
	hostLifetime = 24 * time.Hour
	hostSlack    = time.Hour
	// hostsMax bounds the certificates that are kept: patterns let people make up names.
	hostsMax = 4096
	// userSlack is how far behind the clock of a target may be.
	userSlack = 30 * time.Second
	// UserLifetime holds where Person.Lifetime says nothing.
	UserLifetime = 2 * time.Minute
)

// hostCerts are certificates by the names that they are for.
type hostCerts map[string]hostCert

type hostCert struct {
	signer ssh.Signer
	renew  time.Time
}

// HostFor is a host key with a certificate of the host CA for these names, for an SSH
// connection inside a jump. The key is the gateway's own, so that a client that does
// not know the CA sees at least the same key each time.
func (r *Ring) HostFor(names ...string) (ssh.Signer, error) {
	if len(names) == 0 {
		return nil, errors.New("make a host certificate: without names it would be one for every host")
	}
	for _, n := range names {
		// Clients read a principal of a host certificate as a pattern.
		if n == "" || strings.ContainsAny(n, "*?!, \t\r\n\x00") {
			return nil, fmt.Errorf("make a host certificate: %q is no name of a host", n)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := strings.Join(names, ",")
	now := r.folder.Now()
	if c, ok := r.hosts[id]; ok && now.Before(c.renew) {
		return c.signer, nil
	}
	in := r.now.Load()
	cert := &ssh.Certificate{
		Key: in.host[0].PublicKey(), CertType: ssh.HostCert, KeyId: "sallyport " + names[0],
		ValidPrincipals: names,
		ValidAfter:      uint64(now.Add(-hostSlack).Unix()), ValidBefore: uint64(now.Add(hostLifetime).Unix()),
	}
	signer, err := sign(r.folder.Rand, cert, in.host[0], in.hostCA)
	if err != nil {
		return nil, fmt.Errorf("make a host certificate for %s: %w", names[0], err)
	}
	if r.hosts == nil || len(r.hosts) >= hostsMax {
		r.hosts = hostCerts{}
	}
	r.hosts[id] = hostCert{signer, now.Add(hostLifetime / 2)}
	return signer, nil
}

// Permit is what a user certificate lets its holder do at the target, by the names of
// ssh-keygen(1). The zero value permits commands without a terminal.
type Permit struct {
	PTY, PortForwarding, AgentForwarding, X11, UserRC bool
}

// Ordinary is what a certificate of ssh-keygen permits, but for X11.
var Ordinary = Permit{PTY: true, PortForwarding: true, AgentForwarding: true, UserRC: true}

func (p Permit) extensions() map[string]string {
	out := map[string]string{}
	for name, may := range map[string]bool{
		"permit-pty": p.PTY, "permit-port-forwarding": p.PortForwarding,
		"permit-agent-forwarding": p.AgentForwarding, "permit-X11-forwarding": p.X11, "permit-user-rc": p.UserRC,
	} {
		if may {
			out[name] = ""
		}
	}
	return out
}

// Person is what a user certificate says.
type Person struct {
	KeyID     string // for the target's log
	Principal string // the login
	Source    []netip.Prefix
	Lifetime  time.Duration // 0: UserLifetime
	Permit    Permit
}

// UserFor is a fresh key with a certificate of the user CA.
func (r *Ring) UserFor(p Person) (ssh.Signer, error) {
	// OpenSSH refuses a certificate without principals; other servers take it for anybody's.
	if p.Principal == "" {
		return nil, errors.New("make a user certificate: no login is named")
	}
	if p.Lifetime <= 0 {
		p.Lifetime = UserLifetime
	}
	_, private, err := ed25519.GenerateKey(r.folder.Rand)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", p.Principal, err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("make a key for %s: %w", p.Principal, err)
	}
	now := r.folder.Now()
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: p.KeyID, ValidPrincipals: []string{p.Principal},
		ValidAfter: uint64(now.Add(-userSlack).Unix()), ValidBefore: uint64(now.Add(p.Lifetime).Unix()),
	}
	cert.Extensions = p.Permit.extensions()
	if len(p.Source) > 0 {
		cert.CriticalOptions = map[string]string{"source-address": sources(p.Source)}
	}
	signer, err := sign(r.folder.Rand, cert, key, r.now.Load().userCA)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", p.Principal, err)
	}
	return signer, nil
}

// sources writes networks as sshd wants them: no bits behind the mask.
func sources(list []netip.Prefix) string {
	out := make([]string, len(list))
	for i, p := range list {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out[i] = p.Masked().String()
	}
	return strings.Join(out, ",")
}

func sign(random io.Reader, cert *ssh.Certificate, key, ca ssh.Signer) (ssh.Signer, error) {
	var serial [8]byte
	if _, err := io.ReadFull(random, serial[:]); err != nil {
		return nil, err
	}
	cert.Serial = binary.BigEndian.Uint64(serial[:])
	if err := cert.SignCert(random, ca); err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(cert, key)
}
