// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

//go:embed testdata/duo_client_session.py
var duoClientSession []byte

//go:embed testdata/duo_client_all.py
var duoClientAll []byte

// leftOutPage is the one source of what is left out, and why.
const leftOutPage = "../../docs/reference/admin-api-left-out.md"

// integration is what `sallyport admin integration add --json` prints.
type integration struct {
	Key    string `json:"integration_key"`
	Secret string `json:"secret_key"`
}

// pyCall is one call of a method of duo_client.Auth and its answer.
type pyCall struct {
	method    string
	arguments map[string]any
}

type pyAnswer struct {
	Result map[string]any `json:"result"`
	Error  string         `json:"error"`
	Status int            `json:"status"`
}

func (i integration) python(t *testing.T, calls ...pyCall) []pyAnswer {
	t.Helper()
	script := "/usr/local/lib/duo_client_session_" + i.Key + ".py" // a test's own: others write theirs at the same time
	must(t, town.client.Put(t.Context(), harness.File{Path: script, Mode: 0o755, Data: duoClientSession}))
	list := make([][]any, 0, len(calls))
	for _, c := range calls {
		arguments := c.arguments
		if arguments == nil {
			arguments = map[string]any{}
		}
		list = append(list, []any{c.method, arguments})
	}
	session, err := json.Marshal(map[string]any{
		"ikey": i.Key, "skey": i.Secret, "host": "verifier", "port": 8443, "ca": verifierCA, "calls": list,
	})
	must(t, err)
	out, err := town.client.Run(t.Context(), harness.Command{
		Args:  []string{"python3", script},
		Stdin: bytes.NewReader(session),
	})
	must(t, err)
	var answers []pyAnswer
	if err := json.Unmarshal([]byte(out.Stdout), &answers); err != nil || len(answers) != len(calls) {
		t.Fatalf("duo_client: %v: %s", err, out.Output())
	}
	return answers
}

// application makes an integration for one that cannot show digits and signs
// with SHA-1, as python3-duo-client 4.5.0 does.
func application(t *testing.T, name string, flags ...string) integration {
	t.Helper()
	return town.application(t, name, flags...)
}

// application registers a client of the Auth API at the site.
func (s *site) application(t *testing.T, name string, flags ...string) integration {
	t.Helper()
	var i integration
	s.admin(t, &i, append([]string{"integration", "add", "--type", "authapi", "--name", name}, flags...)...)
	return i
}

// Debian's python3-duo-client works unmodified: it sends signature v2 with SHA-1,
// form bodies and no server name in TLS.
func TestDuoClientOfDebian(t *testing.T) {
	t.Parallel()
	app := application(t, "python client", "--allow-sha1", "--allow-plain-push")
	p := town.person(t, "python")
	token := p.hotp(t)
	phone := p.authenticator(t)

	good, bad := token.next(), token.wrong()
	answers := app.python(t,
		pyCall{"ping", nil},
		pyCall{"check", nil},
		pyCall{"preauth", map[string]any{"username": p.name, "ipaddr": "192.0.2.7"}},
		pyCall{"auth", map[string]any{"factor": "passcode", "username": p.name, "passcode": bad}},
		pyCall{"auth", map[string]any{"factor": "passcode", "username": p.name, "passcode": good}},
		pyCall{"auth", map[string]any{"factor": "passcode", "username": p.name, "passcode": good}},
		pyCall{"preauth", map[string]any{"username": "nobody at all"}},
		pyCall{"auth", map[string]any{"factor": "push", "username": p.name, "device": "auto", "async_txn": true}},
	)
	for i, want := range []map[string]any{
		{"time": nil},
		{"time": nil},
		{"result": "auth"},
		{"result": "deny"},
		{"result": "allow", "status": "allow"},
		{"result": "deny"},
		{"result": "enroll"},
		{"txid": nil},
	} {
		if answers[i].Error != "" {
			t.Errorf("call %d: %s", i, answers[i].Error)
		}
		for key, value := range want {
			got, ok := answers[i].Result[key]
			if !ok || value != nil && got != value {
				t.Errorf("call %d: %s is %v, want %v; whole answer: %v", i, key, got, value, answers[i].Result)
			}
		}
	}

	// The push that the last call began, without digits because this client cannot
	// show any, is approved and then reported.
	txid := answers[len(answers)-1].Result["txid"]
	waiting := app.python(t, pyCall{"auth_status", map[string]any{"txid": txid}})[0].Result
	if waiting["waiting"] != true || waiting["status"] != "pushed" {
		t.Errorf("before the approval: %v", waiting)
	}
	if out := phone.approve(""); out.Code != 0 {
		t.Fatalf("approve: %s", out.Output())
	}
	done := app.python(t, pyCall{"auth_status", map[string]any{"txid": txid}})[0].Result
	if done["success"] != true {
		t.Errorf("after the approval: %v", done)
	}
}

// SHA-1 and plain push are for integrations that say so.
func TestDuoClientWithoutLeave(t *testing.T) {
	t.Parallel()
	p := town.person(t, "strict")
	phone := p.authenticator(t)
	_ = phone

	sha512 := application(t, "no sha1")
	answer := sha512.python(t, pyCall{"check", nil})[0]
	if answer.Status != 401 || !strings.Contains(answer.Error, "401") {
		t.Errorf("a signature with SHA-1 was answered with %+v, want 401", answer)
	}

	verified := application(t, "no plain push", "--allow-sha1")
	answer = verified.python(t, pyCall{"auth", map[string]any{"factor": "push", "username": p.name, "device": "auto"}})[0]
	if answer.Result["result"] == "allow" || answer.Status >= 500 || answer.Status == 401 {
		t.Errorf("a push without digits was answered with %+v", answer)
	}
}

// Every method that the Admin and Auth classes of Debian's python3-duo-client have,
// found by introspection, gives what its caller expects, or is left out as the
// reference says.
func TestDuoClientWhole(t *testing.T) {
	t.Parallel()
	s := ownSite(t)
	var admin, app integration
	s.admin(t, &admin, "integration", "add", "--type", "adminapi", "--name", "python admin", "--allow-sha1", "--grant", "all")
	s.admin(t, &app, "integration", "add", "--type", "authapi", "--name", "python auth", "--allow-sha1", "--allow-plain-push")
	const script = "/usr/local/lib/duo_client_all.py"
	must(t, s.client.Put(t.Context(), harness.File{Path: script, Mode: 0o755, Data: duoClientAll}))
	session, err := json.Marshal(map[string]any{
		"admin": map[string]string{"ikey": admin.Key, "skey": admin.Secret},
		"auth":  map[string]string{"ikey": app.Key, "skey": app.Secret},
		"host":  "verifier", "port": 8443, "ca": verifierCA,
	})
	must(t, err)
	out, err := s.client.Run(t.Context(), harness.Command{Args: []string{"python3", script}, Stdin: bytes.NewReader(session)})
	must(t, err)
	var report struct {
		Problems []string          `json:"problems"`
		Calls    map[string]int    `json:"calls"`
		LeftOut  map[string]string `json:"left_out"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &report); err != nil {
		t.Fatalf("%v: %s", err, out.Output())
	}
	for _, problem := range report.Problems {
		t.Error(problem)
	}
	documented := leftOut(t)
	for call := range report.LeftOut {
		method, path, _ := strings.Cut(call, " ")
		if _, pattern := documented.Handler(httptest.NewRequest(method, "https://verifier"+path, nil)); pattern == "" {
			t.Errorf("%s answers that it is left out, and %s does not say so", call, leftOutPage)
		}
	}
	if len(report.LeftOut) == 0 || len(report.Calls) < 100 {
		t.Errorf("%d methods called, %d calls left out", len(report.Calls), len(report.LeftOut))
	}
	t.Logf("%d methods called; left out: %v", len(report.Calls), report.LeftOut)
}

// leftOut matches the calls that the reference says are left out.
func leftOut(t *testing.T) *http.ServeMux {
	t.Helper()
	page, err := os.ReadFile(leftOutPage)
	must(t, err)
	mux := http.NewServeMux()
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.Contains(cells[1], "`") {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			mux.Handle(m[1], http.NotFoundHandler())
		}
	}
	return mux
}
