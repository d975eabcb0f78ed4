// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// hotpPerDay is how far counters move for each begun day since the backup.
const hotpPerDay = 10

// RestoreOptions say what to restore, and where to.
type RestoreOptions struct {
	Dir        string
	In         string
	Identities []age.Identity // open an encrypted archive
	// KeysDir holds keys.json, and ca.key with a private CA, for an archive that
	// was made without keys.
	KeysDir string
	// HOTPAdvance is how far the counters of HOTP tokens move; negative: by the age of the backup.
	HOTPAdvance int64
	KeepBypass  bool
	Now         func() time.Time
}

// Restored says what a restore has done.
type Restored struct {
	Manifest Manifest             `json:"backup"`
	HOTP     int64                `json:"hotp_advance"`
	Void     store.RestoredCounts `json:"void"`
	// Missing are files that the configuration names and that were not in the
	// archive: they must be there before the verifier starts.
	Missing []string `json:"missing"`
}

// Restore makes a data directory of a backup and makes void in it what may have
// been used since. The directory must hold nothing; after an error it holds nothing.
func Restore(ctx context.Context, o RestoreOptions) (r Restored, err error) {
	in, err := os.Open(o.In)
	if err != nil {
		return r, fmt.Errorf("read backup: %w", err)
	}
	defer in.Close()
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return r, fmt.Errorf("find the data directory: %w", err)
	}
	err = datadir.Fill(o.Dir, func(stage string) error {
		r.Manifest, err = read(in, o.Identities, func(f File, content io.Reader) error { return extract(stage, f, content) })
		if err != nil {
			return fmt.Errorf("restore %s: %w", o.In, err)
		}
		if err := o.takeKeys(stage, r.Manifest); err != nil {
			return err
		}
		if r.HOTP = o.HOTPAdvance; r.HOTP < 0 {
			r.HOTP = hotpPerDay * (1 + max(0, int64(o.Now().Sub(r.Manifest.Created)/(24*time.Hour))))
		}
		if r.Void, err = o.settle(ctx, stage, r); err != nil {
			return fmt.Errorf("restore %s: %w", o.In, err)
		}
		return moveAdmin(stage, r.Manifest.Dir, o.Dir)
	})
	if err != nil {
		return Restored{}, err
	}
	for _, path := range r.Manifest.Outside {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			r.Missing = append(r.Missing, path)
		}
	}
	return r, nil
}

func extract(stage string, f File, content io.Reader) error {
	path := filepath.Join(stage, f.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeNew(path, content, f.Mode)
}

func writeNew(path string, content io.Reader, mode os.FileMode) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Chmod(mode), out.Sync(), out.Close())
}

// takeKeys adds the keys that the archive was made without.
func (o RestoreOptions) takeKeys(stage string, m Manifest) error {
	if m.Keys {
		if o.KeysDir != "" {
			return errors.New("the backup holds its keys: leave --keys out")
		}
		return nil
	}
	if o.KeysDir == "" {
		return errors.New("the backup was made without keys: name the directory that holds keys.json and ca.key by --keys")
	}
	needed := []string{config.SealKeys}
	if _, err := os.Stat(filepath.Join(stage, config.CACert)); err == nil {
		needed = append(needed, config.CAKey)
	}
	for _, name := range needed {
		in, err := os.Open(filepath.Join(o.KeysDir, name))
		if err != nil {
			return fmt.Errorf("--keys: %w", err)
		}
		if err := errors.Join(writeNew(filepath.Join(stage, name), in, 0o600), in.Close()); err != nil {
			return fmt.Errorf("--keys: %w", err)
		}
	}
	return nil
}

// settle looks whether keys and database belong together, and makes void what
// may have been used since the backup.
func (o RestoreOptions) settle(ctx context.Context, stage string, r Restored) (counts store.RestoredCounts, err error) {
	keys, err := seal.Load(filepath.Join(stage, config.SealKeys))
	if err != nil {
		return counts, err
	}
	path := filepath.Join(stage, config.Database)
	if _, err := os.Stat(path); err != nil {
		return counts, fmt.Errorf("the backup holds no database: %w", err)
	}
	db, err := sqlite.Open(ctx, path) // brings the schema of an earlier release up to date
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Check(ctx); err != nil {
		return counts, err
	}
	if err := db.View(ctx, func(rd store.Reader) error { return opens(rd, keys) }); err != nil {
		return counts, err
	}
	err = db.Update(ctx, func(w store.Writer) error {
		now := o.Now()
		counts, err = w.AfterRestore(store.Restored{
			Now: now, TOTPAhead: factor.TOTPAhead, HOTPAdvance: r.HOTP, KeepBypass: o.KeepBypass,
		})
		if err != nil {
			return err
		}
		text, err := json.Marshal(map[string]any{"backup_of": r.Manifest.Created.Unix(), "void": counts, "hotp_advance": r.HOTP})
		if err != nil {
			return err
		}
		return w.AddAdminEvent(store.AdminEvent{Time: now, Username: "sallyport-verifier restore", Action: "restore", Description: text})
	})
	return counts, err
}

// opens looks whether the keys open every sealed value.
func opens(r store.Reader, keys *seal.Keys) error {
	for _, column := range store.SealedColumns() {
		for after := ""; ; {
			rows, err := r.SealedUnder(column, 0, true, after, 500)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if _, err := keys.Open(row.Value, row.Identity()...); err != nil {
					return fmt.Errorf("the keys are not those of the database: %s of %s: %w", column, row.ID, err)
				}
				after = row.ID
			}
			if len(rows) == 0 {
				break
			}
		}
	}
	return nil
}

// moveAdmin corrects the path in admin.json, if the directory is another one now.
func moveAdmin(stage, before, now string) error {
	path := filepath.Join(stage, config.AdminFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var p duoapi.Profile
	if err := json.Unmarshal(text, &p); err != nil || p.CAFile != filepath.Join(before, config.CACert) {
		return nil //nolint:nilerr // not as init made it: leave it
	}
	p.CAFile = filepath.Join(now, config.CACert)
	if text, err = json.MarshalIndent(p, "", "  "); err != nil {
		return err
	}
	return durable.Replace(path, append(text, '\n'), 0o600)
}
