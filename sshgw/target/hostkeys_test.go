// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// certified is a host key with a certificate of ca, changed before it is signed.
func certified(t *testing.T, key, ca ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	c := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"db1"},
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAHostKeyThatIsNotKnown(t *testing.T) {
	g, host := newGateway(t), newKey(t)
	target := listen(t, serveSSH(g.server(host), nil))
	g.refused(Request{Target: target}, HostKeyUnknown, ssh.FingerprintSHA256(host.PublicKey()))
	if _, err := os.Stat(filepath.Join(g.config.StateDir, "known_hosts")); err == nil {
		t.Error("a key was remembered though that is switched off")
	}
}

func TestAttackHostKeyChanged(t *testing.T) {
	for _, firstSight := range []bool{false, true} {
		g := newGateway(t, func(c *config.Config) { c.Targets.TrustOnFirstUse = firstSight })
		host, other := newKey(t), newKey(t)
		target := listen(t, serveSSH(g.server(other), nil))
		g.hosts(knows(target, host.PublicKey()))
		err := g.refused(Request{Target: target}, HostKeyChanged, ssh.FingerprintSHA256(other.PublicKey()))
		if !strings.Contains(err.Error(), "do not go on by another way") {
			t.Errorf("the person reads: %v", err)
		}
	}
}

// A key of a kind that is not known is a changed key, even if the target has none that is.
func TestAttackHostKeyOfAnotherKind(t *testing.T) {
	g := newGateway(t, func(c *config.Config) { c.Targets.TrustOnFirstUse = true })
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ed := newKey(t)
	target := listen(t, serveSSH(g.server(ec), nil))
	g.hosts(knows(target, ed.PublicKey()))
	g.refused(Request{Target: target}, HostKeyChanged, ssh.FingerprintSHA256(ec.PublicKey()))

	// A target with keys of both kinds shows the one that is known, whichever that is.
	for _, known := range []ssh.Signer{ec, ed} {
		both := listen(t, serveSSH(g.server(ec, ed), nil))
		g.hosts(knows(both, known.PublicKey()))
		if c, err := g.dial(Request{Target: both}); err != nil || c.HostKey != ssh.FingerprintSHA256(known.PublicKey()) {
			t.Errorf("known by its %s: %v", known.PublicKey().Type(), err)
		}
	}
}

func TestKnownByTheNameThatPeopleType(t *testing.T) {
	g, host := newGateway(t), newKey(t)
	target := listen(t, serveSSH(g.server(host), nil))
	g.hosts(xknownhosts.Line([]string{"db1"}, host.PublicKey()))
	if _, err := g.dial(Request{Target: target}); err != nil {
		t.Error(err)
	}
	// The address decides where known_hosts has it.
	g.hosts(xknownhosts.Line([]string{"db1"}, host.PublicKey()), knows(target, newKey(t).PublicKey()))
	g.refused(Request{Target: target}, HostKeyChanged, "")
}

func TestHostCertificates(t *testing.T) {
	ca, other, host := newKey(t), newKey(t), newKey(t)
	past := uint64(time.Now().Add(-time.Minute).Unix())
	future := uint64(time.Now().Add(time.Minute).Unix())
	for name, c := range map[string]struct {
		signer ssh.Signer
		lines  []string
		reason Reason
		says   string
	}{
		"for its name":                         {signer: certified(t, host, ca, nil)},
		"for its address":                      {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x", "127.0.0.1"} })},
		"attack: for another":                  {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"db2"} }), reason: CertificateInvalid, says: "db2"},
		"attack: for everybody":                {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }), reason: CertificateInvalid, says: "names no host"},
		"attack: expired":                      {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidBefore = past }), reason: CertificateInvalid, says: "expired"},
		"attack: not valid yet":                {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidAfter = future }), reason: CertificateInvalid, says: "not yet valid"},
		"attack: of a user":                    {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.CertType = ssh.UserCert }), reason: CertificateInvalid},
		"attack: odd option":                   {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"odd": ""} }), reason: CertificateInvalid, says: "odd"},
		"attack: of another CA":                {signer: certified(t, host, other, nil), reason: HostKeyUnknown, says: "without a certificate of the CA"},
		"attack: none":                         {signer: host, reason: HostKeyUnknown, says: "without a certificate of the CA"},
		"attack: CA revoked":                   {signer: certified(t, host, ca, nil), lines: []string{"@revoked * " + authorized(ca)}, reason: HostKeyRevoked, says: "revoked"},
		"attack: key revoked":                  {signer: certified(t, host, ca, nil), lines: []string{"@revoked * " + authorized(host)}, reason: HostKeyRevoked, says: "revoked"},
		"of another, key known":                {signer: certified(t, host, other, nil), lines: []string{"db1 " + authorized(host)}},
		"expired, key known too":               {signer: certified(t, host, ca, func(c *ssh.Certificate) { c.ValidBefore = past }), lines: []string{"db1 " + authorized(host)}, reason: CertificateInvalid},
		"attack: plain, revoked":               {signer: host, lines: []string{"db1 " + authorized(host), "@revoked * " + authorized(host)}, reason: HostKeyRevoked},
		"attack: the CA's own key as host key": {signer: ca, reason: HostKeyUnknown},
	} {
		// The CA is believed by [[host_ca]], or by a line of known_hosts.
		for _, by := range []string{"host_ca", "@cert-authority"} {
			t.Run(name+" "+by, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "ca.pub")
				if err := os.WriteFile(file, []byte(authorized(ca)+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				g := newGateway(t, func(conf *config.Config) {
					conf.Targets.TrustOnFirstUse = true // a certificate that does not hold is not a first sight
					conf.Targets.HostCAs = []config.HostCA{{Name: "corp", KeysFile: file}}
				})
				lines := c.lines
				target := listen(t, serveSSH(g.server(c.signer), nil))
				if by == "host_ca" {
					target.HostCAs = []string{"corp"}
				} else {
					lines = append([]string{"@cert-authority db*,127.0.0.* " + authorized(ca)}, lines...)
				}
				g.hosts(lines...)
				if c.reason != "" {
					g.refused(Request{Target: target}, c.reason, c.says)
					return
				}
				if _, err := g.dial(Request{Target: target}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func authorized(s ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// A CA that counts for other targets says nothing about this one.
func TestAttackCertificateOfAForeignCA(t *testing.T) {
	ca, host := newKey(t), newKey(t)
	file := filepath.Join(t.TempDir(), "ca.pub")
	if err := os.WriteFile(file, []byte(authorized(ca)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, func(c *config.Config) { c.Targets.HostCAs = []config.HostCA{{Name: "corp", KeysFile: file}} })
	target := listen(t, serveSSH(g.server(certified(t, host, ca, nil)), nil))
	g.hosts("@cert-authority *.example.org " + authorized(ca))
	g.refused(Request{Target: target}, HostKeyUnknown, "")
}

func TestFirstSight(t *testing.T) {
	g, host := newGateway(t, func(c *config.Config) { c.Targets.TrustOnFirstUse = true }), newKey(t)
	var text bytes.Buffer
	g.log = &audit.Log{Logger: slog.New(slog.NewTextHandler(&text, nil))}
	signer := host
	var mu sync.Mutex
	target := listen(t, func(c net.Conn) {
		mu.Lock()
		now := signer
		mu.Unlock()
		serveSSH(g.server(now), nil)(c)
	})
	if c, err := g.dial(Request{Target: target}); err != nil || c.KnownBy != byFirstSight {
		t.Fatalf("at first sight: %v", err)
	}
	if !strings.Contains(text.String(), "gw_host_seen") || !strings.Contains(text.String(), ssh.FingerprintSHA256(host.PublicKey())) {
		t.Errorf("the log says %q", text.String())
	}
	file := filepath.Join(g.config.StateDir, "known_hosts")
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if c, err := g.dial(Request{Target: target}); err != nil || c.KnownBy != byKnownHosts {
		t.Errorf("at second sight: %v", err)
	}
	// It holds after a restart, and with the switch off.
	g.config.Targets.TrustOnFirstUse = false
	if err := g.Configure(g.config); err != nil {
		t.Fatal(err)
	}
	if _, err := g.dial(Request{Target: target}); err != nil {
		t.Errorf("loaded again: %v", err)
	}
	g.config.Targets.TrustOnFirstUse = true
	if err := g.Configure(g.config); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	signer = newKey(t)
	mu.Unlock()
	g.refused(Request{Target: target}, HostKeyChanged, "")
	// An administrator who takes the line out lets the target be seen anew.
	if err := errors.Join(os.Remove(file), g.Configure(g.config)); err != nil {
		t.Fatal(err)
	}
	if c, err := g.dial(Request{Target: target}); err != nil || c.KnownBy != byFirstSight {
		t.Errorf("after the line was taken out: %v", err)
	}
}

// Of two keys that come at the same time, one at most is believed.
func TestAttackTwoKeysAtFirstSight(t *testing.T) {
	g := newGateway(t, func(c *config.Config) { c.Targets.TrustOnFirstUse = true })
	target := listen(t, func(c net.Conn) { serveSSH(g.server(newKey(t)), nil)(c) })
	var all sync.WaitGroup
	var mu sync.Mutex
	believed := 0
	for range 8 {
		all.Go(func() {
			_, err := g.dial(Request{Target: target})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				believed++
			} else if ReasonOf(err) != HostKeyChanged {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if believed != 1 {
		t.Errorf("%d keys were believed; want 1", believed)
	}
}

func TestFirstSightThatCannotBeKept(t *testing.T) {
	g, host := newGateway(t, func(c *config.Config) { c.Targets.TrustOnFirstUse = true }), newKey(t)
	target := listen(t, serveSSH(g.server(host), nil))
	if err := os.Mkdir(filepath.Join(g.config.StateDir, "known_hosts"), 0o700); err != nil {
		t.Fatal(err)
	}
	g.refused(Request{Target: target}, Internal, "cannot be remembered")
}

// Keys are exchanged again every gigabyte: the certificate may have run out by then, and
// that ends nothing; another key does.
func TestHostKeyWithinAConnection(t *testing.T) {
	ca, host := newKey(t), newKey(t)
	g := newGateway(t)
	g.hosts("@cert-authority db1 " + authorized(ca))
	a := &attempt{settings: g.inForce.Load(), dialer: g.Dialer, name: "db1"}
	h := a.knownOf(&inventory.Target{Name: "db1", Host: "db1"})
	cert := certified(t, host, ca, nil).PublicKey()
	if err := h.check("", nil, cert); err != nil {
		t.Fatal(err)
	}
	g.clock = g.clock.Add(48 * time.Hour)
	if err := h.check("", nil, cert); err != nil {
		t.Errorf("the same again, after it has run out: %v", err)
	}
	if err := h.check("", nil, certified(t, newKey(t), ca, nil).PublicKey()); err == nil {
		t.Error("another key was taken within a connection")
	}
}
