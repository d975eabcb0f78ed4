// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
)

func identity(t *testing.T) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	return id
}

func TestASealedRecordingOpensToItsRecipientsAlone(t *testing.T) {
	alice, bob, eve := identity(t), identity(t), identity(t)
	r := recorder(t, func(o *Options) { o.Recipients = []string{alice.Recipient().String(), bob.Recipient().String()} })
	rec := begin(t, r, meta())
	secret := strings.Repeat("a secret of the target\r\n", 20_000)
	must(t, rec.Output([]byte(secret)))
	must(t, rec.Close())
	path := filepath.Join(r.opt.Dir, rec.Name())
	if !strings.HasSuffix(path, ".cast.age") {
		t.Errorf("its name is %s", path)
	}
	text, err := os.ReadFile(path)
	must(t, err)
	for _, word := range []string{"secret", "alice", "version"} {
		if bytes.Contains(text, []byte(word)) {
			t.Errorf("the file tells %q", word)
		}
	}
	for _, key := range []age.Identity{alice, bob} {
		c, events, err := readAll(t, path, key)
		must(t, err)
		if said(events, Output) != secret || c.Info.User != "alice" || !c.Info.Sealed {
			t.Error("a recipient reads something else")
		}
	}
	if _, _, err := readAll(t, path); !errors.Is(err, ErrSealed) {
		t.Errorf("without a key: %v", err)
	}
	if _, _, err := readAll(t, path, eve); !errors.Is(err, ErrSealed) {
		t.Errorf("with another key: %v", err)
	}
}

// sealedFile is a whole sealed recording of numbered lines.
func sealedFile(t *testing.T, key *age.X25519Identity) (text []byte, written string) {
	t.Helper()
	r := recorder(t, func(o *Options) { o.Recipients = []string{key.Recipient().String()} })
	rec := begin(t, r, meta())
	var all strings.Builder
	for n := range 20_000 {
		line := fmt.Sprintf("line %06d\r\n", n)
		all.WriteString(line)
		must(t, rec.Output([]byte(line)))
	}
	must(t, rec.Close())
	text, err := os.ReadFile(filepath.Join(r.opt.Dir, rec.Name()))
	must(t, err)
	return text, all.String()
}

func TestASealedRecordingThatWasCutOffIsReadUpToTheLastWholeChunk(t *testing.T) {
	key := identity(t)
	text, all := sealedFile(t, key)
	const sealed = chunk + 16
	payload := len(text) % sealed // at most: head and the last chunk
	for _, cut := range []int{len(text) - 1, len(text) - payload, len(text) / 2, 3 * sealed, sealed + 5000} {
		path := filepath.Join(t.TempDir(), "cut.cast.age")
		must(t, os.WriteFile(path, text[:cut], 0o600))
		_, events, err := readAll(t, path, key)
		got := said(events, Output)
		if !errors.Is(err, ErrCut) || !strings.HasPrefix(all, got) {
			t.Fatalf("cut at %d: %v, %d bytes", cut, err, len(got))
		}
		// An event of 12 bytes takes 34 in the file: so much at least was whole.
		if least := (cut/sealed - 1) * chunk / 40 * 12; len(got) < least {
			t.Errorf("cut at %d: %d bytes are read, at least %d are whole", cut, len(got), least)
		}
	}
	path := filepath.Join(t.TempDir(), "head.cast.age")
	must(t, os.WriteFile(path, text[:1000], 0o600))
	if _, _, err := readAll(t, path, key); !errors.Is(err, ErrCut) {
		t.Errorf("less than a chunk: %v", err)
	}
}

func TestASealedRecordingThatWasChangedIsReadUpToTheChange(t *testing.T) {
	key := identity(t)
	text, all := sealedFile(t, key)
	text[len(text)/2] ^= 1
	path := filepath.Join(t.TempDir(), "changed.cast.age")
	must(t, os.WriteFile(path, text, 0o600))
	_, events, err := readAll(t, path, key)
	if got := said(events, Output); !errors.Is(err, ErrCut) || !strings.HasPrefix(all, got) || len(got) == 0 {
		t.Errorf("%v, %d bytes", err, len(got))
	}
}

// A crash must not lose hours of a quiet session because a chunk is not full.
func TestAQuietSealedRecordingIsReadableWithinSeal(t *testing.T) {
	key := identity(t)
	synctest.Test(t, func(t *testing.T) {
		r := recorder(t, func(o *Options) {
			o.Recipients, o.Now, o.Seal = []string{key.Recipient().String()}, time.Now, 20*time.Second
		})
		m := meta()
		m.Started = time.Now()
		rec := begin(t, r, m)
		path := filepath.Join(r.opt.Dir, rec.Name())
		var all string
		for n := range 3 {
			line := fmt.Sprintf("typed slowly %d\r\n", n)
			all += line
			must(t, rec.Output([]byte(line)))
			time.Sleep(25 * time.Second)
			synctest.Wait()
			// What a crash now would leave.
			_, events, err := readAll(t, path, key)
			if !errors.Is(err, ErrCut) || said(events, Output) != all {
				t.Errorf("%q can be read, of %q (%v)", said(events, Output), all, err)
			}
		}
		info, err := os.Stat(path)
		must(t, err)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		after, err := os.Stat(path)
		must(t, err)
		if info.Size() != after.Size() {
			t.Error("a sealed recording that is idle grows")
		}
		must(t, rec.Close())
		_, events, err := readAll(t, path, key)
		must(t, err)
		if said(events, Output) != all {
			t.Errorf("at the end %q can be read", said(events, Output))
		}
	})
}
