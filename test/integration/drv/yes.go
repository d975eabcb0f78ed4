// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"net"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// runYes is authd for tests of what comes after it: it allows whatever it is asked.
func runYes(args []string, _ io.Reader, _ io.Writer) error {
	var socket string
	if err := parse("yes", args, func(f *flag.FlagSet) {
		f.StringVar(&socket, "socket", "/run/sallyport/sshgw.sock", "where it is asked")
	}); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = c.Close() }()
			if _, err := frames.ReadFrame(c); err == nil {
				_ = frames.WriteFrame(c, &frames.Done{Outcome: frames.OutcomeAllow})
			}
		}()
	}
}
