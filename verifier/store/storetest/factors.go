// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// testAttemptDelay: after the free failures each further one doubles the wait, up
// to the longest; what comes before its time is neither counted nor a reason to wait
// longer; a success, an unlock and an administrator end it.
func testAttemptDelay(t *testing.T, s store.Store) {
	person(t, s)
	p := store.AttemptPolicy{Limit: 9, Free: 3, Delay: 5 * time.Second, MaxDelay: time.Minute}
	at := now
	begin := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.BeginAttempt("DU1", p, at) })
	}
	state := func() []any {
		var u store.User
		view(t, s, func(r store.Reader) (err error) {
			u, err = r.User("DU1")
			return err
		})
		wait := time.Duration(0)
		if !u.NextAttempt.IsZero() {
			wait = u.NextAttempt.Sub(at)
		}
		return []any{u.Failures, wait}
	}
	for i, wait := range []time.Duration{0, 0, 5, 10, 20, 40, 60, 60} {
		equal(t, "counted", begin(), true)
		equal(t, "failures and wait", state(), []any{i + 1, wait * time.Second})
		if wait > 0 {
			at = at.Add(wait*time.Second - time.Microsecond)
			equal(t, "too soon", begin(), false)
			equal(t, "nothing changed", state(), []any{i + 1, time.Microsecond})
			at = at.Add(time.Microsecond)
		}
	}
	equal(t, "the last counts", begin(), true)
	equal(t, "and locks", decide(t, s, func(w store.Writer) (bool, error) { return w.FailAttempt("DU1", p, at) }), true)

	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", at) })
	equal(t, "unlocked by an administrator", state(), []any{0, time.Duration(0)})
	equal(t, "three", []bool{begin(), begin(), begin(), begin()}, []bool{true, true, true, false})
	equal(t, "a success", decide(t, s, func(w store.Writer) (bool, error) { return w.ForgiveAttempts("DU1", at) }), true)
	equal(t, "clears", state(), []any{0, time.Duration(0)})

	// What was made already counts before its time, and no delay is no wait.
	equal(t, "three again", []bool{begin(), begin(), begin()}, []bool{true, true, true})
	p.Made = true
	equal(t, "made", begin(), true)
	equal(t, "counted", state(), []any{4, 10 * time.Second})
	p.Made, p.Delay = false, 0
	at = at.Add(10 * time.Second)
	equal(t, "without a delay", []bool{begin(), begin()}, []bool{true, true})

	// A lock that ended by itself leaves no wait behind.
	p = store.AttemptPolicy{Limit: 1, LockFor: time.Minute, Free: 1, Delay: time.Hour, MaxDelay: time.Hour}
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.LockedOut, store.LockoutFailures, at) })
	at = at.Add(time.Minute)
	equal(t, "after the lock", begin(), true)
}

// testAttemptDelayRace: guesses at one time count no more often than one after another.
func testAttemptDelayRace(t *testing.T, s store.Store) {
	person(t, s)
	p := store.AttemptPolicy{Limit: 10, Free: 5, Delay: time.Second, MaxDelay: time.Hour}
	guess := func(at time.Time) int64 {
		return race(t, s, func(w store.Writer, _ int) (bool, error) { return w.BeginAttempt("DU1", p, at) })
	}
	equal(t, "free", guess(now), int64(5))
	equal(t, "after the wait", guess(now.Add(time.Second)), int64(1))
	equal(t, "before the next", guess(now.Add(2*time.Second)), int64(0))
}

// testYubicoCounter: a YubiKey's counter only rises, by codes of who has it, and of
// one code used at once exactly one wins.
func testYubicoCounter(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddToken(Token("DHy", store.YubiKey)), w.AttachToken("DU1", "DHy"), w.AddUser(User("DU2", "bob")))
	})
	use := func(user, token string, counter int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseYubicoCounter(user, token, counter) })
	}
	first := int64(1)<<8 | 5
	if won := race(t, s, func(w store.Writer, _ int) (bool, error) { return w.UseYubicoCounter("DU1", "DHy", first) }); won != 1 {
		t.Fatalf("%d uses of one code", won)
	}
	equal(t, "again, one touch before, another power-up", []bool{
		use("DU1", "DHy", first), use("DU1", "DHy", first-1), use("DU1", "DHy", 2<<8), use("DU1", "DHy", first+1),
	}, []bool{false, false, true, false})
	equal(t, "another's, of another type, unknown", []bool{
		use("DU2", "DHy", 9<<8), use("DU1", "DHh", 9<<8), use("DU1", "DHx", 9<<8),
	}, []bool{false, false, false})
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) })
	equal(t, "a disabled user's", use("DU1", "DHy", 9<<8), false)
}

func credits(t *testing.T, s store.Store) (c store.Credits) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		c, err = r.Credits()
		return err
	})
	return c
}

func setCredits(t *testing.T, s store.Store, n int64) {
	t.Helper()
	update(t, s, func(w store.Writer) error { return w.SetCredits(n) })
}

// testCredits: nothing is counted until credits are set; then no more is spent than
// is there, and each threshold is told once until they are set again.
func testCredits(t *testing.T, s store.Store) {
	spend := func(cost int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SpendCredits(cost) })
	}
	warn := func(low int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.WarnCredits(low) })
	}
	exhaust := func(cost int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.ExhaustCredits(cost) })
	}
	equal(t, "at first", credits(t, s), store.Credits{Left: store.Uncounted})
	equal(t, "uncounted", []bool{spend(1000), warn(10), exhaust(1)}, []bool{true, false, false})
	equal(t, "stay so", credits(t, s), store.Credits{Left: store.Uncounted})
	setCredits(t, s, 5)
	equal(t, "five", []bool{spend(3), spend(3), warn(1), exhaust(1), spend(0)}, []bool{true, false, false, false, true})
	equal(t, "two are left", []bool{warn(2), warn(2), exhaust(3), exhaust(3)}, []bool{true, false, true, false})
	equal(t, "told", credits(t, s), store.Credits{Left: 2, Warned: true, Exhausted: true})
	equal(t, "the last", []bool{spend(2), spend(1), spend(-5)}, []bool{true, false, true})
	equal(t, "none", credits(t, s), store.Credits{Warned: true, Exhausted: true})
	setCredits(t, s, 1)
	equal(t, "told anew", []bool{warn(1), exhaust(1), spend(1), exhaust(1), exhaust(1)}, []bool{true, false, true, true, false})
	setCredits(t, s, -7)
	equal(t, "switched off", credits(t, s), store.Credits{Left: store.Uncounted})
}

// testCreditRaces: however many spend, warn and give back at once, each credit goes
// once, each threshold is told once, each refund counts once.
func testCreditRaces(t *testing.T, s store.Store) {
	setCredits(t, s, 21)
	equal(t, "spent", race(t, s, func(w store.Writer, _ int) (bool, error) { return w.SpendCredits(2) }), int64(10))
	equal(t, "left", credits(t, s).Left, int64(1))
	equal(t, "warned", race(t, s, func(w store.Writer, _ int) (bool, error) { return w.WarnCredits(1) }), int64(1))
	equal(t, "exhausted", race(t, s, func(w store.Writer, _ int) (bool, error) { return w.ExhaustCredits(2) }), int64(1))
	update(t, s, func(w store.Writer) error {
		return w.AddTelephonyEntry(store.TelephonyEntry{ID: "T1", Time: now, Type: store.TelephonySMS, Credits: 2, Counted: true})
	})
	equal(t, "given back", race(t, s, func(w store.Writer, _ int) (bool, error) { return w.RefundEntry("T1") }), int64(1))
	equal(t, "left again", credits(t, s), store.Credits{Left: 3, Warned: true, Exhausted: true})
	// What was never taken is not given back.
	update(t, s, func(w store.Writer) error {
		return w.AddTelephonyEntry(store.TelephonyEntry{ID: "T2", Time: now, Credits: 9})
	})
	equal(t, "uncounted", decide(t, s, func(w store.Writer) (bool, error) { return w.RefundEntry("T2") }), true)
	equal(t, "unknown", decide(t, s, func(w store.Writer) (bool, error) { return w.RefundEntry("T3") }), false)
	equal(t, "left as before", credits(t, s).Left, int64(3))
}

func testTelephonyLog(t *testing.T, s store.Store) {
	var all []store.TelephonyEntry
	for i := range 5 {
		all = append(all, store.TelephonyEntry{
			ID: fmt.Sprintf("T%d", i), Time: now.Add(time.Duration(i/2) * time.Minute), Context: store.ContextAuthentication,
			Type: store.TelephonyCall, Phone: "+15550100", TxID: "X", UserID: "DU1", Credits: int64(i), Counted: i%2 == 0,
		})
	}
	update(t, s, func(w store.Writer) error {
		for _, e := range all {
			if err := w.AddTelephonyEntry(e); err != nil {
				return err
			}
		}
		return nil
	})
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddTelephonyEntry(all[0]) })
	entries := func(f store.TelephonyFilter) (out []store.TelephonyEntry) {
		view(t, s, func(r store.Reader) (err error) {
			out, err = r.TelephonyEntries(f)
			return err
		})
		return out
	}
	used := func(from, to time.Time) (n int64) {
		view(t, s, func(r store.Reader) (err error) {
			n, err = r.CreditsUsed(from, to)
			return err
		})
		return n
	}
	equal(t, "all", entries(store.TelephonyFilter{}), all)
	equal(t, "a minute", entries(store.TelephonyFilter{From: now.Add(time.Minute), To: now.Add(2 * time.Minute)}), all[2:4])
	equal(t, "page", entries(store.TelephonyFilter{AfterTime: all[2].Time, AfterID: "T2", Limit: 1}), all[3:4])
	equal(t, "newest", entries(store.TelephonyFilter{Newest: true, AfterTime: all[3].Time, AfterID: "T3", Limit: 1}), all[2:3])
	equal(t, "used", []int64{used(now, now.Add(time.Hour)), used(now, now.Add(time.Minute)), used(now.Add(time.Hour), now.Add(2*time.Hour))}, []int64{10, 1, 0})
	equal(t, "refund", decide(t, s, func(w store.Writer) (bool, error) { return w.RefundEntry("T4") }), true)
	equal(t, "used less", used(now, now.Add(time.Hour)), int64(6))
	equal(t, "the entry stays, at no cost", entries(store.TelephonyFilter{From: now.Add(2 * time.Minute)})[0].Credits, int64(0))
	update(t, s, func(w store.Writer) error { return w.PurgeTelephony(now.Add(2 * time.Minute)) })
	equal(t, "after the purge", len(entries(store.TelephonyFilter{})), 1)
}

// testDrift: a drift is noted with the step that showed it, and no later.
func testDrift(t *testing.T, s store.Store) {
	person(t, s)
	learn := func(step, drift int64) int64 {
		update(t, s, func(w store.Writer) error { return w.LearnDrift("DHt", step, drift) })
		return tokenOf(t, s, "DHt").Drift
	}
	equal(t, "used", decide(t, s, func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", 100) }), true)
	equal(t, "learnt", []int64{learn(100, 2), learn(99, 3), learn(101, 4), learn(100, -1)}, []int64{2, 2, 2, -1})
	k := tokenOf(t, s, "DHt")
	k.Step = 60
	update(t, s, func(w store.Writer) error { return w.SetToken(k) })
	equal(t, "another step forgets it", tokenOf(t, s, "DHt").Drift, int64(0))
}

func tokenOf(t *testing.T, s store.Store, id string) (k store.Token) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		k, err = r.Token(id)
		return err
	})
	return k
}

// testResync: the code after one that was too far off counts once, in its time, for
// who has the token, and never behind what was used.
func testResync(t *testing.T, s store.Store) {
	person(t, s)
	until := now.Add(5 * time.Minute)
	note := func(user, token string, next int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.NoteResync(user, token, next, until) })
	}
	use := func(user, token string, at int64, when time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseResync(user, token, at, 7, when) })
	}
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DU2", "bob")) })
	for _, token := range []string{"DHt", "DHh"} {
		equal(t, "nothing noted", use("DU1", token, 50, now), false)
		equal(t, "noted, by another", []bool{note("DU1", token, 50), note("DU2", token, 60)}, []bool{true, false})
		equal(t, "another code, another's, late", []bool{
			use("DU1", token, 51, now), use("DU2", token, 50, now), use("DU1", token, 50, until),
		}, []bool{false, false, false})
		won := race(t, s, func(w store.Writer, _ int) (bool, error) { return w.UseResync("DU1", token, 50, 7, now) })
		equal(t, "at once", won, int64(1))
		equal(t, "noted again, behind", []bool{note("DU1", token, 50), use("DU1", token, 50, now)}, []bool{true, false})
	}
	equal(t, "watermark and drift", []int64{tokenOf(t, s, "DHt").LastStep, tokenOf(t, s, "DHt").Drift}, []int64{50, 7})
	equal(t, "counter", tokenOf(t, s, "DHh").Counter, int64(51))
	equal(t, "noted", note("DU1", "DHh", 90), true)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) })
	equal(t, "a disabled user's", []bool{use("DU1", "DHh", 90, now), note("DU1", "DHh", 91)}, []bool{false, false})
}

// testCodeRaces: a bypass code with three uses left lets in three times, however many
// try at once, and the codes of one message are told in their order.
func testCodeRaces(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddBypassCode(store.BypassCode{ID: "DB3", UserID: "DU1", Hash: []byte("three"), UsesLeft: 3, Created: now, Expires: now.Add(time.Hour)}),
			w.AddBypassCode(store.BypassCode{ID: "DBu", UserID: "DU1", Hash: []byte("any"), UsesLeft: store.Unlimited, Created: now}))
	})
	use := func(id string, at time.Time) int64 {
		return race(t, s, func(w store.Writer, _ int) (bool, error) { return w.UseBypassCode("DU1", id, at) })
	}
	equal(t, "expired, three uses, then none, any number", []int64{use("DB3", now.Add(time.Hour)), use("DB3", now), use("DB3", now), use("DBu", now)},
		[]int64{0, 3, 0, racers})
	var batch []store.SMSCode
	for i, digit := range []string{"8", "9", "0"} {
		batch = append(batch, store.SMSCode{
			ID: "DSb" + digit, UserID: "DU1", PhoneID: "DP1", Hash: []byte(digit), Created: now, Expires: now.Add(time.Minute), Place: i, Digit: digit,
		})
	}
	update(t, s, func(w store.Writer) error { return w.ReplaceSMSCodes("DU1", "DP1", batch) })
	codes := func(at time.Time) (out []store.SMSCode) {
		view(t, s, func(r store.Reader) (err error) {
			out, err = r.SMSCodes("DU1", at)
			return err
		})
		return out
	}
	equal(t, "batch", codes(now), batch)
	won := race(t, s, func(w store.Writer, i int) (bool, error) { return w.UseSMSCode("DU1", batch[i%2].ID, now) })
	equal(t, "two of three used at once", won, int64(2))
	equal(t, "left", codes(now), batch[2:])
	equal(t, "expired", len(codes(now.Add(time.Minute))), 0)
}
