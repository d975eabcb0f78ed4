// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
)

// verifier is a real sallyport-verifier of its own, in a process of its own.
type verifier struct {
	URL     string
	Profile string // its admin.json
	CAFile  string
	stop    func() error
}

// buildVerifier makes the program once for all tests.
func buildVerifier(dir string) (string, error) {
	path := filepath.Join(dir, "sallyport-verifier")
	out, err := exec.Command("go", "build", "-o", path, "github.com/sallyport-mfa/sallyport/cmd/sallyport-verifier").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build sallyport-verifier: %w\n%s", err, out)
	}
	return path, nil
}

// startVerifier makes a verifier in dir and waits until it serves.
func startVerifier(dir string) (*verifier, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	v := &verifier{URL: "https://" + address, Profile: filepath.Join(data, "admin.json")}
	if out, err := exec.Command(verifierProgram, "init", "--data", data, "--url", v.URL, "--listen", address).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("init: %w\n%s", err, out)
	}
	if v.stop, err = serveVerifier(data); err != nil {
		return nil, err
	}
	if err := v.readCA(); err != nil {
		return nil, errors.Join(err, v.stop())
	}
	if err := v.wait(); err != nil {
		text, _ := os.ReadFile(data + ".log")
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), v.stop())
	}
	return v, nil
}

// serveVerifier serves from a data folder until stop is called.
func serveVerifier(data string) (stop func() error, err error) {
	log, err := os.OpenFile(data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	serve := exec.Command(verifierProgram, "serve", "--data", data)
	serve.Stdout, serve.Stderr = log, log
	if err := serve.Start(); err != nil {
		return nil, err
	}
	return func() error {
		err := serve.Process.Signal(syscall.SIGTERM)
		return errors.Join(err, serve.Wait(), log.Close())
	}, nil
}

func (v *verifier) readCA() error {
	p, err := readProfile(v.Profile)
	v.CAFile = p.CAFile
	return err
}

func (v *verifier) http() (*http.Client, error) {
	text, err := os.ReadFile(v.CAFile)
	if err != nil {
		return nil, err
	}
	roots, err := invite.ParseCA(text)
	if err != nil {
		return nil, err
	}
	return agentapi.HTTPClient(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, 40*time.Second), nil
}

func (v *verifier) wait() error {
	client, err := v.http()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		res, err := client.Get(v.URL + "/auth/v2/ping")
		if err == nil {
			return res.Body.Close()
		}
	}
	return errors.New("the verifier does not serve")
}

// api is a client of the Auth API with an integration's key.
func (v *verifier) api(key, secret string) (*duoapi.Client, error) {
	client, err := v.http()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(v.URL)
	if err != nil {
		return nil, err
	}
	return &duoapi.Client{BaseURL: base, IntegrationKey: key, Secret: []byte(secret), HTTP: client, Now: time.Now, Nonce: duoapi.RandomNonce}, nil
}

// startPush begins a login by push; verified: with digits.
func startPush(ctx context.Context, api *duoapi.Client, user string, verified bool) (txid, code string, err error) {
	params := url.Values{"username": {user}, "hostname": {"db1.example"}, "ipaddr": {"192.0.2.7"}}
	if verified {
		params.Set("client_supports_verified_push", "1")
	}
	var pre duoapi.Preauth
	if _, err := api.Call(ctx, http.MethodPost, "/auth/v2/preauth", params, &pre); err != nil {
		return "", "", err
	}
	if pre.Result != duoapi.ResultAuth {
		return "", "", fmt.Errorf("preauth says %q: %s", pre.Result, pre.StatusMsg)
	}
	auth := url.Values{
		"username": {user}, "factor": {"push"}, "device": {"auto"}, "async": {"1"}, "type": {"SSH login"},
		"hostname": {"db1.example"}, "ipaddr": {"192.0.2.7"}, "pushinfo": {"command=ls%20-l"},
	}
	if verified {
		auth.Set("txid", pre.TxID)
	}
	var out duoapi.Auth
	if _, err := api.Call(ctx, http.MethodPost, "/auth/v2/auth", auth, &out); err != nil {
		return "", "", err
	}
	return out.TxID, pre.VerificationCode, nil
}

// outcome waits for the end of a transaction.
func outcome(ctx context.Context, api *duoapi.Client, txid string) (duoapi.Auth, error) {
	for {
		var out duoapi.Auth
		if _, err := api.Call(ctx, http.MethodGet, "/auth/v2/auth_status", url.Values{"txid": {txid}}, &out); err != nil {
			return out, err
		}
		if out.Result != duoapi.ResultWaiting {
			return out, nil
		}
	}
}

// run runs the command with a state folder and a profile, and returns its output.
func (v *verifier) run(t *testing.T, home string, args ...string) string {
	t.Helper()
	c := v.command(t, home, args...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("sallyport %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return string(out)
}

// command is the test binary as sallyport.
func (v *verifier) command(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), runAsSallyport+"=1", "HOME="+home, "XDG_STATE_HOME="+home, "TZ=UTC", profileEnv+"="+v.Profile)
	return c
}

// field is a member of JSON by a path such as 0.user.name.
func field(text, path string) (string, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(path, ".") {
		switch c := v.(type) {
		case map[string]any:
			v = c[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(c) {
				return "", fmt.Errorf("%s: no element %s", path, name)
			}
			v = c[i]
		default:
			return "", fmt.Errorf("%s: nothing at %s", path, name)
		}
	}
	if v == nil {
		return "", fmt.Errorf("%s is not there", path)
	}
	return fmt.Sprint(v), nil
}

func loginByPasscode(ctx context.Context, api *duoapi.Client, user, code string) (bool, error) {
	var out duoapi.Auth
	_, err := api.Call(ctx, http.MethodPost, "/auth/v2/auth", url.Values{"username": {user}, "factor": {"passcode"}, "passcode": {code}}, &out)
	return out.Result == duoapi.ResultAllow, err
}
