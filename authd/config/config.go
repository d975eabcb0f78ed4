// SPDX-License-Identifier: Apache-2.0

// Package config owns the meaning of authd.toml: which settings there are, what
// they are when nobody says anything, and which files are wrong. It never acts
// on a setting. docs/reference/authd.md describes each one.
package config

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/internal/ownfile"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

// DefaultPath is where authd and `sallyport doctor` look without --config.
const DefaultPath = "/etc/sallyport/authd.toml"

// DefaultSocketDir is where the module looks for authd's sockets without socket_dir=.
const DefaultSocketDir = "/run/sallyport"

// Config is a checked configuration. It is immutable after Load.
type Config struct {
	SocketDir string `toml:"socket_dir"`
	StateDir  string `toml:"state_dir"`
	Hostname  string `toml:"hostname"` // empty: this host's own name
	Contact   string `toml:"contact"`

	Verifier Verifier          `toml:"verifier"`
	Timeouts Timeouts          `toml:"timeouts"`
	Limits   Limits            `toml:"limits"`
	Throttle throttle.Settings `toml:"throttle"`
	Metrics  Metrics           `toml:"metrics"`
	Gateway  Gateway           `toml:"gateway"`
	LDAP     LDAP              `toml:"ldap"`
	Services map[string]raw    `toml:"services"`
	Rules    []rules.Rule      `toml:"rules"`

	SSHCA map[string]SSHCA `toml:"ssh_ca"`

	ruleSet     *rules.Set
	authorities sshcert.Authorities
	secret      []byte
	hostKey     *ecdsa.PrivateKey
}

// Verifier says whom authd asks.
type Verifier struct {
	URLs           []string  `toml:"urls"`
	IntegrationKey string    `toml:"integration_key"`
	SecretKeyFile  string    `toml:"secret_key_file"`
	CAFile         string    `toml:"ca_file"`       // empty: the system's roots
	HostKeyFile    string    `toml:"host_key_file"` // empty: no call that needs the host's own key
	Selection      Selection `toml:"selection"`
	Proxy          *Proxy    `toml:"proxy"` // nil: none

	endpoints []*url.URL
}

// Selection says in which order the verifier's addresses are asked.
type Selection string

// The selections.
const (
	SelectOrder  Selection = "order"  // as they are listed
	SelectHealth Selection = "health" // the one that answered last, or else fastest
)

// Timeouts bounds every wait of authd. The log names the setting that fired.
type Timeouts struct {
	Connect  time.Duration `toml:"connect_timeout"`  // TCP and TLS to the verifier
	Request  time.Duration `toml:"request_timeout"`  // one request to the verifier
	Approval time.Duration `toml:"approval_timeout"` // a push or a call waits for its answer
	Answer   time.Duration `toml:"answer_timeout"`   // what a person types later is void
	Login    time.Duration `toml:"login_timeout"`    // machine time of one login; below the module's timeout
	NSS      time.Duration `toml:"nss_timeout"`      // all look-ups of one login in the name service
	LDAP     time.Duration `toml:"ldap_timeout"`     // one question to the directory, all its servers together
	Grant    time.Duration `toml:"grant_ttl"`        // from authenticate to the account and session hooks
	Probe    time.Duration `toml:"probe_interval"`   // how often a verifier that is down is looked at, in the end
	Health   time.Duration `toml:"health_interval"`  // how often one that is up is looked at
	Stop     time.Duration `toml:"stop_timeout"`     // conversations may end in when authd stops
}

// Limits bounds what peers can make authd hold.
type Limits struct {
	Root       int `toml:"root_connections"`     // authd.sock, at once
	RootPerUID int `toml:"root_connections_uid"` // authd.sock, at once, of sudo, su and the like started by one user
	User       int `toml:"user_connections"`     // user.sock, at once
	UserPerUID int `toml:"user_connections_uid"` // user.sock, at once and per uid
	Gateway    int `toml:"gateway_connections"`  // sshgw.sock, at once
	// sshgw.sock, at once, about one person; questions for their SSH keys count apart
	GatewayPerUser int `toml:"gateway_connections_user"`
	Grants         int `toml:"grants"`      // remembered at once; the oldest goes
	OpenPeople     int `toml:"open_people"` // counted by fail_mode open in one outage; further ones are denied
}

// Load reads, checks and completes the file at path with those of rules.d beside
// it, and reads the secret key that it names. Errors name the file, and each setting that is wrong. Files that
// another account could change are refused: who can write them decides who logs in.
func Load(path string) (*Config, error) {
	c, err := load(path, ownfile.Check)
	if err != nil {
		return nil, err
	}
	if err := c.trustedCAs(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, ca := range []struct{ setting, file string }{{"verifier.ca_file", c.Verifier.CAFile}, {"ldap.ca_file", c.LDAP.CAFile}} {
		if ca.file == "" {
			continue
		}
		// That it is missing is for those to say who read it.
		if err := ownfile.Check(ca.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %s: %w", path, ca.setting, err)
		}
	}
	if err := errors.Join(c.readSecret(), c.readHostKey(), c.LDAP.ReadPassword(), c.Verifier.Proxy.load()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// LoadWithoutSecret is Load for those who need no secret or may not read them.
func LoadWithoutSecret(path string) (*Config, error) {
	return load(path, trustAll)
}

// Parse is LoadWithoutSecret for a text; name stands in errors.
func Parse(name, text string) (*Config, error) {
	c := defaults()
	err := rules.Hinted(tomlfile.Decode(name, text, c))
	rules.Locate(c.Rules, name, text)
	return c.finish(name, err)
}

func (c *Config) finish(name string, err error) (*Config, error) {
	if err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		return nil, errors.Join(err, c.checkRules())
	}
	if err := c.checkRules(); err != nil {
		return nil, err
	}
	return c, nil
}

// RuleSet is the checked list of rules.
func (c *Config) RuleSet() *rules.Set { return c.ruleSet }

// Secret is the integration's secret key; nil unless Load read it.
func (c *Config) Secret() []byte { return c.secret }

// HostKey is the host's own key; nil unless the file names one and Load read it.
func (c *Config) HostKey() *ecdsa.PrivateKey { return c.hostKey }

// Endpoints are the verifier's addresses in order of preference.
func (v *Verifier) Endpoints() []*url.URL { return v.endpoints }

func defaults() *Config {
	return &Config{
		SocketDir: DefaultSocketDir,
		StateDir:  "/var/lib/sallyport/authd",
		Contact:   "your system administrator",
		Verifier:  Verifier{Selection: SelectOrder},
		Timeouts: Timeouts{
			Connect:  3 * time.Second,
			Request:  8 * time.Second,
			Approval: 60 * time.Second,
			Answer:   5 * time.Minute,
			Login:    85 * time.Second,
			NSS:      5 * time.Second,
			LDAP:     3 * time.Second,
			Grant:    2 * time.Minute,
			Probe:    2 * time.Second,
			Health:   time.Minute,
			Stop:     5 * time.Second,
		},
		Limits:   Limits{Root: 1024, RootPerUID: 64, User: 64, UserPerUID: 4, Gateway: 256, GatewayPerUser: 16, Grants: 8192, OpenPeople: 4096},
		Throttle: defaultThrottle(),
		Gateway:  defaultGateway(),
		LDAP:     defaultLDAP(),
	}
}

func (c *Config) check() error {
	var errs []error
	errs = append(errs, c.checkPaths()...)
	errs = append(errs, c.Verifier.check()...)
	errs = append(errs, c.Timeouts.check()...)
	errs = append(errs, c.Limits.check()...)
	errs = append(errs, c.checkThrottle()...)
	errs = append(errs, c.Metrics.check()...)
	errs = append(errs, c.Gateway.check()...)
	errs = append(errs, c.checkServices()...)
	errs = append(errs, c.checkLDAP()...)
	errs = append(errs, c.checkSSHCA()...)
	return errors.Join(errs...)
}

func (c *Config) checkPaths() []error {
	var errs []error
	for _, p := range []struct{ name, value string }{{"socket_dir", c.SocketDir}, {"state_dir", c.StateDir}} {
		if !filepath.IsAbs(p.value) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", p.name, p.value))
		}
	}
	// sun_path holds 108 bytes with its NUL; the longest name is status.sock.
	if len(c.SocketDir)+len("/status.sock") > 107 {
		errs = append(errs, fmt.Errorf("socket_dir is too long for a socket address: %d bytes, at most 95", len(c.SocketDir)))
	}
	for _, s := range []struct{ name, value string }{{"contact", c.Contact}, {"hostname", c.Hostname}} {
		if len(s.value) > 200 || strings.ContainsFunc(s.value, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			errs = append(errs, fmt.Errorf("%s is one line of at most 200 bytes", s.name))
		}
	}
	return errs
}

func (v *Verifier) check() []error {
	var errs []error
	if len(v.URLs) == 0 {
		errs = append(errs, errors.New("verifier.urls is missing: no verifier to ask"))
	}
	for _, s := range v.URLs {
		u, err := duoapi.ParseBase(s)
		if err != nil {
			errs = append(errs, fmt.Errorf("verifier.urls: %w", err))
			continue
		}
		v.endpoints = append(v.endpoints, u)
	}
	if v.IntegrationKey == "" || strings.ContainsFunc(v.IntegrationKey, func(r rune) bool { return r <= 0x20 || r == ':' || r >= 0x7f }) {
		errs = append(errs, errors.New("verifier.integration_key is missing or malformed; `sallyport host join` writes it"))
	}
	if err := oneOf("verifier.selection", &v.Selection, SelectOrder, SelectHealth); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, v.Proxy.check()...)
	if v.SecretKeyFile == "" {
		errs = append(errs, errors.New("verifier.secret_key_file is missing; `sallyport host join` writes it"))
	}
	return errs
}

func (t *Timeouts) check() []error {
	var errs []error
	for _, d := range []struct {
		name       string
		value      time.Duration
		least, top time.Duration
	}{
		{"connect_timeout", t.Connect, 100 * time.Millisecond, 30 * time.Second},
		{"request_timeout", t.Request, 200 * time.Millisecond, 60 * time.Second},
		{"approval_timeout", t.Approval, time.Second, 10 * time.Minute},
		{"answer_timeout", t.Answer, time.Second, time.Hour},
		{"login_timeout", t.Login, time.Second, time.Hour},
		{"nss_timeout", t.NSS, 100 * time.Millisecond, 9 * time.Second},
		{"ldap_timeout", t.LDAP, 100 * time.Millisecond, 9 * time.Second},
		{"grant_ttl", t.Grant, time.Second, time.Hour},
		{"probe_interval", t.Probe, 100 * time.Millisecond, time.Hour},
		{"health_interval", t.Health, time.Second, time.Hour},
		{"stop_timeout", t.Stop, 0, time.Minute},
	} {
		if d.value < d.least || d.value > d.top {
			errs = append(errs, fmt.Errorf("timeouts.%s is %s; it may be %s to %s", d.name, d.value, d.least, d.top))
		}
	}
	if t.Connect > t.Request {
		errs = append(errs, errors.New("timeouts.connect_timeout is above request_timeout, of which it is a part"))
	}
	return errs
}

func (l *Limits) check() []error {
	var errs []error
	for _, n := range []struct {
		name  string
		value int
	}{
		{"root_connections", l.Root}, {"root_connections_uid", l.RootPerUID}, {"user_connections", l.User}, {"user_connections_uid", l.UserPerUID},
		{"gateway_connections", l.Gateway}, {"gateway_connections_user", l.GatewayPerUser}, {"grants", l.Grants},
		{"open_people", l.OpenPeople},
	} {
		if n.value < 1 || n.value > 1<<20 {
			errs = append(errs, fmt.Errorf("limits.%s is %d; it may be 1 to 1048576", n.name, n.value))
		}
	}
	if l.OpenPeople > 32768 {
		errs = append(errs, fmt.Errorf("limits.open_people is %d; it may be 1 to 32768", l.OpenPeople))
	}
	return errs
}

// maxSecret bounds a file that holds a secret, in bytes.
const maxSecret = 4096

func (c *Config) readSecret() error {
	text, err := secretFile("verifier.secret_key_file", c.Verifier.SecretKeyFile)
	if err != nil {
		return err
	}
	if c.secret = bytes.TrimSpace(text); len(c.secret) == 0 {
		return fmt.Errorf("verifier.secret_key_file: %s is empty", c.Verifier.SecretKeyFile)
	}
	return nil
}

func (c *Config) readHostKey() error {
	path := c.Verifier.HostKeyFile
	if path == "" {
		return nil
	}
	text, err := secretFile("verifier.host_key_file", path)
	if err != nil {
		return err
	}
	if c.hostKey, err = keyproof.DecodePrivateKey(text); err != nil {
		return fmt.Errorf("verifier.host_key_file: %s: %w", path, err)
	}
	return nil
}

// secretFile reads a file that setting names and that everybody must not read.
func secretFile(setting, path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setting, err)
	case info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s: %s is open to everybody (mode %04o); make it 0600 or 0640", setting, path, info.Mode().Perm())
	case info.Size() > maxSecret:
		return nil, fmt.Errorf("%s: %s is no secret: over %d bytes", setting, path, maxSecret)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return text, nil
}
