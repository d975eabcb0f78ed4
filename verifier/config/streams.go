// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Stream is a receiver of all events of the logs.
type Stream struct {
	// URL is udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT for syslog
	// (RFC 5424), or https://… for a webhook.
	URL string `toml:"url"`
	// SecretFile holds the whsec_… secret that signs a webhook.
	SecretFile string `toml:"secret_file"`
	CAFile     string `toml:"ca_file"` // roots for https and tls; empty: the system's
	// Timeout bounds one attempt: connect, send, answer.
	Timeout Duration `toml:"timeout"`
	// MaxBacklog is how many events may wait before the oldest are given up.
	MaxBacklog int64 `toml:"max_backlog"`
}

// What a stream has that does not say otherwise.
const (
	defaultStreamTimeout = 10 * time.Second
	defaultMaxBacklog    = 1_000_000
)

var streamName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// finishStreams completes and checks the streams.
func (c *Config) finishStreams(dir string) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(c.Streams)) {
		s := c.Streams[name]
		for _, f := range []*string{&s.SecretFile, &s.CAFile} {
			if *f != "" && !filepath.IsAbs(*f) {
				*f = filepath.Join(dir, *f)
			}
		}
		if s.Timeout.Duration == 0 {
			s.Timeout.Duration = defaultStreamTimeout
		}
		if s.MaxBacklog == 0 {
			s.MaxBacklog = defaultMaxBacklog
		}
		c.Streams[name] = s
		if !streamName.MatchString(name) {
			errs = append(errs, fmt.Errorf("streams.%s: a name is up to 32 of a-z, 0-9, - and _", name))
		}
		for _, err := range s.check() {
			errs = append(errs, fmt.Errorf("streams.%s.%w", name, err))
		}
	}
	return errs
}

// check gives errors that begin with the key.
func (s Stream) check() (errs []error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return []error{errors.New("url: not a URL")}
	}
	switch u.Scheme {
	case "udp", "tcp", "tls":
		if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
			errs = append(errs, fmt.Errorf("url: syslog is %s://HOST:PORT", u.Scheme))
		}
		if s.SecretFile != "" {
			errs = append(errs, errors.New("secret_file: syslog has no signature; use tls with ca_file"))
		}
	case "http", "https":
		if u.Host == "" || u.Scheme == "http" && !loopback(u.Hostname()) {
			errs = append(errs, errors.New("url: names and addresses go through it, so it must be https, except to a loopback address"))
		}
		if s.SecretFile == "" {
			errs = append(errs, errors.New("secret_file: is missing; each request is signed with it"))
		} else if _, err := s.Secret(); err != nil {
			errs = append(errs, fmt.Errorf("secret_file: %w", err))
		}
	default:
		errs = append(errs, errors.New("url: begins with none of udp, tcp, tls (syslog) and https (webhook)"))
	}
	if s.CAFile != "" {
		if _, err := os.Stat(s.CAFile); err != nil {
			errs = append(errs, fmt.Errorf("ca_file: %w", err))
		} else if u.Scheme != "tls" && u.Scheme != "https" {
			errs = append(errs, errors.New("ca_file: is for tls and https"))
		}
	}
	if s.Timeout.Duration < time.Second || s.Timeout.Duration > 5*time.Minute {
		errs = append(errs, fmt.Errorf("timeout: %s is not between 1s and 5m", s.Timeout))
	}
	if s.MaxBacklog < 1000 {
		errs = append(errs, fmt.Errorf("max_backlog: %d is less than 1000", s.MaxBacklog))
	}
	return errs
}

// Secret reads the secret that signs a webhook. The file must be closed to group and others.
func (s Stream) Secret() (string, error) { return secretIn(s.SecretFile) }
