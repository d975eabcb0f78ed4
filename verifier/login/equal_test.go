// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// noting is a store that notes what is read and written.
type noting struct {
	store.Store
	calls *[]string
}

func (n noting) View(ctx context.Context, f func(store.Reader) error) error {
	return n.Store.View(ctx, func(r store.Reader) error {
		*n.calls = append(*n.calls, "view")
		return f(notingReader{r, n.calls})
	})
}

func (n noting) Update(ctx context.Context, f func(store.Writer) error) error {
	*n.calls = append(*n.calls, "update")
	return n.Store.Update(ctx, f)
}

type notingReader struct {
	store.Reader
	calls *[]string
}

func (n notingReader) note(name string) { *n.calls = append(*n.calls, name) }

func (n notingReader) UserGroups(id string) ([]store.Group, error) {
	n.note("groups")
	return n.Reader.UserGroups(id)
}

func (n notingReader) UserPhones(id string) ([]store.Phone, error) {
	n.note("phones")
	return n.Reader.UserPhones(id)
}

func (n notingReader) UserTokens(id string) ([]store.Token, error) {
	n.note("tokens")
	return n.Reader.UserTokens(id)
}

func (n notingReader) HasBypassCode(id string, now time.Time) (bool, error) {
	n.note("codes")
	return n.Reader.HasBypassCode(id, now)
}

func (n notingReader) BypassCodeByHash(id string, hash []byte) (store.BypassCode, error) {
	n.note("bypass code")
	return n.Reader.BypassCodeByHash(id, hash)
}

func (n notingReader) SMSCodeByHash(id string, hash []byte) (store.SMSCode, error) {
	n.note("SMS code")
	return n.Reader.SMSCodeByHash(id, hash)
}

// TestNobodyCostsTheSame: for a name that nobody has the same is read and written as
// for a user without a factor, and the answer is the same, so that names cannot be
// told apart. That somebody else has bypass codes changes nothing.
func TestNobodyCostsTheSame(t *testing.T) {
	w := newWorld(t)
	w.update(func(x store.Writer) error {
		return x.AddUser(store.User{ID: "DUempty", Username: "empty", Status: store.Active, Created: w.clock.Now()})
	})
	var calls []string
	w.Store = noting{w.Store, &calls}
	seen := func(f func(name string) any, name string) (any, []string) {
		calls = nil
		answer := f(name)
		return answer, slices.Clone(calls)
	}
	for what, f := range map[string]func(name string) any{
		"preauth": func(name string) any {
			out, err := w.Preauth(context.Background(), w.client, PreauthRequest{Username: name, VerifiedPush: true})
			return []any{out, err}
		},
		"seven digits": func(name string) any { return w.auths(name, "1234567") },
		"nine digits":  func(name string) any { return w.auths(name, "123456789") },
	} {
		w.clock.Add(time.Hour)
		known, knownCalls := seen(f, "empty")
		unknown, unknownCalls := seen(f, "nobody at all")
		if !reflect.DeepEqual(known, unknown) {
			t.Errorf("%s: a user without a factor is answered %+v, nobody %+v", what, known, unknown)
		}
		if !slices.Equal(knownCalls, unknownCalls) || len(knownCalls) == 0 {
			t.Errorf("%s: for a user without a factor the store does %q, for nobody %q", what, knownCalls, unknownCalls)
		}
	}
}

func (w *world) auths(name, passcode string) any {
	out, err := w.Auth(context.Background(), w.client, AuthRequest{Username: name, Factor: duoapi.FactorPasscode, Passcode: passcode})
	return []any{out, err}
}
