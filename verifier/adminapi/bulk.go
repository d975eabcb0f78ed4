// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// maxOperations is how many operations one call of bulk does.
const maxOperations = 50

func (a *API) bulkRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /admin/v1/users/bulk_create":        a.bulkCreate,
		"POST /admin/v1/users/bulk_restore":       a.bulkRestore,
		"POST /admin/v1/users/bulk_send_to_trash": a.bulkTrash,
		"POST /admin/v1/bulk":                     a.bulk,
	}
}

func (a *API) bulkCreate(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	changes, err := bulkUsers(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	users, err := a.Directory.CreateUsers(ctx, actor(r), changes)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showUsers(ctx, users)
}

// bulkUsers reads users: a JSON list of objects with the parameters of one user each.
func bulkUsers(p gate.Params) ([]directory.UserChange, error) {
	if !p.Has("users") {
		return nil, gate.Missing("users")
	}
	var objects []json.RawMessage
	if err := json.Unmarshal([]byte(p["users"]), &objects); err != nil || len(objects) == 0 {
		return nil, gate.Invalid("users", "not a JSON list of users")
	}
	if len(objects) > directory.MaxBulk {
		return nil, gate.Invalid("users", fmt.Sprintf("more than %d users", directory.MaxBulk))
	}
	changes := make([]directory.UserChange, len(objects))
	for i, object := range objects {
		params, err := gate.ObjectParams(object)
		if err == nil {
			changes[i], err = userChange(params)
		}
		if err != nil {
			return nil, directory.InList("users", i, err)
		}
	}
	return changes, nil
}

// showUsers answers with users as they are now; those that are gone, as they were.
func (a *API) showUsers(ctx context.Context, users []store.User) (gate.Answer, error) {
	var views []userView
	err := a.view(ctx, func(s store.Reader) error {
		views = make([]userView, 0, len(users))
		for _, u := range users {
			now, err := s.User(u.ID)
			if errors.Is(err, store.ErrNotFound) {
				views = append(views, briefUser(u))
				continue
			}
			if err != nil {
				return err
			}
			v, err := a.fullUser(s, now)
			if err != nil {
				return err
			}
			views = append(views, v)
		}
		return nil
	})
	return gate.Answer{Response: views}, err
}

func (a *API) bulkTrash(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.bulkMove(ctx, r, a.Directory.TrashUsers)
}

func (a *API) bulkRestore(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.bulkMove(ctx, r, a.Directory.RestoreUsers)
}

func (a *API) bulkMove(ctx context.Context, r *gate.Request, move func(context.Context, directory.Actor, []string) ([]store.User, error)) (gate.Answer, error) {
	ids, err := r.Params.List("user_id_list")
	if err != nil {
		return gate.Answer{}, err
	}
	users, err := move(ctx, actor(r), ids)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showUsers(ctx, users)
}

// operation is one call inside a call of bulk.
type operation struct {
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body"`
}

// bulkOperations are the calls that bulk does: those on users and their groups,
// which all need the grant that bulk itself needs.
func (a *API) bulkOperations() map[string]gate.Handler {
	all := a.writeRoutes()
	out := map[string]gate.Handler{}
	for _, pattern := range []string{
		"POST /admin/v1/users", "POST /admin/v1/users/{user_id}", "DELETE /admin/v1/users/{user_id}",
		"POST /admin/v1/users/{user_id}/groups", "DELETE /admin/v1/users/{user_id}/groups/{group_id}",
	} {
		if handler, ok := all[pattern]; ok {
			out[pattern] = handler
		}
	}
	return out
}

// bulk does operations one after the other, each a change of its own. One that
// fails does not keep the others from being done; its answer stands in its place.
func (a *API) bulk(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if !r.Params.Has("operations") {
		return gate.Answer{}, gate.Missing("operations")
	}
	var list []operation
	if err := json.Unmarshal([]byte(r.Params["operations"]), &list); err != nil {
		return gate.Answer{}, gate.Invalid("operations", "not a JSON list of objects with method, path and body")
	}
	if len(list) == 0 || len(list) > maxOperations {
		return gate.Answer{}, gate.Invalid("operations", fmt.Sprintf("not 1 to %d operations", maxOperations))
	}
	known := a.bulkOperations()
	answers := make([]duoapi.Envelope, len(list))
	for i, op := range list {
		answer, err := op.run(ctx, r, known)
		if err == nil {
			answers[i] = duoapi.Envelope{Stat: "OK"}
			if answers[i].Response, err = json.Marshal(answer.Response); err == nil {
				continue
			}
		}
		var e *duoapi.Error
		if !errors.As(err, &e) {
			return gate.Answer{}, fmt.Errorf("operations[%d]: %w", i, err)
		}
		answers[i] = duoapi.Envelope{Stat: "FAIL", Code: e.Code, Message: e.Message, MessageDetail: e.Detail}
	}
	return gate.Answer{Response: answers}, nil
}

func (op operation) run(ctx context.Context, r *gate.Request, known map[string]gate.Handler) (gate.Answer, error) {
	for pattern, handler := range known {
		values, ok := match(pattern, op.Method, op.Path)
		if !ok {
			continue
		}
		params := gate.Params{}
		if len(op.Body) > 0 {
			var err error
			if params, err = gate.ObjectParams(op.Body); err != nil {
				return gate.Answer{}, err
			}
		}
		one := *r
		one.Params, one.Body, one.HTTP = params, op.Body, r.HTTP.Clone(ctx)
		for name, value := range values {
			one.HTTP.SetPathValue(name, value)
		}
		return handler(ctx, &one)
	}
	return gate.Answer{}, gate.Invalid("path", "no call that bulk does")
}

// match says whether a call is one of a pattern, and what its wildcards stand for.
func match(pattern, method, path string) (map[string]string, bool) {
	wantMethod, wantPath, _ := strings.Cut(pattern, " ")
	want, have := strings.Split(wantPath, "/"), strings.Split(path, "/")
	if !strings.EqualFold(method, wantMethod) || len(want) != len(have) {
		return nil, false
	}
	values := map[string]string{}
	for i, part := range want {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			value, err := url.PathUnescape(have[i])
			if err != nil || value == "" {
				return nil, false
			}
			values[strings.TrimSuffix(name, "}")] = value
		} else if part != have[i] {
			return nil, false
		}
	}
	// Routes of the API that name no user.
	if fixed := values["user_id"]; fixed == "enroll" || strings.HasPrefix(fixed, "bulk_") {
		return nil, false
	}
	return values, true
}
