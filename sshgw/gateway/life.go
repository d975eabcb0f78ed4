// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

const ready = daemon.SdNotifyReady

// attend reloads and feeds the watchdog until ctx ends.
func (g *running) attend(ctx context.Context) {
	var watchdog <-chan time.Time
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		t := time.NewTicker(interval / 3)
		defer t.Stop()
		watchdog = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.opt.Reload:
			_ = g.reload(ctx) // the log has said it
		case <-watchdog:
			g.alive()
		}
	}
}

// alive tells systemd that the gateway works. A lock that is held for good must not look alive.
func (g *running) alive() {
	g.roster.Len()
	g.server.Handshakes()
	g.notify(daemon.SdNotifyWatchdog)
}

// stopping tells systemd how long the end may take, and keeps the watchdog fed meanwhile.
func (g *running) stopping(drain time.Duration) {
	g.past.drains(g.opt.Now().Add(drain))
	g.opt.Log.Info("stopping: no new connections, and those that are open may take some time to end",
		slog.String("event", "stop"), slog.String("setting", "timeouts.drain"), slog.Float64("seconds", drain.Seconds()))
	g.notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d\nSTATUS=Draining: sessions may take %s to end", daemon.SdNotifyStopping, (drain + stopSlack).Microseconds(), drain))
}

// stopSlack is what the end takes beside the sessions.
const stopSlack = 15 * time.Second

// reload puts a changed configuration in force. Sessions go on; the next channel meets the
// new rules. A file that is wrong changes nothing.
func (g *running) reload(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	g.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonicMicros()))
	defer g.notify(ready)
	err := g.loadAgain(ctx)
	g.metrics.Reloaded(err == nil)
	if err != nil {
		g.past.notLoaded(err, g.opt.Now())
		g.audit.Event(ctx, slog.LevelError, audit.Reloaded, slog.String("result", "failed"),
			slog.Any("error", err))
		return err
	}
	g.audit.Event(ctx, slog.LevelInfo, audit.Reloaded, slog.String("result", "ok"), slog.Any("wait_for_restart", g.past.waiting()))
	return nil
}

func (g *running) loadAgain(ctx context.Context) error {
	cfg, err := config.Load(g.opt.ConfigPath)
	if err != nil {
		return err
	}
	s, err := g.newState(cfg)
	if err != nil {
		return err
	}
	// Nothing is changed before all has been read: a reload that fails changes nothing.
	useKeys, err := g.keys.Read()
	if err != nil {
		s.close()
		return err
	}
	if err := g.use(s); err != nil {
		s.close()
		return err
	}
	before := g.keys.List()
	useKeys()
	g.keysChanged(ctx, before, g.keys.List())
	return nil
}

// keysChanged says which keys of our own are at another stage than before, or new.
func (g *running) keysChanged(ctx context.Context, before, now []keys.Key) {
	stages := func(list []keys.Key) map[keys.Key]bool {
		out := map[keys.Key]bool{}
		for _, k := range list {
			out[keys.Key{Kind: k.Kind, Stage: k.Stage, Type: k.Type, Fingerprint: k.Fingerprint}] = true
		}
		return out
	}
	was, is := stages(before), stages(now)
	say := func(k keys.Key, stage string) {
		g.audit.Event(ctx, slog.LevelInfo, audit.KeysRotated, slog.String("kind", string(k.Kind)),
			slog.String("key_type", k.Type), slog.String("key", k.Fingerprint), slog.String("stage", stage))
	}
	there := map[string]bool{}
	for k := range is {
		there[k.Fingerprint] = true
		if !was[k] {
			say(k, string(k.Stage))
		}
	}
	for k := range was {
		if !there[k.Fingerprint] {
			say(k, "gone")
		}
	}
}

func monotonicMicros() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano() / 1000
}

func (g *running) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		g.opt.Log.Debug("notify systemd", slog.Any("error", err))
	}
}
