// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of package store: every engine
// passes the same tests. It tests through the interface alone and never looks
// into an engine.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Open makes a fresh store that the test closes.
type Open func(t *testing.T) store.Store

// now is the time of all tests.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// racers is how many goroutines race for a one-time thing.
const racers = 64

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"Integrations", testIntegrations},
		{"Hosts", testHosts},
		{"Users", testUsers},
		{"UserStatus", testUserStatus},
		{"Groups", testGroups},
		{"Policies", testPolicies},
		{"PolicyUses", testPolicyUses},
		{"PolicyVersion", testPolicyVersion},
		{"NoteUnasked", testNoteUnasked},
		{"Phones", testPhones},
		{"Tokens", testTokens},
		{"YubiKeys", testYubiKeys},
		{"Trash", testTrash},
		{"Attributes", testAttributes},
		{"DesktopTokens", testDesktopTokens},
		{"Credentials", testCredentials},
		{"SSHKeys", testSSHKeys},
		{"SSHKeyRaces", testSSHKeyRaces},
		{"SMSCodesSent", testSMSCodesSent},
		{"BypassCodes", testBypassCodes},
		{"SMSCodes", testSMSCodes},
		{"Attempts", testAttempts},
		{"LockExpires", testLockExpires},
		{"AttemptDelay", testAttemptDelay},
		{"AttemptDelayRace", testAttemptDelayRace},
		{"YubicoCounter", testYubicoCounter},
		{"CodeRaces", testCodeRaces},
		{"Drift", testDrift},
		{"Resync", testResync},
		{"Credits", testCredits},
		{"CreditRaces", testCreditRaces},
		{"TelephonyLog", testTelephonyLog},
		{"PushBudget", testPushBudget},
		{"PushPauses", testPushPauses},
		{"PushAlarm", testPushAlarm},
		{"Activation", testActivation},
		{"ActivationOfAnothersPhone", testActivationOfAnothersPhone},
		{"FraudOutlastsFailures", testFraudOutlastsFailures},
		{"StepChangeKeepsWatermark", testStepChangeKeepsWatermark},
		{"Transaction", testTransaction},
		{"Premises", testPremises},
		{"Events", testEvents},
		{"Administrators", testAdministrators},
		{"LastOwnerRace", testLastOwnerRace},
		{"AdminActivations", testAdminActivations},
		{"Endpoints", testEndpoints},
		{"RegisteredDevices", testRegisteredDevices},
		{"Logo", testLogo},
		{"LogOrder", testLogOrder},
		{"LogFilters", testLogFilters},
		{"LogPaging", testLogPaging},
		{"OfflineKeys", testOfflineKeys},
		{"Announcements", testAnnouncements},
		{"UserVerification", testUserVerification},
		{"VerifiedApprovals", testVerifiedApprovals},
		{"Challenges", testChallenges},
		{"OfflinePremises", testOfflinePremises},
		{"Reports", testReports},
		{"PushKey", testPushKey},
		{"PushSubscriptions", testPushSubscriptions},
		{"PushPremises", testPushPremises},
		{"Requests", testRequests},
		{"EventByID", testEventByID},
		{"Settings", testSettings},
		{"RememberedDevices", testRememberedDevices},
		{"SessionFromProof", testSessionFromProof},
		{"SessionPremises", testSessionPremises},
		{"SessionEnds", testSessionEnds},
		{"SessionsListed", testSessionsListed},
		{"ManagementSystems", testManagementSystems},
		{"DeviceCacheStates", testDeviceCacheStates},
		{"CachedDevices", testCachedDevices},
		{"SweepDeviceCaches", testSweepDeviceCaches},
		{"DeviceCacheRaces", testDeviceCacheRaces},
		{"EnrollLinks", testEnrollLinks},
		{"EnrollLinkRace", testEnrollLinkRace},
		{"EnrollSessions", testEnrollSessions},
		{"Mails", testMails},
		{"RecoveryCodes", testRecoveryCodes},
		{"Purge", testPurge},
		{"Streams", testStreams},
		{"StreamsInOrder", testStreamsInOrder},
		{"Retention", testRetention},
		{"Sealed", testSealed},
		{"Heartbeat", testHeartbeat},
		{"AfterRestore", testAfterRestore},
		{"Rollback", testRollback},
		{"FailingNeighbour", testFailingNeighbour},
		{"Panic", testPanic},
		{"Cancelled", testCancelled},
		{"Closed", testClosed},
		{"Edits", testEdits},
		{"FreePlaces", testFreePlaces},
		{"Races", testRaces},
		{"ParallelAttempts", testParallelAttempts},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			defer s.Close()
			c.test(t, s)
		})
	}
}

func update(t *testing.T, s store.Store, f func(w store.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t *testing.T, s store.Store, f func(r store.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), f); err != nil {
		t.Fatalf("view: %v", err)
	}
}

func wantErr(t *testing.T, s store.Store, want error, f func(w store.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), f); !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// decide runs a deciding method in its own update.
func decide(t *testing.T, s store.Store, f func(w store.Writer) (bool, error)) bool {
	t.Helper()
	var won bool
	update(t, s, func(w store.Writer) (err error) {
		won, err = f(w)
		return err
	})
	return won
}

// Integration is a complete integration for tests.
func Integration(key string) store.Integration {
	return store.Integration{
		Key: key, Name: "name of " + key, Type: store.AuthAPI, SecretSealed: []byte{1, 2, 3}, AllowSHA1: true,
		Networks: []string{"10.0.0.0/8"}, Grants: []string{store.GrantInfo}, NamePolicy: store.NameSimple,
		EnrollPolicy: store.EnrollDeny, Notes: "n", Created: now,
		OldSecret: store.OldSecret{Sealed: []byte{8}, Until: now.Add(time.Hour)},
		IntegrationMore: store.IntegrationMore{
			UserAccess: store.AccessGroups, GroupsAllowed: []string{"DG1"}, SelfServiceAllowed: true, VisualStyle: "flat",
			TrustedDeviceDays: 3, IPWhitelist: []string{"192.0.2.0/24"}, IPWhitelistEnrollPolicy: "enforce",
		},
	}
}

// User is an active user for tests.
func User(id, name string, aliases ...string) store.User {
	return store.User{ID: id, Username: name, Aliases: aliases, Status: store.Active, Created: now}
}

// Phone is an activated phone for tests.
func Phone(id string) store.Phone {
	return store.Phone{ID: id, Number: "+15550100", Name: "phone", Type: "mobile", PublicKey: "KEY", Generation: 1, Created: now, Activated: now}
}

// Token is a token for tests.
func Token(id string, typ store.TokenType) store.Token {
	return store.Token{ID: id, Type: typ, Serial: id, SecretSealed: []byte{9}, LastStep: -1, Step: 30, Created: now}
}

// Transaction is a pending push for tests.
func Transaction(txID string, state store.TxState) store.Transaction {
	return store.Transaction{
		TxID: txID, UserID: "DU1", IntegrationKey: "DI1", Factor: "push", PhoneID: "DP1", Generation: 1, State: state,
		Status: "pushed", StatusMsg: "m", CodeHash: []byte{7}, Context: []byte(`{"a":1}`), Event: []byte(`{}`),
		Created: now, Expires: now.Add(time.Minute),
	}
}

// person adds a user DU1 with phone DP1, tokens DHt (TOTP) and DHh (HOTP), a
// bypass code DB1 and an SMS code DS1.
func person(t *testing.T, s store.Store) {
	t.Helper()
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddUser(User("DU1", "alice", "al")),
			w.AddPhone(Phone("DP1")), w.AttachPhone("DU1", "DP1"),
			w.AddToken(Token("DHt", store.TOTP6)), w.AttachToken("DU1", "DHt"),
			w.AddToken(Token("DHh", store.HOTP6)), w.AttachToken("DU1", "DHh"),
			w.AddBypassCode(store.BypassCode{ID: "DB1", UserID: "DU1", Hash: []byte("b"), UsesLeft: 1, Created: now, Expires: now.Add(time.Hour)}),
			w.ReplaceSMSCodes("DU1", "DP1", []store.SMSCode{{ID: "DS1", UserID: "DU1", PhoneID: "DP1", Hash: []byte("s"), Created: now, Expires: now.Add(time.Hour)}}),
		)
	})
}

func testIntegrations(t *testing.T, s store.Store) {
	a, b := Integration("DIa"), Integration("DIb")
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddIntegration(a), w.AddIntegration(b)) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddIntegration(a) })
	a.Name, a.AllowSHA1, a.AllowV1, a.AllowPlainPush, a.Networks, a.Grants, a.SecretSealed = "new", false, true, true, nil, nil, []byte{4}
	a.OldSecret, a.IntegrationMore = store.OldSecret{}, store.IntegrationMore{GroupsAllowed: []string{"DG2"}}
	update(t, s, func(w store.Writer) error { return w.SetIntegration(a) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Integration("DIa")
		equal(t, "integration", got, a)
		if err != nil {
			return err
		}
		all, total, err := r.Integrations(store.Page{Limit: 1, Offset: 1})
		equal(t, "page", all, []store.Integration{a}) // "name of DIb" sorts before "new"
		equal(t, "total", total, 2)
		return err
	})
	update(t, s, func(w store.Writer) error { return w.DeleteIntegration("DIa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteIntegration("DIa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetIntegration(a) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Integration("DIa"); return err })
}

func testHosts(t *testing.T, s store.Store) {
	h := store.Host{ID: "H1", Name: "db1", PublicKey: "K", IntegrationKey: "DIh", Created: now}
	i := Integration("DIh")
	i.HostID = "H1"
	j := store.JoinToken{ID: "J1", Hash: []byte("j"), Name: "t", UsesLeft: 2, Created: now, Expires: now.Add(time.Hour)}
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddIntegration(i), w.AddHost(h), w.AddJoinToken(j), w.TouchHost("H1", now.Add(time.Second)))
	})
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddHost(h) })
	for n, want := range []bool{true, true, false} {
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.UseJoinToken([]byte("j"), now) }); got != want {
			t.Fatalf("use %d of the join token: %v, want %v", n, got, want)
		}
	}
	update(t, s, func(w store.Writer) error {
		return w.AddJoinToken(store.JoinToken{ID: "J2", Hash: []byte("k"), UsesLeft: 1, Created: now, Expires: now})
	})
	if decide(t, s, func(w store.Writer) (bool, error) { return w.UseJoinToken([]byte("k"), now) }) {
		t.Fatal("an expired join token was used")
	}
	update(t, s, func(w store.Writer) error { return w.RevokeHost("H1", now) })
	update(t, s, func(w store.Writer) error { return w.RevokeHost("H1", now.Add(time.Hour)) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Host("H1")
		h.LastSeen, h.RevokedAt = now.Add(time.Second), now
		equal(t, "host", got, h)
		if _, err := r.Integration("DIh"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("the integration of a revoked host: %v", err)
		}
		all, total, err2 := r.Hosts(store.Page{})
		equal(t, "hosts", all, []store.Host{h})
		equal(t, "total", total, 1)
		tokens, err3 := r.JoinTokens()
		equal(t, "join tokens", len(tokens), 2)
		return errors.Join(err, err2, err3)
	})
}

func testUsers(t *testing.T, s store.Store) {
	a, b := User("DUa", "alice", "al", "a.smith"), User("DUb", "bob")
	a.Email, a.RealName, a.Notes, a.FirstName, a.LastName = "a@example.org", "Alice", "n", "A", "S"
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddUser(a), w.AddUser(b)) })
	for _, name := range []string{"alice", "al", "a.smith"} {
		view(t, s, func(r store.Reader) error {
			got, err := r.UserByName(name)
			equal(t, name, got, a)
			return err
		})
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddUser(User("DUx", name)) })
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddUser(User("DUx", "x", name)) })
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.SetUser(User("DUb", name)) })
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.SetUser(User("DUb", "bob", name)) })
	}
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.UserByName("Alice"); return err })
	a.Username, a.Aliases = "al", []string{"alice"}
	update(t, s, func(w store.Writer) error { return w.SetUser(a) })
	view(t, s, func(r store.Reader) error {
		got, err := r.User("DUa")
		equal(t, "changed", got, a)
		if _, err := r.UserByName("a.smith"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("an alias taken away: %v", err)
		}
		byAlias, n, err2 := r.Users(store.UserFilter{Username: "alice"}, store.Page{})
		equal(t, "by alias", byAlias, []store.User{a})
		equal(t, "count", n, 1)
		byMail, _, err3 := r.Users(store.UserFilter{Email: "a@example.org"}, store.Page{})
		equal(t, "by mail", byMail, []store.User{a})
		all, n, err4 := r.Users(store.UserFilter{}, store.Page{Limit: 1, Offset: 1})
		equal(t, "second page", all, []store.User{b})
		equal(t, "count", n, 2)
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(w store.Writer) error { return w.DeleteUser("DUa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteUser("DUa") })
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DUc", "alice")) })
}

func testUserStatus(t *testing.T, s store.Store) {
	person(t, s)
	if !decide(t, s, func(w store.Writer) (bool, error) { return w.LockUser("DU1", store.LockoutFraud, now) }) {
		t.Fatal("could not lock an active user")
	}
	if decide(t, s, func(w store.Writer) (bool, error) { return w.LockUser("DU1", store.LockoutAdmin, now) }) {
		t.Fatal("locked a locked user")
	}
	// An edit does not undo the lock-out.
	update(t, s, func(w store.Writer) error { return w.SetUser(User("DU1", "alice")) })
	check := func(status store.UserStatus, reason string, at time.Time) {
		t.Helper()
		view(t, s, func(r store.Reader) error {
			u, err := r.User("DU1")
			equal(t, "status", []any{u.Status, u.LockoutReason, u.LockedAt}, []any{status, reason, at})
			return err
		})
	}
	check(store.LockedOut, store.LockoutFraud, now)
	for _, status := range []store.UserStatus{store.Active, store.Bypass, store.Disabled} {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", status, "", now) })
		check(status, "", time.Time{})
	}
	bypass := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.NoteBypass("DU1", now) })
	}
	equal(t, "note a bypass", bypass(), false)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Bypass, "", now) })
	equal(t, "note a bypass", bypass(), true)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.LockedOut, store.LockoutAdmin, now) })
	check(store.LockedOut, store.LockoutAdmin, now)
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetUserStatus("DUx", store.Active, "", now) })
}

func testPhones(t *testing.T, s store.Store) {
	person(t, s)
	p := Phone("DP2")
	p.Number, p.PublicKey, p.Generation, p.Activated, p.Created = "+15550199", "", 0, time.Time{}, now.Add(time.Second)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddPhone(p), w.AttachPhone("DU1", "DP2"), w.AttachPhone("DU1", "DP2"))
	})
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddPhone(p) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AttachPhone("DU1", "DPx") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AttachPhone("DUx", "DP2") })
	p.Name, p.PublicKey = "renamed", "FORGED"
	update(t, s, func(w store.Writer) error { return errors.Join(w.SetPhone(p), w.TouchPhone("DP2", now)) })
	p.PublicKey, p.LastSeen = "", now
	view(t, s, func(r store.Reader) error {
		got, err := r.Phone("DP2")
		equal(t, "phone (SetPhone sets no key)", got, p)
		mine, err2 := r.UserPhones("DU1")
		equal(t, "phones of user", mine, []store.Phone{Phone("DP1"), p})
		users, err3 := r.PhoneUsers("DP2")
		equal(t, "users of phone", len(users), 1)
		found, n, err4 := r.Phones(store.PhoneFilter{Number: "+15550199"}, store.Page{})
		equal(t, "by number", found, []store.Phone{p})
		equal(t, "count", n, 1)
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(w store.Writer) error { return w.DeactivatePhone("DP1") })
	view(t, s, func(r store.Reader) error {
		got, err := r.Phone("DP1")
		equal(t, "deactivated", []any{got.CanPush(), got.Generation}, []any{false, int64(2)})
		return err
	})
	update(t, s, func(w store.Writer) error { return w.DetachPhone("DU1", "DP2") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DetachPhone("DU1", "DP2") })
	update(t, s, func(w store.Writer) error { return w.DeletePhone("DP1") })
	view(t, s, func(r store.Reader) error {
		mine, err := r.UserPhones("DU1")
		equal(t, "phones of user", len(mine), 0)
		return err
	})
}

func testTokens(t *testing.T, s store.Store) {
	person(t, s)
	k := Token("DHx", store.HOTP8)
	k.Serial = "DHh" // the serial of a token of another type
	update(t, s, func(w store.Writer) error { return w.AddToken(k) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddToken(k) })
	same := Token("DHy", store.HOTP8)
	same.Serial = "DHh"
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddToken(same) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AttachToken("DU1", "DHz") })
	k.Serial, k.Step = "S2", 60
	update(t, s, func(w store.Writer) error { return w.SetToken(k) })
	for _, c := range []struct {
		next int64
		want bool
	}{{5, true}, {4, false}, {5, true}} {
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.ResyncHOTP("DHx", c.next) }); got != c.want {
			t.Fatalf("resync to %d: %v", c.next, got)
		}
	}
	k.Counter = 5
	view(t, s, func(r store.Reader) error {
		got, err := r.Token("DHx")
		equal(t, "token", got, k)
		mine, err2 := r.UserTokens("DU1")
		equal(t, "tokens of user", len(mine), 2)
		users, err3 := r.TokenUsers("DHt")
		equal(t, "users of token", users[0].ID, "DU1")
		found, n, err4 := r.Tokens(store.TokenFilter{Type: store.HOTP8, Serial: "S2"}, store.Page{})
		equal(t, "by serial", found, []store.Token{k})
		equal(t, "count", n, 1)
		return errors.Join(err, err2, err3, err4)
	})
	for _, c := range []struct {
		step int64
		want bool
	}{{100, true}, {100, false}, {99, false}, {101, true}} {
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", c.step) }); got != c.want {
			t.Fatalf("TOTP step %d: %v", c.step, got)
		}
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHh", c.step) }); got != c.want {
			t.Fatalf("HOTP counter %d: %v", c.step, got)
		}
	}
	for what, f := range map[string]func(w store.Writer) (bool, error){
		"a TOTP token's counter": func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHt", 500) },
		"an HOTP token's step":   func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHh", 500) },
		"another user's token":   func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DUx", "DHh", 500) },
		"an unattached token":    func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHx", 500) },
	} {
		if decide(t, s, f) {
			t.Fatalf("used %s", what)
		}
	}
	update(t, s, func(w store.Writer) error { return w.DetachToken("DU1", "DHt") })
	update(t, s, func(w store.Writer) error { return w.DeleteToken("DHt") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteToken("DHt") })
}

func testBypassCodes(t *testing.T, s store.Store) {
	person(t, s)
	for user, want := range map[string][]bool{"DU1": {true, false}, "DUx": {false, false}} {
		var has [2]bool
		view(t, s, func(r store.Reader) (err error) {
			if has[0], err = r.HasBypassCode(user, now); err != nil {
				return err
			}
			has[1], err = r.HasBypassCode(user, now.Add(time.Hour))
			return err
		})
		equal(t, "has a code of "+user+" now, and when it has expired", has[:], want)
	}
	twice := store.BypassCode{ID: "DB2", UserID: "DU1", Hash: []byte("2"), UsesLeft: 2, Created: now}
	forever := store.BypassCode{ID: "DB3", UserID: "DU1", Hash: []byte("3"), UsesLeft: store.Unlimited, Created: now}
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddBypassCode(twice), w.AddBypassCode(forever)) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error {
		twice.ID = "DB4"
		return w.AddBypassCode(twice) // the same code again
	})
	use := func(user, id string, at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseBypassCode(user, id, at) })
	}
	equal(t, "another user's", use("DUx", "DB1", now), false)
	equal(t, "expired", use("DU1", "DB1", now.Add(time.Hour)), false)
	equal(t, "first", use("DU1", "DB1", now), true)
	equal(t, "second", use("DU1", "DB1", now), false)
	equal(t, "two uses", []bool{use("DU1", "DB2", now), use("DU1", "DB2", now), use("DU1", "DB2", now)}, []bool{true, true, false})
	equal(t, "unlimited", []bool{use("DU1", "DB3", now), use("DU1", "DB3", now.Add(1e6*time.Hour))}, []bool{true, true})
	view(t, s, func(r store.Reader) error {
		left, n, err := r.BypassCodes("DU1", store.Page{})
		equal(t, "codes with uses left", left, []store.BypassCode{forever})
		equal(t, "count", n, 1)
		_, n, err2 := r.BypassCodes("", store.Page{})
		equal(t, "everyone's", n, 1)
		byHash, err3 := r.BypassCodeByHash("DU1", []byte("3"))
		equal(t, "by hash", byHash, forever)
		byID, err4 := r.BypassCode("DB3")
		equal(t, "by id", byID, forever)
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(w store.Writer) error { return w.DeleteBypassCode("DB3") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteBypassCode("DB3") })
	update(t, s, func(w store.Writer) error { return w.DeleteBypassCodes("DU1", false) })
}

func testSMSCodes(t *testing.T, s store.Store) {
	person(t, s)
	use := func(id string, at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseSMSCode("DU1", id, at) })
	}
	equal(t, "expired", use("DS1", now.Add(time.Hour)), false)
	view(t, s, func(r store.Reader) error {
		c, err := r.SMSCodeByHash("DU1", []byte("s"))
		equal(t, "code", c.ID, "DS1")
		return err
	})
	fresh := store.SMSCode{ID: "DS2", Hash: []byte("t"), Created: now, Expires: now.Add(time.Hour)}
	update(t, s, func(w store.Writer) error { return w.ReplaceSMSCodes("DU1", "DP1", []store.SMSCode{fresh}) })
	equal(t, "replaced", use("DS1", now), false)
	equal(t, "once", []bool{use("DS2", now), use("DS2", now)}, []bool{true, false})
}

func testAttempts(t *testing.T, s store.Store) {
	person(t, s)
	p := store.AttemptPolicy{Limit: 3}
	begin := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.BeginAttempt("DU1", p, now) })
	}
	fail := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.FailAttempt("DU1", p, now) })
	}
	forgive := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.ForgiveAttempts("DU1", now) })
	}
	equal(t, "two failures", []bool{begin(), fail(), begin(), fail()}, []bool{true, false, true, false})
	equal(t, "third succeeds", []bool{begin(), forgive()}, []bool{true, true})
	view(t, s, func(r store.Reader) error {
		u, err := r.User("DU1")
		equal(t, "forgiven", []any{u.Failures, u.LastLogin}, []any{0, now})
		return err
	})
	equal(t, "three failures", []bool{begin(), fail(), begin(), fail(), begin(), fail()}, []bool{true, false, true, false, true, true})
	equal(t, "locked", []bool{begin(), forgive()}, []bool{false, false})
	// An attempt that never ended leaves the count at the limit: the next is refused and locks.
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", now) })
	equal(t, "begun", []bool{begin(), begin(), begin(), begin()}, []bool{true, true, true, false})
	view(t, s, func(r store.Reader) error {
		u, err := r.User("DU1")
		equal(t, "locked", []any{u.Status, u.LockoutReason, u.Failures}, []any{store.LockedOut, store.LockoutFailures, 3})
		return err
	})
	for _, status := range []store.UserStatus{store.Disabled, store.Bypass} {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", status, "", now) })
		equal(t, string(status), begin(), false)
	}
	equal(t, "unknown user", decide(t, s, func(w store.Writer) (bool, error) { return w.BeginAttempt("DUx", p, now) }), false)
}

func testLockExpires(t *testing.T, s store.Store) {
	person(t, s)
	p := store.AttemptPolicy{Limit: 1, LockFor: time.Minute}
	begin := func(at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.BeginAttempt("DU1", p, at) })
	}
	lock := func(reason string) {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.LockedOut, reason, now) })
	}
	lock(store.LockoutFailures)
	equal(t, "too early", begin(now.Add(time.Minute-1*time.Microsecond)), false)
	equal(t, "in time", begin(now.Add(time.Minute)), true)
	for _, reason := range []string{store.LockoutFraud, store.LockoutAdmin} {
		lock(reason)
		equal(t, reason, begin(now.Add(time.Hour)), false)
	}
}

func testPushBudget(t *testing.T, s store.Store) {
	person(t, s)
	spend := func(limit int, at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) {
			return w.SpendPush("DU1", store.PushPolicy{Limit: limit, Window: time.Hour}, at)
		})
	}
	equal(t, "no budget", spend(0, now), false)
	equal(t, "two of two", []bool{spend(2, now), spend(2, now), spend(2, now)}, []bool{true, true, false})
	equal(t, "within the hour", spend(2, now.Add(59*time.Minute)), false)
	equal(t, "after the hour", []bool{spend(2, now.Add(time.Hour)), spend(2, now.Add(time.Hour)), spend(2, now.Add(time.Hour))}, []bool{true, true, false})
	update(t, s, func(w store.Writer) error { _, err := w.ForgiveAttempts("DU1", now); return err })
	equal(t, "after a success", spend(2, now.Add(time.Hour)), true)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) })
	equal(t, "disabled", spend(9, now), false)
}

func testActivation(t *testing.T, s store.Store) {
	person(t, s)
	add := func(hash string, expires time.Time) {
		update(t, s, func(w store.Writer) error {
			return w.AddActivation(store.Activation{Hash: []byte(hash), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: expires})
		})
	}
	var phone store.Phone
	use := func(hash string) bool {
		return decide(t, s, func(w store.Writer) (won bool, err error) {
			phone, won, err = w.UseActivation([]byte(hash), store.DeviceKey{PublicKey: "NEW", Platform: "Linux"}, now)
			return won, err
		})
	}
	add("a", now.Add(time.Hour))
	add("old", now)
	equal(t, "expired, unknown", []bool{use("old"), use("x")}, []bool{false, false})
	equal(t, "first", use("a"), true)
	equal(t, "phone", []any{phone.PublicKey, phone.Generation, phone.Name, phone.Platform}, []any{"NEW", int64(2), "phone", "Linux"})
	equal(t, "second", use("a"), false)
	view(t, s, func(r store.Reader) error {
		a, err := r.Activation([]byte("a"))
		equal(t, "used", a.UsedAt, now)
		return err
	})
}

func testTransaction(t *testing.T, s store.Store) {
	person(t, s)
	offered := Transaction("T1", store.TxOffered)
	offered.Factor, offered.PhoneID, offered.Generation = "", "", 0
	update(t, s, func(w store.Writer) error { return w.AddTransaction(offered) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddTransaction(offered) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Transaction("T1")
		equal(t, "offered", got, offered)
		return err
	})
	start := store.Start{TxID: "T1", IntegrationKey: "DI1", UserID: "DU1", Factor: "push", PhoneID: "DP1", Generation: 1,
		Status: "pushed", StatusMsg: "m", Context: []byte(`{"a":1}`), Event: []byte(`{}`), Expires: now.Add(2 * time.Minute), Now: now}
	begin := func(change func(*store.Start)) bool {
		x := start
		change(&x)
		return decide(t, s, func(w store.Writer) (bool, error) { return w.StartTransaction(x) })
	}
	for what, change := range map[string]func(*store.Start){
		"another integration": func(x *store.Start) { x.IntegrationKey = "DI2" },
		"another user":        func(x *store.Start) { x.UserID = "DU2" },
		"too late":            func(x *store.Start) { x.Now = now.Add(time.Minute) },
		"another phone":       func(x *store.Start) { x.PhoneID = "DP2" },
		"an old generation":   func(x *store.Start) { x.Generation = 0 },
	} {
		equal(t, what, begin(change), false)
	}
	equal(t, "start", begin(func(*store.Start) {}), true)
	equal(t, "start twice", begin(func(*store.Start) {}), false)

	view(t, s, func(r store.Reader) error {
		mine, err := r.PhoneTransactions("DP1", now)
		equal(t, "pending of phone", len(mine), 1)
		late, err2 := r.PhoneTransactions("DP1", now.Add(2*time.Minute))
		equal(t, "after its time", len(late), 0)
		over, err3 := r.OverdueTransactions(now.Add(2*time.Minute), 10)
		equal(t, "overdue", len(over), 1)
		early, err4 := r.OverdueTransactions(now, 10)
		equal(t, "not overdue", len(early), 0)
		return errors.Join(err, err2, err3, err4)
	})

	progress := func(status string) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SetTransactionStatus("T1", status, status, now) })
	}
	equal(t, "progress", []bool{progress("answered"), progress("answered")}, []bool{true, false})

	var tries int
	try := func(at time.Time) bool {
		return decide(t, s, func(w store.Writer) (won bool, err error) {
			tries, won, err = w.TryDigits("T1", 2, at)
			return won, err
		})
	}
	equal(t, "tries", []bool{try(now.Add(2 * time.Minute)), try(now), try(now)}, []bool{false, true, true})
	equal(t, "count", tries, 2)
	equal(t, "no try left", try(now), false)

	approve := store.Decision{TxID: "T1", State: store.TxApproved, Status: "allow", StatusMsg: "ok", PhoneID: "DP1", NeedsKey: true, Now: now}
	end := func(change func(*store.Decision)) bool {
		x := approve
		change(&x)
		return decide(t, s, func(w store.Writer) (bool, error) { return w.DecideTransaction(x) })
	}
	equal(t, "by another phone", end(func(d *store.Decision) { d.PhoneID = "DP2" }), false)
	equal(t, "too late", end(func(d *store.Decision) { d.Now = now.Add(2 * time.Minute) }), false)
	expire := func(at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.ExpireTransaction("T1", "timeout", "late", at) })
	}
	equal(t, "expired too early", expire(now), false)
	equal(t, "approve", end(func(*store.Decision) {}), true)
	equal(t, "deny after approve", end(func(d *store.Decision) { d.State = store.TxDenied }), false)
	equal(t, "expire after approve", expire(now.Add(time.Hour)), false)
	equal(t, "progress after the end", progress("calling"), false)
	view(t, s, func(r store.Reader) error {
		got, err := r.Transaction("T1")
		equal(t, "end", []any{got.State, got.Status, got.StatusMsg, got.DecidedAt}, []any{store.TxApproved, "allow", "ok", now})
		return err
	})

	update(t, s, func(w store.Writer) error { return w.AddTransaction(Transaction("T2", store.TxPending)) })
	equal(t, "expire", decide(t, s, func(w store.Writer) (bool, error) {
		return w.ExpireTransaction("T2", "timeout", "late", now.Add(time.Minute))
	}), true)
}

// testPremises changes one premise at a time behind each decision.
func testPremises(t *testing.T, s store.Store) {
	person(t, s)
	decisions := map[string]func(w store.Writer) (bool, error){
		"totp":   func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", 1) },
		"hotp":   func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHh", 1) },
		"bypass": func(w store.Writer) (bool, error) { return w.UseBypassCode("DU1", "DB1", now) },
		"sms":    func(w store.Writer) (bool, error) { return w.UseSMSCode("DU1", "DS1", now) },
		"approve": func(w store.Writer) (bool, error) {
			return w.DecideTransaction(store.Decision{TxID: "TP", State: store.TxApproved, PhoneID: "DP1", NeedsKey: true, Now: now})
		},
		"phone call": func(w store.Writer) (bool, error) {
			return w.DecideTransaction(store.Decision{TxID: "TP", State: store.TxApproved, NeedsPhone: true, Now: now})
		},
		"deny": func(w store.Writer) (bool, error) {
			return w.DecideTransaction(store.Decision{TxID: "TP", State: store.TxDenied, PhoneID: "DP1", NeedsKey: true, Now: now})
		},
		"start": func(w store.Writer) (bool, error) {
			return w.StartTransaction(store.Start{TxID: "TO", IntegrationKey: "DI1", UserID: "DU1", Factor: "push", PhoneID: "DP1", Generation: 1, Expires: now.Add(time.Minute), Now: now})
		},
	}
	offered := Transaction("TO", store.TxOffered)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddTransaction(Transaction("TP", store.TxPending)), w.AddTransaction(offered))
	})
	undo := errors.New("undo")
	for _, c := range []struct {
		name   string
		change func(w store.Writer) error
		wins   []string
	}{
		{"nothing", func(store.Writer) error { return nil }, []string{"totp", "hotp", "bypass", "sms", "approve", "phone call", "deny", "start"}},
		{"user disabled", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) }, []string{"deny"}},
		{"user in bypass", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Bypass, "", now) }, []string{"deny"}},
		{"user locked", func(w store.Writer) error { _, err := w.LockUser("DU1", store.LockoutFraud, now); return err }, []string{"deny"}},
		{"user deleted", func(w store.Writer) error { return w.DeleteUser("DU1") }, nil},
		{"tokens taken away", func(w store.Writer) error {
			return errors.Join(w.DetachToken("DU1", "DHt"), w.DetachToken("DU1", "DHh"))
		}, []string{"bypass", "sms", "approve", "phone call", "deny", "start"}},
		{"phone taken away", func(w store.Writer) error { return w.DetachPhone("DU1", "DP1") }, []string{"totp", "hotp", "bypass"}},
		{"phone renamed", func(w store.Writer) error { p := Phone("DP1"); p.Name = "x"; return w.SetPhone(p) }, []string{"totp", "hotp", "bypass", "sms", "approve", "phone call", "deny", "start"}},
		{"number changed", func(w store.Writer) error { p := Phone("DP1"); p.Number = "+15550177"; return w.SetPhone(p) }, []string{"totp", "hotp", "bypass"}},
		{"phone deactivated", func(w store.Writer) error { return w.DeactivatePhone("DP1") }, []string{"totp", "hotp", "bypass", "sms"}},
		{"phone activated anew", func(w store.Writer) error {
			err := w.AddActivation(store.Activation{Hash: []byte("p"), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: now.Add(time.Hour)})
			_, _, err2 := w.UseActivation([]byte("p"), store.DeviceKey{PublicKey: "OTHER"}, now)
			return errors.Join(err, err2)
		}, []string{"totp", "hotp", "bypass", "sms"}},
		{"phone deleted", func(w store.Writer) error { return w.DeletePhone("DP1") }, []string{"totp", "hotp", "bypass"}},
	} {
		for name, decision := range decisions {
			want := false
			for _, n := range c.wins {
				want = want || n == name
			}
			var got bool
			err := s.Update(context.Background(), func(w store.Writer) error {
				if err := c.change(w); err != nil {
					return err
				}
				var err error
				if got, err = decision(w); err != nil {
					return err
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Fatalf("%s, %s: %v", c.name, name, err)
			}
			if got != want {
				t.Errorf("%s, %s: won %v, want %v", c.name, name, got, want)
			}
		}
	}
}

func testEvents(t *testing.T, s store.Store) {
	var all []store.Event
	for i := range 5 {
		at := now.Add(time.Duration(i/2) * time.Second)
		all = append(all, store.Event{
			Time: at, TxID: fmt.Sprintf("T%d", i), Timestamp: at.Unix(), EventType: "authentication", Factor: "passcode",
			Result: []string{"success", "denied"}[i%2], Reason: "valid_passcode",
			User:        store.EventUser{Key: fmt.Sprintf("DU%d", i%3), Name: "alice", Groups: []string{}},
			Application: store.EventApp{Key: "DI1", Name: "sshd"},
		})
	}
	for i := range all {
		update(t, s, func(w store.Writer) error { return w.AddEvent(all[i]) })
	}
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddEvent(all[0]) })
	check := func(what string, f store.EventFilter, want ...int) {
		t.Helper()
		view(t, s, func(r store.Reader) error {
			got, err := r.Events(f)
			expected := []store.Event(nil)
			for _, i := range want {
				expected = append(expected, all[i])
			}
			equal(t, what, got, expected)
			return err
		})
	}
	check("all", store.EventFilter{}, 0, 1, 2, 3, 4)
	check("newest", store.EventFilter{Newest: true, Limit: 2}, 4, 3)
	check("newest, next page", store.EventFilter{Newest: true, Limit: 2, AfterTime: all[3].Time, AfterTxID: "T3"}, 2, 1)
	check("next page", store.EventFilter{Limit: 2, AfterTime: all[1].Time, AfterTxID: "T1"}, 2, 3)
	check("time", store.EventFilter{From: now.Add(time.Second), To: now.Add(2 * time.Second)}, 2, 3)
	check("result", store.EventFilter{Results: []string{"denied", "fraud"}}, 1, 3)
	check("user", store.EventFilter{Users: []string{"DU0"}}, 0, 3)
	check("name", store.EventFilter{Usernames: []string{"bob"}})
	check("two", store.EventFilter{Users: []string{"DU0"}, Results: []string{"success"}, Factors: []string{"passcode"},
		Integrations: []string{"DI1"}, Reasons: []string{"valid_passcode"}, EventTypes: []string{"authentication"}, Usernames: []string{"alice"}}, 0)

	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddAdminEvent(store.AdminEvent{Time: now, Username: "API", Action: "user_create", Object: "alice", Description: []byte(`{"a":1}`)}),
			w.AddAdminEvent(store.AdminEvent{Time: now.Add(time.Second), Username: "API", Action: "user_delete", Object: "alice"}))
	})
	view(t, s, func(r store.Reader) error {
		got, err := r.AdminEvents(now, 10)
		equal(t, "admin events", len(got), 2)
		got[0].ID = ""
		equal(t, "first", got[0], store.AdminEvent{Time: now, Username: "API", Action: "user_create", Object: "alice", Description: []byte(`{"a":1}`)})
		later, err2 := r.AdminEvents(now.Add(time.Second), 10)
		equal(t, "later", len(later), 1)
		return errors.Join(err, err2)
	})
}

func testSettings(t *testing.T, s store.Store) {
	view(t, s, func(r store.Reader) error {
		got, err := r.Settings()
		equal(t, "defaults", got, store.DefaultSettings())
		return err
	})
	want := store.DefaultSettings()
	for _, n := range []int{3, 4} {
		want.LockoutThreshold = n
		update(t, s, func(w store.Writer) error { return w.SetSettings(want) })
		view(t, s, func(r store.Reader) error {
			got, err := r.Settings()
			equal(t, "settings", got, want)
			return err
		})
	}
}

func testPurge(t *testing.T, s store.Store) {
	person(t, s)
	pending := Transaction("TP", store.TxPending)
	denied := Transaction("TD", store.TxDenied)
	fresh := Transaction("TF", store.TxDenied)
	fresh.Expires = now.Add(time.Hour)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddTransaction(pending), w.AddTransaction(denied), w.AddTransaction(fresh), w.PurgeTransactions(now.Add(time.Minute)))
	})
	view(t, s, func(r store.Reader) error {
		_, err := r.Transaction("TP") // its end is not logged yet
		_, err2 := r.Transaction("TF")
		if _, err := r.Transaction("TD"); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("purged transaction: %v", err)
		}
		_, err3 := r.BypassCode("DB1")
		return errors.Join(err, err2, err3)
	})
	update(t, s, func(w store.Writer) error { return w.Purge(now.Add(time.Hour)) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.BypassCode("DB1"); return err })
}

func testRollback(t *testing.T, s store.Store) {
	fail := errors.New("fail")
	wantErr(t, s, fail, func(w store.Writer) error {
		if err := w.AddUser(User("DU1", "alice")); err != nil {
			return err
		}
		if _, err := w.User("DU1"); err != nil {
			t.Errorf("an update does not see its own change: %v", err)
		}
		return fail
	})
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.User("DU1"); return err })
}

// testFailingNeighbour mixes updates that fail with others that must hold.
func testFailingNeighbour(t *testing.T, s store.Store) {
	fail := errors.New("fail")
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := s.Update(context.Background(), func(w store.Writer) error {
				if err := w.AddUser(User(fmt.Sprintf("DU%d", i), fmt.Sprintf("user%d", i))); err != nil {
					return err
				}
				switch i % 4 {
				case 1:
					return fail
				case 2:
					return w.AddUser(User(fmt.Sprintf("DU%d", i), "again"))
				case 3:
					panic("neighbour")
				}
				return nil
			})
			if (err == nil) != (i%4 == 0) {
				t.Errorf("update %d: %v", i, err)
			}
		}()
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		_, n, err := r.Users(store.UserFilter{}, store.Page{})
		equal(t, "users", n, 100)
		return err
	})
}

func testPanic(t *testing.T, s store.Store) {
	if err := s.Update(context.Background(), func(store.Writer) error { panic("in update") }); err == nil {
		t.Fatal("no error from a panic in an update")
	}
	for range 100 { // more often than there are readers
		if err := s.View(context.Background(), func(store.Reader) error { panic("in view") }); err == nil {
			t.Fatal("no error from a panic in a view")
		}
	}
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DU1", "alice")) })
}

func testCancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	ran := errors.New("ran though its context had ended")
	if err := s.Update(ctx, func(store.Writer) error { return ran }); !errors.Is(err, context.Canceled) {
		t.Fatalf("update: %v", err)
	}
	if err := s.View(ctx, func(store.Reader) error { return ran }); !errors.Is(err, context.Canceled) {
		t.Fatalf("view: %v", err)
	}
	// A context that ends after the beginning changes nothing.
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	if err := s.Update(ctx, func(w store.Writer) error { cancel(); return w.AddUser(User("DU1", "alice")) }); err != nil {
		t.Fatalf("update: %v", err)
	}
	view(t, s, func(r store.Reader) error { _, err := r.User("DU1"); return err })
}

func testClosed(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(context.Background(), func(store.Writer) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("update: %v", err)
	}
	if err := s.View(context.Background(), func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("view: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
}

// testRaces has many goroutines race for each one-time thing.
func testRaces(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddTransaction(Transaction("TP", store.TxPending)), w.AddTransaction(Transaction("TO", store.TxOffered)),
			w.AddTransaction(Transaction("TE", store.TxPending)),
			w.AddJoinToken(store.JoinToken{ID: "J", Hash: []byte("j"), UsesLeft: 1, Created: now, Expires: now.Add(time.Hour)}),
			w.AddActivation(store.Activation{Hash: []byte("a"), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: now.Add(time.Hour)}))
	})
	states := []store.TxState{store.TxApproved, store.TxDenied, store.TxFraud, store.TxCancelled, store.TxFailed}
	for _, c := range []struct {
		name string
		use  func(w store.Writer, i int) (bool, error)
	}{
		{"totp", func(w store.Writer, _ int) (bool, error) { return w.UseTOTPStep("DU1", "DHt", 7) }},
		{"hotp", func(w store.Writer, _ int) (bool, error) { return w.UseHOTPCounter("DU1", "DHh", 7) }},
		{"bypass code", func(w store.Writer, _ int) (bool, error) { return w.UseBypassCode("DU1", "DB1", now) }},
		{"SMS code", func(w store.Writer, _ int) (bool, error) { return w.UseSMSCode("DU1", "DS1", now) }},
		{"start", func(w store.Writer, _ int) (bool, error) {
			return w.StartTransaction(store.Start{TxID: "TO", IntegrationKey: "DI1", UserID: "DU1", Factor: "push", PhoneID: "DP1", Generation: 1, Expires: now.Add(time.Minute), Now: now})
		}},
		{"decision", func(w store.Writer, i int) (bool, error) {
			return w.DecideTransaction(store.Decision{TxID: "TP", State: states[i%len(states)], Now: now})
		}},
		{"end or expiry", func(w store.Writer, i int) (bool, error) {
			if i%2 == 0 {
				return w.ExpireTransaction("TE", "timeout", "", now.Add(time.Minute))
			}
			return w.DecideTransaction(store.Decision{TxID: "TE", State: states[i%len(states)], Now: now})
		}},
		{"event", func(w store.Writer, _ int) (bool, error) {
			err := w.AddEvent(store.Event{TxID: "TP", Time: now})
			if errors.Is(err, store.ErrConflict) {
				return false, nil
			}
			return err == nil, err
		}},
		{"join token", func(w store.Writer, _ int) (bool, error) { return w.UseJoinToken([]byte("j"), now) }},
		{"activation", func(w store.Writer, _ int) (bool, error) {
			_, won, err := w.UseActivation([]byte("a"), store.DeviceKey{PublicKey: "NEW"}, now)
			return won, err
		}},
		{"lock", func(w store.Writer, _ int) (bool, error) { return w.LockUser("DU1", store.LockoutFraud, now) }},
	} {
		if won := race(t, s, c.use); won != 1 {
			t.Errorf("%s: %d of %d won, want exactly one", c.name, won, racers)
		}
	}
}

func race(t *testing.T, s store.Store, use func(w store.Writer, i int) (bool, error)) int64 {
	t.Helper()
	var (
		won   atomic.Int64
		wg    sync.WaitGroup
		begin = make(chan struct{})
	)
	for i := range racers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-begin
			var mine bool
			err := s.Update(context.Background(), func(w store.Writer) (err error) {
				mine, err = use(w, i)
				return err
			})
			if err != nil {
				t.Errorf("racer %d: %v", i, err)
			} else if mine {
				won.Add(1)
			}
		}()
	}
	close(begin)
	wg.Wait()
	return won.Load()
}

// testParallelAttempts: however many guess at once, no more than the limit are counted.
func testParallelAttempts(t *testing.T, s store.Store) {
	person(t, s)
	p := store.AttemptPolicy{Limit: 10}
	if won := race(t, s, func(w store.Writer, _ int) (bool, error) { return w.BeginAttempt("DU1", p, now) }); won != 10 {
		t.Fatalf("%d attempts were counted, want 10", won)
	}
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", now) })
	if won := race(t, s, func(w store.Writer, _ int) (bool, error) {
		return w.SpendPush("DU1", store.PushPolicy{Limit: 5, Window: time.Hour}, now)
	}); won != 5 {
		t.Fatalf("%d pushes were spent, want 5", won)
	}
}
