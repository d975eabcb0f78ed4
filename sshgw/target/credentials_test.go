// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/ed25519"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// keyring is an agent with one key, and that key.
func keyring(t *testing.T) (agent.ExtendedAgent, ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	list, err := ring.Signers()
	if err != nil {
		t.Fatal(err)
	}
	return ring.(agent.ExtendedAgent), list[0].PublicKey()
}

// only is a target that lets in one key, and notes which were shown.
func (g *gateway) only(key ssh.PublicKey) (*inventory.Target, func() []string) {
	host := newKey(g.t)
	var mu sync.Mutex
	var shown []string
	c := &ssh.ServerConfig{MaxAuthTries: 20, PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		mu.Lock()
		defer mu.Unlock()
		if t := k.Type(); !slices.Contains(shown, t) {
			shown = append(shown, t)
		}
		if key != nil && string(k.Marshal()) == string(key.Marshal()) {
			return nil, nil
		}
		return nil, errors.New("not this key")
	}}
	c.AddHostKey(host)
	target := listen(g.t, serveSSH(c, nil))
	g.hosts(knows(target, host.PublicKey()))
	return target, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(shown)
	}
}

func TestTheAgentComesAfterTheCertificate(t *testing.T) {
	g := newGateway(t)
	ring, key := keyring(t)
	target, shown := g.only(key)
	g.refused(Request{Target: target}, LoginRefused, "db1 does not let root in: it was shown certificate, and asks for publickey")
	c, err := g.dial(Request{Target: target, Agent: ring})
	if err != nil {
		t.Fatal(err)
	}
	if c.Credential != "agent" || !slices.Equal(shown(), []string{ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519}) {
		t.Errorf("let in by %s, shown %q", c.Credential, shown())
	}
}

func TestStoredKeysAndTheirOrder(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGateway(t, func(c *config.Config) {
		c.Targets.Credentials = []config.Credential{
			{Name: "ca", Kind: config.CredentialCertificate}, {Name: "old", Kind: config.CredentialKey, KeyFile: file},
			{Name: "own", Kind: config.CredentialAgent},
		}
	})
	target, shown := g.only(signer.PublicKey())
	for names, want := range map[string][]string{
		"old":           {ssh.KeyAlgoED25519},
		"ca, old":       {ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
		"own, old":      {ssh.KeyAlgoED25519},
		"own,ca , old ": {ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
	} {
		before := len(shown())
		target.Credential = names
		if c, err := g.dial(Request{Target: target}); err != nil || c.Credential != "key" {
			t.Errorf("%s: %v", names, err)
		}
		if before == 0 && len(shown()) > len(want) {
			t.Errorf("%s: shown %q", names, shown())
		}
	}
	target.Credential = "own"
	g.refused(Request{Target: target}, NoCredential, "asks root for publickey")
	target.Credential = "none"
	g.refused(Request{Target: target}, Internal, "not set up for db1")
	// What an administrator names "default" is that of targets that name none.
	g.config.Targets.Credentials[1].Name = config.DefaultCredential
	if err := g.Configure(g.config); err != nil {
		t.Fatal(err)
	}
	target.Credential = ""
	if c, err := g.dial(Request{Target: target}); err != nil || c.Credential != "key" {
		t.Errorf("the default: %v", err)
	}
	// A key that others can read is no secret.
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := g.Configure(g.config); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a key that others can read: %v", err)
	}
	if _, err := g.dial(Request{Target: target}); err != nil {
		t.Errorf("after a configuration that is wrong, the one before is not in force: %v", err)
	}
}

func TestSourceAddressFromTheConfiguration(t *testing.T) {
	for _, address := range []string{"192.0.2.1", "192.0.2.0/24", "2001:db8::/32"} {
		g := newGateway(t, func(c *config.Config) { c.Targets.SourceAddress = []string{address} })
		host := newKey(t)
		target := listen(t, serveSSH(g.server(host), nil))
		g.hosts(knows(target, host.PublicKey()))
		// We come from elsewhere, so the target refuses.
		g.refused(Request{Target: target}, LoginRefused, "")
	}
	if _, err := newSettings(&config.Config{Targets: config.Targets{SourceAddress: []string{"here"}}}); err == nil {
		t.Error("a source address that is none")
	}
}

// An agent with many keys does not push out what comes after it.
func TestAttackAnAgentOfAThousandKeys(t *testing.T) {
	g := newGateway(t)
	ring := agent.NewKeyring()
	for range 50 {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	host := newKey(t)
	c := &ssh.ServerConfig{MaxAuthTries: -1, PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		asked++
		return nil, errors.New("no")
	}}
	c.AddHostKey(host)
	target := listen(t, serveSSH(c, nil))
	g.hosts(knows(target, host.PublicKey()))
	g.refused(Request{Target: target, Agent: ring.(agent.ExtendedAgent)}, LoginRefused, "certificate, agent")
	if asked > 1+agentKeysMax {
		t.Errorf("%d keys were offered", asked)
	}
}

func TestTheTargetsOwnQuestions(t *testing.T) {
	g := newGateway(t)
	host := newKey(t)
	conf := g.server(host)
	inner := conf.PublicKeyCallback
	conf.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if _, err := inner(m, k); err != nil {
			return nil, err
		}
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
			KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
				a, err := ask("", "One more thing.", []string{"Code: "}, []bool{false})
				if err != nil || a[0] != "123456" {
					return nil, errors.New("wrong code")
				}
				return nil, nil
			},
		}}
	}
	target := listen(t, serveSSH(conf, nil))
	g.hosts(knows(target, host.PublicKey()))
	p := &person{answers: []string{"1", "2", "123456"}}
	c, err := g.dial(Request{Target: target, Person: p})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.asked) != 3 || p.asked[2] != "db1 says: One more thing.\ndb1 asks: Code: " || c.Credential != "keyboard-interactive" {
		t.Errorf("asked %q, let in by %s", p.asked, c.Credential)
	}
	// Three times wrong is enough, and who is gone is asked no more.
	g.refused(Request{Target: target, Person: &person{answers: []string{"1", "2", "3", "123456"}}}, LoginRefused, "shown certificate, keyboard-interactive")
	gone := &person{}
	if _, err := g.dial(Request{Target: target, Person: gone}); ReasonOf(err) != Cancelled || len(gone.asked) != 1 {
		t.Errorf("asked %q, %v", gone.asked, err)
	}
	// Nobody to ask: the target is told so by another method, of which there is none.
	g.refused(Request{Target: target}, LoginRefused, "asks for keyboard-interactive")
	nobody := &mute{}
	g.refused(Request{Target: target, Person: nobody}, LoginRefused, "shown certificate, and asks for keyboard-interactive")
	if nobody.asked != 1 {
		t.Errorf("a person who cannot be asked was asked %d times", nobody.asked)
	}
}

// mute is a person who cannot be asked.
type mute struct{ asked int }

func (*mute) Show(frames.Style, string) error { return nil }
func (m *mute) Ask(context.Context, string, bool) (frames.Secret, error) {
	m.asked++
	return "", conversation.ErrNobody
}

func TestTheTargetsOwnPassword(t *testing.T) {
	g := newGateway(t)
	host := newKey(t)
	conf := &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
		if string(p) != "correct horse" {
			return nil, errors.New("no")
		}
		return nil, nil
	}}
	conf.AddHostKey(host)
	target := listen(t, serveSSH(conf, nil))
	g.hosts(knows(target, host.PublicKey()))
	p := &person{answers: []string{"wrong", "correct horse"}}
	c, err := g.dial(Request{Target: target, Person: p})
	if err != nil || c.Credential != "password" {
		t.Fatal(err)
	}
	if !slices.Equal(p.asked, []string{"db1 asks: password of root: ", "db1 asks: password of root: "}) || p.echoed[0] {
		t.Errorf("asked %q, echoed %v", p.asked, p.echoed)
	}
	g.refused(Request{Target: target}, NoCredential, "asks root for password, and the gateway has nothing of the kind")
}

// While a person types or an agent asks its owner, the target's time stands still.
func TestAPersonsTimeDoesNotCount(t *testing.T) {
	g := newGateway(t)
	a := &attempt{settings: g.inForce.Load(), dialer: g.Dialer, ctx: t.Context(), name: "db1", budget: startBudget(time.Hour, func() {})}
	a.proof = &proof{attempt: a}
	defer a.budget.stop()
	stands := func() bool {
		a.budget.mu.Lock()
		defer a.budget.mu.Unlock()
		return a.budget.since.IsZero()
	}
	still := 0
	look := func() {
		if stands() {
			still++
		}
	}
	a.request.Person = &person{answers: []string{"x"}, wait: func(context.Context) { look() }}
	q := &questions{attempt: a}
	if _, err := q.password(); err != nil || stands() {
		t.Errorf("after the answer: %v", err)
	}
	ring, key := keyring(t)
	at := &attentive{ctx: t.Context(), agent: &slow{ring, look}, budget: a.budget}
	if _, err := at.List(); err != nil {
		t.Error(err)
	}
	if _, err := at.SignWithFlags(key, []byte("x"), 0); err != nil || stands() {
		t.Errorf("after the signature: %v", err)
	}
	if still != 3 {
		t.Errorf("the time stood still %d times of 3", still)
	}
}

// slow calls do before each answer.
type slow struct {
	agent.ExtendedAgent
	do func()
}

func (s *slow) List() ([]*agent.Key, error) {
	s.do()
	return s.ExtendedAgent.List()
}

func (s *slow) SignWithFlags(k ssh.PublicKey, data []byte, f agent.SignatureFlags) (*ssh.Signature, error) {
	s.do()
	return s.ExtendedAgent.SignWithFlags(k, data, f)
}
