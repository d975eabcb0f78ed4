// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"os"
	"strings"

	"github.com/sallyport-mfa/sallyport/test/pushservice/gcm"
)

// runPushService is the push service of a browser's maker: senders reach it by the
// names of Google's, browsers by the switches of package gcm, and the test by the
// control that is served beside check-in and registration.
func runPushService(args []string, _ io.Reader, _ io.Writer) error {
	var o gcm.Options
	var names, ca, spki string
	if err := parse("pushservice", args, func(f *flag.FlagSet) {
		f.StringVar(&o.Push, "push", ":443", "`address` for senders")
		f.StringVar(&o.Browser, "browser", ":8080", "`address` for check-in, registration and control")
		f.StringVar(&o.Stream, "stream", ":5228", "`address` for messages to browsers")
		f.StringVar(&names, "names", "", "further `names` that the certificate is for, comma-separated")
		f.StringVar(&ca, "ca", "", "`file` that takes the root for senders")
		f.StringVar(&spki, "spki", "", "`file` that takes what names the certificate for browsers; it is there when all is served")
	}); err != nil {
		return err
	}
	if names != "" {
		o.Names = strings.Split(names, ",")
	}
	r, err := gcm.Serve(o)
	if err != nil {
		return err
	}
	if err := os.WriteFile(ca, r.Root, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(spki, []byte(r.SPKI()), 0o644); err != nil {
		return err
	}
	select {} // until the container ends
}
