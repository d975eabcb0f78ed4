// SPDX-License-Identifier: Apache-2.0

// Package keys is the gateway's own keys: those of its host, the CA that vouches for
// people towards targets, and the CA that vouches for targets inside a jump. They are
// files of a folder, made when missing, and changed in steps that break nobody.
package keys

import (
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

// Ring is the keys in force. It is safe for concurrent use.
type Ring struct {
	// Fields are the owner's.
}

// Open reads the keys in dir, and makes those that are missing.
func Open(dir string) (*Ring, error) { panic("not built yet") }

// Reload reads the folder again.
func (r *Ring) Reload() error { panic("not built yet") }

// HostSigners are the host keys that a handshake offers, one of a type.
func (r *Ring) HostSigners() []ssh.Signer { panic("not built yet") }

// Announced are all host keys that clients may learn (hostkeys-00@openssh.com in
// OpenSSH's PROTOCOL), the coming ones included.
func (r *Ring) Announced() []ssh.Signer { panic("not built yet") }

// HostFor is a host key with a certificate of the host CA for these names, for an SSH
// connection inside a jump.
func (r *Ring) HostFor(names ...string) (ssh.Signer, error) { panic("not built yet") }

// Person is what a user certificate says.
type Person struct {
	KeyID     string // for the target's log
	Principal string // the login
	Source    []netip.Prefix
	Lifetime  time.Duration
}

// UserFor is a fresh key with a certificate of the user CA.
func (r *Ring) UserFor(p Person) (ssh.Signer, error) { panic("not built yet") }
