// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/transport"
)

// clientVersion is what targets log of us.
const clientVersion = "SSH-2.0-Sallyport"

// attempt is one call of Dial.
type attempt struct {
	*settings
	dialer  *Dialer
	ctx     context.Context
	request Request
	name    string // of the target, harmless
	local   netip.Addr
	budget  *budget
	host    *hostCheck
	proof   *proof
	ask     *questions
	cause   *Error // why the handshake was ended from our side
}

// Dial opens the target. Its errors say for people what to do next, through cli.Hint.
func (d *Dialer) Dial(ctx context.Context, r Request) (*Conn, error) {
	s := d.inForce.Load()
	a := &attempt{settings: s, dialer: d, ctx: ctx, request: r, name: harmless(r.Target.Name, nameMax)}
	conn, err := a.open()
	if err != nil {
		return nil, s.advise(err)
	}
	return conn, nil
}

func (a *attempt) open() (*Conn, *Error) {
	raw, err := a.connect()
	if err != nil {
		return nil, err
	}
	// The context closes the connection while the handshake lasts, and so does the
	// budget; both are told to stop before the connection is handed over.
	gone := context.AfterFunc(a.ctx, func() { raw.Close() })
	a.budget = startBudget(a.handshake, func() { raw.Close() })
	conn, err := a.shake(raw)
	inTime := a.budget.stop()
	wanted := gone()
	switch {
	case err == nil && inTime && wanted:
		return conn, nil
	case err == nil:
		conn.SSH.Close()
		// Nobody has them yet, and they end with the connection.
		go ssh.DiscardRequests(conn.Requests)
		go discardChannels(conn.Channels)
	}
	raw.Close()
	switch {
	case a.ctx.Err() != nil:
		return nil, problem(Cancelled, context.Cause(a.ctx), "the connection to %s was given up", a.name)
	case !inTime && a.cause == nil:
		e := problem(TimedOut, err, "%s did not let the gateway in within %v", a.name, a.handshake)
		e.Setting = "timeouts.target"
		return nil, e
	}
	return nil, err
}

func (a *attempt) connect() (net.Conn, *Error) {
	if len(a.request.Addrs) > 0 {
		return a.dialer.addrs(a.ctx, a.settings, a.name, a.request.Addrs, portOf(a.request.Target))
	}
	return a.dialer.tcp(a.ctx, a.settings, a.name, a.request.Target.Host, a.request.Target.Port)
}

func discardChannels(list <-chan ssh.NewChannel) {
	for c := range list {
		_ = c.Reject(ssh.Prohibited, "")
	}
}

// shake leads the SSH handshake.
func (a *attempt) shake(raw net.Conn) (*Conn, *Error) {
	a.local = addressOf(raw.LocalAddr())
	a.host = a.knownOf(a.request.Target)
	a.ask = &questions{attempt: a}
	a.proof = &proof{attempt: a}
	address := join(a.request.Target)
	c, channels, requests, err := ssh.NewClientConn(transport.Wrap(raw), address, &ssh.ClientConfig{
		Config:            transport.Algorithms(),
		User:              a.request.Login,
		ClientVersion:     clientVersion,
		HostKeyAlgorithms: a.host.algorithms(),
		HostKeyCallback:   a.host.check,
		BannerCallback:    a.ask.banner,
		AuthCallback:      a.proof.next,
	})
	if err != nil {
		return nil, a.explain(err)
	}
	fingerprint, by := a.host.result()
	// The library keeps the callbacks for as long as the connection lasts; whom it was
	// opened for, it need not keep.
	a.request = Request{}
	return &Conn{
		SSH: keepAlive(c, a.keepAlive, a.keepAliveCount), Channels: channels, Requests: requests,
		HostKey: fingerprint, KnownBy: by, Credential: a.proof.used,
	}, nil
}

// explain turns an error of the handshake into words.
func (a *attempt) explain(err error) *Error {
	if e := a.host.problem(); e != nil {
		return e
	}
	if a.cause != nil {
		return a.cause
	}
	var none *ssh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &none):
		return problem(NoAlgorithm, err, "%s and the gateway have no %s algorithm in common", a.name, none.What)
	case a.proof.exhausted, a.proof.started && isDisconnect(err):
		return a.proof.problem(err)
	}
	return problem(Broken, err, "%s broke off while the gateway was being let in", a.name)
}

// isDisconnect says that the target said goodbye, as sshd does after too many keys. The
// library has no type for it.
func isDisconnect(err error) bool { return strings.Contains(err.Error(), "ssh: disconnect, reason ") }

// advise adds whom to ask.
func (s *settings) advise(e *Error) error {
	next := "ask " + s.contact
	switch e.Reason {
	case HostKeyChanged, HostKeyRevoked, CertificateInvalid:
		next = "do not go on by another way; ask " + s.contact
	case TimedOut, Refused, Unreachable, Broken:
		next = "see whether it is up, or ask " + s.contact
	case Cancelled:
		return e
	}
	return cli.WithHint(e, next)
}

func join(t *inventory.Target) string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(portOf(t))))
}

func portOf(t *inventory.Target) uint16 {
	if t.Port == 0 {
		return 22
	}
	return t.Port
}

func addressOf(a net.Addr) netip.Addr {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap().WithZone("")
}

// guard turns a panic of ours in a goroutine of the library into an error.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}
