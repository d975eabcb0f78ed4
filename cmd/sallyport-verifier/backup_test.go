// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/backup"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// must calls an API and gives the response.
func must[T any](t *testing.T, c *duoapi.Client, method, path string, params url.Values) (out T) {
	t.Helper()
	if _, err := c.Call(context.Background(), method, path, params, &out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return out
}

// passcode tries a passcode of alice.
func passcode(c *duoapi.Client, code string) (allowed bool, err error) {
	var out struct {
		Result string `json:"result"`
	}
	_, err = c.Call(context.Background(), "POST", "/auth/v2/auth", url.Values{
		"username": {"alice"}, "factor": {"passcode"}, "passcode": {code}, "ipaddr": {"192.0.2.1"},
	}, &out)
	return out.Result == "allow", err
}

// alice is a person with every kind of code.
type alice struct {
	totp, hotp    string // secrets in base32
	once, forever string // bypass codes
	app           *duoapi.Client
}

func enrol(t *testing.T, r *running) alice {
	t.Helper()
	admin := r.client(r.read(config.AdminFile))
	user := must[struct {
		ID string `json:"user_id"`
	}](t, admin, "POST", "/admin/v1/users", url.Values{"username": {"alice"}})
	token := func(kind string) string {
		made := must[struct {
			ID     string `json:"token_id"`
			Secret string `json:"secret"`
		}](t, admin, "POST", "/admin/v1/tokens", url.Values{"type": {kind}, "serial": {kind}})
		must[any](t, admin, "POST", "/admin/v1/users/"+user.ID+"/tokens", url.Values{"token_id": {made.ID}})
		return made.Secret
	}
	codes := func(uses string) string {
		return must[[]string](t, admin, "POST", "/admin/v1/users/"+user.ID+"/bypass_codes",
			url.Values{"count": {"1"}, "reuse_count": {uses}, "preserve_existing": {"true"}})[0]
	}
	app := must[struct {
		Key    string `json:"integration_key"`
		Secret string `json:"secret_key"`
	}](t, admin, "POST", "/admin/v1/integrations", url.Values{"name": {"app"}, "type": {"authapi"}})
	a := alice{totp: token("t6"), hotp: token("h6"), once: codes("1"), forever: codes("0"), app: r.client(r.read(config.AdminFile))}
	a.app.IntegrationKey, a.app.Secret = app.Key, []byte(app.Secret)
	return a
}

// TestBackupUnderLoad: what was acknowledged before the backup is in it; what was
// used after it counts no more on the restored verifier, which serves logins.
func TestBackupUnderLoad(t *testing.T) {
	tmp := t.TempDir()
	r := start(t, datadir.InitOptions{Dir: filepath.Join(tmp, "d")})
	a := enrol(t, r)

	var acknowledged atomic.Int64
	var load sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				allowed, err := passcode(a.app, a.forever)
				if err != nil || !allowed {
					t.Errorf("a login during the backup: %v, %v", allowed, err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	count := func() int { return int(acknowledged.Load()) }
	r.await(func() bool { return count() > 20 })
	before := count()
	file := filepath.Join(tmp, "backup")
	if _, err := backup.Make(t.Context(), backup.Options{Dir: r.dir, Out: file, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	during := count()
	r.await(func() bool { return count() > during }) // logins went on
	cancel()
	load.Wait()

	now := time.Now()
	code, err := totp.GenerateCode(a.totp, now)
	if err != nil {
		t.Fatal(err)
	}
	first, err := hotp.GenerateCodeCustom(a.hotp, 0, hotp.ValidateOpts{Digits: otp.DigitsSix})
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]string{"TOTP": code, "HOTP": first, "bypass": a.once}
	for kind, c := range used {
		if allowed, err := passcode(a.app, c); err != nil || !allowed {
			t.Fatalf("%s code after the backup: %v, %v", kind, allowed, err)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	dir := filepath.Join(tmp, "restored")
	restored, err := backup.Restore(t.Context(), backup.RestoreOptions{Dir: dir, In: file, HOTPAdvance: -1, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if restored.Void.TOTP != 1 || restored.Void.HOTP != 1 || restored.Void.Bypass != 1 || restored.HOTP != 10 {
		t.Errorf("made void: %+v", restored)
	}
	checkRestored(t, dir, before)
	again := startOn(t, dir)
	a.app.BaseURL.Host = again.addr
	for kind, c := range used {
		if allowed, err := passcode(a.app, c); err != nil || allowed {
			t.Errorf("the %s code that was used after the backup, on the restored verifier: %v, %v", kind, allowed, err)
		}
	}
	later, err := hotp.GenerateCodeCustom(a.hotp, 12, hotp.ValidateOpts{Digits: otp.DigitsSix})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{later, a.forever} {
		if allowed, err := passcode(a.app, c); err != nil || !allowed {
			t.Errorf("a login on the restored verifier: %v, %v", allowed, err)
		}
	}
}

// checkRestored looks for at least so many logins, and for the restore in the administrator log.
func checkRestored(t *testing.T, dir string, logins int) {
	t.Helper()
	data, err := datadir.Open(t.Context(), dir, "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	err = data.Store.View(t.Context(), func(r store.Reader) error {
		events, err := r.Events(store.EventFilter{Usernames: []string{"alice"}, Results: []string{"success"}, Limit: 1 << 20})
		if len(events) < logins {
			t.Errorf("%d logins in the backup, %d were acknowledged before it", len(events), logins)
		}
		admin, err2 := r.AdminEvents(time.Time{}, 1000)
		if last := admin[len(admin)-1]; last.Action != "restore" {
			t.Errorf("the last administrator event is %q", last.Action)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

// A backup while another runs to the same file is refused, and what a killed one
// left is removed; a server in the directory keeps a restore out.
func TestBackupPlaces(t *testing.T) {
	tmp := t.TempDir()
	r := start(t, datadir.InitOptions{Dir: filepath.Join(tmp, "d")})
	out := filepath.Join(tmp, "b")
	if _, err := backup.Make(t.Context(), backup.Options{Dir: r.dir, Out: out, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), backup.RestoreOptions{Dir: r.dir, In: out, Now: time.Now}); err == nil {
		t.Error("restored over a verifier that serves")
	}
	if err := r.admin(r.read(config.AdminFile)); err != nil {
		t.Errorf("after the attempt: %v", err)
	}
}
