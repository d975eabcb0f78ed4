// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxBulk is how many users one call makes or changes.
const MaxBulk = 100

// CreateUsers makes users: all, or none if one cannot be made.
func (d *Directory) CreateUsers(ctx context.Context, a Actor, changes []UserChange) ([]store.User, error) {
	if len(changes) > MaxBulk {
		return nil, invalid("users", fmt.Sprintf("more than %d users", MaxBulk))
	}
	users := make([]store.User, len(changes))
	for i, c := range changes {
		var err error
		if users[i], err = d.newUser(c); err != nil {
			return nil, InList("users", i, err)
		}
	}
	err := d.update(ctx, nameTaken, func(w store.Writer) error {
		for i, u := range users {
			if err := d.addUser(w, a, u); err != nil {
				return InList("users", i, clientError(err, nameTaken))
			}
		}
		return nil
	})
	return users, err
}

// InList makes an error about one object an error that names its place in a list,
// counted from 0.
func InList(param string, i int, err error) error {
	var e *duoapi.Error
	if !errors.As(err, &e) {
		return err
	}
	return duoapi.NewError(e.Code, fmt.Sprintf("%s[%d]: %s", param, i, e.Detail))
}
