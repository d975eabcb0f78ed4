// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport-verifier": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits N COMMAND ARG… runs a command that ends with exit code N, and with a line
// on standard error unless N is 0.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%q ends with %d, want %d", args[1:], got, want)
	}
	if want != 0 && ts.ReadFile("stderr") == "" {
		ts.Fatalf("%q says nothing about why it failed", args[1:])
	}
}

// output is a buffer for a server's log.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// running is a server on a data directory.
type running struct {
	t    *testing.T
	dir  string
	log  *output
	addr string
	stop func() error
}

func start(t *testing.T, o datadir.InitOptions) *running {
	t.Helper()
	o.URL, o.Listen = "https://127.0.0.1:8443", "127.0.0.1:0"
	if err := datadir.Init(t.Context(), o, time.Now); err != nil {
		t.Fatal(err)
	}
	return startOn(t, o.Dir)
}

// startOn serves from a data directory that is there, on another port.
func startOn(t *testing.T, dir string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, dir: dir, log: &output{}}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, r.log, dir, "") }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = r.stop() })
	address := regexp.MustCompile(`msg=serving .* listen=(\S+)`)
	r.await(func() bool {
		m := address.FindStringSubmatch(r.log.String())
		if m != nil {
			r.addr = m[1]
		}
		return m != nil
	})
	return r
}

func (r *running) await(ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("gave up waiting; log:\n%s", r.log)
		}
	}
}

// admin calls the Admin API with what admin.json holds.
func (r *running) admin(text []byte) error {
	r.t.Helper()
	c := r.client(text)
	defer c.HTTP.CloseIdleConnections()
	_, err := c.Call(r.t.Context(), "GET", "/admin/v1/users", url.Values{}, nil)
	return err
}

// client speaks to the server with what admin.json holds.
func (r *running) client(text []byte) *duoapi.Client {
	r.t.Helper()
	var a duoapi.Profile
	if err := json.Unmarshal(text, &a); err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(a.CAFile)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		r.t.Fatalf("CA %q: %v", a.CAFile, err)
	}
	return &duoapi.Client{
		BaseURL: &url.URL{Scheme: "https", Host: r.addr}, IntegrationKey: a.IntegrationKey, Secret: []byte(a.SecretKey), Now: time.Now,
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}},
	}
}

func (r *running) read(name string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func TestServe(t *testing.T) {
	r := start(t, datadir.InitOptions{Dir: filepath.Join(t.TempDir(), "d")})
	lost := r.read(config.AdminFile)
	if err := r.admin(lost); err != nil {
		t.Fatal(err)
	}
	second := serve(t.Context(), &output{}, r.dir, "")
	if second == nil || !strings.Contains(second.Error(), "another sallyport-verifier (pid "+strconv.Itoa(os.Getpid())+") serves") {
		t.Errorf("a second server: %v", second)
	}

	// An administrator's key is replaced under the running server.
	data, err := datadir.Open(t.Context(), r.dir, "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(data.RecoverAdmin(t.Context(), ""), data.Close()); err != nil {
		t.Fatal(err)
	}
	r.await(func() bool { // another process' change is seen within a second
		var refused *duoapi.Error
		return errors.As(r.admin(lost), &refused) && refused.Code == duoapi.CodeInvalidKey
	})
	if err := r.admin(r.read(config.AdminFile)); err != nil {
		t.Errorf("the key in its place: %v", err)
	}

	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	release, err := datadir.Lock(r.dir)
	if err != nil {
		t.Fatalf("after the end: %v", err)
	}
	release()
}

func TestReloadOfGivenCertificates(t *testing.T) {
	tmp := t.TempDir()
	certFile, keyFile := filepath.Join(tmp, "tls.pem"), filepath.Join(tmp, "tls.key")
	issue := func() {
		ca, err := certs.NewCA("127.0.0.1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.Issue("127.0.0.1", certFile, keyFile, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	issue()
	r := start(t, datadir.InitOptions{Dir: filepath.Join(tmp, "d"), CertFile: certFile, KeyFile: keyFile})
	shown := func() string {
		c, err := tls.Dial("tcp", r.addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	issue()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.await(func() bool { return shown() != before })

	// Files that cannot be read leave the certificate in use.
	after := shown()
	if err := os.WriteFile(certFile, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.await(func() bool { return strings.Contains(r.log.String(), "the certificate in use stays") })
	if shown() != after {
		t.Error("the certificate in use is lost")
	}
}
