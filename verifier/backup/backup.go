// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// Options say what to back up, and where to.
type Options struct {
	Dir        string
	ConfigFile string // blank: the one in Dir
	Out        string
	// WithoutKeys leaves out all that opens something: keys, credentials, secrets.
	WithoutKeys bool
	// Recipients encrypt the archive; none: it is not encrypted.
	Recipients []age.Recipient
	Now        func() time.Time
}

// secret are the files that WithoutKeys leaves out. The server's certificate
// goes with its key: it is made anew.
func secret() []string {
	return []string{config.SealKeys, config.CAKey, config.ServerKey, config.ServerCert, config.AdminFile}
}

// Make writes a backup to o.Out and reads it back. What was acknowledged before
// it began is in it. After an error a file that was there before is still there.
func Make(ctx context.Context, o Options) (m Manifest, err error) {
	c, err := datadir.LoadConfig(o.Dir, o.ConfigFile)
	if err != nil {
		return m, err
	}
	m = Manifest{Format: format, Created: o.Now().UTC(), Program: version.String(), URL: c.Base().String(), Keys: !o.WithoutKeys}
	if m.Dir, err = filepath.Abs(o.Dir); err != nil {
		return m, fmt.Errorf("find the data directory: %w", err)
	}
	partial, unlock, err := workplace(o.Out)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(partial)); unlock() }()
	at, err := collect(ctx, o, c, &m, partial)
	if err != nil {
		return m, fmt.Errorf("back up %s: %w", o.Dir, err)
	}
	archive := filepath.Join(partial, "archive")
	if err := pack(archive, o.Recipients, m, at); err != nil {
		return m, fmt.Errorf("back up to %s: %w", o.Out, err)
	}
	if err := os.Rename(archive, o.Out); err != nil {
		return m, fmt.Errorf("back up to %s: %w", o.Out, err)
	}
	return m, durable.SyncDir(filepath.Dir(o.Out))
}

// workplace makes a folder beside out for what is not finished, and empties one
// that a backup left that was killed.
func workplace(out string) (dir string, unlock func(), err error) {
	if info, err := os.Lstat(out); err == nil && !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("back up to %s: it is there and is not a file", out)
	}
	dir = out + ".partial"
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", nil, fmt.Errorf("make a place for the backup: %w", err)
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return "", nil, fmt.Errorf("make a place for the backup: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a place for the backup: %w", err), f.Close())
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return "", nil, errors.Join(fmt.Errorf("%s is there, and is not this user's alone: remove it, or write the backup into a directory where nobody else can write", dir), f.Close())
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return "", nil, errors.Join(fmt.Errorf("another backup to %s is under way: %w", out, err), f.Close())
	}
	left, err := os.ReadDir(dir)
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("remove what another backup has left: %w", err), f.Close())
	}
	return dir, func() { _ = f.Close() }, nil
}

// collect copies the database and lists all files with where they are. The keys
// stay as they are until that is done, so that they fit the database.
func collect(ctx context.Context, o Options, c *config.Config, m *Manifest, partial string) (at map[string]string, err error) {
	release, err := seal.Hold(ctx, filepath.Join(o.Dir, config.SealKeys))
	if err != nil {
		return nil, err
	}
	defer release()
	database := filepath.Join(partial, config.Database)
	if err := sqlite.Copy(ctx, filepath.Join(o.Dir, config.Database), database); err != nil {
		return nil, err
	}
	at = map[string]string{config.Database: database}
	// The directory is the service's, and this process may be root: no link that leads
	// out of it is followed.
	dir, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	keep := func(name string) error {
		from, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if name == config.FileName && o.ConfigFile != "" {
			from, err = os.Open(o.ConfigFile)
		}
		if err != nil {
			return err
		}
		defer from.Close()
		copied := filepath.Join(partial, fmt.Sprintf("file%d", len(at)))
		at[name] = copied
		return setAside(from, copied)
	}
	for _, name := range []string{config.FileName, config.CACert, config.CAKey, config.SealKeys, config.ServerKey, config.ServerCert, config.AdminFile} {
		if o.WithoutKeys && slices.Contains(secret(), name) {
			continue
		}
		if err := keep(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := collectNamed(o, c, m, at, keep); err != nil {
		return nil, err
	}
	for name, path := range at {
		f, err := describe(name, path)
		if err != nil {
			return nil, err
		}
		m.Files = append(m.Files, f)
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return at, nil
}

// maxFile is the most that a file of the data directory beside the database may have, in bytes.
const maxFile = 16 << 20

// setAside copies a regular file into another that is not there yet.
func setAside(from *os.File, to string) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return fmt.Errorf("%s is not a file of at most %d bytes", from.Name(), maxFile)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(from, maxFile))
	return errors.Join(err, f.Chmod(info.Mode().Perm()), f.Close())
}

// collectNamed adds the files that the configuration names, if they are in the data directory.
func collectNamed(o Options, c *config.Config, m *Manifest, at map[string]string, keep func(name string) error) error {
	for _, f := range c.Files() {
		path, err := filepath.Abs(f.Path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(m.Dir, path)
		switch {
		case err != nil || !filepath.IsLocal(name):
			m.Outside = append(m.Outside, path)
		case at[name] != "" || o.WithoutKeys && f.Secret:
		default:
			if err := keep(name); err != nil {
				return fmt.Errorf("%s: %w", f.Key, err)
			}
		}
	}
	return nil
}

// pack writes the archive, synced, and reads it back.
func pack(path string, recipients []age.Recipient, m Manifest, at map[string]string) error {
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	key := &fileKey{}
	if len(recipients) == 0 {
		err = write(out, m, at)
	} else {
		err = encrypt(out, key.of(recipients), m, at)
	}
	if err := errors.Join(err, out.Sync()); err != nil {
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var identities []age.Identity
	if key.key != nil {
		identities = []age.Identity{age.NewInjectedFileKeyIdentity(key.key)}
	}
	_, err = read(out, identities, func(File, io.Reader) error { return nil })
	if err != nil {
		return fmt.Errorf("it does not read back: %w", err)
	}
	return out.Close()
}

func encrypt(to io.Writer, recipients []age.Recipient, m Manifest, at map[string]string) error {
	sealed, err := age.Encrypt(to, recipients...)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return errors.Join(write(sealed, m, at), sealed.Close())
}

// fileKey learns the key of one file from its encryption, so that what was
// written can be read back without the recipient's own key.
type fileKey struct{ key []byte }

func (k *fileKey) of(recipients []age.Recipient) []age.Recipient {
	out := make([]age.Recipient, len(recipients))
	for i, r := range recipients {
		out[i] = listener{r, k}
	}
	return out
}

type listener struct {
	age.Recipient
	to *fileKey
}

// WrapWithLabels implements age.RecipientWithLabels.
func (l listener) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	l.to.key = slices.Clone(key)
	if r, ok := l.Recipient.(age.RecipientWithLabels); ok {
		return r.WrapWithLabels(key)
	}
	stanzas, err := l.Recipient.Wrap(key)
	return stanzas, nil, err
}
