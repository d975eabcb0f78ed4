// SPDX-License-Identifier: Apache-2.0

// Package auth is the door: it decides who a connection belongs to, by a first factor
// that it checks itself and a second one that authd decides on. It never lets in on a
// first factor alone, and believes nothing of a step but what that step has seen: a key
// that is asked about is not a key that signs, and a name may change with each request.
package auth

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// Policy is what the configuration says of the door.
type Policy struct {
	First    config.FirstFactor
	AuthTry  int           // failed tries in one connection
	Banner   time.Duration // between two signs of life while a reply is held
	Contact  string        // whom people are told to ask
	Accounts AccountPolicy
	// Door and Batch return the first rule that matches, nil for none.
	Door  func(context.Context, config.DoorQuery) *config.Door
	Batch func(config.DoorQuery) *config.Batch
	// Target finds what a name after the percent sign means, false for nothing; nil: nothing.
	Target func(name string) (*inventory.Target, bool)
}

// AccountPolicy says who may be a person at all.
type AccountPolicy string

// Who may be a person.
const (
	AccountsNSS AccountPolicy = ""    // who has an account that the name service knows
	AccountsAny AccountPolicy = "any" // everybody with a name of the ordinary form
)

// FromConfig is the policy of a configuration.
func FromConfig(c *config.Config) Policy {
	accounts := AccountsNSS
	if c.First.Accounts == config.AccountsAny {
		accounts = AccountsAny
	}
	return Policy{
		First: c.First, AuthTry: c.Limits.AuthTries, Banner: c.Timeouts.Banner, Contact: c.Contact, Accounts: accounts,
		Door: c.Door, Batch: c.Batch,
		Target: func(name string) (*inventory.Target, bool) {
			t, err := route.Named(c.Inventory(), name)
			return t, err == nil
		},
	}
}

// Asker asks for the second factor; a secondfactor.Asker does.
type Asker interface {
	Ask(ctx context.Context, q secondfactor.Question, p Person) error
}

// Options is what New needs.
type Options struct {
	// Policy is the one in force; asked once for each connection.
	Policy   func() Policy
	Accounts directory.Directory
	Second   Asker
	PAM      secondfactor.Caller // the helper; nil: no passwords
	Authd    secondfactor.Caller // for keys that the verifier knows; nil: none
	Now      func() time.Time    // nil: time.Now
	Log      *slog.Logger
}

// Door authenticates connections. It is safe for concurrent use.
type Door struct {
	opt Options
	pam *turns
}

// New makes a door.
func New(o Options) *Door {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Door{opt: o, pam: newTurns()}
}

// Visitor is a connection at the door.
type Visitor struct {
	Source, Local netip.AddrPort
	// Admit is asked when both factors are there, before the client is told; an error
	// refuses. It may be asked several times. nil: everybody.
	Admit func(*identity.Identity) error
	// Proven is called when a first factor was shown; nil: nobody is told.
	Proven func()
}

// Visit is the authentication of one connection. The library calls its callbacks one
// after another.
type Visit struct {
	door   *Door
	ctx    context.Context
	who    Visitor
	policy Policy
	banner func(string) error // to the client, before the end of the authentication

	mu      sync.Mutex
	refusal Refusal
	failed  bool // at a first factor
	ours    bool // something could not be decided

	// What was looked up last, so that a client with six keys asks once.
	account memo[directory.Account]
	keys    memo[[]ssh.PublicKey]
	revoked memo[*sshcert.Revoked] // by the file
}

// memo keeps the last answer, by the name that it is about.
type memo[T any] struct {
	name  string
	known bool
	value T
	err   error
}

func (m *memo[T]) get(name string, look func() (T, error)) (T, error) {
	if !m.known || m.name != name {
		m.value, m.err = look()
		m.name, m.known = name, true
	}
	return m.value, m.err
}

// Visit begins the authentication of a connection; ctx ends with it.
func (d *Door) Visit(ctx context.Context, who Visitor) *Visit {
	return &Visit{door: d, ctx: ctx, who: who, policy: d.opt.Policy()}
}

// Refusal is what to log of a connection that was not let in: what it tried last, and why
// that was refused; Reason is empty where nothing was tried. All else is what the client said.
type Refusal struct {
	User, Method, Key string
	// Reason is one stable word, and Error the same for people.
	Reason, Error string
	Session       string
	// Proven says that a first factor was shown.
	Proven bool
	// Ours says that something could not be decided, which is nobody's doing out there.
	Ours bool
	// Blame says that the client failed, by how it all came out: a key that was offered
	// before the right one is no failure, and where we failed nobody else has.
	Blame bool
}

// Refusal returns the last refusal.
func (v *Visit) Refusal() Refusal {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.refusal
	r.Ours = v.ours
	if !r.Proven {
		r.Blame = v.failed && !v.ours
	}
	return r
}
