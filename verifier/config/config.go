// SPDX-License-Identifier: Apache-2.0

// Package config reads and checks verifier.toml and knows the files of a data
// directory. It holds no secret (those are in files of their own) and no setting
// that administrators change while the verifier runs (those are in the store).
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

// Config is verifier.toml. Relative file names are relative to the file's directory.
type Config struct {
	// URL is how clients reach the verifier: https://HOST or https://HOST:PORT.
	URL string `toml:"url"`
	// Listen is the address to listen on; default: all addresses, the port of URL.
	Listen string `toml:"listen"`
	// CertFile and KeyFile are a certificate chain and its key in PEM. Without
	// them the verifier uses a certificate of its private CA and renews it itself.
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `toml:"log_level"`
	// LogoFile is a PNG for GET /auth/v2/logo; empty: there is none.
	LogoFile string `toml:"logo_file"`
	// RateLimits are requests per second of one integration; 0: any number.
	RateLimits RateLimits `toml:"rate_limits"`
	Telephony  Telephony  `toml:"telephony"`
	App        App        `toml:"app"`
	// Streams are receivers of all events of the logs, by name.
	Streams map[string]Stream `toml:"streams"`
	Metrics Metrics           `toml:"metrics"`
	WebPush WebPush           `toml:"web_push"`
	Mail    Mail              `toml:"mail"`

	base *url.URL
}

// RateLimits are by type of integration. Ten times as many may come at once.
type RateLimits struct {
	AuthAPI   int `toml:"authapi"`
	AdminAPI  int `toml:"adminapi"`
	DeviceAPI int `toml:"deviceapi"`
}

// Telephony is the provider of calls and SMS. Without a URL both are off.
type Telephony struct {
	URL        string   `toml:"url"`
	SecretFile string   `toml:"secret_file"`
	CAFile     string   `toml:"ca_file"` // roots for URL; empty: the system's
	ApproveKey string   `toml:"approve_key"`
	FraudKey   string   `toml:"fraud_key"`
	Timeout    Duration `toml:"timeout"` // of one request
	Attempts   int      `toml:"attempts"`
}

// Duration is a time.Duration written like 5s.
type Duration struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 5s", text)
	}
	d.Duration = v
	return nil
}

// Files of a data directory.
const (
	FileName   = "verifier.toml"
	Database   = "verifier.db"
	SealKeys   = "keys.json"
	CACert     = "ca.pem"
	CAKey      = "ca.key"
	ServerCert = "server.pem"
	ServerKey  = "server.key"
	AdminFile  = "admin.json"
	LockFile   = "serve.lock"
)

func defaults() Config {
	return Config{
		LogLevel: "info",
		// They keep a script that has gone wild from holding up logins, and hold up no
		// login: thousands of hosts may share an Auth API integration.
		RateLimits: RateLimits{AuthAPI: 2000, AdminAPI: 300, DeviceAPI: 300},
		Telephony: Telephony{
			ApproveKey: "#",
			FraudKey:   "*",
			Timeout:    Duration{5 * time.Second},
			Attempts:   3,
		},
		WebPush: WebPush{Enabled: true},
	}
}

// Load reads and checks the file at path. Errors name key and line where they can.
func Load(path string) (*Config, error) {
	c := defaults()
	if err := tomlfile.Load(path, &c); err != nil {
		return nil, err
	}
	if err := c.finish(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

func (c *Config) finish(dir string) error {
	var errs []error
	base, err := duoapi.ParseBase(c.URL)
	if err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	} else {
		c.base = base
		if c.Listen == "" {
			c.Listen = ":" + Port(base)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); c.Listen != "" && err != nil {
		errs = append(errs, fmt.Errorf("listen: %q is not ADDRESS:PORT", c.Listen))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("cert_file and key_file go together: set both or neither"))
	}
	for key, n := range map[string]int{"authapi": c.RateLimits.AuthAPI, "adminapi": c.RateLimits.AdminAPI, "deviceapi": c.RateLimits.DeviceAPI} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("rate_limits.%s: %d is no number of requests per second", key, n))
		}
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %q is not debug, info, warn or error", c.LogLevel))
	}
	for _, f := range []*string{&c.CertFile, &c.KeyFile, &c.LogoFile, &c.Telephony.SecretFile, &c.Telephony.CAFile, &c.WebPush.CAFile} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	for key, file := range map[string]string{
		"cert_file": c.CertFile, "key_file": c.KeyFile, "logo_file": c.LogoFile, "telephony.ca_file": c.Telephony.CAFile,
		"web_push.ca_file": c.WebPush.CAFile,
	} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	errs = append(errs, c.finishStreams(dir)...)
	errs = append(errs, c.Metrics.check()...)
	errs = append(errs, c.WebPush.check()...)
	errs = append(errs, c.App.finish(c.base)...)
	errs = append(errs, c.Mail.finish(dir)...)
	return errors.Join(append(errs, c.Telephony.check()...)...)
}

func (t Telephony) check() []error {
	if t.URL == "" {
		if t.SecretFile != "" {
			return []error{errors.New("telephony.secret_file is set without telephony.url")}
		}
		return nil
	}
	var errs []error
	u, err := url.Parse(t.URL)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		errs = append(errs, errors.New("telephony.url: not an https URL"))
	case u.Scheme == "http" && !loopback(u.Hostname()):
		errs = append(errs, errors.New("telephony.url: SMS codes and numbers go through it, so it must be https, except to a loopback address"))
	}
	if t.SecretFile == "" {
		errs = append(errs, errors.New("telephony.secret_file is missing: requests to the provider and its callbacks are signed with it"))
	} else if _, err := t.Secret(); err != nil {
		errs = append(errs, fmt.Errorf("telephony.secret_file: %w", err))
	}
	if !isKey(t.ApproveKey) || !isKey(t.FraudKey) || t.ApproveKey == t.FraudKey {
		errs = append(errs, errors.New("telephony.approve_key and telephony.fraud_key are two different keys of a telephone: 0 to 9, # or *"))
	}
	if t.Timeout.Duration < 100*time.Millisecond || t.Timeout.Duration > 30*time.Second {
		errs = append(errs, fmt.Errorf("telephony.timeout: %s is not between 100ms and 30s", t.Timeout))
	}
	if t.Attempts < 1 || t.Attempts > 5 {
		errs = append(errs, fmt.Errorf("telephony.attempts: %d is not between 1 and 5", t.Attempts))
	}
	return errs
}

// Secret reads the secret shared with the provider: a whsec_ secret of the
// Standard Webhooks specification. The file must be closed to group and others.
func (t Telephony) Secret() (string, error) {
	return secretIn(t.SecretFile)
}

// secretIn reads a secret from a file that must be closed to group and others.
func secretIn(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: mode %04o lets others read it; set it to 0600", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

func isKey(s string) bool { return len(s) == 1 && strings.Contains("0123456789#*", s) }

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// NamedFile is a file that the configuration names.
type NamedFile struct {
	Key    string // of the setting
	Path   string
	Secret bool
}

// Files lists the files that the configuration names, in the order of its settings.
func (c *Config) Files() []NamedFile {
	all := []NamedFile{
		{"cert_file", c.CertFile, false},
		{"key_file", c.KeyFile, true},
		{"logo_file", c.LogoFile, false},
		{"telephony.secret_file", c.Telephony.SecretFile, true},
		{"telephony.ca_file", c.Telephony.CAFile, false},
		{"web_push.ca_file", c.WebPush.CAFile, false},
		{"mail.password_file", c.Mail.PasswordFile, true},
		{"mail.ca_file", c.Mail.CAFile, false},
	}
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		s := c.Streams[name]
		all = append(all, NamedFile{"streams." + name + ".secret_file", s.SecretFile, true},
			NamedFile{"streams." + name + ".ca_file", s.CAFile, false})
	}
	return slices.DeleteFunc(all, func(f NamedFile) bool { return f.Path == "" })
}

// Base is URL, parsed and normalised: no path, host in lower case, no default port.
func (c *Config) Base() *url.URL { return c.base }

// Audience is scheme and authority, as key proofs name the verifier.
func (c *Config) Audience() string { return c.base.String() }

// OwnCA says that the verifier's certificate comes from its private CA.
func (c *Config) OwnCA() bool { return c.CertFile == "" }

// Level is LogLevel.
func (c *Config) Level() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.LogLevel)) // Load has checked it
	return l
}

// Port is the port of a URL that duoapi.ParseBase made.
func Port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

// Text is a verifier.toml for a new data directory.
func Text(base *url.URL, listen, certFile, keyFile string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Sallyport verifier; docs/reference/verifier.md lists every setting.\n\n")
	fmt.Fprintf(&b, "url = %q\n", base.String())
	if listen != "" {
		fmt.Fprintf(&b, "listen = %q\n", listen)
	}
	if certFile != "" {
		fmt.Fprintf(&b, "cert_file = %q\nkey_file = %q\n", certFile, keyFile)
	}
	return b.String()
}
