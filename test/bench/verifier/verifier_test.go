// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	users  = 1024
	key    = "DIBENCHBENCHBENCHBEN"
	secret = "benchbenchbenchbenchbenchbenchbenchbench"
	seed   = "12345678901234567890"
)

// place is a verifier and a bare handler on loopback with one certificate.
type place struct {
	verifier, bare *url.URL
	pool           *x509.CertPool
	data           *datadir.Data
	srv            *server.Server
	next           [users]atomic.Int64 // HOTP counters, so that each code is fresh
}

func newPlace(b *testing.B) *place {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "data")
	l := listen(b)
	p := &place{verifier: &url.URL{Scheme: "https", Host: l.Addr().String()}, pool: x509.NewCertPool()}
	options := datadir.InitOptions{Dir: dir, URL: p.verifier.String()}
	if err := datadir.Init(context.Background(), options, time.Now); err != nil {
		b.Fatal(err)
	}
	data, err := datadir.Open(context.Background(), dir, "", time.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = data.Close() })
	p.data = data
	p.pool.AppendCertsFromPEM([]byte(data.CAPEM))
	populate(b, data)

	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	hub := &push.Local{}
	service, err := login.New(login.Config{
		Store: data.Store, Keys: data.Keys, Hub: hub, Audience: p.verifier.String(), Now: time.Now, Random: rand.Reader, Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	p.srv = server.New(server.Config{
		Base: p.verifier, Store: data.Store, Keys: data.Keys, Login: service, Hub: hub, Directory: data.Directory,
		Certs: data.Certs, CAPEM: data.CAPEM, Now: time.Now, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.srv.Serve(ctx, l) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	p.bare = serveBare(b, data.Certs.GetCertificate)
	return p
}

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// populate adds an integration and the users, each with a token of its own.
func populate(b *testing.B, data *datadir.Data) {
	b.Helper()
	now := time.Now()
	err := data.Store.Update(context.Background(), func(w store.Writer) error {
		errs := []error{w.AddIntegration(store.Integration{
			Key: key, Name: "bench", Type: store.AuthAPI, SecretSealed: data.Keys.Seal([]byte(secret), "integration", key),
			NamePolicy: store.NameSimple, EnrollPolicy: store.EnrollDeny, Created: now,
		})}
		errs = append(errs, w.AddUser(store.User{ID: "DUUNENROLLED", Username: unenrolled, Status: store.Active, Created: now}))
		for i := range users {
			id := fmt.Sprintf("%018d", i)
			errs = append(errs,
				w.AddUser(store.User{ID: "DU" + id, Username: username(i), Status: store.Active, Created: now}),
				w.AddToken(store.Token{
					ID: "DH" + id, Type: store.HOTP6, Serial: id, SecretSealed: data.Keys.Seal([]byte(seed), "token", "DH"+id), Created: now,
				}),
				w.AttachToken("DU"+id, "DH"+id))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// unenrolled is a user who has nothing to log in with.
const unenrolled = "unenrolled"

func username(i int) string { return fmt.Sprintf("user%d", i) }

// serveBare answers every request with the same few bytes once its signature fits.
func serveBare(b *testing.B, cert func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *url.URL {
	b.Helper()
	schemes := []signature.Scheme{{Version: signature.V2, Digest: signature.SHA512}}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{GetCertificate: cert, MinVersion: tls.VersionTLS12},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				var req signature.Request
				var cred signature.Credentials
				if req, cred, err = signature.Parse(r, body); err == nil {
					_, err = signature.Verify(req, cred, []byte(secret), schemes, time.Now())
				}
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"stat": "OK", "response": map[string]string{"result": "allow", "status_msg": "x"}})
		}),
	}
	l := listen(b)
	done := make(chan error, 1)
	go func() { done <- srv.ServeTLS(l, "", "") }()
	b.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return &url.URL{Scheme: "https", Host: l.Addr().String()}
}

// client is one host: a connection of its own, HTTP/2 as authd speaks it.
func (p *place) client(b *testing.B, base *url.URL) *duoapi.Client {
	b.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	b.Cleanup(transport.CloseIdleConnections)
	return &duoapi.Client{
		BaseURL: base, IntegrationKey: key, Secret: []byte(secret), HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, Now: time.Now,
	}
}

// cost is what a number of logins took.
type cost struct {
	logins int
	wall   time.Duration
	cpu    time.Duration   // of this process: server and clients
	each   []time.Duration // what each waited for both answers
}

func (c *cost) perSecond() float64 { return float64(c.logins) / c.wall.Seconds() }

// quantile is what part of the logins waited at most, in milliseconds.
func quantile(each []time.Duration, part float64) float64 {
	slices.Sort(each)
	return float64(each[int(part*float64(len(each)-1))].Microseconds()) / 1000
}

// connect makes clients and has each log in once.
func (p *place) connect(b *testing.B, base *url.URL, clients int) []*duoapi.Client {
	b.Helper()
	made := make([]*duoapi.Client, clients)
	for i := range made {
		made[i] = p.client(b, base)
		if err := p.login(made[i], i); err != nil {
			b.Fatal(err)
		}
	}
	return made
}

// logins has clients make n logins together.
func (p *place) logins(b *testing.B, clients []*duoapi.Client, n int, sum *cost) {
	b.Helper()
	var (
		wg   sync.WaitGroup
		turn atomic.Int64
		each = make([]time.Duration, n)
	)
	wall, cpu := time.Now(), cpuTime(b)
	for _, c := range clients {
		wg.Go(func() {
			for {
				i := int(turn.Add(1)) - 1
				if i >= n {
					return
				}
				begun := time.Now()
				if err := p.login(c, (sum.logins+i)%users); err != nil {
					b.Error(err)
					return
				}
				each[i] = time.Since(begun)
			}
		})
	}
	wg.Wait()
	sum.logins += n
	sum.each = append(sum.each, each...)
	sum.wall += time.Since(wall)
	sum.cpu += cpuTime(b) - cpu
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (p *place) login(c *duoapi.Client, user int) error {
	code, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString([]byte(seed)), uint64(p.next[user].Load()),
		hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return err
	}
	var pre duoapi.Preauth
	who := url.Values{"username": {username(user)}, "ipaddr": {"192.0.2.1"}, "hostname": {"web1.example"}}
	if _, err := c.Call(context.Background(), http.MethodPost, "/auth/v2/preauth", who, &pre); err != nil {
		return err
	}
	who.Set("factor", duoapi.FactorPasscode)
	who.Set("passcode", code)
	var out duoapi.Auth
	if _, err := c.Call(context.Background(), http.MethodPost, "/auth/v2/auth", who, &out); err != nil {
		return err
	}
	if out.Result != duoapi.ResultAllow {
		return fmt.Errorf("user %d was refused: %+v", user, out)
	}
	if c.BaseURL == p.verifier {
		p.next[user].Add(1)
	}
	return nil
}

// rounds is how often the two servers take turns, so that other load on the
// machine meets both.
const rounds = 10

// BenchmarkLogins: a login is a signed preauth and a signed passcode auth. The
// clients run in the same process, for both servers. One client waits for a
// sync of the disk at each login; many share one.
func BenchmarkLogins(b *testing.B) {
	p := newPlace(b)
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var bare, full cost
			toBare, toFull := p.connect(b, p.bare, clients), p.connect(b, p.verifier, clients)
			b.ResetTimer()
			for round := range rounds {
				n := b.N*(round+1)/rounds - b.N*round/rounds
				p.logins(b, toBare, n, &bare)
				p.logins(b, toFull, n, &full)
			}
			b.ReportMetric(bare.perSecond(), "bare/s")
			b.ReportMetric(full.perSecond(), "logins/s")
			b.ReportMetric(full.perSecond()/bare.perSecond(), "ratio")
			b.ReportMetric(quantile(bare.each, 0.99), "bare-p99-ms")
			b.ReportMetric(quantile(full.each, 0.99), "p99-ms")
			b.ReportMetric(bare.cpu.Seconds()/full.cpu.Seconds(), "cpu-ratio")
			b.ReportMetric(float64(full.cpu.Microseconds())/float64(b.N), "cpu-µs/login")
		})
	}
}

// BenchmarkPreauth: how long a client waits for the preauth of a user with a token,
// of one without anything, and of a name that nobody has, in turns. The latter two
// are answered alike, so their ratio should be 1: names cannot be told by the time.
// Their preauth is an end, whose event is synced to disk; the first reads only.
func BenchmarkPreauth(b *testing.B) {
	p := newPlace(b)
	c := p.client(b, p.verifier)
	kinds := []struct {
		metric string
		name   func(i int) string
		each   []time.Duration
	}{
		{"enrolled-ms", func(i int) string { return username(i % users) }, nil},
		{"unenrolled-ms", func(int) string { return unenrolled }, nil},
		{"nobody-ms", func(i int) string { return fmt.Sprintf("nobody%d", i%users) }, nil},
	}
	ask := func(name string) {
		var out duoapi.Preauth
		if _, err := c.Call(context.Background(), http.MethodPost, "/auth/v2/preauth", url.Values{"username": {name}}, &out); err != nil {
			b.Fatal(err)
		}
	}
	ask(unenrolled) // connects
	b.ResetTimer()
	for i := range b.N {
		for k := range kinds {
			k = (k + i) % len(kinds) // whatever follows a sync has another neighbour each time
			begun := time.Now()
			ask(kinds[k].name(i))
			kinds[k].each = append(kinds[k].each, time.Since(begun))
		}
	}
	for _, kind := range kinds {
		b.ReportMetric(quantile(kind.each, 0.5), kind.metric)
	}
	b.ReportMetric(quantile(kinds[2].each, 0.5)/quantile(kinds[1].each, 0.5), "nobody/unenrolled")
	b.ReportMetric(quantile(kinds[2].each, 0.9)/quantile(kinds[1].each, 0.9), "nobody/unenrolled-p90")
}
