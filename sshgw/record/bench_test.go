// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
)

// BenchmarkOutput is what a recording adds to carrying output: 32 KiB at a time over
// two Unix sockets, as between a target and a client but without their encryption,
// with nothing in between (none), recorded, and recorded and sealed. The ratio is to
// none, in the same run; what is carried over SSH costs several times as much as none.
func BenchmarkOutput(b *testing.B) {
	key, err := age.GenerateX25519Identity()
	must(b, err)
	text := bytes.Repeat([]byte("drwxr-xr-x  2 root root 4096 Nov 22 08:31 \x1b[01;34mfolder\x1b[0m\r\n"), 600)[:piece]
	noise := make([]byte, piece)
	for i := range noise {
		noise[i] = byte(i * i * 7)
	}
	for _, what := range []struct {
		name string
		p    []byte
	}{{"text", text}, {"binary", noise}} {
		floor := 0.0
		for _, mode := range []string{"none", "recorded", "sealed"} {
			b.Run(what.name+"/"+mode, func(b *testing.B) {
				take := func([]byte) error { return nil }
				if mode != "none" {
					opt := Options{Dir: filepath.Join(b.TempDir(), "r"), Now: time.Now}
					if mode == "sealed" {
						opt.Recipients = []string{key.Recipient().String()}
					}
					r, err := New(opt)
					must(b, err)
					m := meta()
					m.Started = time.Now()
					rec := begin(b, r, m)
					defer func() { must(b, rec.Close()) }()
					take = rec.Output
				}
				carry(b, what.p, take)
				perByte := float64(b.Elapsed()) / float64(b.N)
				if mode == "none" {
					floor = perByte
				} else if floor > 0 {
					b.ReportMetric(perByte/floor, "x-none")
				}
			})
		}
	}
}

// carry moves p b.N times from one socket to another, and shows it to take on its way.
func carry(b *testing.B, p []byte, take func([]byte) error) {
	in, out := sockets(b), sockets(b)
	go func() {
		for range b.N {
			if _, err := in[0].Write(p); err != nil {
				return
			}
		}
		in[0].Close()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(struct{ io.Writer }{io.Discard}, out[1])
	}()
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	b.ResetTimer()
	buf := make([]byte, piece)
	for {
		n, err := in[1].Read(buf)
		if n > 0 {
			must(b, take(buf[:n]))
			_, err := out[0].Write(buf[:n])
			must(b, err)
		}
		if err != nil {
			break
		}
	}
	out[0].Close()
	<-done
	b.StopTimer()
}

func sockets(b *testing.B) [2]net.Conn {
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must(b, err)
	defer os.Remove(path)
	defer l.Close()
	one, err := net.Dial("unix", path)
	must(b, err)
	other, err := l.Accept()
	must(b, err)
	return [2]net.Conn{one, other}
}

// A keystroke's echo must not make garbage, nor a large output.
func TestOutputMakesNoGarbage(t *testing.T) {
	r := recorder(t, func(o *Options) { o.Now = time.Now; o.Sync = time.Hour })
	m := meta()
	m.Started = time.Now()
	rec := begin(t, r, m)
	defer rec.Close()
	key := []byte("x")
	if n := testing.AllocsPerRun(1000, func() { must(t, rec.Output(key)) }); n > 0.1 {
		t.Errorf("%v allocations for a key", n)
	}
}

// BenchmarkEncode is what an event costs before it is written.
func BenchmarkEncode(b *testing.B) {
	text := bytes.Repeat([]byte("drwxr-xr-x  2 root root 4096 Nov 22 08:31 \x1b[01;34mfolder\x1b[0m\r\n"), 600)[:piece]
	noise := make([]byte, piece)
	for i := range noise {
		noise[i] = byte(i * i * 7)
	}
	for name, p := range map[string][]byte{"text": text, "binary": noise, "zeros": make([]byte, piece)} {
		b.Run(name, func(b *testing.B) {
			s := stream{code: 'o'}
			var dst []byte
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				dst = s.append(dst[:0], 0, p)
			}
		})
	}
}
