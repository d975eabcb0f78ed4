// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// Each test is named after the attack; if the attack worked, the test says who was let
// in as whom.

// refusedAs fails the test if a connection was made, and says who it became.
func refusedAs(t *testing.T, c *ssh.Client, err error, attack string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: let in as %q", attack, whoami(t, c))
		_ = c.Close()
	}
}

// TestAttackUserSwitchedBetweenSteps: the first factor is alice's and the second step is
// asked for as bob. A gateway that keeps the user, or the proof, by connection lets in.
func TestAttackUserSwitchedBetweenSteps(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	w := dialRaw(t, g.address)
	w.publicKey("alice", key, key)
	if partial := w.failure(); !partial {
		t.Fatal("the key was no partial success")
	}
	w.send(userAuth("bob", "keyboard-interactive", ssh.Marshal(struct{ Language, Devices string }{})))
	w.mustEnd("a keyboard-interactive of another user after a partial success")
	if g.asker.count() != 0 {
		t.Errorf("authd was asked %d times, for %q", g.asker.count(), g.asker.asked[0].Identity.Account.Name)
	}
}

// TestAttackUserSwitchedBeforeTheSignature: the key is queried as alice, whose it is, and
// signed with as bob. gliderlabs/ssh lets in as bob (its user is the one of the first request).
func TestAttackUserSwitchedBeforeTheSignature(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	w := dialRaw(t, g.address)
	w.query("alice", key.PublicKey())
	w.expect(msgPubKeyOK)
	w.publicKey("bob", key, key)
	if partial := w.failure(); partial {
		t.Error("alice's key is a first factor of bob's")
	}
	// The other way round: what was refused as bob counts for alice all the same.
	w.publicKey("alice", key, key)
	if partial := w.failure(); !partial {
		t.Error("alice's key is refused to alice")
	}
}

// TestAttackKeyQueriedAsOneAndSignedAsAnother: a key that counts is queried, one that does
// not signs. Whoever keeps "the key of this connection" from the query takes it (CVE-2024-45337).
func TestAttackKeyQueriedAsOneAndSignedAsAnother(t *testing.T) {
	g := newGateway(t)
	good, bad := newSigner(t), newSigner(t)
	g.authorize("alice", "", good.PublicKey())
	g.start()
	w := dialRaw(t, g.address)
	w.query("alice", good.PublicKey())
	w.expect(msgPubKeyOK)
	w.publicKey("alice", bad, bad)
	if w.failure() {
		t.Error("a key that nobody authorized is a first factor")
	}
	w.query("alice", good.PublicKey())
	w.expect(msgPubKeyOK)
	w.publicKey("alice", good, bad) // named is the good one, signed by the bad one
	w.mustEnd("a signature of another key")
	if g.asker.count() != 0 {
		t.Error("authd was authd")
	}
}

// TestAttackMethodNone: gliderlabs/ssh lets everybody in by method none when only its
// configuration callback is set.
func TestAttackMethodNone(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	c, err := g.client("alice", nil)
	refusedAs(t, c, err, "method none")
	// Nor after a partial success.
	w := dialRaw(t, g.address)
	w.publicKey("alice", key, key)
	if !w.failure() {
		t.Fatal("the key was no partial success")
	}
	w.send(userAuth("alice", "none", nil))
	if w.failure() {
		t.Error("none is a success after a partial one")
	}
}

// TestAttackPartialSuccessReplayed: after the partial success the key is shown again and
// again, the signature of one connection is sent in another, and none of it is a second factor.
func TestAttackPartialSuccessReplayed(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	w := dialRaw(t, g.address)
	w.publicKey("alice", key, key)
	if !w.failure() {
		t.Fatal("the key was no partial success")
	}
	for range 3 {
		w.publicKey("alice", key, key)
		if w.failure() {
			t.Error("a key is a second factor")
		}
	}
	other := dialRaw(t, g.address)
	other.send(w.lastKey) // signed for the session of w
	other.mustEnd("a signature of another session")
	if g.asker.count() != 0 {
		t.Error("authd was authd")
	}
}

// TestAttackPermissionsLost: what the first factor takes away holds after the second
// (CVE-2026-39828: permissions given with a partial success were dropped).
func TestAttackPermissionsLost(t *testing.T) {
	g := newGateway(t)
	ca, key := newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.start()
	cert := certificate(t, ca, key, func(c *ssh.Certificate) {
		c.ValidPrincipals = []string{"alice"}
		c.CriticalOptions = map[string]string{"force-command": "/bin/only-this", "source-address": "127.0.0.0/8"}
		c.Extensions = map[string]string{"permit-pty": ""}
	})
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(cert))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := whoami(t, c); got != "alice certificate authd /bin/only-this" {
		t.Errorf("after the second factor the connection is %q", got)
	}
}

// TestAttackCertificateForAnother: principals, addresses, times, CAs, and promises that
// a certificate makes of itself.
func TestAttackCertificateForAnother(t *testing.T) {
	g := newGateway(t)
	ca, stranger, key := newSigner(t), newSigner(t), newSigner(t)
	g.userCA("ops", ca, "serial: 7\nid: stolen\n")
	g.start()
	now := uint64(time.Now().Unix())
	alice := func(change func(*ssh.Certificate)) ssh.Signer {
		return certificate(t, ca, key, func(c *ssh.Certificate) {
			c.ValidPrincipals = []string{"alice"}
			if change != nil {
				change(c)
			}
		})
	}
	if c, err := g.client("alice", code("123456"), ssh.PublicKeys(alice(nil))); err != nil {
		t.Fatalf("a good certificate: %v", err)
	} else {
		_ = c.Close()
	}
	for attack, signer := range map[string]ssh.Signer{
		"for another principal": alice(func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }),
		"for everybody":         alice(func(c *ssh.Certificate) { c.ValidPrincipals = nil }),
		"for another source":    alice(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "192.0.2.0/24"} }),
		"for no source":         alice(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": ""} }),
		"expired":               alice(func(c *ssh.Certificate) { c.ValidBefore = now - 1 }),
		"of tomorrow":           alice(func(c *ssh.Certificate) { c.ValidAfter = now + 86400 }),
		"of a host":             alice(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }),
		"with unknown option":   alice(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"moon": "full"} }),
		"with verify-required":  alice(func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }),
		"revoked by serial":     alice(func(c *ssh.Certificate) { c.Serial = 7 }),
		"revoked by id":         alice(func(c *ssh.Certificate) { c.KeyId = "stolen" }),
		"of a stranger's CA":    certificate(t, stranger, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} }),
		"signed by itself":      certificate(t, key, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} }),
	} {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(signer))
		refusedAs(t, c, err, "a certificate "+attack)
	}
}

// TestAttack128Attempts: queries, partial successes and refused keys end after a bounded
// number, and a client that guesses passcodes after fewer.
func TestAttack128Attempts(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	w := dialRaw(t, g.address)
	n := 0
	for ; n < 1000; n++ {
		if err := w.trySend(userAuth("alice", "publickey", queryPayload(key.PublicKey()))); err != nil {
			break
		}
		if p, err := w.tryRead(); err != nil || p[0] == msgDisconnect {
			break
		}
	}
	if n > 128 {
		t.Errorf("%d queries were answered", n)
	}
	tries := 0
	_, err := g.client("alice", func(_, _ string, questions []string, _ []bool) ([]string, error) {
		if len(questions) > 0 {
			tries++
		}
		return make([]string, len(questions)), nil
	}, ssh.PublicKeys(key), ssh.RetryableAuthMethod(ssh.KeyboardInteractive(code("000000")), 1000))
	if err == nil || tries > g.policy.AuthTry {
		t.Errorf("%d passcodes were tried, %v", tries, err)
	}
	if asked := g.asker.count(); asked > g.policy.AuthTry {
		t.Errorf("authd was asked %d times in one connection", asked)
	}
}

// TestAttackEmptyNext: where nothing is left to try the connection ends, and nobody is in.
func TestAttackEmptyNext(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.asker.answer = func(context.Context, secondfactor.Question, conversation.Person) error {
		return errors.Join(secondfactor.ErrRefused, secondfactor.ErrTooMany)
	}
	g.start()
	w := dialRaw(t, g.address)
	w.publicKey("alice", key, key)
	if !w.failure() {
		t.Fatal("the key was no partial success")
	}
	w.send(userAuth("alice", "keyboard-interactive", ssh.Marshal(struct{ Language, Devices string }{})))
	w.mustEnd("a refusal that is final")
	eventually(t, "the refusal is logged", func() bool { return strings.Contains(g.log.String(), "too many tries") })
}

// TestAttackBannerEscapes: what authd or a peer had it say reaches a terminal without
// escapes, in banners and in questions.
func TestAttackBannerEscapes(t *testing.T) {
	const evil = "\x1b]0;owned\x07\x1b[2J\u202edigits 123456\r"
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.policy.Banner = 100 * time.Millisecond
	g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
		return &config.Door{Name: "held", Action: config.DoorHold}
	}
	life := make(chan struct{})
	g.asker.answer = func(ctx context.Context, _ secondfactor.Question, p conversation.Person) error {
		if err := p.Show(frames.StyleInfo, evil); err != nil {
			return err
		}
		select {
		case <-life: // until the client has seen a sign of life as well
		case <-ctx.Done():
		}
		return nil
	}
	g.start()
	var mu sync.Mutex
	var seen []string
	once := sync.OnceFunc(func() { close(life) })
	c, err := ssh.Dial("tcp", g.address, &ssh.ClientConfig{
		User: "alice", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: limit,
		BannerCallback: func(text string) error {
			mu.Lock()
			defer mu.Unlock()
			if seen = append(seen, text); len(seen) >= 3 {
				once()
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := whoami(t, c); got != "alice publickey held " && got != "alice publickey held" {
		t.Errorf("the connection is %q", got)
	}
	for _, text := range seen {
		if strings.ContainsAny(text, "\x1b\x07\r") || strings.Contains(text, "\u202e") || !strings.Contains(text, "123456") {
			t.Errorf("a banner says %q", text)
		}
	}
}

// TestAttackHeldReplyAbandoned: the client goes away while its reply is held; the
// question ends, and its answer lets nobody in.
func TestAttackHeldReplyAbandoned(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
		return &config.Door{Name: "held", Action: config.DoorHold}
	}
	asked, ended := make(chan struct{}), make(chan error, 1)
	g.asker.answer = func(ctx context.Context, _ secondfactor.Question, _ conversation.Person) error {
		close(asked)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}
	g.start()
	w := dialRaw(t, g.address)
	w.publicKey("alice", key, key)
	<-asked
	_ = w.conn.Close()
	select {
	case <-ended:
	case <-time.After(limit):
		t.Fatal("the push goes on though the client is gone")
	}
	eventually(t, "the place is free", func() bool { return g.server.Handshakes() == 0 })
}

// TestAttackBatchKeyWithoutAuthd: a batch rule alone lets nobody in: authd is asked, and its
// no or silence counts; and whoever says that they go elsewhere is asked as a person.
func TestAttackBatchKeyWithoutAuthd(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.policy.Batch = func(q config.DoorQuery) *config.Batch {
		if q.User == "alice" && q.Key == ssh.FingerprintSHA256(key.PublicKey()) && q.Source == "127.0.0.1" {
			return &config.Batch{Name: "nightly"}
		}
		return nil
	}
	away := errors.New("authd is away")
	var answer error
	g.asker.answer = func(_ context.Context, q secondfactor.Question, p conversation.Person) error {
		if q.Kind != secondfactor.Batch || q.Rule != "nightly" {
			return errors.New("not by the batch rule")
		}
		if _, err := p.Ask(context.Background(), "?", true); !errors.Is(err, conversation.ErrNobody) {
			return errors.New("somebody can be authd")
		}
		return answer
	}
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	if got := whoami(t, c); !strings.HasPrefix(got, "alice publickey batch") {
		t.Errorf("the connection is %q", got)
	}
	_ = c.Close()
	for _, answer = range []error{away, secondfactor.ErrRefused} {
		c, err := g.client("alice", nil, ssh.PublicKeys(key))
		refusedAs(t, c, err, "a batch rule whose question ended with "+answer.Error())
	}
	// The name after the percent sign is no target of the rule: a person, who is asked.
	c, err = g.client("alice%db1", nil, ssh.PublicKeys(key))
	refusedAs(t, c, err, "a batch key that goes elsewhere")
}

// userCA makes a CA of the configuration.
func (g *gateway) userCA(name string, ca ssh.Signer, revoked string) {
	g.t.Helper()
	c := config.UserCA{Name: name, KeysFile: g.write(name+".pub", string(ssh.MarshalAuthorizedKey(ca.PublicKey())))}
	if revoked != "" {
		c.RevokedKeys = g.write(name+".revoked", revoked)
	}
	g.policy.First.CAs = append(g.policy.First.CAs, c)
}

// certificate is a key with a user certificate.
func certificate(t testing.TB, ca, key ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	c := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "k", Serial: 1, ValidBefore: ssh.CertTimeInfinity}
	change(c)
	if err := c.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
