// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/metrics"
)

// run runs a command of the program in this process.
func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var buf bytes.Buffer
	cmd := newCommand(&cli.Terminal{In: strings.NewReader(""), Out: &buf, Err: io.Discard})
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return buf.String(), err
}

func page(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestOperations: readiness for strangers, status and metrics for those who may,
// and keys that change under logins.
func TestOperations(t *testing.T) {
	settle = 100 * time.Millisecond
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep", 30)) // too deep for the name of a socket
	if _, err := run(t, "status", "--data", dir); err == nil || !strings.Contains(err.Error(), "no verifier serves it") {
		t.Errorf("status without a verifier: %v", err)
	}
	if err := datadir.Init(t.Context(), datadir.InitOptions{Dir: dir, URL: "https://127.0.0.1:8443", Listen: "127.0.0.1:0"}, time.Now); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "m.sock")
	f, err := os.OpenFile(filepath.Join(dir, config.FileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("[metrics]\nlisten = \"unix:" + socket + "\"\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := startOn(t, dir)
	public := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer public.CloseIdleConnections()
	if code, body := page(t, public, "https://"+r.addr+"/readyz"); code != http.StatusOK ||
		strings.TrimSpace(body) != `{"checks":{"certificate":true,"clock":true,"store":true},"stat":"OK"}` {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, body := page(t, public, "https://"+r.addr+"/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics for everybody: %d %s", code, body)
	}
	a := enrol(t, r)
	var load sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	load.Go(func() {
		for ctx.Err() == nil {
			if ok, err := passcode(a.app, a.forever); err != nil || !ok {
				t.Errorf("a login during the rotation: %v, %v", ok, err)
				return
			}
		}
	})
	r.await(func() bool { _, err := os.Stat(filepath.Join(dir, "control.sock")); return err == nil })
	out, err := run(t, "rotate-keys", "--data", dir)
	cancel()
	load.Wait()
	if err != nil || !strings.Contains(out, "Key 2 seals; 4 secrets were sealed anew") {
		t.Errorf("rotate-keys: %q, %v", out, err)
	}
	if ok, err := passcode(a.app, a.forever); err != nil || !ok {
		t.Errorf("a login after the rotation: %v, %v", ok, err)
	}
	out, err = run(t, "status", "--data", dir, "--json")
	var report metrics.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("status %q: %v", out, err)
	}
	if err != nil || !report.Ready || len(report.Checks) != 3 || len(report.Keys) != 1 || report.Keys[0] != 2 || report.PID != os.Getpid() {
		t.Errorf("status %s: %v", out, err)
	}
	if out, err := run(t, "status", "--data", dir); err != nil || !strings.Contains(out, "certificate   good") {
		t.Errorf("status %q: %v", out, err)
	}
	var local http.Client
	local.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer local.CloseIdleConnections()
	code, text := page(t, &local, "http://verifier/metrics")
	for _, want := range []string{
		`sallyport_verifier_authentications_total{factor="bypass_code",reason="valid_passcode",result="success"}`,
		`sallyport_verifier_request_duration_seconds_count{code="200",route="POST /auth/v2/auth"}`,
		`sallyport_verifier_store_duration_seconds_count{operation="update"}`, `sallyport_verifier_ready{check="store"} 1`,
		"sallyport_verifier_certificate_expiry_time_seconds", "sallyport_verifier_waiting 0", "sallyport_verifier_keys 1",
		`sallyport_verifier_store_errors_total{operation="update"} 0`, `sallyport_verifier_alarms_total{action="push_fatigue"} 0`,
	} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	if strings.Contains(text, "alice") {
		t.Error("metrics name a person")
	}
	if t.Failed() {
		t.Log(text)
	}
	if code, _ := page(t, &local, "http://verifier/status"); code != http.StatusNotFound {
		t.Errorf("the metrics' socket tells more: %d", code)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Without a server the command does it itself, and the server then opens everything.
	if out, err := run(t, "rotate-keys", "--data", dir, "--json"); err != nil || !strings.Contains(out, `"key": 3`) {
		t.Errorf("rotate-keys without a server: %q, %v", out, err)
	}
	again := startOn(t, dir)
	a.app.BaseURL.Host = again.addr
	if ok, err := passcode(a.app, a.forever); err != nil || !ok {
		t.Errorf("a login after that: %v, %v", ok, err)
	}
}
