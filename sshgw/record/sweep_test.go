// SPDX-License-Identifier: Apache-2.0

package record

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// put makes a file of an age in days.
func put(t *testing.T, r *Recorder, name string, days int) string {
	t.Helper()
	path := filepath.Join(r.opt.Dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	at := began.AddDate(0, 0, -days)
	must(t, os.Chtimes(path, at, at))
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestSweepRemovesWhatIsOldAndNothingElse(t *testing.T) {
	r := recorder(t, func(o *Options) { o.KeepDays = 30; o.Now = func() time.Time { return began } })
	outside := put(t, &Recorder{opt: Options{Dir: t.TempDir()}}, "20250101T000000Z-x.cast", 400)
	gone := []string{
		put(t, r, "2026-01-01/20260101T000000Z-a.cast", 59),
		put(t, r, "2026-01-01/20260101T000000Z-b.2.cast.age", 59),
	}
	kept := []string{
		put(t, r, "2026-01-02/20260102T000000Z-long.cast", 3), // it was written to until then
		put(t, r, "2026-02-27/20260227T000000Z-new.cast", 2),
		put(t, r, "2026-01-02/notes.txt", 400),
		put(t, r, "other/20250101T000000Z-x.cast", 400),
		put(t, r, "20250101T000000Z-x.cast", 400),
		outside,
	}
	// A live one, although its clock stands still.
	m := meta()
	m.Started = began.AddDate(0, 0, -59)
	live := begin(t, r, m)
	defer live.Close()
	path := filepath.Join(r.opt.Dir, live.Name())
	old := began.AddDate(0, 0, -58)
	must(t, os.Chtimes(path, old, old))
	kept = append(kept, path)
	// Links: to a folder, and to a file.
	must(t, os.Symlink(filepath.Dir(outside), filepath.Join(r.opt.Dir, "2025-05-05")))
	link := filepath.Join(r.opt.Dir, "2026-01-02", "20260102T000000Z-link.cast")
	must(t, os.Symlink(outside, link))
	kept = append(kept, filepath.Join(r.opt.Dir, "2025-05-05"), link)

	n, more, err := r.Sweep(t.Context())
	if n != len(gone) || more || err != nil {
		t.Errorf("Sweep: %d, %v, %v", n, more, err)
	}
	for _, p := range gone {
		if exists(p) {
			t.Errorf("%s is still there", p)
		}
	}
	for _, p := range kept {
		if !exists(p) {
			t.Errorf("%s is gone", p)
		}
	}
}

func TestSweepRemovesFoldersThatAreEmpty(t *testing.T) {
	r := recorder(t, func(o *Options) { o.KeepDays = 1; o.Now = func() time.Time { return began } })
	day := filepath.Dir(put(t, r, "2025-01-01/20250101T000000Z-a.cast", 400))
	_, _, err := r.Sweep(t.Context())
	must(t, err)
	if exists(day) {
		t.Error("the folder is still there")
	}
	r.opt.KeepDays = 0
	left := put(t, r, "2025-01-01/20250101T000000Z-a.cast", 400)
	if n, _, err := r.Sweep(t.Context()); n != 0 || err != nil || !exists(left) {
		t.Errorf("for ever: %d, %v", n, err)
	}
}

func TestList(t *testing.T) {
	r := recorder(t, nil)
	put(t, r, "2026-02-28/20260228T235959Z-early.cast", 1)
	put(t, r, "2026-02-28/notes.txt", 1)
	put(t, r, "2026-03-01/20260301T080000Z-b.cast.age", 0)
	put(t, r, "2026-03-02/20260302T080000Z-late.cast", 0)
	live := begin(t, r, meta())
	got, err := List(t.Context(), r.opt.Dir, began.Add(-12*time.Hour), began.Add(12*time.Hour))
	must(t, err)
	want := []Listed{
		{Name: "2026-02-28/20260228T235959Z-early.cast", Channel: "early", Started: time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC), Size: 1},
		{Name: "2026-03-01/20260301T080000Z-b.cast.age", Channel: "b", Started: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC), Size: 1, Sealed: true},
		{Name: live.Name(), Channel: "s1", Started: began, Live: true},
	}
	for i := range got {
		if got[i].Live {
			got[i].Size = 0
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed: %+v", got)
	}
	must(t, live.Close())
}
