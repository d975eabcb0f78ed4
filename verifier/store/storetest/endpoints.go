// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func testEndpoints(t *testing.T, s store.Store) {
	a := store.Endpoint{
		ID: "EPa", Username: "alice", LastSeen: now, Email: "a@example.org", Model: "m", OSFamily: "Linux", OSVersion: "6",
		Browsers: []store.EndpointBrowser{{Family: "Firefox", Version: "140", LastUsed: 1}},
	}
	b := store.Endpoint{ID: "EPb", Username: "bob", LastSeen: now}
	update(t, s, func(w store.Writer) error { return errors.Join(w.PutEndpoint(b), w.PutEndpoint(a)) })
	a.LastSeen, a.OSVersion = now.Add(time.Minute), "7"
	update(t, s, func(w store.Writer) error { return w.PutEndpoint(a) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Endpoint("EPa")
		equal(t, "endpoint", got, a)
		all, total, err2 := r.Endpoints(store.Page{Limit: 1, Offset: 1})
		equal(t, "page", all, []store.Endpoint{b})
		equal(t, "total", total, 2)
		return errors.Join(err, err2)
	})
	update(t, s, func(w store.Writer) error { return w.DeleteEndpoint("EPa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteEndpoint("EPa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Endpoint("EPa"); return err })
}

func testRegisteredDevices(t *testing.T, s store.Store) {
	person(t, s)
	d := store.RegisteredDevice{ID: "DR1", UserID: "DU1", Created: now, Name: "laptop", OS: "Linux"}
	e := store.RegisteredDevice{ID: "DR2", UserID: "DU1", Created: now.Add(time.Second), Blocked: true}
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddRegisteredDevice(d), w.AddRegisteredDevice(e)) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddRegisteredDevice(d) })
	block := func(id string, on bool) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.BlockRegisteredDevice(id, on) })
	}
	if !block("DR1", true) || block("DR1", true) || !block("DR2", false) || block("DR3", true) {
		t.Error("a device is blocked once, and only one that is there")
	}
	d.Blocked, e.Blocked = true, false
	view(t, s, func(r store.Reader) error {
		all, total, err := r.RegisteredDevices(false, store.Page{})
		equal(t, "all", all, []store.RegisteredDevice{d, e})
		equal(t, "total", total, 2)
		blocked, _, err2 := r.RegisteredDevices(true, store.Page{})
		equal(t, "blocked", blocked, []store.RegisteredDevice{d})
		got, err3 := r.RegisteredDevice("DR2")
		equal(t, "one", got, e)
		return errors.Join(err, err2, err3)
	})
	update(t, s, func(w store.Writer) error { return w.DeleteRegisteredDevice("DR1") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteRegisteredDevice("DR1") })
	update(t, s, func(w store.Writer) error { return w.DeleteUser("DU1") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.RegisteredDevice("DR2"); return err })
}

func testLogo(t *testing.T, s store.Store) {
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteLogo() })
	for _, png := range []string{"one", "two"} {
		update(t, s, func(w store.Writer) error { return w.SetLogo([]byte(png)) })
		view(t, s, func(r store.Reader) error {
			got, err := r.Logo()
			equal(t, "logo", string(got), png)
			return err
		})
	}
	update(t, s, func(w store.Writer) error { return w.DeleteLogo() })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Logo(); return err })
}
