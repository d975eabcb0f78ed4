// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// BenchmarkCall is one hook call over authd.sock, beside a bare exchange of as
// many bytes over a Unix socket: what authd adds to a login before the network
// has a part in it (bypass), with a verifier on loopback (verifier), and with one
// that is known to be down (breaker-open), for which 50 ms would do.
func BenchmarkCall(b *testing.B) {
	floor := 0.0
	perCall := func(b *testing.B) float64 { return float64(b.Elapsed()) / float64(b.N) }
	b.Run("floor", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "floor.sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.AcceptUnix()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					if _, err := frames.ReadFrame(c); err == nil {
						_ = frames.WriteFrame(c, &frames.Done{Outcome: frames.OutcomeAllow})
					}
				}()
			}
		}()
		for b.Loop() {
			call(b, path)
		}
		floor = perCall(b)
	})
	for name, settings := range map[string]string{
		"bypass":   "[[rules]]\nname = \"b\"\nreason = \"bench\"\naction = \"bypass\"\nusers = [\"root\"]\n",
		"verifier": "",
	} {
		b.Run(name, func(b *testing.B) {
			s := newSite(b, settings)
			s.verifier.Preauth = duoapi.Preauth{Result: duoapi.ResultAllow}
			s.start()
			for b.Loop() {
				call(b, filepath.Join(s.dir, "run", RootSocketName))
			}
			b.ReportMetric(perCall(b)/floor, "x-floor")
		})
	}
	b.Run("breaker-open", func(b *testing.B) {
		s := newSite(b, "")
		s.verifier.Close()
		s.start()
		path := filepath.Join(s.dir, "run", RootSocketName)
		for !strings.Contains(s.log.String(), "event=verifier_down") {
			answer(b, path, frames.OutcomeUnavailable)
		}
		for b.Loop() {
			answer(b, path, frames.OutcomeUnavailable)
		}
		b.ReportMetric(perCall(b)/floor, "x-floor")
	})
}

// call is one REQUEST that is allowed.
func call(b *testing.B, path string) { answer(b, path, frames.OutcomeAllow) }

// answer is one REQUEST and its DONE.
func answer(b *testing.B, path string, want frames.Outcome) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := frames.WriteFrame(c, request()); err != nil {
		b.Fatal(err)
	}
	for {
		f, err := frames.ReadFrame(c)
		if err != nil {
			b.Fatal(err)
		}
		if d, ok := f.(*frames.Done); ok {
			if d.Outcome != want {
				b.Fatal(d)
			}
			return
		}
	}
}
