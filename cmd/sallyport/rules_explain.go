// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
)

// asked is what rules explain is told of a login.
type asked struct {
	user, service, source, target, command, at string
	keys, certificates, groups, ldapGroups     []string
}

// unknownFact stands for what is not known, in a flag.
const unknownFact = "unknown"

func (a *app) rulesExplain(path *string) *cobra.Command {
	var q asked
	c := &cobra.Command{
		Use: "explain --user NAME", Short: "Say which rule decides about a login, and why", Args: args(),
		Long: `Say which rule decides about a login, and why each rule before it does not. Nobody
logs in and no daemon is asked.

Without --source the login is a local one; without --key and --certificate, one that
proved no SSH key. --source, --key, --target and --command may be "unknown", and for
sudo the last two are, unless they are given. Without --group the person's Unix groups
are those that this machine knows; without --ldap-group the directory of authd.toml is
asked, for which it takes root to read its password.`,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := loadConfig(*path)
			if err != nil {
				return err
			}
			facts, err := a.factsOf(c, &q, conf)
			if err != nil {
				return err
			}
			e := conf.RuleSet().Explain(c.Context(), facts)
			if a.json {
				return a.JSON(explanationJSON(e))
			}
			for line := range strings.Lines(e.Text()) {
				a.Printf("%s\n", strings.TrimSuffix(line, "\n"))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&q.user, "user", "", "user, by the name that the system knows (required)")
	f.StringVar(&q.service, "service", "sshd", "PAM service")
	f.StringVar(&q.source, "source", "", "address that the login comes from")
	f.StringSliceVar(&q.keys, "key", nil, "fingerprint of a key that was proven, SHA256:...; may repeat")
	f.StringSliceVar(&q.certificates, "certificate", nil, "file of an SSH certificate that was proven, such as id_ed25519-cert.pub; may repeat")
	f.StringSliceVar(&q.groups, "group", nil, "Unix group of the person, in place of what this machine knows; may repeat")
	f.StringSliceVar(&q.ldapGroups, "ldap-group", nil, "group of the person in the directory; may repeat")
	f.StringVar(&q.target, "target", "", "account that sudo or su turns to, or target that the gateway opens")
	f.StringVar(&q.command, "command", "", "command that sudo is to run, with its path and arguments")
	f.StringVar(&q.at, "at", "", "time of the login, such as \"2026-12-31 23:30\" or RFC 3339 (default now)")
	required(c, "user")
	completeFrom(c, "service", pamServices)
	a.jsonFlag(c)
	return c
}

// completeFrom is complete with values that are looked up when they are needed.
func completeFrom(c *cobra.Command, flag string, values func() []string) {
	err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is defined by the caller
	}
}

// pamServices are the services of this machine.
func pamServices() []string {
	files, err := filepath.Glob("/etc/pam.d/*")
	if err != nil {
		return nil
	}
	for i, f := range files {
		files[i] = filepath.Base(f)
	}
	return files
}

func (a *app) factsOf(c *cobra.Command, q *asked, conf *config.Config) (rules.Facts, error) {
	f := rules.Facts{User: q.user, Service: q.service, Time: a.Now(), InGroup: groupsOf(q.user), InLDAPGroup: a.ldapGroupsOf(q.user, conf)}
	if q.at != "" {
		at, err := parseTime(q.at)
		if err != nil {
			return f, err
		}
		f.Time = at
	}
	switch q.source {
	case "":
	case unknownFact:
		f.SourceUnknown = true
	default:
		addr, err := netip.ParseAddr(q.source)
		if err != nil {
			return f, cli.Usagef("--source %q is no IP address", q.source)
		}
		f.Source = addr
	}
	if slices.Contains(q.keys, unknownFact) {
		f.KeysUnknown, f.CertificatesUnknown = true, true
	} else {
		f.Keys = slices.Clone(q.keys)
	}
	given := c.Flags().Changed
	f.Target, f.TargetUnknown = fact(q.target, rules.KnowsTarget(q.service) && !given("target"))
	f.Command, f.CommandUnknown = fact(q.command, rules.KnowsCommand(q.service) && !given("command"))
	if given("group") {
		f.InGroup = among(q.groups)
	}
	if given("ldap-group") {
		f.InLDAPGroup = among(q.ldapGroups)
	}
	for _, file := range q.certificates {
		if err := a.addCertificate(&f, conf, file); err != nil {
			return f, err
		}
	}
	return f, nil
}

func fact(value string, missing bool) (string, bool) {
	if missing || value == unknownFact {
		return "", true
	}
	return value, false
}

func among(groups []string) func(context.Context, string) rules.Truth {
	return func(_ context.Context, group string) rules.Truth {
		if slices.Contains(groups, group) {
			return rules.True
		}
		return rules.False
	}
}

// addCertificate reads a certificate as a login would show it.
func (a *app) addCertificate(f *rules.Facts, conf *config.Config, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--certificate: %w", err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return fmt.Errorf("--certificate: %s is no SSH certificate: %w", file, err)
	}
	cert, ok := key.(*ssh.Certificate)
	if !ok {
		return fmt.Errorf("--certificate: %s is a public key without a certificate; give its fingerprint with --key", file)
	}
	f.Keys = append(f.Keys, ssh.FingerprintSHA256(cert.Key))
	ca, err := conf.Authorities().Check(cert, f.Time, f.Source)
	switch {
	case errors.Is(err, sshcert.ErrCannotTell):
		f.CertificatesUnknown = true
		a.Notef("warning: %s: %v\n", file, err)
	case err != nil:
		a.Notef("warning: %s does not count: %v\n", file, err)
	default:
		f.Certificates = append(f.Certificates, rules.Certificate{CA: ca, KeyID: cert.KeyId, Principals: cert.ValidPrincipals})
	}
	return nil
}

// parseTime reads a time; without a zone it is this machine's.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, cli.Usagef("--at %q is no time such as \"2026-12-31 23:30\"", s)
}

// groupsOf asks the name service about a user; what it does not answer is unknown.
func groupsOf(user string) func(context.Context, string) rules.Truth {
	return func(_ context.Context, group string) rules.Truth { return inGroup(user, group) }
}

func inGroup(name, group string) rules.Truth {
	var noUser osuser.UnknownUserError
	u, err := osuser.Lookup(name)
	if errors.As(err, &noUser) {
		return rules.False
	}
	if err != nil {
		return rules.Unknown
	}
	g, err := osuser.LookupGroup(group)
	ids, idsErr := u.GroupIds()
	if err != nil || idsErr != nil {
		return rules.Unknown // a group that is not there may be there tomorrow
	}
	if slices.Contains(ids, g.Gid) {
		return rules.True
	}
	return rules.False
}

// The answer of explain with --json.
type (
	explanation struct {
		decision
		Steps []explainedStep `json:"rules"`
	}
	decision struct {
		Action   rules.Action `json:"action"`
		Rule     *string      `json:"rule"` // null: no rule matches
		At       string       `json:"at,omitempty"`
		Reason   string       `json:"reason,omitempty"`
		Certain  bool         `json:"certain"` // nothing unknown had a part in it
		Factors  []string     `json:"factors,omitempty"`
		AutoPush *bool        `json:"autopush,omitempty"`
		Attempts *int         `json:"attempts,omitempty"`
		FailMode string       `json:"fail_mode,omitempty"`
	}
	explainedStep struct {
		Rule       string               `json:"rule"`
		At         string               `json:"at"`
		Action     rules.Action         `json:"action"`
		Truth      string               `json:"truth"`
		Matches    bool                 `json:"matches"`
		Conditions []explainedCondition `json:"conditions"`
	}
	explainedCondition struct {
		Name  string   `json:"name"`
		Truth string   `json:"truth"`
		Wants []string `json:"wants"`
		Has   string   `json:"has"`
	}
)

func decisionJSON(d rules.Decision) decision {
	out := decision{Action: d.Action, Certain: !d.Doubt}
	if r := d.Rule; r != nil {
		out.Rule, out.At, out.Reason = &r.Name, r.At(), r.Reason
		out.Factors, out.AutoPush, out.Attempts, out.FailMode = r.Factors, r.AutoPush, r.Attempts, r.FailMode
	}
	return out
}

func explanationJSON(e rules.Explanation) explanation {
	out := explanation{decision: decisionJSON(e.Decision), Steps: []explainedStep{}}
	for _, s := range e.Steps {
		step := explainedStep{s.Rule.Name, s.Rule.At(), s.Rule.Action, s.Truth.String(), s.Matched, []explainedCondition{}}
		for _, c := range s.Conditions {
			step.Conditions = append(step.Conditions, explainedCondition{c.Name, c.Truth.String(), c.Want, c.Have})
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}
