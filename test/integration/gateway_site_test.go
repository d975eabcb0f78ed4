// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	gatewayPort    = "2222"
	gatewayName    = "gw"
	gatewayConfig  = "/etc/sallyport/sshgw.toml"
	gatewayState   = "/var/lib/sallyport/sshgw"
	gatewayAccount = "sallyport-sshgw"
	// smallDisk is a disk of the gateway's that is soon full.
	smallDisk = "/var/lib/small"
	// deploy is an account of the targets that several people may use.
	deploy = "deploy"
)

// gatewaySite is a site whose host is an SSH gateway to two servers, which believe
// the gateway's CA. Who is to pass is made by [gatewaySite.member].
type gatewaySite struct {
	*site
	db1, web1 *harness.Container
}

// gatewayRules is what sshgw.toml says: db1 and big are recorded and so terminated, web1
// and its second sshd are not, and that second one wants a factor of its own.
const gatewayRules = `
listen = [":` + gatewayPort + `"]
contact = "the harbour master"

[limits]
# Tests fail often and have no time, and many people come from one machine.
unauthenticated_from = 500
penalty = "1ms"
penalty_max = "1ms"

[timeouts]
banner = "1s"
drain = "20s"

[first_factor]
password = true

[record]
min_free = 0

[targets]
files = ["/etc/sallyport/targets.toml"]
known_hosts = ["/etc/sallyport/known_hosts"]

[[rule]]
name = "databases"
reason = "what is done there is kept"
users = ["*"]
targets = ["group:databases"]
logins = ["%u", "` + deploy + `"]
record = "required"

[[rule]]
name = "vault"
reason = "the keys to everything"
users = ["*"]
targets = ["vault"]
step_up = true

[[rule]]
name = "web"
reason = "everybody works there"
users = ["*"]
targets = ["web1"]
logins = ["*"]

[[door]]
name = "holders"
groups = ["holders"]
action = "hold"
`

const gatewayTargets = `
[[target]]
name = "db1"
aliases = ["postgres"]
groups = ["databases"]
labels = { env = "production" }

[[target]]
name = "web1"
aliases = ["www"]

[[target]]
name = "vault"
host = "web1"
port = 2022
`

// gatewayStarter passes the control socket as systemd does, and gives up root.
const gatewayStarter = `import os, socket, sys
path = "/run/sallyport/` + control.SocketName + `"
try: os.unlink(path)
except FileNotFoundError: pass
import grp, pwd
account = pwd.getpwnam("` + gatewayAccount + `")
s = socket.socket(socket.AF_UNIX)
s.bind(path)
os.chmod(path, 0o660)
os.chown(path, 0, account.pw_gid)
s.listen(16)
if s.fileno() != 3: os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.setgroups([])
os.setgid(account.pw_gid)
os.setuid(account.pw_uid)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="` + control.SocketName + `", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
`

// targetSSHD is sshd of a server behind the gateway, which believes the gateway's CA. On web1,
// which a jump reaches unseen, people have their own keys as well.
const targetSSHD = `
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile .ssh/authorized_keys
TrustedUserCAKeys /etc/ssh/gateway_ca.pub
AcceptEnv LANG LC_* CONFORMANCE_*
MaxStartups 1000
MaxSessions 200
X11Forwarding yes
X11UseLocalhost yes
Subsystem sftp /usr/lib/openssh/sftp-server
`

// gatewayPAM is the service by which passwords are checked.
const gatewayPAM = `
auth    required pam_unix.so
account required pam_unix.so
`

// founded is the gateway site that scenarios share, made when the first one needs it.
var founded struct {
	sync.Mutex
	site *gatewaySite
	err  error
}

// harbour is the shared gateway site. Those who change its configuration put it back, and
// do not run beside others.
func harbour(t *testing.T) *gatewaySite {
	t.Helper()
	founded.Lock()
	defer founded.Unlock()
	if founded.site == nil && founded.err == nil {
		founded.site, founded.err = newGatewaySite(context.Background())
	}
	must(t, founded.err)
	founded.site.keepGatewayLogs(t)
	return founded.site
}

func closeHarbour() error {
	founded.Lock()
	defer founded.Unlock()
	if founded.site == nil {
		return nil
	}
	return founded.site.close()
}

// newGatewaySite founds a gateway site of its own.
func newGatewaySite(ctx context.Context) (_ *gatewaySite, err error) {
	base, err := newSiteWith(ctx, harness.Options{Aliases: []string{gatewayName}, Tmpfs: []string{smallDisk + ":size=2m,mode=1777"}})
	if err != nil {
		return nil, err
	}
	s := &gatewaySite{site: base}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"start the targets", s.startTargets},
		{"set up the gateway's machine", s.setUpGateway},
		{"start the gateway", s.startGateway},
		{"let the targets believe the gateway", s.setUpTargets},
		{"tell the clients the gateway's keys", s.knowGateway},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s, nil
}

func (s *gatewaySite) startTargets(ctx context.Context) (err error) {
	if s.db1, err = s.lab.Start(ctx, "db1", harness.Options{}); err != nil {
		return err
	}
	s.web1, err = s.lab.Start(ctx, "web1", harness.Options{})
	return err
}

func (s *gatewaySite) setUpGateway(ctx context.Context) error {
	if err := install(ctx, s.host, []string{"sallyport-sshgw", "sallyport-sshgw-pam"}); err != nil {
		return err
	}
	var known strings.Builder
	for name, c := range map[string]*harness.Container{"db1": s.db1, "web1": s.web1} {
		key, err := c.Shell(ctx, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
		if err != nil {
			return err
		}
		fmt.Fprintf(&known, "%s %[2]s[%[1]s]:2022 %[2]s", name, key)
	}
	if err := s.host.Put(ctx, files(map[string]string{
		gatewayConfig:                  gatewayRules,
		"/etc/sallyport/targets.toml":  gatewayTargets,
		"/etc/sallyport/known_hosts":   known.String(),
		"/etc/pam.d/sallyport-sshgw":   gatewayPAM,
		"/usr/local/lib/start-sshgw":   gatewayStarter,
		"/usr/local/lib/passwords.cmd": "/usr/sbin/sallyport-sshgw-pam\n",
	})...); err != nil {
		return err
	}
	_, err := s.host.Shell(ctx, `
useradd --system --user-group --home-dir `+gatewayState+` --shell /usr/sbin/nologin `+gatewayAccount+`
install -d -o `+gatewayAccount+` -g `+gatewayAccount+` -m 0700 `+gatewayState+`
chmod 0755 /var/lib/sallyport /etc/sallyport # as the package's tmpfiles.d has them
install -d -m 0755 /etc/sallyport/authorized_keys
groupadd holders
sed -i '/^\[gateway\]/,/^$/d' /etc/sallyport/authd.toml
cat >>/etc/sallyport/authd.toml <<'END'

[gateway]
user = "`+gatewayAccount+`"
END
sallyport-authd check --config /etc/sallyport/authd.toml
`)
	if err != nil {
		return err
	}
	if err := s.host.Signal(ctx, "authd", "TERM"); err != nil {
		return err
	}
	if err := s.startAuthd(ctx); err != nil {
		return err
	}
	return s.startPasswords(ctx)
}

// startPasswords starts what systemd does for the PAM helper.
func (s *gatewaySite) startPasswords(ctx context.Context) error {
	const path = "/run/sallyport/sshgw-pam.sock"
	err := s.host.Daemon(ctx, "sshgw-pam", harness.Command{Args: []string{"systemd-socket-activate", "--accept", "--inetd", "-l", path, "/usr/sbin/sallyport-sshgw-pam"}})
	if err != nil {
		return err
	}
	if err := s.host.AwaitFile(ctx, path); err != nil {
		return err
	}
	_, err = s.host.Shell(ctx, "chgrp "+gatewayAccount+" "+path+"; chmod 0660 "+path)
	return err
}

// startGateway starts the gateway's process, as the account that its unit gives it, and
// waits until it serves.
func (s *gatewaySite) startGateway(ctx context.Context) error {
	run := harness.Command{Args: []string{"python3", "/usr/local/lib/start-sshgw", "sallyport-sshgw", "--log", "json", "--config", gatewayConfig}}
	if err := s.host.Daemon(ctx, "sshgw", run); err != nil {
		return err
	}
	err := s.host.AwaitPort(ctx, gatewayPort)
	if err != nil {
		text, _ := s.host.Log(ctx, "sshgw")
		return fmt.Errorf("%w; its log:\n%s", err, text)
	}
	return nil
}

// restartGateway ends the gateway's process, sessions and all, and starts another.
func (s *gatewaySite) restartGateway(ctx context.Context) error {
	const end = `
pid=$(cat /run/daemon-sshgw.pid)
kill -TERM $pid; sleep 0.2; kill -TERM $pid 2>/dev/null || true
for i in $(seq 200); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done
echo the gateway does not end >&2; exit 1`
	if _, err := s.host.Shell(ctx, end); err != nil {
		return err
	}
	return s.startGateway(ctx)
}

func (s *gatewaySite) setUpTargets(ctx context.Context) error {
	ca, err := s.host.Read(ctx, gatewayState+"/keys/user_ca.pub")
	if err != nil {
		return err
	}
	for _, c := range []*harness.Container{s.db1, s.web1} {
		if err := c.Put(ctx, files(map[string]string{"/etc/ssh/gateway_ca.pub": ca, "/etc/ssh/sshd_config": targetSSHD})...); err != nil {
			return err
		}
		if _, err := c.Shell(ctx, "mkdir -p /run/sshd; useradd --create-home --password '*' --shell /bin/bash "+deploy); err != nil {
			return err
		}
		for _, port := range []string{"22", "2022"} {
			if err := c.Daemon(ctx, "sshd"+port, harness.Command{Args: []string{"/usr/sbin/sshd", "-D", "-e", "-p", port}}); err != nil {
				return err
			}
			if err := c.AwaitPort(ctx, port); err != nil {
				return err
			}
		}
	}
	return nil
}

// knowGateway tells those who log in the gateway's keys, that of its CA for hosts, and
// those of the targets, for a jump that passes unseen.
func (s *gatewaySite) knowGateway(ctx context.Context) error {
	text, err := s.host.Shell(ctx, `
for key in `+gatewayState+`/keys/ssh_host_*_key; do
	echo "[`+gatewayName+`]:`+gatewayPort+` $(ssh-keygen -y -f $key)"
done
sed 's/^/@cert-authority * /' `+gatewayState+`/keys/host_ca.pub
cat /etc/sallyport/known_hosts
`)
	if err != nil {
		return err
	}
	add := "cat >>/etc/ssh/ssh_known_hosts <<'END'\n" + text + "END\n"
	_, errClient := s.client.Shell(ctx, add)
	_, errElsewhere := s.elsewhere.Shell(ctx, add)
	return errors.Join(errClient, errElsewhere)
}

// keepGatewayLogs prints the gateway's log where a test has failed.
func (s *gatewaySite) keepGatewayLogs(t *testing.T) {
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("SALLYPORT_TEST_LOGS") == "" {
			return
		}
		for name, c := range map[string]*harness.Container{"db1": s.db1, "web1": s.web1} {
			if text, err := c.Log(context.Background(), "sshd22"); err == nil {
				t.Logf("sshd of %s:\n%s", name, text[max(0, len(text)-5_000):])
			}
		}
		for _, name := range []string{"sshgw", "sshgw-pam"} {
			if text, err := s.host.Log(context.Background(), name); err == nil {
				t.Logf("log of %s:\n%s", name, text[max(0, len(text)-20_000):])
			}
		}
	})
}

// member makes a person whose key the gateway knows, and who has an account on the targets.
func (s *gatewaySite) member(t *testing.T, what string) *person {
	t.Helper()
	p := s.person(t, what)
	_, err := s.host.Shell(t.Context(), fmt.Sprintf("install -m 0644 /home/%[1]s/.ssh/authorized_keys /etc/sallyport/authorized_keys/%[1]s", p.name))
	must(t, err)
	for _, c := range []*harness.Container{s.db1, s.web1} {
		_, err := c.Shell(t.Context(), "flock /run/useradd.lock useradd --create-home --password '*' --shell /bin/bash "+p.name)
		must(t, err)
	}
	key, err := s.host.Read(t.Context(), "/etc/sallyport/authorized_keys/"+p.name)
	must(t, err)
	_, err = s.web1.Shell(t.Context(), fmt.Sprintf("install -d -o %[1]s -m 0700 /home/%[1]s/.ssh; echo '%[2]s' >/home/%[1]s/.ssh/authorized_keys", p.name, strings.TrimSpace(key)))
	must(t, err)
	return p
}

// holds makes a person one whose push is sent while the public-key reply is held.
func (s *gatewaySite) holds(t *testing.T, p *person) { p.joins(t, "holders") }

// gatewayArgs is the beginning of an ssh command line of the person, up to the options.
func (p *person) gatewayArgs(options ...string) []string {
	args := []string{"ssh", "-p", gatewayPort, "-i", "/root/keys/" + p.name, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=/dev/null", "-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=60"}
	return append(args, options...)
}

// through goes to a target by the name behind the percent sign: alice%target@gw.
func (p *person) through(t *testing.T, target string, command ...string) *visit {
	t.Helper()
	return p.throughWith(t, nil, target, command...)
}

func (p *person) throughWith(t *testing.T, options []string, target string, command ...string) *visit {
	t.Helper()
	if command == nil {
		command = []string{inside}
	}
	name := p.name
	if target != "" {
		name += "%" + target
	}
	return p.visit(t, p.site.client, harness.Command{Args: append(append(p.gatewayArgs(options...), name+"@"+gatewayName), command...)})
}

// jump is the file by which the person's ssh reaches the targets by ssh -J.
func (p *person) jump(t *testing.T) string {
	t.Helper()
	path := "/root/jump-" + p.name
	file := harness.File{Path: path, Mode: 0o600, Data: []byte(fmt.Sprintf(`
Host %[1]s
	Port %[2]s
	User %[3]s
Host *
	IdentityFile /root/keys/%[3]s
	IdentitiesOnly yes
	IdentityAgent none
	StrictHostKeyChecking yes
	UserKnownHostsFile /dev/null
	NumberOfPasswordPrompts 1
	ConnectTimeout 60
`, gatewayName, gatewayPort, p.name))}
	must(t, p.site.client.Put(t.Context(), file))
	return path
}

// jumps goes to a target by ssh -J gw.
func (p *person) jumps(t *testing.T, login, target string, command ...string) *visit {
	t.Helper()
	if command == nil {
		command = []string{inside}
	}
	args := append([]string{"ssh", "-F", p.jump(t), "-J", gatewayName, login + "@" + target}, command...)
	return p.visit(t, p.site.client, harness.Command{Args: args})
}

// setGatewayConfig makes the gateway read another configuration, for as long as the test
// runs, and fails the test if it is not taken.
func (s *gatewaySite) setGatewayConfig(t *testing.T, text string) {
	t.Helper()
	put := func(text string) error {
		ctx := context.Background() // a cleanup runs when the test's own context is over
		if err := s.host.Put(ctx, harness.File{Path: gatewayConfig, Mode: 0o644, Data: []byte(text)}); err != nil {
			return err
		}
		_, err := s.host.Must(ctx, "sallyport", "gateway", "reload")
		return err
	}
	must(t, put(text))
	t.Cleanup(func() { must(t, put(gatewayRules)) })
}

// sessions is who is connected, as the gateway says.
func (s *gatewaySite) connected(t *testing.T, p *person) (list []roster.Connection) {
	t.Helper()
	out, err := s.host.Must(t.Context(), "sallyport", "gateway", "sessions", "list", "--json", "--user", p.name)
	must(t, err)
	must(t, json.Unmarshal([]byte(out), &list))
	return list
}

// gatewayEvents are the events of a code that name the person, oldest first.
func (s *gatewaySite) gatewayEvents(t *testing.T, p *person, code string) (found []map[string]any) {
	t.Helper()
	log, err := s.host.Log(t.Context(), "sshgw")
	must(t, err)
	for line := range strings.Lines(log) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == code && who(e) == p.name {
			found = append(found, e)
		}
	}
	return found
}

// who is the person that an event names. Before that is proven, it is the name as typed.
func who(e map[string]any) string {
	name, _, _ := strings.Cut(fmt.Sprint(e["user"]), "%")
	return name
}

// wantEvent asserts that the newest event of a code that names the person has these fields.
func (s *gatewaySite) wantEvent(t *testing.T, p *person, code string, want map[string]string) {
	t.Helper()
	var got []map[string]any
	eventually(t, "the event "+code+" of "+p.name, func() bool {
		got = s.gatewayEvents(t, p, code)
		return len(got) > 0
	})
	last := got[len(got)-1]
	for field, text := range want {
		if fmt.Sprint(last[field]) != text {
			t.Errorf("%s says %s=%v, want %s: %v", code, field, last[field], text, last)
		}
	}
}
