// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// Resolve looks up the addresses of a host, for inventory.At.
func (d *Dialer) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	s := d.inForce.Load()
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	name := harmless(host, nameMax)
	in, cancel := context.WithTimeout(ctx, s.dial)
	defer cancel()
	list, err := net.DefaultResolver.LookupNetIP(in, "ip", host)
	if err != nil {
		return nil, s.advise(netProblem(ctx, s, name, err))
	}
	for i := range list {
		list[i] = list[i].Unmap()
	}
	return list, nil
}

// DialAddrs connects from the gateway, for a raw way through, to addresses that were looked
// up before: what a rule was asked about is what is dialled, whatever the name service says
// by now.
func (d *Dialer) DialAddrs(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	s := d.inForce.Load()
	if len(addrs) == 0 {
		return nil, s.advise(problem(Unreachable, nil, "it has no address"))
	}
	c, err := d.addrs(ctx, s, netip.AddrPortFrom(addrs[0], port).String(), addrs, port)
	if err != nil {
		return nil, s.advise(err)
	}
	return c, nil
}

// addrs connects to the first of some addresses that answers.
func (d *Dialer) addrs(ctx context.Context, s *settings, name string, addrs []netip.Addr, port uint16) (net.Conn, *Error) {
	in, cancel := context.WithTimeout(ctx, s.dial)
	defer cancel()
	// All at once, within reason: the first that answers is taken, the others are closed.
	addrs = addrs[:min(len(addrs), addrsMax)]
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addrs))
	for _, a := range addrs {
		go func() {
			c, err := new(net.Dialer).DialContext(in, "tcp", netip.AddrPortFrom(a, port).String())
			results <- result{c, err}
		}()
	}
	var first error
	for i := range addrs {
		r := <-results
		if r.err != nil {
			if first == nil {
				first = r.err
			}
			continue
		}
		cancel()
		go func() {
			for range len(addrs) - i - 1 {
				if late := <-results; late.conn != nil {
					late.conn.Close()
				}
			}
		}()
		return r.conn, nil
	}
	return nil, netProblem(ctx, s, name, first)
}

// addrsMax bounds how many addresses of one host are tried.
const addrsMax = 4

// tcp connects. Addresses of both families are tried in the way of RFC 8305.
func (d *Dialer) tcp(ctx context.Context, s *settings, name, host string, port uint16) (net.Conn, *Error) {
	if port == 0 {
		port = 22
	}
	in, cancel := context.WithTimeout(ctx, s.dial)
	defer cancel()
	c, err := new(net.Dialer).DialContext(in, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, netProblem(ctx, s, name, err)
	}
	return c, nil
}

func netProblem(ctx context.Context, s *settings, name string, err error) *Error {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return problem(Cancelled, context.Cause(ctx), "the connection to %s was given up", name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e := problem(TimedOut, err, "%s did not answer within %v", name, s.dial)
		e.Setting = "timeouts.dial"
		return e
	case errors.As(err, &dns):
		return problem(Unreachable, err, "the name service knows no address of %s", name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return problem(Refused, err, "nothing answers at %s", name)
	}
	return problem(Unreachable, err, "%s cannot be reached", name)
}
