// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// Who is at work when the verifier is killed, and what they have until then.
const (
	workers     = 5 // of each kind
	bypassEach  = 400
	totpEach    = 200 // users: a user's TOTP code counts once in 30 seconds
	wrongEvery  = 7
	longestLife = 400 * time.Millisecond
)

// answered is a login that got an answer.
type answered struct {
	user, passcode, txID string
	allowed              bool
	used                 func(store.Reader) (bool, error) // nil if it was not allowed
}

// ledger is what clients were told; after a crash all of it must hold.
type ledger struct {
	mu     sync.Mutex
	logins []answered
	users  []string // made by an administrator
}

func (l *ledger) login(a answered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins = append(l.logins, a)
}

func (l *ledger) user(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users = append(l.users, name)
}

// life is the verifier between two kills: its people, and those at work.
type life struct {
	*process
	*ledger
	n    int
	keys *seal.Keys
	// What the ledger had when this life began.
	logins0, users0 int
}

func (l *life) name(kind string, worker int) string { return fmt.Sprintf("%s%d-%d", kind, l.n, worker) }

// code is a bypass code of a user.
func (l *life) bypass(user string, n int) string {
	sum := sha256.Sum256([]byte(user))
	return fmt.Sprintf("%03d%06d", int(sum[0])+100, n)
}

func (l *life) person(w store.Writer, name string, token store.TokenType) error {
	err := w.AddUser(store.User{ID: "DU" + name, Username: name, Status: store.Active, Created: time.Now()})
	if err != nil || token == "" {
		return err
	}
	id := "DH" + name
	return errors.Join(w.AddToken(store.Token{
		ID: id, Type: token, Serial: id, SecretSealed: factor.SealToken(l.keys, id, []byte(seed)), LastStep: -1, Step: 30, Created: time.Now(),
	}), w.AttachToken("DU"+name, id))
}

// populate adds the people of this life beside the running verifier.
func (l *life) populate() {
	l.Helper()
	db, err := sqlite.Open(context.Background(), filepath.Join(l.dir, config.Database))
	l.must(err)
	err = db.Update(context.Background(), func(w store.Writer) error {
		var errs []error
		for i := range workers {
			errs = append(errs, l.person(w, l.name("hotp", i), store.HOTP6))
			for n := range totpEach {
				errs = append(errs, l.person(w, l.name("totp", i*totpEach+n), store.TOTP6))
			}
			user := l.name("bypass", i)
			errs = append(errs, l.person(w, user, ""))
			for n := range bypassEach {
				errs = append(errs, w.AddBypassCode(store.BypassCode{
					ID: fmt.Sprintf("DB%s-%d", user, n), UserID: "DU" + user, Hash: factor.HashBypass(l.keys, "DU"+user, l.bypass(user, n)),
					UsesLeft: 1, Created: time.Now(),
				}))
			}
		}
		return errors.Join(errs...)
	})
	l.must(errors.Join(err, db.Close()))
}

// try logs in and notes the answer. False: there was none, the verifier is dead.
func (l *life) try(c *duoapi.Client, user, passcode string, want bool, used func(store.Reader) (bool, error)) bool {
	out, err := logIn(c, user, passcode)
	if code(err) == -1 {
		return false
	}
	if err != nil || (out.Result == duoapi.ResultAllow) != want || out.TxID == "" {
		l.Errorf("%s: %+v, %v; want allowed: %v", user, out, err, want)
		return false
	}
	if !want {
		used = nil
	}
	l.login(answered{user, passcode, out.TxID, want, used})
	return true
}

func (l *life) hotp(c *duoapi.Client, worker int) {
	user := l.name("hotp", worker)
	for n := int64(0); ; n++ {
		if n%wrongEvery == 0 && !l.try(c, user, "000000x", false, nil) {
			return
		}
		used := func(r store.Reader) (bool, error) {
			t, err := r.Token("DH" + user)
			return t.Counter > n, err
		}
		if !l.try(c, user, otpCode(n), true, used) {
			return
		}
	}
}

func (l *life) totp(c *duoapi.Client, worker int) {
	for n := range totpEach {
		user, step := l.name("totp", worker*totpEach+n), time.Now().Unix()/30
		used := func(r store.Reader) (bool, error) {
			t, err := r.Token("DH" + user)
			return t.LastStep >= step, err
		}
		if !l.try(c, user, otpCode(step), true, used) {
			return
		}
	}
}

func (l *life) bypassCodes(c *duoapi.Client, worker int) {
	user := l.name("bypass", worker)
	for n := range bypassEach {
		used := func(r store.Reader) (bool, error) {
			b, err := r.BypassCode(fmt.Sprintf("DB%s-%d", user, n))
			return b.UsesLeft == 0, err
		}
		if !l.try(c, user, l.bypass(user, n), true, used) {
			return
		}
	}
}

// administer makes users until the verifier is dead.
func (l *life) administer(c *duoapi.Client) {
	for n := 0; ; n++ {
		name := fmt.Sprintf("made%d-%d", l.n, n)
		_, err := c.Call(context.Background(), http.MethodPost, "/admin/v1/users", url.Values{"username": {name}}, nil)
		if code(err) == -1 {
			return
		}
		if err != nil {
			l.Errorf("make a user: %v", err)
			return
		}
		l.user(name)
	}
}

// live puts everybody to work and kills the verifier at a random moment.
func (l *life) live(admin func() *duoapi.Client) {
	l.Helper()
	var wg sync.WaitGroup
	work := func(c *duoapi.Client, f func(*duoapi.Client)) {
		wg.Go(func() {
			defer c.HTTP.CloseIdleConnections()
			f(c)
		})
	}
	for i := range workers {
		work(l.client(), func(c *duoapi.Client) { l.hotp(c, i) })
		work(l.client(), func(c *duoapi.Client) { l.totp(c, i) })
		work(l.client(), func(c *duoapi.Client) { l.bypassCodes(c, i) })
	}
	work(admin(), l.administer)
	time.Sleep(50*time.Millisecond + rand.N(longestLife))
	l.kill()
	wg.Wait()
}

// rise starts the verifier again; sometimes it is killed once more while it starts.
func (l *life) rise() {
	l.Helper()
	l.start()
	if rand.N(3) == 0 {
		time.Sleep(rand.N(100 * time.Millisecond))
		l.kill()
		l.start()
	}
	l.serving()
}

// holds asserts that the store has everything in the ledger from a login and a user on.
func (l *ledger) holds(t testing.TB, r store.Reader, login, user int) error {
	for _, a := range l.logins[login:] {
		e, err := r.Event(a.txID)
		if err != nil {
			return fmt.Errorf("event of the answered login %s of %s: %w", a.txID, a.user, err)
		}
		if (e.Result == "success") != a.allowed {
			t.Errorf("%s was answered with allowed %v, its event says %s", a.user, a.allowed, e.Result)
		}
		if a.used == nil {
			continue
		}
		if used, err := a.used(r); err != nil || !used {
			t.Errorf("the code %s of %s was accepted and is good again: %v", a.passcode, a.user, err)
		}
	}
	made := map[string]bool{}
	events, err := adminEvents(r)
	if err != nil {
		return err
	}
	for _, e := range events {
		made[e.Object] = made[e.Object] || e.Action == "user_create"
	}
	for _, name := range l.users[user:] {
		if _, err := r.UserByName(name); err != nil {
			return fmt.Errorf("user %s, whose making was answered: %w", name, err)
		}
		if !made[name] {
			t.Errorf("the administrator log has no entry for %s, whose making was answered", name)
		}
	}
	return nil
}

// audit asserts that what was answered in this life holds and that the file is whole.
func (l *life) audit(db *sqlite.DB, r store.Reader) error {
	return errors.Join(l.holds(l, r, l.logins0, l.users0), l.together(r), db.Check(context.Background()))
}

// adminEvents reads all of the administrator log.
func adminEvents(r store.Reader) ([]store.AdminEvent, error) {
	return r.AdminEvents(time.Unix(0, 0), 1_000_000)
}

// together asserts that a use and its event are there or not there together, also
// where the client never got its answer.
func (l *life) together(r store.Reader) error {
	for i := range workers {
		user := l.name("hotp", i)
		t, err := r.Token("DH" + user)
		if err != nil {
			return err
		}
		events, err := successes(r, user)
		if err != nil {
			return err
		}
		if int64(events) != t.Counter {
			l.Errorf("%s: %d codes are used and %d events say so", user, t.Counter, events)
		}
		user = l.name("bypass", i)
		_, left, err := r.BypassCodes("DU"+user, store.Page{Limit: 1})
		if err != nil {
			return err
		}
		if events, err = successes(r, user); err != nil {
			return err
		}
		if events != bypassEach-left {
			l.Errorf("%s: %d codes are used and %d events say so", user, bypassEach-left, events)
		}
	}
	return nil
}

func successes(r store.Reader, user string) (int, error) {
	events, err := r.Events(store.EventFilter{Users: []string{"DU" + user}, Results: []string{"success"}, Limit: 1_000_000})
	return len(events), err
}

// replay sends accepted codes of this life once more: no one is let in.
func (l *life) replay() {
	l.Helper()
	c := l.client()
	defer c.HTTP.CloseIdleConnections()
	again := 0
	for _, i := range rand.Perm(len(l.logins) - l.logins0) {
		a := l.logins[l.logins0+i]
		if !a.allowed {
			continue
		}
		out, err := logIn(c, a.user, a.passcode)
		if err != nil || out.Result != duoapi.ResultDeny {
			l.Errorf("the accepted code %s of %s, sent again after the crash: %+v, %v", a.passcode, a.user, out, err)
		}
		if again++; again == 40 {
			return
		}
	}
}

// TestKilled: the verifier is killed at random moments under load. Whatever it has
// answered is still so when it is back.
func TestKilled(t *testing.T) {
	var keys *seal.Keys
	p := newProcess(t, t.TempDir(), func(d *datadir.Data) error { keys = d.Keys; return nil })
	admin := func() *duoapi.Client { return p.admin() }
	all := &ledger{}
	p.start()
	p.serving()
	for n := range *kills {
		l := &life{process: p, ledger: all, n: n, keys: keys, logins0: len(all.logins), users0: len(all.users)}
		l.populate()
		l.live(admin)
		l.rise()
		p.look(l.audit)
		l.replay()
		if t.Failed() {
			t.Fatalf("after kill %d", n+1)
		}
	}
	p.look(func(db *sqlite.DB, r store.Reader) error { return all.holds(t, r, 0, 0) }) // of all lives
	t.Logf("%d kills: %d answered logins and %d answered changes hold", *kills, len(all.logins), len(all.users))
	if len(all.logins) < 3*(*kills) {
		t.Errorf("only %d logins were answered in %d lives: this was no load", len(all.logins), *kills)
	}
}

// admin is a client with the keys that init made.
func (p *process) admin() *duoapi.Client {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, config.AdminFile))
	p.must(err)
	var profile duoapi.Profile
	p.must(json.Unmarshal(text, &profile))
	c := p.client()
	c.IntegrationKey, c.Secret = profile.IntegrationKey, []byte(profile.SecretKey)
	return c
}
