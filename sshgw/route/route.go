// SPDX-License-Identifier: Apache-2.0

// Package route says which target a client means: by the name that it gives as its user's,
// or by where it wants a connection to. It never says whether it may go there.
package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Name is what a client's user name says: USER[%[LOGIN@]TARGET].
type Name struct {
	User          string // whose factors are asked for
	Login, Target string // as typed; "" where there is none
}

// maxName bounds a user name, in bytes.
const maxName = 1024

// ErrName says that a user name is none.
var ErrName = errors.New("the user name is not of the form USER[%[LOGIN@]TARGET]")

// Parse takes a user name apart at the first percent sign: a name of an account holds none.
// The target stands after the last @ of the rest.
func Parse(s string) (Name, error) {
	if len(s) > maxName || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r == 0x7f }) {
		return Name{}, ErrName
	}
	user, rest, more := strings.Cut(s, "%")
	n := Name{User: user}
	if user == "" {
		return Name{}, ErrName
	}
	if !more {
		return n, nil
	}
	n.Target = rest
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if n.Login, n.Target = rest[:i], rest[i+1:]; !inventory.Login(n.Login) {
			return Name{}, ErrName
		}
	}
	if n.Target == "" || strings.Contains(n.Target, "%") {
		return Name{}, ErrName
	}
	return n, nil
}

// String is the name as Parse reads it.
func (n Name) String() string {
	switch {
	case n.Target == "":
		return n.User
	case n.Login == "":
		return n.User + "%" + n.Target
	}
	return n.User + "%" + n.Login + "@" + n.Target
}

// LoginAt is whom a person is at a target if nothing is said: the first of its logins, else
// the person's own name.
func LoginAt(t *inventory.Target, user string) string {
	if len(t.Logins) > 0 {
		return t.Logins[0]
	}
	return user
}

// ErrNoTarget says that no target is meant.
var ErrNoTarget = errors.New("no target of that name")

// Named returns the target that a client names: its name, an alias, or where its sshd is.
func Named(inv *inventory.Inventory, name string) (*inventory.Target, error) {
	if t, ok := inv.Find(name); ok {
		return t, nil
	}
	if host, addr, ok := inventory.Host(name); ok {
		if addr.IsValid() {
			host = addr.String()
		}
		if t, ok := inv.At(host, nil, defaultPort); ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoTarget, name)
}

// defaultPort is the one that a client asks for when it is told none.
const defaultPort = 22

// Resolver looks up the addresses of a host.
type Resolver func(ctx context.Context, host string) ([]netip.Addr, error)

// To returns the target whose sshd a connection to host:port is for, by whatever name or
// address; resolve may be nil. Port 22 of a target's name is its sshd wherever that listens,
// since that is what `ssh -J` asks for when nobody tells it a port. ErrNoTarget says that it
// leads to no target, and so nowhere that rules could permit.
func To(ctx context.Context, inv *inventory.Inventory, resolve Resolver, host string, port uint16) (*inventory.Target, error) {
	name, addr, ok := inventory.Host(host)
	if !ok || port == 0 {
		return nil, fmt.Errorf("%w: %q port %d", ErrNoTarget, host, port)
	}
	if addr.IsValid() {
		name = addr.String()
	}
	if t, ok := inv.Find(name); ok {
		if port == defaultPort || port == t.Port {
			return t, nil
		}
		// Another port of that host may be the sshd of another target.
		if other, ok := onHost(ctx, inv, resolve, t.Host, port); ok {
			return other, nil
		}
	}
	if t, ok := onHost(ctx, inv, resolve, name, port); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q port %d", ErrNoTarget, host, port)
}

// onHost finds the target with this port at a host, or at one of its addresses. What cannot
// be looked up leads nowhere.
func onHost(ctx context.Context, inv *inventory.Inventory, resolve Resolver, host string, port uint16) (*inventory.Target, bool) {
	if t, ok := inv.At(host, nil, port); ok {
		return t, true
	}
	if _, err := netip.ParseAddr(host); err == nil || resolve == nil {
		return nil, false
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		return nil, false
	}
	return inv.At(host, addrs, port)
}
