// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/adminapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// The documented routes with their parameters. A file of its own for each area,
// documented_<area>_test.go, declares its routes:
//
//	func init() {
//		wildcard("user_id", func(s *site) string { return s.user(unique("user")) })
//		document("POST /admin/v1/users", required("username", fresh("user")), optional("status", oneOf("active", "disabled")))
//	}
//
// TestDocumentedParameters sends each parameter of each route missing, empty,
// repeated, oversized, of a wrong type and in bad UTF-8, as query, form and JSON.
// TestRoutesAreDocumented fails for a route that is served and not declared.
var (
	documented = map[string][]parameter{}
	wildcards  = map[string]example{}
)

// example makes a value that the server takes, on a site.
type example func(*site) string

type parameter struct {
	name     string
	kind     kind
	required bool
	inPath   bool
}

// kind is the type of a parameter.
type kind struct {
	good  example
	wrong []string // values of other types: each must be refused
	// strict says that text in general is of another type.
	strict bool
	// blank says that an empty value of a required parameter is taken.
	blank bool
	// guessed says that the good value is no better than a guess, which is refused.
	guessed bool
	// called is how a refusal may call the parameter besides its name.
	called []string
}

// document declares a route.
func document(pattern string, params ...parameter) {
	if _, twice := documented[pattern]; twice {
		panic(pattern + " is documented twice")
	}
	documented[pattern] = slices.Clone(params)
}

// wildcard declares how to make an object whose id stands in a path as {name}.
func wildcard(name string, make example) { wildcards[name] = make }

func required(name string, k kind) parameter { return parameter{name: name, kind: k, required: true} }
func optional(name string, k kind) parameter { return parameter{name: name, kind: k} }

// on makes the object whose id stands in this path as {name} in a way of its own.
func on(name string, make example) parameter {
	return parameter{name: name, kind: made(make), inPath: true}
}

// always is an example that is the same each time.
func always(value string) example { return func(*site) string { return value } }

var counter atomic.Int64 // of unique

// unique is a name that no other example has.
func unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, counter.Add(1)) }

// text is free text: value is taken.
func text(value string) kind { return kind{good: always(value)} }

// fresh is text that must not be there twice.
func fresh(prefix string) kind { return made(func(*site) string { return unique(prefix) }) }

// made is text that is made for each request, such as the id of a new object.
func made(good example) kind { return kind{good: good} }

func number(good int) kind {
	return kind{good: always(fmt.Sprint(good)), wrong: []string{"abc", "1.5", "0x10", "99999999999999999999999"}, strict: true}
}

func flag() kind { return kind{good: always("1"), wrong: []string{"maybe", "2"}, strict: true} }

// oneOf is a fixed choice; the first value is used where one must be good.
func oneOf(values ...string) kind {
	return kind{good: always(values[0]), wrong: []string{"no-such-value"}, strict: true}
}

// list is a comma-separated or JSON list of strings.
func list(value string) kind { return kind{good: always(value), wrong: []string{`[{"a":1}]`, `["a"`}} }

// jsonObject is a JSON text.
func jsonObject(value string) kind {
	return kind{good: always(value), wrong: []string{"abc", `{"a":`, `[1`}}
}

// orBlank says that a required parameter may be empty.
func (k kind) orBlank() kind { k.blank = true; return k }

// guess says that the server refuses the good value too.
func (k kind) guess() kind { k.guessed = true; return k }

// alsoCalled says how a refusal may call the parameter besides its name.
func (k kind) alsoCalled(names ...string) kind { k.called = names; return k }

// underTest are the routes that must be documented: those that a signature opens.
var underTest = regexp.MustCompile(`^[A-Z]+ /(auth|rest|admin|device|sallyport/v1/admin|sallyport/v1/transactions)/`)

// unsigned are those whose signature, and so whose parameters, are not looked at.
var unsigned = map[string]bool{"GET /auth/v2/ping": true}

// TestRoutesAreDocumented compares the routes of the server with the table.
func TestRoutesAreDocumented(t *testing.T) {
	var served []string
	for _, pattern := range newSite(t).srv.Routes() {
		if underTest.MatchString(pattern) && !isLeftOut(pattern) {
			served = append(served, pattern)
		}
	}
	for _, pattern := range served {
		if _, ok := documented[pattern]; !ok {
			t.Errorf("%s is served, and no documented_…_test.go declares its parameters", pattern)
		}
	}
	for pattern := range documented {
		if !slices.Contains(served, pattern) {
			t.Errorf("%s is declared and not served", pattern)
		}
	}
	for pattern := range documented {
		for _, name := range pathNames(pattern) {
			if wildcards[name] == nil {
				t.Errorf("%s: nothing makes a {%s}", pattern, name)
			}
		}
	}
}

// isLeftOut says that the verifier leaves the call out: TestLeftOut is about those.
func isLeftOut(pattern string) bool {
	return slices.ContainsFunc(adminapi.LeftOut(), func(a adminapi.Absent) bool { return slices.Contains(a.Patterns, pattern) })
}

// TestDocumentedParameters sends every parameter in every way in which it can be wrong.
func TestDocumentedParameters(t *testing.T) {
	areas := map[string][]string{}
	for pattern := range documented {
		areas[area(pattern)] = append(areas[area(pattern)], pattern)
	}
	for name, patterns := range areas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			slices.Sort(patterns)
			for _, pattern := range patterns {
				newProbe(t, s, pattern).run()
			}
		})
	}
}

// area is the part of the path that is on one site: "admin/users", "auth".
func area(pattern string) string {
	_, path, _ := strings.Cut(pattern, " ")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "admin" && len(parts) > 2:
		return "admin/" + parts[2]
	case parts[0] == "sallyport" && len(parts) > 3:
		return strings.Join(parts[:4], "/")
	}
	return parts[0]
}

var pathName = regexp.MustCompile(`\{([a-z_]+)(\.\.\.)?\}`)

func pathNames(pattern string) (names []string) {
	for _, m := range pathName.FindAllStringSubmatch(pattern, -1) {
		names = append(names, m[1])
	}
	return names
}

// probe sends the requests for one route.
type probe struct {
	*site
	t       *testing.T
	pattern string
	method  string
	path    string
	client  *duoapi.Client
	params  []parameter
	ids     map[string]string
}

func newProbe(t *testing.T, s *site, pattern string) *probe {
	method, path, _ := strings.Cut(pattern, " ")
	s.t = t
	return &probe{site: s, t: t, pattern: pattern, method: method, path: path, client: s.clientOf(path), params: documented[pattern], ids: map[string]string{}}
}

// clientOf is a client of the API that a path belongs to.
func (s *site) clientOf(path string) *duoapi.Client {
	switch {
	case strings.HasPrefix(path, "/device/"):
		return s.as(s.managed().Integration)
	case strings.HasPrefix(path, "/rest/"):
		return s.legacyClient()
	}
	return s.clientFor(path)
}

// legacyClient is the one client of the legacy API.
func (s *site) legacyClient() *duoapi.Client {
	if s.legacyAuth == nil {
		s.legacyAuth = s.as(s.integration(store.AuthAPI, directory.IntegrationChange{AllowV1: ptr(true)}))
	}
	return s.legacyAuth
}

// target is the path with the ids of objects that are there. Those of a DELETE
// are made for each request.
func (p *probe) target() string {
	return pathName.ReplaceAllStringFunc(p.path, func(m string) string {
		name := pathName.FindStringSubmatch(m)[1]
		if p.method == "DELETE" || p.ids[name] == "" {
			p.ids[name] = p.maker(name)(p.site)
		}
		return url.PathEscape(p.ids[name])
	})
}

// maker makes the objects whose ids stand in the path as {name}.
func (p *probe) maker(name string) example {
	for _, param := range p.params {
		if param.inPath && param.name == name {
			return param.kind.good
		}
	}
	return wildcards[name]
}

// pair is one parameter as it is sent; raw is its JSON value.
type pair struct{ name, value, raw string }

func textPair(name, value string) pair {
	quoted, _ := json.Marshal(value)
	return pair{name, value, string(quoted)}
}

// good are the required parameters but one.
func (p *probe) good(but string) []pair {
	var out []pair
	for _, param := range p.params {
		if param.required && param.name != but {
			out = append(out, textPair(param.name, param.kind.good(p.site)))
		}
	}
	return out
}

// answer is what came back.
type answer struct {
	*httptest.ResponseRecorder
	what string
	env  duoapi.Envelope
}

// send sends pairs in an encoding. A second passes between requests: dates have
// that granularity, and the same write twice in one is a replay.
func (p *probe) send(what, encoding, target string, pairs []pair) answer {
	p.clock.Add(time.Second)
	var w *httptest.ResponseRecorder
	switch encoding {
	case "query":
		if query := form(pairs); query != "" {
			target += "?" + query
		}
		w = p.signed(p.client, p.method, target, "", "")
	case "form":
		w = p.signed(p.client, p.method, target, "application/x-www-form-urlencoded", form(pairs))
	default:
		var members []string
		for _, pair := range pairs {
			members = append(members, `"`+pair.name+`":`+pair.raw)
		}
		w = p.signed(p.client, p.method, target, "application/json", "{"+strings.Join(members, ",")+"}")
	}
	a := answer{ResponseRecorder: w, what: p.pattern + " (" + encoding + "): " + what}
	p.judge(&a)
	return a
}

func form(pairs []pair) string {
	var out []string
	for _, pair := range pairs {
		out = append(out, url.QueryEscape(pair.name)+"="+url.QueryEscape(pair.value))
	}
	return strings.Join(out, "&")
}

// judge asserts what holds for every answer under a valid signature.
func (p *probe) judge(a *answer) {
	p.t.Helper()
	if a.Code >= 500 || a.Code == 401 || a.Code == 429 {
		p.t.Errorf("%s: status %d: %s", a.what, a.Code, a.Body)
	}
	var err error
	if a.env, err = envelopeOf(a.ResponseRecorder); err != nil {
		p.t.Errorf("%s: status %d: %v: %.200q", a.what, a.Code, err, a.Body)
		return
	}
	if a.env.Code == duoapi.CodeCannotDecide {
		p.t.Errorf("%s made the verifier fail: %s", a.what, a.Body)
	}
	if a.env.Stat == "OK" && a.Code != 200 || a.env.Stat == "FAIL" && a.env.Code/100 != a.Code {
		p.t.Errorf("%s: status %d with %s %d", a.what, a.Code, a.env.Stat, a.env.Code)
	}
}

// envelopeOf reads the envelope of an answer.
func envelopeOf(w *httptest.ResponseRecorder) (env duoapi.Envelope, err error) {
	body := w.Body.Bytes()
	switch kind := w.Header().Get("Content-Type"); {
	case kind == "application/bson":
		if body, err = bson.MarshalExtJSON(bson.Raw(body), false, false); err != nil {
			return env, err
		}
	case kind != "application/json" && w.Code == 200:
		return duoapi.Envelope{Stat: "OK"}, nil // a picture
	}
	err = json.Unmarshal(body, &env)
	return env, err
}

func (p *probe) run() {
	encodings := []string{"query"}
	if p.method == "POST" || p.method == "PUT" || p.method == "PATCH" {
		encodings = []string{"form", "json"}
	}
	for _, encoding := range encodings {
		p.base(encoding)
		for _, param := range p.params {
			if !param.inPath {
				p.spoil(encoding, param)
			}
		}
	}
}

// base sends what is documented as good, and what is good for no route.
func (p *probe) base(encoding string) {
	a := p.send("the required parameters", encoding, p.target(), p.good(""))
	guessed := slices.ContainsFunc(p.params, func(param parameter) bool { return param.kind.guessed })
	if !guessed && slices.Contains([]int{duoapi.CodeMissingParameter, duoapi.CodeInvalidParameter}, a.env.Code) {
		p.t.Errorf("%s: refused: %s", a.what, a.Body)
	}
	if unsigned[p.pattern] {
		return
	}
	twice := append(p.good(""), textPair("undocumented", "1"), textPair("undocumented", "2"))
	p.refused(p.send("an undocumented parameter twice", encoding, p.target(), twice), parameter{name: "undocumented"})
	if len(pathNames(p.pattern)) > 0 {
		odd := pathName.ReplaceAllString(p.path, "%FF%00%1B%5B")
		if a := p.send("a path of odd bytes", encoding, odd, p.good("")); a.env.Stat == "OK" && p.method != "GET" {
			p.t.Errorf("%s: was taken: %s", a.what, a.Body)
		}
	}
}

// oversized is longer than anything that is documented, and fits in a body.
var oversized = strings.Repeat("x", 30_000)

// spoil sends one parameter in every wrong way.
func (p *probe) spoil(encoding string, param parameter) {
	with := func(what string, pairs ...pair) answer {
		return p.send(param.name+": "+what, encoding, p.target(), append(p.good(param.name), pairs...))
	}
	good := param.kind.good(p.site)
	p.may(with("good", textPair(param.name, good)), param)
	if param.required {
		if a := with("missing"); a.env.Code != duoapi.CodeMissingParameter || !names(a.env.MessageDetail, param) {
			p.t.Errorf("%s: %s", a.what, a.Body)
		}
	}
	if empty := with("empty", textPair(param.name, "")); param.required && !param.kind.blank {
		p.refused(empty, param)
	} else {
		p.may(empty, param)
	}
	p.refused(with("repeated", textPair(param.name, good), textPair(param.name, good)), param)
	p.refused(with("bad UTF-8", pair{param.name, "a\xff\xfe", "\"a\xff\xfe\""}), param)
	large := with("oversized", textPair(param.name, oversized))
	object := with("an object", pair{param.name, `{"a":[1,{}]}`, `{"a":[1,{}]}`})
	if param.kind.strict {
		p.refused(large, param)
		p.refused(object, param)
	} else {
		p.may(large, param)
		p.may(object, param)
	}
	for _, wrong := range param.kind.wrong {
		p.refused(with("wrong type", textPair(param.name, wrong)), param)
	}
	if encoding == "json" {
		for _, raw := range []string{"17", "-1e300", "true", "null", "[]", `["\ud800"]`} {
			p.may(with("JSON "+raw, pair{param.name, raw, raw}), param)
		}
	}
}

// refused asserts that the parameter was refused and named.
func (p *probe) refused(a answer, param parameter) {
	p.t.Helper()
	if a.env.Stat == "OK" {
		p.t.Errorf("%s: was taken: %.300s", a.what, a.Body)
		return
	}
	p.may(a, param)
}

// may asserts that the answer, if it is a refusal for a parameter, names it, and
// if it is another, that it is one about the objects that are named.
func (p *probe) may(a answer, param parameter) {
	p.t.Helper()
	switch a.env.Code {
	case 0, duoapi.CodeConflict, duoapi.CodeForbidden, duoapi.CodeGrant, duoapi.CodeNotFound:
	case duoapi.CodeMissingParameter, duoapi.CodeInvalidParameter:
		if !names(a.env.MessageDetail, param) {
			p.t.Errorf("%s: the detail does not name the parameter: %s", a.what, a.Body)
		}
	default:
		if !slices.Contains(otherRefusals, a.env.Code) {
			p.t.Errorf("%s: refused with another code: %s", a.what, a.Body)
		}
	}
}

// otherRefusals are codes that tell a parameter's fault by themselves.
var otherRefusals = []int{duoapi.CodeMailOff}

func names(detail string, param parameter) bool {
	return slices.ContainsFunc(append(param.kind.called, param.name), func(name string) bool { return strings.Contains(detail, name) })
}
