// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// logins is how many people log in at once, each again and again.
const logins = 200

// listen serves the site over HTTPS and returns the way there for clients that
// share connections.
func (s *site) listen() http.RoundTripper {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.srv.Serve(ctx, l) }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.data.CAPEM))
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}
	s.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		s.must(<-ended)
	})
	return transport
}

// office is who administers a verifier, and what.
type office struct {
	*site
	over                           http.RoundTripper
	until                          time.Time
	user, phone, token, key        string // objects that both administrators change
	calls, changes, loggedIn, made atomic.Int64
}

// admin is an integration of the Admin API with every grant, by the name that its
// changes are logged under.
func (o *office) admin(name string) *duoapi.Client {
	o.Helper()
	grants := map[string]bool{}
	for _, g := range directory.Grants() {
		grants[g] = true
	}
	c := o.client(o.integration(store.AdminAPI, name, directory.IntegrationChange{Grants: grants}))
	c.HTTP = &http.Client{Transport: o.over, Timeout: time.Minute}
	return c
}

func (o *office) call(c *duoapi.Client, method, path string, params map[string]string) map[string]any {
	values := url.Values{}
	for k, v := range params {
		values.Set(k, v)
	}
	var out json.RawMessage
	o.calls.Add(1)
	if _, err := c.Call(context.Background(), method, path, values, &out); err != nil {
		o.Errorf("%s %s %v: %v", method, path, params, err)
		return nil
	}
	if method != http.MethodGet {
		o.changes.Add(1)
	}
	object := map[string]any{}
	_ = json.Unmarshal(out, &object) // some answers are lists or empty
	return object
}

// place is a field of an object that others change too.
type place struct{ path, name string }

// field is a place that a single administrator sets.
type field struct {
	place
	value func(n int) string
}

// shown is the field in an object as the API shows it.
func (p place) shown(object map[string]any) string { return fmt.Sprint(object[p.name]) }

func words(prefix string) func(int) string {
	return func(n int) string { return prefix + strconv.Itoa(n) }
}

func numbers(low, span int) func(int) string {
	return func(n int) string { return strconv.Itoa(low + n%span) }
}

// fields are those of one of the two administrators.
func (o *office) fields(who int) []field {
	user, phone, key := "/admin/v1/users/"+o.user, "/admin/v1/phones/"+o.phone, "/admin/v3/integrations/"+o.key
	const settings = "/admin/v1/settings"
	return [][]field{{
		{place{user, "realname"}, words("Real ")}, {place{user, "email"}, words("a@")}, {place{user, "alias1"}, words("first-")}, {place{user, "alias3"}, words("third-")},
		{place{settings, "helpdesk_message"}, words("Call ")}, {place{settings, "sms_expiration"}, numbers(1, 10)},
		{place{phone, "name"}, words("phone ")}, {place{key, "notes"}, words("n ")},
	}, {
		{place{user, "firstname"}, words("First ")}, {place{user, "notes"}, words("note ")}, {place{user, "alias2"}, words("second-")}, {place{user, "alias4"}, words("fourth-")},
		{place{settings, "call_message"}, words("Press ")}, {place{settings, "push_budget"}, numbers(500, 400)},
		{place{phone, "platform"}, words("os ")}, {place{key, "greeting"}, words("g ")},
	}}[who]
}

// administrate sets the fields of one administrator in turn, asserts each time that
// those set before stand, and returns what stands at the end.
func (o *office) administrate(c *duoapi.Client, who int) (stands map[place]string, err error) {
	stands = map[place]string{}
	mine := o.fields(who)
	for n := 0; time.Now().Before(o.until) || n < 2*len(mine); n++ {
		f := mine[n%len(mine)]
		params := map[string]string{f.name: f.value(n)}
		if f.name == "realname" || f.name == "firstname" {
			params["lastname"] = fmt.Sprintf("of %d in %d", who, n) // which both set
		}
		stands[f.place] = params[f.name]
		object := o.call(c, http.MethodPost, f.path, params)
		for p, want := range stands {
			if got := p.shown(object); p.path == f.path && got != want {
				return nil, fmt.Errorf("%s of %s is %q after this administrator set it to %q", p.name, p.path, got, want)
			}
		}
		if n%5 == who {
			o.call(c, http.MethodPost, "/admin/v1/tokens/"+o.token, map[string]string{"totp_step": []string{"30", "60"}[n/5%2]})
		}
	}
	return stands, nil
}

// script makes people with what they need, changes them, and removes most of them.
func (o *office) script(c *duoapi.Client, name string) {
	for n := 0; time.Now().Before(o.until) || n < 3; n++ {
		username := fmt.Sprintf("%s-%d", name, n)
		id, ok := o.call(c, http.MethodPost, "/admin/v1/users", map[string]string{"username": username, "alias2": username + "-too"})["user_id"].(string)
		if !ok {
			return
		}
		o.made.Add(1)
		path := "/admin/v1/users/" + id
		token, _ := o.call(c, http.MethodPost, "/admin/v1/tokens", map[string]string{"type": "h6", "user_id": id})["token_id"].(string)
		o.call(c, http.MethodPost, path+"/bypass_codes", map[string]string{"count": "2"})
		phone, _ := o.call(c, http.MethodPost, "/admin/v1/phones", map[string]string{"user_id": id, "name": "of " + username})["phone_id"].(string)
		o.call(c, http.MethodPost, path, map[string]string{"status": "disabled", "notes": "left"})
		o.call(c, http.MethodPost, "/admin/v1/users/"+o.user, map[string]string{"status": []string{"active", "bypass"}[n%2]})
		o.call(c, http.MethodGet, "/admin/v1/users", map[string]string{"limit": "10"})
		if n%4 != 0 {
			o.call(c, http.MethodDelete, "/admin/v1/phones/"+phone, nil)
			o.call(c, http.MethodDelete, path, nil)
			o.call(c, http.MethodDelete, "/admin/v1/tokens/"+token, nil)
		}
	}
}

// person logs in again and again with an HOTP token; each login must succeed.
func (o *office) person(i int) {
	c := *o.auth
	c.HTTP = &http.Client{Transport: o.over, Timeout: time.Minute}
	for n := int64(0); time.Now().Before(o.until) || n == 0; n++ {
		who := url.Values{"username": {fmt.Sprintf("person%d", i)}}
		var pre duoapi.Preauth
		if _, err := c.Call(context.Background(), http.MethodPost, "/auth/v2/preauth", who, &pre); err != nil || pre.Result != duoapi.ResultAuth {
			o.Errorf("preauth of person %d: %+v, %v", i, pre, err)
			return
		}
		out, err := logIn(&c, fmt.Sprintf("person%d", i), otpCode(n))
		if err != nil || out.Result != duoapi.ResultAllow {
			o.Errorf("login %d of person %d: %+v, %v", n, i, out, err)
			return
		}
		o.loggedIn.Add(1)
	}
}

func (o *office) populate() {
	o.Helper()
	o.must(o.data.Store.Update(context.Background(), func(w store.Writer) error {
		var errs []error
		for i := range logins {
			id := fmt.Sprintf("%018d", i)
			errs = append(errs,
				w.AddUser(store.User{ID: "DU" + id, Username: fmt.Sprintf("person%d", i), Status: store.Active, Created: time.Now()}),
				w.AddToken(store.Token{
					ID: "DH" + id, Type: store.HOTP6, Serial: id, SecretSealed: factor.SealToken(o.data.Keys, "DH"+id, []byte(seed)), Created: time.Now(),
				}), w.AttachToken("DU"+id, "DH"+id))
		}
		return errors.Join(errs...)
	}))
}

// TestAdministratorsAtOnce: two administrators change different fields of the same
// objects, two scripts make and remove people, and 200 people log in, all at once.
// Nobody's change is lost, nobody reads of a lock, and the administrator log tells
// every change so that whoever replays it has the objects as they are.
func TestAdministratorsAtOnce(t *testing.T) {
	s := newSite(t, time.Now, nil)
	o := &office{site: s, over: s.listen()}
	o.populate()
	first := o.admin("Ada")
	o.user, _ = o.call(first, http.MethodPost, "/admin/v1/users", map[string]string{"username": "shared"})["user_id"].(string)
	o.phone, _ = o.call(first, http.MethodPost, "/admin/v1/phones", map[string]string{"user_id": o.user})["phone_id"].(string)
	o.token, _ = o.call(first, http.MethodPost, "/admin/v1/tokens", map[string]string{"type": "t6"})["token_id"].(string)
	o.key, _ = o.call(first, http.MethodPost, "/admin/v3/integrations", map[string]string{"type": "authapi", "name": "shared"})["integration_key"].(string)
	o.until = time.Now().Add(*busy)

	var wg sync.WaitGroup
	var last [2]map[place]string
	for who, c := range []*duoapi.Client{first, o.admin("Ben")} {
		wg.Go(func() {
			var err error
			if last[who], err = o.administrate(c, who); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{"import", "cleanup"} {
		c := o.admin(name)
		wg.Go(func() { o.script(c, name) })
	}
	for i := range logins {
		wg.Go(func() { o.person(i) })
	}
	wg.Wait()
	t.Logf("%d calls of administrators and scripts, %d of them changes; %d people made; %d logins", o.calls.Load(), o.changes.Load(), o.made.Load(), o.loggedIn.Load())
	if t.Failed() {
		return
	}
	objects := map[string]map[string]any{}
	for _, fields := range last {
		for f, want := range fields {
			if objects[f.path] == nil {
				objects[f.path] = o.call(first, http.MethodGet, f.path, nil)
			}
			if got := f.shown(objects[f.path]); got != want {
				t.Errorf("%s %s is %q at the end, want %q: somebody's change was lost", f.path, f.name, got, want)
			}
		}
	}
	o.assertReplay()
}

// assertReplay replays the administrator log from its beginning: each entry names
// who made it, finds the objects as it says they were, and at the end they are as
// they are.
func (o *office) assertReplay() {
	o.Helper()
	var events []store.AdminEvent
	o.must(o.data.Store.View(context.Background(), func(r store.Reader) (err error) {
		events, err = adminEvents(r)
		return err
	}))
	world := replayed{}
	for i, e := range events {
		if e.Username == "" || e.Time.IsZero() {
			o.Errorf("entry %d does not tell who or when: %+v", i, e)
		}
		if err := world.apply(e); err != nil {
			o.Errorf("entry %d, %s by %s: %v", i, e.Action, e.Username, err)
		}
	}
	if int64(len(events)) < o.changes.Load() {
		o.Errorf("%d entries for %d changes", len(events), o.changes.Load())
	}
	o.must(o.data.Store.View(context.Background(), o.compare(world)))
}

// compare compares what the log gives with the store.
func (o *office) compare(world replayed) func(store.Reader) error {
	return func(r store.Reader) error {
		users, n, err := r.Users(store.UserFilter{}, store.Page{Limit: 1_000_000})
		if err != nil {
			return err
		}
		for _, u := range users {
			if strings.HasPrefix(u.Username, "person") {
				n-- // made without the directory
				continue
			}
			world.assert(o, u.ID, map[string]any{
				"username": u.Username, "realname": u.RealName, "firstname": u.FirstName, "lastname": u.LastName, "email": u.Email,
				"notes": u.Notes, "status": u.Status, "aliases": append([]string{}, u.Aliases...),
			})
		}
		if left := world.count("DU"); left != n {
			o.Errorf("the log leaves %d users, there are %d", left, n)
		}
		phones, n, err := r.Phones(store.PhoneFilter{}, store.Page{Limit: 1_000_000})
		if err != nil {
			return err
		}
		for _, p := range phones {
			world.assert(o, p.ID, map[string]any{"name": p.Name, "platform": p.Platform, "type": p.Type, "number": p.Number})
		}
		if left := world.count("DP"); left != n {
			o.Errorf("the log leaves %d phones, there are %d", left, n)
		}
		tok, err := r.Token(o.token)
		if err != nil {
			return err
		}
		world.assert(o, o.token, map[string]any{"totp_step": tok.Step, "type": tok.Type, "serial": tok.Serial})
		i, err := r.Integration(o.key)
		if err != nil {
			return err
		}
		world.assert(o, o.key, map[string]any{"notes": i.Notes, "greeting": i.Greeting, "name": i.Name})
		set, err := r.Settings()
		if err != nil {
			return err
		}
		world.assert(o, "settings", map[string]any{
			"helpdesk_message": set.HelpdeskMessage, "call_message": set.CallMessage, "push_budget": set.PushBudget, "sms_expiration": set.SMSExpiration,
		})
		return nil
	}
}

// replayed is the world by the administrator log: fields by object.
type replayed map[string]map[string]any

func (w replayed) count(prefix string) int {
	n := 0
	for id := range w {
		if strings.HasPrefix(id, prefix) {
			n++
		}
	}
	return n
}

func (w replayed) assert(o *office, id string, want map[string]any) {
	o.Helper()
	for name, value := range want {
		if got := w[id][name]; !reflect.DeepEqual(got, decoded(value)) {
			o.Errorf("the log makes %s of %s %v, it is %v", name, id, got, value)
		}
	}
}

// decoded is v as JSON has it.
func decoded(v any) (out any) {
	text, err := json.Marshal(v)
	if err != nil || json.Unmarshal(text, &out) != nil {
		panic(err)
	}
	return out
}

// about is what every entry tells besides the object.
var about = []string{"integration_key", "ip_address", "reset_secret_key"}

// apply is one entry of the log. It is an error if an object is not as it says.
func (w replayed) apply(e store.AdminEvent) error {
	description := map[string]any{}
	if err := json.Unmarshal(e.Description, &description); err != nil {
		return err
	}
	kind, action, _ := cutLast(e.Action, "_")
	idName, known := map[string]string{"user": "user_id", "phone": "phone_id", "hardtoken": "token_id", "integration": "key"}[kind]
	id := "settings"
	switch {
	case known:
		id, _ = description[idName].(string)
		delete(description, idName)
	case kind != "settings":
		return nil
	}
	for _, name := range about {
		delete(description, name)
	}
	switch action {
	case "create":
		w[id] = description
	case "delete":
		if err := w.expect(id, description); err != nil {
			return err
		}
		delete(w, id)
	case "update":
		before, after := changed(description)
		delete(before, idName)
		delete(after, idName)
		if id == "settings" && w[id] == nil {
			w[id] = maps.Clone(before) // nothing makes settings
		}
		if err := w.expect(id, before); err != nil {
			return err
		}
		maps.Copy(w[id], after)
	}
	return nil
}

// changed are the fields of an update before and after it: all at once, or one by one.
func changed(description map[string]any) (before, after map[string]any) {
	if b, ok := description["before"].(map[string]any); ok {
		a, _ := description["after"].(map[string]any)
		return b, a
	}
	before, after = map[string]any{}, map[string]any{}
	for name, value := range description {
		if change, ok := value.(map[string]any); ok {
			before[name], after[name] = change["before"], change["after"]
		}
	}
	return before, after
}

// expect is an error if fields of an object are not as they are told.
func (w replayed) expect(id string, fields map[string]any) error {
	if w[id] == nil {
		return fmt.Errorf("%s is not there", id)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if got := w[id][name]; !reflect.DeepEqual(got, fields[name]) {
			return fmt.Errorf("%s of %s was %v by the log so far, the entry says %v", name, id, got, fields[name])
		}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
