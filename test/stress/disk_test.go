// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// callers is how many people are refused at once while the disk fails.
const callers = 16

// victim is a verifier whose disk fails, and who calls it meanwhile.
type victim struct {
	*process
	*ledger
	client, admin *duoapi.Client
	next          [callers]int64 // HOTP counter of each caller
	bypass        int            // next bypass code of the first
	made          int            // users that the administrator made
}

func caller(i int) string { return fmt.Sprintf("caller%d", i) }

func spare(n int) string { return fmt.Sprintf("5550%05d", n) }

// newVictim makes a verifier and starts it with its data in dir. The file system in
// user space is served by this very process, which must not wait for itself: it
// reads and writes files there, but maps none into its memory as SQLite would. So
// the data are made elsewhere.
func newVictim(t *testing.T, dir string) *victim {
	t.Helper()
	p := newProcess(t, t.TempDir(), func(d *datadir.Data) error {
		return d.Store.Update(context.Background(), func(w store.Writer) error {
			var errs []error
			for i := range callers {
				user, token := "DU"+caller(i), "DH"+caller(i)
				errs = append(errs,
					w.AddUser(store.User{ID: user, Username: caller(i), Status: store.Active, Created: time.Now()}),
					w.AddToken(store.Token{
						ID: token, Type: store.HOTP6, Serial: token, SecretSealed: factor.SealToken(d.Keys, token, []byte(seed)), Created: time.Now(),
					}), w.AttachToken(user, token))
			}
			for n := range 20 {
				errs = append(errs, w.AddBypassCode(store.BypassCode{
					ID: fmt.Sprintf("DB%d", n), UserID: "DU" + caller(0), Hash: factor.HashBypass(d.Keys, "DU"+caller(0), spare(n)),
					UsesLeft: 1, Created: time.Now(),
				}))
			}
			return errors.Join(errs...)
		})
	})
	if out, err := exec.Command("cp", "-a", p.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the data: %v: %s", err, out)
	}
	p.dir = filepath.Join(dir, filepath.Base(p.dir))
	v := &victim{process: p, ledger: &ledger{}, client: p.client(), admin: p.admin()}
	p.start()
	p.serving()
	return v
}

// refused says whether an answer is the one of a verifier that cannot decide.
func refused(out duoapi.Auth) bool {
	return out.Result == duoapi.ResultDeny && strings.Contains(out.StatusMsg, "cannot decide")
}

// try logs a caller in with the next code and says whether they came in. What is
// neither a yes nor a proper refusal is an error; one must not be told that a good
// code is wrong.
func (v *victim) try(i int) bool {
	n := v.next[i]
	out, err := logIn(v.client, caller(i), otpCode(n))
	if err != nil || out.Result != duoapi.ResultAllow && !refused(out) {
		v.Errorf("login of %s: %+v, %v", caller(i), out, err)
		return false
	}
	if out.Result != duoapi.ResultAllow {
		return false
	}
	v.next[i]++
	v.login(answered{caller(i), otpCode(n), out.TxID, true, func(r store.Reader) (bool, error) {
		t, err := r.Token("DH" + caller(i))
		return t.Counter > n, err
	}})
	return true
}

func (v *victim) makeUser() error {
	name := fmt.Sprintf("made%d", v.made)
	_, err := v.admin.Call(context.Background(), http.MethodPost, "/admin/v1/users", url.Values{"username": {name}}, nil)
	if err == nil {
		v.user(name)
		v.made++
	}
	return err
}

// works asserts that everyone comes in, each with the code that was refused before
// if one was, and that changes are made.
func (v *victim) works(when string) {
	v.Helper()
	for i := range callers {
		if !v.try(i) {
			v.Fatalf("%s: %s is refused", when, caller(i))
		}
	}
	n := v.bypass
	out, err := logIn(v.client, caller(0), spare(n))
	if err != nil || out.Result != duoapi.ResultAllow {
		v.Fatalf("%s: bypass code %d: %+v, %v", when, n, out, err)
	}
	v.bypass++
	v.login(answered{caller(0), spare(n), out.TxID, true, func(r store.Reader) (bool, error) {
		b, err := r.BypassCode(fmt.Sprintf("DB%d", n))
		return b.UsesLeft == 0, err
	}})
	if err := v.makeUser(); err != nil {
		v.Fatalf("%s: make a user: %v", when, err)
	}
}

// suffers asserts that everyone is refused as they should be. It may take some
// logins until the failing disk is felt.
func (v *victim) suffers() {
	v.Helper()
	for felt := 0; v.try(0); felt++ {
		if felt == 5000 {
			v.Fatal("the verifier does not feel that its disk fails")
		}
	}
	var wg sync.WaitGroup // all at once: with a locked database each waits
	for i := range callers {
		wg.Go(func() {
			if v.try(i) {
				v.Errorf("%s came in though nothing can be written", caller(i))
			}
		})
	}
	for what, passcode := range map[string]string{"bypass code": spare(v.bypass), "wrong code": "000000"} {
		wg.Go(func() {
			if out, err := logIn(v.client, caller(0), passcode); err != nil || !refused(out) {
				v.Errorf("%s: %+v, %v", what, out, err)
			}
		})
	}
	for _, name := range []string{caller(0), "nobody"} {
		wg.Go(func() {
			var pre duoapi.Preauth
			_, err := v.client.Call(context.Background(), http.MethodPost, "/auth/v2/preauth", url.Values{"username": {name}}, &pre)
			if err != nil || pre.Result == duoapi.ResultAllow {
				v.Errorf("preauth of %s: %+v, %v", name, pre, err)
			}
		})
	}
	wg.Go(func() {
		if err := v.makeUser(); code(err) != duoapi.CodeCannotDecide {
			v.Errorf("a change that cannot be written: %v", err)
		}
	})
	wg.Wait()
}

func (v *victim) audit(db *sqlite.DB, r store.Reader) error {
	return errors.Join(v.holds(v, r, 0, 0), db.Check(context.Background()))
}

// copied is a copy of the database of a verifier that is dead.
func (v *victim) copied() string {
	v.Helper()
	to := v.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(filepath.Join(v.dir, config.Database+suffix))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, config.Database+suffix), data, 0o600)
		}
		v.must(err)
	}
	return filepath.Join(to, config.Database)
}

// ordeal lets the disk of a verifier fail and work again. Meanwhile everyone is
// refused properly; afterwards all is as it was answered, without a restart and
// after one, and the codes that were refused are good.
func ordeal(t *testing.T, dir string, faults map[string]func() (heal func())) {
	t.Helper()
	v := newVictim(t, dir)
	v.works("before")
	for name, begin := range faults {
		heal := begin()
		v.suffers()
		heal()
		v.works("after " + name)
		for _, a := range v.logins {
			if out, err := logIn(v.client, a.user, a.passcode); err != nil || out.Result != duoapi.ResultDeny {
				t.Errorf("after %s: the accepted code %s of %s, sent again: %+v, %v", name, a.passcode, a.user, out, err)
			}
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	v.kill()
	v.lookAt(v.copied(), v.audit)
	v.start()
	v.serving()
	v.works("after a restart")
}

// TestFullDisk: a real file system without room.
func TestFullDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "disk")
	fill, empty := smallDisk(t, dir)
	ordeal(t, dir, map[string]func() func(){"a full disk": func() func() { fill(); return empty }})
}

// TestFailingDisk: a disk that becomes read-only, as the kernel makes one after an
// error, one whose writes fail, and one that does not keep what is synced.
func TestFailingDisk(t *testing.T) {
	if !alone(t) {
		return
	}
	dir := filepath.Join(t.TempDir(), "disk")
	d := faultyDisk(t, dir)
	set := func(writes, syncs syscall.Errno) func() func() {
		return func() func() {
			d.writes.Store(int32(writes))
			d.syncs.Store(int32(syncs))
			return func() { d.writes.Store(0); d.syncs.Store(0) }
		}
	}
	ordeal(t, dir, map[string]func() func(){
		"a read-only disk":      set(syscall.EROFS, syscall.EROFS),
		"failing writes":        set(syscall.EIO, 0),
		"failing syncs":         set(0, syscall.EIO),
		"a disk without space":  set(syscall.ENOSPC, 0),
		"a quota that is spent": set(syscall.EDQUOT, 0),
	})
}

// TestLockedDatabase: another process holds the database. Whoever logs in waits for
// a bounded time and is refused.
func TestLockedDatabase(t *testing.T) {
	dir := t.TempDir()
	ordeal(t, dir, map[string]func() func(){"a locked database": func() func() {
		db, err := sql.Open("sqlite", filepath.Join(dir, "data", config.Database))
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		if _, err := db.Exec("PRAGMA busy_timeout = 10000"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if _, err := db.Exec("COMMIT"); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}})
}
