// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func sshKey(id, userID string) store.SSHKey {
	return store.SSHKey{ID: id, UserID: userID, Fingerprint: "SHA256:" + id, Key: "ssh-ed25519 " + id, Comment: "of " + id, Created: now}
}

func testSSHKeys(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DU2", "bob")) })
	add := func(k store.SSHKey, limit int) bool {
		t.Helper()
		return decide(t, s, func(w store.Writer) (bool, error) { return w.AddSSHKey(k, limit) })
	}
	conflict := func(k store.SSHKey) {
		t.Helper()
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { _, err := w.AddSSHKey(k, 9); return err })
	}
	a, b, c := sshKey("DKa", "DU1"), sshKey("DKb", "DU1"), sshKey("DKc", "DU2")
	b.Created = now.Add(time.Second)
	for _, k := range []store.SSHKey{a, b, c} {
		equal(t, "add "+k.ID, add(k, 2), true)
	}
	equal(t, "one too many", add(sshKey("DKd", "DU1"), 2), false)
	equal(t, "another user has places left", add(sshKey("DKe", "DU2"), 2), true)
	again, theirs := a, a
	again.ID, theirs.ID, theirs.UserID = "DKx", "DKy", "DU2"
	conflict(again)  // the same key again
	conflict(theirs) // another's key
	sameID := sshKey("DKz", "DU1")
	sameID.ID = "DKa"
	conflict(sameID)
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.AddSSHKey(sshKey("DKn", "DUn"), 9); return err })
	view(t, s, func(r store.Reader) error {
		got, err := r.SSHKey("DKa")
		equal(t, "key", got, a)
		mine, n, err2 := r.SSHKeys("DU1", store.Page{})
		equal(t, "alice's", mine, []store.SSHKey{a, b})
		equal(t, "count", n, 2)
		one, n, err3 := r.SSHKeys("", store.Page{Limit: 1, Offset: 3})
		equal(t, "the last", one, []store.SSHKey{b})
		equal(t, "all", n, 4)
		none, n, err4 := r.SSHKeys("DUn", store.Page{})
		equal(t, "nobody's", []any{len(none), n}, []any{0, 0})
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(w store.Writer) error { return w.DeleteSSHKey("DKa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteSSHKey("DKa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.SSHKey("DKa"); return err })
	equal(t, "a key that is free again", add(theirs, 9), true)
	update(t, s, func(w store.Writer) error { return w.DeleteUser("DU2") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.SSHKey("DKc"); return err })
	equal(t, "a key of a user who is gone", add(again, 9), true)
}

// testSSHKeyRaces: of many who bring one key one has it; of many keys of one user
// no more than the limit.
func testSSHKeyRaces(t *testing.T, s store.Store) {
	person(t, s)
	for i := range racers {
		update(t, s, func(w store.Writer) error { return w.AddUser(User(fmt.Sprintf("DUr%d", i), fmt.Sprintf("racer%d", i))) })
	}
	race := func(what string, want int32, key func(i int) store.SSHKey, limit int) {
		t.Helper()
		var wg sync.WaitGroup
		var added atomic.Int32
		for i := range racers {
			wg.Go(func() {
				var won bool
				err := s.Update(t.Context(), func(w store.Writer) (err error) {
					won, err = w.AddSSHKey(key(i), limit)
					return err
				})
				if err != nil && !errors.Is(err, store.ErrConflict) {
					t.Errorf("%s: %v", what, err)
				}
				if err == nil && won {
					added.Add(1)
				}
			})
		}
		wg.Wait()
		equal(t, what, added.Load(), want)
	}
	race("one key for many", 1, func(i int) store.SSHKey {
		k := sshKey(fmt.Sprintf("DKr%d", i), fmt.Sprintf("DUr%d", i))
		k.Fingerprint = "SHA256:one"
		return k
	}, 9)
	race("many keys for one", 5, func(i int) store.SSHKey { return sshKey(fmt.Sprintf("DKm%d", i), "DU1") }, 5)
}
