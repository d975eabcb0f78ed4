// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// conformWays are how a client comes to the same server. What it does there must come to
// the same as going directly.
var conformWays = []string{"direct", "raw", "terminated", "inside"}

// conformConfigs are the ways as ssh_config says them; t is the server. The sshd on port 2022
// is a target that no jump reaches unseen.
var conformConfigs = map[string]string{
	"direct":     "Host t\n HostName box\n",
	"raw":        "Host t\n HostName box\n ProxyJump gw\n",
	"terminated": "Host t\n HostName gw\n Port 2222\n User alice%seen\n",
	"inside":     "Host t\n HostName box\n Port 2022\n ProxyJump gw\n",
}

const conformConfig = `Host gw
 Port 2222
Host *
 User alice
 IdentityFile /root/.ssh/id_ed25519
 IdentitiesOnly yes
 BatchMode yes
 StrictHostKeyChecking yes
 UserKnownHostsFile /root/known_hosts
 LogLevel ERROR
 ConnectTimeout 60
 ServerAliveInterval 20
`

const conformGateway = `listen = [":2222"]
metrics = ""

[limits]
connections = 1000
connections_from = 1000
connections_user = 1000
unauthenticated = 200
unauthenticated_from = 200

[first_factor]
authorized_keys = ["/etc/sallyport/authorized_keys/%u"]
verifier_keys = false

[targets]
files = ["/etc/sallyport/targets.toml"]
known_hosts = ["/etc/sallyport/known_hosts"]

[[door]]
name = "those with programs that answer no question"
users = ["alice"]
action = "hold"

[[rule]]
name = "plain"
users = ["alice"]
targets = ["plain"]

[[rule]]
name = "seen"
users = ["alice"]
targets = ["seen"]
mode = "terminated"
`

const conformTargets = `[[target]]
name = "plain"
host = "box"

[[target]]
name = "seen"
host = "box"
port = 2022
`

const conformSSHD = `HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
TrustedUserCAKeys /etc/ssh/gateway_ca.pub
AcceptEnv LANG LC_* CONFORMANCE_*
MaxStartups 1000
MaxSessions 300
Subsystem sftp /usr/lib/openssh/sftp-server
`

// conformCases are scripts for the client. $F is the ssh_config, $WAY the way's name, $T a
// folder of its own here, $D one there (relative to the home), $N a number of the way.
// What they print must not depend on the way.
var conformCases = map[string]string{
	// All of them through one connection, and a few through their own.
	"exit codes": `
master
seq 0 255 | xargs -P 4 -I{} sh -c 'ssh -n -F $F -S $T/s t "exit {}"; echo "{}: $?"' | sort -n
ssh -F $F -S $T/s -O exit t 2>&1
for i in 0 1 127 255; do rc=0; ssh -F $F t "exit $i" || rc=$?; echo "$i: $rc"; done`,
	"signals": `
for s in HUP INT QUIT ABRT KILL USR1 SEGV PIPE ALRM TERM; do
	ssh -F $F t "ulimit -c 0; echo before; kill -$s \$\$; echo after"; echo "$s: $?"
done`,
	"a command that is not there": `ssh -F $F t /no/such/command 2>&1; echo $?`,
	"a terminal's modes": `
script -qec 'stty rows 33 cols 99 -ixon -echoe intr ^A erase ^H susp undef; ssh -F $F -tt t "stty -a; tty | tr -d 0-9; echo \$TERM"' /dev/null </dev/null | sed 's/\^@//g'; echo ${PIPESTATUS[0]}
script -qec 'stty raw -echo; stty rows 5 cols 500; TERM=vt100 ssh -F $F -tt t "stty -a; echo \$TERM"' /dev/null </dev/null | sed 's/\^@//g'; echo ${PIPESTATUS[0]}
ssh -F $F -T t tty; echo $?`,
	"a terminal's size, and Ctrl-C": `python3 /root/conformance/resize.py $F`,
	"a shell":                       `printf 'echo one; cd /usr\npwd\nexit 5\n' | ssh -F $F -T t; echo $?`,
	"environment": `
export CONFORMANCE_A='a  b"c' CONFORMANCE_EMPTY= CONFORMANCE_UTF=ämne LC_X=x OTHER=o
ssh -F $F -o 'SendEnv=CONFORMANCE_* LC_X OTHER' -o 'SetEnv=CONFORMANCE_SET="set it"' t 'env | grep -E "^(CONFORMANCE|LC_|OTHER)" | sort'`,
	"output and errors are bytes": `
ssh -F $F t 'seq 1 400000 | tr 0-9 "\200-\211" >&2 & seq 1 500000 | tr "\n" "\0"; wait; exit 7' >$T/out 2>$T/err; echo $?
sha256sum <$T/out; sha256sum <$T/err`,
	"errors that nobody reads before the output": `ssh -F $F t 'head -c 6000000 /dev/zero >&2; echo out' 2>$T/err; wc -c <$T/err`,
	"the end of input": `
seq 200000 -1 1 | ssh -F $F t 'sort -n' | sha256sum
printf abc | ssh -F $F t 'cat; sleep 0.5; echo after the end'
ssh -F $F -n t 'cat; echo nothing came'
ssh -F $F t 'exec <&-; sleep 0.2; echo still here' </dev/zero; echo $?
yes | ssh -F $F t 'head -n 3'; echo $?
ssh -F $F t 'exec >&-; cat >/dev/null; exit 4' </dev/null; echo $?`,
	"tar through a pipe": `
tar -C /root -cf - tree | ssh -F $F t "mkdir -p $D && tar -C $D -xpf -"; look $D/tree
ssh -F $F t "tar -C $D -cf - tree" | tar -C $T -xpf -; (cd $T/tree && list)`,
	"output that ends with the command": `for i in 1 2 3 4 5; do ssh -F $F t 'head -c 300000 /dev/zero; exit 9' | wc -c; done`,
	"a process that is left behind":     `ssh -F $F t 'sleep 3 </dev/null >/dev/null 2>&1 & echo started'; echo $?`,
	"scp -O": `
scp -F $F -O -q -rp /root/tree t:$D; look $D
scp -F $F -O -q -rp t:$D $T/back && (cd $T/back && list)
scp -F $F -O -q t:no-such-file $T 2>&1; echo $?
scp -F $F -O -q -p "/root/tree/a name with spaces" t:$D/again; look $D`,
	"scp -s": `
scp -F $F -s -q -rp /root/tree t:$D; look $D
scp -F $F -s -q -rp t:$D $T/back && (cd $T/back && list)
scp -F $F -s -q t:no-such-file $T 2>&1 | sed s,$T,T,; echo $?`,
	"sftp": `
cat >$T/batch <<-END
	mkdir $D
	cd $D
	put -p "/root/tree/a name with spaces" one
	put -p /root/tree/binary two
	chmod 604 two
	rename two three
	ln -s three link
	ln three hard
	get three $T/three
	mkdir folder
	rmdir folder
	-rm no-such-file
	put -rp /root/tree
	get -rp tree $T/tree
	df
	ls -1
END
sftp -F $F -q -b $T/batch t 2>&1 | grep -v -e ^sftp -e '%' -e Size | sed "s,$D,D,g"
echo "${PIPESTATUS[0]}"
look $D; sha256sum <$T/three; (cd $T/tree && list)`,
	"rsync": `
rsync -a -e "ssh -F $F" /root/tree/ t:$D/; echo $?; look $D
rsync -az --delete --checksum -e "ssh -F $F" --exclude binary /root/tree/ t:$D/; echo $?; look $D
rsync -a -e "ssh -F $F" t:$D/ $T/back; (cd $T/back && list)
rsync -a -e "ssh -F $F" t:no-such $T/none 2>/dev/null; echo $?`,
	"git": `
export GIT_SSH_COMMAND="ssh -F $F" GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' HOME=$T
git config --global user.name A; git config --global user.email a@example.com; git config --global init.defaultBranch main
ssh -F $F t "git init -q --bare $D"
git clone -q t:$D $T/clone 2>/dev/null; cp -r /root/tree/. $T/clone; cd $T/clone
git add -A; git commit -qm first; git push -q origin HEAD; git rev-parse HEAD
git clone -q t:$D $T/second; git -C $T/second log --format=%H%s; (cd $T/second && git ls-files -s | sha256sum)
git ls-remote t:$D | sort; git clone -q t:no-such-repository $T/none 2>/dev/null; echo $?`,
	"ssh -L": `
ssh -F $F -N -L 127.0.0.1:41$N:127.0.0.1:8000 t & tunnel=$!
await 41$N; get 41$N large | sha256sum; get 41$N small
pids=; for i in 1 2 3 4 5 6 7 8; do (get 41$N large | sha256sum) & pids="$pids $!"; done; wait $pids
kill $tunnel`,
	"ssh -L to a Unix socket": `
ssh -F $F -N -L 127.0.0.1:45$N:/run/web.sock t & tunnel=$!
await 45$N; get 45$N small; kill $tunnel`,
	"ssh -R": `ssh -F $F -R 127.0.0.1:42$N:127.0.0.1:8001 t "python3 -c '
import urllib.request, hashlib
print(hashlib.sha256(urllib.request.urlopen(\"http://127.0.0.1:42$N/large\").read()).hexdigest())'"`,
	"ssh -R that picks a port": `ssh -F $F -o LogLevel=INFO -R 0:127.0.0.1:8001 t true 2>&1 | sed 's/port [1-9][0-9]*/port N/'`,
	"ssh -D": `
ssh -F $F -N -D 127.0.0.1:43$N t & tunnel=$!
await 43$N; printf 'GET /large HTTP/1.0\r\n\r\n' | nc -X 5 -x 127.0.0.1:43$N 127.0.0.1 8000 | sed '1,/^\r$/d' | sha256sum; kill $tunnel`,
	"ssh -W": `
printf 'GET /large HTTP/1.0\r\n\r\n' | ssh -F $F -W 127.0.0.1:8000 t | sed '1,/^\r$/d' | sha256sum
printf 'GET / HTTP/1.0\r\n\r\n' | ssh -F $F -W 127.0.0.1:8999 t 2>/dev/null; echo $?`,
	"a forwarding that cannot be": `
ssh -F $F -o ExitOnForwardFailure=yes -R 127.0.0.1:8000:127.0.0.1:1 t true 2>/dev/null; echo $?`,
	"ssh -A": `
eval $(ssh-agent) >/dev/null; ssh-add -q /root/.ssh/id_ed25519
ssh -F $F -o IdentitiesOnly=no -A t 'ssh-add -l'; echo $?
ssh -F $F -o IdentitiesOnly=no -a t 'ssh-add -l' 2>&1; echo $?
ssh-agent -k >/dev/null`,
	"ControlMaster": `
master
for i in 1 2 3 4 5 6 7 8 9 10; do (ssh -F $F -S $T/s t "sleep 0.$i; echo $i; exit $i"; echo "$i: $?") & done >$T/all; wait; sort $T/all
scp -q -F $F -o ControlPath=$T/s /root/tree/binary t:$D-one; ssh -F $F -S $T/s t "sha256sum <$D-one; rm $D-one"
ssh -F $F -S $T/s -O forward -L 127.0.0.1:44$N:127.0.0.1:8000 t; get 44$N small
ssh -F $F -S $T/s -O check t 2>&1 | sed 's/pid=[0-9]*/pid/'
ssh -F $F -S $T/s -O exit t 2>&1`,
	"ansible": `
cd $T; printf 't ansible_ssh_common_args="-F %s"\n' $F >hosts
export HOME=$T ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=0 ANSIBLE_HOST_KEY_CHECKING=1 ANSIBLE_SSH_ARGS='-o ControlMaster=auto -o ControlPersist=10s'
ansible-playbook -i hosts -e way=$WAY /root/conformance/playbook.yml >$T/log 2>&1; rc=$?
grep -q . /root/fetched-$WAY || cat $T/log
echo $rc; grep -E '^t +:' $T/log; cat /root/fetched-$WAY; look ansible-$WAY | sed 's/ 1[0-9]*$//'`,
	"paramiko": `python3 /root/conformance/client.py $WAY 2>&1`,
}

// conformPrelude is what the cases share.
const conformPrelude = `
exec 2>&1
export F=/root/ways/$WAY T=$(mktemp -d) TZ=UTC LC_ALL=C.UTF-8 TERM=xterm
cleanup() { kill $(jobs -p) 2>/dev/null; rm -rf "$T"; }
trap cleanup EXIT
# What a folder holds: names, kinds, modes, times of files, sums.
list() { find . -printf '%P %y %m\n' | sort; find . -type f -printf '%P %T@\n' | sed 's/\.[0-9]*$//' | sort; find . -type f -print0 | sort -z | xargs -0r sha256sum; }
look() { ssh -F $F t "cd $1 && $(declare -f list); list"; }
master() { ssh -F $F -M -S $T/s -fN t; }
await() { for i in $(seq 400); do nc -z 127.0.0.1 $1 && return; sleep 0.05; done; echo "port $1 does not answer"; exit; }
get() { python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen("http://127.0.0.1:%s/%s" % tuple(sys.argv[1:])).read())' $1 $2; }
`

// conformLab is a client, a gateway that asks nobody, and a server.
type conformLab struct {
	lab               *harness.Lab
	client, gate, box *harness.Container
}

func newConformLab(t *testing.T) *conformLab {
	t.Helper()
	ctx := context.Background()
	lab, err := harness.NewLab(ctx, bench.image)
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	l := &conformLab{lab: lab}
	for name, c := range map[string]**harness.Container{"client": &l.client, "gw": &l.gate, "box": &l.box} {
		*c, err = lab.Start(ctx, name, harness.Options{})
		must(t, err)
	}
	must(t, l.setUpClient(ctx))
	must(t, l.setUpBox(ctx))
	must(t, l.setUpGateway(ctx))
	return l
}

func (l *conformLab) setUpClient(ctx context.Context) error {
	list := map[string]string{}
	for way, text := range conformConfigs {
		list["/root/ways/"+way] = text + conformConfig
	}
	for _, name := range []string{"resize.py", "client.py", "playbook.yml"} {
		text, err := os.ReadFile(filepath.Join("testdata/conformance", name))
		if err != nil {
			return err
		}
		list["/root/conformance/"+name] = string(text)
	}
	if err := l.client.Put(ctx, files(list)...); err != nil {
		return err
	}
	_, err := l.client.Shell(ctx, `
mkdir -p -m 0700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
mkdir -p /root/tree/folder/deep /root/tree/empty /srv/web; cd /root/tree
seq 1 3000 >text; printf '\000\377\n\r\033' >binary; head -c 700000 /dev/zero | tr '\0' '\345' >>binary
echo spaces >'a name with spaces'; echo umlaut >folder/ämne; : >folder/deep/nothing
printf '#!/bin/sh\nexit $1\n' >script; chmod 0755 script; chmod 0600 text; chmod 0750 folder; chmod 0444 folder/ämne
find . -type f -exec touch -d '2024-02-29 12:34:56 UTC' {} +
seq 1 500000 >/srv/web/large; echo small >/srv/web/small
`)
	if err != nil {
		return err
	}
	return l.web(ctx, l.client, "8001")
}

// web serves /srv/web at a port of the loopback.
func (l *conformLab) web(ctx context.Context, c *harness.Container, port string) error {
	serve := harness.Command{Args: []string{"python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv/web", port}}
	if err := c.Daemon(ctx, "web"+port, serve); err != nil {
		return err
	}
	return c.AwaitPort(ctx, port)
}

const unixWeb = `import http.server, os, socketserver
os.chdir("/srv/web")
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    def get_request(self):
        c, _ = super().get_request()
        return c, ("unix", 0)
s = Server("/run/web.sock", http.server.SimpleHTTPRequestHandler)
os.chmod("/run/web.sock", 0o777)
s.serve_forever()
`

func (l *conformLab) setUpBox(ctx context.Context) error {
	key, err := l.client.Read(ctx, "/root/.ssh/id_ed25519.pub")
	if err != nil {
		return err
	}
	if err := l.box.Put(ctx, files(map[string]string{
		"/etc/ssh/sshd_config": conformSSHD, "/home/alice/.ssh/authorized_keys": key, "/srv/unixweb.py": unixWeb,
		"/etc/ssh/gateway_ca.pub": "",
	})...); err != nil {
		return err
	}
	_, err = l.box.Shell(ctx, `
useradd --shell /bin/bash --password '*' alice; chown -R alice: /home/alice; chmod 0700 /home/alice/.ssh
mkdir -p /run/sshd /srv/web; seq 1 500000 >/srv/web/large; echo small >/srv/web/small
`)
	if err != nil {
		return err
	}
	for _, port := range []string{"22", "2022"} {
		if err := l.box.Daemon(ctx, "sshd"+port, harness.Command{Args: []string{"/usr/sbin/sshd", "-D", "-e", "-p", port}}); err != nil {
			return err
		}
		if err := l.box.AwaitPort(ctx, port); err != nil {
			return err
		}
	}
	if err := l.box.Daemon(ctx, "unixweb", harness.Command{Args: []string{"python3", "/srv/unixweb.py"}}); err != nil {
		return err
	}
	return l.web(ctx, l.box, "8000")
}

func (l *conformLab) setUpGateway(ctx context.Context) error {
	if err := install(ctx, l.gate, []string{"sallyport-sshgw", "drv"}); err != nil {
		return err
	}
	key, errKey := l.client.Read(ctx, "/root/.ssh/id_ed25519.pub")
	host, errHost := l.box.Shell(ctx, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
	if err := errors.Join(errKey, errHost); err != nil {
		return err
	}
	if err := l.gate.Put(ctx, files(map[string]string{
		"/etc/sallyport/sshgw.toml": conformGateway, "/etc/sallyport/targets.toml": conformTargets,
		"/etc/sallyport/known_hosts": "box " + host + "[box]:2022 " + host, "/etc/sallyport/authorized_keys/alice": key,
	})...); err != nil {
		return err
	}
	if _, err := l.gate.Shell(ctx, "useradd alice; install -d -m 0700 /var/lib/sallyport/sshgw; install -d /run/sallyport"); err != nil {
		return err
	}
	if err := l.gate.Daemon(ctx, "authd", harness.Command{Args: []string{"drv", "yes"}}); err != nil {
		return err
	}
	if err := l.gate.AwaitFile(ctx, "/run/sallyport/sshgw.sock"); err != nil {
		return err
	}
	if err := l.gate.Daemon(ctx, "sshgw", harness.Command{Args: []string{"sallyport-sshgw", "--log", "text"}}); err != nil {
		return err
	}
	if err := l.gate.AwaitPort(ctx, "2222"); err != nil {
		text, _ := l.gate.Log(ctx, "sshgw")
		return fmt.Errorf("%w; its log:\n%s", err, text)
	}
	ca, errCA := l.gate.Read(ctx, "/var/lib/sallyport/sshgw/keys/user_ca.pub")
	known, errKnown := l.gate.Shell(ctx, `cd /var/lib/sallyport/sshgw/keys
for key in ssh_host_*_key; do echo "[gw]:2222 $(ssh-keygen -y -f $key)"; done
sed 's/^/@cert-authority [box]:2022 /' host_ca.pub`)
	return errors.Join(errCA, errKnown,
		l.box.Put(ctx, files(map[string]string{"/etc/ssh/gateway_ca.pub": ca})...),
		l.client.Put(ctx, files(map[string]string{"/root/known_hosts": known + "box " + host})...))
}

// runs is one case in one way: what it printed.
func (l *conformLab) runs(t *testing.T, way, name, script string) string {
	t.Helper()
	number := map[string]string{"direct": "10", "raw": "20", "terminated": "30", "inside": "40"}[way]
	folder := "conf-" + way + "-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, name)
	r, err := l.client.Run(t.Context(), harness.Command{
		Args: []string{"timeout", "90", "/bin/bash", "-c", conformPrelude + script}, Env: []string{"WAY=" + way, "N=" + number, "D=" + folder},
	})
	must(t, err)
	return strings.NewReplacer(folder, "FOLDER", "-"+way, "-WAY", "/"+way, "/WAY").Replace(r.Output())
}

// What OpenSSH, rsync, git, Ansible and paramiko do comes to the same through the gateway
// as without it, whichever way they take.
func TestGatewayConformance(t *testing.T) {
	t.Parallel()
	l := newConformLab(t)
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("SALLYPORT_TEST_LOGS") != "" {
			text, _ := l.gate.Log(context.Background(), "sshgw")
			t.Logf("the gateway's log:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	for _, way := range conformWays {
		if got := l.runs(t, way, "first", "ssh -F $F t 'echo hello from $LOGNAME'"); got != "hello from alice\n" {
			text, _ := l.gate.Log(t.Context(), "sshgw")
			t.Fatalf("%s: %q\n%s", way, got, text)
		}
	}
	t.Run("cases", func(t *testing.T) {
		for name, script := range conformCases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				want := l.runs(t, "direct", name, script)
				if strings.TrimSpace(want) == "" {
					t.Fatal("directly it prints nothing: that is no comparison")
				}
				for _, way := range conformWays[1:] {
					if got := l.runs(t, way, name, script); got != want {
						t.Errorf("%s:\n%s\ndirectly:\n%s", way, differ(got, want), want[:min(len(want), 2000)])
					}
				}
			})
		}
		t.Run("a gigabyte", l.gigabytes)
	})
}

// differ is the first lines that differ.
func differ(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("from line %d on:\n%s", i+1, strings.Join(a[i:min(len(a), i+15)], "\n"))
		}
	}
	return fmt.Sprintf("it ends after line %d", len(a))
}

// gigabytes carries 1 GiB both ways by each way, and compares sums.
func (l *conformLab) gigabytes(t *testing.T) {
	t.Parallel()
	const stream = "openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff -iv 00000000000000000000000000000000 -in /dev/zero 2>/dev/null | head -c 1073741824"
	want, err := l.client.Shell(t.Context(), stream+" | sha256sum")
	must(t, err)
	for _, way := range conformWays[1:] {
		for to, script := range map[string]string{
			"up":   stream + " | ssh -c aes128-gcm@openssh.com -F /root/ways/" + way + " t sha256sum",
			"down": "ssh -c aes128-gcm@openssh.com -F /root/ways/" + way + " t '" + stream + "' | sha256sum",
		} {
			got, err := l.client.Shell(t.Context(), script)
			if err != nil || got != want {
				t.Errorf("%s, %s: %q, %v; want %q", way, to, got, err, want)
			}
		}
	}
}
