// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	syslogs "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/sethvargo/go-retry"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// site is a store with the streams of one verifier.
type site struct {
	t     *testing.T
	path  string
	store *sqlite.DB
	log   *output
}

type output struct {
	mu sync.Mutex
	strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.Builder.Write(b)
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.String()
}

func newSite(t *testing.T) *site {
	s := &site{t: t, path: filepath.Join(t.TempDir(), "store.db"), log: &output{}}
	s.open()
	t.Cleanup(func() { _ = s.store.Close() })
	return s
}

func (s *site) open() {
	s.t.Helper()
	db, err := sqlite.Open(context.Background(), s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.store = db
}

// run starts the stream "a"; stop ends it as the end of the verifier does.
func (s *site) run(c config.Stream) (service *Service, stop func()) {
	s.t.Helper()
	if c.Timeout.Duration == 0 {
		c.Timeout.Duration = 10 * time.Second
	}
	if c.MaxBacklog == 0 {
		c.MaxBacklog = 1 << 20
	}
	service, err := New(map[string]config.Stream{"a": c}, s.store, "verifier.example", time.Now, slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	service.retry = func() retry.Backoff { return retry.NewConstant(5 * time.Millisecond) }
	if x, ok := service.streams[0].sender.(*syslog); ok {
		x.settle = 20 * time.Millisecond
	}
	if err := service.Begin(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { service.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(stop)
	return service, stop
}

func (s *site) add(service *Service, from, to int) {
	s.t.Helper()
	for n := from; n < to; n++ {
		err := s.store.Update(context.Background(), func(w store.Writer) error {
			if n%10 == 9 {
				return w.AddAdminEvent(store.AdminEvent{Time: time.Now(), Username: "root", Action: "user_update", Object: fmt.Sprint(n), Description: json.RawMessage(`{"n":1}`)})
			}
			return w.AddEvent(store.Event{TxID: fmt.Sprintf("tx%05d", n), Time: time.Now(), EventType: "authentication", Result: "success",
				Reason: "user_approved", User: store.EventUser{Name: "alice"}})
		})
		if err != nil {
			s.t.Fatal(err)
		}
		service.Wake()
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting for: %s", what)
		}
	}
}

// inbox is what a receiver has got: each number once.
type inbox struct {
	mu      sync.Mutex
	seqs    []int64
	seen    map[string]bool
	doubles int
}

func (i *inbox) take(seq int64, id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.seen == nil {
		i.seen = map[string]bool{}
	}
	if i.seen[id] {
		i.doubles++
		return
	}
	i.seen[id] = true
	i.seqs = append(i.seqs, seq)
}

func (i *inbox) len() int { i.mu.Lock(); defer i.mu.Unlock(); return len(i.seqs) }

// complete demands 1 to n in order.
func (i *inbox) complete(t *testing.T, n int) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for k, seq := range i.seqs {
		if seq != int64(k+1) {
			t.Fatalf("number %d in place %d", seq, k+1)
		}
	}
	if len(i.seqs) != n {
		t.Fatalf("%d events, want %d", len(i.seqs), n)
	}
}

// hook is a webhook receiver that can be out of order.
type hook struct {
	inbox
	t        *testing.T
	down     atomic.Bool
	loseNext atomic.Bool // take the events, and break off instead of an answer
	asked    atomic.Int64
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.asked.Add(1)
	if h.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(r.Body)
	check, err2 := standard.NewWebhook(secret)
	if err := errors.Join(err, err2); err != nil {
		h.t.Error(err)
	}
	if err := check.Verify(body, r.Header); err != nil {
		h.t.Errorf("signature: %v", err)
	}
	var d delivery
	if err := json.Unmarshal(body, &d); err != nil || d.Type != "sallyport.events" || d.Data.Stream != "a" || len(d.Data.Events) == 0 {
		h.t.Errorf("body %s: %v", body, err)
		return
	}
	events := d.Data.Events
	if want := fmt.Sprintf("a-%d-%d", events[0].Seq, events[len(events)-1].Seq); r.Header.Get(standard.HeaderWebhookID) != want {
		h.t.Errorf("id %q, want %q", r.Header.Get(standard.HeaderWebhookID), want)
	}
	for _, e := range events {
		h.take(e.Seq, e.ID)
	}
	if h.loseNext.CompareAndSwap(true, false) {
		panic(http.ErrAbortHandler)
	}
}

func webhookTo(t *testing.T, url string) config.Stream {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Stream{URL: url, SecretFile: file}
}

// TestWebhook: a receiver that dies holds up nobody; what waited comes in order
// when it is back, also over a restart, and what it took but did not confirm comes again.
func TestWebhook(t *testing.T) {
	s, h := newSite(t), &hook{t: t}
	server := httptest.NewServer(h)
	defer server.Close()
	c := webhookTo(t, server.URL)
	service, stop := s.run(c)
	s.add(service, 0, 30)
	await(t, "the first events", func() bool { return h.len() == 30 })
	h.down.Store(true)
	s.add(service, 30, 260) // writes go on
	asked := h.asked.Load()
	await(t, "several tries", func() bool { return h.asked.Load() > asked+3 })
	if state := service.States()[0]; state.Failures == 0 || state.LastError == "" || state.Sent != 30 {
		t.Errorf("state %+v", state)
	}
	if h.len() != 30 {
		t.Errorf("%d events while it was down", h.len())
	}
	// The verifier restarts while the receiver is away.
	stop()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s.open()
	h.down.Store(false)
	h.loseNext.Store(true)
	service, _ = s.run(c)
	s.add(service, 260, 300)
	await(t, "everything", func() bool { return h.len() == 300 && service.States()[0].Backlog == 0 })
	h.complete(t, 300)
	if h.doubles == 0 {
		t.Error("what was not confirmed did not come again")
	}
	if state := service.States()[0]; state.Failures != 0 || state.LastError != "" {
		t.Errorf("state %+v", state)
	}
	if strings.Contains(s.log.text(), secret) {
		t.Error("the secret is in the log")
	}
}

// logd is a syslog receiver on TCP or TLS that breaks connections off.
type logd struct {
	inbox
	t        *testing.T
	listener net.Listener
	breakAt  atomic.Int64 // messages on a connection after which it is reset; 0: never
	last     atomic.Pointer[rfc5424.SyslogMessage]
}

func newLogd(t *testing.T, secured *tls.Config) *logd {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &logd{t: t, listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go d.serve(conn, secured)
		}
	}()
	return d
}

func (d *logd) serve(raw net.Conn, secured *tls.Config) {
	defer raw.Close()
	var conn io.Reader = raw
	if secured != nil {
		conn = tls.Server(raw, secured)
	}
	n := int64(0)
	parser := octetcounting.NewParser(syslogs.WithListener(func(r *syslogs.Result) {
		n++
		if at := d.breakAt.Load(); at > 0 && n > at {
			// What follows on this connection is lost, though the kernel has acknowledged it.
			if tcp, ok := raw.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = raw.Close()
			return
		}
		if r.Error != nil {
			return // the end of the connection
		}
		m, ok := r.Message.(*rfc5424.SyslogMessage)
		if !ok {
			d.t.Errorf("a message %T", r.Message)
			return
		}
		var seq int64
		p := (*m.StructuredData)[element]
		if _, err := fmt.Sscan(p["seq"], &seq); err != nil {
			d.t.Errorf("structured data %v", p)
		}
		d.last.Store(m)
		d.take(seq, p["id"])
	}))
	parser.Parse(conn)
}

// TestSyslog: over connections that break, every message arrives, in order.
func TestSyslog(t *testing.T) {
	ca, err := certs.NewCA("127.0.0.1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "c"), filepath.Join(dir, "k"), filepath.Join(dir, "ca")
	if err := errors.Join(ca.Issue("127.0.0.1", certFile, keyFile, time.Now()), os.WriteFile(caFile, ca.PEM(), 0o600)); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"tcp", "tls"} {
		t.Run(scheme, func(t *testing.T) {
			s := newSite(t)
			c := config.Stream{}
			var secured *tls.Config
			if scheme == "tls" {
				secured = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
				c.CAFile = caFile
			}
			d := newLogd(t, secured)
			d.breakAt.Store(20)
			c.URL = scheme + "://" + d.listener.Addr().String()
			service, _ := s.run(c)
			s.add(service, 0, 120)
			await(t, "a connection that was broken", func() bool { return strings.Contains(s.log.text(), "does not come through") })
			d.breakAt.Store(0)
			await(t, "everything", func() bool { return d.len() == 120 && service.States()[0].Backlog == 0 })
			d.complete(t, 120)
			m := d.last.Load()
			if *m.Priority != authpriv<<3|uint8(notice) || *m.Hostname != "verifier.example" || *m.Appname != appName || *m.MsgID != store.AdministratorLog {
				t.Errorf("the last message: %+v", m)
			}
		})
	}
	t.Run("the wrong CA", func(t *testing.T) {
		s := newSite(t)
		d := newLogd(t, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		other, err := certs.NewCA("127.0.0.1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "ca")
		if err := os.WriteFile(file, other.PEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		service, _ := s.run(config.Stream{URL: "tls://" + d.listener.Addr().String(), CAFile: file})
		s.add(service, 0, 5)
		await(t, "the refusal", func() bool { return strings.Contains(service.States()[0].LastError, "certificate") })
		if d.len() != 0 {
			t.Error("events went to somebody else's receiver")
		}
	})
}

func TestSyslogByUDP(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := newSite(t)
	service, _ := s.run(config.Stream{URL: "udp://" + conn.LocalAddr().String()})
	s.add(service, 0, 1)
	buf := make([]byte, 65536)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	m, err := rfc5424.NewParser().Parse(buf[:n])
	if err != nil || !m.Valid() {
		t.Errorf("%q: %v", buf[:n], err)
	}
}

// What no datagram holds goes out without its content, and holds nothing up.
func TestSyslogByUDPTooLong(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := newSite(t)
	service, _ := s.run(config.Stream{URL: "udp://" + conn.LocalAddr().String()})
	long, err := json.Marshal(map[string]string{"before": strings.Repeat("x", 128<<10)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Update(t.Context(), func(w store.Writer) error {
		return w.AddAdminEvent(store.AdminEvent{Time: time.Now(), Username: "root", Action: "policy_update", Description: long})
	}); err != nil {
		t.Fatal(err)
	}
	s.add(service, 0, 1)
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"truncated":true}`, "tx00000"} {
		buf := make([]byte, 65536)
		n, _, err := conn.ReadFrom(buf)
		if err != nil || !strings.Contains(string(buf[:n]), want) {
			t.Fatalf("%.200q, %v; want %s", buf[:n], err, want)
		}
	}
}

// TestGivenUp: beyond its limit a stream loses the oldest, and says so.
func TestGivenUp(t *testing.T) {
	s, h := newSite(t), &hook{t: t}
	h.down.Store(true)
	server := httptest.NewServer(h)
	defer server.Close()
	c := webhookTo(t, server.URL)
	c.MaxBacklog = 50
	service, _ := s.run(c)
	s.add(service, 0, 120)
	await(t, "giving up", func() bool { return service.States()[0].GivenUp == 70 })
	h.down.Store(false)
	await(t, "the rest", func() bool { return h.len() == 50 })
	if h.seqs[0] != 71 || !slices.IsSorted(h.seqs) {
		t.Errorf("numbers %v", h.seqs)
	}
	if !strings.Contains(s.log.text(), "level=ERROR") {
		t.Error("no error in the log")
	}
}

// TestEscapes: what a peer chose cannot end an element, a line or a message.
func TestEscapes(t *testing.T) {
	evil := "a\"]\\ [x y=\"z\"]\n<34>1 - - - - - -\u2028\xff"
	m, ok, err := message(store.FeedEntry{Seq: 7, Log: store.AuthenticationLog, ID: "tx", Authentication: &store.Event{
		Time: time.Now(), Result: "denied", User: store.EventUser{Name: evil}, AccessDevice: store.AccessDevice{Hostname: evil},
	}})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	text, err := encode(m, "h")
	if err != nil {
		t.Fatal(err)
	}
	got, err := rfc5424.NewParser().Parse([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	parsed, ok := got.(*rfc5424.SyslogMessage)
	if !ok || len(*parsed.StructuredData) != 1 {
		t.Fatalf("structured data %v", parsed.StructuredData)
	}
	want := audit.Printable(evil)
	if p := (*parsed.StructuredData)[element]; p["user"] != want || p["host"] != want || p["result"] != "denied" {
		t.Errorf("parameters %q", p)
	}
	if strings.Contains(*parsed.Message, "\n") {
		t.Error("a line break in the text")
	}
	if _, ok, _ := message(store.FeedEntry{Seq: 8, Log: store.AuthenticationLog}); ok {
		t.Error("an event that is gone is sent")
	}
}
