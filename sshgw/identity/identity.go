// SPDX-License-Identifier: Apache-2.0

// Package identity is who is at the other end of a connection to the gateway, as
// proven when the handshake was over. It decides nothing, and changes never.
package identity

import (
	"net/netip"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
)

// Method is the first factor.
type Method string

// The first factors.
const (
	PublicKey   Method = "publickey"
	Certificate Method = "certificate"
	Password    Method = "password"
)

// Factor is how the second factor was answered at the door.
type Factor string

// The answers at the door.
const (
	Asked   Factor = "authd"   // authd said yes: a factor, a remembered one, or a rule of authd
	Held    Factor = "held"    // the same, while the public-key reply was held
	Touched Factor = "touched" // a FIDO2 key whose touch a door rule accepts as both
	Batched Factor = "batch"   // a batch rule: nothing was asked, and its targets alone are open
)

// Identity is who a connection belongs to. It is made once, when the handshake is
// over, and only read after that: it is safe for concurrent use.
type Identity struct {
	Account   directory.Account // whom the gateway's rules know; Name is canonical
	SessionID string            // SHA-256 of the SSH session identifier, in hex: names the connection over the network
	Inner     string            // the same of a connection inside a jump, "" outside
	Source    netip.AddrPort    // of the client, IPv4 unmapped
	Local     netip.AddrPort    // where it reached the gateway
	Method    Method
	Key       string // SHA256:… of the key that signed, of a certificate its own key's; "" for a password
	KeyType   string
	AuthInfo  string // the first factor as sshd writes it into SSH_AUTH_INFO_0, a certificate itself where one was used
	CA        string // the name of the CA in sshgw.toml, "" without a certificate
	KeyID     string // of the certificate
	Serial    uint64 // of the certificate
	Factor    Factor
	DoorRule  string // the door or batch rule that decided how to ask, "" for none
	Limits    Limits
	// Target and Login are what the name after the percent sign says, as typed:
	// alice%root@db1 asks for login root at db1. Empty where there is none.
	Target, Login string
	Client        string // the client's version string, which it chose
	// Expires is when the key or certificate does: nothing is opened anew after that.
	// The zero time: never.
	Expires time.Time
	Since   time.Time
}

// Limits are what the options of the key or certificate take away, whatever the
// rules permit; see sshd(8), AUTHORIZED_KEYS FILE FORMAT.
type Limits struct {
	NoPTY, NoAgent, NoForwarding, NoX11 bool
	Command                             string   // force-command, "" for none
	PermitOpen                          []string // host:port; nil: no limit
	PermitListen                        []string // [host:]port; nil: no limit
}
