// SPDX-License-Identifier: Apache-2.0

// Package target is the gateway's way to a server: it dials, verifies the host key,
// proves who asks, and hands over the bare connection. It never decides who may.
package target

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

// Request is whom to open what for.
type Request struct {
	Identity *identity.Identity
	Target   *inventory.Target
	Login    string
	// Addrs are those of the target's host that the rules were asked about, which are
	// dialled alone; none: its host is looked up.
	Addrs []netip.Addr
	// Agent is the user's own, forwarded for as long as the session that asked for it; nil: none.
	// See [AgentSource].
	Agent agent.ExtendedAgent
	// Person is asked what the target asks by keyboard-interactive; nil: nobody can be.
	Person conversation.Person
	// Permit is what a certificate lets the login do there; nil: [keys.Ordinary].
	Permit *keys.Permit
}

// Conn is an authenticated connection to a target. Whoever holds it must read both
// channels to their end, refuse every channel that nobody asked for, and close SSH.
type Conn struct {
	SSH      ssh.Conn
	Channels <-chan ssh.NewChannel
	Requests <-chan *ssh.Request

	// For the log: how the target was known, and how the gateway proved itself.
	HostKey    string // SHA256:…
	KnownBy    string // known_hosts, certificate, first_sight
	Credential string // certificate, agent, key, keyboard-interactive, password, none
}

// Options are what a Dialer needs.
type Options struct {
	Config  *config.Config
	Keys    *keys.Ring
	Gateway string // its name, for the logs of targets
	Log     *audit.Log
	Now     func() time.Time
}

// Dialer opens targets. It is safe for concurrent use.
type Dialer struct {
	keys    *keys.Ring
	gateway string
	log     *audit.Log
	now     func() time.Time

	inForce atomic.Pointer[settings]
	mu      sync.Mutex // held while the file of first sights changes
}

// New makes a Dialer, and reads the files that the configuration names.
func New(o Options) (*Dialer, error) {
	d := &Dialer{keys: o.Keys, gateway: o.Gateway, log: o.Log, now: o.Now}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = &audit.Log{Logger: slog.New(slog.DiscardHandler)}
	}
	return d, d.Configure(o.Config)
}

// Configure puts a configuration in force for what is dialled from now on, and reads
// its files again. After an error, the one in force stays.
func (d *Dialer) Configure(c *config.Config) error {
	s, err := newSettings(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.seen, err = readSights(s.sights); err != nil {
		return err
	}
	d.inForce.Store(s)
	return nil
}

// Reason says why a target could not be opened, in a word for the log.
type Reason string

// The reasons; docs/reference/sshgw-events.md lists them.
const (
	HostKeyChanged     Reason = "host_key_changed"   // another is known
	HostKeyUnknown     Reason = "host_key_unknown"   // none is known
	HostKeyRevoked     Reason = "host_key_revoked"   // by a line of known_hosts
	CertificateInvalid Reason = "host_certificate"   // of a known CA, and for another name or time
	NoCredential       Reason = "no_credential"      // there is nothing to show that the target asks for
	LoginRefused       Reason = "login_refused"      // the target did not take what was shown
	Refused            Reason = "refused"            // nothing listens there
	Unreachable        Reason = "unreachable"        // no address, no route
	TimedOut           Reason = "timeout"            // Error.Setting says which
	NoAlgorithm        Reason = "no_algorithm"       // none in common
	TooManyQuestions   Reason = "too_many_questions" // more, or longer, than are passed on
	Broken             Reason = "protocol"           // it closed, or does not speak SSH
	Cancelled          Reason = "cancelled"          // whoever asked is gone
	Internal           Reason = "internal"           // the gateway's own failure
)

// Error is a target that could not be opened. Its text is for people; what they need
// not know is in Detail.
type Error struct {
	Reason  Reason
	Setting string // whose time is over, as in sshgw.toml; "" for none
	Text    string // for people, harmless
	Detail  error  // for the log; nil: Text says it all
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Detail }

// Attrs describe an error of this package for an event.
func Attrs(err error) []slog.Attr {
	var e *Error
	if !errors.As(err, &e) {
		return []slog.Attr{slog.String("reason", string(Internal)), slog.String("error", err.Error())}
	}
	list := []slog.Attr{slog.String("reason", string(e.Reason))}
	if e.Setting != "" {
		list = append(list, slog.String("setting", e.Setting))
	}
	if e.Detail != nil {
		list = append(list, slog.String("error", harmless(e.Detail.Error(), lineMax)))
	}
	return list
}

// ReasonOf is the reason of an error of this package.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Internal
}

func problem(reason Reason, detail error, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: detail, Text: fmt.Sprintf(format, args...)}
}
