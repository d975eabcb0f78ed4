// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// own is who acts when nobody asked: the verifier keeps to its settings.
var own = Actor{Name: "Sallyport"}

// TrashUsers moves users into the trash, from where RestoreUsers takes them back
// until pending_deletion_days are over; with 0 days it deletes them. All or none:
// an id that is nobody's fails the call. Who is in the trash stays there.
func (d *Directory) TrashUsers(ctx context.Context, a Actor, ids []string) (users []store.User, err error) {
	var phones []store.Phone
	err = d.eachUser(ctx, ids, &users, func(w store.Writer, u store.User) (store.User, error) {
		set, err := w.Settings()
		if err != nil {
			return u, err
		}
		theirs, err := w.UserPhones(u.ID)
		if err != nil {
			return u, err
		}
		phones = append(phones, theirs...)
		if set.PendingDeletionDays == 0 {
			if err := w.DeleteUser(u.ID); err != nil {
				return u, fmt.Errorf("delete user: %w", err)
			}
			err := d.audit(w, a, "user_delete", u.Username, whole("user_id", u.ID, userFields(u)))
			u.Status, u.TrashedAt = store.PendingDeletion, d.Now()
			return u, err
		}
		won, err := w.TrashUser(u.ID, d.Now())
		if err != nil || !won {
			return u, err
		}
		return d.moved(w, a, "user_pending_delete", u)
	})
	if err == nil {
		d.withdraw(ctx, phones...)
	}
	return users, err
}

// RestoreUsers takes users out of the trash, each in the status of before. All or none.
func (d *Directory) RestoreUsers(ctx context.Context, a Actor, ids []string) (users []store.User, err error) {
	err = d.eachUser(ctx, ids, &users, func(w store.Writer, u store.User) (store.User, error) {
		won, err := w.RestoreUser(u.ID)
		if err != nil {
			return u, err
		}
		if !won {
			return u, invalid("user_id_list", u.ID+": the user is not pending deletion")
		}
		return d.moved(w, a, "user_restore", u)
	})
	return users, err
}

// moved logs that a user went into the trash or out of it.
func (d *Directory) moved(w store.Writer, a Actor, action string, before store.User) (store.User, error) {
	u, err := w.User(before.ID)
	if err != nil {
		return u, err
	}
	return u, d.audit(w, a, action, u.Username, difference("user_id", u.ID, userFields(before), userFields(u)))
}

func (d *Directory) eachUser(ctx context.Context, ids []string, users *[]store.User, do func(store.Writer, store.User) (store.User, error)) error {
	if len(ids) == 0 {
		return duoapi.NewError(duoapi.CodeMissingParameter, "user_id_list")
	}
	if len(ids) > MaxBulk {
		return invalid("user_id_list", fmt.Sprintf("more than %d users", MaxBulk))
	}
	return d.update(ctx, "", func(w store.Writer) error {
		*users = (*users)[:0]
		for i, id := range ids {
			u, err := w.User(id)
			if err != nil {
				return InList("user_id_list", i, clientError(err, ""))
			}
			if u, err = do(w, u); err != nil {
				return err
			}
			*users = append(*users, u)
		}
		return nil
	})
}

// EmptyTrash deletes users whose days in the trash are over.
func (d *Directory) EmptyTrash(ctx context.Context) error {
	for {
		var due []store.User
		var until time.Time
		err := d.view(ctx, func(r store.Reader) error {
			set, err := r.Settings()
			if err != nil {
				return err
			}
			until = d.Now().AddDate(0, 0, -set.PendingDeletionDays)
			due, err = r.TrashedUsers(until, MaxBulk)
			return err
		})
		if err != nil || len(due) == 0 {
			return err
		}
		for _, u := range due {
			if err := d.deleteTrashed(ctx, u, until); err != nil {
				return err
			}
		}
	}
}

func (d *Directory) deleteTrashed(ctx context.Context, u store.User, until time.Time) error {
	return d.update(ctx, "", func(w store.Writer) error {
		won, err := w.DeleteTrashed(u.ID, until)
		if err != nil || !won { // restored meanwhile
			return err
		}
		return d.audit(w, own, "user_delete", u.Username, whole("user_id", u.ID, userFields(u)))
	})
}
