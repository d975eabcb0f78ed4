// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// InitOptions say what to make.
type InitOptions struct {
	Dir      string
	URL      string
	Listen   string // blank: all addresses, the port of URL
	CertFile string // blank: a private CA is made
	KeyFile  string
}

// staging is where the files are made before they move to their places.
const staging = ".init"

// Init makes keys, database, certificates, verifier.toml and admin.json in a
// data directory that has none of them. After an error nothing of them is there.
func Init(ctx context.Context, o InitOptions, now func() time.Time) (err error) {
	base, err := duoapi.ParseBase(o.URL)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	if err := o.absolute(); err != nil {
		return err
	}
	made, err := prepare(o.Dir)
	if err != nil {
		return err
	}
	owner, giveBack, err := takeOver(o.Dir)
	if err != nil {
		return err
	}
	stage := filepath.Join(o.Dir, staging)
	defer func() {
		err = errors.Join(err, os.RemoveAll(stage), giveBack())
		if err != nil && made {
			_ = os.Remove(o.Dir) // only if it is empty
		}
	}()
	if err := os.Mkdir(stage, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := fill(ctx, o, stage, base, now); err != nil {
		return fmt.Errorf("make data directory %s: %w", o.Dir, err)
	}
	return publish(o.Dir, stage, files(), owner)
}

func (o *InitOptions) absolute() error {
	for _, p := range []*string{&o.Dir, &o.CertFile, &o.KeyFile} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// files are all that Init makes, in the order in which they are put in place:
// what other programs look for comes last.
func files() []string {
	return []string{
		config.SealKeys, config.Database, config.CAKey, config.CACert, config.ServerKey, config.ServerCert,
		config.FileName, config.AdminFile,
	}
}

// prepare makes the directory and refuses one that is in use.
func prepare(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("make data directory: %w; make the directory above it first", err)
	case err == nil:
		return true, nil
	case !errors.Is(err, fs.ErrExist):
		return false, fmt.Errorf("make data directory: %w", err)
	}
	for _, f := range files() {
		if _, err := os.Lstat(filepath.Join(dir, f)); !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("%s holds a verifier already (%s): init never overwrites one; name another directory, or run serve", dir, f)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, staging)); err == nil {
		return false, fmt.Errorf("%s: an init is under way, or one was killed; in that case remove it and run init again", filepath.Join(dir, staging))
	}
	return false, nil
}

func fill(ctx context.Context, o InitOptions, stage string, base *url.URL, now func() time.Time) error {
	in := func(name string) string { return filepath.Join(stage, name) }
	keys, err := seal.Create(in(config.SealKeys), rand.Reader)
	if err != nil {
		return err
	}
	if err := makeCertificates(o, in, base.Hostname(), now); err != nil {
		return err
	}
	db, err := sqlite.Open(ctx, in(config.Database))
	if err != nil {
		return err
	}
	admin, err := newAdmin(ctx, &directory.Directory{Store: db, Keys: keys, Base: base, Now: now, Random: rand.Reader}, "", "init")
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	admin.APIHostname = base.Host
	if o.CertFile == "" {
		admin.CAFile = filepath.Join(o.Dir, config.CACert)
	}
	text, err := json.MarshalIndent(admin, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", config.AdminFile, err)
	}
	if err := write(in(config.AdminFile), append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := write(in(config.FileName), []byte(config.Text(base, o.Listen, o.CertFile, o.KeyFile)), 0o640); err != nil {
		return err
	}
	_, err = config.Load(in(config.FileName)) // finds a bad --listen or --cert
	return err
}

func makeCertificates(o InitOptions, in func(string) string, host string, now func() time.Time) error {
	if o.CertFile != "" {
		source, err := certs.Given(o.CertFile, o.KeyFile, now)
		if err != nil {
			return err
		}
		if err := source.Covers(host); err != nil {
			return fmt.Errorf("--cert: %w", err)
		}
		return nil
	}
	ca, err := certs.NewCA(host, now())
	if err != nil {
		return err
	}
	if err := ca.Save(in(config.CACert), in(config.CAKey)); err != nil {
		return err
	}
	return ca.Issue(host, in(config.ServerCert), in(config.ServerKey), now())
}

func newAdmin(ctx context.Context, d *directory.Directory, replace, who string) (duoapi.Profile, error) {
	made, err := d.NewAdmin(ctx, directory.Actor{Name: "sallyport-verifier " + who}, replace)
	return duoapi.Profile{IntegrationKey: made.Key, SecretKey: made.Secret}, err
}

func write(path string, text []byte, mode os.FileMode) error { return writeAs(path, text, mode, nil) }

// writeAs is write, and gives the file to owner unless that is nil. It does so by
// the open file: by name it could be made to give away another one, since the
// directory is the service's and the writer may be root.
func writeAs(path string, text []byte, mode os.FileMode, owner *syscall.Stat_t) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if owner != nil {
		err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// ownerOf is who owns a directory, if this process can give files to them.
func ownerOf(dir string) (*syscall.Stat_t, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("look for the owner of %s: %w", dir, err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return owner, nil
	}
	return nil, nil
}

// takeOver makes a directory root's alone while root works in it for the service
// account that owns it: who owns a directory can put links in place of what is in
// it, and root would give away what they lead to. The owner is nil if this process
// cannot give files to them. giveBack must be called.
func takeOver(dir string) (owner *syscall.Stat_t, giveBack func() error, err error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open the data directory: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("look for the owner of %s: %w", dir, err), f.Close())
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil, f.Close, nil
	}
	if owner.Uid == 0 {
		return owner, f.Close, nil
	}
	giveBack = func() error {
		return errors.Join(f.Chmod(info.Mode().Perm()), f.Chown(int(owner.Uid), int(owner.Gid)), f.Close())
	}
	if err := errors.Join(f.Chown(0, 0), f.Chmod(0o700)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("take %s over from its owner: %w", dir, err), giveBack())
	}
	return owner, giveBack, nil
}

// publish moves the files to their places, all or none, and gives them to the
// owner of the directory: init may run as root for a service that does not.
func publish(dir, stage string, names []string, owner *syscall.Stat_t) (err error) {
	var placed []string
	defer func() {
		for i := len(placed) - 1; err != nil && i >= 0; i-- {
			_ = os.Remove(placed[i])
		}
	}()
	for _, f := range names {
		from, to := filepath.Join(stage, f), filepath.Join(dir, f)
		if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
			continue // given certificates
		}
		if owner != nil {
			// Lchown, as in writeAs: never what a link points to.
			if err := os.Lchown(from, int(owner.Uid), int(owner.Gid)); err != nil {
				return fmt.Errorf("give %s to the owner of %s: %w", f, dir, err)
			}
		}
		if err := os.Rename(from, to); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		placed = append(placed, to)
	}
	return durable.SyncDir(dir)
}

// RecoverAdmin replaces the integration of admin.json, or that of key if not
// blank, by another with every grant, and writes admin.json anew. It is audited.
// It returns when a server that runs on dir refuses the old key.
func (d *Data) RecoverAdmin(ctx context.Context, key string) error {
	path := filepath.Join(d.Dir, config.AdminFile)
	if key == "" {
		var old duoapi.Profile
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &old)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read the key to revoke from %s: %w; name it by --revoke KEY, or remove the file if there is none to revoke", path, err)
		}
		key = old.IntegrationKey
	}
	admin, err := newAdmin(ctx, d.Directory, key, "recover-admin")
	if err != nil {
		return fmt.Errorf("make an administrator's integration: %w", err)
	}
	admin.APIHostname = d.Config.Base().Host
	if d.Config.OwnCA() {
		if admin.CAFile, err = filepath.Abs(filepath.Join(d.Dir, config.CACert)); err != nil {
			return fmt.Errorf("find %s: %w", config.CACert, err)
		}
	}
	text, err := json.MarshalIndent(admin, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", config.AdminFile, err)
	}
	if err := replace(path, append(text, '\n')); err != nil {
		return err
	}
	time.Sleep(sqlite.SeenWithin)
	return nil
}

func replace(path string, text []byte) error {
	owner, err := ownerOf(filepath.Dir(path))
	if err != nil {
		return err
	}
	name := path + ".new"
	_ = os.Remove(name) // of a recovery that was killed
	if err := writeAs(name, text, 0o600, owner); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(name, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.SyncDir(strings.TrimSuffix(filepath.Dir(path), "/"))
}
