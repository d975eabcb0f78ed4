// SPDX-License-Identifier: Apache-2.0

// Package gateway owns the life of the gateway: it makes the parts from the
// configuration and hands them to one another, takes a changed configuration into
// force, tells systemd how it is, and lets sessions end when it stops. It decides
// nothing about a connection.
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
	"github.com/sallyport-mfa/sallyport/sshgw/metrics"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// Options is what Run needs.
type Options struct {
	ConfigPath string
	Version    string
	Log        *slog.Logger
	Reload     <-chan os.Signal // SIGHUP; nil: never
	Hurry      <-chan os.Signal // a second SIGTERM: sessions end at once; nil: never
	Now        func() time.Time // nil: the system's clock
	// Ready is called when connections are accepted; may be nil.
	Ready func(addresses []net.Addr)
}

// running is a gateway at work.
type running struct {
	opt     Options
	roster  *roster.Roster
	metrics *metrics.Metrics
	audit   *audit.Log
	people  directory.Directory // about those who are in
	callers directory.Directory // about those who come to the door
	keys    *keys.Ring
	dialer  *target.Dialer
	server  *server.Server
	// force is what a reload replaces.
	force atomic.Pointer[state]
	// reloading keeps two reloads from crossing.
	reloading sync.Mutex
	fixed     *fixed // by the configuration that the gateway was started with
	past      history
}

// Run serves until ctx ends, then lets sessions end within timeouts.drain. An error
// means that it could not start.
func Run(ctx context.Context, opt Options) error {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	g := &running{opt: opt, roster: roster.New(opt.Now)}
	g.past.started = opt.Now()
	g.metrics = metrics.New(func() control.Status { return g.status(context.Background()) })
	g.audit = &audit.Log{Logger: opt.Log, Count: g.metrics.Event}
	cfg, err := config.Load(opt.ConfigPath)
	if err != nil {
		return err
	}
	if err := g.openDirectories(); err != nil {
		return err
	}
	if g.keys, err = keys.Open(cfg.Keys.Dir); err != nil {
		return err
	}
	s, err := g.newState(cfg)
	if err != nil {
		return err
	}
	if err := g.use(s); err != nil {
		return err
	}
	defer func() { g.force.Load().close() }()
	g.assemble()
	sockets, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	return g.serve(ctx, sockets)
}

// config is the configuration in force.
func (g *running) config() *config.Config { return g.force.Load().config }

func (g *running) serve(ctx context.Context, sockets *listeners) error {
	// What looks after the gateway outlives ctx until the last session is over.
	look, blind := context.WithCancel(context.WithoutCancel(ctx))
	var looking sync.WaitGroup
	defer looking.Wait()
	defer blind()
	if err := g.observe(look, &looking, sockets); err != nil {
		sockets.close()
		return err
	}
	looking.Go(func() { g.sweep(look) })

	open, shut := context.WithCancel(ctx)
	defer shut()
	var accepting sync.WaitGroup
	for _, l := range sockets.ssh {
		g.past.listens(l.Addr())
		accepting.Go(func() {
			if err := g.server.Serve(open, l); err != nil {
				g.opt.Log.Error("a listener ended", slog.String("address", l.Addr().String()), slog.Any("error", err))
			}
		})
	}
	g.opt.Log.Info("serving", slog.String("event", "start"), slog.String("version", g.opt.Version), slog.String("config", g.opt.ConfigPath),
		slog.Any("listen", g.past.addresses()))
	g.notify(ready)
	if g.opt.Ready != nil {
		g.opt.Ready(sockets.addresses())
	}
	g.attend(ctx)

	drain := g.config().Timeouts.Drain
	g.stopping(drain)
	shut()
	accepting.Wait()
	g.drain(ctx, drain)
	sockets.close()
	g.opt.Log.Info("stopped", slog.String("event", "stopped"))
	return nil
}

// drain lets sessions end by themselves, for as long as they may take.
func (g *running) drain(ctx context.Context, limit time.Duration) {
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-g.opt.Hurry:
			g.opt.Log.Info("told to stop again: sessions end at once", slog.String("event", "stop"))
			cancel()
		case <-done:
		}
	}()
	g.server.Drain(waiting, "timeouts.drain")
}

// socketPath is a socket of this machine's.
func socketPath(c *config.Config, name string) string { return filepath.Join(c.SocketDir, name) }

// sweepEvery is how often recordings that are old enough are removed.
const sweepEvery = time.Hour

// sweep removes old recordings until ctx ends.
func (g *running) sweep(ctx context.Context) {
	wait := time.NewTimer(time.Minute)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		removed, more, err := g.force.Load().recorder.Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			g.opt.Log.Error("old recordings were not removed", slog.Any("error", err))
		}
		if removed > 0 {
			g.opt.Log.Info("old recordings removed", slog.Int("recordings", removed), slog.String("setting", "record.keep_days"))
		}
		next := sweepEvery
		if more {
			next = time.Second
		}
		wait.Reset(next)
	}
}

// describe is an error with what was attempted.
func describe(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
