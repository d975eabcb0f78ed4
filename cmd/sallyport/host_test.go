// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
)

// verifierThatSays answers every join with what answer makes of the request,
// and returns its address and a token that fits its CA.
func verifierThatSays(t *testing.T, answer func(w http.ResponseWriter, hostID string)) (string, invite.Token) {
	t.Helper()
	dir := t.TempDir()
	ca, err := certs.NewCA("127.0.0.1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	caFile, certFile, keyFile := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	if err := ca.Save(caFile, filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if err := ca.Issue("127.0.0.1", certFile, keyFile, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.ReadCert(caFile)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent agentapi.Join
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			t.Error(err)
		}
		key, err := keyproof.DecodeKey(sent.PublicKey)
		if err != nil {
			t.Error(err)
			return
		}
		id, err := keyproof.ID(agentapi.HostPrefix, key)
		if err != nil {
			t.Error(err)
		}
		answer(w, id)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, invite.New(invite.Join, invite.PinOf(cert))
}

// A host behind a proxy joins through it, and authd is told of it.
func TestJoinThroughAProxy(t *testing.T) {
	t.Parallel()
	url, token := verifierThatSays(t, func(w http.ResponseWriter, id string) {
		fmt.Fprintf(w, `{"stat":"OK","response":{"host_id":%q,"integration_key":"DI1","secret_key":"s"}}`, id)
	})
	proxy := verifiertest.NewProxy(t, true)
	proxy.Credentials = true
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	join := func(text string, more ...string) (string, string) {
		if err := os.WriteFile(password, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		term := &cli.Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Now: time.Now}
		root := newRoot(&app{Terminal: term, env: func(string) string { return "" }})
		into := t.TempDir()
		root.SetArgs(append([]string{"host", "join", url, "--token", token.String(), "--name", "db1", "--config-dir", into}, more...))
		term.Fail("sallyport", root.ExecuteContext(t.Context()))
		return into, errs.String()
	}
	all := []string{"--proxy", proxy.URL.String(), "--proxy-user", verifiertest.ProxyUser, "--proxy-password-file", password, "--proxy-ca-file", proxy.CAFile}

	into, said := join(verifiertest.ProxyPassword, all...)
	c, err := config.Load(filepath.Join(into, "authd.toml"))
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if way := c.Verifier.Way(); way == nil || way.URL.String() != proxy.URL.String() || way.Password != verifiertest.ProxyPassword {
		t.Errorf("authd.toml names the way %+v", way)
	}
	if len(proxy.Targets()) != 1 {
		t.Errorf("tunnels: %q", proxy.Targets())
	}
	for want, try := range map[string]func() (string, string){
		"refused the credentials": func() (string, string) { return join("wrong", all...) },
		"need --proxy":            func() (string, string) { return join("x", all[2:]...) },
		"belong together":         func() (string, string) { return join("x", all[:4]...) },
	} {
		if into, said := try(); !strings.Contains(said, want) || len(contents(t, into)) > 0 {
			t.Errorf("said %q, want %q", said, want)
		}
	}
}

// Whatever a verifier says, a join that fails leaves nothing behind.
func TestJoinLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	joinedAs := func(id, key, secret string) string {
		return fmt.Sprintf(`{"stat":"OK","response":{"host_id":%q,"integration_key":%q,"secret_key":%q}}`, id, key, secret)
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, id string)
		want   string
	}{
		"another host":             {func(w http.ResponseWriter, _ string) { fmt.Fprint(w, joinedAs("HOX", "DI1", "s")) }, "answered for another host"},
		"no secret":                {func(w http.ResponseWriter, id string) { fmt.Fprint(w, joinedAs(id, "DI1", "")) }, "gave no integration"},
		"a key that authd refuses": {func(w http.ResponseWriter, id string) { fmt.Fprint(w, joinedAs(id, "DI\n[x]", "s")) }, "integration_key is missing or malformed"},
		"refusal": {func(w http.ResponseWriter, _ string) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"stat":"FAIL","code":40312,"message":"Join token has expired\u001b[2J"}`)
		}, `expired\x1b[2J; make another one`},
		"garbage": {func(w http.ResponseWriter, _ string) { fmt.Fprint(w, "<html>") }, "malformed answer"},
		"failure": {func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusBadGateway) }, "malformed answer"},
	} {
		t.Run(name, func(t *testing.T) {
			url, token := verifierThatSays(t, c.answer)
			dir := t.TempDir()
			var out, errs bytes.Buffer
			term := &cli.Terminal{In: strings.NewReader(""), Out: &out, Err: &errs, Now: time.Now}
			root := newRoot(&app{Terminal: term, env: func(string) string { return "" }})
			root.SetArgs([]string{"host", "join", url, "--token", token.String(), "--name", "db1", "--config-dir", dir})
			if code := term.Fail("sallyport", root.ExecuteContext(t.Context())); code != cli.ExitFailed {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(errs.String(), c.want) || strings.ContainsRune(errs.String(), '\x1b') {
				t.Errorf("error %q, want %q", errs.String(), c.want)
			}
			if left := contents(t, dir); len(left) > 0 || out.Len() > 0 {
				t.Errorf("left over: %v; said %q", left, out.String())
			}
		})
	}
}
