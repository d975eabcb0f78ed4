// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) listUsers(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if r.Params.Has("username_list") || r.Params.Has("user_id_list") {
		return a.listNamedUsers(ctx, r.Params, p)
	}
	filter := store.UserFilter{Username: strings.ToLower(r.Params["username"]), Email: r.Params["email"]}
	var views []userView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		users, n, err := s.Users(filter, p)
		if err != nil {
			return err
		}
		total = n
		views, err = a.fullUsers(s, users)
		return err
	})
	return paged(p, views, total), err
}

func (a *API) fullUsers(s store.Reader, users []store.User) ([]userView, error) {
	views := make([]userView, 0, len(users))
	for _, u := range users {
		v, err := a.fullUser(s, u)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// listNamedUsers answers the list parameters: a JSON list of names or ids.
func (a *API) listNamedUsers(ctx context.Context, params gate.Params, p store.Page) (gate.Answer, error) {
	names, err := params.List("username_list")
	if err != nil {
		return gate.Answer{}, err
	}
	ids, err := params.List("user_id_list")
	if err != nil {
		return gate.Answer{}, err
	}
	if len(names)+len(ids) > 100 {
		return gate.Answer{}, gate.Invalid("username_list", "more than 100 names")
	}
	var views []userView
	err = a.view(ctx, func(s store.Reader) error {
		users, err := findUsers(s, names, ids)
		if err != nil {
			return err
		}
		views, err = a.fullUsers(s, users)
		return err
	})
	return cut(p, views), err
}

// findUsers leaves out those that are not there.
func findUsers(s store.Reader, names, ids []string) ([]store.User, error) {
	var users []store.User
	seen := map[string]bool{}
	add := func(u store.User, err error) error {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil && !seen[u.ID] {
			seen[u.ID] = true
			users = append(users, u)
		}
		return err
	}
	for _, n := range names {
		if err := add(s.UserByName(strings.ToLower(n))); err != nil {
			return nil, err
		}
	}
	for _, id := range ids {
		if err := add(s.User(id)); err != nil {
			return nil, err
		}
	}
	return users, nil
}

func (a *API) getUser(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showUser(ctx, r.Path("user_id"))
}

func (a *API) showUser(ctx context.Context, id string) (gate.Answer, error) {
	var v userView
	err := a.view(ctx, func(s store.Reader) error {
		u, err := s.User(id)
		if err != nil {
			return err
		}
		v, err = a.fullUser(s, u)
		return err
	})
	return gate.Answer{Response: v}, err
}

// userChange reads the parameters of a user.
func userChange(p gate.Params) (c directory.UserChange, err error) {
	err = optionals(p, map[string]**string{
		"username": &c.Username, "realname": &c.RealName, "firstname": &c.FirstName,
		"lastname": &c.LastName, "email": &c.Email, "notes": &c.Notes,
	})
	if err != nil {
		return c, err
	}
	if p.Has("status") {
		status := store.UserStatus(p["status"])
		c.Status = &status
	}
	attributes(p, &c)
	return c, aliases(p, &c)
}

// attributes reads custom_attributes.NAME.
func attributes(p gate.Params, c *directory.UserChange) {
	for param, value := range p {
		if name, ok := strings.CutPrefix(param, "custom_attributes."); ok {
			if c.Attributes == nil {
				c.Attributes = map[string]string{}
			}
			c.Attributes[name] = value
		}
	}
}

// aliases reads aliases, or else alias1 to alias8.
func aliases(p gate.Params, c *directory.UserChange) error {
	if p.Has("aliases") {
		return aliasList(p["aliases"], c)
	}
	c.AliasAt = aliasPlaces(func(name string) (string, bool) { return p[name], p.Has(name) })
	return nil
}

// aliasList reads url-encoded pairs alias1=…&alias2=…, which change those places,
// or a JSON list or object, which replaces all.
func aliasList(value string, c *directory.UserChange) error {
	list := []string{}
	switch {
	case value == "":
	case strings.HasPrefix(value, "["):
		if err := json.Unmarshal([]byte(value), &list); err != nil {
			return gate.Invalid("aliases", "not a JSON list of names")
		}
	case strings.HasPrefix(value, "{"):
		pairs := map[string]string{}
		if err := json.Unmarshal([]byte(value), &pairs); err != nil {
			return gate.Invalid("aliases", "not a JSON object of names")
		}
		c.AliasAt = aliasPlaces(func(name string) (string, bool) { v, ok := pairs[name]; return v, ok })
	default:
		pairs, err := url.ParseQuery(value)
		if err != nil {
			return gate.Invalid("aliases", "not of the form alias1=NAME&alias2=NAME")
		}
		for name := range pairs {
			if n, err := strconv.Atoi(strings.TrimPrefix(name, "alias")); err != nil || n < 1 || n > directory.MaxAliases {
				return gate.Invalid("aliases", "not of the form alias1=NAME&alias2=NAME")
			}
		}
		c.AliasAt = aliasPlaces(func(name string) (string, bool) { return pairs.Get(name), pairs.Has(name) })
		return nil
	}
	c.Aliases = &list
	return nil
}

// aliasPlaces are the places of alias1 to alias8 that get tells of.
func aliasPlaces(get func(string) (string, bool)) map[int]string {
	places := map[int]string{}
	for i := range directory.MaxAliases {
		if v, ok := get("alias" + strconv.Itoa(i+1)); ok {
			places[i] = v
		}
	}
	return places
}

func (a *API) createUser(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := userChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	u, err := a.Directory.CreateUser(ctx, actor(r), c)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showUser(ctx, u.ID)
}

func (a *API) updateUser(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	id := r.Path("user_id")
	c, err := userChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := a.Directory.UpdateUser(ctx, actor(r), id, c); err != nil {
		return gate.Answer{}, err
	}
	return a.showUser(ctx, id)
}

func (a *API) deleteUser(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteUser(ctx, actor(r), r.Path("user_id"))
}

func (a *API) enrollUser(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	username, err := r.Params.Required("username", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	email, err := r.Params.String("email", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	valid, err := activationSecs(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if email != "" && a.Enrollment.Mail != nil {
		_, err := a.Enrollment.NewLink(ctx, actor(r), enrollment.LinkRequest{
			Invitee: directory.Invitee{Username: username, Email: email, Create: true}, Valid: max(valid, enrollment.MinValid), Send: true,
		})
		if err != nil {
			return gate.Answer{}, err
		}
	}
	e, err := a.Directory.Enroll(ctx, actor(r), directory.EnrollRequest{
		Username: username, Email: email, Valid: valid, Existing: true,
	})
	return gate.Answer{Response: e.Code}, err
}

// activationSecs is how long an activation code is good. 0, with which Duo's client
// asks for a code that never expires, gives the longest that there is.
func activationSecs(p gate.Params) (time.Duration, error) {
	valid, err := validSecs(p, directory.DefaultActivationSecs, 0, directory.MaxActivationSecs)
	if err == nil && valid == 0 {
		valid = directory.MaxActivationSecs * time.Second
	}
	return valid, err
}

func validSecs(p gate.Params, def, low, high int) (time.Duration, error) {
	secs, err := p.Int("valid_secs", def, low, high)
	return time.Duration(secs) * time.Second, err
}

// userHasNone lists what users do not have with this verifier.
func (a *API) userHasNone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	err = a.view(ctx, func(s store.Reader) error {
		_, err := s.User(r.Path("user_id"))
		return err
	})
	return paged(p, []struct{}{}, 0), err
}

func (a *API) userBypassCodes(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.bypassCodes(ctx, r, r.Path("user_id"))
}

func (a *API) listBypassCodes(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.bypassCodes(ctx, r, "")
}

func (a *API) bypassCodes(ctx context.Context, r *gate.Request, userID string) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []bypassView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		if userID != "" {
			if _, err := s.User(userID); err != nil {
				return err
			}
		}
		codes, n, err := s.BypassCodes(userID, p)
		if err != nil {
			return err
		}
		total, views = n, nil
		for _, c := range codes {
			u, err := s.User(c.UserID)
			if err != nil {
				return err
			}
			views = append(views, viewBypass(c, &u))
		}
		return nil
	})
	return paged(p, views, total), err
}

func (a *API) getBypassCode(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v bypassView
	err := a.view(ctx, func(s store.Reader) error {
		c, err := s.BypassCode(r.Path("bypass_code_id"))
		if err != nil {
			return err
		}
		u, err := s.User(c.UserID)
		v = viewBypass(c, &u)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) deleteBypassCode(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteBypassCode(ctx, actor(r), r.Path("bypass_code_id"))
}

func (a *API) createBypassCodes(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p := r.Params
	var q directory.BypassRequest
	var err error
	if q.Codes, err = p.List("codes"); err != nil {
		return gate.Answer{}, err
	}
	if p["count"] != "" && len(q.Codes) > 0 {
		return gate.Answer{}, gate.Invalid("count", "codes is given as well")
	}
	if q.Count, err = p.Int("count", directory.MaxBypassCodes, 1, directory.MaxBypassCodes); err != nil {
		return gate.Answer{}, err
	}
	if q.Uses, err = p.Int("reuse_count", 1, 0, 1000); err != nil {
		return gate.Answer{}, err
	}
	if q.KeepExisting, err = p.Bool("preserve_existing", false); err != nil {
		return gate.Answer{}, err
	}
	if q.Valid, err = validSecs(p, 0, 0, 365*86_400); err != nil {
		return gate.Answer{}, err
	}
	// It would tie the codes to trusted endpoints: to take it and not to do so would
	// make codes that are worth more than was asked for.
	if tied, err := p.Bool("endpoint_verification", false); err != nil {
		return gate.Answer{}, err
	} else if tied {
		return gate.Answer{}, gate.Invalid("endpoint_verification", "codes cannot be tied to trusted endpoints; policy can demand those of all logins")
	}
	codes, err := a.Directory.AddBypassCodes(ctx, actor(r), r.Path("user_id"), q)
	return gate.Answer{Response: codes}, err
}
