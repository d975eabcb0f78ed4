// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func streamEvent(txID string, at time.Time) store.Event {
	return store.Event{TxID: txID, Time: at, EventType: "authentication", Result: "success", Reason: "user_approved"}
}

func keepStreams(t *testing.T, s store.Store, names ...string) (gone []store.Stream) {
	t.Helper()
	update(t, s, func(w store.Writer) (err error) {
		gone, err = w.KeepStreams(names, now)
		return err
	})
	return gone
}

func feedOf(t *testing.T, s store.Store, after int64, limit int) (out []store.FeedEntry) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		out, err = r.Feed(after, limit)
		return err
	})
	return out
}

// testStreams: what happens after a stream began stays in the feed until every
// stream has it, with the event itself.
func testStreams(t *testing.T, s store.Store) {
	add := func(txID string) {
		update(t, s, func(w store.Writer) error { return w.AddEvent(streamEvent(txID, now)) })
	}
	add("before any stream")
	equal(t, "streams that are gone", keepStreams(t, s, "a", "b"), []store.Stream(nil))
	add("one")
	update(t, s, func(w store.Writer) error {
		return w.AddAdminEvent(store.AdminEvent{Time: now, Username: "root", Action: "user_create", Object: "alice", Description: json.RawMessage(`{"x":1}`)})
	})
	update(t, s, func(w store.Writer) error {
		return w.AddTelephonyEntry(store.TelephonyEntry{ID: "three", Time: now, Type: store.TelephonySMS, Phone: "+15550100"})
	})
	got := feedOf(t, s, 0, 10)
	if len(got) != 3 || got[0].Authentication == nil || got[0].Authentication.TxID != "one" || got[0].ID != "one" ||
		got[1].Administrator == nil || got[1].Administrator.Action != "user_create" || got[1].ID == "" || got[1].Authentication != nil ||
		got[2].Seq != got[0].Seq+2 || got[2].Telephony == nil || got[2].Telephony.Phone != "+15550100" {
		t.Fatalf("feed %+v", got)
	}
	equal(t, "limit", len(feedOf(t, s, 0, 2)), 2)
	equal(t, "after", feedOf(t, s, got[1].Seq, 2)[0].ID, "three")
	move := func(name string, from, to int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.MoveStream(name, from, to) })
	}
	equal(t, "move from where it is not", move("a", 7, 8), false)
	equal(t, "move beyond the end", move("a", 0, 4), false)
	equal(t, "move nowhere", move("a", 0, 0), false)
	equal(t, "move", move("a", 0, 2), true)
	equal(t, "move back", move("a", 2, 1), false)
	equal(t, "kept for the other stream", len(feedOf(t, s, 0, 10)), 3)
	equal(t, "move the other", move("b", 0, 1), true)
	equal(t, "what both have is gone", len(feedOf(t, s, 0, 10)), 2)
	view(t, s, func(r store.Reader) error {
		all, err := r.Streams()
		equal(t, "streams", all, []store.Stream{{Name: "a", Position: 2, Created: now}, {Name: "b", Position: 1, Created: now}})
		end, err2 := r.FeedEnd()
		equal(t, "end", end, int64(3))
		return errors.Join(err, err2)
	})
	gone := keepStreams(t, s, "a", "c")
	equal(t, "gone", gone, []store.Stream{{Name: "b", Position: 1, Created: now}})
	left := feedOf(t, s, 0, 10)
	equal(t, "the feed of the streams that are left", []string{left[0].ID}, []string{"three"})
	equal(t, "without streams", len(keepStreams(t, s)), 2)
	equal(t, "nothing waits", len(feedOf(t, s, 0, 10)), 0)
	add("while there is no stream")
	equal(t, "nothing is numbered", len(feedOf(t, s, 0, 10)), 0)
	// An event that was not added is not sent.
	keepStreams(t, s, "a")
	if err := s.Update(t.Context(), func(w store.Writer) error {
		return errors.Join(w.AddEvent(streamEvent("undone", now)), errors.New("no"))
	}); err == nil {
		t.Fatal("an update that fails")
	}
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddEvent(streamEvent("one", now)) })
	equal(t, "after a failed update", len(feedOf(t, s, 0, 10)), 0)
}

// testStreamsInOrder: a reader that follows the feed misses none of the events
// that many write at once, whatever time they bear.
func testStreamsInOrder(t *testing.T, s store.Store) {
	keepStreams(t, s, "a")
	const writers, each = 16, 20
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for n := range each {
				at := now.Add(time.Duration((i*7+n*13)%50) * time.Second)
				err := s.Update(t.Context(), func(w store.Writer) error { return w.AddEvent(streamEvent(fmt.Sprintf("t%d-%d", i, n), at)) })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[string]bool{}
	position := int64(0)
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for ended := false; ; {
		batch := feedOf(t, s, position, 7)
		for _, e := range batch {
			if e.Seq != position+1 || seen[e.ID] || e.Authentication == nil {
				t.Fatalf("entry %d (%s) after %d", e.Seq, e.ID, position)
			}
			position, seen[e.ID] = e.Seq, true
		}
		if len(batch) == 0 {
			if ended {
				break
			}
			select {
			case <-done:
				ended = true
			default:
			}
		}
	}
	equal(t, "all events", len(seen), writers*each)
}

// testRetention: the oldest go first, so many at once, and never what a stream
// still has to take.
func testRetention(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		var errs []error
		for n := range 5 {
			at := now.Add(time.Duration(n) * time.Hour)
			errs = append(errs, w.AddEvent(streamEvent(fmt.Sprintf("e%d", n), at)),
				w.AddAdminEvent(store.AdminEvent{Time: at, Username: fmt.Sprintf("u%d", n), Action: "x"}))
		}
		return errors.Join(errs...)
	})
	purge := func(log string, before time.Time, limit int) (n int) {
		t.Helper()
		update(t, s, func(w store.Writer) (err error) {
			n, err = w.PurgeLog(log, before, limit)
			return err
		})
		return n
	}
	left := func() (out []string) {
		view(t, s, func(r store.Reader) error {
			events, err := r.Events(store.EventFilter{})
			for _, e := range events {
				out = append(out, e.TxID)
			}
			admin, err2 := r.AdminEvents(time.Time{}, 0)
			for _, e := range admin {
				out = append(out, e.Username)
			}
			return errors.Join(err, err2)
		})
		return out
	}
	cut := now.Add(3 * time.Hour)
	equal(t, "a chunk", purge(store.AuthenticationLog, cut, 2), 2)
	equal(t, "the oldest", left(), []string{"e2", "e3", "e4", "u0", "u1", "u2", "u3", "u4"})
	equal(t, "the rest", purge(store.AuthenticationLog, cut, 2), 1)
	equal(t, "no more", purge(store.AuthenticationLog, cut, 2), 0)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddTelephonyEntry(store.TelephonyEntry{ID: "old", Time: now}), w.AddTelephonyEntry(store.TelephonyEntry{ID: "new", Time: cut}))
	})
	equal(t, "telephony log", purge(store.TelephonyLog, cut, 10), 1)
	equal(t, "administrator log", purge(store.AdministratorLog, cut, 10), 3)
	equal(t, "left", left(), []string{"e3", "e4", "u3", "u4"})

	keepStreams(t, s, "a")
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddEvent(streamEvent("held", now)),
			w.AddAdminEvent(store.AdminEvent{Time: now, Username: "held", Action: "x"}))
	})
	equal(t, "while a stream has to take it", purge(store.AuthenticationLog, cut, 10)+purge(store.AdministratorLog, cut, 10), 0)
	if !decide(t, s, func(w store.Writer) (bool, error) { return w.MoveStream("a", 0, 2) }) {
		t.Fatal("the stream did not move")
	}
	equal(t, "once it has", purge(store.AuthenticationLog, cut, 10)+purge(store.AdministratorLog, cut, 10), 2)
	if err := s.Update(t.Context(), func(w store.Writer) error { _, err := w.PurgeLog("users", cut, 1); return err }); err == nil {
		t.Error("purged a log that is none")
	}
}

// sealedUnder looks like what package seal makes with that key.
func sealedUnder(key uint32, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{1}, key), text...)
}

func testSealed(t *testing.T, s store.Store) {
	person(t, s)
	i := Integration("DI1")
	i.SecretSealed = sealedUnder(1, "secret")
	i.OldSecret = store.OldSecret{Sealed: sealedUnder(1, "before"), Until: now.Add(time.Hour)}
	update(t, s, func(w store.Writer) error {
		a, b := Token("DHa", store.TOTP6), Token("DHb", store.HOTP6)
		a.SecretSealed, b.SecretSealed = sealedUnder(1, "a"), sealedUnder(2, "b")
		return errors.Join(w.AddIntegration(i), w.AddToken(a), w.AddToken(b),
			w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DP1", Generation: 1, Sealed: sealedUnder(1, "root")}))
	})
	decide(t, s, func(w store.Writer) (bool, error) { return w.AddPushKey(sealedUnder(1, "key"), now) })
	decide(t, s, func(w store.Writer) (bool, error) { return w.SetPushSubscription(subscription("sub")) })
	list := func(c store.SealedColumn, key uint32, other bool, after string) (out []store.SealedRow) {
		t.Helper()
		view(t, s, func(r store.Reader) (err error) {
			out, err = r.SealedUnder(c, key, other, after, 10)
			return err
		})
		return out
	}
	token := store.SealedRow{Column: store.SealedToken, ID: "DHa", Value: sealedUnder(1, "a")}
	equal(t, "tokens under 1", list(store.SealedToken, 1, false, ""), []store.SealedRow{token})
	equal(t, "tokens under another than 2", list(store.SealedToken, 2, true, ""), []store.SealedRow{token})
	equal(t, "after", len(list(store.SealedToken, 2, true, "DHa")), 0)
	equal(t, "offline roots", list(store.SealedOfflineRoot, 1, false, ""),
		[]store.SealedRow{{Column: store.SealedOfflineRoot, ID: "DP1", Generation: 1, Value: sealedUnder(1, "root")}})
	equal(t, "push key", list(store.SealedPushKey, 1, false, ""),
		[]store.SealedRow{{Column: store.SealedPushKey, ID: store.PushKeyID, Value: sealedUnder(1, "key")}})
	equal(t, "push subscriptions", list(store.SealedSubscription, 2, true, ""),
		[]store.SealedRow{{Column: store.SealedSubscription, ID: "DP1", Generation: 1, Value: sealedUnder(1, "sub")}})
	equal(t, "secrets before the last rotation", list(store.SealedOldIntegration, 1, false, "")[0].Value, sealedUnder(1, "before"))
	equal(t, "integrations", list(store.SealedIntegration, 2, true, "")[0].Identity(), []string{"integration", "DI1"})

	reseal := func(row store.SealedRow, value []byte) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.Reseal(row, value) })
	}
	equal(t, "reseal", reseal(token, sealedUnder(2, "a'")), true)
	equal(t, "reseal what is something else by now", reseal(token, sealedUnder(2, "a''")), false)
	equal(t, "none left", len(list(store.SealedToken, 1, false, "")), 0)
	// The next request reads the new sealing, not one that is remembered.
	view(t, s, func(r store.Reader) error { _, err := r.Integration("DI1"); return err })
	equal(t, "reseal", reseal(list(store.SealedIntegration, 1, false, "")[0], sealedUnder(2, "again")), true)
	view(t, s, func(r store.Reader) error {
		got, err := r.Integration("DI1")
		equal(t, "integration", got.SecretSealed, sealedUnder(2, "again"))
		return err
	})
}

func testHeartbeat(t *testing.T, s store.Store) {
	beat := func(at time.Time) (latest time.Time) {
		update(t, s, func(w store.Writer) (err error) {
			latest, err = w.Beat(at, false)
			return err
		})
		return latest
	}
	equal(t, "first", beat(now), time.Time{})
	equal(t, "second", beat(now.Add(-time.Hour)), now)
	equal(t, "never back", beat(now.Add(time.Hour)), now)
	update(t, s, func(w store.Writer) error { _, err := w.Beat(now, true); return err })
	equal(t, "but when it is set right", beat(now), now)
}

// testAfterRestore: nothing that may have been used since the backup is good.
func testAfterRestore(t *testing.T, s store.Store) {
	rememberable(t, s)
	if !decide(t, s, addSession(Session("DS1", "TX1"))) {
		t.Fatal("no session")
	}
	keepStreams(t, s, "a")
	update(t, s, func(w store.Writer) error { return w.AddEvent(store.Event{TxID: "undelivered", Time: now}) })
	update(t, s, func(w store.Writer) error {
		pending := Transaction("pending", store.TxPending)
		pending.Expires = now.Add(72 * time.Hour)
		yk := Token("DHy", store.YubiKey)
		yk.Counter = 5<<8 | 3
		return errors.Join(
			w.AddToken(yk), w.AddTransaction(pending), w.AddTransaction(Transaction("offered", store.TxOffered)),
			w.AddBypassCode(store.BypassCode{ID: "DBu", UserID: "DU1", Hash: []byte("u"), UsesLeft: store.Unlimited, Created: now}),
			w.AddJoinToken(store.JoinToken{ID: "J1", Hash: []byte("j"), UsesLeft: 1, Created: now, Expires: now.Add(72 * time.Hour)}),
			w.AddActivation(store.Activation{Hash: []byte("act"), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: now.Add(72 * time.Hour)}),
			w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DP1", Generation: 1, Sealed: []byte("root")}),
		)
	})
	update(t, s, func(w store.Writer) error { return w.AddEnrollLink(enrollLink("old"), now) })
	equal(t, "an enrolment", decide(t, s, begin("old", enrollSession("e"), now)), true)
	update(t, s, func(w store.Writer) error {
		live := enrollSession("f") // as it stands in a backup that was made during it
		live.Expires = now.Add(72 * time.Hour)
		if err := w.AddEnrollLink(enrollLink("live"), now); err != nil {
			return err
		}
		if _, _, err := w.BeginEnroll([]byte("live"), live, now); err != nil {
			return err
		}
		return errors.Join(w.AddUser(User("DU9", "zoe")),
			w.AddEnrollLink(store.EnrollLink{Hash: []byte("open"), UserID: "DU9", Created: now, Expires: now.Add(72 * time.Hour)}, now),
			w.AddMail(store.Mail{ID: "M1", UserID: "DU1", Created: now, Due: now}))
	})
	mine, other := offlineKey, offlineKey
	mine.HostID, other.HostID = "HO1", "HO2"
	key, won := grant(t, s, mine, false)
	equal(t, "a key", won, true)
	later := now.Add(24 * time.Hour)
	var counts store.RestoredCounts
	update(t, s, func(w store.Writer) (err error) {
		counts, err = w.AfterRestore(store.Restored{Now: later, TOTPAhead: 1, HOTPAdvance: 10})
		return err
	})
	equal(t, "counts", counts, store.RestoredCounts{
		TOTP: 1, HOTP: 1, YubiKeys: 1, Bypass: 1, SMS: 1, Transactions: 1, Sessions: 1, Activations: 1, JoinTokens: 1, OfflineKeys: 1, EnrollLinks: 1,
	})
	step := later.Unix() / 30
	for name, use := range map[string]func(w store.Writer) (bool, error){
		"a TOTP code of then":     func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", now.Unix()/30+1) },
		"a TOTP code of now":      func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", step+1) },
		"a HOTP code":             func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHh", 9) },
		"a counted bypass code":   func(w store.Writer) (bool, error) { return w.UseBypassCode("DU1", "DB1", now) },
		"an SMS code":             func(w store.Writer) (bool, error) { return w.UseSMSCode("DU1", "DS1", now) },
		"a join token":            func(w store.Writer) (bool, error) { return w.UseJoinToken([]byte("j"), now) },
		"a counter of a lost key": func(w store.Writer) (bool, error) { return w.UseOfflineCounter(key, 7) },
		"an activation": func(w store.Writer) (bool, error) {
			_, won, err := w.UseActivation([]byte("act"), store.DeviceKey{PublicKey: "K2"}, now)
			return won, err
		},
		"an enrolment link": begin("open", enrollSession("g"), now),
		"an enrolment":      hold("f", later),
		"a mail":            func(w store.Writer) (bool, error) { return w.DeleteMail("M1") },
		"a session":         func(w store.Writer) (bool, error) { return w.UseSession(use(now)) },
		"a pending push": func(w store.Writer) (bool, error) {
			return w.DecideTransaction(store.Decision{TxID: "pending", State: store.TxApproved, Status: "allow", Now: later})
		},
	} {
		equal(t, name+" counts", decide(t, s, use), false)
	}
	for name, use := range map[string]func(w store.Writer) (bool, error){
		"the next TOTP code":  func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", step+2) },
		"a later HOTP code":   func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHh", 10) },
		"an uncounted code":   func(w store.Writer) (bool, error) { return w.UseBypassCode("DU1", "DBu", now) },
		"the end of the push": func(w store.Writer) (bool, error) { return w.ExpireTransaction("pending", "timeout", "", later) },
	} {
		equal(t, name+" counts", decide(t, s, use), true)
	}
	view(t, s, func(r store.Reader) error {
		yk, err := r.Token("DHy")
		equal(t, "YubiKey's counter", yk.Counter, int64(6<<8|3))
		_, gone := r.Transaction("offered")
		equal(t, "offered transaction is gone", errors.Is(gone, store.ErrNotFound), true)
		end, err2 := r.FeedEnd()
		equal(t, "numbers of the feed go on far beyond", end >= 1<<32, true)
		return errors.Join(err, err2)
	})
	var waiting []store.FeedEntry
	var behind int64
	view(t, s, func(r store.Reader) error {
		streams, err := r.Streams()
		if err != nil || len(streams) != 1 {
			return errors.Join(err, errors.New("no stream"))
		}
		end, err := r.FeedEnd()
		if err != nil {
			return err
		}
		behind = end - streams[0].Position
		waiting, err = r.Feed(streams[0].Position, 10)
		return err
	})
	if int64(len(waiting)) != behind || len(waiting) == 0 || waiting[0].ID != "undelivered" {
		t.Errorf("the stream is %d entries behind, and gets %+v", behind, waiting)
	}
	// No edition that may have been handed out since comes again: neither to a
	// host that had a key nor to one whose key is not in the backup.
	again, _ := grant(t, s, key, true)
	fresh, _ := grant(t, s, other, false)
	if again.Edition <= later.Unix() || fresh.Edition <= later.Unix() {
		t.Errorf("editions %d and %d; want them beyond %d", again.Edition, fresh.Edition, later.Unix())
	}
	// An administrator's bypass codes may be kept; people's recovery codes never are.
	code := func(id string, recovery bool) store.BypassCode {
		return store.BypassCode{ID: id, UserID: "DU1", Hash: []byte(id), UsesLeft: 1, Recovery: recovery, Created: now}
	}
	update(t, s, func(w store.Writer) (err error) {
		if err := errors.Join(w.AddBypassCode(code("DBk", false)), w.AddBypassCode(code("DBr", true))); err != nil {
			return err
		}
		counts, err = w.AfterRestore(store.Restored{Now: later, KeepBypass: true})
		return err
	})
	equal(t, "codes that go though codes are kept", counts.Bypass, 1)
	for id, want := range map[string]bool{"DBk": true, "DBr": false} {
		equal(t, id, decide(t, s, func(w store.Writer) (bool, error) { return w.UseBypassCode("DU1", id, now) }), want)
	}
}
