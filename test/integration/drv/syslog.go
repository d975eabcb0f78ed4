// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
)

// runSyslog is the system's log: it takes messages at /dev/log and writes them
// into a file, a line each.
func runSyslog(args []string, _ io.Reader, _ io.Writer) error {
	var path string
	if err := parse("syslog", args, func(f *flag.FlagSet) {
		f.StringVar(&path, "log", "", "`file` that takes the messages")
	}); err != nil {
		return err
	}
	log, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/dev/log", Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chmod("/dev/log", 0o666); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(log, "%s\n", buf[:n]); err != nil {
			return err
		}
	}
}
