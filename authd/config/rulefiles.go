// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/ownfile"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

// RulesFolder stands beside authd.toml. Its files *.toml hold [[rules]], which
// follow those of authd.toml in the lexical order of the files' names.
const RulesFolder = "rules.d"

// load reads authd.toml and the files of rules.d. trust is asked about each file,
// and the folder, before it is read.
func load(path string, trust func(path string) error) (*Config, error) {
	if err := trust(path); err != nil {
		return nil, err
	}
	text, err := tomlfile.Read(path)
	if err != nil {
		return nil, err
	}
	c := defaults()
	if err := tomlfile.Decode(path, text, c); err != nil {
		return nil, rules.Hinted(err)
	}
	rules.Locate(c.Rules, path, text)
	more, err := readRules(filepath.Join(filepath.Dir(path), RulesFolder), trust)
	c.Rules = append(c.Rules, more...)
	if _, checkErr := c.finish(path, nil); err != nil || checkErr != nil {
		return nil, errors.Join(checkErr, err)
	}
	return c, nil
}

// LoadToCheck is LoadWithoutSecret, and names the files that Load would refuse
// because others can change them.
func LoadToCheck(path string) (c *Config, untrusted []string, err error) {
	c, err = load(path, func(path string) error {
		if err := ownfile.Check(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			untrusted = append(untrusted, err.Error())
		}
		return nil
	})
	return c, untrusted, err
}

// trustAll is for those who do not act on what they read.
func trustAll(string) error { return nil }

func readRules(dir string, trust func(string) error) ([]rules.Rule, error) {
	entries, err := os.ReadDir(dir) // in lexical order
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	if err := trust(dir); err != nil {
		return nil, err
	}
	var all []rules.Rule
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".toml") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		list, err := readRuleFile(filepath.Join(dir, e.Name()), trust)
		all, errs = append(all, list...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func readRuleFile(path string, trust func(string) error) ([]rules.Rule, error) {
	if err := trust(path); err != nil {
		return nil, err
	}
	text, err := tomlfile.Read(path)
	if err != nil {
		return nil, err
	}
	return rules.Parse(path, text)
}

// checkRules compiles the rules. Its errors name file and line themselves.
func (c *Config) checkRules() error {
	set, err := rules.Compile(c.Rules)
	errs := []error{err}
	for i := range c.Rules {
		r := &c.Rules[i]
		fault := func(err error) {
			errs = append(errs, fmt.Errorf("%s: rule %d (%q): %w", r.At(), r.Number, r.Name, err))
		}
		if len(r.LDAPGroups) > 0 && !c.LDAP.Configured() {
			fault(errors.New("ldap_groups: there is no [ldap] in authd.toml, so they would always be unknown"))
		}
		for _, w := range r.Certificates {
			if _, ok := c.SSHCA[w.CA]; !ok && w.CA != "" {
				fault(fmt.Errorf("certificates: there is no CA %q: it wants a table [ssh_ca.%s] in authd.toml", w.CA, w.CA))
			}
		}
	}
	c.ruleSet = set
	return errors.Join(errs...)
}

// SSHCA is a CA whose SSH certificates rules may name.
type SSHCA struct {
	PublicKeyFile string   `toml:"public_key_file"`
	PublicKeys    []string `toml:"public_keys"`
}

// maxAuthority bounds the public keys of a CA, in bytes.
const maxAuthority = 64 << 10

// checkSSHCA reads the public keys.
func (c *Config) checkSSHCA() []error {
	c.authorities = sshcert.Authorities{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.SSHCA)) {
		ca := c.SSHCA[name]
		text, setting, err := strings.Join(ca.PublicKeys, "\n"), "public_keys", error(nil)
		switch {
		case (ca.PublicKeyFile == "") == (len(ca.PublicKeys) == 0):
			err = errors.New("it wants public_key_file or public_keys, and one of them")
		case ca.PublicKeyFile != "":
			setting = "public_key_file: " + ca.PublicKeyFile
			text, err = readAuthority(ca.PublicKeyFile)
		}
		if err == nil {
			c.authorities[name], err = sshcert.ParseAuthority(text)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ssh_ca.%s.%s: %w", name, setting, err))
		}
	}
	return errs
}

func readAuthority(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAuthority {
		return "", fmt.Errorf("not a file of at most %d bytes", maxAuthority)
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

// Authorities are the CAs of the tables [ssh_ca.NAME].
func (c *Config) Authorities() sshcert.Authorities { return c.authorities }

// trustedCAs refuses public keys that others can change.
func (c *Config) trustedCAs() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.SSHCA)) {
		if path := c.SSHCA[name].PublicKeyFile; path != "" {
			if err := ownfile.Check(path); err != nil {
				errs = append(errs, fmt.Errorf("ssh_ca.%s.public_key_file: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// RuleWarnings names rules that are allowed but are not what somebody meant, or
// need something else to hold.
func (c *Config) RuleWarnings(now time.Time) []string {
	var out []string
	for _, r := range c.ruleSet.Expired(now) {
		out = append(out, fmt.Sprintf("%s: rule %q: not_after is past, so it matches nothing any more; remove it", r.At(), r.Name))
	}
	for _, r := range c.ruleSet.Rules() {
		if r.Action == rules.Deny && len(r.Targets) > 0 && slices.Contains(r.Services, rules.Gateway) {
			out = append(out, fmt.Sprintf("%s: rule %q: it denies by targets at the gateway, where no target is known yet at the door: "+
				"nobody whom it may be about gets in there, whatever their target. Deny targets in the gateway's own rules (sshgw.toml)", r.At(), r.Name))
		}
		if FailMode(r.FailMode) == FailOpen {
			out = append(out, fmt.Sprintf(`%s: rule %q: fail_mode = "open" lets everyone in whom it is about while no verifier answers`, r.At(), r.Name))
		}
	}
	return out
}

// SudoWarnings names what holds only if sudo asks each time: rules, and the end
// of a remembered login where a file says that sudo goes by those. `sallyport
// doctor` looks whether it does.
func (c *Config) SudoWarnings() []string {
	var out []string
	if p := c.Services["sudo"].Passport; p != nil && *p == PassportUse {
		out = append(out, "services.sudo: passport = \"use\": sudo asks nothing while it has a ticket, even after a remembered login was ended: it needs \"Defaults timestamp_timeout=0\" in sudoers")
	}
	for _, r := range c.ruleSet.Rules() {
		if r.NeedsFreshSudo() {
			out = append(out, fmt.Sprintf("%s: rule %q: it is about targets or commands of sudo, which asks nothing while it has a ticket: it needs \"Defaults timestamp_timeout=0\" in sudoers; sallyport doctor looks whether it is there", r.At(), r.Name))
		}
	}
	return out
}

// Under is the service as a require rule wants it.
func (s Service) Under(r *rules.Rule) Service {
	if r == nil {
		return s
	}
	s.Factors = r.Factors
	set(&s.AutoPush, r.AutoPush)
	set(&s.Attempts, r.Attempts)
	if r.FailMode != "" {
		s.FailMode = FailMode(r.FailMode)
	}
	return s
}

// Takes says whether a factor may be used at all.
func (s Service) Takes(factor string) bool {
	return s.Factors == nil || slices.Contains(s.Factors, factor)
}
