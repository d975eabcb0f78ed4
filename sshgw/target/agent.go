// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// ErrAgentClosed says that the session whose agent it was is over.
var ErrAgentClosed = errors.New("the forwarded agent is no longer there: the session that it came with is over")

// errAgentReadOnly says that an agent is asked for signatures and nothing else.
var errAgentReadOnly = errors.New("the gateway does not change a forwarded agent")

// AgentSource is a person's agent for as long as a session lasts: after Close every
// request fails, those that wait included. It lists and signs, and never changes the
// agent. It is safe for concurrent use.
type AgentSource struct {
	agent  agent.ExtendedAgent
	closed chan struct{}
	once   sync.Once
}

// NewAgentSource makes one of an agent at the other end of a channel.
func NewAgentSource(a agent.ExtendedAgent) *AgentSource {
	return &AgentSource{agent: a, closed: make(chan struct{})}
}

// Close ends it. The channel below is for whoever opened it to close.
func (a *AgentSource) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

// wait runs do, which may block for as long as the person's agent likes, until the
// source is closed.
func wait[T any](closed <-chan struct{}, gone error, do func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	select {
	case <-closed:
		return none, gone
	default:
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() { done <- r }()
		defer guard(&r.err)
		r.value, r.err = do()
	}()
	select {
	case <-closed:
		return none, gone
	case r := <-done:
		// Closed meanwhile: what came is void.
		select {
		case <-closed:
			return none, gone
		default:
			return r.value, r.err
		}
	}
}

// List implements agent.Agent.
func (a *AgentSource) List() ([]*agent.Key, error) {
	return wait(a.closed, ErrAgentClosed, a.agent.List)
}

// Sign implements agent.Agent.
func (a *AgentSource) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return a.SignWithFlags(key, data, 0)
}

// SignWithFlags implements agent.ExtendedAgent.
func (a *AgentSource) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	return wait(a.closed, ErrAgentClosed, func() (*ssh.Signature, error) { return a.agent.SignWithFlags(key, data, flags) })
}

// Signers implements agent.Agent.
func (a *AgentSource) Signers() ([]ssh.Signer, error) { return signersOf(a) }

// Add implements agent.Agent.
func (a *AgentSource) Add(agent.AddedKey) error { return errAgentReadOnly }

// Remove implements agent.Agent.
func (a *AgentSource) Remove(ssh.PublicKey) error { return errAgentReadOnly }

// RemoveAll implements agent.Agent.
func (a *AgentSource) RemoveAll() error { return errAgentReadOnly }

// Lock implements agent.Agent.
func (a *AgentSource) Lock([]byte) error { return errAgentReadOnly }

// Unlock implements agent.Agent.
func (a *AgentSource) Unlock([]byte) error { return errAgentReadOnly }

// Extension implements agent.ExtendedAgent.
func (a *AgentSource) Extension(string, []byte) ([]byte, error) {
	return nil, agent.ErrExtensionUnsupported
}

// attentive is an agent while a target is being opened: its owner's time does not
// count, and it ends with the attempt.
type attentive struct {
	ctx    context.Context
	agent  agent.ExtendedAgent
	budget *budget
}

func (a *attentive) List() ([]*agent.Key, error) {
	a.budget.pause()
	defer a.budget.resume()
	return wait(a.ctx.Done(), context.Canceled, a.agent.List)
}

func (a *attentive) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	a.budget.pause()
	defer a.budget.resume()
	return wait(a.ctx.Done(), context.Canceled, func() (*ssh.Signature, error) { return a.agent.SignWithFlags(key, data, flags) })
}

func (a *attentive) signers() ([]ssh.Signer, error) { return signersOf(a) }

// signing is what a key of an agent needs of it.
type signing interface {
	List() ([]*agent.Key, error)
	SignWithFlags(ssh.PublicKey, []byte, agent.SignatureFlags) (*ssh.Signature, error)
}

// signersOf are an agent's keys as signers that ask it.
func signersOf(a signing) ([]ssh.Signer, error) {
	list, err := a.List()
	if err != nil {
		return nil, err
	}
	var out []ssh.Signer
	for _, k := range list {
		// What cannot be read is of a kind that we do not know; the others may do.
		pub, err := ssh.ParsePublicKey(k.Blob)
		if err == nil {
			out = append(out, &agentKey{a, pub})
		}
	}
	return out, nil
}

// agentKey is one key of an agent.
type agentKey struct {
	agent signing
	pub   ssh.PublicKey
}

func (k *agentKey) PublicKey() ssh.PublicKey { return k.pub }

func (k *agentKey) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(random, data, "")
}

func (k *agentKey) Algorithms() []string {
	switch t := bare(k.pub).Type(); t {
	case ssh.KeyAlgoRSA:
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	default:
		return []string{t}
	}
}

func (k *agentKey) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	return k.agent.SignWithFlags(k.pub, data, flags)
}
