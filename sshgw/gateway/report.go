// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/netutil"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
)

// history is what a status says of the gateway's own life. It is safe for concurrent use.
type history struct {
	mu       sync.Mutex
	started  time.Time
	config   control.Config
	listen   []string
	draining time.Time
}

// loaded notes a configuration that is in force.
func (h *history) loaded(path string, c *config.Config, waiting []string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = control.Config{File: path, Loaded: now, Rules: len(c.Rule), Restart: waiting}
}

func (h *history) notLoaded(err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config.ReloadError, h.config.ReloadFailed = err.Error(), now
}

func (h *history) listens(a net.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listen = append(h.listen, a.String())
}

func (h *history) addresses() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.listen)
}

func (h *history) waiting() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.config.Restart)
}

func (h *history) drains(until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = until
}

// status is how the gateway is at this moment.
func (g *running) status(ctx context.Context) control.Status {
	s := g.force.Load()
	g.past.mu.Lock()
	st := control.Status{Version: g.opt.Version, Started: g.past.started, Config: g.past.config, Listen: slices.Clone(g.past.listen), Draining: g.past.draining}
	g.past.mu.Unlock()
	st.Config.Targets = len(s.config.Inventory().All())
	st.Connections, st.Channels = g.roster.Len()
	st.BytesIn, st.BytesOut = g.roster.Bytes()
	st.Limit, st.Handshakes = s.config.Limits.Connections, g.server.Handshakes()
	st.Recordings = g.roster.Recordings()
	for _, k := range g.keys.HostSigners() {
		st.HostKeys = append(st.HostKeys, ssh.FingerprintSHA256(k.PublicKey())+" "+k.PublicKey().Type())
	}
	st.Authd = answersAt(ctx, socketPath(s.config, authdSocket))
	if s.config.First.Password {
		// To connect would start a helper.
		why := ""
		if _, err := os.Stat(socketPath(s.config, passwordSocket)); err != nil {
			why = err.Error()
		}
		st.Password = &why
	}
	return st
}

// The sockets of those whom the gateway asks.
const (
	authdSocket    = "sshgw.sock"
	passwordSocket = "sshgw-pam.sock"
)

// probeTimeout bounds a look at a socket.
const probeTimeout = time.Second

// answersAt says why nobody answers at a socket, "" for somebody.
func answersAt(ctx context.Context, path string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return err.Error()
	}
	_ = c.Close()
	return ""
}

// maxObservers is how many connections may read metrics at once over the loopback, which
// is open to every user of this machine.
const maxObservers = 16

// observe serves the control socket, and metrics on the loopback where the configuration
// says so, until ctx ends.
func (g *running) observe(ctx context.Context, group *sync.WaitGroup, sockets *listeners) error {
	if address := g.config().Metrics; address != "" {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return describe("serve metrics", err)
		}
		if a, ok := l.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			_ = l.Close()
			return describe("serve metrics at "+address, errLoopback)
		}
		g.serveMetrics(ctx, group, l)
	}
	c := &control.Server{Roster: g.roster, Audit: g.audit, Logger: g.opt.Log, Status: g.status, Metrics: g.metrics.Handler(), Reload: g.reload}
	group.Go(func() { c.Serve(ctx, sockets.control, uint32(os.Geteuid()), uint32(os.Getegid())) })
	return nil
}

func (g *running) serveMetrics(ctx context.Context, group *sync.WaitGroup, l net.Listener) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", g.metrics.Handler())
	s := &http.Server{
		Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(g.opt.Log.Handler(), slog.LevelDebug),
	}
	group.Go(func() {
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		g.opt.Log.Debug("metrics", slog.String("address", l.Addr().String()), slog.Any("end", s.Serve(netutil.LimitListener(l, maxObservers))))
	})
}
