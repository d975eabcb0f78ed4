// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// alarm is a clock that remembers what it was told.
type alarm struct {
	set   map[string]time.Duration
	fails error
}

func (a *alarm) Set(_ context.Context, id string, after time.Duration) error {
	if a.fails == nil {
		a.set[id] = after
	}
	return a.fails
}

func (a *alarm) Clear(_ context.Context, id string) error {
	delete(a.set, id)
	return nil
}

// bed is a host below a folder with two services.
type bed struct {
	*testing.T
	Host
	alarm *alarm
}

const oldSudo, newSudo = "auth required pam_unix.so\n", "auth required pam_unix.so\nauth required pam_sallyport.so\n"

func newBed(t *testing.T) *bed {
	t.Helper()
	root := t.TempDir()
	b := &bed{T: t, alarm: &alarm{set: map[string]time.Duration{}}}
	b.Host = Host{
		Root: root, Store: Store{Dir: filepath.Join(root, DefaultDir)}, Clock: b.alarm,
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
	b.write("etc/pam.d/sudo", oldSudo)
	return b
}

func (b *bed) write(name, text string) {
	b.Helper()
	path := filepath.Join(b.Root, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(text), 0o640))
	b.must(os.Chmod(path, 0o640))
	if os.Geteuid() == 0 {
		b.must(os.Chown(path, 0, 4711))
	}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) plan() *Plan {
	return &Plan{Action: Enable, Services: []string{"sudo", "polkit-1"}, Files: []File{
		{Path: "/etc/pam.d/polkit-1", After: new("new\n")},
		{Path: "/etc/pam.d/sudo", Before: new(oldSudo), After: new(newSudo)},
	}}
}

// holds asserts the text of a file, and that mode and owner are what they were.
func (b *bed) holds(name, want string) {
	b.Helper()
	path := filepath.Join(b.Root, "etc/pam.d", name)
	got, err := os.ReadFile(path)
	if want == "" {
		if !errors.Is(err, os.ErrNotExist) {
			b.Errorf("%s is there: %q, %v", name, got, err)
		}
		return
	}
	b.must(err)
	if string(got) != want {
		b.Errorf("%s holds %q, want %q", name, got, want)
	}
	info, err := os.Stat(path)
	b.must(err)
	stat := info.Sys().(*syscall.Stat_t)
	if name == "sudo" && (info.Mode().Perm() != 0o640 || os.Geteuid() == 0 && stat.Gid != 4711) {
		b.Errorf("%s has mode %o, group %d", name, info.Mode().Perm(), stat.Gid)
	}
	leftovers, err := filepath.Glob(filepath.Join(b.Root, "etc/pam.d/.*"))
	if err != nil || len(leftovers) > 0 {
		b.Errorf("left over: %q, %v", leftovers, err)
	}
}

func TestApplyAndTakeBack(t *testing.T) {
	b := newBed(t)
	c, err := b.Apply(t.Context(), b.plan(), time.Minute, nil)
	b.must(err)
	b.holds("sudo", newSudo)
	b.holds("polkit-1", "new\n")
	if b.alarm.set[c.ID] != time.Minute {
		t.Errorf("the clock is set to %v", b.alarm.set)
	}
	info, err := os.Stat(b.Store.Dir)
	b.must(err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of backups has mode %o", info.Mode().Perm())
	}
	if _, err := b.Apply(t.Context(), b.plan(), time.Minute, nil); !errors.Is(err, ErrPending) {
		t.Errorf("a second change: %v", err)
	}
	if _, err := b.TakeBack(t.Context(), "20250101T000000"); !errors.Is(err, ErrNothingPending) {
		t.Errorf("another change was taken back: %v", err)
	}
	for range 2 {
		_, err = b.TakeBack(t.Context(), c.ID)
		b.holds("sudo", oldSudo)
		b.holds("polkit-1", "")
	}
	if !errors.Is(err, ErrNothingPending) {
		t.Errorf("taken back twice: %v", err)
	}
	got, err := b.Store.Load(c.ID)
	b.must(err)
	if got.State != TakenBack || len(b.alarm.set) != 0 {
		t.Errorf("recorded as %s, clocks %v", got.State, b.alarm.set)
	}
	if _, err := b.Confirm(t.Context(), ""); !errors.Is(err, ErrNothingPending) {
		t.Errorf("confirmed after it was taken back: %v", err)
	}
}

func TestConfirm(t *testing.T) {
	b := newBed(t)
	c, err := b.Apply(t.Context(), b.plan(), time.Minute, nil)
	b.must(err)
	got, err := b.Confirm(t.Context(), "")
	b.must(err)
	if got.ID != c.ID || got.State != Confirmed || len(b.alarm.set) != 0 {
		t.Errorf("%+v, clocks %v", got, b.alarm.set)
	}
	if _, err := b.TakeBack(t.Context(), ""); !errors.Is(err, ErrNothingPending) {
		t.Errorf("taken back after it was confirmed: %v", err)
	}
	b.holds("sudo", newSudo)
}

// Without a clock nothing is changed.
func TestNoClockNoChange(t *testing.T) {
	b := newBed(t)
	b.alarm.fails = errors.New("no timer")
	if _, err := b.Apply(t.Context(), b.plan(), time.Minute, nil); err == nil || !strings.Contains(err.Error(), "no timer") {
		t.Errorf("applied: %v", err)
	}
	b.holds("sudo", oldSudo)
	if _, err := b.Store.Pending(); !errors.Is(err, ErrNothingPending) {
		t.Errorf("pending: %v", err)
	}
}

// What fails half-way is taken back at once.
func TestHalfApplied(t *testing.T) {
	b := newBed(t)
	b.must(os.MkdirAll(filepath.Join(b.Root, "etc/ssh/sshd_config.d"), 0o755))
	plan := b.plan()
	plan.Files = append(plan.Files, File{Path: DropIn, After: new("x\n")})
	b.SSHD = &SSHD{}
	_, err := b.Apply(t.Context(), plan, time.Minute, func(context.Context) error { return errors.New("sshd -t: bad") })
	if err == nil || !strings.Contains(err.Error(), "sshd -t: bad") {
		t.Errorf("applied: %v", err)
	}
	b.holds("sudo", oldSudo)
	b.holds("polkit-1", "")
	if _, err := os.Stat(filepath.Join(b.Root, DropIn)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the drop-in: %v", err)
	}
	if _, err := b.Store.Pending(); !errors.Is(err, ErrNothingPending) {
		t.Errorf("pending: %v", err)
	}
}

// A crash at any step leaves something that can be taken back.
func TestCrash(t *testing.T) {
	for files := range 3 {
		b := newBed(t)
		unlock, err := b.Store.lock(t.Context())
		b.must(err)
		c, err := b.Store.keep(b.Root, b.plan(), b.Now(), time.Minute)
		b.must(err)
		b.must(b.Store.markPending(c))
		for _, f := range c.Files[:files] {
			text, err := b.Store.text(c, f.After)
			b.must(err)
			b.must(replace(b.Root, f, text))
		}
		unlock()
		_, err = b.TakeBack(t.Context(), "")
		b.must(err)
		b.holds("sudo", oldSudo)
		b.holds("polkit-1", "")
	}
}

// What somebody has written since goes too, and is kept.
func TestWrittenSince(t *testing.T) {
	b := newBed(t)
	c, err := b.Apply(t.Context(), b.plan(), time.Minute, nil)
	b.must(err)
	b.write("etc/pam.d/sudo", "by hand\n")
	_, err = b.TakeBack(t.Context(), "")
	b.must(err)
	b.holds("sudo", oldSudo)
	got, err := os.ReadFile(filepath.Join(b.Store.Dir, c.ID, "sudo.found"))
	if err != nil || string(got) != "by hand\n" {
		t.Errorf("what was found is not kept: %q, %v", got, err)
	}
}

// A file that has changed since the plan was made is left alone.
func TestChangedSincePlan(t *testing.T) {
	b := newBed(t)
	b.write("etc/pam.d/sudo", "by hand\n")
	if _, err := b.Apply(t.Context(), b.plan(), time.Minute, nil); err == nil || !strings.Contains(err.Error(), "/etc/pam.d/sudo has changed") {
		t.Errorf("applied: %v", err)
	}
	b.holds("sudo", "by hand\n")
	if _, err := b.Store.Pending(); !errors.Is(err, ErrNothingPending) {
		t.Errorf("pending: %v", err)
	}
}

// A change that was taken back while this process stood still is not put in place.
func TestTakenBackMeanwhile(t *testing.T) {
	b := newBed(t)
	b.SSHD = &SSHD{Run: func(context.Context, string, ...string) ([]byte, error) { return nil, nil }}
	plan := b.plan()
	plan.Files = append(plan.Files, File{Path: DropIn, After: new("x\n")})
	_, err := b.Apply(t.Context(), plan, time.Minute, func(context.Context) error {
		return os.Remove(filepath.Join(b.Store.Dir, pendingName))
	})
	if err == nil || !strings.Contains(err.Error(), "taken back before it was in place") {
		t.Errorf("applied: %v", err)
	}
	b.holds("sudo", oldSudo)
}

func TestWait(t *testing.T) {
	b := newBed(t)
	c, err := b.Apply(t.Context(), b.plan(), time.Minute, nil)
	b.must(err)
	b.must(b.Store.Wait(t.Context(), c.ID, time.Millisecond))
	_, err = b.Confirm(t.Context(), "")
	b.must(err)
	if err := b.Store.Wait(t.Context(), c.ID, time.Hour); !errors.Is(err, ErrNothingPending) {
		t.Errorf("waited for what is settled: %v", err)
	}
}

func TestLabelSurvives(t *testing.T) {
	b := newBed(t)
	path := filepath.Join(b.Root, "etc/pam.d/sudo")
	const label = "system_u:object_r:etc_t:s0"
	want := label
	if err := setLabel(path, label); errors.Is(err, syscall.EPERM) {
		want = "" // only root may write labels, and an ordinary user's files have none
	} else if err != nil {
		t.Fatalf("label a file: %v", err)
	}
	_, err := b.Apply(t.Context(), b.plan(), time.Minute, nil)
	b.must(err)
	k, err := properties(b.Root, "/etc/pam.d/sudo")
	b.must(err)
	if k.Label != want {
		t.Errorf("the label is %q, want %q", k.Label, want)
	}
}
