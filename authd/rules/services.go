// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"
)

// KnowsCommand says that the PAM service is sudo's, which tells what it will run.
func KnowsCommand(service string) bool {
	return service == "sudo" || strings.HasPrefix(service, "sudo-")
}

// NeedsFreshSudo says that the rule can be got round while sudo has a ticket: it
// asks for a factor by what sudo is to do.
func (r *Rule) NeedsFreshSudo() bool {
	return r.Action == Require && len(r.Targets)+len(r.Commands) > 0 && slices.ContainsFunc(r.Services, KnowsCommand)
}

// Gateway is the service of the SSH gateway's logins.
const Gateway = "sshgw"

// ChangesAccount says that the PAM service changes to another account.
func ChangesAccount(service string) bool {
	return KnowsCommand(service) || slices.Contains([]string{"su", "su-l", "runuser", "runuser-l"}, service)
}

// KnowsTarget says that the service knows where to a login goes: to which account
// of this host, or through the gateway to which other host.
func KnowsTarget(service string) bool { return ChangesAccount(service) || service == Gateway }

// Local says that the PAM service is one that no SSH connection stands behind,
// and no address.
func Local(service string) bool {
	return ChangesAccount(service) || slices.Contains([]string{
		"login", "cron", "crond", "atd", "polkit-1", "unprivileged", "vlock", "xscreensaver",
		"gdm-password", "gdm", "lightdm", "sddm", "xdm",
	}, service)
}

// checkKnowable refuses conditions that a service named in the rule can never
// know: they would be unknown in each login, and so hold or fail by accident.
func checkKnowable(r *Rule) []error {
	var errs []error
	positive := slices.DeleteFunc(slices.Clone(r.Services), func(s string) bool { return strings.HasPrefix(s, "!") })
	for _, c := range []struct {
		name  string
		given bool
		knows func(string) bool
		only  string
	}{
		{"commands", len(r.Commands) > 0, KnowsCommand, `services = ["sudo", "sudo-i"]`},
		{"targets", len(r.Targets) > 0, KnowsTarget, `services = ["sudo", "sudo-i", "su", "su-l"] or ["sshgw"]`},
	} {
		if !c.given {
			continue
		}
		if len(positive) == 0 {
			errs = append(errs, fmt.Errorf("%s is known of some services only: add %s", c.name, c.only))
		}
		for _, s := range positive {
			if !c.knows(s) {
				errs = append(errs, fmt.Errorf("%s: the service %s does not tell PAM; %s", c.name, s, instead(c.name, s, c.only)))
			}
		}
	}
	for _, s := range positive {
		if !Local(s) {
			continue
		}
		if len(r.Keys) > 0 || len(r.Certificates) > 0 {
			errs = append(errs, fmt.Errorf("keys and certificates: the service %s cannot know which SSH key began the session, and a key there proves nothing of who types now; use users or groups", s))
		}
		if ChangesAccount(s) && len(r.Sources) > 0 {
			errs = append(errs, fmt.Errorf("sources: the service %s is started on this host and has no address; put sources into a rule for sshd", s))
		}
	}
	return errs
}

// instead says what to do about a condition that a service cannot know.
func instead(condition, service, only string) string {
	switch {
	case service != "sshd":
		return "it works with " + only
	case condition == "commands":
		return `for sshd, give a bypass rule command = "…", which sallyport rules sshd-config turns into ForceCommand, or set ForceCommand in a Match block`
	}
	return "for sshd the account is the user: use users"
}

// UnknownKey says what to do instead of a key that people try in a rule and that
// no rule can have; "" for any other.
func UnknownKey(key string) string {
	switch key {
	case "tty", "ttys", "terminal", "terminals":
		return "sshd tells PAM no terminal, and elsewhere it proves nothing; set PermitTTY in a Match block of sshd_config (sallyport rules sshd-config prints one), or use services"
	case "host", "hosts", "hostname", "hostnames", "rhost":
		return "whoever runs the reverse DNS would own the rule; use sources with addresses or networks"
	case "user", "group", "service", "source", "key", "certificate", "target", "factor", "weekday", "ldap_group":
		return "did you mean " + key + "s?"
	}
	return ""
}
