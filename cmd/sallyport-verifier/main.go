// SPDX-License-Identifier: Apache-2.0

// Command sallyport-verifier is the server that knows users and factors: it makes
// a data directory, serves from it, and replaces a lost administrator's
// integration. It decides nothing itself.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	term := cli.Stdio()
	err := newCommand(term).ExecuteContext(ctx)
	stop()
	os.Exit(term.Fail("sallyport-verifier", err))
}
