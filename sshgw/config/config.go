// SPDX-License-Identifier: Apache-2.0

// Package config owns sshgw.toml: what it may say, what holds where it says nothing,
// and whether it is in order. It starts nothing.
package config

import (
	"context"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

// DefaultPath is where the gateway looks for its configuration.
const DefaultPath = "/etc/sallyport/sshgw.toml"

// Config is sshgw.toml, checked and complete. It is only read once loaded.
type Config struct {
	Listen    []string // host:port
	StateDir  string   // /var/lib/sallyport/sshgw
	SocketDir string   // /run/sallyport: authd's sshgw.sock, our sshgw-pam.sock and sshgw-control.sock
	Contact   string   // whom people are told to ask
	Limits    Limits
	Timeouts  Timeouts
	First     FirstFactor
	Doors     []Door
	Batches   []Batch
	Record    Record
	Targets   Targets
	Keys      Keys
	Metrics   string // host:port of Prometheus' metrics, "" for none
	// The owner adds the raw tables, rules and compiled sets.
}

// Limits bounds what peers can make the gateway hold.
type Limits struct {
	Connections         int           // authenticated at once
	Unauthenticated     int           // handshakes at once
	UnauthenticatedFrom int           // of one source (an IPv4 address, an IPv6 /64)
	ConnectionsFrom     int           // authenticated, of one source
	ConnectionsUser     int           // authenticated, of one user
	Channels            int           // open at once in one connection
	AuthTries           int           // failed, in one connection
	Penalty             time.Duration // a source that fails waits, doubled each time, up to PenaltyMax
	PenaltyMax          time.Duration
	PenaltyExempt       []string // networks
}

// Timeouts bounds waits. The log names the setting that fired.
type Timeouts struct {
	Handshake      time.Duration // up to the end of authentication; above the longest factor
	Idle           time.Duration // a connection without any channel's data
	Session        time.Duration // a connection in all; 0: for ever
	KeepAlive      time.Duration // between keepalive@openssh.com
	KeepAliveCount int           // unanswered in a row
	Dial           time.Duration // to a target: TCP
	Target         time.Duration // to a target: its SSH handshake, without what the person is asked
	Drain          time.Duration // connections may take to end by themselves when the gateway stops
	Banner         time.Duration // between two signs of life while a reply is held
}

// FirstFactor is what counts as one.
type FirstFactor struct {
	AuthorizedKeys []string // patterns of files: %u the user's name, %% a percent sign
	VerifierKeys   bool     // keys that the verifier knows, through authd
	Password       bool     // through PAM, by sallyport-sshgw-pam
	CAs            []UserCA
	MinRSABits     int
}

// UserCA is an authority whose user certificates are believed.
type UserCA struct {
	Name     string
	KeysFile string
	// Principals maps: none, a certificate's principal must be the user's name.
	PrincipalsFile string // pattern: %u; lines of principals that may be this user
	RevokedKeys    string // file of public keys or a KRL's text form; see the reference page
}

// DoorAction says how the second factor is asked for at the door.
type DoorAction string

// How the second factor is asked for at the door.
const (
	DoorAsk   DoorAction = "ask"   // by keyboard-interactive, after the first factor; the default
	DoorHold  DoorAction = "hold"  // the public-key reply is held while a push is pending
	DoorTouch DoorAction = "touch" // a sk- key's touch is both factors
)

// Door is a rule of how the second factor is asked for. The first that matches decides.
type Door struct {
	Name    string
	Users   []string
	Groups  []string
	Keys    []string // SHA256:…
	Sources []string
	Action  DoorAction
}

// Batch is a rule by which nothing is asked: user, key and source must match, and the
// connection reaches its targets alone.
type Batch struct {
	Name, Reason string
	Users        []string
	Keys         []string // SHA256:…, at least one
	Sources      []string // at least one
	Targets      []string // names, patterns, label:key=value, group:name; at least one
}

// Record is where and how sessions are recorded.
type Record struct {
	Dir        string   // StateDir/recordings
	Recipients []string // age public keys; none: not sealed
	KeepDays   int      // 0: for ever
	MinFree    uint64   // bytes that must be left on the disk
}

// Targets is the way towards targets.
type Targets struct {
	Files           []string // inventory, TOML
	KnownHosts      []string
	TrustOnFirstUse bool
	SourceAddress   []string // of the certificates; none: the local address of the connection
	CertificateTTL  time.Duration
	HostCAs         []HostCA
	Credentials     []Credential
}

// HostCA is an authority of targets' host keys.
type HostCA struct {
	Name     string
	KeysFile string
}

// CredentialKind says how the gateway proves itself to a target.
type CredentialKind string

// How the gateway proves itself to a target.
const (
	CredentialCertificate CredentialKind = "certificate" // of the gateway's CA; the default
	CredentialAgent       CredentialKind = "agent"       // the user's, forwarded
	CredentialKey         CredentialKind = "key"         // a stored key
)

// Credential is a way to prove oneself to targets.
type Credential struct {
	Name    string
	Kind    CredentialKind
	KeyFile string
}

// Keys are the gateway's own.
type Keys struct {
	Dir string // StateDir/keys: host keys, CA
}

// Rules are the compiled access rules.
func (c *Config) Rules() *policy.Set { panic("not built yet") }

// Inventory is the targets in force; it is refreshed behind the scenes.
func (c *Config) Inventory() *inventory.Inventory { panic("not built yet") }

// Door returns the first door rule that matches, nil for none.
func (c *Config) Door(ctx context.Context, q DoorQuery) *Door { panic("not built yet") }

// Batch returns the first batch rule that matches user, key and source, nil for none.
func (c *Config) Batch(q DoorQuery) *Batch { panic("not built yet") }

// Reaches says whether a batch rule names the target.
func (b *Batch) Reaches(t *inventory.Target) bool { panic("not built yet") }

// DoorQuery is what is known at the door.
type DoorQuery struct {
	User    string
	InGroup func(ctx context.Context, group string) (bool, error)
	Key     string
	Source  string // an address
}
