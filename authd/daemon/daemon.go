// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/habit"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/metrics"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/sshkeys"
	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/directory"
)

// Options is what Run needs.
type Options struct {
	ConfigPath string
	Version    string
	Log        *slog.Logger
	Reload     <-chan os.Signal // SIGHUP; nil: never
	Now        func() time.Time // the clock that logins are decided by; nil: the system's
	// Ready is called when the sockets are served; may be nil.
	Ready func()
}

// Run serves until ctx ends, then lets conversations end within stop_timeout.
// An error means that it could not start.
func Run(ctx context.Context, opt Options) error {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	cfg, err := config.Load(opt.ConfigPath)
	if err != nil {
		return err
	}
	people, err := directory.NewNSS()
	if err != nil {
		return err
	}
	userPeople, err := directory.NewNSS() // with a queue of its own
	if err != nil {
		return err
	}
	d := &running{opt: opt, people: people, gate: failmode.New(failmode.Options{
		Dir: cfg.StateDir, Clock: clock.Clock{Now: opt.Now, Boot: clock.System().Boot}, Log: opt.Log,
	})}
	defer d.gate.Close()
	d.past.started = opt.Now()
	d.metrics = metrics.New(d.report)
	d.away = d.newAway(cfg)
	state, err := d.newState(cfg)
	if err != nil {
		return err
	}
	d.past.loaded(opt.ConfigPath, cfg, d.client, d.directories.root, opt.Now())
	habits := habit.Open(cfg.StateDir, opt.Log)
	d.engine = &login.Engine{
		People: people, Grants: login.NewGrants(opt.Now), UserPeople: userPeople, UserGrants: login.NewGrants(opt.Now), FailMode: d.gate, Habits: habits,
		Throttle: throttle.New(opt.Now), UserThrottle: throttle.New(opt.Now), Meter: d.metrics,
		Hostname: hostname(ctx), Now: opt.Now, NewID: newID, Log: opt.Log, Command: commandOf,
		Grace:    login.NewGrace(clock.Clock{Now: opt.Now, Boot: clock.System().Boot}),
		SSHKeys:  sshkeys.New(opt.Now, opt.Log),
		LoginUID: process.ID.LoginUID, Args: process.Args, Passport: passport.New(passport.Proc{FS: os.DirFS("/proc")}),
	}
	if d.away != nil {
		d.engine.Events = d.away.events
		if d.away.keeper != nil {
			d.engine.Offline = d.away.keeper
		}
	}
	d.engine.BreakGlass = &breakglass.Client{Path: filepath.Join(cfg.SocketDir, breakglass.SocketName), Version: opt.Version}
	d.engine.Use(state)
	defer func() {
		d.client.Close()
		d.directories.close()
	}()

	gateway, err := d.gatewayAccount(ctx, cfg)
	if err != nil {
		return err
	}
	sockets, err := listen(cfg, gateway, opt.Log)
	if err != nil {
		return err
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	kept.Go(func() { habits.Keep(keep) })
	if d.away != nil {
		kept.Go(func() { d.away.run(keep) })
	}
	defer kept.Wait()
	defer stop()
	return d.serve(ctx, sockets)
}

// running is a daemon at work.
type running struct {
	opt    Options
	people directory.Directory
	gate   *failmode.Gate
	engine *login.Engine
	client *upstream.Client // of the state in force
	// current is the same for those who do not wait for a reload.
	current atomic.Pointer[upstream.Client]
	away    *away // nil: no host key

	policy     *breakglass.Policy // yet to be written; nil: none
	policyPath string

	directories *directories // the same
	past        history
	// metrics is told what happens; it asks report for what is.
	metrics *metrics.Metrics
}

// newState makes the part that a reload replaces.
func (d *running) newState(cfg *config.Config) (*login.State, error) {
	client, err := upstream.New(upstream.Options{
		Endpoints:      cfg.Verifier.Endpoints(),
		IntegrationKey: cfg.Verifier.IntegrationKey,
		Secret:         cfg.Secret(),
		CAFile:         cfg.Verifier.CAFile,
		HostKey:        cfg.HostKey(),
		UserAgent:      "sallyport-authd/" + d.opt.Version,
		ConnectTimeout: cfg.Timeouts.Connect,
		RequestTimeout: cfg.Timeouts.Request,
		Selection:      upstream.Selection(cfg.Verifier.Selection),
		Proxy:          cfg.Verifier.Way(),
		ProbeInterval:  cfg.Timeouts.Probe,
		HealthInterval: cfg.Timeouts.Health,
		Now:            d.opt.Now,
		Log:            d.opt.Log,
		Contact:        d.gate.Contact,
		Refused:        d.gate.Refused,
		Back: func() {
			d.gate.Back()
			d.away.contact()
		},
	})
	if err != nil {
		return nil, err
	}
	dirs, err := newDirectories(cfg, d.directories, d.opt.Now, d.opt.Log)
	if err != nil {
		client.Close()
		return nil, err
	}
	d.keepPolicy(cfg)
	d.client = client
	d.current.Store(client)
	d.replaceDirectories(dirs)
	for _, w := range append(cfg.Warnings(), cfg.RuleWarnings(d.opt.Now())...) {
		d.opt.Log.Warn(w, slog.String("event", "config_warning"))
	}
	if err := checkGECOS(cfg); err != nil {
		d.opt.Log.Warn("logins that need this mapping are denied", slog.String("event", "config_warning"), slog.Any("error", err))
	}
	state := &login.State{Config: cfg, Verifier: client}
	if cfg.HostKey() != nil {
		state.Host = client
	}
	dirs.into(state)
	return state, nil
}

func (d *running) gatewayAccount(ctx context.Context, cfg *config.Config) (*directory.Account, error) {
	if cfg.Gateway.User == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeouts.NSS)
	defer cancel()
	a, err := d.people.ByName(ctx, cfg.Gateway.User)
	if err != nil {
		return nil, fmt.Errorf("look up gateway.user %q: %w", cfg.Gateway.User, err)
	}
	return &a, nil
}

func (d *running) serve(ctx context.Context, sockets *listeners) error {
	// Conversations outlive ctx by stop_timeout.
	talk, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	var talking sync.WaitGroup
	watch, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	defer unwatch()
	if err := d.observe(watch, sockets.observers(), d.engine.Config().Metrics.Listen); err != nil {
		sockets.close()
		return err
	}
	for name, l := range sockets.byName {
		s := newServer(socketKinds[name], name, d.engine, d.people, d.opt.Log)
		s.refused = d.metrics.Refused
		d.past.serves(s)
		talking.Go(func() {
			s.serve(talk, l)
			s.conns.Wait()
		})
	}
	d.opt.Log.Info("serving", slog.String("event", "start"), slog.String("version", d.opt.Version), slog.String("config", d.opt.ConfigPath))
	d.notify(daemon.SdNotifyReady)
	if d.opt.Ready != nil {
		d.opt.Ready()
	}
	d.attend(ctx)

	d.notify(daemon.SdNotifyStopping)
	sockets.close()
	grace := d.engine.Config().Timeouts.Stop
	d.opt.Log.Info("stopping", slog.String("event", "stop"), slog.Duration("stop_timeout", grace))
	timer := time.AfterFunc(grace, func() { cut(login.ErrShutdown) })
	defer timer.Stop()
	talking.Wait()
	return nil
}

// attend reloads and feeds the watchdog until ctx ends.
func (d *running) attend(ctx context.Context) {
	var watchdog <-chan time.Time
	if interval, err := daemon.SdWatchdogEnabled(false); err == nil && interval > 0 {
		t := time.NewTicker(interval / 3)
		defer t.Stop()
		watchdog = t.C
	}
	policy := time.NewTicker(policyRetry)
	defer policy.Stop()
	glass := d.glassReporter()
	glass()
	for {
		select {
		case <-ctx.Done():
			return
		case <-policy.C:
			_ = d.writePolicy() // that it was not written has been said
			glass()
		case <-d.opt.Reload:
			d.reload()
		case <-watchdog:
			d.engine.Grants.Len() // a lock that is held for good must not look alive
			d.notify(daemon.SdNotifyWatchdog)
		}
	}
}

// reload puts a new configuration in force. Logins under way keep theirs; a file
// that is wrong changes nothing. Paths of sockets stay as they are.
func (d *running) reload() {
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonicMicros()))
	defer d.notify(daemon.SdNotifyReady)
	old := d.client
	cfg, err := config.Load(d.opt.ConfigPath)
	if err == nil {
		var state *login.State
		if state, err = d.newState(cfg); err == nil {
			d.engine.Use(state)
			d.past.loaded(d.opt.ConfigPath, cfg, d.client, d.directories.root, d.opt.Now())
			d.metrics.Reloaded(true)
			old.Close()
			d.opt.Log.Info("configuration reloaded", slog.String("event", "reload"))
			return
		}
	}
	d.past.notLoaded(err, d.opt.Now())
	d.metrics.Reloaded(false)
	d.opt.Log.Error("configuration not reloaded, the one before stays in force", slog.String("event", "reload_failed"), slog.Any("error", err))
}

func monotonicMicros() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano() / 1000
}

func (d *running) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.opt.Log.Debug("notify systemd", slog.Any("error", err))
	}
}

// newID makes the id of a login: 60 bits are enough to find its lines.
func newID() string { return strings.ToLower(rand.Text()[:12]) }

// hostnameTimeout bounds the search for the host's full name at start.
const hostnameTimeout = time.Second

// hostname is this host's full name if the resolver knows one, else its own.
func hostname(ctx context.Context) string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	if strings.Contains(name, ".") {
		return name
	}
	ctx, cancel := context.WithTimeout(ctx, hostnameTimeout)
	defer cancel()
	full, err := net.DefaultResolver.LookupCNAME(ctx, name)
	full = strings.TrimSuffix(full, ".")
	if err == nil && strings.HasPrefix(strings.ToLower(full), strings.ToLower(name)+".") {
		return full
	}
	return name
}

// Check verifies a configuration without serving. It returns what is allowed but
// weakens the host.
func Check(path string) (warnings []string, err error) {
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	if file := cfg.Verifier.CAFile; file != "" {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("%s: verifier.ca_file: %w", path, err)
		}
	}
	if err := checkLDAP(cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return slices.Concat(cfg.Warnings(), cfg.RuleWarnings(time.Now()), cfg.SudoWarnings()), nil
}
