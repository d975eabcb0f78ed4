// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// pipe is what a peer says, and where what it is told goes.
type pipe struct {
	io.Reader
	said bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) { return p.said.Write(b) }
func (p *pipe) Close() error                { return nil }

// Whatever both peers send, a filter ends, and not by a panic.
func FuzzFilter(f *testing.F) {
	hello := []byte{0, 0, 0, 5, fxpInit, 0, 0, 0, 3}
	version := []byte{0, 0, 0, 5, fxpVersion, 0, 0, 0, 3}
	home := nameReply("/home")
	attrs := finish(append(start(nil, fxpAttrs), 0, 0, 2, 1, 0, 0, 0, 4, 0, 0, 0x41, 0xff))
	open := finish(addString(append(start(nil, fxpOpen), 0, 0, 0, 7), "/home/x"))
	f.Add(append(hello, open...), append(append(version, home...), attrs...))
	f.Add(append(hello, 0, 0, 0, 9, fxpExtended, 0, 0, 0, 1, 0, 0, 0, 0), version)
	f.Fuzz(func(t *testing.T, client, server []byte) {
		for _, rules := range []area{{All: true}, {Read: []string{"/home/pub"}, Write: []string{"/home/pub"}}} {
			fromServer, end := io.Pipe()
			go func() {
				_, _ = end.Write(server)
				end.Close()
			}()
			to := &pipe{Reader: fromServer}
			from := &pipe{Reader: bytes.NewReader(client)}
			filter := &Filter{Rules: rules, Timeout: 50 * time.Millisecond}
			err := filter.Run(context.Background(), from, struct {
				io.Reader
				io.Writer
				io.Closer
			}{to, to, to})
			if err != nil && strings.Contains(err.Error(), "panic") {
				t.Fatal(err)
			}
			fromServer.Close()
		}
	})
}

func FuzzPackets(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, fxpInit, 0, 0, 0, 3})
	f.Add(status(nil, 1, 2, "no"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := newPackets(bytes.NewReader(data), "x")
		read := 0
		for {
			p, err := in.next()
			if err != nil {
				break
			}
			if !bytes.Equal(p, data[read:read+len(p)]) {
				t.Fatalf("a packet at %d is %q", read, p)
			}
			read += len(p)
			c := cursor{rest: p[5:]}
			for !c.bad && len(c.rest) > 0 {
				c.u32()
				c.attrs()
				c.str()
				c.u64()
			}
			statusOf(p[4:])
			nameOf(p[4:])
		}
		if len(in.buf) > maxPacket+4 {
			t.Fatalf("a buffer of %d", len(in.buf))
		}
	})
}
