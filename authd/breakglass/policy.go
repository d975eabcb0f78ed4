// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// PolicyFile is the name of the copy of authd's rules in authd's state_dir.
const PolicyFile = "breakglass-policy.json"

// DefaultPolicyPath is where sallyport-breakglass looks for it.
const DefaultPolicyPath = "/var/lib/sallyport/authd/" + PolicyFile

const (
	policyVersion = 1
	maxPolicy     = 8 << 20
)

// Who has to prove themselves, as [services.NAME] person says; see
// docs/reference/authd.md.
const (
	PersonUser     = "user"
	PersonCaller   = "caller"
	PersonInvoking = "invoking"
	PersonLoginUID = "loginuid"
)

// First factors, as [services.NAME] first_factor says.
const (
	FirstFactorSSH   = "ssh"
	FirstFactorStack = "stack"
)

// DefaultService is the entry of Policy.Services for services without their own.
const DefaultService = "default"

// ServicePolicy is what authd's configuration says of a service, as far as it
// matters while authd is away.
type ServicePolicy struct {
	Person      string `json:"person"`
	FirstFactor string `json:"first_factor"`
	// FirstFactorSSH holds for a login that carries sshd's own variables.
	FirstFactorSSH string `json:"first_factor_ssh"`
}

// Policy is the copy of authd's rules: the whole list in its order, since a
// require above a deny shields from it.
type Policy struct {
	Version  int                      `json:"version"`
	Written  time.Time                `json:"written"`
	Services map[string]ServicePolicy `json:"services"`
	Rules    []rules.Rule             `json:"rules"`

	set *rules.Set
}

// NewPolicy makes a policy of a checked list of rules.
func NewPolicy(services map[string]ServicePolicy, list []rules.Rule, now time.Time) *Policy {
	return &Policy{Version: policyVersion, Written: now.UTC().Truncate(time.Second), Services: services, Rules: list}
}

// builtin is what authd does without configuration.
func builtin(service string) ServicePolicy {
	s := ServicePolicy{Person: PersonUser, FirstFactor: FirstFactorStack, FirstFactorSSH: FirstFactorSSH}
	switch service {
	case "su", "su-l":
		s.Person = PersonCaller
	case "sudo", "sudo-i":
		s.Person = PersonInvoking
	case "sshd":
		s.FirstFactor = FirstFactorSSH
	}
	return s
}

// BuiltinServices are those whose settings differ from the rest without any
// configuration; a policy names them all.
var BuiltinServices = []string{"sshd", "su", "su-l", "sudo", "sudo-i"}

// Service is the policy of a PAM service: its own entry, else that of
// DefaultService. A nil policy knows what authd does without configuration.
func (p *Policy) Service(name string) ServicePolicy {
	if p != nil {
		for _, key := range []string{name, DefaultService} {
			if s, ok := p.Services[key]; ok {
				return s
			}
		}
	}
	return builtin(name)
}

// Decide applies the rules. A nil policy has none.
func (p *Policy) Decide(ctx context.Context, f rules.Facts) rules.Decision {
	if p == nil {
		return (*rules.Set)(nil).Decide(ctx, f)
	}
	return p.set.Decide(ctx, f)
}

// Write puts the policy at path: whole or not at all, and on disk when it
// returns. The file's group may read it.
func (p *Policy) Write(path string) error {
	data, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("write the rules for break-glass: %w", err)
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write the rules for break-glass: %w", err)
	}
	defer root.Close()
	if err := replace(root, filepath.Base(path), append(data, '\n'), func(f *os.File) error { return f.Chmod(0o640) }); err != nil {
		return fmt.Errorf("write the rules for break-glass: %w", err)
	}
	return nil
}

// ReadPolicy reads what Write wrote. The error wraps fs.ErrNotExist where authd
// has never written one.
func ReadPolicy(path string) (*Policy, error) {
	data, err := readLimited(path, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("read the rules for break-glass: %w", err)
	}
	p, err := parsePolicy(data)
	if err != nil {
		return nil, fmt.Errorf("read the rules for break-glass: %s: %w", path, err)
	}
	return p, nil
}

func parsePolicy(data []byte) (*Policy, error) {
	var p Policy
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	if p.Version != policyVersion {
		return nil, fmt.Errorf("version %d, this program knows %d", p.Version, policyVersion)
	}
	for name, s := range p.Services {
		if s.Person == "" || s.FirstFactor == "" || s.FirstFactorSSH == "" {
			return nil, errors.New("service " + name + " is incomplete")
		}
	}
	set, err := rules.Compile(p.Rules)
	if err != nil {
		return nil, err
	}
	p.set = set
	return &p, nil
}
