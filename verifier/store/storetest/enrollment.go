// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func enrollLink(hash string) store.EnrollLink {
	return store.EnrollLink{Hash: []byte(hash), UserID: "DU1", Created: now, Expires: now.Add(time.Hour)}
}

func enrollSession(id string) store.EnrollSession {
	return store.EnrollSession{ID: id, Hash: []byte("token of " + id), Created: now, Expires: now.Add(30 * time.Minute), Sealed: []byte("sealed")}
}

func begin(link string, s store.EnrollSession, at time.Time) func(store.Writer) (bool, error) {
	return func(w store.Writer) (bool, error) {
		_, won, err := w.BeginEnroll([]byte(link), s, at)
		return won, err
	}
}

func hold(id string, at time.Time) func(store.Writer) (bool, error) {
	return func(w store.Writer) (bool, error) {
		_, won, err := w.HoldEnroll([]byte("token of "+id), at)
		return won, err
	}
}

func testEnrollLinks(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddUser(User("DU1", "alice")), w.AddEnrollLink(enrollLink("first"), now), w.AddEnrollLink(enrollLink("second"), now))
	})
	equal(t, "a link that a later one voided", decide(t, s, begin("first", enrollSession("a"), now)), false)
	equal(t, "an unknown link", decide(t, s, begin("other", enrollSession("a"), now)), false)
	usable := func(hash string, at time.Time) bool {
		var err error
		view(t, s, func(r store.Reader) error {
			_, err = r.EnrollLinkByHash([]byte(hash), at)
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Errorf("look for the link %s: %v", hash, err)
		}
		return err == nil
	}
	for hash, want := range map[string]bool{"first": false, "other": false, "second": true} {
		equal(t, hash+" looks usable", usable(hash, now), want)
	}
	equal(t, "an expired link looks usable", usable("second", now.Add(time.Hour)), false)
	equal(t, "an expired link", decide(t, s, begin("second", enrollSession("a"), now.Add(time.Hour))), false)
	view(t, s, func(r store.Reader) error {
		open, err := r.OpenEnrollLink("DU1", now)
		equal(t, "open link", open, enrollLink("second"))
		_, late := r.OpenEnrollLink("DU1", now.Add(time.Hour))
		equal(t, "none when it expired", errors.Is(late, store.ErrNotFound), true)
		return err
	})
	for _, status := range []store.UserStatus{store.Disabled, store.LockedOut} {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", status, "", now) })
		equal(t, string(status), decide(t, s, begin("second", enrollSession("a"), now)), false)
		equal(t, string(status)+" looks usable", usable("second", now), false)
	}
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", now) })
	equal(t, "trashed", decide(t, s, func(w store.Writer) (bool, error) { return w.TrashUser("DU1", now) }), true)
	equal(t, "a user in the trash", decide(t, s, begin("second", enrollSession("a"), now)), false)
	equal(t, "restored", decide(t, s, func(w store.Writer) (bool, error) { return w.RestoreUser("DU1") }), true)

	equal(t, "the link", decide(t, s, begin("second", enrollSession("a"), now)), true)
	equal(t, "the link again", decide(t, s, begin("second", enrollSession("b"), now)), false)
	equal(t, "the link looks usable again", usable("second", now), false)
	equal(t, "the session of the second use", decide(t, s, hold("b", now)), false)
	view(t, s, func(r store.Reader) error {
		_, err := r.OpenEnrollLink("DU1", now)
		equal(t, "none when it was used", errors.Is(err, store.ErrNotFound), true)
		return nil
	})
}

// testEnrollLinkRace: of many who open one link at once, one gets in.
func testEnrollLinkRace(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddUser(User("DU1", "alice")), w.AddEnrollLink(enrollLink("l"), now))
	})
	var wins atomic.Int32
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() {
			err := s.Update(context.Background(), func(w store.Writer) error {
				_, won, err := w.BeginEnroll([]byte("l"), enrollSession(string(rune('A'+i))), now)
				if won {
					wins.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "wins", wins.Load(), int32(1))
}

func testEnrollSessions(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddUser(User("DU1", "alice")), w.AddEnrollLink(enrollLink("l"), now))
	})
	want := enrollSession("a")
	equal(t, "begun", decide(t, s, begin("l", want, now)), true)
	want.UserID = "DU1"
	held := func() (got store.EnrollSession) {
		update(t, s, func(w store.Writer) (err error) {
			got, _, err = w.HoldEnroll(want.Hash, now)
			return err
		})
		return got
	}
	equal(t, "session", held(), want)
	want.PhoneID, want.TokenID, want.TokenDone, want.Tries, want.Sealed, want.CodesMade = "DP1", "DH1", true, 2, []byte("other"), now
	update(t, s, func(w store.Writer) error { return w.SetEnroll(want) })
	equal(t, "changed", held(), want)
	equal(t, "after its time", decide(t, s, hold("a", now.Add(30*time.Minute))), false)

	for _, what := range []store.EnrollCount{store.EnrollPhoneLinks, store.EnrollTokenSecrets, store.EnrollCodeSets} {
		count := func(w store.Writer) (bool, error) { return w.CountEnroll("a", what, 2) }
		for i, more := range []bool{true, true, false} {
			equal(t, fmt.Sprintf("%s %d", what, i+1), decide(t, s, count), more)
		}
	}
	equal(t, "changed by the counts", held(), want)
	equal(t, "counted in no session", decide(t, s, func(w store.Writer) (bool, error) { return w.CountEnroll("z", store.EnrollCodeSets, 2) }), false)

	overdue := func(at time.Time) (n int) {
		view(t, s, func(r store.Reader) error {
			list, err := r.OverdueEnrollSessions(at, 10)
			n = len(list)
			return err
		})
		return n
	}
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) })
	equal(t, "of a disabled user", decide(t, s, hold("a", now)), false)
	equal(t, "overdue, of a disabled user", overdue(now), 1)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Bypass, "", now) })
	equal(t, "of a user in bypass", decide(t, s, hold("a", now)), true)

	equal(t, "overdue", overdue(now), 0)
	equal(t, "overdue later", overdue(now.Add(time.Hour)), 1)
	view(t, s, func(r store.Reader) error {
		live, err := r.LiveEnrollSessions("DU1")
		equal(t, "live", live, []store.EnrollSession{want})
		byHash, err2 := r.EnrollByHash(want.Hash)
		equal(t, "by hash", byHash, want)
		return errors.Join(err, err2)
	})
	end := func(w store.Writer) (bool, error) { return w.EndEnroll("a", now) }
	equal(t, "ended", decide(t, s, end), true)
	equal(t, "ended twice", decide(t, s, end), false)
	equal(t, "held after its end", decide(t, s, hold("a", now)), false)
	equal(t, "counted after its end", decide(t, s, func(w store.Writer) (bool, error) { return w.CountEnroll("a", store.EnrollCodeSets, 9) }), false)
	equal(t, "overdue after its end", overdue(now.Add(time.Hour)), 0)
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetEnroll(want) })

	// Another link ends a session that goes on.
	update(t, s, func(w store.Writer) error { return w.AddEnrollLink(enrollLink("m"), now) })
	equal(t, "begun", decide(t, s, begin("m", enrollSession("b"), now)), true)
	update(t, s, func(w store.Writer) error { return w.AddEnrollLink(enrollLink("n"), now) })
	equal(t, "held after another link was made", decide(t, s, hold("b", now)), false)
	equal(t, "begun", decide(t, s, begin("n", enrollSession("c"), now)), true)
	var voided int
	update(t, s, func(w store.Writer) (err error) {
		if err := w.AddEnrollLink(enrollLink("o"), now); err != nil {
			return err
		}
		voided, err = w.VoidEnrollLinks("DU1", now)
		return err
	})
	equal(t, "voided", voided, 1)
	equal(t, "a voided link", decide(t, s, begin("o", enrollSession("d"), now)), false)

	update(t, s, func(w store.Writer) error { return w.Purge(now.Add(2 * time.Hour)) })
	update(t, s, func(w store.Writer) error { return w.AddEnrollLink(enrollLink("l"), now) }) // its hash is free again
	update(t, s, func(w store.Writer) error { return w.DeleteUser("DU1") })
	equal(t, "a link of nobody", decide(t, s, begin("l", enrollSession("e"), now)), false)
}

func testMails(t *testing.T, s store.Store) {
	mail := store.Mail{ID: "M1", UserID: "DU1", Kind: "k", Sealed: []byte("body"), Created: now, Due: now}
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddUser(User("DU1", "alice")), w.AddMail(mail)) })
	due := func(at time.Time) (out []store.Mail) {
		view(t, s, func(r store.Reader) (err error) {
			out, err = r.DueMails(at, 10)
			return err
		})
		return out
	}
	equal(t, "before its time", len(due(now.Add(-time.Second))), 0)
	equal(t, "due", due(now), []store.Mail{mail})
	take := func(w store.Writer) (bool, error) { return w.TakeMail(mail, now.Add(time.Minute)) }
	equal(t, "taken", decide(t, s, take), true)
	equal(t, "taken twice", decide(t, s, take), false)
	equal(t, "due while it is taken", len(due(now)), 0)
	mail.Due, mail.Attempts = now.Add(time.Minute), 1
	equal(t, "due again", due(now.Add(time.Minute)), []store.Mail{mail})
	gone := func(w store.Writer) (bool, error) { return w.DeleteMail("M1") }
	equal(t, "sent", decide(t, s, gone), true)
	equal(t, "sent twice", decide(t, s, gone), false)
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddMail(mail), w.Purge(now)) })
	equal(t, "purged", len(due(now.Add(time.Hour))), 0)

	// Many mails for one user do not hold up those for others.
	update(t, s, func(w store.Writer) error {
		errs := []error{w.AddUser(User("DU2", "bob"))}
		for i := range 30 {
			errs = append(errs, w.AddMail(store.Mail{ID: fmt.Sprintf("A%02d", i), UserID: "DU1", Created: now, Due: now.Add(time.Duration(i) * time.Second)}))
		}
		return errors.Join(append(errs, w.AddMail(store.Mail{ID: "B", UserID: "DU2", Created: now, Due: now.Add(time.Minute)}))...)
	})
	var order []string
	for _, m := range due(now.Add(time.Hour))[:4] {
		order = append(order, m.ID)
	}
	equal(t, "order", order, []string{"A00", "B", "A01", "A02"})
}

func testRecoveryCodes(t *testing.T, s store.Store) {
	code := func(id string, recovery bool) store.BypassCode {
		return store.BypassCode{ID: id, UserID: "DU1", Hash: []byte(id), UsesLeft: 1, Recovery: recovery, Created: now}
	}
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddUser(User("DU1", "alice")), w.AddBypassCode(code("DB1", true)), w.AddBypassCode(code("DB2", true)),
			w.AddBypassCode(code("DB3", false)))
	})
	left := func() (n int) {
		view(t, s, func(r store.Reader) (err error) {
			n, err = r.RecoveryCodesLeft("DU1")
			return err
		})
		return n
	}
	equal(t, "left", left(), 2)
	view(t, s, func(r store.Reader) error {
		got, err := r.BypassCode("DB1")
		equal(t, "mark", got, code("DB1", true))
		return err
	})
	equal(t, "used", decide(t, s, func(w store.Writer) (bool, error) { return w.UseBypassCode("DU1", "DB1", now) }), true)
	equal(t, "left", left(), 1)
	update(t, s, func(w store.Writer) error { return w.DeleteBypassCodes("DU1", false) })
	equal(t, "left when an administrator's codes are replaced", left(), 1)
	view(t, s, func(r store.Reader) error {
		_, err := r.BypassCode("DB3")
		equal(t, "the administrator's code is gone", errors.Is(err, store.ErrNotFound), true)
		return nil
	})
	update(t, s, func(w store.Writer) error { return w.DeleteBypassCodes("DU1", true) })
	equal(t, "left after the next set", left(), 0)
}
