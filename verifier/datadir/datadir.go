// SPDX-License-Identifier: Apache-2.0

// Package datadir owns a verifier's data directory: it makes one, opens one, and
// keeps two servers from sharing one. It never changes what an administrator set.
package datadir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
	"github.com/sallyport-mfa/sallyport/verifier/telephony"
)

// maxLogo bounds the logo file, in bytes.
const maxLogo = 200 << 10

// Data is an open data directory.
type Data struct {
	Dir       string
	Config    *config.Config
	Keys      *seal.Keys
	Store     *sqlite.DB
	Certs     *certs.Source
	CAPEM     string // blank with given certificates
	Logo      []byte
	Telephony *telephony.Provider // nil: off
	Directory *directory.Directory
}

// Open reads everything in dir; configFile is blank for the one in dir. Close it.
func Open(ctx context.Context, dir, configFile string, now func() time.Time) (*Data, error) {
	d, pin, err := load(dir, configFile, now, true)
	if err != nil {
		return nil, err
	}
	if d.Store, err = sqlite.Open(ctx, d.path(config.Database)); err != nil {
		return nil, err
	}
	d.Directory = &directory.Directory{
		Store: d.Store, Keys: d.Keys, Base: d.Config.Base(), Pin: pin, CAPEM: d.CAPEM, Now: now, Random: rand.Reader,
	}
	return d, nil
}

// Check reads what Open would, but changes nothing: it neither opens the
// database, whose form Open may bring up to date, nor looks whether the private
// CA's certificate is due, which Open would renew.
func Check(dir, configFile string, now func() time.Time) (*config.Config, error) {
	d, _, err := load(dir, configFile, now, false)
	if err != nil {
		return nil, err
	}
	return d.Config, nil
}

// load reads everything but the content of the database.
func load(dir, configFile string, now func() time.Time, renew bool) (d *Data, pin []byte, err error) {
	d = &Data{Dir: dir}
	if d.Config, err = LoadConfig(dir, configFile); err != nil {
		return nil, nil, err
	}
	if d.Keys, err = seal.Load(d.path(config.SealKeys)); err != nil {
		return nil, nil, err
	}
	if pin, err = d.openCerts(now, renew); err != nil {
		return nil, nil, err
	}
	if d.Config.LogoFile != "" {
		if d.Logo, err = readLogo(d.Config.LogoFile); err != nil {
			return nil, nil, err
		}
	}
	if d.Config.Telephony.URL != "" {
		if d.Telephony, err = telephony.New(d.Config.Telephony, d.Config.Base(), now); err != nil {
			return nil, nil, err
		}
	}
	if _, err := os.Stat(d.path(config.Database)); err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err) // never make an empty one in its place
	}
	return d, pin, nil
}

// LoadConfig reads configFile, or the file in dir if that is blank.
func LoadConfig(dir, configFile string) (*config.Config, error) {
	if configFile != "" {
		return config.Load(configFile)
	}
	path := filepath.Join(dir, config.FileName)
	c, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; `sallyport-verifier init --data %s --url https://HOST:PORT` makes it", err, dir)
	}
	return c, err
}

func (d *Data) path(name string) string { return filepath.Join(d.Dir, name) }

func (d *Data) openCerts(now func() time.Time, renew bool) (pin []byte, err error) {
	host := d.Config.Base().Hostname()
	if !d.Config.OwnCA() {
		if d.Certs, err = certs.Given(d.Config.CertFile, d.Config.KeyFile, now); err != nil {
			return nil, err
		}
		if err := d.Certs.Covers(host); err != nil {
			return nil, fmt.Errorf("cert_file does not fit the url: %w", err)
		}
		return nil, nil
	}
	ca, err := certs.LoadCA(d.path(config.CACert), d.path(config.CAKey))
	if err != nil {
		return nil, err
	}
	d.CAPEM = string(ca.PEM())
	if renew {
		d.Certs, err = certs.Own(ca, host, d.path(config.ServerCert), d.path(config.ServerKey), now)
	}
	return invite.PinOf(ca.Cert), err
}

func readLogo(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read logo: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLogo+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read logo: %w", err)
	case len(b) > maxLogo:
		return nil, fmt.Errorf("read logo: %s is over %d bytes", path, maxLogo)
	case !strings.HasPrefix(string(b), "\x89PNG\r\n\x1a\n"):
		return nil, fmt.Errorf("read logo: %s is not a PNG", path)
	}
	return b, nil
}

// Close closes the store.
func (d *Data) Close() error { return d.Store.Close() }

// Lock keeps a second server off dir until release is called or the process ends.
func Lock(dir string) (release func(), err error) {
	path := filepath.Join(dir, config.LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 16))
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another sallyport-verifier (pid %s) serves %s: stop that one first", printablePID(pid), dir)
		}
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	// The number is for that message alone; the lock is the kernel's.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	return func() { _ = f.Close() }, nil
}

func printablePID(b []byte) string {
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return strconv.Itoa(n)
	}
	return "unknown"
}
