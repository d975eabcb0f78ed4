// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// closedPort is a port at which nothing listens.
func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestResolve(t *testing.T) {
	g := newGateway(t)
	for host, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1"} {
		if got, err := g.Resolve(t.Context(), host); err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	if got, err := g.Resolve(t.Context(), "localhost"); err != nil || len(got) == 0 {
		t.Errorf("localhost: %v, %v", got, err)
	}
	if _, err := g.Resolve(t.Context(), "name\x1b[2J.invalid"); err == nil || strings.Contains(err.Error(), "\x1b") || ReasonOf(err) != Unreachable {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestDialAddrs(t *testing.T) {
	g := newGateway(t)
	target := listen(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	dial := func(port uint16) (net.Conn, error) {
		return g.DialAddrs(t.Context(), []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, port)
	}
	c, err := dial(target.Port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := dial(closedPort(t)); ReasonOf(err) != Refused && ReasonOf(err) != Unreachable || !strings.Contains(err.Error(), "ask ops@example.org") {
		t.Errorf("nothing listens: %v", err)
	}
	if _, err := g.DialAddrs(t.Context(), nil, 22); ReasonOf(err) != Unreachable {
		t.Errorf("no address: %v", err)
	}
}

func TestTimesNameTheirSetting(t *testing.T) {
	g := newGateway(t, func(c *config.Config) { c.Timeouts.Dial = time.Nanosecond })
	target := listen(t, func(net.Conn) {})
	_, list := g.DialAddrs(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, target.Port)
	_, open := g.dial(Request{Target: target})
	for what, err := range map[string]error{"DialAddrs": list, "Dial": open} {
		var e *Error
		if !errors.As(err, &e) || e.Reason != TimedOut || e.Setting != "timeouts.dial" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestGivenUp(t *testing.T) {
	g := newGateway(t)
	ctx, cancel := context.WithCancel(t.Context())
	target := listen(t, func(net.Conn) { cancel(); <-t.Context().Done() })
	if _, err := g.Dial(ctx, Request{Identity: alice(), Target: target, Login: "root"}); ReasonOf(err) != Cancelled {
		t.Errorf("within the handshake: %v", err)
	}
	if _, err := g.Dial(ctx, Request{Identity: alice(), Target: target, Login: "root"}); ReasonOf(err) != Cancelled {
		t.Errorf("before: %v", err)
	}
	nowhere := &inventory.Target{Name: "db1", Host: "127.0.0.1", Port: closedPort(t)}
	g.refused(Request{Target: nowhere}, Refused, "nothing answers at db1")
}
