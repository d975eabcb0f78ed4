// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

// newKey makes a key pair.
func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen calls serve for each connection to a port of this machine.
func listen(t testing.TB, serve func(net.Conn)) *inventory.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			open.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		open.Wait()
	})
	return &inventory.Target{Name: "db1", Host: "127.0.0.1", Port: uint16(l.Addr().(*net.TCPAddr).Port)}
}

// serveSSH leads the handshake of a target, and then hands the connection to use; nil
// refuses every channel and request.
func serveSSH(c *ssh.ServerConfig, use func(ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request)) func(net.Conn) {
	return func(raw net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(raw, c)
		if err != nil {
			return
		}
		if use == nil {
			go ssh.DiscardRequests(requests)
			discardChannels(channels)
			return
		}
		use(conn, channels, requests)
		conn.Close()
	}
}

// server is a target's configuration that lets in whoever has a certificate of the
// gateway for the login that he asks for.
func (g *gateway) server(host ...ssh.Signer) *ssh.ServerConfig {
	text, err := keys.In(g.keyDir).Public(keys.UserCA, "")
	if err != nil {
		g.t.Fatal(err)
	}
	ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		g.t.Fatal(err)
	}
	checker := &ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(ca.Marshal()) }}
	c := &ssh.ServerConfig{PublicKeyCallback: checker.Authenticate}
	for _, h := range host {
		c.AddHostKey(h)
	}
	return c
}

// gateway is a Dialer with its surroundings.
type gateway struct {
	*Dialer
	t      testing.TB
	config *config.Config
	keyDir string
	clock  time.Time
}

func newGateway(t testing.TB, change ...func(*config.Config)) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, keyDir: filepath.Join(dir, "keys"), clock: time.Now()}
	ring, err := keys.Open(g.keyDir)
	if err != nil {
		t.Fatal(err)
	}
	g.config = &config.Config{
		StateDir: dir, Contact: "ops@example.org",
		Timeouts: config.Timeouts{Dial: 10 * time.Second, Target: 10 * time.Second},
		Targets:  config.Targets{KnownHosts: []string{filepath.Join(dir, "hosts")}},
	}
	for _, c := range change {
		c(g.config)
	}
	g.Dialer, err = New(Options{Config: g.config, Keys: ring, Gateway: "gw1", Now: func() time.Time { return g.clock }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// hosts writes the lines of known_hosts and loads them.
func (g *gateway) hosts(lines ...string) {
	g.t.Helper()
	if err := os.WriteFile(g.config.Targets.KnownHosts[0], []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := g.Configure(g.config); err != nil {
		g.t.Fatal(err)
	}
}

// knows is a line of known_hosts.
func knows(t *inventory.Target, key ssh.PublicKey) string {
	return xknownhosts.Line([]string{net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))}, key)
}

func alice() *identity.Identity {
	return &identity.Identity{
		Account: directory.Account{Name: "alice"}, SessionID: strings.Repeat("ab", 32),
		Source: netip.MustParseAddrPort("192.0.2.7:40000"),
	}
}

// dial opens a target, and closes it when the test is over.
func (g *gateway) dial(r Request) (*Conn, error) {
	g.t.Helper()
	if r.Identity == nil {
		r.Identity = alice()
	}
	if r.Login == "" {
		r.Login = "root"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := g.Dial(ctx, r)
	if err == nil {
		go ssh.DiscardRequests(c.Requests)
		go discardChannels(c.Channels)
		g.t.Cleanup(func() { c.SSH.Close() })
	}
	return c, err
}

// refused checks that a target was not opened, for that reason, and that the person is
// told whom to ask.
func (g *gateway) refused(r Request, want Reason, says string) error {
	g.t.Helper()
	_, err := g.dial(r)
	if err == nil {
		g.t.Fatalf("the target was opened; want %s", want)
	}
	if ReasonOf(err) != want || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "ops@example.org") {
		g.t.Errorf("refused for %s: %v; want %s, %q and whom to ask", ReasonOf(err), err, want, says)
	}
	return err
}

// person answers what it is asked, one after the other.
type person struct {
	mu      sync.Mutex
	answers []string
	asked   []string
	echoed  []bool
	shown   []string
	wait    func(context.Context)
}

var errGone = errors.New("the person is gone")

func (p *person) Show(_ frames.Style, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = append(p.shown, text)
	return nil
}

func (p *person) Ask(ctx context.Context, text string, echo bool) (frames.Secret, error) {
	if p.wait != nil {
		p.wait(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked, p.echoed = append(p.asked, text), append(p.echoed, echo)
	if len(p.answers) == 0 {
		return "", errGone
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	return frames.Secret(a), nil
}
