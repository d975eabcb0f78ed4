// SPDX-License-Identifier: Apache-2.0

package target

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// settings is the configuration in force, with its files read.
type settings struct {
	dial, handshake time.Duration
	keepAlive       time.Duration
	keepAliveCount  int
	contact         string

	known       *knownhosts.HostKeyDB
	lookups     *lookups                   // of known
	authorities map[string][]ssh.PublicKey // of [[host_ca]]
	firstSight  bool
	sights      string // file
	seen        sights // what the file says; replaced, never changed

	credentials map[string]config.Credential
	stored      map[string]ssh.Signer // by name of the credential
	source      []netip.Prefix
	lifetime    time.Duration
}

func newSettings(c *config.Config) (*settings, error) {
	s := &settings{
		dial: c.Timeouts.Dial, handshake: c.Timeouts.Target,
		keepAlive: c.Timeouts.KeepAlive, keepAliveCount: c.Timeouts.KeepAliveCount,
		contact: c.Contact, firstSight: c.Targets.TrustOnFirstUse, sights: filepath.Join(c.StateDir, "known_hosts"),
		lookups: new(lookups), authorities: map[string][]ssh.PublicKey{}, credentials: map[string]config.Credential{},
		stored: map[string]ssh.Signer{}, lifetime: c.Targets.CertificateTTL,
	}
	// No deadline is none that anybody has asked for.
	if s.dial <= 0 {
		s.dial = 10 * time.Second
	}
	if s.handshake <= 0 {
		s.handshake = 30 * time.Second
	}
	if s.contact == "" {
		s.contact = "the administrator of this gateway"
	}
	var files []string
	for _, f := range c.Targets.KnownHosts {
		// A file that is not there knows nothing, and what is not known is refused.
		if _, err := os.Stat(f); !errors.Is(err, fs.ErrNotExist) {
			files = append(files, f)
		}
	}
	var err error
	if s.known, err = knownhosts.NewDB(files...); err != nil {
		return nil, fmt.Errorf("read known_hosts: %w", err)
	}
	for _, ca := range c.Targets.HostCAs {
		text, err := os.ReadFile(ca.KeysFile)
		if err != nil {
			return nil, fmt.Errorf("read the keys of the host CA %q: %w", ca.Name, err)
		}
		if s.authorities[ca.Name], err = sshcert.ParseAuthority(string(text)); err != nil {
			return nil, fmt.Errorf("read the keys of the host CA %q in %s: %w", ca.Name, ca.KeysFile, err)
		}
	}
	for _, cred := range c.Targets.Credentials {
		s.credentials[cred.Name] = cred
		if cred.Kind != config.CredentialKey {
			continue
		}
		if s.stored[cred.Name], err = readStored(cred.KeyFile); err != nil {
			return nil, fmt.Errorf("read the key of the credential %q: %w", cred.Name, err)
		}
	}
	for _, text := range c.Targets.SourceAddress {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("source address of certificates %q: %w", text, err)
		}
		s.source = append(s.source, p)
	}
	return s, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}

// readStored reads a private key that nobody but its owner may read.
func readStored(path string) (ssh.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %#o, so that others can read it; run: chmod go= %s", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer, nil
}
