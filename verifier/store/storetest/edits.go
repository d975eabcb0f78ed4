// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// testEdits: many read an object at once, change a field of it and set it; nobody's
// change is lost, and each reads what the one before wrote.
func testEdits(t *testing.T, s store.Store) {
	person(t, s)
	const editors, rounds = 8, 10
	var wg sync.WaitGroup
	for range editors {
		wg.Go(func() {
			for range rounds {
				err := s.Update(context.Background(), func(w store.Writer) error {
					u, err := w.User("DU1")
					if err != nil {
						return err
					}
					u.Notes += "x"
					if err := w.SetUser(u); err != nil {
						return err
					}
					settings, err := w.Settings()
					if err != nil {
						return err
					}
					settings.HelpdeskMessage += "x"
					return w.SetSettings(settings)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(r store.Reader) error {
		u, err := r.User("DU1")
		if err != nil {
			return err
		}
		equal(t, "edits of a user", len(u.Notes), editors*rounds)
		settings, err := r.Settings()
		equal(t, "edits of the settings", len(settings.HelpdeskMessage), editors*rounds)
		return err
	})
}

// testFreePlaces: aliases keep their places, and a free place is nobody's name.
func testFreePlaces(t *testing.T, s store.Store) {
	person(t, s)
	for i, aliases := range [][]string{{"", "second"}, {"first", ""}, {"", "", "third"}} {
		update(t, s, func(w store.Writer) error {
			u, err := w.User("DU1")
			if err != nil {
				return err
			}
			u.Aliases = aliases
			return w.SetUser(u)
		})
		view(t, s, func(r store.Reader) error {
			u, err := r.User("DU1")
			equal(t, fmt.Sprintf("aliases %d", i), fmt.Sprintf("%q", u.Aliases), fmt.Sprintf("%q", aliases))
			if _, err := r.UserByName(""); err == nil {
				t.Error("a user without a name was found")
			}
			return err
		})
	}
}
