// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Group is an active group for tests.
func Group(id, name string) store.Group {
	return store.Group{ID: id, Name: name, Status: store.Active, PushEnabled: true, Created: now}
}

func testGroups(t *testing.T, s store.Store) {
	a, b := Group("DGa", "admins"), Group("DGb", "builders")
	a.Desc, a.Status, a.SMSEnabled, a.VoiceEnabled, a.MobileOTPEnabled = "d", store.Bypass, true, true, true
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddGroup(a), w.AddGroup(b), w.AddUser(User("DU1", "alice")), w.AddUser(User("DU2", "bob")),
			w.AddGroupUser("DGb", "DU2"), w.AddGroupUser("DGb", "DU1"), w.AddGroupUser("DGa", "DU1"), w.AddGroupUser("DGa", "DU1"))
	})
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddGroup(a) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddGroup(Group("DGc", "admins")) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.SetGroup(Group("DGb", "admins")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetGroup(Group("DGx", "x")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AddGroupUser("DGx", "DU1") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AddGroupUser("DGa", "DUx") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.RemoveGroupUser("DGa", "DU2") })
	a.Name, a.Status, a.VoiceEnabled = "zadmins", store.Disabled, false
	update(t, s, func(w store.Writer) error { return w.SetGroup(a) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Group("DGa")
		equal(t, "group", got, a)
		mine, err2 := r.UserGroups("DU1")
		equal(t, "groups of a user", mine, []store.Group{b, a})
		page, total, err3 := r.Groups(store.Page{Limit: 1, Offset: 1})
		equal(t, "second page", page, []store.Group{a})
		equal(t, "count", total, 2)
		users, total, err4 := r.GroupUsers("DGb", store.Page{Limit: 1})
		equal(t, "first user", users, []store.User{User("DU1", "alice")})
		equal(t, "users", total, 2)
		return errors.Join(err, err2, err3, err4)
	})
	update(t, s, func(w store.Writer) error { return errors.Join(w.RemoveGroupUser("DGb", "DU1"), w.DeleteGroup("DGa")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteGroup("DGa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.Group("DGa"); return err })
	update(t, s, func(w store.Writer) error { return w.DeleteUser("DU2") })
	view(t, s, func(r store.Reader) error {
		mine, err := r.UserGroups("DU1")
		equal(t, "groups of a user", len(mine), 0)
		_, total, err2 := r.GroupUsers("DGb", store.Page{})
		equal(t, "users of a group whose user is gone", total, 0)
		return errors.Join(err, err2)
	})
}
