// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// What sudo -V tells root of the Defaults in force.
var (
	sudoTicket = regexp.MustCompile(`(?m)^Authentication timestamp timeout: (-?[0-9.]+) minutes$`)
	sudoRunas  = regexp.MustCompile(`(?m)^Default user to run commands as: (.+)$`)
)

// examineSudo looks at the settings of sudo that rules on its commands and
// targets, and the end of remembered logins, rest on. Where there are neither
// there is nothing to look at.
func (h *Host) examineSudo(ctx context.Context, c *config.Config) []Finding {
	r := &report{area: "sudo"}
	if c == nil {
		return nil
	}
	list := c.RuleSet().Rules()
	fresh := slices.DeleteFunc(slices.Clone(list), func(r rules.Rule) bool { return !r.NeedsFreshSudo() })
	targets := slices.DeleteFunc(list, func(r rules.Rule) bool {
		return len(r.Targets) == 0 || !slices.ContainsFunc(r.Services, rules.KnowsCommand)
	})
	remembered := c.Verifier.HostKeyFile != "" && c.Service("sudo", false).Passport == config.PassportUse
	if len(fresh)+len(targets) == 0 && !remembered {
		return nil
	}
	const subject = "sudoers"
	out, err := h.Run(ctx, "env", "LC_ALL=C", "sudo", "-V")
	ticket, runas := sudoTicket.FindSubmatch(out), sudoRunas.FindSubmatch(out)
	if err != nil || ticket == nil || runas == nil {
		r.warn(subject, "sudo -V does not tell its Defaults, so nobody knows whether rules on commands and targets can be got round", "run as root")
		return r.findings
	}
	switch minutes := string(ticket[1]); {
	case strings.Trim(minutes, "0.") == "":
		if len(fresh) > 0 || remembered {
			r.ok(subject, "timestamp_timeout is 0: sudo asks each time, as rules on its commands and the end of a remembered login need")
		}
	case len(fresh) == 0 && remembered:
		r.warn(subject, fmt.Sprintf("timestamp_timeout is %s minutes: for that long sudo asks nothing, even after a remembered login was ended", minutes),
			"set Defaults timestamp_timeout=0 with visudo")
	case len(fresh) == 0:
	default:
		r.fail(subject, fmt.Sprintf("timestamp_timeout is %s minutes: for that long after a success sudo asks nothing, whatever rule %q requires", minutes, fresh[0].Name),
			"set Defaults timestamp_timeout=0 with visudo, and for no user or host otherwise")
	}
	if name := string(runas[1]); len(targets) > 0 && name != "root" {
		r.fail(subject, fmt.Sprintf("runas_default is %s, but rules take sudo without -u for a change to root: rule %q", name, targets[0].Name), "remove runas_default from sudoers")
	}
	return r.findings
}
