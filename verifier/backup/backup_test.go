// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
)

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := datadir.Init(t.Context(), datadir.InitOptions{Dir: dir, URL: "https://verifier.example:8443"}, time.Now); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An archive for a recipient is read back although its key is not at hand, and
// holds the files that the configuration names inside the directory.
func TestEncrypted(t *testing.T) {
	dir := newDir(t)
	secret := filepath.Join(dir, "secrets", "provider")
	outside := filepath.Join(t.TempDir(), "logo.png")
	for path, text := range map[string]string{secret: "whsec_" + strings.Repeat("A", 40), outside: "\x89PNG\r\n\x1a\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, config.FileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("logo_file = \"" + outside + "\"\n[telephony]\nurl = \"https://provider.example\"\nsecret_file = \"secrets/provider\"\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "b")
	m, err := Make(t.Context(), Options{Dir: dir, Out: out, Recipients: []age.Recipient{id.Recipient()}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Outside) != 1 || m.Outside[0] != outside {
		t.Errorf("outside: %q", m.Outside)
	}
	text, err := os.ReadFile(out)
	if err != nil || !bytes.HasPrefix(text, []byte(encrypted)) || bytes.Contains(text, []byte("verifier.example")) {
		t.Errorf("the archive is not encrypted: %v", err)
	}
	// Altered anywhere, it is refused, and the directory does not come to be.
	to := filepath.Join(t.TempDir(), "r")
	broken := filepath.Join(t.TempDir(), "broken")
	for _, at := range []int{len(text) / 2, len(text) - 1} {
		bad := bytes.Clone(text)
		bad[at] ^= 1
		if err := os.WriteFile(broken, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), RestoreOptions{Dir: to, In: broken, Identities: []age.Identity{id}, Now: time.Now}); err == nil {
			t.Fatalf("restored an archive with byte %d altered", at)
		}
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("something is left: %v", err)
		}
	}
	if err := os.Remove(outside); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(t.Context(), RestoreOptions{Dir: to, In: out, Identities: []age.Identity{id}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Missing) != 1 || r.Missing[0] != outside {
		t.Errorf("missing: %q", r.Missing)
	}
	if got, err := os.ReadFile(filepath.Join(to, "secrets", "provider")); err != nil || !strings.HasPrefix(string(got), "whsec_") {
		t.Errorf("the provider's secret: %q, %v", got, err)
	}
}

// An earlier backup stays until another is whole, and what a killed one has left
// beside it goes away.
func TestEarlierBackupStays(t *testing.T) {
	dir, out := newDir(t), filepath.Join(t.TempDir(), "b")
	o := Options{Dir: dir, Out: out, Now: time.Now}
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(out+".partial", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out+".partial", "archive"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(dir, config.Database)
	if err := os.Rename(database, database+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), o); err == nil {
		t.Fatal("backed up a directory without a database")
	}
	if after, err := os.ReadFile(out); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the earlier backup: %v", err)
	}
	if _, err := os.Stat(database); !errors.Is(err, os.ErrNotExist) {
		t.Error("a failing backup made an empty database")
	}
	if err := os.Rename(database+".away", database); err != nil {
		t.Fatal(err)
	}
	_, unlock, err := workplace(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another backup") {
		t.Errorf("two backups to one file: %v", err)
	}
	unlock()
	if _, err := Make(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the backup: %v, %v", left, err)
	}
}

// While keys are about to change the backup waits, and the other way round.
func TestHoldsKeys(t *testing.T) {
	dir := newDir(t)
	release, err := datadir.HoldKeys(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	keys, err := seal.Load(filepath.Join(dir, config.SealKeys))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := keys.DropOld(ctx, func() error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("keys changed while they were held: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	var good bytes.Buffer
	path := filepath.Join(f.TempDir(), "x")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		f.Fatal(err)
	}
	file, err := describe("a/x", path)
	if err != nil {
		f.Fatal(err)
	}
	m := Manifest{Format: format, Files: []File{file}}
	if err := write(&good, m, map[string]string{"a/x": path}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, archive []byte) {
		_, err := read(bytes.NewReader(archive), nil, func(f File, content io.Reader) error {
			if !filepath.IsLocal(f.Name) {
				t.Fatalf("a file outside of the directory: %q", f.Name)
			}
			return nil
		})
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a word")
		}
	})
}

// The service account, which owns the directory, gets no other file of this machine
// into a backup that root makes, and nobody else gets in the way of the copies.
func TestBackupFollowsNoLinkOut(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(outside, []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(path string) error{
		"a link":           func(path string) error { return os.Symlink(outside, path) },
		"a pipe":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"an endless file":  func(path string) error { return os.Symlink("/dev/zero", path) },
		"a very long file": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		dir, out := newDir(t), filepath.Join(t.TempDir(), "b")
		admin := filepath.Join(dir, config.AdminFile)
		if err := errors.Join(os.Remove(admin), plant(admin)); err != nil {
			t.Fatal(err)
		}
		if _, err := Make(t.Context(), Options{Dir: dir, Out: out, Now: time.Now}); err == nil {
			t.Errorf("%s went into the backup", name)
		}
	}
	dir, out := newDir(t), filepath.Join(t.TempDir(), "b")
	if err := errors.Join(os.Mkdir(out+".partial", 0o700), os.Chmod(out+".partial", 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), Options{Dir: dir, Out: out, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "this user's alone") {
		t.Errorf("copies where everyone can write: %v", err)
	}
}
