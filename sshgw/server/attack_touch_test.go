// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// device is a FIDO2 key in software: it signs as the real ones do, with or without a touch.
type device struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
	flags   byte
}

const application = "ssh:"

func newDevice(t testing.TB, flags byte) *device {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePublicKey(append(append(str(ssh.KeyAlgoSKED25519), str(public)...), str(application)...))
	if err != nil {
		t.Fatal(err)
	}
	return &device{private, key, flags}
}

func (d *device) PublicKey() ssh.PublicKey { return d.public }

func (d *device) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{d.flags}, 1)
	blob := append(append(append([]byte{}, app[:]...), rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(d.private, blob), Rest: rest}, nil
}

func touchRule(g *gateway) {
	g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
		return &config.Door{Name: "touch", Action: config.DoorTouch}
	}
	g.asker.answer = func(ctx context.Context, q secondfactor.Question, p conversation.Person) error {
		if q.Kind == secondfactor.Touch {
			return nil
		}
		return passcode(ctx, q, p)
	}
}

// TestAttackSignatureWithoutTouch: a rule takes a touch for both factors; a signature
// that nobody touched the key for is none, whatever options and extensions promise
// (CVE-2026-39831).
func TestAttackSignatureWithoutTouch(t *testing.T) {
	g := newGateway(t)
	touched, untouched, waived, byCA := newDevice(t, 1), newDevice(t, 0), newDevice(t, 0), newDevice(t, 0)
	ca, plain := newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.authorize("alice", "", touched.PublicKey())
	g.authorize("alice", "", untouched.PublicKey())
	g.authorize("alice", "no-touch-required", waived.PublicKey())
	g.authorize("alice", "", plain.PublicKey())
	touchRule(g)
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(touched))
	if err != nil {
		t.Fatal(err)
	}
	if got := whoami(t, c); got != "alice publickey touched" {
		t.Errorf("the connection is %q", got)
	}
	_ = c.Close()
	cert := &ssh.Certificate{Key: byCA.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity}
	cert.Extensions = map[string]string{"no-touch-required": ""}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	certified, err := ssh.NewCertSigner(cert, byCA)
	if err != nil {
		t.Fatal(err)
	}
	for attack, signer := range map[string]ssh.Signer{
		"without a touch": untouched, "with no-touch-required in authorized_keys": waived, "with no-touch-required in a certificate": certified,
	} {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(signer))
		refusedAs(t, c, err, "a signature "+attack)
	}
	eventually(t, "each is logged", func() bool { return strings.Count(g.log.String(), "event=gw_login_refused") == 3 })
	// A rule of touch makes nothing of a key that has none: the person is asked.
	c, err = g.client("alice", nil, ssh.PublicKeys(plain))
	refusedAs(t, c, err, "a plain key under a rule of touch")
	if c, err = g.client("alice", code("123456"), ssh.PublicKeys(plain)); err != nil {
		t.Fatal(err)
	}
	if got := whoami(t, c); got != "alice publickey authd" {
		t.Errorf("a plain key makes %q", got)
	}
	_ = c.Close()
}

// TestAttackWeakKeys: keys too short, too long, and of a kind that is broken.
func TestAttackWeakKeys(t *testing.T) {
	g := newGateway(t)
	g.policy.First.MinRSABits = 3072
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewSignerFromKey(short)
	if err != nil {
		t.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	good, err := ssh.NewSignerFromKey(long)
	if err != nil {
		t.Fatal(err)
	}
	sha1, err := ssh.NewSignerWithAlgorithms(good.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	g.authorize("alice", "", weak.PublicKey())
	g.authorize("alice", "", good.PublicKey())
	g.start()
	for attack, signer := range map[string]ssh.Signer{"of 2048 bits": weak, "by SHA-1": sha1} {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(signer))
		refusedAs(t, c, err, "an RSA signature "+attack)
	}
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(good))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestAttackNames: names that are paths, commands or escapes are nobody's.
func TestAttackNames(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	uid := g.people["alice"]
	for _, name := range []string{"../alice", "al/ice", "-alice", "al\x00ice", "al\nice", "al\x1b[2Jice", "", "..", "alice%", "alice%@db1", "alice%../db1", strings.Repeat("a", 3000), "alice\xff"} {
		g.people[name] = uid // the name service would have them
	}
	g.people["evil"] = uid
	g.start()
	for name := range g.people {
		if name == "alice" {
			continue
		}
		c, err := g.client(name, code("123456"), ssh.PublicKeys(key))
		refusedAs(t, c, err, "the name "+name)
	}
	if strings.Contains(g.log.String(), "\x1b") {
		t.Error("the log holds an escape")
	}
	c, err := g.client("alice%root@db1", code("123456"), ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := whoami(t, c); got != "alice publickey authd" {
		t.Errorf("the connection is %q", got)
	}
}

// TestAttackFilesThatOthersChange: a file of keys that somebody else can write, or that
// lies where somebody else can put another, counts for nothing.
func TestAttackFilesThatOthersChange(t *testing.T) {
	for attack, change := range map[string]func(g *gateway){
		"a file for everybody to write": func(g *gateway) { chmod(g.t, g.dir+"/alice.keys", 0o666) },
		"a file for a group to write":   func(g *gateway) { chmod(g.t, g.dir+"/alice.keys", 0o620) },
		"a folder for everybody":        func(g *gateway) { chmod(g.t, g.dir, 0o777) },
		"a file too large":              func(g *gateway) { g.write("alice.keys", strings.Repeat("#\n", 1<<20)) },
		"a folder for a file":           func(g *gateway) { remove(g.t, g.dir+"/alice.keys"); mkdir(g.t, g.dir+"/alice.keys") },
		"a pipe for a file":             func(g *gateway) { remove(g.t, g.dir+"/alice.keys"); mkfifo(g.t, g.dir+"/alice.keys") },
	} {
		t.Run(attack, func(t *testing.T) {
			g := newGateway(t)
			key := newSigner(t)
			g.authorize("alice", "", key.PublicKey())
			change(g)
			g.start()
			c, err := g.client("alice", code("123456"), ssh.PublicKeys(key))
			refusedAs(t, c, err, attack)
		})
	}
}

// TestPassword: a password alone, one by PAM with a second factor, and an authd that is away.
func TestPassword(t *testing.T) {
	g := newGateway(t)
	g.policy.First.Password = true
	g.pam = pamStub{"alice": "correct horse", "mallory": "known"}
	g.start()
	c, err := g.client("alice", code("123456"), ssh.Password("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	if got := whoami(t, c); got != "alice password authd" {
		t.Errorf("the connection is %q", got)
	}
	_ = c.Close()
	for attack, try := range map[string][3]string{
		"a wrong password":             {"alice", "battery staple", "123456"},
		"a password without a factor":  {"alice", "correct horse", "000000"},
		"a password without account":   {"mallory", "known", "123456"},
		"a passcode for a password":    {"alice", "123456", "123456"},
		"a password with a NUL":        {"alice", "correct horse\x00", "123456"},
		"the password for a passcode":  {"alice", "correct horse", "correct horse"},
		"another's password":           {"bob", "correct horse", "123456"},
		"the empty password, no code":  {"alice", "", ""},
		"a user of PAM that has slash": {"al/ice", "correct horse", "123456"},
	} {
		c, err := g.client(try[0], code(try[2]), ssh.Password(try[1]))
		refusedAs(t, c, err, attack)
	}
	// The same by keyboard-interactive alone: PAM asks first, authd second.
	step := 0
	c, err = g.client("alice", nil, ssh.RetryableAuthMethod(ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range questions {
			answers[i] = []string{"correct horse", "123456"}[min(step, 1)]
			step++
		}
		return answers, nil
	}), 3))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
