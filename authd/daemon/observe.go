// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/directory/ldap"
	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
)

// history is what a report says of the daemon's own life. It is safe for
// concurrent use.
type history struct {
	mu      sync.Mutex
	started time.Time
	config  status.Config
	client  *upstream.Client // of the state in force
	ldap    *ldap.Client     // the same; nil: none is configured
	servers []*server
}

func (h *history) loaded(path string, cfg *config.Config, client *upstream.Client, directory *ldap.Client, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client = client
	h.config = status.Config{File: path, Loaded: now, Rules: len(cfg.Rules), RuleFiles: ruleFiles(cfg)}
	h.ldap = directory
}

// ruleFiles are the files in which rules stand, in their order.
func ruleFiles(cfg *config.Config) []string {
	var files []string
	for _, r := range cfg.Rules {
		if !slices.Contains(files, r.Origin) {
			files = append(files, r.Origin)
		}
	}
	return files
}

func (h *history) notLoaded(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config.ReloadError, h.config.ReloadFailed = err.Error(), now
}

func (h *history) serves(s *server) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers = append(h.servers, s)
}

// report is the state of the daemon at this moment.
func (d *running) report() status.Report {
	d.past.mu.Lock()
	r := status.Report{Version: d.opt.Version, Started: d.past.started, Config: d.past.config}
	client, directory, servers := d.past.client, d.past.ldap, d.past.servers
	d.past.mu.Unlock()
	for _, a := range client.Health() {
		r.Verifiers = append(r.Verifiers, status.Verifier{Address: a.Address, Up: a.Up, Since: a.Since, Cause: string(a.Cause), Error: a.Error,
			LastContact: a.LastContact, Latency: a.Latency, First: a.First})
	}
	if directory != nil {
		for _, h := range directory.Health() {
			if h.Asked.IsZero() {
				continue // nobody knows yet
			}
			l := status.LDAP{Server: h.URL, Up: h.Err == nil, Since: h.Since}
			if h.Err != nil {
				l.Error = h.Err.Error()
			}
			r.LDAP = append(r.LDAP, l)
		}
	}
	for _, s := range servers {
		r.Sockets = append(r.Sockets, s.state())
	}
	if d.away != nil {
		r.Events = &status.Events{Unreported: d.away.events.Len(), Oldest: d.away.events.Oldest(), Kept: d.away.events.now() != nil}
	}
	r.FailOpen = d.gate.Opened()
	r.Grants = d.engine.Grants.Len() + d.engine.UserGrants.Len()
	r.Throttled = d.engine.Throttle.Len() + d.engine.UserThrottle.Len()
	return r
}

// maxObservers is how many connections may read reports or metrics at once. The
// loopback is open to every user of this host, and a descriptor that is held there
// is one less for logins.
const maxObservers = 16

// observe serves reports and metrics on status.sock, and metrics alone on the
// loopback where the configuration says so, until ctx ends.
func (d *running) observe(ctx context.Context, socket net.Listener, listen string) error {
	open := http.NewServeMux()
	open.Handle("GET /metrics", d.metrics.Handler())
	own := http.NewServeMux()
	own.Handle("GET /metrics", d.metrics.Handler())
	own.Handle("GET /status", status.Handler(d.report))
	if listen != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
		if err != nil {
			return fmt.Errorf("serve metrics.listen: %w", err)
		}
		d.serveHTTP(ctx, l, open)
	}
	if socket != nil {
		d.serveHTTP(ctx, socket, own)
	}
	return nil
}

func (d *running) serveHTTP(ctx context.Context, l net.Listener, handler http.Handler) {
	s := &http.Server{
		Handler: handler, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(d.opt.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		// It ends when it is closed, or with the listener; nothing hangs on it.
		d.opt.Log.Debug("observers", slog.String("address", l.Addr().String()), slog.Any("end", s.Serve(netutil.LimitListener(l, maxObservers))))
	}()
	context.AfterFunc(ctx, func() { _ = s.Close() })
}
