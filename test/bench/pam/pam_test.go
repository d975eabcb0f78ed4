// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	sallyport "github.com/sallyport-mfa/sallyport/pam"
)

// bench is the place of one run. Its variants are measured in turn, one process
// each, in every round.
type bench struct {
	dir      string
	driver   string
	variants []string
	args     map[string][]string
}

func newBench(b *testing.B) *bench {
	b.Helper()
	dir, err := os.MkdirTemp("", "spbench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	module := filepath.Join(dir, "pam_sallyport.so")
	s := &bench{dir: dir, driver: filepath.Join(dir, "driver")}
	gcc(b, "-O2", "-o", s.driver, "driver/driver.c", "-lpam")
	// The flags of the Makefile; the uid lets anyone run the benchmark.
	gcc(b, "-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fstack-protector-strong",
		"-fstack-clash-protection", "-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now,-z,noexecstack,-z,defs",
		"-Wl,--version-script=../../../pam/pam_sallyport.map", "-DSALLYPORT_SERVER_UID="+strconv.Itoa(os.Getuid()),
		`-DSALLYPORT_VERSION="bench"`, "-o", module,
		"../../../pam/module.c", "../../../pam/client.c", "../../../pam/frame.c", "-lpam")
	s.write(b, "permit", "auth required pam_permit.so\n")
	s.write(b, "sallyport", "auth required "+module+" socket_dir="+dir+"\n")
	s.write(b, "other", "auth required pam_deny.so\n")
	request, err := frames.Append(nil, &frames.Request{Hook: frames.HookAuthenticate, Version: "bench", Service: "sallyport", User: "root"})
	if err != nil {
		b.Fatal(err)
	}
	s.write(b, "request", string(request))
	socket := sallyport.SocketPath(dir)
	serve(b, socket)
	s.variants = []string{"nothing", "exchange", "permit", "sallyport"}
	s.args = map[string][]string{
		"nothing":   {"nothing"},
		"exchange":  {"exchange", socket, filepath.Join(dir, "request")},
		"permit":    {"pam", dir, "permit"},
		"sallyport": {"pam", dir, "sallyport"},
		"authd":     {"pam", dir, "authd"},
	}
	return s
}

const authdConfig = `socket_dir = %[1]q
state_dir = %[1]q
[verifier]
urls = ["https://127.0.0.1:1"]
integration_key = "DIXXXXXXXXXXXXXXXXXX"
secret_key_file = "%[1]s/key"
[[rules]]
name = "bench"
reason = "an immediate allow"
action = "bypass"
users = ["root"]
services = ["authd"]
`

// startAuthd adds the variant of the real daemon, which needs root: a rule lets
// the login in, and the login is logged.
func (s *bench) startAuthd(b *testing.B) {
	b.Helper()
	dir := filepath.Join(s.dir, "authd.d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	program := filepath.Join(s.dir, "sallyport-authd")
	if out, err := exec.Command("go", "build", "-o", program, "../../../cmd/sallyport-authd").CombinedOutput(); err != nil {
		b.Fatalf("build authd: %v\n%s", err, out)
	}
	s.write(b, "authd.d/key", strings.Repeat("x", 40))
	s.write(b, "authd.d/authd.toml", fmt.Sprintf(authdConfig, dir))
	s.write(b, "authd", "auth required "+filepath.Join(s.dir, "pam_sallyport.so")+" socket_dir="+dir+"\n")
	log, err := os.Create(filepath.Join(s.dir, "authd.log"))
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "--config", filepath.Join(dir, "authd.toml"), "--log", "text")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	for range 500 {
		if sallyport.Probe(dir) == nil {
			s.variants = append(s.variants, "authd")
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	b.Fatalf("authd does not answer:\n%s", text)
}

func (s *bench) write(b *testing.B, name, text string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func gcc(b *testing.B, args ...string) {
	b.Helper()
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		b.Fatalf("gcc: %v\n%s", err, out)
	}
}

// serve allows every request at once.
func serve(b *testing.B, socket string) {
	b.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := frames.ReadFrame(c); err == nil {
					_ = frames.WriteFrame(c, &frames.Done{Outcome: frames.OutcomeAllow})
				}
			}()
		}
	}()
}

// run gives what the driver printed, and the time from fork to exit.
func (s *bench) run(b *testing.B, args ...string) ([]float64, time.Duration) {
	b.Helper()
	cmd := exec.Command(s.driver, args...)
	cmd.Stderr = os.Stderr
	begin := time.Now()
	out, err := cmd.Output()
	whole := time.Since(begin)
	if err != nil {
		b.Fatalf("driver %v: %v", args, err)
	}
	var values []float64
	for _, word := range strings.Fields(string(out)) {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			b.Fatalf("driver %v printed %q", args, out)
		}
		values = append(values, v)
	}
	return values, whole
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// BenchmarkTransaction measures pam_start, pam_authenticate and pam_end in a fresh
// process against a daemon that allows at once, and against authd with a rule that
// does. over-permit-us is the median of what one
// round's sallyport took longer than the same round's permit.
func BenchmarkTransaction(b *testing.B) {
	s := newBench(b)
	if os.Geteuid() == 0 {
		s.startAuthd(b)
	}
	inside, whole := map[string][]float64{}, map[string][]float64{}
	var over []float64
	s.round(b) // warm the page cache
	for b.Loop() {
		in, all := s.round(b)
		for _, v := range s.variants {
			inside[v] = append(inside[v], in[v])
			whole[v] = append(whole[v], all[v])
		}
		over = append(over, in["sallyport"]-in["permit"])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(inside["exchange"]), "exchange-us")
	b.ReportMetric(median(inside["permit"]), "permit-us")
	b.ReportMetric(median(inside["sallyport"]), "sallyport-us")
	b.ReportMetric(median(over), "over-permit-us")
	b.ReportMetric(median(inside["sallyport"])/median(inside["permit"]), "x-permit")
	b.ReportMetric(median(over)/median(inside["exchange"]), "over-permit-x-exchange")
	var table strings.Builder
	fmt.Fprintf(&table, "%d rounds, medians in microseconds\n%-10s %12s %20s\n", len(over), "", "transaction", "fork, exec to exit")
	for _, v := range s.variants {
		fmt.Fprintf(&table, "%-10s %12.0f %20.0f\n", v, median(inside[v]), median(whole[v]))
	}
	b.Log(table.String())
}

// round measures each variant once, in microseconds.
func (s *bench) round(b *testing.B) (inside, whole map[string]float64) {
	inside, whole = map[string]float64{}, map[string]float64{}
	for _, v := range s.variants {
		values, d := s.run(b, s.args[v]...)
		inside[v] = values[0] / 1e3
		whole[v] = float64(d.Nanoseconds()) / 1e3
	}
	return inside, whole
}

// BenchmarkMemory measures what the module adds to its host, in KiB over pam_permit.
func BenchmarkMemory(b *testing.B) {
	s := newBench(b)
	names := []string{"rss", "pss", "dirty"}
	added, base := map[string][]float64{}, map[string][]float64{}
	for b.Loop() {
		permit, _ := s.run(b, "memory", s.dir, "permit")
		module, _ := s.run(b, "memory", s.dir, "sallyport")
		for i, name := range names {
			added[name] = append(added[name], module[i]-permit[i])
			base[name] = append(base[name], permit[i])
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, name := range names {
		b.ReportMetric(median(added[name]), "added-"+name+"-KiB")
		b.ReportMetric(median(base[name]), "permit-"+name+"-KiB")
	}
}
