// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net/url"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) sshKeys(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	query, err := url.ParseQuery(r.HTTP.URL.RawQuery)
	if err != nil {
		return gate.Answer{}, gate.Invalid("username", "the query cannot be parsed")
	}
	for name, values := range query {
		switch {
		case name != "username":
			return gate.Answer{}, gate.Invalid(name, "not a parameter of this call")
		case len(values) > 1:
			return gate.Answer{}, gate.Invalid(name, "given more than once")
		}
	}
	username := query.Get("username")
	if err := lengths(true, maxName, map[string]string{"username": username}); err != nil {
		return gate.Answer{}, err
	}
	if !utf8.ValidString(username) {
		return gate.Answer{}, gate.Invalid("username", "not UTF-8 text")
	}
	user, keys, err := a.Directory.SSHKeysFor(ctx, r.Host, func(i store.Integration) string {
		return login.CanonicalName(i.NamePolicy, username)
	})
	if err != nil {
		return gate.Answer{}, err
	}
	out := agentapi.SSHKeys{UserID: user.ID, Keys: []string{}}
	for _, k := range keys {
		out.Keys = append(out.Keys, k.Key)
	}
	return gate.Answer{Response: out}, a.seen(ctx, r)
}
