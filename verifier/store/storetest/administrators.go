// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func administrator(id string, role store.AdminRole, status store.AdminStatus) store.Administrator {
	return store.Administrator{
		ID: id, Name: "name of " + id, Email: id + "@example.org", Phone: "+15550100", Role: role, Status: status, Password: "hash",
		PasswordExternal: true, PasswordChange: true, Failures: 2, Created: now, LastLogin: now.Add(time.Minute),
	}
}

func testAdministrators(t *testing.T, s store.Store) {
	owner, helper := administrator("a", store.RoleOwner, store.AdminActive), administrator("b", store.RoleHelpDesk, store.AdminActive)
	pending := administrator("c", store.RoleOwner, store.AdminPending)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddAdministrator(owner), w.AddAdministrator(helper), w.AddAdministrator(pending))
	})
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error {
		again := helper
		again.ID = "d"
		return w.AddAdministrator(again)
	})
	view(t, s, func(r store.Reader) error {
		got, err := r.Administrator("a")
		equal(t, "administrator", got, owner)
		page, total, err2 := r.Administrators(store.Page{Limit: 1, Offset: 1})
		equal(t, "page", page, []store.Administrator{helper})
		equal(t, "total", total, 3)
		return errors.Join(err, err2)
	})
	set := func(a store.Administrator, change func(*store.Administrator)) bool {
		change(&a)
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SetAdministrator(a) })
	}
	rm := func(id string) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteAdministrator(id) })
	}
	// One who has yet to use a link is no Owner who can log in.
	if rm("a") || set(owner, func(a *store.Administrator) { a.Role = store.RoleAdministrator }) ||
		set(owner, func(a *store.Administrator) { a.Status = store.AdminDisabled }) {
		t.Error("the last active Owner is gone")
	}
	if !set(owner, func(a *store.Administrator) { a.Name = "x" }) || !rm("c") || !rm("b") || rm("b") {
		t.Error("others can be changed and deleted, once")
	}
	update(t, s, func(w store.Writer) error {
		return w.AddAdministrator(administrator("e", store.RoleOwner, store.AdminActive))
	})
	if !set(owner, func(a *store.Administrator) { a.Role = store.RoleAdministrator }) || rm("e") {
		t.Error("of two Owners one can go, not both")
	}
}

// However many delete and demote at once, an Owner is left.
func testLastOwnerRace(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddAdministrator(administrator("a", store.RoleOwner, store.AdminActive)),
			w.AddAdministrator(administrator("b", store.RoleOwner, store.AdminActive)))
	})
	wins := race(t, s, func(w store.Writer, i int) (bool, error) {
		switch i % 4 {
		case 0:
			return w.DeleteAdministrator("a")
		case 1:
			return w.DeleteAdministrator("b")
		case 2:
			return w.SetAdministrator(administrator("a", store.RoleReadOnly, store.AdminActive))
		}
		return w.SetAdministrator(administrator("b", store.RoleOwner, store.AdminDisabled))
	})
	view(t, s, func(r store.Reader) error {
		all, _, err := r.Administrators(store.Page{})
		owners := 0
		for _, a := range all {
			if a.Role == store.RoleOwner && a.Status == store.AdminActive {
				owners++
			}
		}
		if owners != 1 || wins == 0 {
			t.Errorf("%d Owners after %d changes", owners, wins)
		}
		return err
	})
}

func testAdminActivations(t *testing.T, s store.Store) {
	link := func(id, admin string) store.AdminActivation {
		return store.AdminActivation{
			ID: id, Hash: []byte(id), AdminID: admin, Email: admin + "x@example.org", Role: store.RoleHelpDesk, Created: now, Expires: now.Add(time.Hour),
		}
	}
	a := administrator("a", store.RoleOwner, store.AdminPending)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddAdministrator(a), w.AddAdminActivation(link("1", "a")), w.AddAdminActivation(link("2", "a")), w.AddAdminActivation(link("3", "")))
	})
	use := func(hash string, at time.Time) (got store.Administrator, won bool) {
		update(t, s, func(w store.Writer) (err error) {
			got, won, err = w.UseAdminActivation([]byte(hash), store.Administrator{ID: "new", Name: "n"}, at)
			return err
		})
		return got, won
	}
	if _, won := use("1", now); won {
		t.Error("a link is good after another was made")
	}
	if _, won := use("2", now.Add(time.Hour)); won {
		t.Error("an expired link is good")
	}
	got, won := use("2", now)
	if !won || got.Status != store.AdminActive || !got.Activated.Equal(now) {
		t.Errorf("used: %v, %+v", won, got)
	}
	if _, won := use("2", now); won {
		t.Error("a link is good twice")
	}
	got, won = use("3", now)
	if !won || got.ID != "new" || got.Email != "x@example.org" || got.Role != store.RoleHelpDesk || got.Status != store.AdminActive {
		t.Errorf("invited: %v, %+v", won, got)
	}
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddAdminActivation(link("4", "a")), w.AddAdminActivation(link("5", "")))
	})
	view(t, s, func(r store.Reader) error {
		list, total, err := r.AdminActivations(store.Page{})
		equal(t, "open links", total, 2)
		equal(t, "first", list[0], link("4", "a"))
		_, err2 := r.AdminActivation("2")
		if !errors.Is(err2, store.ErrNotFound) {
			t.Errorf("a used link: %v", err2)
		}
		return err
	})
	update(t, s, func(w store.Writer) error { return w.DeleteAdminActivation("5") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteAdminActivation("5") })
	disabled := administrator("a", store.RoleOwner, store.AdminActive)
	update(t, s, func(w store.Writer) error {
		if err := w.AddAdministrator(administrator("o", store.RoleOwner, store.AdminActive)); err != nil {
			return err
		}
		disabled.Status = store.AdminDisabled
		_, err := w.SetAdministrator(disabled)
		return err
	})
	if _, won := use("4", now); won {
		t.Error("the link of one who was disabled is good")
	}
}
