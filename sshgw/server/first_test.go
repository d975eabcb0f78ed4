// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

// A CA in a person's own authorized keys, with what its line says.
func TestCertificateByALine(t *testing.T) {
	g := newGateway(t)
	ca, key := newSigner(t), newSigner(t)
	g.authorize("alice", `cert-authority,principals="ops,dba",command="line",no-pty`, ca.PublicKey())
	g.start()
	with := func(principal, command string) ssh.Signer {
		return certificate(t, ca, key, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{principal}
			if command != "" {
				c.CriticalOptions = map[string]string{"force-command": command}
			}
		})
	}
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(with("dba", "")))
	if err != nil {
		t.Fatal(err)
	}
	if got := whoami(t, c); got != "alice certificate authd line" {
		t.Errorf("the connection is %q", got)
	}
	_ = c.Close()
	for attack, signer := range map[string]ssh.Signer{
		"for the user's name": with("alice", ""), "with another command": with("ops", "other"),
		"that is the CA": ca, "that is its bare key": key,
	} {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(signer))
		refusedAs(t, c, err, "a certificate "+attack)
	}
	c, err = g.client("bob", code("123456"), ssh.PublicKeys(with("ops", "")))
	refusedAs(t, c, err, "a CA of alice's for bob")
}

// Principals of a file, one of a user.
func TestPrincipalsFile(t *testing.T) {
	g := newGateway(t)
	ca, key := newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.policy.First.CAs[0].PrincipalsFile = g.dir + "/%u.principals"
	g.write("alice.principals", "# who may be alice\nteam-a\nfrom=\"10.0.0.0/8\" team-b\n")
	g.start()
	for principal, user := range map[string]string{"team-a": "alice"} {
		c, err := g.client(user, code("123456"), ssh.PublicKeys(certificate(t, ca, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{principal} })))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	for principal, user := range map[string]string{"team-b": "alice", "alice": "alice", "team-a": "bob", "bob": "bob"} {
		c, err := g.client(user, code("123456"), ssh.PublicKeys(certificate(t, ca, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{principal} })))
		refusedAs(t, c, err, principal+" as "+user)
	}
}

// authdKeys is an authd that knows keys.
type authdKeys struct {
	keys    map[string][]string
	outcome frames.Outcome
	calls   int
}

func (a *authdKeys) Call(_ context.Context, req *frames.Request, p conversation.Person) (frames.Outcome, error) {
	a.calls++
	if req.Hook != frames.HookSSHKeys || req.Service != "sshgw" {
		return 0, nil
	}
	for _, k := range a.keys[req.User] {
		if err := p.Show(frames.StyleInfo, k); err != nil {
			return 0, err
		}
	}
	return a.outcome, nil
}

func TestVerifierKeys(t *testing.T) {
	line := func(k ssh.Signer) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))) }
	for outcome, lets := range map[frames.Outcome]bool{frames.OutcomeAllow: true, frames.OutcomeDeny: false, frames.OutcomeUnavailable: false, 0: false} {
		g := newGateway(t)
		good, restricted, certified := newSigner(t), newSigner(t), newSigner(t)
		cert := certificate(t, newSigner(t), certified, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} })
		a := &authdKeys{outcome: outcome, keys: map[string][]string{"alice": {line(good), "restrict " + line(restricted), line(cert), "rubbish"}}}
		g.policy.First = config.FirstFactor{VerifierKeys: true}
		g.authd = a
		g.start()
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(newSigner(t), newSigner(t), good))
		if (err == nil) != lets {
			t.Fatalf("%s: %v", outcome, err)
		}
		if err == nil {
			if got := whoami(t, c); got != "alice publickey authd" {
				t.Errorf("the connection is %q", got)
			}
			_ = c.Close()
		}
		if a.calls != 1 {
			t.Errorf("%s: authd was asked %d times in one connection", outcome, a.calls)
		}
		for attack, k := range map[string]ssh.Signer{"with options": restricted, "in a certificate": certified, "unheard of": newSigner(t)} {
			c, err := g.client("alice", code("123456"), ssh.PublicKeys(k))
			refusedAs(t, c, err, "a key "+attack)
		}
		c, err = g.client("bob", code("123456"), ssh.PublicKeys(good))
		refusedAs(t, c, err, "alice's key for bob")
	}
}

// TestAttackRevokedKey: a key that was taken back is authorized by a file, by the verifier
// and by a certificate all the same.
func TestAttackRevokedKey(t *testing.T) {
	g := newGateway(t)
	ca, stolen, known, lost, good := newSigner(t), newSigner(t), newSigner(t), newSigner(t), newSigner(t)
	g.authorize("alice", "", stolen.PublicKey())
	g.userCA("ops", ca, "")
	line := func(s ssh.Signer) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey()))) }
	g.authd = &authdKeys{outcome: frames.OutcomeAllow, keys: map[string][]string{"alice": {line(known), line(good)}}}
	g.policy.First.VerifierKeys, g.policy.First.RevokedKeys = true, g.write("revoked", "")
	g.start()
	certified := func(key ssh.Signer) ssh.Signer {
		return certificate(t, ca, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} })
	}
	keys := map[string]ssh.Signer{"in a file": stolen, "at the verifier": known, "in a certificate": certified(lost)}
	login := func(k ssh.Signer) (*ssh.Client, error) { return g.client("alice", code("123456"), ssh.PublicKeys(k)) }
	for what, k := range keys {
		c, err := login(k)
		if err != nil {
			t.Fatalf("a key %s: %v", what, err)
		}
		_ = c.Close()
	}
	g.write("revoked", line(stolen)+"\nhash: "+ssh.FingerprintSHA256(known.PublicKey())+"\n"+line(lost)+"\n")
	for what, k := range keys {
		c, err := login(k)
		refusedAs(t, c, err, "a revoked key "+what)
	}
	c, err := login(good)
	if err != nil {
		t.Fatalf("a key that is not on the list: %v", err)
	}
	_ = c.Close()
	for _, spoil := range []func(){
		func() { g.write("revoked", "SSHKRL\n\x00") }, func() { remove(t, g.dir+"/revoked") },
	} {
		spoil()
		c, err := login(good)
		refusedAs(t, c, err, "a list that cannot be read")
	}
}

// TestAttackRevocationsUnreadable: what cannot be read revokes everything, not nothing.
func TestAttackRevocationsUnreadable(t *testing.T) {
	for attack, spoil := range map[string]func(*gateway){
		"gone":     func(g *gateway) { remove(g.t, g.dir+"/ops.revoked") },
		"a KRL":    func(g *gateway) { g.write("ops.revoked", "SSHKRL\n\x00") },
		"writable": func(g *gateway) { chmod(g.t, g.dir+"/ops.revoked", 0o666) },
	} {
		g := newGateway(t)
		ca := newSigner(t)
		g.userCA("ops", ca, "# nothing\n")
		g.start()
		cert := certificate(t, ca, newSigner(t), func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} })
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(cert))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		spoil(g)
		c, err = g.client("alice", code("123456"), ssh.PublicKeys(cert))
		refusedAs(t, c, err, "a list of revocations that is "+attack)
	}
}
