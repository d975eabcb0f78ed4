// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/metrics"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
	"github.com/sallyport-mfa/sallyport/sshgw/session"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// state is what a reload replaces as a whole.
type state struct {
	config   *config.Config
	waiting  []string // settings of the file that wait for a restart
	recorder *record.Recorder
	stop     context.CancelFunc // of what refreshes the targets
	ctx      context.Context
}

func (s *state) close() { s.stop() }

// newState makes what a configuration needs, and changes nothing that is in force.
func (g *running) newState(c *config.Config) (*state, error) {
	if g.fixed == nil {
		g.fixed = fixedBy(c)
	}
	waiting := g.fixed.keep(c)
	recorder, err := record.New(record.Options{
		Dir: c.Record.Dir, Recipients: c.Record.Recipients, Group: c.Record.Group, MinFree: c.Record.MinFree, KeepDays: c.Record.KeepDays,
		Sync: c.Record.Sync, Seal: c.Record.Seal, Stall: c.Record.Stall, Now: g.opt.Now,
	})
	if err != nil {
		return nil, describe("record", err)
	}
	s := &state{config: c, waiting: waiting, recorder: recorder}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// resolveTimeout bounds the first look-up of the targets' addresses. Until it is over, a
// rule that was changed is not in force: a target must be known by its address as well.
const resolveTimeout = 5 * time.Second

// use puts a state in force, and lets go of the one before.
func (g *running) use(s *state) error {
	if err := g.openDialer(s.config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, resolveTimeout)
	if old := g.force.Load(); old != nil {
		s.config.Inventory().Inherit(old.config.Inventory())
	}
	s.config.Inventory().Resolve(ctx, g.dialer.Resolve)
	cancel()
	old := g.force.Swap(s)
	if old != nil {
		old.close()
	}
	go s.config.Book().Watch(s.ctx, g.opt.Log, g.dialer.Resolve)
	g.past.loaded(g.opt.ConfigPath, s.config, s.waiting, g.opt.Now())
	return nil
}

func (g *running) openDialer(c *config.Config) (err error) {
	if g.dialer != nil {
		return g.dialer.Configure(c)
	}
	name, err := os.Hostname()
	if err != nil {
		name = "gateway"
	}
	g.dialer, err = target.New(target.Options{Config: c, Keys: g.keys, Gateway: name, Log: g.audit, Now: g.opt.Now})
	return err
}

// How long a look-up of an account or group may take, and how long a name that the name
// service does not know is not asked for again.
const (
	lookupTimeout = 8 * time.Second
	keepAbsent    = 10 * time.Second
)

// openDirectories asks the name service twice: strangers may send any names, and those
// who are in do not wait behind them.
func (g *running) openDirectories() error {
	inside, err := directory.NewNSS()
	if err != nil {
		return err
	}
	outside, err := directory.NewNSS()
	if err != nil {
		return err
	}
	g.people = directory.NewBrief(inside, inside, lookupTimeout, 0, g.opt.Now)
	g.callers = directory.NewBrief(outside, inside, lookupTimeout, keepAbsent, g.opt.Now)
	return nil
}

// assemble makes the parts that stay, and hands them to one another. What they need of
// the configuration they ask for each time.
func (g *running) assemble() {
	authd := &caller{path: func() string { return socketPath(g.config(), authdSocket) }}
	asker := &secondfactor.Asker{Client: authd}
	door := auth.New(auth.Options{
		Policy:   func() auth.Policy { return auth.FromConfig(g.config()) },
		Accounts: g.callers, Second: asker, Authd: &secondfactor.Lookups{Client: authd},
		PAM: &caller{path: func() string { return socketPath(g.config(), passwordSocket) }},
		Now: g.opt.Now, Log: g.opt.Log,
	})
	sessions := &session.Service{
		Config: g.config, People: g.people, Targets: timed{g.dialer, g.metrics}, Factor: asker,
		Record: func(m record.Meta) (session.Recording, error) { return g.force.Load().recorder.Begin(m) },
		Host:   g.keys.HostFor, Audit: g.audit, Now: g.opt.Now, Random: rand.Reader,
	}
	g.server = server.New(server.Options{
		Settings: func() server.Settings {
			c := g.config()
			return server.Settings{Limits: c.Limits, Timeouts: c.Timeouts}
		},
		Keys: g.keys, Door: door, Handler: sessions.Serve, Roster: g.roster, Events: g.audit, Log: g.opt.Log, Now: g.opt.Now,
	})
	sessions.Inner = g.server.ServeInner
}

// caller calls a daemon where the configuration in force says that it is.
type caller struct{ path func() string }

// Call implements secondfactor.Caller.
func (c *caller) Call(ctx context.Context, req *frames.Request, p conversation.Person) (frames.Outcome, error) {
	return (&conversation.Client{Path: c.path()}).Call(ctx, req, p)
}

// timed tells the metrics how long it takes to open targets.
type timed struct {
	*target.Dialer
	metrics *metrics.Metrics
}

func (t timed) Dial(ctx context.Context, r target.Request) (*target.Conn, error) {
	start := time.Now()
	c, err := t.Dialer.Dial(ctx, r)
	t.metrics.Dialled(time.Since(start), err)
	return c, err
}
