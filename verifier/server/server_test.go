// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// A verifier that cannot decide denies: a 5xx would open doors.
func TestStoreFailureDenies(t *testing.T) {
	s := newSite(t)
	s.user("alice")
	s.must(s.call(s.admin, "GET", "/admin/v1/users", nil, nil))
	s.store.updates.Store(true)

	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", map[string]string{"username": "alice"}, &pre))
	if pre.Result != duoapi.ResultDeny && pre.Result != duoapi.ResultAuth || pre.StatusMsg == "" {
		t.Errorf("preauth %+v", pre)
	}
	var auth duoapi.Auth
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{"username": "alice", "factor": "passcode", "passcode": "123456"}, &auth))
	if auth.Result != duoapi.ResultDeny || auth.StatusMsg == "" {
		t.Errorf("auth %+v", auth)
	}
	if err := s.call(s.admin, "POST", "/admin/v1/users", map[string]string{"username": "bob"}, nil); code(err) != duoapi.CodeCannotDecide {
		t.Errorf("admin: %v", err)
	}
	s.store.updates.Store(false)
	s.store.panics.Store(true)
	auth = duoapi.Auth{}
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{"username": "alice", "factor": "passcode", "passcode": "123456"}, &auth))
	if auth.Result != duoapi.ResultDeny {
		t.Errorf("auth after a panic %+v", auth)
	}
	if err := s.call(s.admin, "POST", "/admin/v1/users", map[string]string{"username": "bob"}, nil); code(err) != duoapi.CodeCannotDecide {
		t.Errorf("admin after a panic: %v", err)
	}
	s.store.panics.Store(false)
	s.store.views.Store(true)
	if err := s.call(s.auth, "POST", "/auth/v2/preauth", map[string]string{"username": "alice"}, nil); code(err) != duoapi.CodeCannotDecide {
		t.Errorf("preauth without a store: %v", err)
	}
}

func TestHealth(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		broken bool
		status int
	}{{false, 200}, {true, 503}} {
		s.store.views.Store(c.broken)
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != c.status {
			t.Errorf("broken %v: status %d", c.broken, w.Code)
		}
	}
}

// Without a valid signature nothing is written, whatever is asked.
func TestUnsignedWritesNothing(t *testing.T) {
	s := newSite(t)
	s.user("alice")
	token := s.joinToken("")
	s.store.updates.Store(true) // a write would turn the answer into 40090
	s.auth.Secret, s.admin.Secret = []byte("wrong"), []byte("wrong")
	for name, err := range map[string]error{
		"auth":     s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{"username": "alice", "factor": "passcode", "passcode": "1"}, nil),
		"preauth":  s.call(s.auth, "POST", "/auth/v2/preauth", map[string]string{"username": "alice"}, nil),
		"enroll":   s.call(s.auth, "POST", "/auth/v2/enroll", nil, nil),
		"user":     s.call(s.admin, "POST", "/admin/v1/users", map[string]string{"username": "eve"}, nil),
		"callback": s.report("whsec_"+strings.Repeat("QUJD", 10), "m1", map[string]string{"id": "x", "txid": "y", "event": "answered"}),
		"join": s.proved(s.newKey(), "HO", "POST", "/sallyport/v1/hosts/join", joinBody(s, s.newKey(), token, "db"),
			nil, nil), // the proof is by another key than the body's
	} {
		if code(err)/100 != 401 {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// counted is a body that tells how much of it was read.
type counted struct{ read int }

func (c *counted) Read(p []byte) (int, error) {
	c.read += len(p)
	return len(p), nil
}

// Bodies that nobody can have signed must not fill the memory: one HTTP/2
// connection brings a thousand of them at once.
func TestFloodOfUnsignedBodiesIsNotRead(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct {
		key  string
		code int
		most int
	}{
		"no key":      {"", duoapi.CodeMissingCredentials, 0},
		"unknown key": {"DIXXXXXXXXXXXXXXXXXX", duoapi.CodeInvalidKey, 0},
		"known key":   {s.auth.IntegrationKey, duoapi.CodeTooLarge, gate.MaxBody + bytes.MinRead},
	} {
		body := &counted{}
		r := httptest.NewRequest("POST", s.base.String()+"/auth/v2/auth", body)
		r.RemoteAddr = "192.0.2.1:1"
		if c.key != "" {
			r.SetBasicAuth(c.key, strings.Repeat("0", 128))
		}
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, r)
		var e duoapi.Envelope
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != c.code || body.read > 2*c.most {
			t.Errorf("%s: code %d, want %d; %d bytes were read, at most %d expected", name, e.Code, c.code, body.read, 2*c.most)
		}
	}
}

func TestUnsignedPing(t *testing.T) {
	s := newSite(t)
	for name, header := range map[string]http.Header{
		"unsigned":        nil,
		"wrong signature": {"Authorization": {"Basic YTpi"}},
	} {
		var out struct{ Time int64 }
		if err := s.open("GET", "/auth/v2/ping?", "", header, &out); err != nil || out.Time == 0 {
			t.Errorf("%s: %v, time %d", name, err, out.Time)
		}
	}
	s.auth.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	s.must(s.call(s.auth, "GET", "/auth/v2/ping", nil, nil))
}

func TestHTTP2(t *testing.T) {
	s := newSite(t)
	res, err := s.admin.HTTP.Get(s.base.String() + "/auth/v2/ping")
	s.must(err)
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("protocol %s", res.Proto)
	}
}

func TestLogo(t *testing.T) {
	picture := "\x89PNG\r\n\x1a\nrest"
	s := newSiteWith(t, func(c *server.Config, _ *login.Config) { c.Logo = []byte(picture) })
	w := s.signed(s.auth, "GET", "/auth/v2/logo", "", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "image/png" || w.Body.String() != picture {
		t.Errorf("logo: %d %q %q", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	if err := newSite(t).noLogo(); code(err) != duoapi.CodeNotFound {
		t.Errorf("no logo: %v", err)
	}
}

func (s *site) noLogo() error { return s.call(s.auth, "GET", "/auth/v2/logo", nil, nil) }

// Each integration reaches the API of its type alone.
func TestConfinement(t *testing.T) {
	s := newSite(t)
	device := s.as(s.integration(store.DeviceAPI, directory.IntegrationChange{}))
	websdk := s.as(s.integration(store.WebSDK, directory.IntegrationChange{}))
	auth := []string{"/auth/v2/check"}
	admin := []string{
		"/admin/v1/users", "/admin/v1/settings", "/admin/v3/integrations", "/admin/v2/logs/authentication",
		"/sallyport/v1/admin/hosts", "/admin/v1/info/summary",
	}
	for _, c := range []struct {
		name    string
		client  *duoapi.Client
		allowed []string
		refused []string
	}{
		{"authapi", s.auth, auth, admin},
		{"adminapi", s.admin, admin, auth},
		{"deviceapi", device, nil, append(auth, admin...)},
		{"websdk", websdk, nil, append(auth, admin...)},
	} {
		for _, path := range c.allowed {
			if err := s.call(c.client, "GET", path, nil, nil); err != nil {
				t.Errorf("%s %s: %v", c.name, path, err)
			}
		}
		for _, path := range c.refused {
			if err := s.call(c.client, "GET", path, nil, nil); code(err) != duoapi.CodeForbidden {
				t.Errorf("%s %s: %v", c.name, path, err)
			}
		}
	}
}

func TestPathsThatAreNotThere(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/auth/v2", "/auth/v2/ping/", "//auth/v2/ping", "/auth/v2/../v2/ping", "/admin/v1/nothing", "/rest/v2/preauth"} {
		r := httptest.NewRequest("GET", "https://verifier.example:8443/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, r)
		var env duoapi.Envelope
		if err := json.Unmarshal(w.Body.Bytes(), &env); err != nil || w.Code != 404 || env.Code != duoapi.CodeNotFound {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	w := httptest.NewRecorder()
	s.srv.ServeHTTP(w, httptest.NewRequest("DELETE", "/auth/v2/preauth", nil))
	if w.Code != 405 || w.Header().Get("Allow") != "POST" {
		t.Errorf("DELETE preauth: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// SHA-1 is accepted where the integration allows it, and nowhere else.
func TestSHA1ByOptIn(t *testing.T) {
	s := newSite(t)
	for _, allow := range []bool{false, true} {
		made := s.integration(store.AuthAPI, directory.IntegrationChange{AllowSHA1: &allow})
		w := s.signedSHA1(s.as(made), "GET", "/auth/v2/check")
		want := map[bool]int{false: 401, true: 200}[allow]
		if w.Code != want {
			t.Errorf("allow_sha1 %v: status %d", allow, w.Code)
		}
	}
}

// A new secret without overlap voids the old one at once, though secrets are kept opened.
func TestSecretReset(t *testing.T) {
	s := newSite(t)
	made := s.integration(store.AuthAPI, directory.IntegrationChange{})
	old := s.as(made)
	s.must(s.call(old, "GET", "/auth/v2/check", nil, nil))
	var out struct {
		SecretKey string `json:"secret_key"`
	}
	path := "/admin/v3/integrations/" + made.Key
	s.must(s.call(s.admin, "GET", path, nil, &out))
	if out.SecretKey != "" {
		t.Error("a secret is shown again")
	}
	s.must(s.call(s.admin, "POST", path, map[string]string{"reset_secret_key": "1", "reset_secret_overlap_secs": "0"}, &out))
	if err := s.call(old, "GET", "/auth/v2/check", nil, nil); code(err) != duoapi.CodeInvalidSignature {
		t.Errorf("old secret: %v", err)
	}
	old.Secret = []byte(out.SecretKey)
	s.must(s.call(old, "GET", "/auth/v2/check", nil, nil))
	s.must(s.call(s.admin, "DELETE", path, nil, nil))
	if err := s.call(old, "GET", "/auth/v2/check", nil, nil); code(err) != duoapi.CodeInvalidKey {
		t.Errorf("deleted integration: %v", err)
	}
}

func TestHostLife(t *testing.T) {
	s := newSite(t)
	key := s.newKey()
	var joined map[string]string
	s.must(s.join(key, s.joinToken("db1"), "db1", &joined))
	if joined["url"] != s.base.String() || joined["api_hostname"] != s.base.Host || !strings.HasPrefix(joined["ca_pem"], "-----BEGIN") {
		t.Errorf("joined %v", joined)
	}
	host := *s.admin
	host.IntegrationKey, host.Secret = joined["integration_key"], []byte(joined["secret_key"])
	lastSeen := func() any {
		var h map[string]any
		s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/hosts/"+joined["host_id"], nil, &h))
		return h["last_seen"]
	}
	if lastSeen() != nil {
		t.Error("a host that has only joined was seen")
	}
	s.must(s.call(&host, "GET", "/auth/v2/check", nil, nil))
	if lastSeen() == nil {
		t.Error("a host whose integration has called was not seen")
	}
	var self map[string]any
	s.must(s.proved(key, joined["host_id"], "GET", "/sallyport/v1/hosts/self", "", &self, nil))
	if self["host_id"] != joined["host_id"] || self["name"] != "db1" {
		t.Errorf("self %v", self)
	}
	// A stolen host secret must not make people.
	if err := s.call(&host, "POST", "/auth/v2/enroll", map[string]string{"username": "root"}, nil); code(err) != duoapi.CodeForbidden {
		t.Errorf("a host enrols: %v", err)
	}

	var hosts []map[string]any
	s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/hosts", nil, &hosts))
	if len(hosts) != 1 || hosts[0]["last_seen"] == nil || hosts[0]["status"] != "active" {
		t.Errorf("hosts %v", hosts)
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+joined["host_id"], nil, nil))
	if err := s.call(&host, "GET", "/auth/v2/check", nil, nil); code(err)/100 != 401 {
		t.Errorf("integration of a revoked host: %v", err)
	}
	if err := s.proved(key, joined["host_id"], "GET", "/sallyport/v1/hosts/self", "", nil, nil); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("key of a revoked host: %v", err)
	}
}

// A proof is good for the very request that it was made for.
func TestProofIsBound(t *testing.T) {
	s := newSite(t)
	key, phone := s.authenticator(s.user("alice"))
	for name, change := range map[string]func(*http.Request){
		"path":  func(r *http.Request) { r.URL.Path += "/x" },
		"query": func(r *http.Request) { r.URL.RawQuery = "wait=1" },
		"method": func(r *http.Request) {
			r.Method = "POST"
			r.URL.Path += "/TX"
		},
		"body": func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1 },
	} {
		err := s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions", "", nil, change)
		if c := code(err); c != duoapi.CodeProofElsewhere && c != duoapi.CodeNotFound && c != duoapi.CodeMethodNotAllowed {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, _ := s.authenticator(s.user("bob"))
	if err := s.proved(other, phone, "GET", "/sallyport/v1/authenticator/transactions", "", nil, nil); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("another key: %v", err)
	}
	s.clock.Add(time.Hour)
	err := s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions", "", nil, func(*http.Request) { s.clock.Add(-2 * time.Hour) })
	if code(err) != duoapi.CodeBadDate {
		t.Errorf("a proof from the future: %v", err)
	}
}

// A waiting authenticator hears of a transaction when it begins, and with seen of
// the next one, or of the end of one.
func TestTransactionsWait(t *testing.T) {
	s := newSite(t)
	key, phone := s.authenticator(s.user("alice"))
	type list struct{ Transactions []struct{ TxID string } }
	wait := func(query string) chan list {
		out := make(chan list, 1)
		go func() {
			var l list
			if err := s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?"+query, "", &l, nil); err != nil {
				t.Error(err)
			}
			out <- l
		}()
		return out
	}
	begin := func() string {
		var pre duoapi.Preauth
		s.must(s.call(s.auth, "POST", "/auth/v2/preauth", map[string]string{"username": "alice", "client_supports_verified_push": "1"}, &pre))
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{
			"username": "alice", "factor": "push", "device": phone, "txid": pre.TxID, "async": "1",
		}, nil))
		return pre.TxID
	}
	first := wait("wait=25")
	tx1 := begin()
	if l := <-first; len(l.Transactions) != 1 || l.Transactions[0].TxID != tx1 {
		t.Fatalf("first %+v", l)
	}
	second := wait("wait=25&seen=" + tx1)
	tx2 := begin()
	if l := <-second; len(l.Transactions) == 0 || l.Transactions[len(l.Transactions)-1].TxID != tx2 {
		t.Fatalf("second %+v", l)
	}
	if l := <-wait("wait=25&seen=" + tx1 + "&seen=gone"); len(l.Transactions) == 0 {
		t.Errorf("with a seen one gone: %+v", l)
	}
	if err := s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=900", "", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a wait of 900 s: %v", err)
	}
}

func TestTelephonyCallbacks(t *testing.T) {
	s := newSiteWith(t, withTelephony(t))
	id := s.user("alice")
	number := "+15551234567"
	phone, err := s.dir.CreatePhone(t.Context(), directory.Actor{}, id, directory.PhoneChange{Number: &number})
	s.must(err)
	call := func() string {
		var out duoapi.Auth
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", map[string]string{
			"username": "alice", "factor": "phone", "device": phone.ID, "async": "1",
		}, &out))
		return out.TxID
	}
	n := 0
	report := func(secret, txID string, extra ...string) error {
		n++
		body := map[string]string{"id": "call_" + txID, "txid": txID}
		for i := 0; i < len(extra); i += 2 {
			body[extra[i]] = extra[i+1]
		}
		return s.report(secret, fmt.Sprint("msg_", n), body)
	}
	status := func(txID string) string {
		var out duoapi.Auth
		s.must(s.call(s.auth, "GET", "/auth/v2/auth_status", map[string]string{"txid": txID}, &out))
		return out.Result + " " + out.Status
	}
	tx := call()
	forged := "whsec_" + strings.Repeat("QUJD", 10)
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"forged":          {report(forged, tx, "event", "keypress", "key", "#"), duoapi.CodeInvalidSignature},
		"another call":    {report(webhookSecret, "NOSUCHTX", "event", "keypress", "key", "#"), duoapi.CodeTxUnknown},
		"another id":      {report(webhookSecret, tx, "event", "keypress", "key", "#", "id", "call_x"), duoapi.CodeTxUnknown},
		"unknown event":   {report(webhookSecret, tx, "event", "sneeze"), duoapi.CodeInvalidParameter},
		"keypress no key": {report(webhookSecret, tx, "event", "keypress"), duoapi.CodeInvalidParameter},
	} {
		if code(c.err) != c.want {
			t.Errorf("%s: %v, want %d", name, c.err, c.want)
		}
	}
	s.must(report(webhookSecret, tx, "event", "answered"))
	s.must(report(webhookSecret, tx, "event", "keypress", "key", "5")) // no meaning
	s.must(report(webhookSecret, tx, "event", "keypress", "key", "#"))
	if got := status(tx); got != "allow allow" {
		t.Errorf("after the approve key: %s", got)
	}
	if err := report(webhookSecret, tx, "event", "keypress", "key", "*"); code(err) != duoapi.CodeTxAnswered {
		t.Errorf("a key after the decision: %v", err)
	}
	late := call()
	s.clock.Add(2 * time.Minute)
	if err := report(webhookSecret, late, "event", "keypress", "key", "#"); code(err) != duoapi.CodeTxExpired {
		t.Errorf("a late key: %v", err)
	}
	s.clock.Add(-2 * time.Minute)
	fraud := call()
	s.must(report(webhookSecret, fraud, "event", "keypress", "key", "*"))
	if got := status(fraud); got != "deny fraud" {
		t.Errorf("after the fraud key: %s", got)
	}
}

func TestTelephonyOff(t *testing.T) {
	s := newSite(t)
	if err := s.report(webhookSecret, "m", map[string]string{"id": "a", "txid": "b", "event": "answered"}); code(err) != duoapi.CodeInvalidSignature {
		t.Errorf("got %v", err)
	}
}

func TestEnroll(t *testing.T) {
	s := newSite(t)
	var e duoapi.Enroll
	s.must(s.call(s.auth, "POST", "/auth/v2/enroll", map[string]string{"username": "Dora", "bypass_codes": "2", "valid_secs": "600"}, &e))
	if e.Username != "dora" || len(e.BypassCodes) != 2 || !strings.Contains(e.ActivationURL, "/sallyport/activate#sa1.") {
		t.Errorf("enroll %+v", e)
	}
	status := func(code string) (out string) {
		s.must(s.call(s.auth, "POST", "/auth/v2/enroll_status", map[string]string{"user_id": e.UserID, "activation_code": code}, &out))
		return out
	}
	if got := status(e.ActivationCode); got != "waiting" {
		t.Errorf("before: %s", got)
	}
	if got := status("nonsense"); got != "invalid" {
		t.Errorf("nonsense: %s", got)
	}
	var other string
	s.must(s.call(s.auth, "POST", "/auth/v2/enroll_status", map[string]string{
		"user_id": s.user("eve"), "activation_code": e.ActivationCode,
	}, &other))
	if other != "invalid" {
		t.Errorf("another user's code: %s", other)
	}
	s.must(s.activate(s.newKey(), e.ActivationURL, nil))
	if got := status(e.ActivationCode); got != "success" {
		t.Errorf("after: %s", got)
	}
	if err := s.call(s.auth, "POST", "/auth/v2/enroll", map[string]string{"username": "dora"}, nil); code(err) != duoapi.CodeConflict {
		t.Errorf("enrolled again: %v", err)
	}
	res, err := s.admin.HTTP.Get(e.ActivationBarcode)
	s.must(err)
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || !strings.HasPrefix(string(b), "\x89PNG") {
		t.Errorf("barcode: %d %q", res.StatusCode, b[:min(8, len(b))])
	}
	if err := s.open("GET", "/frame/qr?value=https://evil.example/", "", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a picture of another link: %v", err)
	}
}

// A request that is cut off by a stop of the server is not answered with a denial.
func TestStopDeniesNobody(t *testing.T) {
	s := newSite(t)
	key, phone := s.authenticator(s.user("alice"))
	failed := make(chan error, 1)
	go func() {
		failed <- s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=25", "", nil, nil)
	}()
	for s.hub.Waiters(push.Phone(phone)) == 0 { // until the request is one that waits
		select {
		case err := <-failed:
			t.Fatalf("the request ended before it waited: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	s.https.CloseClientConnections()
	var e *duoapi.Error
	if err := <-failed; err == nil || errors.As(err, &e) {
		t.Errorf("got %v, want a broken connection", err)
	}
}
