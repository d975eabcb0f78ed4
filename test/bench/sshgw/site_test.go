// SPDX-License-Identifier: Apache-2.0

package sshgw

import (
	"bufio"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// site is the place of one benchmark: keys, two sshd of this machine, the gateway with a
// stand-in for authd that says yes at once, and what they lead to.
type site struct {
	dir       string
	user      string
	client    ssh.Signer
	host      ssh.PublicKey // of each sshd
	hostPEM   string
	echo      string   // address of a TCP server that sends back what it gets
	target    *program // sshd, where everybody wants to go
	recorded  *program // the same under another address, whose rule demands a recording
	jump      *program // sshd, as OpenSSH's jump host
	floor     *program
	sallyport *program
}

// program is a server in a process of its own.
type program struct {
	name string
	pid  int // 0: not looked at
	addr string
}

func (p *program) port() string {
	_, port, _ := net.SplitHostPort(p.addr)
	return port
}

func (p *program) ip() string {
	host, _, _ := net.SplitHostPort(p.addr)
	return host
}

func newSite(b *testing.B) *site {
	b.Helper()
	if _, err := exec.LookPath("/usr/sbin/sshd"); err != nil {
		b.Fatal("OpenSSH's server is not installed; run make deps")
	}
	who, err := user.Current()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "spbench") // a socket's path has 107 bytes
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{dir: dir, user: who.Username}
	s.client, _ = s.newKey(b, "client")
	var host ssh.Signer
	host, s.hostPEM = s.newKey(b, "host")
	s.host = host.PublicKey()
	for _, folder := range []string{"keys.d", "state", "run"} {
		if err := os.Mkdir(s.path(folder), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	s.write(b, "keys.d/"+s.user, string(ssh.MarshalAuthorizedKey(s.client.PublicKey())))
	s.echo = listenEcho(b)
	s.target = s.startSSHD(b, "target", "127.0.0.1", "127.0.0.2")
	s.recorded = &program{name: "recorded", addr: net.JoinHostPort("127.0.0.2", s.target.port())}
	s.jump = s.startSSHD(b, "openssh", "127.0.0.1")
	s.floor = s.startFloor(b)
	s.sallyport = s.startGateway(b)
	return s
}

func self() *exec.Cmd { return exec.Command(os.Args[0]) }

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(b *testing.B, name, text string) {
	b.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (s *site) newKey(b *testing.B, name string) (ssh.Signer, string) {
	b.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		b.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		b.Fatal(err)
	}
	text := string(pem.EncodeToMemory(block))
	s.write(b, name, text)
	return signer, text
}

// sshdConfig is what a run without a system around it needs; the rest is OpenSSH's own.
// Without PAM: what the stack of this machine costs is not OpenSSH's.
const sshdConfig = `HostKey %[1]s/host
AuthorizedKeysFile %[1]s/keys.d/%%u
TrustedUserCAKeys %[1]s/state/keys/user_ca.pub
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
MaxStartups 2000
MaxSessions 1000
LogLevel ERROR
PrintMotd no
PrintLastLog no
`

// startSSHD runs the sshd of this machine. Root's wants an empty folder under /run, which it
// gets in a mount namespace of its own: the machine is not touched.
func (s *site) startSSHD(b *testing.B, name string, addresses ...string) *program {
	b.Helper()
	free := freeAddress(b)
	_, port, _ := net.SplitHostPort(free)
	text := fmt.Sprintf(sshdConfig, s.dir)
	for _, a := range addresses {
		text += "ListenAddress " + net.JoinHostPort(a, port) + "\n"
	}
	s.write(b, name+".conf", text)
	run := "exec /usr/sbin/sshd -D -e -f " + s.path(name+".conf")
	cmd := exec.Command("sh", "-c", run)
	if os.Getuid() == 0 {
		cmd = exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs none /run && mkdir -m 0755 /run/sshd && "+run)
	}
	return s.start(b, name, free, cmd)
}

const gatewayConfig = `listen = [%[2]q]
state_dir = "%[1]s/state"
socket_dir = "%[1]s/run"
metrics = ""
[limits]
connections = 10000
connections_from = 10000
connections_user = 10000
unauthenticated = 1000
unauthenticated_from = 1000
penalty_exempt = ["127.0.0.0/8"]
[first_factor]
authorized_keys = ["%[1]s/keys.d/%%u"]
verifier_keys = false
[targets]
files = ["%[1]s/targets.toml"]
known_hosts = ["%[1]s/known_hosts"]
[[rule]]
name = "recorded"
users = [%[3]q]
targets = ["recorded"]
record = "required"
[[rule]]
name = "the rest"
users = [%[3]q]
targets = ["target", "echo"]
`

const gatewayTargets = `[[target]]
name = "target"
host = "127.0.0.1"
port = %[1]s
[[target]]
name = "recorded"
host = "127.0.0.2"
port = %[1]s
[[target]]
name = "echo"
host = "127.0.0.1"
port = %[2]s
`

// startGateway runs the gateway itself, as it is built and installed.
func (s *site) startGateway(b *testing.B) *program {
	b.Helper()
	bin := s.path("sallyport-sshgw")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "../../../cmd/sallyport-sshgw")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build the gateway: %v\n%s", err, out)
	}
	sayYes(b, s.path("run/sshgw.sock"))
	addr := freeAddress(b)
	_, echoPort, _ := net.SplitHostPort(s.echo)
	s.write(b, "sshgw.toml", fmt.Sprintf(gatewayConfig, s.dir, addr, s.user))
	s.write(b, "targets.toml", fmt.Sprintf(gatewayTargets, s.target.port(), echoPort))
	line := string(ssh.MarshalAuthorizedKey(s.host))
	s.write(b, "known_hosts", fmt.Sprintf("[127.0.0.1]:%[1]s,[127.0.0.2]:%[1]s %[2]s", s.target.port(), line))
	return s.start(b, "sallyport", addr, exec.Command(bin, "--config", s.path("sshgw.toml"), "--log", "text"))
}

// start runs a server; addr "" is the first line that it prints.
func (s *site) start(b *testing.B, name, addr string, cmd *exec.Cmd) *program {
	b.Helper()
	log, err := os.CreateTemp(s.dir, "log")
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err := cmp.Or(err, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	p := &program{name: name, pid: cmd.Process.Pid, addr: addr}
	if addr == "" {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		p.addr = strings.TrimSpace(line)
	}
	for range 1000 {
		if c, err := net.Dial("tcp", p.addr); err == nil {
			_ = c.Close()
			return p
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	b.Fatalf("%s does not answer:\n%s", name, text)
	return nil
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func accept(b *testing.B, network, address string, serve func(net.Conn)) string {
	b.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

func listenEcho(b *testing.B) string {
	return accept(b, "tcp", "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// sayYes is the other end of the gateway's questions.
func sayYes(b *testing.B, socket string) {
	accept(b, "unix", socket, func(c net.Conn) {
		if _, err := frames.ReadFrame(c); err == nil {
			_ = frames.WriteFrame(c, &frames.Done{Outcome: frames.OutcomeAllow})
		}
	})
}

// clientConfig is a client of x/crypto/ssh that can answer the second step.
func (s *site) clientConfig(user string) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute,
		Config: ssh.Config{Ciphers: []string{ssh.CipherAES128GCM}},
		Auth: []ssh.AuthMethod{ssh.PublicKeys(s.client), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				if len(questions) > 0 {
					return nil, errors.New("nobody is there to answer")
				}
				return nil, nil
			})},
	}
}

// sshConfig is one for OpenSSH's client, with the cipher of every hop.
func (s *site) sshConfig(b *testing.B, cipher string) string {
	b.Helper()
	var text strings.Builder
	for _, p := range []*program{s.target, s.recorded, s.jump, s.floor, s.sallyport} {
		fmt.Fprintf(&text, "Host %s\n HostName %s\n Port %s\n", strings.ReplaceAll(p.name, s.floor.name, "library"), p.ip(), p.port())
	}
	fmt.Fprintf(&text, "Host *\n User %s\n IdentityFile %s\n IdentitiesOnly yes\n IdentityAgent none\n StrictHostKeyChecking no\n"+
		" UserKnownHostsFile /dev/null\n LogLevel ERROR\n Ciphers %s\n", s.user, s.path("client"), cipher)
	name, _, _ := strings.Cut(cipher, "@")
	s.write(b, "ssh-"+name, text.String())
	return s.path("ssh-" + name)
}

// quiet is a command whose end comes with the benchmark's.
func quiet(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
