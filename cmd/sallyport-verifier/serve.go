// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/upkeep"
)

// emptyEvery is how often users whose days in the trash are over are deleted.
const emptyEvery = 10 * time.Minute

func emptyTrash(ctx context.Context, data *datadir.Data, keeper *upkeep.Keeper, log *slog.Logger) {
	for {
		if !keeper.MayDelete() {
			log.Warn("users whose days in the trash are over stay, since the clock is wrong, or not believed yet")
		} else if err := data.Directory.EmptyTrash(ctx); err != nil && ctx.Err() == nil {
			log.Error("could not delete users whose days in the trash are over", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(emptyEvery):
		}
	}
}

func serveCommand(term *cli.Terminal) *cobra.Command {
	var dir, file string
	cmd := command("serve --data DIR", "Serve from a data directory",
		"Serve until SIGINT or SIGTERM. SIGHUP reads the certificate files again.",
		func(ctx context.Context) error {
			if err := needData(dir); err != nil {
				return err
			}
			return serve(ctx, term.Err, dir, file)
		})
	dataFlag(cmd, &dir)
	configFlag(cmd, &file)
	return cmd
}

func serve(ctx context.Context, logTo io.Writer, dir, file string) (err error) {
	if _, err := datadir.LoadConfig(dir, file); err != nil { // says more about a missing directory
		return err
	}
	release, err := datadir.Lock(dir)
	if err != nil {
		return err
	}
	defer release()
	data, err := datadir.Open(ctx, dir, file, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	log := slog.New(slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: data.Config.Level()}))
	ops, err := newOperations(data, log)
	if err != nil {
		return err
	}
	defer ops.close()
	service, srv, err := assemble(data, ops, log)
	if err != nil {
		return err
	}
	if err := ops.streams.Begin(ctx); err != nil { // a store that takes no changes yet is no reason to refuse to serve
		log.Error("the streams begin later", "error", err)
	}
	ops.keeper.Beat(ctx)
	listener, err := listen(ctx, data.Config.Listen)
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := service.Run(background); err != nil && background.Err() == nil {
			log.Error("transactions that nobody waits for do not expire any more", "error", err)
		}
	})
	tasks.Go(func() { reloadOnHangup(background, data, log) })
	tasks.Go(func() { ops.run(background) })
	tasks.Go(func() { emptyTrash(background, data, ops.keeper, log) })
	tasks.Go(func() { watchdog(background, srv, log) })
	tasks.Go(func() { srv.Trust().Run(background) })
	tasks.Go(func() { srv.Enrollment().Run(background) })
	if ops.mail != nil {
		tasks.Go(func() { ops.mail.Run(background) })
	}
	log.Info("serving", "url", data.Config.Base().String(), "listen", listener.Addr().String(), "version", version.String(),
		"certificate_until", data.Certs.Expires(), "telephony", data.Telephony != nil, "mail", ops.mail != nil)
	notify(log, daemon.SdNotifyReady)
	err = srv.Serve(ctx, listener)
	notify(log, daemon.SdNotifyStopping)
	stop()
	tasks.Wait()
	log.Info("stopped")
	return err
}

// assemble joins the login service and the server.
func assemble(data *datadir.Data, ops *operations, log *slog.Logger) (login.API, *server.Server, error) {
	hub := ops.metrics.Hub(&push.Local{})
	config := login.Config{
		Store: ops.store, Keys: data.Keys, Hub: hub, Audience: data.Config.Audience(),
		Now: time.Now, Random: rand.Reader, Log: log,
	}
	if ops.webPush != nil {
		config.Notifier = ops.webPush
	}
	if data.Telephony != nil { // a nil *Provider in the interface would not be nil
		config.Telephony = data.Telephony
	}
	if ops.mail != nil {
		config.Notices, data.Directory.Notices = ops.mail, ops.mail
	}
	service, err := login.New(config)
	if err != nil {
		return nil, nil, fmt.Errorf("start the login service: %w", err)
	}
	data.Directory.Pushes = service
	if data.Telephony != nil {
		data.Directory.Texts = service
	}
	return service, server.New(server.Config{
		Base: data.Config.Base(), Store: ops.store, Keys: data.Keys, Login: service, Hub: hub, Directory: data.Directory,
		Telephony: data.Telephony, WebPush: ops.webPush, Mail: ops.mail, Certs: data.Certs, CAPEM: data.CAPEM, Logo: data.Logo, Partners: data.Config.App.Partners, Rates: rates(data.Config.RateLimits),
		Checks: ops.checks, Observe: ops.metrics.Observe, Now: time.Now, Log: log,
	}), nil
}

func rates(c config.RateLimits) gate.Rates {
	return gate.Rates{store.AuthAPI: c.AuthAPI, store.WebSDK: c.AuthAPI, store.AdminAPI: c.AdminAPI, store.DeviceAPI: c.DeviceAPI}
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another program does; set listen in verifier.toml to another address", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s (setting listen): %w", address, err)
	}
	return l, nil
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", "error", err)
	}
}

// reloadOnHangup reads the certificate files again on SIGHUP.
func reloadOnHangup(ctx context.Context, data *datadir.Data, log *slog.Logger) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := data.Certs.Reload(); err != nil {
				log.Error("the certificate in use stays: the files cannot be read again", "error", err)
				continue
			}
			log.Info("read the certificate files again", "certificate_until", data.Certs.Expires())
		}
	}
}

// watchdog tells the service manager that the store answers, if it asks for that.
func watchdog(ctx context.Context, srv *server.Server, log *slog.Logger) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	ticker := time.NewTicker(every / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := srv.Healthy(ctx); err != nil {
				log.Error("the store does not answer: no sign of life for the service manager", "error", err)
				continue
			}
			notify(log, daemon.SdNotifyWatchdog)
		}
	}
}
