// SPDX-License-Identifier: Apache-2.0

package target

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

const (
	// agentKeysMax is how many keys of an agent are offered; sshd lets go after six.
	agentKeysMax = 10
	// typedMax is how often a person may answer wrongly.
	typedMax = 3
)

// proof shows the target one credential after another, as it asks for them.
type proof struct {
	attempt *attempt
	queue   []config.Credential
	started bool

	offered   []string // what was shown, for the log
	used      string
	asked     map[string]int
	wants     []string // the methods that the target named last
	exhausted bool     // it wants something that there is not, or not any more
	failures  []error  // of our own: an agent that is gone, a key that cannot sign
}

// next is the callback of the SSH library: it names the method to try.
func (p *proof) next(at *ssh.ClientAuthContext) (method ssh.AuthMethod, err error) {
	defer guard(&err)
	if e := p.attempt.cause; e != nil {
		return nil, e
	}
	if !p.started {
		p.started, p.asked = true, map[string]int{}
		p.queue, err = p.attempt.credentialsOf(p.attempt.request.Target.Credential)
		if err != nil {
			p.attempt.cause = problem(Internal, err, "the gateway is not set up for %s", p.attempt.name)
			return nil, p.attempt.cause
		}
	}
	if len(at.AllowedMethods) == 0 {
		return nil, errors.New("the connection broke, or the target names no method")
	}
	p.wants = at.AllowedMethods
	if slices.Contains(at.AllowedMethods, "publickey") {
		for len(p.queue) > 0 {
			c := p.queue[0]
			p.queue = p.queue[1:]
			signers, err := p.signers(c)
			if err != nil {
				p.failures = append(p.failures, fmt.Errorf("%s: %w", c.Kind, err))
				continue
			}
			if len(signers) > 0 {
				p.used = string(c.Kind)
				p.offered = append(p.offered, p.used)
				return ssh.PublicKeys(signers...), nil
			}
		}
	}
	if p.attempt.request.Person != nil {
		for _, m := range []string{"keyboard-interactive", "password"} {
			if !slices.Contains(at.AllowedMethods, m) || p.asked[m] >= typedMax {
				continue
			}
			p.asked[m]++
			p.used = m
			if m == "password" {
				return ssh.PasswordCallback(p.attempt.ask.password), nil
			}
			return ssh.KeyboardInteractive(p.attempt.ask.challenge), nil
		}
	}
	p.exhausted = true
	return nil, errExhausted
}

var errExhausted = errors.New("no method is left")

// answered notes that a person has answered a question of the method in use.
func (p *proof) answered() {
	if !slices.Contains(p.offered, p.used) {
		p.offered = append(p.offered, p.used)
	}
}

// credentialsOf reads the names in a target's credential: one, or several with commas
// between, which are tried in that order.
func (s *settings) credentialsOf(names string) ([]config.Credential, error) {
	if _, ok := s.credentials[config.DefaultCredential]; ok && names == "" {
		names = config.DefaultCredential
	}
	if names == "" {
		return []config.Credential{{Kind: config.CredentialCertificate}, {Kind: config.CredentialAgent}}, nil
	}
	var list []config.Credential
	for _, n := range strings.Split(names, ",") {
		c, ok := s.credentials[strings.TrimSpace(n)]
		if !ok {
			return nil, fmt.Errorf("there is no credential %q", n)
		}
		list = append(list, c)
	}
	return list, nil
}

func (p *proof) signers(c config.Credential) ([]ssh.Signer, error) {
	a := p.attempt
	switch c.Kind {
	case config.CredentialCertificate:
		s, err := a.certificate()
		return []ssh.Signer{s}, err
	case config.CredentialKey:
		return []ssh.Signer{a.stored[c.Name]}, nil
	case config.CredentialAgent:
		if a.request.Agent == nil {
			return nil, errors.New("no agent was forwarded")
		}
		// An agent may ask its owner, who takes the time that he takes.
		agent := &attentive{ctx: a.ctx, agent: a.request.Agent, budget: a.budget}
		list, err := agent.signers()
		return list[:min(len(list), agentKeysMax)], err
	}
	return nil, fmt.Errorf("a credential of kind %q", c.Kind)
}

// certificate is the person, as the gateway's user CA vouches for him.
func (a *attempt) certificate() (ssh.Signer, error) {
	source := a.source
	if len(source) == 0 && a.local.IsValid() {
		source = []netip.Prefix{netip.PrefixFrom(a.local, a.local.BitLen())}
	}
	permit := keys.Ordinary
	if a.request.Permit != nil {
		permit = *a.request.Permit
	}
	who := a.request.Identity
	return a.dialer.keys.UserFor(keys.Person{
		KeyID: fmt.Sprintf("user=%s gateway=%s session=%s",
			cli.Escape(who.Account.Name), cli.Escape(a.dialer.gateway), cli.Escape(who.SessionID)),
		Principal: a.request.Login, Source: source, Lifetime: a.lifetime, Permit: permit,
	})
}

// problem says why there is nothing more to show.
func (p *proof) problem(err error) *Error {
	a := p.attempt
	wants := harmless(strings.Join(p.wants, ", "), nameMax)
	detail := errors.Join(append(p.failures, err)...)
	login := harmless(a.request.Login, nameMax)
	if len(p.offered) == 0 {
		text := fmt.Sprintf("%s asks %s for %s, and the gateway has nothing of the kind", a.name, login, wants)
		return problem(NoCredential, detail, "%s", text)
	}
	return problem(LoginRefused, detail, "%s does not let %s in: it was shown %s, and asks for %s",
		a.name, login, strings.Join(p.offered, ", "), wants)
}
