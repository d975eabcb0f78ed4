// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Policy is a policy for tests with one section.
func Policy(id, name, section string) store.Policy {
	return store.Policy{ID: id, Name: name, Sections: map[string]json.RawMessage{section: json.RawMessage(`{"a":1}`)}, Created: now}
}

func testPolicies(t *testing.T, s store.Store) {
	a, b := Policy("POa", "a", "x"), Policy("POb", "b", "y")
	var global store.Policy
	update(t, s, func(w store.Writer) (err error) {
		if global, err = w.GlobalPolicy(); err != nil {
			return err
		}
		return errors.Join(w.AddPolicy(a), w.AddPolicy(b))
	})
	if !global.Global || len(global.Sections) != 0 {
		t.Fatalf("global policy %+v", global)
	}
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddPolicy(Policy("POc", "a", "x")) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.SetPolicy(Policy("POb", "a", "x")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetPolicy(Policy("POx", "x", "x")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeletePolicy("POx") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeletePolicy(global.ID) })
	a.Name, a.Sections = "z", nil
	global.Sections = map[string]json.RawMessage{"g": json.RawMessage(`{}`)}
	update(t, s, func(w store.Writer) error { return errors.Join(w.SetPolicy(a), w.SetPolicy(global)) })
	view(t, s, func(r store.Reader) error {
		a.Sections = map[string]json.RawMessage{}
		page, total, err := r.Policies(store.Page{})
		equal(t, "policies", page, []store.Policy{global, b, a})
		equal(t, "count", total, 3)
		got, err2 := r.Policy("POb")
		equal(t, "policy", got, b)
		return errors.Join(err, err2)
	})
	update(t, s, func(w store.Writer) error { return w.DeletePolicy("POa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Policy("POa"); return err })
}

func testPolicyUses(t *testing.T, s store.Store) {
	a, b := Policy("POa", "a", "x"), Policy("POb", "b", "y")
	put := func(policy, group string) store.PolicyUse {
		return store.PolicyUse{PolicyID: policy, IntegrationKey: "DI1", GroupID: group}
	}
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddIntegration(Integration("DI1")), w.AddIntegration(Integration("DI2")),
			w.AddGroup(Group("DG1", "one")), w.AddGroup(Group("DG2", "two")), w.AddGroup(Group("DG3", "three")),
			w.AddPolicy(a), w.AddPolicy(b),
			w.PutPolicy(put("POa", "")), w.PutPolicy(put("POa", "DG1")), w.PutPolicy(put("POb", "DG2")),
			w.PutPolicy(put("POb", "DG3")), w.PutPolicy(put("POb", "DG1"))) // in place of POa
	})
	for _, bad := range []store.PolicyUse{put("POx", ""), put("POa", "DGx"), {PolicyID: "POa", IntegrationKey: "DIx"}} {
		wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.PutPolicy(bad) })
	}
	order := func(want ...string) {
		t.Helper()
		view(t, s, func(r store.Reader) error {
			got, err := r.AppliedPolicies("DI1")
			var have []string
			for _, u := range got.Uses {
				have = append(have, u.GroupID+" "+u.PolicyID)
				if got.Policies[u.PolicyID].ID != u.PolicyID {
					t.Errorf("policy %s is not among %v", u.PolicyID, got.Policies)
				}
			}
			equal(t, "applied", have, want)
			if !got.Global.Global {
				t.Errorf("global policy %+v", got.Global)
			}
			return err
		})
	}
	order("DG1 POb", "DG2 POb", "DG3 POb", " POa")
	update(t, s, func(w store.Writer) error { return w.OrderPolicies("DI1", []string{"DG3"}) })
	order("DG3 POb", "DG1 POb", "DG2 POb", " POa")
	update(t, s, func(w store.Writer) error { return w.OrderPolicies("DI1", []string{"DG2", "DG1", "DG3"}) })
	order("DG2 POb", "DG1 POb", "DG3 POb", " POa")
	for _, c := range []struct {
		use  store.PolicyUse
		want bool
	}{{put("POa", "DG2"), false}, {put("POb", "DG2"), true}, {put("POb", "DG2"), false}} {
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.TakePolicy(c.use) }); got != c.want {
			t.Errorf("take %+v: %v", c.use, got)
		}
	}
	order("DG1 POb", "DG3 POb", " POa")
	update(t, s, func(w store.Writer) error { return w.DeleteGroup("DG3") })
	order("DG1 POb", " POa")
	view(t, s, func(r store.Reader) error {
		all, err := r.PolicyUses("")
		equal(t, "all uses", len(all), 2)
		ofB, err2 := r.PolicyUses("POb")
		equal(t, "uses of b", ofB, []store.PolicyUse{{PolicyID: "POb", IntegrationKey: "DI1", GroupID: "DG1", Position: 1}})
		other, err3 := r.AppliedPolicies("DI2")
		equal(t, "another application", len(other.Uses), 0)
		return errors.Join(err, err2, err3)
	})
	update(t, s, func(w store.Writer) error { return w.DeletePolicy("POb") })
	order(" POa")
	update(t, s, func(w store.Writer) error { return w.DeleteIntegration("DI1") })
	order()
}

// Every change that an evaluation may rest on moves the version.
func testPolicyVersion(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddIntegration(Integration("DI1")), w.AddUser(User("DU1", "alice")))
	})
	use := store.PolicyUse{PolicyID: "POa", IntegrationKey: "DI1", GroupID: "DG1"}
	held := func() (n int64) {
		update(t, s, func(w store.Writer) (err error) {
			n, err = w.HoldPolicies()
			return err
		})
		view(t, s, func(r store.Reader) error {
			read, err := r.PolicyVersion()
			equal(t, "version", read, n)
			applied, err2 := r.AppliedPolicies("DI1")
			equal(t, "version of the applied policies", applied.Version, n)
			return errors.Join(err, err2)
		})
		return n
	}
	before := held()
	equal(t, "version without a change", held(), before)
	for _, c := range []struct {
		name   string
		change func(w store.Writer) error
	}{
		{"AddGroup", func(w store.Writer) error { return w.AddGroup(Group("DG1", "one")) }},
		{"SetGroup", func(w store.Writer) error { return w.SetGroup(Group("DG1", "uno")) }},
		{"AddGroupUser", func(w store.Writer) error { return w.AddGroupUser("DG1", "DU1") }},
		{"RemoveGroupUser", func(w store.Writer) error { return w.RemoveGroupUser("DG1", "DU1") }},
		{"AddPolicy", func(w store.Writer) error { return w.AddPolicy(Policy("POa", "a", "x")) }},
		{"SetPolicy", func(w store.Writer) error { return w.SetPolicy(Policy("POa", "b", "x")) }},
		{"PutPolicy", func(w store.Writer) error { return w.PutPolicy(use) }},
		{"OrderPolicies", func(w store.Writer) error { return w.OrderPolicies("DI1", nil) }},
		{"TakePolicy", func(w store.Writer) error { _, err := w.TakePolicy(use); return err }},
		{"DeletePolicy", func(w store.Writer) error { return w.DeletePolicy("POa") }},
		{"DeleteGroup", func(w store.Writer) error { return w.DeleteGroup("DG1") }},
	} {
		update(t, s, c.change)
		after := held()
		if after <= before {
			t.Errorf("%s: version %d after %d", c.name, after, before)
		}
		before = after
	}
}

func testNoteUnasked(t *testing.T, s store.Store) {
	person(t, s)
	at := now.Add(time.Minute)
	for status, want := range map[store.UserStatus]bool{
		store.Active: true, store.Bypass: true, store.Disabled: false, store.LockedOut: false,
	} {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", status, store.LockoutAdmin, now) })
		if got := decide(t, s, func(w store.Writer) (bool, error) { return w.NoteUnasked("DU1", at) }); got != want {
			t.Errorf("%s: %v", status, got)
		}
	}
	view(t, s, func(r store.Reader) error {
		u, err := r.User("DU1")
		equal(t, "last login", u.LastLogin, at)
		return err
	})
	if decide(t, s, func(w store.Writer) (bool, error) { return w.NoteUnasked("DUx", at) }) {
		t.Error("nobody logged in")
	}
}
