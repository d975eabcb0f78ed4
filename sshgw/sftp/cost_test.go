// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// serve says yes to all: what is measured with it is the filter.
func serve(c net.Conn, data []byte) {
	defer c.Close()
	in := newPackets(bufio.NewReaderSize(c, 64<<10), "x")
	out := make([]byte, 0, 64<<10)
	for {
		p, err := in.next()
		if err != nil {
			return
		}
		cur := cursor{rest: p[5:]}
		id := cur.u32()
		switch p[4] {
		case fxpInit:
			out = append(out[:0], 0, 0, 0, 5, fxpVersion, 0, 0, 0, 3)
		case fxpRealpath:
			out = append(out[:0], nameReply("/home")...)
			binary.BigEndian.PutUint32(out[5:], id)
		case fxpLstat:
			out = finish(append(binary.BigEndian.AppendUint32(start(out, fxpAttrs), id), 0, 0, 0, 4, 0, 0, 0x41, 0xff))
		case fxpOpen:
			out = finish(addString(binary.BigEndian.AppendUint32(start(out, fxpHandle), id), "h"))
		case fxpRead:
			out = finish(addString(binary.BigEndian.AppendUint32(start(out, fxpData), id), data))
		default:
			out = status(out, id, fxOK, "")
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// transfer reads or writes n packets of data, 64 at a time.
func transfer(t testing.TB, s *site, what byte, n int) {
	data := make([]byte, 32<<10)
	h := s.open("/home/file", fxfRead|fxfWrite|fxfCreate|fxfTruncate)
	var request []byte
	if what == fxpRead {
		request = s.packet(fxpRead, h, uint64(0), uint32(len(data)))
	} else {
		request = s.packet(fxpWrite, h, uint64(0), data2(data))
	}
	offset := 4 + 1 + 4 + 4 + len(h)
	const window = 64
	credit := make(chan struct{}, window)
	done := make(chan error, 1)
	go func() {
		for range n {
			if _, err := s.in.next(); err != nil {
				done <- err
				return
			}
			<-credit
		}
		done <- nil
	}()
	for i := range n {
		credit <- struct{}{}
		binary.BigEndian.PutUint64(request[offset:], uint64(i)*uint64(len(data)))
		s.raw(request)
	}
	must(t, <-done)
	s.wantCode(ok, fxpClose, h)
}

func data2(p []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...) }

// pair is two ends of a Unix socket.
func pair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	must(t, err)
	defer l.Close()
	one, err := net.Dial("unix", path)
	must(t, err)
	other, err := l.Accept()
	must(t, err)
	return one, other
}

func costSite(t testing.TB, rules Rules) *site {
	server, there := pair(t)
	go serve(there, make([]byte, 32<<10))
	here, filter := pair(t)
	s := &site{t: t, dir: "/home", client: here, in: newPackets(here, "the filter"), done: make(chan error, 1)}
	f := &Filter{Rules: rules}
	go func() {
		err := f.Run(t.Context(), filter, server)
		filter.Close()
		server.Close()
		s.done <- err
	}()
	return s.init()
}

func TestDataMakesNoGarbage(t *testing.T) {
	for _, rules := range []area{{All: true}, {Read: []string{"/home"}, Write: []string{"/home"}}} {
		for _, what := range []byte{fxpRead, fxpWrite} {
			s := costSite(t, rules)
			const packets = 2000
			n := testing.AllocsPerRun(1, func() { transfer(t, s, what, packets) })
			if n > packets/10 {
				t.Errorf("unrestricted %v, request %d: %v allocations for %d packets", rules.All, what, n, packets)
			}
			must(t, s.close())
		}
	}
}

// BenchmarkData is what the filter adds to data that passes, sums included: the ratio
// is to two sockets with a plain copy in between, in the same run.
func BenchmarkData(b *testing.B) {
	for what, name := range map[byte]string{fxpRead: "read", fxpWrite: "write"} {
		floor := 0.0
		for _, mode := range []string{"copied", "passed", "restricted"} {
			b.Run(fmt.Sprintf("%s/%s", name, mode), func(b *testing.B) {
				rules := area{All: mode == "passed", Read: []string{"/home"}, Write: []string{"/home"}}
				var s *site
				if mode == "copied" {
					s = plainSite(b)
				} else {
					s = costSite(b, rules)
				}
				defer s.client.Close()
				b.SetBytes(32 << 10)
				b.ReportAllocs()
				b.ResetTimer()
				begun := time.Now()
				transfer(b, s, what, b.N)
				per := float64(time.Since(begun)) / float64(b.N)
				if mode == "copied" {
					floor = per
				} else if floor > 0 {
					b.ReportMetric(per/floor, "x-copied")
				}
			})
		}
	}
}

func plainSite(b *testing.B) *site {
	server, there := pair(b)
	go serve(there, make([]byte, 32<<10))
	here, filter := pair(b)
	both := func(to, from net.Conn) {
		defer to.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
	}
	go both(server, filter)
	go both(filter, server)
	s := &site{t: b, dir: "/home", client: here, in: newPackets(here, "the filter")}
	return s.init()
}
