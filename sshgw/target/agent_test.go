// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func TestAttackAgentAskedAfterTheSession(t *testing.T) {
	ring, key := keyring(t)
	calls := 0
	source := NewAgentSource(&slow{ring, func() { calls++ }})
	if _, err := source.Sign(key, []byte("x")); err != nil {
		t.Fatal(err)
	}
	signers, err := source.Signers()
	if err != nil || len(signers) != 1 {
		t.Fatal(err)
	}
	source.Close()
	source.Close()
	before := calls
	_, list := source.List()
	_, sign := source.Sign(key, []byte("x"))
	_, flags := source.SignWithFlags(key, []byte("x"), agent.SignatureFlagRsaSha256)
	_, more := source.Signers()
	_, kept := signers[0].Sign(nil, []byte("x")) // whoever kept a signer has nothing
	for what, err := range map[string]error{"list": list, "sign": sign, "sign with flags": flags, "signers": more, "a signer that was kept": kept} {
		if !errors.Is(err, ErrAgentClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if calls != before {
		t.Errorf("the agent was asked %d times", calls-before)
	}
}

// What waits for an agent when its session ends gets no answer any more.
func TestAttackAgentAnswersAfterTheSession(t *testing.T) {
	ring, key := keyring(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	source := NewAgentSource(&slow{ring, func() { close(asked); <-answer }})
	result := make(chan error, 1)
	go func() {
		_, err := source.Sign(key, []byte("x"))
		result <- err
	}()
	<-asked
	source.Close()
	if err := <-result; !errors.Is(err, ErrAgentClosed) {
		t.Errorf("a request that waited: %v", err)
	}
	close(answer)
}

// The gateway uses an agent, and never changes it.
func TestAgentIsNeverChanged(t *testing.T) {
	ring, key := keyring(t)
	source := NewAgentSource(ring)
	_, extension := source.Extension("session-bind@openssh.com", nil)
	for what, err := range map[string]error{
		"add": source.Add(agent.AddedKey{}), "remove": source.Remove(key), "remove all": source.RemoveAll(),
		"lock": source.Lock([]byte("x")), "unlock": source.Unlock([]byte("x")), "extension": extension,
	} {
		if err == nil {
			t.Errorf("%s was done", what)
		}
	}
	if list, err := ring.List(); err != nil || len(list) != 1 {
		t.Errorf("the agent has %d keys, %v", len(list), err)
	}
}

// An agent that never answers is let go with the attempt, and so is a panic in it.
func TestAttackAnAgentThatNeverAnswers(t *testing.T) {
	g := newGateway(t)
	ring, key := keyring(t)
	target, _ := g.only(key)
	ctx, cancel := context.WithCancel(t.Context())
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	r := Request{Identity: alice(), Login: "root", Target: target, Agent: &slow{ring, func() { cancel(); <-never }}}
	if _, err := g.Dial(ctx, r); ReasonOf(err) != Cancelled {
		t.Errorf("%v", err)
	}
	r.Agent = &slow{ring, func() { panic("an agent of ours") }}
	g.refused(r, LoginRefused, "")
}

// Blobs that are no keys are passed over.
func TestAttackAnAgentOfNoKeys(t *testing.T) {
	g := newGateway(t)
	ring, key := keyring(t)
	target, _ := g.only(key)
	if _, err := g.dial(Request{Target: target, Agent: &littered{ring}}); err != nil {
		t.Error(err)
	}
}

type littered struct{ agent.ExtendedAgent }

func (l *littered) List() ([]*agent.Key, error) {
	list, err := l.ExtendedAgent.List()
	return append([]*agent.Key{{Format: "ssh-ed25519", Blob: []byte("x")}, {}}, list...), err
}

var _ ssh.MultiAlgorithmSigner = (*agentKey)(nil)
