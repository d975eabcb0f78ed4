// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// built makes a program of this repository and returns its path.
func built(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("go", "build", "-o", path, "github.com/sallyport-mfa/sallyport/cmd/"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

const (
	authKey    = "DISTRESSSTRESSSTRESS"
	authSecret = "stressstressstressstressstressstressstre"
)

// process is a verifier in a process of its own, on a data directory.
type process struct {
	testing.TB
	program string
	dir     string
	base    *url.URL
	roots   *x509.CertPool
	log     *os.File
	cmd     *exec.Cmd
}

// newProcess makes a data directory in dir, which populate fills; the program is not started yet.
func newProcess(t testing.TB, dir string, populate func(*datadir.Data) error) *process {
	t.Helper()
	p := &process{TB: t, program: built(t, "sallyport-verifier"), dir: filepath.Join(dir, "data"), roots: x509.NewCertPool()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.must(err)
	p.base = &url.URL{Scheme: "https", Host: l.Addr().String()}
	p.must(l.Close()) // the program takes it; nothing else here asks for a port meanwhile
	ctx := context.Background()
	p.must(datadir.Init(ctx, datadir.InitOptions{Dir: p.dir, URL: p.base.String(), Listen: p.base.Host}, time.Now))
	data, err := datadir.Open(ctx, p.dir, "", time.Now)
	p.must(err)
	p.roots.AppendCertsFromPEM([]byte(data.CAPEM))
	p.must(data.Store.Update(ctx, func(w store.Writer) error {
		set, err := w.Settings()
		set.LockoutThreshold, set.PushBudget, set.PushDelay = 9999, 1000, 0 // none of these tests is about the lock-out
		return errors.Join(err, w.SetSettings(set), w.AddIntegration(store.Integration{
			Key: authKey, Name: "sshd", Type: store.AuthAPI, SecretSealed: data.Keys.Seal([]byte(authSecret), "integration", authKey),
			NamePolicy: store.NameSimple, EnrollPolicy: store.EnrollDeny, Created: time.Now(),
		}))
	}))
	p.must(errors.Join(populate(data), data.Close()))
	p.log, err = os.Create(filepath.Join(t.TempDir(), "log"))
	p.must(err)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			if text, err := os.ReadFile(p.log.Name()); err == nil {
				t.Logf("the verifier's log ends:\n%s", text[max(0, len(text)-8000):])
			}
		}
		_ = p.log.Close()
	})
	return p
}

func (p *process) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// start starts the program and does not wait until it serves.
func (p *process) start() {
	p.Helper()
	p.cmd = exec.Command(p.program, "serve", "--data", p.dir)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.must(p.cmd.Start())
}

// kill ends the program as a power cut would end it, as far as a process can tell.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// serving waits until the program answers.
func (p *process) serving() {
	p.Helper()
	c := p.client()
	defer c.HTTP.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := c.Call(context.Background(), http.MethodGet, "/auth/v2/check", nil, nil)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("the verifier does not serve: %v", err)
		}
	}
}

// client is a host with connections of its own.
func (p *process) client() *duoapi.Client {
	return &duoapi.Client{
		BaseURL: p.base, IntegrationKey: authKey, Secret: []byte(authSecret), Now: time.Now, Nonce: duoapi.RandomNonce,
		HTTP: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		}},
	}
}

// look opens the store beside the program that serves from it.
func (p *process) look(f func(*sqlite.DB, store.Reader) error) {
	p.Helper()
	p.lookAt(filepath.Join(p.dir, config.Database), f)
}

func (p *process) lookAt(path string, f func(*sqlite.DB, store.Reader) error) {
	p.Helper()
	db, err := sqlite.Open(context.Background(), path)
	p.must(err)
	err = db.View(context.Background(), func(r store.Reader) error { return f(db, r) })
	p.must(errors.Join(err, db.Close()))
}

// logIn tries a passcode. No answer at all is an error; a refusal is none.
func logIn(c *duoapi.Client, user, passcode string) (duoapi.Auth, error) {
	var out duoapi.Auth
	_, err := c.Call(context.Background(), http.MethodPost, "/auth/v2/auth", url.Values{
		"username": {user}, "factor": {duoapi.FactorPasscode}, "passcode": {passcode}, "sallyport_passport": {"1"},
	}, &out)
	return out, err
}
