// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/metrics"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// childEnv has this program be a server of its own process, so that its memory holds
// nothing of the clients: childVerifier or childBare.
const (
	childEnv      = "SALLYPORT_BENCH_CHILD"
	childVerifier = "verifier"
	childBare     = "bare"
)

func TestMain(m *testing.M) {
	what := os.Getenv(childEnv)
	if what == "" {
		os.Exit(m.Run())
	}
	if err := beChild(what, os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// greeting is the first line of a child.
type greeting struct{ URL, CAPEM string }

// memory is what a child holds, after a collection.
type memory struct {
	Heap, Stack, RSS int64 // bytes
	Waiting          int   // requests that wait
}

// beChild serves, with its data under dir, and answers each line of its standard
// input with a line of memory, until that ends.
func beChild(what, dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	url := "https://" + l.Addr().String()
	dir = filepath.Join(dir, what)
	if err := datadir.Init(context.Background(), datadir.InitOptions{Dir: dir, URL: url}, time.Now); err != nil {
		return err
	}
	data, err := datadir.Open(context.Background(), dir, "", time.Now)
	if err != nil {
		return err
	}
	serve, waiting := serveParking(l, data), parked.count
	if what == childVerifier {
		if serve, waiting, err = serveVerifier(l, data); err != nil {
			return err
		}
	}
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	out, in := json.NewEncoder(os.Stdout), bufio.NewScanner(os.Stdin)
	if err := out.Encode(greeting{url, data.CAPEM}); err != nil {
		return err
	}
	for in.Scan() {
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := out.Encode(weighSelf(waiting())); err != nil {
			return err
		}
	}
	return in.Err()
}

func serveVerifier(l net.Listener, data *datadir.Data) (func() error, func() int, error) {
	if err := addWaiters(data); err != nil {
		return nil, nil, err
	}
	hub := &counted{Hub: metrics.New(func() metrics.Report { return metrics.Report{} }).Hub(&push.Local{})}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	service, err := login.New(login.Config{
		Store: data.Store, Keys: data.Keys, Hub: hub, Audience: data.Config.Audience(), Now: time.Now, Random: rand.Reader, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	srv := server.New(server.Config{
		Base: data.Config.Base(), Store: data.Store, Keys: data.Keys, Login: service, Hub: hub, Directory: data.Directory,
		Certs: data.Certs, CAPEM: data.CAPEM, Now: time.Now, Log: log,
	})
	go func() { _ = service.Run(context.Background()) }()
	return func() error { return srv.Serve(context.Background(), l) }, hub.count, nil
}

// counted is a hub that says how many wait for the end of a transaction.
type counted struct {
	push.Hub
	mu sync.Mutex
	n  int
}

func (c *counted) Wait(topic string) (<-chan struct{}, func()) {
	woken, stop := c.Hub.Wait(topic)
	if !strings.HasPrefix(topic, push.Transaction("")) {
		return woken, stop
	}
	c.add(1)
	return woken, sync.OnceFunc(func() { c.add(-1); stop() })
}

func (c *counted) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// parking is the floor: requests that wait on a channel until another releases them.
type parking struct {
	mu     sync.Mutex
	places map[string]chan struct{}
}

var parked = &parking{places: map[string]chan struct{}{}}

func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.places)
}

func (p *parking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	p.mu.Lock()
	place := p.places[id]
	if r.URL.Path == "/release" {
		if place != nil {
			close(place)
			delete(p.places, id)
		}
		p.mu.Unlock()
	} else {
		place = make(chan struct{})
		p.places[id] = place
		p.mu.Unlock()
		select {
		case <-place:
		case <-r.Context().Done():
			p.mu.Lock()
			delete(p.places, id)
			p.mu.Unlock()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"stat":"OK","response":{"result":"allow","status":"allow","status_msg":"Success. Logging you in..."}}`)
}

func serveParking(l net.Listener, data *datadir.Data) func() error {
	srv := &http.Server{
		Handler: parked, ReadHeaderTimeout: 10 * time.Second, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000},
		TLSConfig: &tls.Config{GetCertificate: data.Certs.GetCertificate, MinVersion: tls.VersionTLS12},
	}
	return func() error { return srv.ServeTLS(l, "", "") }
}

func weighSelf(waiting int) memory {
	for range 4 { // each halves the stacks that need no more
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memory{int64(m.HeapAlloc), int64(m.StackInuse), residentSize(), waiting}
}

// residentSize is VmRSS of proc_pid_status(5).
func residentSize() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// child is a server in a process of its own.
type child struct {
	greeting
	in  io.Writer
	out *json.Decoder
}

func startChild(b *testing.B, what string) *child {
	b.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], b.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"="+what)
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := cmp.Or(inErr, outErr, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	c := &child{in: in, out: json.NewDecoder(out)}
	if err := c.out.Decode(&c.greeting); err != nil {
		b.Fatal(err)
	}
	return c
}

func (c *child) memory(b *testing.B) memory {
	b.Helper()
	var m memory
	_, err := io.WriteString(c.in, "\n")
	if err := errors.Join(err, c.out.Decode(&m)); err != nil {
		b.Fatal(err)
	}
	return m
}

// addWaiters adds the integration, and the people who are asked by push, whose
// authenticators hold one key.
func addWaiters(data *datadir.Data) error {
	public, err := waiterPublicKey()
	if err != nil {
		return err
	}
	now := time.Now()
	integration := waiterIntegration()
	integration.SecretSealed = data.Keys.Seal([]byte(secret), "integration", integration.Key)
	return data.Store.Update(context.Background(), func(w store.Writer) error {
		set, err := w.Settings()
		set.PushTimeout, set.PushBudget, set.PushDelay = 600, 1000, 0 // they all wait for as long as it takes
		errs := []error{err, w.SetSettings(set), w.AddIntegration(integration)}
		for i := range waiters {
			errs = append(errs,
				w.AddUser(store.User{ID: waiterUser(i), Username: waiterName(i), Status: store.Active, Created: now}),
				w.AddPhone(store.Phone{
					ID: waiterPhone(i), Type: "mobile", Name: "phone", PublicKey: public, Generation: 1, Created: now, LastSeen: now.Add(time.Hour),
				}),
				w.AttachPhone(waiterUser(i), waiterPhone(i)))
		}
		return errors.Join(errs...)
	})
}

func waiterName(i int) string  { return fmt.Sprintf("waiter%d", i) }
func waiterUser(i int) string  { return fmt.Sprintf("DUW%017d", i) }
func waiterPhone(i int) string { return fmt.Sprintf("DPW%017d", i) }

// waiterIntegration is the application that they log in to.
func waiterIntegration() store.Integration {
	return store.Integration{
		Key: waiterKeyOf, Name: "waiting", Type: store.AuthAPI, NamePolicy: store.NameSimple, EnrollPolicy: store.EnrollDeny,
		AllowPlainPush: true, Created: time.Now(),
	}
}

// waiterKeyOf is the integration key of that application.
const waiterKeyOf = "DIWAITWAITWAITWAITWA"
