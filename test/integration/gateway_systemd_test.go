// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// gatewayUnderSystemd starts the gateway by its units, as the page that says how to run one
// has it: it serves as an account of its own, in a sandbox, and people are let in.
func gatewayUnderSystemd(t *testing.T, s *site) {
	p := s.person(t, "gated")
	token := p.hotp(t)
	_, err := s.host.Shell(t.Context(), fmt.Sprintf(`
sed -i '/^\[gateway\]/,/^$/d' /etc/sallyport/authd.toml
printf '\n[gateway]\nuser = "%[1]s"\n' >>/etc/sallyport/authd.toml
printf '[[target]]\nname = "nowhere"\nhost = "192.0.2.1"\n' >/etc/sallyport/targets.toml
cat >/etc/sallyport/sshgw.toml <<'END'
listen = [":%[2]s", ":222"]
[record]
min_free = 0
[first_factor]
password = true
[[rule]]
name = "all"
reason = "there is nothing to reach"
users = ["*"]
targets = ["nowhere"]
END
printf 'auth required pam_unix.so\naccount required pam_unix.so\n' >/etc/pam.d/sallyport-sshgw
install -d -m 0755 /etc/sallyport/authorized_keys
install -m 0644 /home/%[3]s/.ssh/authorized_keys /etc/sallyport/authorized_keys/%[3]s
systemctl stop sallyport-authd.service # systemd gives a service its sockets when it starts
systemctl start sallyport-authd-sshgw.socket sallyport-sshgw-control.socket sallyport-sshgw-pam.socket
systemctl start sallyport-sshgw.service
`, gatewayAccount, gatewayPort, p.name))
	must(t, err)
	out, err := s.host.Must(t.Context(), "sallyport", "gateway", "status")
	must(t, err)
	if !strings.Contains(out, "[::]:222") {
		t.Errorf("the status is\n%s", out)
	}
	pid := s.unit(t, "sallyport-sshgw.service", "MainPID")
	status, err := s.host.Read(t.Context(), "/proc/"+pid+"/status")
	must(t, err)
	for _, want := range []string{"CapEff:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the gateway lacks %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		t.Error("the gateway runs as root")
	}
	journal := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			out, err := s.host.Must(t.Context(), "journalctl", "--no-pager", "-o", "cat", "-u", "sallyport-sshgw")
			return err == nil && strings.Contains(out, what)
		})
	}
	login := func(options ...string) *visit {
		args := append([]string{"ssh", "-tt", "-p", gatewayPort, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "HostKeyAlias=gateway-of-the-box", "-o", "NumberOfPasswordPrompts=1"}, options...)
		return p.visit(t, s.client, harness.Command{Args: append(args, p.name+"@"+s.host.Name)})
	}
	v := login("-i", "/root/keys/"+p.name, "-o", "IdentitiesOnly=yes")
	v.answers(token.next())
	journal("event=gw_login ")
	v.leaves()
	v = login("-o", "PubkeyAuthentication=no", "-o", "PreferredAuthentications=password,keyboard-interactive")
	v.expect(`password: $`)
	v.types(p.password)
	v.answers(token.next())
	journal("method=password")
	v.leaves()
	// A reload by systemd comes back when it is done, and the watchdog sees it alive.
	_, err = s.host.Must(t.Context(), "systemctl", "reload", "sallyport-sshgw.service")
	must(t, err)
	journal("result=ok")
	_, err = s.host.Must(t.Context(), "systemctl", "stop", "sallyport-sshgw.service")
	must(t, err)
	if got := s.unit(t, "sallyport-sshgw.service", "Result"); got != "success" {
		t.Errorf("it stopped with %s", got)
	}
}
