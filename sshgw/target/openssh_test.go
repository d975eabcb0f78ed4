// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/ed25519"
	"crypto/rand"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

// sshd is OpenSSH's own, on a port of the loopback, with nothing of this machine's.
type sshd struct {
	*inventory.Target
	login string
	host  ssh.Signer
	log   *buffer
}

type buffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// openSSH starts one that believes the gateway's user CA. hostCA signs its host key for
// the names given.
func (g *gateway) openSSH(t *testing.T, hostCA ssh.Signer, names []string, more ...string) *sshd {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, text []byte, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	cert := certified(t, host, hostCA, func(c *ssh.Certificate) { c.ValidPrincipals = names })
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := append([]string{
		fmt.Sprintf("Port %d", port), "ListenAddress 127.0.0.1", "PidFile none", "UsePAM no", "StrictModes no", "LogLevel VERBOSE",
		"HostKey " + write("host", pem.EncodeToMemory(block), 0o600),
		"HostCertificate " + write("host-cert.pub", ssh.MarshalAuthorizedKey(cert.PublicKey()), 0o644),
		"TrustedUserCAKeys " + filepath.Join(g.keyDir, "user_ca.pub"),
		"AuthorizedKeysFile none", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password",
	}, more...)
	file := write("sshd_config", []byte(strings.Join(conf, "\n")+"\n"), 0o600)
	s := &sshd{
		Target: &inventory.Target{Name: "db1", Host: "127.0.0.1", Port: uint16(port)},
		login:  me.Username, host: host, log: new(buffer),
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", file)
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start sshd, which this test needs: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd:\n%s", s.log)
		}
	})
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return s
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("sshd does not listen:\n%s", s.log)
	return nil
}

// says waits for a line of sshd's log.
func (s *sshd) says(t *testing.T, want string) {
	t.Helper()
	for range 200 {
		if strings.Contains(s.log.String(), want) {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Errorf("sshd's log does not say %q", want)
}

func run(t *testing.T, c *Conn, command string) string {
	t.Helper()
	client := ssh.NewClient(c.SSH, c.Channels, c.Requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output(command)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func (g *gateway) dialOpenSSH(s *sshd) (*Conn, error) {
	return g.Dial(g.t.Context(), Request{Identity: alice(), Target: s.Target, Login: s.login})
}

func TestOpenSSHTakesTheCertificate(t *testing.T) {
	g, ca := newGateway(t), newKey(t)
	s := g.openSSH(t, ca, []string{"db1"})
	g.hosts("@cert-authority db1 " + authorized(ca))
	c, err := g.dialOpenSSH(s)
	if err != nil {
		t.Fatal(err)
	}
	if c.KnownBy != byCertificate || c.Credential != "certificate" || c.HostKey != ssh.FingerprintSHA256(s.host.PublicKey()) {
		t.Errorf("known by %s, let in by %s", c.KnownBy, c.Credential)
	}
	if out := run(t, c, "echo hello"); out != "hello\n" {
		t.Errorf("the command said %q", out)
	}
	s.says(t, "ID user=alice gateway=gw1 session="+alice().SessionID)
	if strings.Contains(s.log.String(), "error:") {
		t.Error("sshd complains")
	}
}

func TestOpenSSHAsksForAPTYOnlyWhereItIsPermitted(t *testing.T) {
	g, ca := newGateway(t), newKey(t)
	s := g.openSSH(t, ca, []string{"db1"})
	g.hosts("@cert-authority db1 " + authorized(ca))
	for want, permit := range map[bool]*keys.Permit{true: nil, false: {}} {
		c, err := g.Dial(t.Context(), Request{Identity: alice(), Target: s.Target, Login: s.login, Permit: permit})
		if err != nil {
			t.Fatal(err)
		}
		client := ssh.NewClient(c.SSH, c.Channels, c.Requests)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.RequestPty("xterm", 24, 80, nil); (err == nil) != want {
			t.Errorf("permit %+v: %v", permit, err)
		}
		client.Close()
	}
}

func TestOpenSSHHonoursTheSourceAddress(t *testing.T) {
	g, ca := newGateway(t, func(c *config.Config) { c.Targets.SourceAddress = []string{"192.0.2.1"} }), newKey(t)
	s := g.openSSH(t, ca, []string{"db1"})
	g.hosts("@cert-authority db1 " + authorized(ca))
	_, err := g.dialOpenSSH(s)
	if ReasonOf(err) != LoginRefused {
		t.Errorf("%v", err)
	}
	s.says(t, "not from a permitted source address")
	g.config.Targets.SourceAddress = []string{"192.0.2.1", "127.0.0.0/8"}
	if err := g.Configure(g.config); err != nil {
		t.Fatal(err)
	}
	c, err := g.dialOpenSSH(s)
	if err != nil {
		t.Fatal(err)
	}
	c.SSH.Close()
}

func TestOpenSSHRefusesAnotherPrincipal(t *testing.T) {
	g, ca := newGateway(t), newKey(t)
	principals := filepath.Join(t.TempDir(), "principals")
	if err := os.WriteFile(principals, []byte("somebody\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := g.openSSH(t, ca, []string{"db1"}, "AuthorizedPrincipalsFile "+principals)
	g.hosts("@cert-authority db1 " + authorized(ca))
	_, err := g.dialOpenSSH(s)
	if ReasonOf(err) != LoginRefused || !strings.Contains(err.Error(), "does not let "+s.login+" in") {
		t.Errorf("%v", err)
	}
}

func TestOpenSSHsHostCertificateIsChecked(t *testing.T) {
	g, ca := newGateway(t), newKey(t)
	s := g.openSSH(t, ca, []string{"db2"})
	g.hosts("@cert-authority * " + authorized(ca))
	if _, err := g.dialOpenSSH(s); ReasonOf(err) != CertificateInvalid {
		t.Errorf("a certificate for db2: %v", err)
	}
	// Of a CA that we do not know, it is a key like any other.
	g.hosts(knows(s.Target, s.host.PublicKey()))
	c, err := g.dialOpenSSH(s)
	if err != nil || c.KnownBy != byKnownHosts {
		t.Fatalf("%v", err)
	}
	c.SSH.Close()
	g.hosts(knows(s.Target, newKey(t).PublicKey()))
	if _, err := g.dialOpenSSH(s); ReasonOf(err) != HostKeyChanged {
		t.Errorf("another key is known: %v", err)
	}
}

// Every step of a change of the user CA, with a target that believes its .pub file.
func TestOpenSSHThroughAChangeOfTheUserCA(t *testing.T) {
	g, ca := newGateway(t), newKey(t)
	s := g.openSSH(t, ca, []string{"db1"})
	g.hosts("@cert-authority db1 " + authorized(ca))
	folder := keys.In(g.keyDir)
	for step, do := range []func() error{
		func() error { return nil },
		func() error { _, err := folder.Rotate(keys.UserCA, 0); return err },
		func() error { _, err := folder.Rotate(keys.UserCA, 0); return err },
		func() error { return folder.Finish(keys.UserCA) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := g.keys.Reload(); err != nil {
			t.Fatal(err)
		}
		c, err := g.dialOpenSSH(s)
		if err != nil {
			t.Fatalf("after step %d: %v", step, err)
		}
		c.SSH.Close()
	}
}
