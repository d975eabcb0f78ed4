// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

const (
	audience = "https://verifier.example:8443"
	// secret32 is the secret of RFC 4226, appendix D, in base32.
	secret32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

// clock is a clock that the test moves. Its timers fire when it is moved past them.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []timer
}

type timer struct {
	at time.Time
	c  chan time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers = append(c.timers, timer{c.now.Add(d), ch})
	c.fire()
	return ch
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.fire()
}

func (c *clock) fire() {
	left := c.timers[:0]
	for _, t := range c.timers {
		if t.at.After(c.now) {
			left = append(left, t)
			continue
		}
		t.c <- c.now
	}
	c.timers = left
}

// provider is a telephony provider that remembers what it was asked.
type provider struct {
	mu    sync.Mutex
	err   error
	calls []Call
	texts []SMS
}

func (p *provider) Call(_ context.Context, c Call) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
	return p.err
}

func (p *provider) SMS(_ context.Context, m SMS) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.texts = append(p.texts, m)
	return p.err
}

// world is a service on a real store with one person: alice has a phone DP1
// that is an authenticator with a number, and tokens of each kind.
type world struct {
	*testing.T
	*Service
	clock    *clock
	provider *provider
	hub      *push.Local
	key      *ecdsa.PrivateKey
	client   Client // shows digits, no plain push
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(context.Background(), filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	keys, err := seal.Create(filepath.Join(dir, "seal.json"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, provider: &provider{}, hub: &push.Local{}}
	w.Service, err = New(Config{
		Store: db, Keys: keys, Hub: w.hub, Telephony: w.provider, Audience: audience, Now: w.clock.Now, After: w.clock.After,
		Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.client = Client{Integration: store.Integration{
		Key: "DI1", Name: "sshd on web1", Type: store.AuthAPI, NamePolicy: store.NameSimple, EnrollPolicy: store.EnrollDeny,
	}}
	w.people()
	return w
}

func (w *world) people() {
	w.Helper()
	var err error
	if w.key, err = keyproof.GenerateKey(); err != nil {
		w.Fatal(err)
	}
	public, err := keyproof.EncodeKey(&w.key.PublicKey)
	if err != nil {
		w.Fatal(err)
	}
	now := w.clock.Now()
	w.update(func(x store.Writer) error {
		err := errors.Join(
			x.AddIntegration(w.client.Integration),
			x.AddUser(store.User{ID: "DU1", Username: "alice", Aliases: []string{"al"}, Status: store.Active, Created: now}),
			x.AddUser(store.User{ID: "DU2", Username: "bob", Status: store.Active, Created: now}),
			x.AddPhone(store.Phone{ID: "DP1", Number: "+15550100123", Name: "laptop", Type: "mobile", PublicKey: public, Generation: 1, Created: now}),
			x.AttachPhone("DU1", "DP1"))
		for _, typ := range []store.TokenType{store.TOTP6, store.TOTP8, store.HOTP6, store.HOTP8} {
			id := "DH" + string(typ)
			err = errors.Join(err, x.AddToken(store.Token{
				ID: id, Type: typ, Serial: id, SecretSealed: w.Keys.Seal([]byte("12345678901234567890"), "token", id), LastStep: -1, Step: 30, Created: now,
			}), x.AttachToken("DU1", id))
		}
		return errors.Join(err, x.AddBypassCode(store.BypassCode{
			ID: "DB1", UserID: "DU1", Hash: factor.HashBypass(w.Keys, "DU1", "123456789"), UsesLeft: 1, Created: now, Expires: now.Add(time.Hour),
		}))
	})
}

func (w *world) update(f func(store.Writer) error) {
	w.Helper()
	if err := w.Store.Update(context.Background(), f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) allowPlainPush() {
	w.Helper()
	w.client.Integration.AllowPlainPush = true
	w.update(func(x store.Writer) error { return x.SetIntegration(w.client.Integration) })
}

// settings changes the settings of the verifier.
func (w *world) settings(change func(*store.Settings)) {
	w.Helper()
	w.update(func(x store.Writer) error {
		set, err := x.Settings()
		change(&set)
		return errors.Join(err, x.SetSettings(set))
	})
}

func (w *world) user() store.User {
	w.Helper()
	var u store.User
	err := w.Store.View(context.Background(), func(r store.Reader) (err error) {
		u, err = r.User("DU1")
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return u
}

func (w *world) events() []store.Event {
	w.Helper()
	var list []store.Event
	err := w.Store.View(context.Background(), func(r store.Reader) (err error) {
		list, err = r.Events(store.EventFilter{Limit: 1000})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// wantEvent checks that there is exactly one event more than before, and what it says.
func (w *world) wantEvent(before int, result, reason, factor string) {
	w.Helper()
	list := w.events()
	if len(list) != before+1 {
		w.Fatalf("%d events, want %d: %+v", len(list), before+1, list)
	}
	var matches bool
	for _, e := range list {
		matches = matches || e.Result == result && e.Reason == reason && e.Factor == factor
	}
	if !matches {
		w.Fatalf("no event %s, %s, %s in %+v", result, reason, factor, list)
	}
}

func (w *world) preauth(r PreauthRequest) duoapi.Preauth {
	w.Helper()
	out, err := w.Preauth(context.Background(), w.client, r)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) auth(r AuthRequest) duoapi.Auth {
	w.Helper()
	if r.Username == "" && r.UserID == "" {
		r.Username = "alice"
	}
	out, err := w.Auth(context.Background(), w.client, r)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) status(txID string) duoapi.Auth {
	w.Helper()
	out, err := w.Status(context.Background(), w.client.Integration.Key, txID)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

func (w *world) code(moving int64, digits int) string {
	w.Helper()
	v, err := hotp.GenerateCodeCustom(secret32, uint64(moving), hotp.ValidateOpts{Digits: otp.Digits(digits), Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// answer signs and sends an answer as the authenticator does; change may spoil it.
func (w *world) answer(txID, decision, digits string, change func(*agentapi.Answer)) (Answer, error) {
	w.Helper()
	var context_ []byte
	err := w.Store.View(context.Background(), func(r store.Reader) error {
		tx, err := r.Transaction(txID)
		context_ = tx.Context
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	a := agentapi.Answer{
		Version: 1, Audience: audience, TxID: txID, Context: keyproof.HashBody(context_), Decision: decision, Digits: digits,
		IssuedAt: w.clock.Now().Unix(),
	}
	if change != nil {
		change(&a)
	}
	payload, err := json.Marshal(a)
	if err != nil {
		w.Fatal(err)
	}
	signed, err := keyproof.Sign(w.key, payload)
	if err != nil {
		w.Fatal(err)
	}
	return w.Answer(context.Background(), "DP1", txID, agentapi.SignedAnswer{Answer: signed})
}

func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	var e *duoapi.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
}

func (w *world) want(got duoapi.Auth, result, status string) {
	w.Helper()
	if got.Result != result || got.Status != status || got.StatusMsg == "" {
		w.Fatalf("answer %+v, want %s, %s and a message", got, result, status)
	}
}

// startPush begins a verified push and returns its txid and digits.
func (w *world) startPush() (txID, digits string) {
	w.Helper()
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	if pre.Result != duoapi.ResultAuth || pre.TxID == "" || len(pre.VerificationCode) != 6 || pre.Expiration != 60 {
		w.Fatalf("preauth %+v", pre)
	}
	out := w.auth(AuthRequest{Factor: duoapi.FactorPush, Device: "auto", TxID: pre.TxID, Async: true})
	if out.TxID != pre.TxID {
		w.Fatalf("auth %+v, want txid %s", out, pre.TxID)
	}
	return pre.TxID, pre.VerificationCode
}

func TestPreauthDevices(t *testing.T) {
	w := newWorld(t)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	if len(pre.Devices) != 5 {
		t.Fatalf("devices %+v", pre.Devices)
	}
	d := pre.Devices[0]
	if d.Device != "DP1" || d.Type != "phone" || d.Number != "XXX-XXX-0123" || strings.Join(d.Capabilities, " ") != "auto push phone sms" {
		t.Fatalf("phone %+v", d)
	}
	if d := pre.Devices[1]; d.Type != "token" || d.Name == "" {
		t.Fatalf("token %+v", d)
	}
	if strings.Contains(fmt.Sprintf("%+v", pre.Devices), "555010") {
		t.Fatal("the number is not masked")
	}
	// A client that cannot show digits gets no push, unless its integration allows plain ones.
	pre = w.preauth(PreauthRequest{Username: "alice"})
	if got := strings.Join(pre.Devices[0].Capabilities, " "); got != "auto phone sms" || pre.TxID != "" || pre.VerificationCode != "" {
		t.Fatalf("without digits: %q, %+v", got, pre)
	}
	w.allowPlainPush()
	if got := strings.Join(w.preauth(PreauthRequest{Username: "alice"}).Devices[0].Capabilities, " "); got != "auto push phone sms" {
		t.Fatalf("plain push allowed: %q", got)
	}
	w.Telephony = nil
	if got := strings.Join(w.preauth(PreauthRequest{UserID: "DU1"}).Devices[0].Capabilities, " "); got != "auto push" {
		t.Fatalf("telephony off: %q", got)
	}
	if n := len(w.events()); n != 0 {
		t.Fatalf("preauth wrote %d events though nothing was decided", n)
	}
}

func TestStanding(t *testing.T) {
	for _, c := range []struct {
		name           string
		username       string
		status         store.UserStatus
		offer          bool
		preauth        string
		auth           string
		result, reason string
	}{
		{"unknown", "mallory", store.Active, false, duoapi.ResultDeny, duoapi.ResultDeny, "denied", "deny_unenrolled_user"},
		{"unenrolled", "bob", store.Active, false, duoapi.ResultDeny, duoapi.ResultDeny, "denied", "deny_unenrolled_user"},
		{"unknown, enrolment offered", "mallory", store.Active, true, duoapi.ResultEnroll, duoapi.ResultDeny, "denied", "deny_unenrolled_user"},
		{"unenrolled, enrolment offered", "bob", store.Active, true, duoapi.ResultEnroll, duoapi.ResultDeny, "denied", "deny_unenrolled_user"},
		{"disabled", "alice", store.Disabled, false, duoapi.ResultDeny, duoapi.ResultDeny, "denied", "user_disabled"},
		{"locked out", "alice", store.LockedOut, false, duoapi.ResultDeny, duoapi.ResultDeny, "denied", "locked_out"},
		{"bypass", "alice", store.Bypass, false, duoapi.ResultAllow, duoapi.ResultAllow, "success", "bypass_user"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.update(func(x store.Writer) error { return x.SetUserStatus("DU1", c.status, "r", w.clock.Now()) })
			if c.offer {
				w.client.Integration.EnrollPolicy, w.client.Integration.EnrollURL = store.EnrollOffer, "https://enrol.example/"
			}
			pre := w.preauth(PreauthRequest{Username: c.username, VerifiedPush: true, IPAddr: "192.0.2.1"})
			if pre.Result != c.preauth || pre.StatusMsg == "" || len(pre.Devices) != 0 || pre.TxID != "" {
				t.Fatalf("preauth %+v", pre)
			}
			if (pre.EnrollPortalURL != "") != c.offer {
				t.Fatalf("enrol URL %q", pre.EnrollPortalURL)
			}
			w.wantEvent(0, c.result, c.reason, "not_available")
			out := w.auth(AuthRequest{Username: c.username, Factor: duoapi.FactorPasscode, Passcode: w.code(0, 6)})
			if out.Result != c.auth {
				t.Fatalf("auth %+v", out)
			}
			if n := len(w.events()); n != 2 {
				t.Fatalf("%d events, want 2", n)
			}
			async := w.auth(AuthRequest{Username: c.username, Factor: duoapi.FactorAuto, Async: true})
			if got := w.status(async.TxID); got.Result != c.auth {
				t.Fatalf("asynchronous: %+v", got)
			}
			addresses := ""
			for _, e := range w.events() {
				addresses += e.AccessDevice.IP
			}
			if addresses != "192.0.2.1" { // of the preauth alone
				t.Fatalf("addresses in the events: %q", addresses)
			}
		})
	}
}

// TestUnknownLikeUnenrolled: a name that nobody has looks like a user without a factor.
func TestUnknownLikeUnenrolled(t *testing.T) {
	w := newWorld(t)
	unknown, known := w.preauth(PreauthRequest{Username: "mallory"}), w.preauth(PreauthRequest{Username: "bob"})
	if fmt.Sprint(unknown) != fmt.Sprint(known) {
		t.Fatalf("unknown %+v, unenrolled %+v", unknown, known)
	}
}

func TestPasscodes(t *testing.T) {
	w := newWorld(t)
	step := w.clock.Now().Unix() / 30
	for i, c := range []struct {
		name, code string
		result     string
		reason     string
		factor     string
	}{
		{"hotp", w.code(0, 6), "allow", "valid_passcode", "hardware_token"},
		{"hotp again", w.code(0, 6), "deny", "invalid_passcode", "passcode"},
		{"hotp ahead", w.code(10, 6), "allow", "valid_passcode", "hardware_token"},
		{"hotp before", w.code(5, 6), "deny", "invalid_passcode", "passcode"},
		{"hotp too far ahead", w.code(21, 6), "deny", "invalid_passcode", "passcode"},
		{"hotp 8 digits, with a space", w.code(0, 8)[:4] + " " + w.code(0, 8)[4:], "allow", "valid_passcode", "hardware_token"},
		{"totp of the step before", w.code(step-1, 6), "allow", "valid_passcode", "hardware_token"},
		{"totp of the step before again", w.code(step-1, 6), "deny", "invalid_passcode", "passcode"},
		{"totp", w.code(step, 6), "allow", "valid_passcode", "hardware_token"},
		{"totp of the next step", w.code(step+1, 6), "allow", "valid_passcode", "hardware_token"},
		{"totp behind the watermark", w.code(step, 6), "deny", "invalid_passcode", "passcode"},
		{"totp too late", w.code(step-2, 8), "deny", "invalid_passcode", "passcode"},
		{"totp too early", w.code(step+2, 8), "deny", "invalid_passcode", "passcode"},
		{"totp 8 digits", w.code(step, 8), "allow", "valid_passcode", "hardware_token"},
		{"bypass code", "123-456-789", "allow", "valid_passcode", "bypass_code"},
		{"bypass code again", "123456789", "deny", "invalid_passcode", "passcode"},
		{"nothing", "", "deny", "invalid_passcode", "passcode"},
		{"control characters", "12\x1b[2J", "deny", "invalid_passcode", "passcode"},
		{"long", strings.Repeat("1", 10000), "deny", "invalid_passcode", "passcode"},
	} {
		out := w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: c.code})
		if out.Result != c.result {
			t.Fatalf("%s: %+v, want %s", c.name, out, c.result)
		}
		log := w.events()
		if len(log) != i+1 {
			t.Fatalf("%s: %d events, want %d", c.name, len(log), i+1)
		}
		found := false
		for _, e := range log {
			found = found || e.Reason == c.reason && e.Factor == c.factor
		}
		if !found {
			t.Fatalf("%s: no event with %s, %s", c.name, c.reason, c.factor)
		}
	}
	if u := w.user(); u.LastLogin != w.clock.Now() {
		t.Fatalf("last login %v", u.LastLogin)
	}
}

// TestSameCodeTwiceAtOnce: of many requests with one code exactly one wins.
func TestSameCodeTwiceAtOnce(t *testing.T) {
	for name, code := range map[string]func(w *world) string{
		"hotp":   func(w *world) string { return w.code(0, 6) },
		"totp":   func(w *world) string { return w.code(w.clock.Now().Unix()/30, 8) },
		"bypass": func(*world) string { return "123456789" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			set := store.DefaultSettings()
			set.LockoutThreshold = 1000
			w.update(func(x store.Writer) error { return x.SetSettings(set) })
			passcode := code(w)
			var (
				wg    sync.WaitGroup
				mu    sync.Mutex
				allow int
			)
			for range 32 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					out, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPasscode, Passcode: passcode})
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Error(err)
					}
					if out.Result == duoapi.ResultAllow {
						allow++
					}
				}()
			}
			wg.Wait()
			if allow != 1 {
				t.Fatalf("%d of 32 were let in, want 1", allow)
			}
			if n := len(w.events()); n != 32 {
				t.Fatalf("%d events, want 32", n)
			}
		})
	}
}

func TestLockOut(t *testing.T) {
	w := newWorld(t)
	wrong := AuthRequest{Factor: duoapi.FactorPasscode, Passcode: "000000"}
	fail := func() duoapi.Auth {
		w.clock.Add(5 * time.Minute) // longer than any wait before the lock
		return w.auth(wrong)
	}
	for i := range 9 {
		if out := fail(); out.Status != "deny" {
			t.Fatalf("attempt %d: %+v", i+1, out)
		}
	}
	w.clock.Add(5 * time.Minute)
	// A success gives the attempts back.
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: w.code(0, 6)}), "allow", "allow")
	for i := range 9 {
		if out := fail(); out.Status != "deny" {
			t.Fatalf("attempt %d after a success: %+v", i+1, out)
		}
	}
	w.want(fail(), "deny", "locked_out")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: w.code(1, 6)}), "deny", "locked_out")
	if u := w.user(); u.Status != store.LockedOut || u.LockoutReason != store.LockoutFailures {
		t.Fatalf("user %+v", u)
	}
	// With a duration set, the lock ends by itself and the code that was refused still works.
	set := store.DefaultSettings()
	set.LockoutExpireDuration = 15
	w.update(func(x store.Writer) error { return x.SetSettings(set) })
	w.clock.Add(15*time.Minute - time.Second)
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: w.code(1, 6)}), "deny", "locked_out")
	w.clock.Add(time.Second)
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: w.code(1, 6)}), "allow", "allow")
}

// TestParallelGuesses: however many guess at once, the limit holds.
func TestParallelGuesses(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			// After the user is locked, even the right code does not help.
			code := fmt.Sprintf("%06d", i)
			if _, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPasscode, Passcode: code}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	invalid := 0
	for _, e := range w.events() {
		if e.Reason == "invalid_passcode" {
			invalid++
		}
	}
	if invalid != 5 { // half of the ten that lock; the rest came too soon
		t.Fatalf("%d guesses were looked at, want 5", invalid)
	}
	if u := w.user(); u.Failures != 5 || u.Status != store.Active {
		t.Fatalf("user %+v", u)
	}
}

func TestVerifiedPush(t *testing.T) {
	for _, c := range []struct {
		name           string
		act            func(w *world, txID, digits string)
		result, status string
		log, reason    string
		user           store.UserStatus
	}{
		{"approve", func(w *world, txID, digits string) {
			if a, err := w.answer(txID, Approve, digits, nil); err != nil || a.State != store.TxApproved {
				w.Fatalf("%+v, %v", a, err)
			}
		}, "allow", "allow", "success", "user_approved", store.Active},
		{"wrong digits, then right", func(w *world, txID, digits string) {
			if a, err := w.answer(txID, Approve, "x"+digits[1:], nil); err != nil || a.State != store.TxPending || a.TriesLeft != 2 {
				w.Fatalf("%+v, %v", a, err)
			}
			if _, err := w.answer(txID, Approve, digits[:3]+" "+digits[3:], nil); err != nil {
				w.Fatal(err)
			}
		}, "allow", "allow", "success", "user_approved", store.Active},
		{"wrong digits three times", func(w *world, txID, digits string) {
			for range 2 {
				if _, err := w.answer(txID, Approve, "000000x", nil); err != nil {
					w.Fatal(err)
				}
			}
			_, err := w.answer(txID, Approve, "000000x", nil)
			wantCode(w.T, err, duoapi.CodeTxDigits)
			_, err = w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxAnswered)
			if w.user().Failures != 1 {
				w.Fatalf("%d failures, want 1", w.user().Failures)
			}
		}, "deny", "deny", "denied", "invalid_passcode", store.Active},
		{"deny", func(w *world, txID, _ string) {
			if _, err := w.answer(txID, Deny, "", nil); err != nil {
				w.Fatal(err)
			}
		}, "deny", "deny", "denied", "user_mistake", store.Active},
		{"fraud", func(w *world, txID, _ string) {
			if _, err := w.answer(txID, Fraud, "", nil); err != nil {
				w.Fatal(err)
			}
			if w.user().LockoutReason != store.LockoutFraud {
				w.Fatalf("user %+v", w.user())
			}
		}, "deny", "fraud", "fraud", "user_marked_fraud", store.LockedOut},
		{"no digits, then deny", func(w *world, txID, _ string) {
			_, err := w.answer(txID, Approve, "", nil)
			wantCode(w.T, err, duoapi.CodeTxDigitsMissing)
			if _, err := w.answer(txID, Deny, "", nil); err != nil {
				w.Fatal(err)
			}
		}, "deny", "deny", "denied", "user_mistake", store.Active},
		{"too late", func(w *world, txID, digits string) {
			w.clock.Add(60 * time.Second)
			_, err := w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxExpired)
		}, "deny", "timeout", "denied", "no_response", store.Active},
		{"called off", func(w *world, txID, digits string) {
			if ok, err := w.Cancel(context.Background(), w.client, txID); err != nil || !ok {
				w.Fatal(ok, err)
			}
			_, err := w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxCanceled)
			if ok, err := w.Cancel(context.Background(), w.client, txID); err != nil || ok {
				w.Fatal(ok, err)
			}
		}, "deny", "deny", "denied", "user_cancelled", store.Active},
		{"user disabled, then late", func(w *world, txID, digits string) {
			w.update(func(x store.Writer) error { return x.SetUserStatus("DU1", store.Disabled, "", w.clock.Now()) })
			_, err := w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxAnswer)
			w.clock.Add(time.Minute)
		}, "deny", "timeout", "denied", "no_response", store.Disabled},
		{"authenticator deactivated, then late", func(w *world, txID, digits string) {
			w.update(func(x store.Writer) error { return x.DeactivatePhone("DP1") })
			_, err := w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxAnswer)
			w.clock.Add(time.Minute)
		}, "deny", "timeout", "denied", "no_response", store.Active},
		{"authenticator activated anew, then late", func(w *world, txID, digits string) {
			public, err := keyproof.EncodeKey(&w.key.PublicKey)
			if err != nil {
				w.Fatal(err)
			}
			w.update(func(x store.Writer) error {
				err := x.AddActivation(store.Activation{Hash: []byte("h"), UserID: "DU1", PhoneID: "DP1", Created: w.clock.Now(), Expires: w.clock.Now().Add(time.Hour)})
				_, _, err2 := x.UseActivation([]byte("h"), store.DeviceKey{PublicKey: public}, w.clock.Now())
				return errors.Join(err, err2)
			})
			_, err = w.answer(txID, Approve, digits, nil)
			wantCode(w.T, err, duoapi.CodeTxAnswer)
			w.clock.Add(time.Minute)
		}, "deny", "timeout", "denied", "no_response", store.Active},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			txID, digits := w.startPush()
			w.want(w.status(txID), "waiting", "pushed")
			if n := len(w.events()); n != 0 {
				t.Fatalf("%d events before the end", n)
			}
			c.act(w, txID, digits)
			w.want(w.status(txID), c.result, c.status)
			w.want(w.status(txID), c.result, c.status) // and again
			w.wantEvent(0, c.log, c.reason, "duo_push")
			e := w.events()[0]
			if e.TxID != txID || e.AuthDevice.Key != "DP1" || e.PlainPush || e.User.Key != "DU1" || e.Application.Key != "DI1" {
				t.Fatalf("event %+v", e)
			}
			if got := w.user().Status; got != c.user {
				t.Fatalf("user is %s, want %s", got, c.user)
			}
		})
	}
}

// TestForgedAnswers: nothing but an answer signed by that key for that transaction counts.
func TestForgedAnswers(t *testing.T) {
	w := newWorld(t)
	txID, digits := w.startPush()
	other, otherDigits := w.startPush()
	for name, c := range map[string]struct {
		change func(*agentapi.Answer)
		code   int
	}{
		"audience":    {func(a *agentapi.Answer) { a.Audience = "https://other.example" }, duoapi.CodeAnswerAudience},
		"transaction": {func(a *agentapi.Answer) { a.TxID = other }, duoapi.CodeAnswerTransaction},
		"context":     {func(a *agentapi.Answer) { a.Context = keyproof.HashBody([]byte("{}")) }, duoapi.CodeAnswerContext},
		"version":     {func(a *agentapi.Answer) { a.Version = 2 }, duoapi.CodeTxAnswer},
		"old":         {func(a *agentapi.Answer) { a.IssuedAt -= 301 }, duoapi.CodeAnswerTime},
		"future":      {func(a *agentapi.Answer) { a.IssuedAt += 301 }, duoapi.CodeAnswerTime},
		"decision":    {func(a *agentapi.Answer) { a.Decision = "allow" }, duoapi.CodeTxAnswer},
		"no decision": {func(a *agentapi.Answer) { a.Decision = "" }, duoapi.CodeTxAnswer},
		"capitals":    {func(a *agentapi.Answer) { a.Decision = "Approve" }, duoapi.CodeTxAnswer},
	} {
		_, err := w.answer(txID, Approve, digits, c.change)
		if err == nil {
			t.Fatalf("another %s was accepted", name)
		}
		wantCode(t, err, c.code)
	}
	mine := w.key
	stranger, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	w.key = stranger
	_, err = w.answer(txID, Approve, digits, nil)
	wantCode(t, err, duoapi.CodeAnswerSignature)
	w.key = mine
	for name, text := range map[string]string{"empty": "", "garbage": "a.b.c", "none": "eyJhbGciOiJub25lIn0.e30."} {
		if _, err := w.Answer(context.Background(), "DP1", txID, agentapi.SignedAnswer{Answer: text}); err == nil {
			t.Fatalf("%s was accepted", name)
		}
	}
	_, err = w.Answer(context.Background(), "DP2", txID, agentapi.SignedAnswer{Answer: "x"})
	wantCode(t, err, duoapi.CodeTxUnknown)
	_, err = w.Answer(context.Background(), "DP1", "nothing", agentapi.SignedAnswer{Answer: "x"})
	wantCode(t, err, duoapi.CodeTxUnknown)
	// Digits of one login do not approve another.
	if a, err := w.answer(other, Approve, digits, nil); err != nil || a.State != store.TxPending {
		t.Fatalf("digits of another login: %+v, %v", a, err)
	}
	if _, err := w.answer(other, Approve, otherDigits, nil); err != nil {
		t.Fatal(err)
	}
	w.want(w.status(txID), "waiting", "pushed")
}

// TestAnotherAuthenticator: the person's other authenticator was not asked.
func TestAnotherAuthenticator(t *testing.T) {
	w := newWorld(t)
	second, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := keyproof.EncodeKey(&second.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	w.update(func(x store.Writer) error {
		return errors.Join(x.AddPhone(store.Phone{ID: "DP2", PublicKey: public, Generation: 1, Created: w.clock.Now().Add(time.Second)}), x.AttachPhone("DU1", "DP2"))
	})
	txID, digits := w.startPush()
	sent, err := w.Pending(context.Background(), "DP1", 0)
	if err != nil || len(sent) != 1 {
		t.Fatalf("%+v, %v", sent, err)
	}
	payload, err := json.Marshal(agentapi.Answer{
		Version: 1, Audience: audience, TxID: txID, Context: keyproof.HashBody(sent[0].Context), Decision: Approve, Digits: digits,
		IssuedAt: w.clock.Now().Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := keyproof.Sign(second, payload)
	if err != nil {
		t.Fatal(err)
	}
	for phone, code := range map[string]int{"DP2": duoapi.CodeTxUnknown, "DP1": duoapi.CodeAnswerSignature} {
		_, err = w.Answer(context.Background(), phone, txID, agentapi.SignedAnswer{Answer: signed})
		wantCode(t, err, code)
	}
	w.want(w.status(txID), "waiting", "pushed")
}

// TestOneEnd: approvals, denials, cancellations and the end of time race; one wins.
func TestOneEnd(t *testing.T) {
	for range 10 {
		w := newWorld(t)
		txID, digits := w.startPush()
		w.clock.Add(59 * time.Second)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				switch i % 4 {
				case 0:
					_, _ = w.answer(txID, Approve, digits, nil)
				case 1:
					_, _ = w.answer(txID, Deny, "", nil)
				case 2:
					_, _ = w.Cancel(context.Background(), w.client, txID)
				case 3:
					w.clock.Add(100 * time.Millisecond)
					_, _ = w.Status(context.Background(), w.client.Integration.Key, txID)
				}
			}()
		}
		go w.clock.Add(time.Minute)
		wg.Wait()
		w.clock.Add(time.Minute)
		if err := w.sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := len(w.events()); n != 1 {
			t.Fatalf("%d events, want 1: %+v", n, w.events())
		}
		e, end := w.events()[0], w.status(txID)
		if (e.Result == "success") != (end.Result == duoapi.ResultAllow) {
			t.Fatalf("event %+v, answer %+v", e, end)
		}
	}
}

func TestOffer(t *testing.T) {
	w := newWorld(t)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	w.update(func(x store.Writer) error { return x.AttachPhone("DU2", "DP1") })
	request := AuthRequest{Username: "alice", Factor: duoapi.FactorPush, TxID: pre.TxID, Async: true}

	bob := request
	bob.Username = "bob"
	_, err := w.Auth(context.Background(), w.client, bob)
	wantCode(t, err, duoapi.CodeInvalidParameter)
	stranger := w.client
	stranger.Integration.Key = "DI2"
	_, err = w.Auth(context.Background(), stranger, request)
	wantCode(t, err, duoapi.CodeInvalidParameter)
	made := request
	made.TxID = "MADEUP"
	_, err = w.Auth(context.Background(), w.client, made)
	wantCode(t, err, duoapi.CodeInvalidParameter)
	_, err = w.Status(context.Background(), w.client.Integration.Key, pre.TxID)
	wantCode(t, err, duoapi.CodeInvalidParameter) // only offered

	if out := w.auth(request); out.TxID != pre.TxID {
		t.Fatalf("%+v", out)
	}
	again := w.auth(request) // the same digits a second time
	if again.TxID == pre.TxID {
		t.Fatal("the digits started two pushes")
	}
	w.want(w.status(again.TxID), "deny", "timeout")
	w.want(w.status(pre.TxID), "waiting", "pushed")
	_, err = w.Status(context.Background(), stranger.Integration.Key, pre.TxID)
	wantCode(t, err, duoapi.CodeInvalidParameter)
	if _, err := w.Cancel(context.Background(), stranger, pre.TxID); err == nil {
		t.Fatal("another integration called the push off")
	}

	late := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	w.clock.Add(5 * time.Minute)
	request.TxID, request.Async = late.TxID, false
	w.want(w.auth(request), "deny", "timeout")
}

func TestPlainPush(t *testing.T) {
	w := newWorld(t)
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPush, Device: "DP1"}), "deny", "deny")
	w.wantEvent(0, "denied", "factor_restricted", "duo_push")
	w.allowPlainPush()
	out := w.auth(AuthRequest{Factor: duoapi.FactorPush, Device: "DP1", Async: true})
	if _, err := w.answer(out.TxID, Approve, "", nil); err != nil {
		t.Fatal(err)
	}
	w.want(w.status(out.TxID), "allow", "allow")
	if n := 0; true {
		for _, e := range w.events() {
			if e.Result == "success" && e.PlainPush {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d events of an approved plain push that say so, want 1", n)
		}
	}
}

func TestSynchronousPush(t *testing.T) {
	w := newWorld(t)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	done := make(chan duoapi.Auth, 1)
	go func() {
		out, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorAuto, TxID: pre.TxID})
		if err != nil {
			t.Error(err)
		}
		done <- out
	}()
	// The authenticator's long poll wakes for it.
	pending, err := w.Pending(context.Background(), "DP1", time.Minute)
	if err != nil || len(pending) != 1 || !pending[0].Verified {
		t.Fatalf("%+v, %v", pending, err)
	}
	if _, err := w.answer(pre.TxID, Approve, pre.VerificationCode, nil); err != nil {
		t.Fatal(err)
	}
	w.want(<-done, "allow", "allow")
	if pending, err := w.Pending(context.Background(), "DP1", 0); err != nil || len(pending) != 0 {
		t.Fatalf("after the end: %+v, %v", pending, err)
	}
}

// TestCallerGoesAway: nobody learns of an approval, so there must be none.
func TestCallerGoesAway(t *testing.T) {
	w := newWorld(t)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := w.Auth(ctx, w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPush, TxID: pre.TxID})
		done <- err
	}()
	if _, err := w.Pending(context.Background(), "DP1", time.Minute); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	_, err := w.answer(pre.TxID, Approve, pre.VerificationCode, nil)
	wantCode(t, err, duoapi.CodeTxCanceled)
	w.wantEvent(0, "denied", "user_cancelled", "duo_push")
}

func TestLongPoll(t *testing.T) {
	w := newWorld(t)
	txID, digits := w.startPush()
	w.want(w.status(txID), "waiting", "pushed") // the first answers at once
	poll := func() <-chan duoapi.Auth {
		done := make(chan duoapi.Auth, 1)
		go func() {
			out, err := w.Status(context.Background(), w.client.Integration.Key, txID)
			if err != nil {
				t.Error(err)
			}
			done <- out
		}()
		for w.hub.Waiters(push.Transaction(txID)) == 0 {
			time.Sleep(time.Millisecond)
		}
		return done
	}
	second := poll()
	w.clock.Add(statusWait)               // the timer for that was set before it waited
	w.want(<-second, "waiting", "pushed") // after 25 s nothing has changed
	third := poll()
	if _, err := w.answer(txID, Approve, digits, nil); err != nil {
		t.Fatal(err)
	}
	w.want(<-third, "allow", "allow")
	if n := w.hub.Waiters(push.Transaction(txID)); n != 0 {
		t.Fatalf("%d waiters left", n)
	}
}

// TestSweep: a push that nobody asks about any more ends in the log too.
func TestSweep(t *testing.T) {
	w := newWorld(t)
	txID, _ := w.startPush()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Service.Run(ctx) }()
	for len(w.events()) == 0 {
		w.clock.Add(10 * time.Second)
		time.Sleep(time.Millisecond)
	}
	w.wantEvent(0, "denied", "no_response", "duo_push")
	ended := func() bool {
		var left int
		err := w.Store.View(ctx, func(r store.Reader) (err error) {
			_, left, err = r.BypassCodes("", store.Page{})
			if _, err := r.Transaction(txID); !errors.Is(err, store.ErrNotFound) {
				left++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return left == 0
	}
	for !ended() {
		w.clock.Add(10 * time.Minute)
		time.Sleep(time.Millisecond)
	}
	if len(w.events()) != 1 {
		t.Fatal("its event went with the transaction")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPushBudget(t *testing.T) {
	w := newWorld(t)
	w.allowPlainPush()
	w.settings(func(s *store.Settings) { s.PushDelay = 0 })
	send := func() duoapi.Auth {
		out := w.auth(AuthRequest{Factor: duoapi.FactorPush, Async: true})
		return w.status(out.TxID)
	}
	for i := range 10 {
		if got := send(); got.Result != duoapi.ResultWaiting {
			t.Fatalf("push %d: %+v", i+1, got)
		}
	}
	w.want(send(), "deny", "deny")
	// A passcode still works, and its success renews the budget.
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: w.code(0, 6)}), "allow", "allow")
	if got := send(); got.Result != duoapi.ResultWaiting {
		t.Fatalf("after a success: %+v", got)
	}
}

func TestPhoneCall(t *testing.T) {
	for _, c := range []struct {
		name           string
		events         []TelephonyEvent
		result, status string
		log, reason    string
	}{
		{"approve key", []TelephonyEvent{{Event: CallAnswered}, {Event: CallKeypress, Key: KeyApprove}}, "allow", "allow", "success", "user_approved"},
		{"twice", []TelephonyEvent{{Event: CallKeypress, Key: KeyApprove}, {Event: CallKeypress, Key: KeyApprove}, {Event: CallHangup}}, "allow", "allow", "success", "user_approved"},
		{"fraud key", []TelephonyEvent{{Event: CallKeypress, Key: KeyFraud}, {Event: CallKeypress, Key: KeyApprove}}, "deny", "fraud", "fraud", "user_marked_fraud"},
		{"other key, hang up", []TelephonyEvent{{Event: CallKeypress, Key: "5"}, {Event: CallHangup}}, "deny", "deny", "denied", "no_keys_pressed"},
		{"no answer", []TelephonyEvent{{Event: CallNoAnswer}}, "deny", "deny", "denied", "no_response"},
		{"failed", []TelephonyEvent{{Event: CallFailed}}, "deny", "call_failed", "denied", "error"},
		{"delivered means nothing", []TelephonyEvent{{Event: SMSDelivered}, {Event: "other"}, {Event: CallHangup}}, "deny", "deny", "denied", "no_keys_pressed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			out := w.auth(AuthRequest{Factor: duoapi.FactorPhone, Device: "DP1", Async: true})
			w.senders.Wait()
			if len(w.provider.calls) != 1 || w.provider.calls[0].Number != "+15550100123" || w.provider.calls[0].TxID != out.TxID {
				t.Fatalf("calls %+v", w.provider.calls)
			}
			w.want(w.status(out.TxID), "waiting", "calling")
			for _, e := range c.events {
				e.TxID = out.TxID
				if err := w.TelephonyEvent(context.Background(), e); err != nil {
					t.Fatal(err)
				}
				if e.Event == CallAnswered {
					w.want(w.status(out.TxID), "waiting", "answered")
				}
			}
			w.want(w.status(out.TxID), c.result, c.status)
			w.wantEvent(0, c.log, c.reason, "phone_call")
		})
	}
}

func TestCallbacks(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	press := func(txID string) {
		t.Helper()
		if err := w.TelephonyEvent(ctx, TelephonyEvent{TxID: txID, Event: CallKeypress, Key: KeyApprove}); err != nil {
			t.Fatal(err)
		}
	}
	press("nothing")
	txID, _ := w.startPush()
	press(txID) // a key on the telephone does not approve a push
	w.want(w.status(txID), "waiting", "pushed")

	late := w.auth(AuthRequest{Factor: duoapi.FactorPhone, Async: true})
	w.clock.Add(time.Minute)
	press(late.TxID)
	w.want(w.status(late.TxID), "deny", "timeout")

	gone := w.auth(AuthRequest{Factor: duoapi.FactorPhone, Async: true})
	w.update(func(x store.Writer) error { return x.DetachPhone("DU1", "DP1") })
	press(gone.TxID)
	w.want(w.status(gone.TxID), "waiting", "calling")
}

func TestCallNotMade(t *testing.T) {
	w := newWorld(t)
	w.provider.err = errors.New("provider is away")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPhone}), "deny", "call_failed")
	w.wantEvent(0, "denied", "error", "phone_call")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "deny")
	w.wantEvent(1, "denied", "error", "sms_refresh")
	w.Telephony = nil
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPhone}), "deny", "deny")
	w.wantEvent(2, "denied", "factor_restricted", "phone_call")
}

func TestSMS(t *testing.T) {
	w := newWorld(t)
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS, Device: "DP1"}), "deny", "sent")
	w.wantEvent(0, "denied", "", "sms_refresh")
	first := w.provider.texts[0].Text[len("Login codes: "):]
	async := w.auth(AuthRequest{Factor: duoapi.FactorPrompt, Prompt: "sms1", Async: true})
	w.senders.Wait()
	w.want(w.status(async.TxID), "deny", "sent")
	second := w.provider.texts[1].Text[len("Login codes: "):]
	if len(second) != factor.SMSDigits {
		t.Fatalf("code %q", second)
	}
	pass := func(code string) duoapi.Auth {
		return w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: code})
	}
	w.want(pass(first), "deny", "deny") // the second message made it void
	w.want(pass(second), "allow", "allow")
	w.want(pass(second), "deny", "deny")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "sent")
	w.clock.Add(10 * time.Minute)
	w.want(pass(w.provider.texts[2].Text[len("Login codes: "):]), "deny", "deny")
}

func TestTextPrompt(t *testing.T) {
	w := newWorld(t)
	pre := w.preauth(PreauthRequest{Username: "alice", TextPrompt: true, VerifiedPush: true})
	if pre.Prompt == nil {
		t.Fatal("no prompt")
	}
	want := map[string]string{"default": "push1", "1": "push1", "2": "phone1", "3": "sms1"}
	if fmt.Sprint(pre.Prompt.Factors) != fmt.Sprint(want) {
		t.Fatalf("factors %v", pre.Prompt.Factors)
	}
	for _, text := range []string{"alice", "1. Push to laptop", "XXX-XXX-0123", pre.VerificationCode, "Passcode or option (1-3): "} {
		if !strings.Contains(pre.Prompt.Text, text) {
			t.Errorf("no %q in the prompt:\n%s", text, pre.Prompt.Text)
		}
	}
	out := w.auth(AuthRequest{Factor: duoapi.FactorPrompt, Prompt: "push1", TxID: pre.TxID, Async: true})
	w.want(w.status(out.TxID), "waiting", "pushed")
	// A passcode typed at the same prompt.
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPrompt, Prompt: " " + w.code(0, 6) + "\n", TxID: pre.TxID}), "allow", "allow")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPrompt, Prompt: ""}), "deny", "deny")
	if w.user().Failures != 0 {
		t.Fatal("an empty answer cost an attempt")
	}
	_, err := w.Auth(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPrompt, Prompt: "push9"})
	wantCode(t, err, duoapi.CodeInvalidParameter)
	if strings.Contains(w.preauth(PreauthRequest{Username: "alice\x1b[2J@x", TextPrompt: true}).StatusMsg, "\x1b") {
		t.Fatal("a control character came back")
	}
}

func TestParameters(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		r    AuthRequest
		code int
	}{
		"nobody":               {AuthRequest{Factor: duoapi.FactorAuto}, duoapi.CodeMissingParameter},
		"two names":            {AuthRequest{Username: "alice", UserID: "DU1", Factor: duoapi.FactorAuto}, duoapi.CodeMissingParameter},
		"factor":               {AuthRequest{Username: "alice", Factor: "smoke"}, duoapi.CodeInvalidParameter},
		"another's device":     {AuthRequest{Username: "alice", Factor: duoapi.FactorPhone, Device: "DP2"}, duoapi.CodeInvalidParameter},
		"passcode with device": {AuthRequest{Username: "alice", Factor: duoapi.FactorPasscode, Passcode: "1", Device: "DP1"}, duoapi.CodeInvalidParameter},
	} {
		_, err := w.Auth(context.Background(), w.client, c.r)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		wantCode(t, err, c.code)
	}
	if n := len(w.events()); n != 0 {
		t.Fatalf("%d events of malformed requests", n)
	}
}

func TestContext(t *testing.T) {
	w := newWorld(t)
	w.allowPlainPush()
	w.auth(AuthRequest{
		Username: "CORP\\Al", Factor: duoapi.FactorPush, Async: true, IPAddr: "192.0.2.7", Hostname: "web1\x1b]0;x\x07", Type: "ssh",
		DisplayUsername: "Alice", PushInfo: "Server+IP=192.0.2.9&Command=rm%20-rf%20%2F%0A&bad=%zz",
	})
	pending, err := w.Pending(context.Background(), "DP1", 0)
	if err != nil || len(pending) != 1 {
		t.Fatalf("%+v, %v", pending, err)
	}
	var c agentapi.Context
	if err := json.Unmarshal(pending[0].Context, &c); err != nil {
		t.Fatal(err)
	}
	if c.TxID != pending[0].TxID || c.Username != "alice" || c.IPAddr != "192.0.2.7" || c.Application != "sshd on web1" ||
		c.PushInfo["Server IP"] != "192.0.2.9" || c.PushInfo["Command"] != "rm -rf /\uFFFD" || c.Expires-c.Created != 60 {
		t.Fatalf("%+v", c)
	}
	for _, r := range string(pending[0].Context) + c.Hostname {
		if r < ' ' {
			t.Fatalf("control character %q in %s", r, pending[0].Context)
		}
	}
}

func TestCanonicalName(t *testing.T) {
	for _, c := range []struct {
		policy     store.NamePolicy
		name, want string
	}{
		{store.NameSimple, "alice", "alice"},
		{store.NameSimple, "CORP\\Alice", "alice"},
		{store.NameSimple, "alice@corp.example", "alice"},
		{store.NameSimple, "CORP\\alice@corp.example", "alice"},
		{store.NameSimple, "@x", "@x"},
		{store.NameSimple, "x\\", "x\\"},
		{store.NameNone, " Alice@corp.example ", "alice@corp.example"},
		{store.NameNone, "CORP\\alice", "corp\\alice"},
	} {
		if got := CanonicalName(c.policy, c.name); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.policy, c.name, got, c.want)
		}
	}
}

func FuzzAuth(f *testing.F) {
	f.Add("alice", "prompt", "push1", "", "123456", "a=b", "x")
	f.Add("CORP\\al", "passcode", "", "", "755224", "%zz", "")
	f.Add("bob", "auto", "", "phone99", "", "", "T")
	w := newFuzzWorld(f)
	f.Fuzz(func(t *testing.T, name, fac, prompt, device, passcode, info, txID string) {
		out, err := w.Auth(context.Background(), w.client, AuthRequest{
			Username: name, Factor: fac, Prompt: prompt, Device: device, Passcode: passcode, PushInfo: info, TxID: txID, Async: true,
			IPAddr: info, Hostname: name, Type: prompt, DisplayUsername: device,
		})
		var refused *duoapi.Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%v", err)
		}
		if err == nil && out.TxID == "" {
			t.Fatalf("no txid: %+v", out)
		}
	})
}

// newFuzzWorld is a world that outlives the single inputs of a fuzzer.
func newFuzzWorld(f *testing.F) *world {
	f.Helper()
	dir := f.TempDir()
	db, err := sqlite.Open(context.Background(), filepath.Join(dir, "store.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	keys, err := seal.Create(filepath.Join(dir, "seal.json"), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	w := &world{clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, provider: &provider{}, hub: &push.Local{}}
	w.Service, err = New(Config{
		Store: db, Keys: keys, Hub: w.hub, Telephony: w.provider, Audience: audience, Now: w.clock.Now, After: w.clock.After,
		Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	err = db.Update(context.Background(), func(x store.Writer) error {
		return errors.Join(
			x.AddUser(store.User{ID: "DU1", Username: "alice", Aliases: []string{"al"}, Status: store.Active}),
			x.AddPhone(store.Phone{ID: "DP1", Number: "+15550100123", PublicKey: "K", Generation: 1}), x.AttachPhone("DU1", "DP1"))
	})
	if err != nil {
		f.Fatal(err)
	}
	return w
}

// TestBypassEnds: a user whose bypass ends while preauth runs is not let in.
func TestBypassEnds(t *testing.T) {
	w := newWorld(t)
	w.update(func(x store.Writer) error { return x.SetUserStatus("DU1", store.Bypass, "", w.clock.Now()) })
	var p person
	err := w.Store.View(context.Background(), func(r store.Reader) (err error) {
		p, err = w.lookUp(r, w.client, "alice", "", origin{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	v, decided := w.standing(p)
	if !decided || v.result != duoapi.ResultAllow {
		t.Fatalf("%+v", v)
	}
	w.update(func(x store.Writer) error { return x.SetUserStatus("DU1", store.Disabled, "", w.clock.Now()) })
	v, err = w.settle(context.Background(), p, event("T", p, "", ""), v, false)
	if err != nil || v.result != duoapi.ResultDeny {
		t.Fatalf("%+v, %v", v, err)
	}
	w.wantEvent(0, "denied", "error", "not_available")
}

// TestDeletedMeanwhile: a user who is deleted between reading and deciding is refused, not an error.
func TestDeletedMeanwhile(t *testing.T) {
	w := newWorld(t)
	for _, f := range []string{duoapi.FactorPasscode, duoapi.FactorPhone} {
		a, err := w.prepare(context.Background(), w.client, AuthRequest{Username: "alice", Factor: f, Passcode: w.code(0, 6)})
		if err != nil {
			t.Fatal(err)
		}
		a.phone = store.Phone{ID: "DP1", Number: "+15550100123", Generation: 1}
		var out duoapi.Auth
		if f == duoapi.FactorPasscode {
			w.update(func(x store.Writer) error { return x.DeleteUser("DU1") })
			out, err = w.passcode(context.Background(), a)
		} else {
			a.user.ID = "DU1" // as it was before
			out, err = w.call(context.Background(), a)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.want(out, "deny", "deny")
	}
	if n := len(w.provider.calls); n != 0 {
		t.Fatalf("%d calls for a deleted user", n)
	}
}
