// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
)

// pick is the route of that name, or some route that the name stands for.
func pick(routes []string, name string) (method, path string) {
	if !slices.Contains(routes, name) {
		h := fnv.New32()
		_, _ = h.Write([]byte(name))
		name = routes[int(h.Sum32()%uint32(len(routes)))]
	}
	method, path, _ = strings.Cut(name, " ")
	return method, path
}

// hostPosts are the calls with a body that a host signs.
var hostPosts = []string{"/sallyport/v1/hosts/events", "/sallyport/v1/offline/keys"}

// routesOf are the documented routes of some methods.
func routesOf(methods ...string) (routes []string) {
	for pattern := range documented {
		method, _, _ := strings.Cut(pattern, " ")
		if slices.Contains(methods, method) && !unsigned[pattern] {
			routes = append(routes, pattern)
		}
	}
	slices.Sort(routes)
	return routes
}

// there is the path with objects that are there, made once for a target.
func (s *site) there(path string) string {
	return pathName.ReplaceAllStringFunc(path, func(m string) string {
		name := pathName.FindStringSubmatch(m)[1]
		if s.objects == nil {
			s.objects = map[string]string{}
		}
		if s.objects[name] == "" {
			s.objects[name] = wildcards[name](s)
		}
		return s.objects[name]
	})
}

// fuzzSite is shared by the runs of a target: making a store costs more than a call.
func fuzzSite(f *testing.F) (s *site, userID string, lock *sync.Mutex) {
	s = newSite(f)
	userID = s.user("alice")
	codes, err := s.dir.AddBypassCodes(f.Context(), directory.Actor{}, userID, directory.BypassRequest{Count: 1, Uses: 1})
	s.must(err)
	f.Logf("a bypass code of %d digits", len(codes[0]))
	return s, userID, &sync.Mutex{}
}

// clientFor is the client whose API has the path.
func (s *site) clientFor(path string) *duoapi.Client {
	switch {
	case strings.HasPrefix(path, "/auth/"), strings.HasPrefix(path, "/rest/"), strings.HasPrefix(path, "/sallyport/v1/transactions"):
		return s.auth
	case strings.HasPrefix(path, "/device/"):
		return s.as(s.managed().Integration)
	}
	return s.admin
}

// checkAnswer asserts what holds for every answer under a valid signature.
func checkAnswer(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= 500 || w.Code == http.StatusUnauthorized {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	checkEnvelope(t, w)
}

func checkEnvelope(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	env, err := envelopeOf(w)
	if err != nil {
		t.Fatalf("status %d: %v: %q", w.Code, err, w.Body)
	}
	if env.Stat == "OK" && w.Code != 200 || env.Stat == "FAIL" && env.Code/100 != w.Code {
		t.Errorf("status %d with %s %d", w.Code, env.Stat, env.Code)
	}
	if env.Code == duoapi.CodeCannotDecide {
		t.Errorf("input made the verifier fail: %s", w.Body)
	}
	if strings.ContainsFunc(env.MessageDetail, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		t.Errorf("control characters in %q", env.MessageDetail)
	}
}

func FuzzForm(f *testing.F) {
	s, _, lock := fuzzSite(f)
	posts := routesOf("POST", "PUT", "PATCH")
	for _, route := range posts {
		f.Add(route, "username=alice&factor=passcode&passcode=123456&async=1&ipaddr=::1&hostname=h")
	}
	f.Add("POST /rest/v1/preauth.bson", "user=alice&ipaddr=%1b%5b2J&failmode=x")
	f.Add("POST /rest/v1/auth.bson", "user=alice&factor=auto&auto=push1&async=1&pushinfo=Server+IP%3D%00")
	f.Add("POST /rest/v1/auth", "user=alice&factor=phone&phone=phone99")
	f.Add("POST /auth/v2/preauth", "username=alice&text_prompt=1&client_supports_verified_push=1&failmode=open")
	f.Add("POST /auth/v2/auth", "username=alice&factor=prompt&prompt=&txid=x&pushinfo=Server+IP%3D1&device=auto")
	f.Add("POST /auth/v2/auth", "username=%00&username=%ff")
	f.Add("POST /admin/v1/users", "username=%1b%5b2J&aliases=alias1%3Da%26alias9%3Db&status=locked+out")
	f.Add("POST /admin/v1/users/{user_id}/bypass_codes", "codes=123456789,1&count=3&reuse_count=0&valid_secs=99999999999999999999")
	f.Add("POST /admin/v1/tokens", "type=t6&secret=zz&secret_base32=JBSWY3DPEHPK3PXP&totp_step=0&counter=-1")
	f.Add("POST /admin/v3/integrations", "type=adminapi&name=x&adminapi_info=yes&networks_for_api_access=10.0.0.0/8,::/0,bogus&allow_v1=1")
	f.Fuzz(func(t *testing.T, route, body string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		s.clock.Add(time.Second)
		method, path := pick(posts, route)
		path = s.there(path)
		checkAnswer(t, s.signed(s.clientFor(path), method, path, "application/x-www-form-urlencoded", body))
	})
}

func FuzzJSON(f *testing.F) {
	s, _, lock := fuzzSite(f)
	posts := routesOf("POST", "PUT", "PATCH")
	for _, route := range posts {
		f.Add(route, `{"username":"alice","factor":"passcode","passcode":123456,"async":true,"user_id":null}`)
	}
	f.Add("POST /auth/v2/preauth", `[]`)
	f.Add("POST /auth/v2/preauth", `{"username":{"a":[1,2,{}]}}`)
	f.Add("POST /admin/v1/users", `{"username":"\ud800","aliases":["a","b"],"notes":"\u0000"}`)
	f.Add("POST /admin/v1/users", `{"username":"x","aliases":{"alias1":"y"}}`)
	f.Add("POST /admin/v1/users/{user_id}/bypass_codes", `{"codes":["123456789"],"count":1e3}`)
	f.Add("POST /admin/v1/settings", `{"lockout_threshold":0,"sms_message":"`+strings.Repeat("x", 600)+`"}`)
	f.Add("POST /admin/v2/policies", `{"policy_name":"p","sections":{"new_user":{"new_user_behavior":[]},"x":null},"apply_to_apps":{"apply_list":[1]}}`)
	f.Fuzz(func(t *testing.T, route, body string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		s.clock.Add(time.Second)
		method, path := pick(posts, route)
		path = s.there(path)
		checkAnswer(t, s.signed(s.clientFor(path), method, path, "application/json", body))
	})
}

func FuzzQuery(f *testing.F) {
	s, _, lock := fuzzSite(f)
	gets := routesOf("GET")
	for _, route := range gets {
		f.Add(route, "limit=10&offset=0&mintime=0&maxtime=1795292970000&username=alice&txid=x")
	}
	f.Add("GET /admin/v2/logs/authentication", "next_offset=1,2&sort=ts:asc&users=[]&results=success,denied&limit=-1")
	f.Add("GET /admin/v1/users", "username_list=[%22alice%22]&user_id_list=[1]&offset=99999999999")
	f.Fuzz(func(t *testing.T, route, query string) {
		if strings.ContainsFunc(query, func(c rune) bool { return c <= ' ' || c > '~' || c == '#' || c == '%' }) {
			return // does not stand in a request line as it is
		}
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		s.clock.Add(time.Second)
		_, path := pick(gets, route)
		path = s.there(path)
		checkAnswerOrPicture(t, s.signed(s.clientFor(path), "GET", path+"?"+query, "", ""))
	})
}

// checkAnswerOrPicture is checkAnswer for a query, which a client may also have written
// so that it is not the one that was signed.
func checkAnswerOrPicture(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= 500 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	checkEnvelope(t, w)
}

// FuzzAuthorization: no header makes the verifier let anyone in, fail or panic.
func FuzzAuthorization(f *testing.F) {
	s, _, lock := fuzzSite(f)
	all := []string{"/sallyport/v1/hosts/self", "/sallyport/v1/authenticator/transactions"}
	for _, route := range routesOf("GET") {
		_, path, _ := strings.Cut(route, " ")
		all = append(all, pathName.ReplaceAllString(path, "XX"))
	}
	for i := range min(len(all), 250) {
		f.Add(uint8(i), "Basic YTpi", "Tue, 21 Aug 2012 17:29:18 -0000", "")
	}
	f.Add(uint8(0), "Sallyport eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "", "")
	f.Add(uint8(0), "Sallyport eyJhbGciOiJub25lIn0.e30.", "", "")
	f.Add(uint8(1), "Sallyport "+strings.Repeat("A", 5000), "", "")
	f.Add(uint8(3), "Basic OjAw", "x", "y")
	f.Add(uint8(3), "Basic "+strings.Repeat("Og", 4000), "", "Tue, 21 Aug 2012 17:29:18 +0000")
	f.Fuzz(func(t *testing.T, which uint8, authorization, date, duoDate string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		r := httptest.NewRequest("GET", s.base.String()+all[int(which)%len(all)], nil)
		r.RemoteAddr = "127.0.0.1:1"
		for name, value := range map[string]string{"Authorization": authorization, "Date": date, "X-Duo-Date": duoDate} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, r)
		if w.Code != 401 && w.Code != 400 && w.Code != 429 {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		checkEnvelope(t, w)
	})
}

// FuzzProofBody: bodies under a good key proof.
func FuzzProofBody(f *testing.F) {
	s, user, lock := fuzzSite(f)
	key, phone := s.authenticator(user)
	f.Add(`{"answer":"e30.e30.e30"}`)
	f.Add(`{"answer":""}`)
	f.Add(`{"answer":1}{}`)
	f.Add(`{"answer":"x","more":1}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		w := s.provedDirect(key, phone, "POST", "/sallyport/v1/authenticator/transactions/TX", body)
		checkAnswer(t, w)
	})
}

// FuzzCallback: bodies under a good webhook signature.
func FuzzCallback(f *testing.F) {
	s := newSiteWith(f, withTelephony(f))
	f.Add(`{"id":"call_TX","txid":"TX","event":"keypress","key":"#"}`)
	f.Add(`{"id":"x","event":"delivered"}`)
	f.Add(`{"id":1}`)
	f.Add(`[]`)
	var lock sync.Mutex
	f.Fuzz(func(t *testing.T, body string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		checkAnswer(t, s.reportDirect(body))
	})
}
