// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

// A cache that is older than two days is warned about once a day, until another
// takes its place; one of a system that is switched off never.
func TestOldCachesAreWarnedAbout(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "v.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	activate := func(system string, keys ...string) {
		t.Helper()
		err := db.Update(t.Context(), func(w store.Writer) error {
			for _, key := range keys {
				c := store.DeviceCache{Key: key, SystemKey: system, Status: store.CachePending, Created: now}
				if ok, err := w.AddDeviceCache(c); err != nil || !ok {
					return errors.Join(err, errors.New("no place for the cache"))
				}
				if ok, err := w.ActivateDeviceCache(key, now); err != nil || !ok {
					return errors.Join(err, errors.New("not activated"))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for key, status := range map[string]store.ManagementStatus{"DM1": store.ManagementAll, "DM2": store.ManagementDisabled} {
		err := db.Update(t.Context(), func(w store.Writer) error {
			i := store.Integration{Key: "DI" + key, Name: key, Type: store.DeviceAPI, SecretSealed: []byte("s"), NamePolicy: store.NameNone, Created: now}
			m := store.ManagementSystem{Key: key, Name: key, OS: store.OSLinux, Status: status, IntegrationKey: i.Key, Created: now}
			return errors.Join(w.AddIntegration(i), w.AddManagementSystem(m))
		})
		if err != nil {
			t.Fatal(err)
		}
		activate(key, "cache1"+key)
	}

	var log bytes.Buffer
	ticks, looked := make(chan time.Time), make(chan struct{})
	s := trust.New(trust.Config{
		Store: db, Base: &url.URL{Scheme: "https", Host: "verifier.example"}, Now: func() time.Time { return now },
		After: func(time.Duration) <-chan time.Time {
			looked <- struct{}{} // it has done its round
			return ticks
		},
		Random: rand.Reader, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	go s.Run(t.Context())
	<-looked
	at := func(age time.Duration, begun time.Time, want string) {
		t.Helper()
		log.Reset()
		now = begun.Add(age)
		ticks <- now
		<-looked
		if got := log.String(); want == "" && got != "" || !strings.Contains(got, want) || strings.Count(got, "level=WARN") > 1 {
			t.Errorf("after %s the log says %q, want %q", age, got, want)
		}
	}
	begun := now
	const ofFirst = "management_system=DM1 name=DM1 cache_key=cache1DM1"
	at(48*time.Hour, begun, "")
	at(48*time.Hour+time.Minute, begun, ofFirst)
	at(60*time.Hour, begun, "") // warned today
	at(73*time.Hour, begun, ofFirst)
	activate("DM1", "cache2DM1")
	replaced := now
	at(time.Hour, replaced, "")
	at(49*time.Hour, replaced, "cache_key=cache2DM1")

	ages, err := s.Ages(t.Context())
	if err != nil || len(ages) != 2 {
		t.Fatalf("%+v, %v", ages, err)
	}
	for _, a := range ages {
		want := map[string]time.Duration{"DM1": 49 * time.Hour, "DM2": now.Sub(begun)}[a.System.Key]
		if a.Age != want || !a.Stale() {
			t.Errorf("%s: %s, want %s", a.System.Key, a.Age, want)
		}
	}
}
