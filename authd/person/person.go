// SPDX-License-Identifier: Apache-2.0

// Package person maps the account of a person to the name that the verifier
// knows. It never decides what a person may do, and never falls back to the
// Unix name where the configured one cannot be had.
package person

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/directory"
)

// ErrNoName says that everything needed is known, and gives the person no name
// at the verifier. Every other error of Map means that nothing is known.
var ErrNoName = errors.New("no name at the verifier")

// Attributes is the directory, as far as a mapping needs it. Its errors wrap
// directory.ErrNoValue where the directory has answered.
type Attributes interface {
	// Attribute is the one value of an attribute of the person with that Unix name.
	Attribute(ctx context.Context, user, attribute string) (string, error)
}

// maxName bounds a name at the verifier, in bytes.
const maxName = 256

// Mapper turns accounts into names. It is safe for concurrent use.
type Mapper struct {
	Attributes Attributes // nil: there is no directory
	GECOS      GECOS
}

// Map is the name of the account at the verifier.
func (p Mapper) Map(ctx context.Context, m config.Mapping, account directory.Account) (string, error) {
	name, err := p.source(ctx, m, account)
	if err != nil {
		return "", err
	}
	return rewrite(m, name)
}

// source is what the mapping starts from.
func (p Mapper) source(ctx context.Context, m config.Mapping, account directory.Account) (string, error) {
	switch {
	case m.LDAP != "":
		if p.Attributes == nil {
			return "", errors.New("mapping: no directory is configured")
		}
		name, err := p.Attributes.Attribute(ctx, account.Name, m.LDAP)
		if errors.Is(err, directory.ErrNoValue) {
			return "", fmt.Errorf("%w: %w", ErrNoName, err)
		}
		return name, err
	case m.GECOS > 0:
		return p.GECOS.name(m, account)
	}
	return account.Name, nil
}

// rewrite applies the steps that need nobody's answer, in their order.
func rewrite(m config.Mapping, name string) (string, error) {
	name, err := mapDomain(m, name)
	if err != nil {
		return "", err
	}
	if m.Case == config.LowerCase {
		name = strings.ToLower(name)
	}
	if re := m.Regexp(); re != nil {
		match := re.FindStringSubmatchIndex(name)
		switch {
		case match != nil:
			name = string(re.ExpandString(nil, m.Name, name, match))
		case m.Unmatched != config.UnmatchedAsIs:
			return "", fmt.Errorf("%w: pattern %q does not match %q", ErrNoName, m.Pattern, name)
		}
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	return name, nil
}

// checkName refuses what is no name, wherever it came from.
func checkName(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return fmt.Errorf("%w: the mapping leaves nothing", ErrNoName)
	case len(name) > maxName:
		return fmt.Errorf("%w: the mapping gives over %d bytes", ErrNoName, maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: the mapping gives %q, which is no name", ErrNoName, name)
	}
	return nil
}

func mapDomain(m config.Mapping, name string) (string, error) {
	if m.Domain == "" {
		return name, nil
	}
	user, domain := directory.SplitDomain(name)
	switch {
	case domain == "":
		return name, nil
	case m.Domain == config.DomainKeep:
		return user + "@" + strings.ToLower(domain), nil
	case len(m.Domains) > 0 && !slices.ContainsFunc(m.Domains, func(d string) bool { return strings.EqualFold(d, domain) }):
		return "", fmt.Errorf("%w: %q is of the domain %q, which the mapping does not name", ErrNoName, name, domain)
	}
	return user, nil
}
