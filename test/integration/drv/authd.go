// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/daemon"
	"github.com/sallyport-mfa/sallyport/internal/eventlog"
)

// runAuthd is sallyport-authd on a host whose clock is wrong.
func runAuthd(args []string, _ io.Reader, _ io.Writer) error {
	var path string
	var ahead time.Duration
	if err := parse("authd", args, func(f *flag.FlagSet) {
		f.StringVar(&path, "config", config.DefaultPath, "configuration `file`")
		f.DurationVar(&ahead, "ahead", 0, "by how much the clock is ahead")
	}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return daemon.Run(ctx, daemon.Options{
		ConfigPath: path, Version: "test", Log: eventlog.New("sallyport-authd", eventlog.JSON, slog.LevelInfo, os.Stderr),
		Now: func() time.Time { return time.Now().Add(ahead) },
	})
}
