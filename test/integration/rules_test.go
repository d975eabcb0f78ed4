// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// withRules puts a file into rules.d, and more into authd.toml, for one test.
func (s *site) withRules(t *testing.T, rules, more string) {
	t.Helper()
	before := s.authdConfig(t)
	t.Cleanup(func() {
		_, err := s.host.Must(context.Background(), "rm", "-r", "/etc/sallyport/rules.d")
		must(t, err)
		s.setAuthdConfig(t, before)
	})
	_, err := s.host.Must(t.Context(), "mkdir", "-p", "/etc/sallyport/rules.d")
	must(t, err)
	must(t, s.host.Put(t.Context(), harness.File{Path: "/etc/sallyport/rules.d/50-test.toml", Mode: 0o644, Data: []byte(rules)}))
	s.setAuthdConfig(t, before+more)
}

// What sudo is to run, and as whom, is what sudo itself says: the user's own
// environment does not get a word in. NOPASSWD shows each rule alone, since only
// the account hook is left to refuse.
func TestRulesOnSudo(t *testing.T) {
	by, as, inverse := town.stranger(t, "bycommand"), town.stranger(t, "bytarget"), town.stranger(t, "allbut")
	for _, p := range []*person{by, as, inverse} {
		p.joins(t, "nopasswd")
	}
	town.withRules(t, fmt.Sprintf(`
[[rules]]
name = "no passwords"
action = "deny"
users = [%q]
services = ["sudo"]
commands = ["/usr/bin/passwd*", "/bin/passwd*"]

[[rules]]
name = "not as daemon"
action = "deny"
users = [%q]
services = ["sudo"]
targets = ["daemon"]

[[rules]]
name = "id and nothing else"
action = "deny"
users = [%q]
services = ["sudo"]
commands = ["!/usr/bin/id", "!/bin/id"]
`, by.name, as.name, inverse.name), "")

	long := make([]string, 2000)
	for i := range long {
		long[i] = "argument"
	}
	for name, tc := range map[string]struct {
		who    *person
		args   []string
		passes bool
	}{
		"another command":            {by, []string{"sudo", "-n", "id"}, true},
		"the command":                {by, []string{"sudo", "-n", "passwd", "-S", "root"}, false},
		"the command by its path":    {by, []string{"sudo", "-n", "/usr/bin/passwd", "-S", "root"}, false},
		"with a forged variable":     {by, []string{"env", "SUDO_COMMAND=/usr/bin/id", "sudo", "-n", "passwd", "-S", "root"}, false},
		"with it kept":               {by, []string{"env", "SUDO_COMMAND=/usr/bin/id", "sudo", "-n", "-E", "passwd", "-S", "root"}, false},
		"with it given to sudo":      {by, []string{"sudo", "-n", "SUDO_COMMAND=/usr/bin/id", "passwd", "-S", "root"}, false},
		"round a corner":             {by, []string{"sudo", "-n", "/usr/bin/../bin/passwd", "-S", "root"}, false},
		"too long to tell":           {by, append([]string{"sudo", "-n", "echo"}, long...), false},
		"only that":                  {inverse, []string{"sudo", "-n", "id"}, true},
		"only that, with more":       {inverse, []string{"sudo", "-n", "id", "-u"}, false},
		"not a shell":                {inverse, []string{"sudo", "-n", "-s", "id"}, false},
		"not that in a shell":        {inverse, []string{"sudo", "-n", "sh", "-c", "id"}, false},
		"root":                       {as, []string{"sudo", "-n", "id"}, true},
		"root by name":               {as, []string{"sudo", "-n", "-u", "root", "id"}, true},
		"root by number":             {as, []string{"sudo", "-n", "-u", "#0", "id"}, true},
		"the target":                 {as, []string{"sudo", "-n", "-u", "daemon", "id"}, false},
		"the target, in one word":    {as, []string{"sudo", "-nudaemon", "id"}, false},
		"the target by number":       {as, []string{"sudo", "-n", "-u", "#1", "id"}, false},
		"the target, at length":      {as, []string{"sudo", "-n", "--user=daemon", "id"}, false},
		"the target, abbreviated":    {as, []string{"sudo", "-n", "--us=daemon", "id"}, false},
		"the target after a value":   {as, []string{"sudo", "-n", "A=b", "-u", "daemon", "id"}, false},
		"an option of the command":   {as, []string{"sudo", "-n", "id", "-u", "daemon"}, true},
		"the target as a mere group": {as, []string{"sudo", "-n", "-g", "daemon", "id"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := town.host.Run(t.Context(), harness.Command{User: tc.who.name, Args: tc.args})
			must(t, err)
			// What sudo itself refuses shows nothing of the rule.
			refused := strings.Contains(out.Output(), "PAM account management error")
			if tc.passes && refused || !tc.passes && !refused {
				t.Errorf("%q: refused is %v; %d, %s", tc.args, refused, out.Code, out.Output())
			}
		})
	}
}

// A certificate counts under a CA that authd.toml names, whatever sshd trusts.
func TestRulesOnCertificates(t *testing.T) {
	p := town.stranger(t, "certified")
	ours, ourKey := newKey(t)
	theirs, theirKey := newKey(t)
	_, err := town.host.Shell(t.Context(), fmt.Sprintf("printf 'cert-authority %%s\\n' '%s' '%s' >> /home/%s/.ssh/authorized_keys", ourKey, theirKey, p.name))
	must(t, err)
	for name, private := range map[string]string{"ours": ours, "theirs": theirs} {
		must(t, town.client.Put(t.Context(), harness.File{Path: "/root/keys/" + p.name + "-" + name, Mode: 0o600, Data: []byte(private)}))
	}
	town.withRules(t, fmt.Sprintf(`
[[rules]]
name = "signed jobs"
reason = "the scheduler signs a certificate for each"
action = "bypass"
users = [%q]
services = ["sshd"]
certificates = [{ca = "scheduler", key_ids = ["job-*"]}]
`, p.name), fmt.Sprintf("\n[ssh_ca.scheduler]\npublic_keys = [%q]\n", ourKey))
	match, err := town.host.Must(t.Context(), "sallyport", "rules", "sshd-config")
	must(t, err)
	t.Cleanup(func() { town.setBatchMatch(t, "") })
	town.setBatchMatch(t, match)

	login := func(t *testing.T, ca, id string, more ...string) harness.Result {
		t.Helper()
		key := "/root/keys/" + p.name + "-" + id
		private, _ := newKey(t)
		must(t, town.client.Put(t.Context(), harness.File{Path: key, Mode: 0o600, Data: []byte(private)}))
		script := fmt.Sprintf("ssh-keygen -y -f %[1]s > %[1]s.pub && ssh-keygen -q -s /root/keys/%[2]s-%[3]s -I %[4]s -n %[2]s %[5]s %[1]s.pub", key, p.name, ca, id, strings.Join(more, " "))
		_, err := town.client.Shell(t.Context(), script)
		must(t, err)
		return p.scp(t, town.client, p.name+"-"+id)
	}
	if out := login(t, "ours", "job-1"); out.Code != 0 {
		t.Errorf("a job of the CA: %s\nMatch block:\n%s", out.Output(), match)
	}
	if out := login(t, "ours", "by-hand"); out.Code == 0 {
		t.Error("a certificate whose key id is no job's passed")
	}
	if out := login(t, "theirs", "job-2"); out.Code == 0 {
		t.Error("a certificate of a CA that sshd trusts and authd.toml does not name passed")
	}
	if out := p.scp(t, town.client, p.name); out.Code == 0 {
		t.Error("the account's own key, without a certificate, passed")
	}
}
