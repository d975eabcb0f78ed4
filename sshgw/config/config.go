// SPDX-License-Identifier: Apache-2.0

// Package config owns sshgw.toml: what it may say, what holds where it says nothing,
// and whether it is in order. It starts nothing.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/ownfile"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

// DefaultPath is where the gateway looks for its configuration.
const DefaultPath = "/etc/sallyport/sshgw.toml"

// Config is sshgw.toml, checked and complete. It is only read once loaded.
type Config struct {
	Path string `toml:"-"` // of the file

	Name      string      `toml:"name"`       // of the gateway, as people type it; "": the machine's
	Listen    []string    `toml:"listen"`     // host:port
	StateDir  string      `toml:"state_dir"`  // /var/lib/sallyport/sshgw
	SocketDir string      `toml:"socket_dir"` // /run/sallyport: authd's sshgw.sock, our sshgw-pam.sock and sshgw-control.sock
	Contact   string      `toml:"contact"`    // whom people are told to ask
	Metrics   string      `toml:"metrics"`    // host:port of Prometheus' metrics, "" for none
	Limits    Limits      `toml:"limits"`
	Timeouts  Timeouts    `toml:"timeouts"`
	First     FirstFactor `toml:"first_factor"`
	Record    Record      `toml:"record"`
	Targets   Targets     `toml:"targets"`
	Keys      Keys        `toml:"keys"`

	Doors   []Door        `toml:"door"`
	Batches []Batch       `toml:"batch"`
	Rule    []policy.Rule `toml:"rule"`
	UserCAs []UserCA      `toml:"user_ca"` // First.CAs once loaded
	HostCAs []HostCA      `toml:"host_ca"` // Targets.HostCAs once loaded
	// Credentials are Targets.Credentials once loaded.
	Credentials []Credential `toml:"credential"`

	text        string
	rules       *policy.Set
	book        *inventory.Book
	authorities sshcert.Authorities
}

// Limits bounds what peers can make the gateway hold.
type Limits struct {
	Connections         int           `toml:"connections"`          // authenticated at once
	Unauthenticated     int           `toml:"unauthenticated"`      // handshakes at once
	UnauthenticatedFrom int           `toml:"unauthenticated_from"` // of one source (an IPv4 address, an IPv6 /64; four times that of a /48)
	ConnectionsFrom     int           `toml:"connections_from"`     // authenticated, of one source
	ConnectionsUser     int           `toml:"connections_user"`     // authenticated, of one user
	Channels            int           `toml:"channels"`             // open at once in one connection
	AuthTries           int           `toml:"auth_tries"`           // failed, in one connection
	Penalty             time.Duration `toml:"penalty"`              // what a failure adds to a source's penalty, which runs off with time
	PenaltyMin          time.Duration `toml:"penalty_min"`          // from which on the source is shut out until it has run off
	PenaltyMax          time.Duration `toml:"penalty_max"`          // to which it adds up
	PenaltyExempt       []string      `toml:"penalty_exempt"`       // networks

	exempt []netip.Prefix
}

// Exempt are the networks of PenaltyExempt.
func (l *Limits) Exempt() []netip.Prefix { return l.exempt }

// Timeouts bounds waits. The log names the setting that fired.
type Timeouts struct {
	FirstFactor    time.Duration `toml:"first_factor"`    // up to the first factor
	Handshake      time.Duration `toml:"handshake"`       // up to the end of authentication; above the longest factor
	Idle           time.Duration `toml:"idle"`            // a connection without any channel's data; 0: for ever
	Session        time.Duration `toml:"session"`         // a connection in all; 0: for ever
	KeepAlive      time.Duration `toml:"keepalive"`       // between keepalive@openssh.com
	KeepAliveCount int           `toml:"keepalive_count"` // unanswered in a row
	Dial           time.Duration `toml:"dial"`            // to a target: TCP
	Target         time.Duration `toml:"target"`          // to a target: its SSH handshake, without what the person is asked
	Drain          time.Duration `toml:"drain"`           // connections may take to end by themselves when the gateway stops
	Banner         time.Duration `toml:"banner"`          // between two signs of life while a reply is held
}

// FirstFactor is what counts as one.
type FirstFactor struct {
	AuthorizedKeys []string `toml:"authorized_keys"` // patterns of files: %u the user's name, %% a percent sign
	VerifierKeys   bool     `toml:"verifier_keys"`   // keys that the verifier knows, through authd
	Password       bool     `toml:"password"`        // through PAM, by sallyport-sshgw-pam
	CAs            []UserCA `toml:"-"`
	MinRSABits     int      `toml:"min_rsa_bits"`
	RevokedKeys    string   `toml:"revoked_keys"` // file of what is taken back, whoever authorized it
	Accounts       Accounts `toml:"accounts"`
	EndAtExpiry    bool     `toml:"end_at_expiry"` // a connection ends when its key or certificate expires
}

// Accounts says who may be a person at all.
type Accounts string

// Who may be a person.
const (
	AccountsNSS Accounts = "nss" // who has an account that this machine's name service knows
	AccountsAny Accounts = "any" // everybody with a name of the ordinary form
)

// UserCA is an authority whose user certificates are believed.
type UserCA struct {
	Name     string `toml:"name"`
	KeysFile string `toml:"keys_file"`
	// PrincipalsFile maps: without one a certificate's principal must be the user's name.
	PrincipalsFile string `toml:"principals_file"` // pattern: %u; lines of principals that may be this user
	RevokedKeys    string `toml:"revoked_keys"`    // file of what this authority has taken back

	keys []ssh.PublicKey
}

// Keys are the authority's own.
func (ca *UserCA) Keys() []ssh.PublicKey { return ca.keys }

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
	Name    string     `toml:"name"`
	Users   []string   `toml:"users"`
	Groups  []string   `toml:"groups"`
	Keys    []string   `toml:"keys"` // SHA256:…
	Sources []string   `toml:"sources"`
	Action  DoorAction `toml:"action"`

	who who
}

// Batch is a rule by which nothing is asked: user, key and source must match, and the
// connection reaches its targets alone.
type Batch struct {
	Name    string   `toml:"name"`
	Reason  string   `toml:"reason"`
	Users   []string `toml:"users"`
	Keys    []string `toml:"keys"`    // SHA256:…, at least one
	Sources []string `toml:"sources"` // at least one
	Targets []string `toml:"targets"` // names, patterns, label:key=value, group:name; at least one

	who     who
	targets *policy.Targets
}

// Record is where and how sessions are recorded.
type Record struct {
	Dir        string        `toml:"dir"`        // StateDir/recordings
	Recipients []string      `toml:"recipients"` // age public keys; none: not sealed
	Group      string        `toml:"group"`      // whose members may read them; "": nobody but the gateway
	KeepDays   int           `toml:"keep_days"`  // 0: for ever
	MinFree    uint64        `toml:"min_free"`   // bytes that must be left on the disk
	Sync       time.Duration `toml:"sync"`       // how soon what was recorded is on disk
	Seal       time.Duration `toml:"seal"`       // how soon it is sealed
	Stall      time.Duration `toml:"stall"`      // how long the disk may take
}

// Targets is the way towards targets.
type Targets struct {
	Files           []string      `toml:"files"` // inventory, TOML
	KnownHosts      []string      `toml:"known_hosts"`
	TrustOnFirstUse bool          `toml:"trust_on_first_use"`
	SourceAddress   []string      `toml:"source_address"` // of the certificates; none: the local address of the connection
	CertificateTTL  time.Duration `toml:"certificate_ttl"`
	HostCAs         []HostCA      `toml:"-"`
	Credentials     []Credential  `toml:"-"`
}

// HostCA is an authority of targets' host keys.
type HostCA struct {
	Name     string `toml:"name"`
	KeysFile string `toml:"keys_file"`

	keys []ssh.PublicKey
}

// Keys are the authority's own.
func (ca *HostCA) Keys() []ssh.PublicKey { return ca.keys }

// CredentialKind says how the gateway proves itself to a target.
type CredentialKind string

// How the gateway proves itself to a target.
const (
	CredentialCertificate CredentialKind = "certificate" // of the gateway's CA; the default
	CredentialAgent       CredentialKind = "agent"       // the user's, forwarded
	CredentialKey         CredentialKind = "key"         // a stored key
)

// Credential is a way to prove oneself to targets. The one named "default" is that of
// targets that name none.
type Credential struct {
	Name    string         `toml:"name"`
	Kind    CredentialKind `toml:"kind"`
	KeyFile string         `toml:"key_file"`
}

// DefaultCredential is the name of the credential of targets that name none.
const DefaultCredential = "default"

// Keys are the gateway's own.
type Keys struct {
	Dir string `toml:"dir"` // StateDir/keys: host keys, CA
}

func defaults() *Config {
	return &Config{
		Listen:    []string{":2222"},
		StateDir:  "/var/lib/sallyport/sshgw",
		SocketDir: "/run/sallyport",
		Contact:   "your system administrator",
		Limits: Limits{
			Connections: 10_000, Unauthenticated: 1000, UnauthenticatedFrom: 100, ConnectionsFrom: 1000, ConnectionsUser: 200,
			Channels: 64, AuthTries: 10, Penalty: 5 * time.Second, PenaltyMin: 15 * time.Second, PenaltyMax: 5 * time.Minute,
		},
		Timeouts: Timeouts{
			FirstFactor: 30 * time.Second, Handshake: 2 * time.Minute, Idle: 0, Session: 0, KeepAlive: 30 * time.Second, KeepAliveCount: 4,
			Dial: 10 * time.Second, Target: 20 * time.Second, Drain: 30 * time.Second, Banner: 10 * time.Second,
		},
		First:   FirstFactor{AuthorizedKeys: []string{"/etc/sallyport/authorized_keys/%u"}, VerifierKeys: true, MinRSABits: 2048, Accounts: AccountsNSS},
		Record:  Record{KeepDays: 90, MinFree: 1 << 30, Sync: time.Second, Seal: 30 * time.Second, Stall: 30 * time.Second},
		Targets: Targets{Files: []string{"/etc/sallyport/targets.toml"}, KnownHosts: []string{"/etc/sallyport/known_hosts", "/etc/ssh/ssh_known_hosts"}, CertificateTTL: 5 * time.Minute},
	}
}

// Load reads, checks and completes the file at path, and reads the files of targets and
// authorities that it names. Errors name the file, the line and each setting that is wrong.
// Files that another account could change are refused: who can write them decides who gets in.
func Load(path string) (*Config, error) { return load(path, ownfile.Check) }

// LoadWithoutTrust is Load for those who do not act on what they read.
func LoadWithoutTrust(path string) (*Config, error) {
	return load(path, func(string) error { return nil })
}

func load(path string, trust func(path string) error) (*Config, error) {
	if err := trust(path); err != nil {
		return nil, err
	}
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, text)
	if err != nil {
		return nil, err
	}
	errs := []error{c.readAuthorities(trust)}
	names := inventory.Names{}
	for _, ca := range c.HostCAs {
		names.HostCAs = append(names.HostCAs, ca.Name)
	}
	for _, cr := range c.Credentials {
		names.Credentials = append(names.Credentials, cr.Name)
	}
	if c.book, err = inventory.Open(c.Targets.Files, trust, &names); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", c.place(c.line("targets", "files")), err))
	}
	for _, f := range c.Targets.KnownHosts {
		// A file that is not there knows nothing, and what is not known is refused.
		if err := trust(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s: targets.known_hosts: %w", c.place(c.line("targets", "known_hosts")), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// readFile bounds what is read by what a configuration can be.
func readFile(path string) (string, error) {
	const most = 4 << 20
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > most {
		return "", fmt.Errorf("read configuration %s: over %d bytes", path, most)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	return string(text), nil
}

// Address is how people reach the gateway: its name, and the port where that is not 22.
func (c *Config) Address() string {
	port := "22"
	if len(c.Listen) > 0 {
		if _, p, err := net.SplitHostPort(c.Listen[0]); err == nil {
			port = p
		}
	}
	if port == "22" {
		return c.Name
	}
	return net.JoinHostPort(c.Name, port)
}

// Rules are the compiled access rules.
func (c *Config) Rules() *policy.Set { return c.rules }

// Inventory is the targets in force; Book().Watch refreshes it.
func (c *Config) Inventory() *inventory.Inventory {
	if c.book == nil {
		return &inventory.Inventory{}
	}
	return c.book.Inventory()
}

// Book is the files of targets; its Watch is the gateway's to run.
func (c *Config) Book() *inventory.Book { return c.book }

// Authorities are the CAs of user certificates.
func (c *Config) Authorities() sshcert.Authorities { return c.authorities }
