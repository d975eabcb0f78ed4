// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func believed(t *testing.T, f Folder, kind Kind) []string {
	t.Helper()
	text, err := f.Public(kind, "*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(l)
		for i, w := range fields {
			if strings.HasPrefix(w, "ssh-") || strings.HasPrefix(w, "ecdsa-") {
				key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.Join(fields[i:], " ")))
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, ssh.FingerprintSHA256(key))
				break
			}
		}
	}
	return out
}

func step(t *testing.T, r *Ring, f Folder, kind Kind, want Stage) {
	t.Helper()
	done, err := f.Rotate(kind, time.Hour)
	if err != nil || done != want {
		t.Fatalf("rotate %s: %q, %v; want %q", kind, done, err, want)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
}

func TestRotatingTheUserCALocksNobodyOut(t *testing.T) {
	r, f, c := open(t)
	signs := func() string {
		s, err := r.UserFor(Person{Principal: "root"})
		if err != nil {
			t.Fatal(err)
		}
		return ssh.FingerprintSHA256(s.PublicKey().(*ssh.Certificate).SignatureKey)
	}
	old := signs()
	file := func() string {
		text, err := os.ReadFile(filepath.Join(f.Dir, "user_ca.pub"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}

	step(t, r, f, UserCA, Coming)
	both := believed(t, f, UserCA)
	if signs() != old || len(both) != 2 || both[0] != old || strings.Count(file(), "\n") != 2 {
		t.Errorf("step one: signed by %s, believed %q; want the old key to sign and both published", signs(), both)
	}
	if _, err := f.Rotate(UserCA, time.Hour); !errors.Is(err, ErrTooEarly) || strings.Count(file(), "\n") != 2 {
		t.Errorf("step two at once: %v", err)
	}
	if err := f.Finish(UserCA); err == nil {
		t.Error("finished before the new key has taken over")
	}

	c.t = c.t.Add(2 * time.Hour)
	step(t, r, f, UserCA, Current)
	if signs() == old || signs() != both[1] || !slices.Equal(believed(t, f, UserCA), []string{both[1], old}) {
		t.Errorf("step two: signed by %s, believed %q; want the new key to sign and both published", signs(), believed(t, f, UserCA))
	}
	if _, err := f.Rotate(UserCA, time.Hour); err == nil || !strings.Contains(err.Error(), "--finish") {
		t.Errorf("a change began before the last was over: %v", err)
	}

	if err := f.Finish(UserCA); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if signs() != both[1] || !slices.Equal(believed(t, f, UserCA), both[1:]) || strings.Contains(file(), "retired") {
		t.Errorf("step three: believed %q", believed(t, f, UserCA))
	}
	if err := f.Finish(UserCA); err == nil {
		t.Error("finished twice")
	}
}

func TestRotatingHostKeysAnnouncesThemFirst(t *testing.T) {
	r, f, c := open(t)
	old := prints(r.HostSigners())
	step(t, r, f, Host, Coming)
	if !slices.Equal(prints(r.HostSigners()), old) || len(r.Announced()) != 4 || !slices.Equal(prints(r.Announced())[:2], old) {
		t.Errorf("step one: offered %q, announced %q", prints(r.HostSigners()), prints(r.Announced()))
	}
	coming := prints(r.Announced())[2:]
	c.t = c.t.Add(2 * time.Hour)
	step(t, r, f, Host, Current)
	if !slices.Equal(prints(r.HostSigners()), coming) || !slices.Equal(prints(r.Announced())[2:], old) {
		t.Errorf("step two: offered %q, announced %q", prints(r.HostSigners()), prints(r.Announced()))
	}
	if err := errors.Join(f.Finish(Host), r.Reload()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(prints(r.Announced()), coming) {
		t.Errorf("step three: announced %q; want the new ones alone", prints(r.Announced()))
	}
}

func TestRotatingTheHostCA(t *testing.T) {
	r, f, c := open(t)
	old := believed(t, f, HostCA)
	step(t, r, f, HostCA, Coming)
	c.t = c.t.Add(2 * time.Hour)
	step(t, r, f, HostCA, Current)
	s, err := r.HostFor("db1")
	if err != nil {
		t.Fatal(err)
	}
	now := ssh.FingerprintSHA256(s.PublicKey().(*ssh.Certificate).SignatureKey)
	if all := believed(t, f, HostCA); now == old[0] || !slices.Equal(all, []string{now, old[0]}) {
		t.Errorf("signed by %s, believed %q", now, all)
	}
	text, err := f.Public(HostCA, "*.example.org")
	if err != nil || !strings.HasPrefix(text, "@cert-authority *.example.org ssh-ed25519 ") {
		t.Errorf("public: %q, %v", text, err)
	}
}

// A crash between any two steps leaves keys that work, and the step can be done again.
func TestTakingOverCutShort(t *testing.T) {
	r, f, c := open(t)
	old := prints(r.HostSigners())
	step(t, r, f, Host, Coming)
	c.t = c.t.Add(2 * time.Hour)
	ed := f.path(slots[0], Current)
	if err := os.Link(ed, f.path(slots[0], Retired)); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil || !slices.Equal(prints(r.HostSigners()), old) || len(r.Announced()) != 4 {
		t.Fatalf("after the link: %v, announced %q", err, prints(r.Announced()))
	}
	// The first of two keys has taken over, the second has not.
	if err := os.Rename(f.path(slots[0], Coming), ed); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil || len(r.HostSigners()) != 2 || len(r.Announced()) != 4 {
		t.Fatalf("half done: %v, announced %q", err, prints(r.Announced()))
	}
	step(t, r, f, Host, Current)
	if now := prints(r.HostSigners()); now[0] == old[0] || now[1] == old[1] {
		t.Errorf("done again, %q are offered; the old ones were %q", now, old)
	}
}

func TestListMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := In(dir).List(); err == nil {
		t.Error("a folder that is not there was listed")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a folder was made")
	}
	_, f, _ := open(t)
	list, err := f.List()
	if err != nil || len(list) != 4 || list[0].File != "ssh_host_ed25519_key" || list[0].Stage != Current {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := f.Rotate("hosts", 0); !errors.Is(err, ErrUnknownKind) {
		t.Errorf("keys of no kind: %v", err)
	}
	if _, err := f.Public("hosts", "*"); !errors.Is(err, ErrUnknownKind) {
		t.Errorf("keys of no kind: %v", err)
	}
}
