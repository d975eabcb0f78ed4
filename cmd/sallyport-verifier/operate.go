// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/control"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/mail"
	"github.com/sallyport-mfa/sallyport/verifier/metrics"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/stream"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
	"github.com/sallyport-mfa/sallyport/verifier/upkeep"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

// settle is how long a rotation waits for requests that began before it; a test waits less.
var settle = upkeep.Settle

// operations are what a serving verifier does beside answering.
type operations struct {
	data    *datadir.Data
	keeper  *upkeep.Keeper
	streams *stream.Service
	metrics *metrics.Metrics
	store   store.Store      // measured
	webPush *webpush.Service // nil: off
	mail    *mail.Service    // nil: off
	started time.Time
	log     *slog.Logger
}

func newOperations(data *datadir.Data, log *slog.Logger) (*operations, error) {
	o := &operations{data: data, started: time.Now(), log: log}
	var err error
	host := data.Config.Base().Hostname()
	if o.streams, err = stream.New(data.Config.Streams, data.Store, host, time.Now, log); err != nil {
		return nil, err
	}
	o.keeper = upkeep.New(data.Store, data.Keys, data.Certs, host, time.Now, log)
	o.metrics = metrics.New(o.report)
	o.store = o.metrics.Store(data.Store, o.streams.Wake)
	data.Directory.Store = o.store
	if data.Config.WebPush.Enabled {
		o.webPush, err = webpush.New(webpush.Config{
			Store: o.store, Keys: data.Keys, Settings: data.Config.WebPush, Base: data.Config.Base(),
			Now: time.Now, Random: rand.Reader, Log: log, Observe: o.metrics.WebPush,
		})
		if err != nil {
			return nil, err
		}
	}
	if data.Config.Mail.On() {
		o.mail, err = mail.New(data.Config.Mail, o.store, data.Keys, data.Config.Base(), time.Now, rand.Reader, log)
	}
	return o, err
}

// close ends what would go on after the last answer.
func (o *operations) close() {
	if o.webPush != nil {
		o.webPush.Close()
	}
}

// checks is what /readyz tells.
func (o *operations) checks() map[string]bool {
	out := map[string]bool{}
	for _, c := range o.keeper.Checks() {
		out[c.Name] = c.OK
	}
	return out
}

func (o *operations) report() metrics.Report {
	r := metrics.Report{
		Version: version.String(), URL: o.data.Config.Base().String(), PID: os.Getpid(), Started: o.started,
		Ready: o.keeper.Ready(), Checks: o.keeper.Checks(), CertificateUntil: o.data.Certs.Expires(),
		Keys: o.data.Keys.IDs(), Streams: o.streams.States(), Purged: o.keeper.Purged(), Credits: -1, Caches: []metrics.Cache{},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := o.data.Store.View(ctx, func(rd store.Reader) error {
		credits, err := rd.Credits()
		if err != nil {
			return err
		}
		r.Credits = credits.Left
		ages, err := trust.AgesIn(rd, time.Now())
		for _, a := range ages {
			r.Caches = append(r.Caches, metrics.Cache{System: a.System.Name, Age: a.Age.Seconds(), Stale: a.Stale()})
		}
		return err
	})
	if err != nil {
		o.log.Error("the report says nothing of credits and device caches", "error", err)
	}
	return r
}

// run does all of it until ctx ends. What cannot listen says so and stays away:
// it is no reason to refuse logins.
func (o *operations) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { o.keeper.Run(ctx) })
	all.Go(func() { o.streams.Run(ctx) })
	server := &control.Server{Report: o.report, Metrics: o.metrics.Handler(), Rotate: func() (upkeep.Rotation, error) {
		return o.keeper.Rotate(ctx, settle)
	}}
	socket := filepath.Join(o.data.Dir, control.SocketName)
	all.Go(func() {
		o.listen(ctx, socket, server.Handler(), func() (net.Listener, error) { return control.Listen(socket, 0o600) })
	})
	if at := o.data.Config.Metrics.Listen; at != "" {
		all.Go(func() {
			mux := http.NewServeMux()
			mux.Handle("GET /metrics", o.metrics.Handler())
			o.listen(ctx, at, mux, func() (net.Listener, error) {
				if path, ok := o.data.Config.Metrics.Socket(); ok {
					return control.Listen(path, 0o660)
				}
				return new(net.ListenConfig).Listen(ctx, "tcp", at)
			})
		})
	}
	all.Wait()
}

func (o *operations) listen(ctx context.Context, where string, h http.Handler, open func() (net.Listener, error)) {
	l, err := open()
	if err == nil {
		err = control.Serve(ctx, l, h)
	}
	if err != nil && ctx.Err() == nil {
		o.log.Error("status and metrics are not served there", "listen", where, "error", err)
	}
}

func statusCommand(term *cli.Terminal) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := command("status --data DIR", "Say how the verifier that serves does",
		"Say how the verifier that serves from DIR does: whether it is fit to serve, its\ncertificate, its keys and its streams. Ends with 1 if something is wrong.",
		func(ctx context.Context) error {
			if err := needData(dir); err != nil {
				return err
			}
			var r metrics.Report
			if err := control.Call(ctx, dir, http.MethodGet, "/status", &r); err != nil {
				return err
			}
			if asJSON {
				if err := term.JSON(r); err != nil {
					return err
				}
			} else {
				printReport(term, r)
			}
			return wrong(r)
		})
	dataFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

func printReport(term *cli.Terminal, r metrics.Report) {
	term.Printf("%s, version %s, pid %d, since %s\n", r.URL, r.Version, r.PID, r.Started.Format(time.RFC3339))
	for _, c := range r.Checks {
		state := "good"
		if !c.OK {
			state = "WRONG: " + c.Why
		}
		term.Printf("%-13s %s\n", c.Name, state)
	}
	term.Printf("%-13s until %s\n", "", r.CertificateUntil.Format(time.RFC3339))
	if len(r.Keys) > 1 {
		term.Printf("%-13s a rotation is under way or was broken off: `sallyport-verifier rotate-keys` ends it\n", "keys")
	}
	for _, s := range r.Streams {
		term.Printf("%-13s %s: %d events wait, %d sent, %d given up", "stream", s.Name, s.Backlog, s.Sent, s.GivenUp)
		if s.Failures > 0 {
			term.Printf("; %d attempts failed: %s", s.Failures, s.LastError)
		}
		term.Printf("\n")
	}
	for _, c := range r.Caches {
		if c.Stale {
			term.Printf("%-13s the list of %s is %s old\n", "device cache", c.System, (time.Duration(c.Age) * time.Second).String())
		}
	}
}

// wrong is what ends status with 1.
func wrong(r metrics.Report) error {
	for _, s := range r.Streams {
		if s.Failures > 0 {
			return fmt.Errorf("stream %s does not come through", s.Name)
		}
	}
	if !r.Ready {
		return errors.New("the verifier is not fit to serve")
	}
	return nil
}

func rotateCommand(term *cli.Terminal) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := command("rotate-keys --data DIR", "Change the key that seals secrets in the database",
		"Make another key, seal every secret in the database anew under it, and drop the\n"+
			"old one: also while the verifier serves, which then takes a minute and a half.\n"+
			"Broken off anywhere, the next run goes on.",
		func(ctx context.Context) error {
			if err := needData(dir); err != nil {
				return err
			}
			var done upkeep.Rotation
			err := control.Call(ctx, dir, http.MethodPost, "/rotate-keys", &done)
			if errors.Is(err, control.ErrNotServing) {
				done, err = rotateHere(ctx, term, dir)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return term.JSON(done)
			}
			term.Printf("Key %d seals; %d secrets were sealed anew, the old key is gone.\n", done.Key, done.Resealed)
			term.Printf("Backups from before hold the old key. Copy keys.json anew where you keep one apart.\n")
			return nil
		})
	dataFlag(cmd, &dir)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was done as JSON")
	return cmd
}

// rotateHere rotates in a directory from which nobody serves.
func rotateHere(ctx context.Context, term *cli.Terminal, dir string) (done upkeep.Rotation, err error) {
	if _, err := datadir.LoadConfig(dir, ""); err != nil { // says more about a missing directory
		return done, err
	}
	release, err := datadir.Lock(dir)
	if err != nil {
		return done, err
	}
	defer release()
	data, err := datadir.Open(ctx, dir, "", time.Now)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	return upkeep.Rotate(ctx, data.Store, data.Keys, 0, slog.New(slog.NewTextHandler(term.Err, &slog.HandlerOptions{Level: slog.LevelWarn})))
}
