// SPDX-License-Identifier: Apache-2.0

package sshgw

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// report gathers what one benchmark found: a table, and aims below it.
type report struct {
	text strings.Builder
}

func (r *report) row(format string, args ...any) { fmt.Fprintf(&r.text, format+"\n", args...) }

// aim says what was aimed at, the figure, and whether it is met.
func (r *report) aim(what, sign string, want, got float64, unit string) {
	met := got >= want
	if sign == "≤" {
		met = got <= want
	}
	r.row("aim: %-58s %s %-5.4g%s: %6.4g%s, %s", what, sign, want, unit, got, unit, map[bool]string{true: "met", false: "NOT MET"}[met])
}

func (r *report) print(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	// The log of a benchmark is cut after ten lines.
	fmt.Printf("\n%s", r.text.String())
}

// open comes in at a jump host and opens a way to the echo server through it.
func (s *site) open(p *program) (*ssh.Client, net.Conn, error) {
	c, err := ssh.Dial("tcp", p.addr, s.clientConfig(s.user))
	if err != nil {
		return nil, nil, err
	}
	way, err := c.Dial("tcp", s.echo)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return c, way, echoByte(way)
}

// echoByte sends a byte and waits for it.
func echoByte(c io.ReadWriter) error {
	b := []byte{'x'}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// connect opens n connections, so many at once, and gives how long all of them took.
func (s *site) connect(b *testing.B, p *program, n, atOnce int) time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, atOnce)
	begin := time.Now()
	for range atOnce {
		go func() {
			for left.Add(-1) >= 0 {
				c, _, err := s.open(p)
				if err != nil {
					errs <- fmt.Errorf("%s: %w", p.name, err)
					return
				}
				_ = c.Close()
			}
			errs <- nil
		}()
	}
	for range atOnce {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

// BenchmarkConnections opens a connection, jumps, has a byte sent back, and closes it.
func BenchmarkConnections(b *testing.B) {
	s := newSite(b)
	const rounds = 3
	var r report
	for b.Loop() {
		r = report{}
		for _, atOnce := range []int{1, 8} {
			rate, cost := map[string][]float64{}, map[string][]float64{}
			for range rounds {
				for _, p := range []*program{s.jump, s.floor, s.sallyport} {
					n := 300
					if p == s.jump {
						n = 20 + 10*atOnce
					}
					before := settledCPU(p.pid)
					took := s.connect(b, p, n, atOnce)
					rate[p.name] = append(rate[p.name], float64(n)/took.Seconds())
					cost[p.name] = append(cost[p.name], (settledCPU(p.pid)-before).Seconds()*1000/float64(n))
				}
			}
			r.row("%-16s %18s %26s", fmt.Sprintf("%d at once", atOnce), "connections/s", "CPU ms per connection")
			for _, p := range []*program{s.jump, s.floor, s.sallyport} {
				r.row("%-16s %18.0f %26.2f", p.name, median(rate[p.name]), median(cost[p.name]))
			}
			r.aim(fmt.Sprintf("new connections, %d at once, of OpenSSH's", atOnce), "≥", 6, median(rate["sallyport"])/median(rate["openssh"]), "×")
			b.ReportMetric(median(rate["sallyport"])/median(rate["openssh"]), fmt.Sprintf("x-openssh-conn/s-%d", atOnce))
			b.ReportMetric(median(cost["openssh"])/median(cost["sallyport"]), fmt.Sprintf("x-less-CPU/conn-%d", atOnce))
		}
	}
	r.print(b)
}

// BenchmarkIdle measures what connections hold that do nothing: with nothing open, and
// with a way to another server.
func BenchmarkIdle(b *testing.B) {
	const connections = 200
	var r report
	for b.Loop() {
		r = report{}
		for _, jumping := range []bool{false, true} {
			s := newSite(b) // whose programs hold nothing from before
			each := map[string]float64{}
			for _, p := range []*program{s.jump, s.floor, s.sallyport} {
				s.connect(b, p, 20, 4) // what is made once is there
				before := proportionalSize(p.pid)
				var open []io.Closer
				for range connections {
					c, err := ssh.Dial("tcp", p.addr, s.clientConfig(s.user))
					if err == nil && jumping {
						var way net.Conn
						if way, err = c.Dial("tcp", s.echo); err == nil {
							err = echoByte(way)
						}
					}
					if err != nil {
						b.Fatalf("%s: %v", p.name, err)
					}
					open = append(open, c)
				}
				time.Sleep(idleFor)
				each[p.name] = float64(proportionalSize(p.pid)-before) / 1024 / connections
				for _, c := range open {
					_ = c.Close()
				}
				settledCPU(p.pid)
			}
			what := map[bool]string{false: "nothing open", true: "with a jump open"}[jumping]
			r.row("%-20s %16s", what, "KiB per connection")
			for _, p := range []*program{s.jump, s.floor, s.sallyport} {
				r.row("%-20s %16.0f", p.name, each[p.name])
			}
			r.aim("memory (PSS) of an idle connection, "+what+", of OpenSSH's", "≤", 1.0/15, each["sallyport"]/each["openssh"], "×")
			b.ReportMetric(each["openssh"]/each["sallyport"], "x-less-memory-"+map[bool]string{false: "bare", true: "jump"}[jumping])
		}
	}
	r.print(b)
}

// idleFor is how long connections are left alone before they are weighed.
const idleFor = 5 * time.Second

// way is how a client of OpenSSH goes to the target.
type way struct {
	name    string
	through *program // what is weighed; nil: nothing is between
	args    []string
}

func (s *site) ways() []way {
	return []way{
		{"direct", nil, []string{"target"}},
		{"openssh -J", s.jump, []string{"-J", "openssh", "target"}},
		{"x/crypto -J", s.floor, []string{"-J", "library", "target"}},
		{"raw -J", s.sallyport, []string{"-J", "sallyport", "target"}},
		{"terminated", s.sallyport, []string{"-l", s.user + "%" + s.user + "@target", "sallyport"}},
	}
}

// carry moves size bytes one way, with OpenSSH's client.
func carry(b *testing.B, config string, up bool, size int64, args ...string) time.Duration {
	b.Helper()
	command := fmt.Sprintf("head -c %d /dev/zero", size)
	if up {
		command = "cat >/dev/null"
	}
	all := append([]string{"-F", config}, args...)
	cmd := quiet("ssh", append(all, command)...)
	if up {
		cmd = quiet("sh", append([]string{"-c", fmt.Sprintf(`head -c %d /dev/zero | ssh "$@"`, size), "sh"}, append(all, command)...)...)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("ssh %v: %v\n%s", args, err, &said)
	}
	return time.Since(begin)
}

// measured is what one way cost in each round.
type measured struct{ speed, cpu []float64 } // MiB/s, CPU s per GiB

func (s *site) carryRounds(b *testing.B, cipher string, up bool, rounds int, size int64) map[string]*measured {
	b.Helper()
	config := s.sshConfig(b, cipher)
	found := map[string]*measured{}
	for range rounds {
		for _, w := range s.ways() {
			m := found[w.name]
			if m == nil {
				m = &measured{}
				found[w.name] = m
			}
			var before time.Duration
			if w.through != nil {
				before = settledCPU(w.through.pid)
			}
			took := carry(b, config, up, size, w.args...)
			m.speed = append(m.speed, float64(size)/(1<<20)/took.Seconds())
			if w.through != nil {
				m.cpu = append(m.cpu, (settledCPU(w.through.pid)-before).Seconds()*(1<<30)/float64(size))
			} else {
				m.cpu = append(m.cpu, 0)
			}
		}
	}
	return found
}

// BenchmarkCarry moves bytes both ways with OpenSSH's client.
func BenchmarkCarry(b *testing.B) {
	s := newSite(b)
	var r report
	for b.Loop() {
		r = report{}
		for _, cipher := range []string{"aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"} {
			for _, up := range []bool{false, true} {
				to := map[bool]string{false: "down", true: "up"}[up]
				short, _, _ := strings.Cut(cipher, "-")
				found := s.carryRounds(b, cipher, up, 3, 384<<20)
				r.row("%-22s %10s %22s", short+" "+to, "MiB/s", "gateway CPU s/GiB")
				for _, w := range s.ways() {
					r.row("%-22s %10.0f %22.2f", w.name, median(found[w.name].speed), median(found[w.name].cpu))
				}
				for _, w := range []string{"raw -J", "terminated"} {
					speed := median(found[w].speed) / median(found["openssh -J"].speed)
					cpu := median(found[w].cpu) / median(found["openssh -J"].cpu)
					r.aim(short+" "+to+", "+w+": throughput, of OpenSSH's jump", "≥", 1, speed, "×")
					r.aim(short+" "+to+", "+w+": CPU per GiB, of OpenSSH's jump", "≤", 1.5, cpu, "×")
					b.ReportMetric(cpu, "x-CPU-"+short+"-"+to+"-"+strings.Fields(w)[0])
				}
			}
		}
	}
	r.print(b)
}

// typing is a session in which a byte that is sent comes back.
type typing struct {
	name  string
	in    io.Writer
	out   io.Reader
	close func()
}

func (s *site) typeAt(b *testing.B, name string, c *ssh.Client) *typing {
	b.Helper()
	session, err := c.NewSession()
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	in, inErr := session.StdinPipe()
	out, outErr := session.StdoutPipe()
	modes := ssh.TerminalModes{ssh.ECHO: 1}
	if err := cmp.Or(inErr, outErr, session.RequestPty("xterm", 24, 80, modes), session.Start("stty raw -echo; echo; exec cat")); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return &typing{name, in, out, func() { _ = c.Close() }}
}

func (s *site) dial(b *testing.B, addr, user string) *ssh.Client {
	b.Helper()
	c, err := ssh.Dial("tcp", addr, s.clientConfig(user))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// through is a connection inside a jump.
func (s *site) through(b *testing.B, p *program) *ssh.Client {
	b.Helper()
	way, err := s.dial(b, p.addr, s.user).Dial("tcp", s.target.addr)
	if err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	c, channels, requests, err := ssh.NewClientConn(way, s.target.addr, s.clientConfig(s.user))
	if err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	return ssh.NewClient(c, channels, requests)
}

// BenchmarkKeystroke sends a byte into a terminal and waits until it is back.
func BenchmarkKeystroke(b *testing.B) {
	s := newSite(b)
	var r report
	for b.Loop() {
		r = report{}
		all := []*typing{
			s.typeAt(b, "direct", s.dial(b, s.target.addr, s.user)),
			s.typeAt(b, "openssh -J", s.through(b, s.jump)),
			s.typeAt(b, "x/crypto -J", s.through(b, s.floor)),
			s.typeAt(b, "raw -J", s.through(b, s.sallyport)),
			s.typeAt(b, "terminated", s.dial(b, s.sallyport.addr, s.user+"%"+s.user+"@target")),
			s.typeAt(b, "recorded", s.dial(b, s.sallyport.addr, s.user+"%"+s.user+"@recorded")),
		}
		times := map[string][]time.Duration{}
		for range 500 {
			for _, t := range all {
				begin := time.Now()
				if err := echoByte(struct {
					io.Reader
					io.Writer
				}{t.out, t.in}); err != nil {
					b.Fatalf("%s: %v", t.name, err)
				}
				times[t.name] = append(times[t.name], time.Since(begin))
			}
		}
		r.row("%-16s %20s", "a keystroke", "median of its echo")
		for _, t := range all {
			t.close()
			r.row("%-16s %20s", t.name, median(times[t.name]).Round(time.Microsecond))
		}
		r.aim("keystroke, raw, of OpenSSH's jump", "≤", 1.5, float64(median(times["raw -J"]))/float64(median(times["openssh -J"])), "×")
		b.ReportMetric(float64(median(times["terminated"]))/float64(median(times["openssh -J"])), "x-openssh-keystroke")
	}
	r.print(b)
}

// screen is what a busy terminal shows: lines with colours, 1 MiB and a bit.
func screen() string {
	var text strings.Builder
	for i := 0; text.Len() < 1<<20; i++ {
		fmt.Fprintf(&text, "\x1b[32m%08d\x1b[0m a line of a log as a build prints it, with \"quotes\" and\ttabs\n", i)
	}
	return text.String()
}

// BenchmarkRecording runs the same terminal session, recorded and not, in turn.
func BenchmarkRecording(b *testing.B) {
	s := newSite(b)
	s.write(b, "screen", screen())
	const rounds, repeats = 5, 32
	command := fmt.Sprintf("for i in $(seq %d); do cat %s; done", repeats, s.path("screen"))
	var r report
	for b.Loop() {
		r = report{}
		times, cpu := map[string][]float64{}, map[string][]float64{}
		var slower, dearer []float64
		for range rounds {
			for _, target := range []string{"target", "recorded"} {
				before := settledCPU(s.sallyport.pid)
				took := s.watch(b, target, command)
				times[target] = append(times[target], took.Seconds())
				cpu[target] = append(cpu[target], (settledCPU(s.sallyport.pid) - before).Seconds())
			}
			last := len(times["target"]) - 1
			slower = append(slower, times["recorded"][last]/times["target"][last])
			dearer = append(dearer, cpu["recorded"][last]/cpu["target"][last])
		}
		r.row("%-16s %12s %18s", fmt.Sprintf("%d MiB on a terminal", repeats), "seconds", "gateway CPU s")
		for _, target := range []string{"target", "recorded"} {
			r.row("%-16s %12.2f %18.2f", map[string]string{"target": "not recorded", "recorded": "recorded"}[target], median(times[target]), median(cpu[target]))
		}
		r.aim("the gateway's CPU for it, of one that is not", "≤", 1.05, median(dearer), "×")
		r.aim("time of a recorded session, of one that is not", "≤", 1.05, median(slower), "×")
		b.ReportMetric(100*(median(slower)-1), "%-slower-recorded")
	}
	r.print(b)
}

// watch runs a command on a terminal and reads what it shows.
func (s *site) watch(b *testing.B, target, command string) time.Duration {
	b.Helper()
	c := s.dial(b, s.sallyport.addr, s.user+"%"+s.user+"@"+target)
	defer func() { _ = c.Close() }()
	session, err := c.NewSession()
	if err != nil {
		b.Fatal(err)
	}
	session.Stdout = io.Discard
	begin := time.Now()
	if err := cmp.Or(session.RequestPty("xterm", 24, 80, nil), session.Run(command)); err != nil {
		b.Fatalf("%s: %v", target, err)
	}
	return time.Since(begin)
}
