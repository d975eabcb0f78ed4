// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// person is somebody with a browser that follows no redirect by itself.
type person struct {
	*site
	http *http.Client
}

func (s *site) person() *person {
	jar, err := cookiejar.New(nil)
	s.must(err)
	return &person{s, &http.Client{
		Transport: s.admin.HTTP.Transport, Jar: jar, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// page is an answer with its body.
type page struct {
	*http.Response
	text string
}

func (p *person) do(method, path string, form url.Values, change func(*http.Request)) page {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.base.String()+path, strings.NewReader(form.Encode()))
	p.must(err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Origin", p.base.String())
	}
	if change != nil {
		change(req)
	}
	res, err := p.http.Do(req)
	p.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	p.must(err)
	return page{res, string(text)}
}

func (p *person) get(path string) page { p.t.Helper(); return p.do(http.MethodGet, path, nil, nil) }

func (p *person) post(path string, pairs ...string) page {
	p.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return p.do(http.MethodPost, path, form, nil)
}

// goes asserts that a page sends on to a path, and opens that.
func (p *person) goes(a page, path string) page {
	p.t.Helper()
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != path {
		p.t.Fatalf("status %d to %q, want 303 to %q: %s", a.StatusCode, a.Header.Get("Location"), path, a.text)
	}
	return p.get(path)
}

func (p *person) wants(a page, status int, texts ...string) page {
	p.t.Helper()
	if a.StatusCode != status {
		p.t.Fatalf("status %d, want %d: %s", a.StatusCode, status, a.text)
	}
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(a.text), text) {
			p.t.Errorf("the page does not say %q: %s", text, a.text)
		}
	}
	return a
}

// link makes an enrolment link for a user of that name.
func (s *site) link(name string) string {
	s.t.Helper()
	l, err := s.srv.Enrollment().NewLink(s.t.Context(), directory.Actor{Name: "test"},
		enrollment.LinkRequest{Invitee: directory.Invitee{Username: name, Create: true}})
	s.must(err)
	return l.URL
}

// cookieOf is the session cookie that an answer sets.
func cookieOf(a page) *http.Cookie {
	for _, c := range a.Cookies() {
		if c.Name == "__Host-enroll" {
			return c
		}
	}
	return nil
}

var (
	secretText = regexp.MustCompile(`<p class="mono">([A-Z2-7 ]+)</p>`)
	activation = regexp.MustCompile(`sallyport authenticator activate '([^']+)'`)
	listed     = regexp.MustCompile(`<li>([0-9a-hjkmnp-tv-z]{4}(?:-[0-9a-hjkmnp-tv-z]{4}){3})</li>`)
)

// addTOTP goes through the step of the passcodes and gives the secret, and the code
// that confirmed it.
func (p *person) addTOTP() (secret, code string) {
	p.t.Helper()
	shown := p.wants(p.goes(p.post("/enroll/totp"), "/enroll/totp"), http.StatusOK)
	m := secretText.FindStringSubmatch(shown.text)
	if m == nil {
		p.t.Fatalf("no secret: %s", shown.text)
	}
	secret = strings.ReplaceAll(m[1], " ", "")
	code, err := totp.GenerateCode(secret, p.clock.Now())
	p.must(err)
	p.wants(p.goes(p.post("/enroll/totp/code", "code", code[:3]+" "+code[3:]), "/enroll/setup"), http.StatusOK, "Passcodes are set up.")
	return secret, code
}

// begun is a person who has begun with a link.
func (s *site) begun(name string) *person {
	s.t.Helper()
	p := s.person()
	p.goes(p.post("/enroll/begin", "link", s.link(name)), "/enroll/setup")
	return p
}

// TestEnrolmentFromLinkToLogin goes the whole way: a phone, a token, recovery codes,
// and logins with them.
func TestEnrolmentFromLinkToLogin(t *testing.T) {
	s := newSite(t)
	p := s.person()
	link := s.link("alice")
	if !strings.HasPrefix(link, s.base.String()+"/enroll/#se1.") {
		t.Fatal(link)
	}
	p.wants(p.get("/enroll/"), http.StatusOK, "Your enrolment link")
	p.wants(p.goes(p.post("/enroll/begin", "link", link), "/enroll/setup"), http.StatusOK, "You are setting up alice", "Add one of them to go on.")

	// The phone: activated with the link on the page, by a key of its own.
	waiting := p.wants(p.goes(p.post("/enroll/phone"), "/enroll/phone"), http.StatusOK, "<svg")
	m := activation.FindStringSubmatch(html.UnescapeString(waiting.text))
	if m == nil {
		t.Fatalf("no activation link: %s", waiting.text)
	}
	p.wants(p.get("/enroll/status"), http.StatusOK, `{"phone":"waiting"}`)
	p.wants(p.goes(p.post("/enroll/codes"), "/enroll/setup"), http.StatusOK, "Add one of them to go on.")
	s.must(s.activate(s.newKey(), m[1], nil))
	p.wants(p.get("/enroll/status"), http.StatusOK, `{"phone":"done"}`)
	p.wants(p.goes(p.get("/enroll/phone"), "/enroll/setup"), http.StatusOK, "Your phone is set up: laptop.")
	p.goes(p.post("/enroll/phone"), "/enroll/setup") // not a second one

	_, used := p.addTOTP()
	p.goes(p.post("/enroll/totp"), "/enroll/setup")

	codes := p.wants(p.post("/enroll/codes"), http.StatusOK, "Recovery codes of alice")
	first := listed.FindAllStringSubmatch(codes.text, -1)
	if len(first) != 10 {
		t.Fatalf("%d codes: %s", len(first), codes.text)
	}
	file := regexp.MustCompile(`href="data:text/plain;charset=utf-8;base64,([^"]+)"`).FindStringSubmatch(codes.text)
	if file == nil {
		t.Fatalf("no file: %s", codes.text)
	}
	text, err := base64.StdEncoding.DecodeString(html.UnescapeString(file[1]))
	if err != nil || !strings.Contains(string(text), first[9][1]) {
		t.Errorf("file %q, %v", text, err)
	}
	again := p.wants(p.post("/enroll/codes"), http.StatusOK)
	second := listed.FindAllStringSubmatch(again.text, -1)
	if strings.Contains(p.get("/enroll/setup").text, second[0][1]) {
		t.Error("a page shows codes a second time")
	}
	p.wants(p.post("/enroll/finish"), http.StatusUnprocessableEntity, "Say first that you have kept your codes.")
	end := p.post("/enroll/finish", "saved", "yes")
	if c := cookieOf(end); c == nil || c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("the cookie stays: %v", c)
	}
	p.wants(p.goes(end, "/enroll/done"), http.StatusOK, "You are set up")

	logs := func(code string) string {
		t.Helper()
		var out struct{ Result string }
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": code}, &out))
		return out.Result
	}
	for i, c := range []struct{ code, want string }{
		{used, "deny"}, // the code that confirmed the token is used up
		{first[0][1], "deny"},
		{second[0][1], "allow"},
		{second[0][1], "deny"},
		{strings.ToUpper(strings.ReplaceAll(second[1][1], "-", "")), "allow"},
	} {
		if got := logs(c.code); got != c.want {
			t.Errorf("login %d with %q: %s, want %s", i, c.code, got, c.want)
		}
	}
	var user struct {
		Left     int  `json:"recovery_codes_left"`
		Enrolled bool `json:"is_enrolled"`
	}
	var found []struct {
		Left int `json:"recovery_codes_left"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"username": "alice"}, &found))
	if len(found) != 1 || found[0].Left != 8 {
		t.Errorf("users %+v %+v, want 8 codes left", found, user)
	}
	actions := map[string]string{}
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		events, err := r.AdminEvents(time.Time{}, 1000)
		for _, e := range events {
			actions[e.Action] = e.Username
		}
		return err
	}))
	for _, action := range []string{"enrollment_link_use", "phone_create", "activation_create", "hardtoken_create", "recovery_codes_create", "enrollment_finish"} {
		if actions[action] != enrollment.Actor {
			t.Errorf("%s by %q in the log", action, actions[action])
		}
	}
}

// Nobody gets in with a link that was used, replaced, expired, made up, or is of a
// person who may not enrol; all read the same.
func TestLinksThatCannotBeUsed(t *testing.T) {
	s := newSite(t)
	used := s.link("used")
	first := s.person()
	first.goes(first.post("/enroll/begin", "link", used), "/enroll/setup")
	old := s.link("replaced")
	s.link("replaced")
	locked := s.link("locked")
	var users []struct {
		UserID string `json:"user_id"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"username": "locked"}, &users))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+users[0].UserID, params{"status": "disabled"}, nil))
	expired := s.link("expired")
	answers := map[string]string{}
	refused := func(name, link string) {
		t.Helper()
		p := s.person()
		a := p.post("/enroll/begin", "link", link)
		p.wants(a, http.StatusForbidden, "This link cannot be used.")
		if cookieOf(a) != nil {
			t.Errorf("%s: a cookie", name)
		}
		answers[a.text] = name
	}
	for name, link := range map[string]string{
		"used": used, "replaced": old, "disabled": locked, "made up": s.base.String() + "/enroll/#se1." + strings.Repeat("A", 32) + ".",
		"another kind": "sa1." + strings.Repeat("A", 32) + ".", "no link": "hello", "empty": "",
	} {
		refused(name, link)
	}
	s.clock.Add(8 * 24 * time.Hour)
	refused("expired", expired)
	if len(answers) != 1 {
		t.Errorf("%d answers that differ: %v", len(answers), answers)
	}
	// To guess is held back, and then a link is no longer looked at in full.
	p := s.person()
	var last page
	for i := 0; i < 150 && (last.Response == nil || last.StatusCode != http.StatusTooManyRequests); i++ { // a minute may end meanwhile
		last = p.post("/enroll/begin", "link", "se1."+strings.Repeat("B", 32)+".")
	}
	if last.StatusCode != http.StatusTooManyRequests || last.Header.Get("Retry-After") == "" {
		t.Errorf("after many guesses: %d", last.StatusCode)
	}
	p.goes(p.post("/enroll/begin", "link", s.link("carol")), "/enroll/setup") // who has a link is not held back
}

// TestOpeningSpendsNothing: programs that look at the links of a mail open them all.
func TestOpeningSpendsNothing(t *testing.T) {
	s := newSite(t)
	link := s.link("alice")
	scanner := s.person()
	code := link[strings.Index(link, "#")+1:]
	for _, path := range []string{"/enroll/", "/enroll/?link=" + url.QueryEscape(link), "/enroll/?" + code, "/enroll/begin", "/enroll/begin?link=" + url.QueryEscape(code)} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if a := scanner.do(method, path, nil, nil); cookieOf(a) != nil {
				t.Errorf("%s %s sets a cookie", method, path)
			}
		}
	}
	// In a query of the POST neither: an address is kept in logs and histories.
	scanner.wants(scanner.post("/enroll/begin?link="+url.QueryEscape(link)), http.StatusForbidden)
	p := s.person()
	p.goes(p.post("/enroll/begin", "link", link), "/enroll/setup")
}

// TestFormsOfOthersBeginNothing: CSRF, at each form.
func TestEnrolmentFormsOfOthers(t *testing.T) {
	s := newSite(t)
	p := s.begun("alice")
	link := s.link("bob")
	for _, path := range []string{"/enroll/begin", "/enroll/phone", "/enroll/totp", "/enroll/totp/code", "/enroll/codes", "/enroll/finish"} {
		for name, change := range map[string]func(*http.Request){
			"another site":   func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
			"same site":      func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
			"another origin": func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "https://evil.example") },
			"no origin":      func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "null") },
		} {
			a := p.do(http.MethodPost, path, url.Values{"link": {link}, "saved": {"yes"}}, change)
			if a.StatusCode != http.StatusForbidden || cookieOf(a) != nil {
				t.Errorf("%s from %s: %d", path, name, a.StatusCode)
			}
		}
	}
	p.wants(p.get("/enroll/setup"), http.StatusOK, "Add my phone", "Set up passcodes") // nothing was begun
	other := s.person()
	other.goes(other.post("/enroll/begin", "link", link), "/enroll/setup")
}

func TestEnrolmentCookie(t *testing.T) {
	s := newSite(t)
	p := s.person()
	// A token that somebody planted is not taken over.
	planted := strings.Repeat("A", 43)
	begin := func(link string) *http.Cookie {
		t.Helper()
		a := p.do(http.MethodPost, "/enroll/begin", url.Values{"link": {link}}, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "__Host-enroll", Value: planted})
		})
		c := cookieOf(a)
		if c == nil {
			t.Fatalf("no cookie: %d %s", a.StatusCode, a.text)
		}
		return c
	}
	c := begin(s.link("alice"))
	if c.Value == planted || len(c.Value) != 43 {
		t.Errorf("token %q", c.Value)
	}
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 1800 {
		t.Errorf("cookie %+v", c)
	}
	with := func(value string) int {
		t.Helper()
		stranger := s.person()
		return stranger.do(http.MethodGet, "/enroll/setup", nil, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "__Host-enroll", Value: value})
		}).StatusCode
	}
	if got := with(planted); got != http.StatusForbidden {
		t.Errorf("with the planted token: %d", got)
	}
	if got := with(c.Value); got != http.StatusOK {
		t.Errorf("with the token: %d", got)
	}
	// Another link ends the session, and its token is another one.
	d := begin(s.link("alice"))
	if d.Value == c.Value || with(c.Value) != http.StatusForbidden || with(d.Value) != http.StatusOK {
		t.Error("the session of the link before goes on")
	}
	s.clock.Add(enrollment.SessionTime)
	if got := with(d.Value); got != http.StatusForbidden {
		t.Errorf("after half an hour: %d", got)
	}
}

// TestBackAfterTheEnd: what was shown is not stored by the browser, and asked for
// again it is not there.
func TestBackAfterTheEnd(t *testing.T) {
	s := newSite(t)
	p := s.begun("alice")
	setup := p.get("/enroll/setup")
	secret, _ := p.addTOTP()
	codes := p.post("/enroll/codes")
	for _, a := range []page{setup, codes, p.get("/enroll/status")} {
		if a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
		}
	}
	if !strings.Contains(codes.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Error("the codes can be framed")
	}
	session := cookieOf(p.post("/enroll/finish", "saved", "yes"))
	if session == nil {
		t.Fatal("no end")
	}
	for _, path := range []string{"/enroll/setup", "/enroll/phone", "/enroll/totp"} {
		a := p.wants(p.get(path), http.StatusForbidden, "This enrolment is over")
		if strings.Contains(a.text, "alice") || strings.Contains(a.text, secret[:4]) {
			t.Errorf("%s still tells: %s", path, a.text)
		}
	}
	for _, path := range []string{"/enroll/phone", "/enroll/totp", "/enroll/totp/code", "/enroll/codes", "/enroll/finish"} {
		if a := p.post(path, "saved", "yes", "code", "000000"); a.StatusCode != http.StatusForbidden || listed.MatchString(a.text) {
			t.Errorf("%s after the end: %d", path, a.StatusCode)
		}
	}
	p.wants(p.get("/enroll/status"), http.StatusOK, `{"phone":"over"}`)
}

// Links are made of the verifier's own address; pages answer under no other, and
// send nobody anywhere else.
func TestEnrolmentHostAndRedirects(t *testing.T) {
	s := newSite(t)
	p := s.person()
	link := s.link("alice")
	a := p.do(http.MethodPost, "/enroll/begin", url.Values{"link": {link}}, func(r *http.Request) { r.Host = "evil.example" })
	if a.StatusCode != http.StatusMisdirectedRequest || cookieOf(a) != nil {
		t.Errorf("under another name: %d", a.StatusCode)
	}
	for _, path := range []string{"/enroll/?next=https://evil.example/", "/enroll//evil.example", "/enroll/%2f%2fevil.example", "/enroll/setup?next=//evil.example"} {
		if to := p.get(path).Header.Get("Location"); to != "" && !strings.HasPrefix(to, "/enroll/") {
			t.Errorf("%s leads to %q", path, to)
		}
	}
	a = p.do(http.MethodPost, "/enroll/begin?next=//evil.example", url.Values{"link": {link}, "next": {"https://evil.example/"}}, func(r *http.Request) {
		r.Header.Set("X-Forwarded-Host", "evil.example")
	})
	if to := a.Header.Get("Location"); to != "/enroll/setup" {
		t.Errorf("begin leads to %q", to)
	}
	shown := p.goes(p.post("/enroll/phone"), "/enroll/phone")
	if m := activation.FindStringSubmatch(html.UnescapeString(shown.text)); m == nil || !strings.HasPrefix(m[1], s.base.String()+"/") {
		t.Errorf("the phone is sent to %v", m)
	}
}

// The first code is not taken when it is wrong; after ten of them another secret is due.
func TestFirstCodeOfAToken(t *testing.T) {
	s := newSite(t)
	p := s.begun("alice")
	shown := p.goes(p.post("/enroll/totp"), "/enroll/totp")
	secret := strings.ReplaceAll(secretText.FindStringSubmatch(shown.text)[1], " ", "")
	good, err := totp.GenerateCode(secret, s.clock.Now())
	s.must(err)
	n, err := strconv.Atoi(good)
	s.must(err)
	for i := 1; i <= enrollment.MaxTries; i++ {
		wrong := "wrong" + strconv.Itoa(n)
		a := p.wants(p.post("/enroll/totp/code", "code", wrong), http.StatusUnprocessableEntity)
		if !strings.Contains(a.text, `aria-invalid="true"`) && i < enrollment.MaxTries {
			t.Errorf("try %d: no error at the field", i)
		}
	}
	good, err = totp.GenerateCode(secret, s.clock.Now())
	s.must(err)
	p.wants(p.post("/enroll/totp/code", "code", good), http.StatusUnprocessableEntity, "too many wrong codes")
	if fresh, _ := p.addTOTP(); fresh == secret {
		t.Error("the secret is the one before")
	}
}

// TestEnrolmentMakesSoMuch: who has one link cannot fill logs, mailboxes and the store.
func TestEnrolmentMakesSoMuch(t *testing.T) {
	s := newSite(t)
	p := s.begun("alice")
	spent := func(path string, status int) {
		t.Helper()
		for i := range enrollment.MaxMade {
			if a := p.post(path); a.StatusCode != status {
				t.Fatalf("%s, %d: status %d: %s", path, i+1, a.StatusCode, a.text)
			}
			s.clock.Add(2 * time.Second) // not too fast
		}
		p.wants(p.post(path), http.StatusForbidden, "This link has made enough of these")
		s.clock.Add(2 * time.Second)
	}
	spent("/enroll/phone", http.StatusSeeOther)
	p.addTOTP()
	spent("/enroll/codes", http.StatusOK)
	p.wants(p.get("/enroll/setup"), http.StatusOK, "Passcodes are set up.")
	p.goes(p.post("/enroll/finish", "saved", "yes"), "/enroll/done")

	p = s.begun("bob")
	spent("/enroll/totp", http.StatusSeeOther)
}

// TestEnrolmentFormsArePaced: forms of a session come one after the other, and those of nobody do not come to
// the writer.
func TestEnrolmentFormsArePaced(t *testing.T) {
	s := newSite(t)
	p := s.begun("alice")
	var last page
	for i := 0; i < 300 && (last.Response == nil || last.StatusCode == http.StatusSeeOther); i++ {
		last = p.post("/enroll/codes") // is not due
	}
	p.wants(last, http.StatusTooManyRequests, "That was too fast")
	if last.Header.Get("Retry-After") == "" {
		t.Error("it is not said when to try again")
	}
	other := s.begun("bob")
	other.goes(other.post("/enroll/codes"), "/enroll/setup")

	s.store.updates.Store(true)
	stranger := s.person()
	last = page{}
	for i := 0; i < 150 && (last.Response == nil || last.StatusCode == http.StatusForbidden); i++ { // a minute may end meanwhile
		path := []string{"/enroll/phone", "/enroll/totp", "/enroll/totp/code", "/enroll/codes", "/enroll/finish"}[i%5]
		last = stranger.do(http.MethodPost, path, url.Values{"saved": {"yes"}}, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "__Host-enroll", Value: strings.Repeat("A", 43)})
		})
	}
	stranger.wants(last, http.StatusTooManyRequests)
	s.clock.Add(time.Minute)
	stranger.wants(stranger.post("/enroll/begin", "link", "se1."+strings.Repeat("B", 32)+"."), http.StatusForbidden)
}

// What was confirmed stays when an enrolment is left; what was not goes, with the
// link that would have activated a phone.
func TestEnrolmentLeft(t *testing.T) {
	for name, leave := range map[string]func(*site){
		"time is over": func(s *site) {
			s.clock.Add(enrollment.SessionTime)
			s.must(s.srv.Enrollment().Sweep(s.t.Context()))
		},
		"another link": func(s *site) { s.link("alice") },
		"void": func(s *site) {
			var users []struct {
				UserID string `json:"user_id"`
			}
			s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"username": "alice"}, &users))
			s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/users/"+users[0].UserID+"/enrollment_links", nil, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			p := s.begun("alice")
			p.addTOTP()
			shown := p.goes(p.post("/enroll/phone"), "/enroll/phone")
			link := activation.FindStringSubmatch(html.UnescapeString(shown.text))[1]
			leave(s)
			p.wants(p.get("/enroll/setup"), http.StatusForbidden)
			if err := s.activate(s.newKey(), link, nil); err == nil {
				t.Error("the phone can still be activated")
			}
			s.must(s.store.View(t.Context(), func(r store.Reader) error {
				u, err := r.UserByName("alice")
				if err != nil {
					return err
				}
				phones, err := r.UserPhones(u.ID)
				if err != nil {
					return err
				}
				tokens, err := r.UserTokens(u.ID)
				if len(phones) != 0 || len(tokens) != 1 {
					t.Errorf("%d phones and %d tokens are left, want 0 and 1", len(phones), len(tokens))
				}
				return err
			}))
		})
	}
}
