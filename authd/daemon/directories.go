// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/directory/ldap"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/person"
)

// directories are the clients of the directory: one for the sockets of root and
// the gateway, one for ordinary users, whose questions queue apart.
type directories struct {
	made       directoryOptions
	root, user *ldap.Client // nil: none is configured
}

// directoryOptions is what the clients were made of.
type directoryOptions struct {
	settings   config.LDAP
	attributes []string
	timeout    time.Duration
	ca         string
}

// newDirectories makes the clients, or returns old where nothing has changed: a
// reload must not throw answers away that are needed while the directory is down.
func newDirectories(cfg *config.Config, old *directories, now func() time.Time, log *slog.Logger) (*directories, error) {
	d := &directories{made: directoryOptions{settings: cfg.LDAP, attributes: cfg.LDAPAttributes(), timeout: cfg.Timeouts.LDAP}}
	if path := cfg.LDAP.CAFile; path != "" {
		ca, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read ldap.ca_file: %w", err)
		}
		d.made.ca = string(ca)
	}
	if old != nil && reflect.DeepEqual(d.made, old.made) {
		return old, nil
	}
	if !cfg.LDAP.Configured() {
		return d, nil
	}
	opt := ldap.Options{Settings: cfg.LDAP, Attributes: d.made.attributes, Timeout: d.made.timeout, Now: now, Log: log}
	var err1, err2 error
	d.root, err1 = ldap.New(opt)
	d.user, err2 = ldap.New(opt)
	return d, errors.Join(err1, err2)
}

// into puts the clients into a state; a nil client must not become an interface
// that looks like one.
func (d *directories) into(s *login.State) {
	if d.root != nil {
		s.LDAP, s.UserLDAP = d.root, d.user
	}
}

func (d *directories) close() {
	if d.root != nil {
		d.root.Close()
		d.user.Close()
	}
}

// replaceDirectories puts new clients in the place of the old ones, which close
// when no login that began with them can still ask: look-ups end with nss_timeout.
func (d *running) replaceDirectories(next *directories) {
	old := d.directories
	d.directories = next
	if old != nil && old != next {
		time.AfterFunc(d.engine.Config().Timeouts.NSS+time.Second, old.close)
	}
}

// checkGECOS names the mappings that take what users of this host may write.
func checkGECOS(cfg *config.Config) error {
	var errs []error
	mappings := cfg.Mappings()
	for _, name := range slices.Sorted(maps.Keys(mappings)) {
		if err := (person.GECOS{}).Writable(mappings[name]); err != nil {
			errs = append(errs, fmt.Errorf("services.%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// checkLDAP finds what a directory could not be asked with, and what a mapping
// could not use, without asking anybody.
func checkLDAP(cfg *config.Config) error {
	d, err := newDirectories(cfg, nil, time.Now, slog.New(slog.DiscardHandler))
	if err == nil {
		d.close()
	}
	return errors.Join(err, checkGECOS(cfg))
}
