// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

// devicesEnv names how many identifiers a cache has in these benchmarks.
const devicesEnv = "SALLYPORT_BENCH_DEVICES"

func deviceCount(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(devicesEnv), "1000000"))
	if err != nil || n < 1000 {
		b.Fatalf("%s is not a number from 1000 on", devicesEnv)
	}
	return n
}

// deviceIDs are n identifiers that look like UUIDs, in order.
func deviceIDs(n int, seed uint64) []string {
	r := rand.New(rand.NewPCG(seed, 1))
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xffff, r.Uint32()&0xffff, r.Uint64()&0xffffffffffff)
	}
	slices.Sort(ids)
	return ids
}

// fleet is a management system whose integration has the secret that the bare handler knows.
type fleet struct {
	trust.Caller
	path string
}

func (p *place) fleet(b *testing.B) fleet {
	b.Helper()
	name, os, all := fmt.Sprintf("fleet %d", time.Now().UnixNano()), store.OSLinux, store.ManagementAll
	m, err := p.data.Directory.CreateManagementSystem(context.Background(), directory.Actor{Name: "bench"}, directory.ManagementChange{Name: &name, OS: &os, Status: &all})
	if err != nil {
		b.Fatal(err)
	}
	i := m.Integration.Integration
	i.SecretSealed = p.data.Keys.Seal([]byte(secret), "integration", i.Key)
	if err := p.data.Store.Update(context.Background(), func(w store.Writer) error { return w.SetIntegration(i) }); err != nil {
		b.Fatal(err)
	}
	return fleet{trust.Caller{Integration: i, System: m.Key}, "/device/v1/management_systems/" + m.Key + "/device_cache"}
}

// as is a client of the fleet's integration.
func (p *place) as(b *testing.B, f fleet, base *url.URL) *duoapi.Client {
	b.Helper()
	c := p.client(b, base)
	c.IntegrationKey = f.Integration.Key
	return c
}

// upload sends batches of 1,000 one after the other, as sallyport device-cache sync does.
func upload(b *testing.B, c *duoapi.Client, path string, ids []string) {
	b.Helper()
	for batch := range slices.Chunk(ids, 1000) {
		devices := make([]map[string]string, len(batch))
		for i, id := range batch {
			devices[i] = map[string]string{"device_id": id}
		}
		text, err := json.Marshal(devices)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Call(context.Background(), http.MethodPost, path, url.Values{"devices": {string(text)}}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeviceUpload: identifiers into a new cache over HTTPS, one client, in
// the order of the list (as sync sends them) and at random. The bare handler
// takes the same requests in turn, checks their signatures and keeps nothing.
func BenchmarkDeviceUpload(b *testing.B) {
	p := newPlace(b)
	n := deviceCount(b)
	for _, c := range []struct {
		order string
		n     int
	}{{"sorted", n}, {"random", n / 5}} {
		b.Run(fmt.Sprintf("order=%s/devices=%d", c.order, c.n), func(b *testing.B) {
			var bare, full, cpu time.Duration
			for range b.N {
				ids := deviceIDs(c.n, 1)
				if c.order == "random" {
					rand.New(rand.NewPCG(2, 2)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
				}
				f := p.fleet(b)
				toBare, toFull := p.as(b, f, p.bare), p.as(b, f, p.verifier)
				var made struct {
					Key string `json:"cache_key"`
				}
				if _, err := toFull.Call(context.Background(), http.MethodPost, f.path, nil, &made); err != nil {
					b.Fatal(err)
				}
				path := f.path + "/" + made.Key + "/devices"
				for part := range slices.Chunk(ids, 20_000) {
					begin := time.Now()
					upload(b, toBare, path, part)
					middle, spent := time.Now(), cpuTime(b)
					upload(b, toFull, path, part)
					bare, full, cpu = bare+middle.Sub(begin), full+time.Since(middle), cpu+cpuTime(b)-spent
				}
				var cache struct {
					Count int `json:"device_count"`
				}
				if _, err := toFull.Call(context.Background(), http.MethodGet, f.path+"/"+made.Key, nil, &cache); err != nil || cache.Count != c.n {
					b.Fatalf("%d devices of %d: %v", cache.Count, c.n, err)
				}
			}
			total := float64(b.N * c.n)
			b.ReportMetric(full.Seconds()/float64(b.N), "s/cache")
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/cache")
			b.ReportMetric(total/full.Seconds(), "devices/s")
			b.ReportMetric(total/bare.Seconds(), "bare-devices/s")
			b.ReportMetric(bare.Seconds()/full.Seconds(), "ratio")
		})
	}
}

// latencies are what many calls took.
type latencies []time.Duration

func (l latencies) report(b *testing.B, what string) {
	slices.Sort(l)
	at := func(q float64) float64 { return float64(l[int(q*float64(len(l)-1))].Nanoseconds()) / 1000 }
	b.ReportMetric(at(0.5), what+"-p50-µs")
	b.ReportMetric(at(0.99), what+"-p99-µs")
}

// measure calls f until stop is set, at least once.
func measure(b *testing.B, stop *atomic.Bool, f func(i int) error) (l latencies) {
	b.Helper()
	for i := 0; ; i++ {
		begin := time.Now()
		if err := f(i); err != nil {
			b.Error(err)
			return l
		}
		l = append(l, time.Since(begin))
		if stop.Load() {
			return l
		}
	}
}

// BenchmarkDeviceLookup: look-ups in a cache of a million while nothing else
// happens, and while another of the same size is activated and the old one swept.
// "lookup" is trust.Lookup, as a login asks; "http" is the signed call, and
// "bare" the same call to the handler that checks the signature alone.
func BenchmarkDeviceLookup(b *testing.B) {
	p := newPlace(b)
	n := deviceCount(b)
	ids := deviceIDs(n, 1)
	f := p.fleet(b)
	ctx := context.Background()
	t := p.srv.Trust()
	fill := func(active bool) string {
		c, err := t.Create(ctx, f.Caller, active)
		if err != nil {
			b.Fatal(err)
		}
		for batch := range slices.Chunk(ids, 1000) {
			if _, err := t.Add(ctx, f.Caller, c.Key, batch); err != nil {
				b.Fatal(err)
			}
		}
		return c.Key
	}
	fill(true)
	pick := func(i int) string { return ids[i*7919%len(ids)] }
	lookup := func(i int) error {
		status, err := t.Lookup(ctx, trust.Endpoint{ID: pick(i), OS: store.OSLinux}, nil)
		if err == nil && status != trust.Trusted {
			err = fmt.Errorf("%s is %s", pick(i), status)
		}
		return err
	}
	get := func(c *duoapi.Client, key string) func(int) error {
		return func(i int) error {
			_, err := c.Call(ctx, http.MethodGet, f.path+"/"+key+"/devices", url.Values{"device_id": {pick(i)}}, nil)
			return err
		}
	}
	b.ResetTimer()
	for range b.N {
		key := fill(false)
		toBare, toFull := p.as(b, f, p.bare), p.as(b, f, p.verifier)
		measureFor := func(d time.Duration, f func(int) error) latencies {
			var stop atomic.Bool
			defer time.AfterFunc(d, func() { stop.Store(true) }).Stop()
			return measure(b, &stop, f)
		}
		measureFor(3*time.Second, lookup).report(b, "quiet-lookup")
		measureFor(3*time.Second, get(toBare, key)).report(b, "quiet-bare")
		measureFor(3*time.Second, get(toFull, key)).report(b, "quiet-http")

		var stop atomic.Bool
		var activated, swept time.Duration
		go func() {
			defer stop.Store(true)
			begin := time.Now()
			if _, err := t.Activate(ctx, f.Caller, key); err != nil {
				b.Error(err)
			}
			activated = time.Since(begin)
			t.Sweep(ctx)
			swept = time.Since(begin)
		}()
		measure(b, &stop, lookup).report(b, "busy-lookup")
		b.ReportMetric(float64(activated.Microseconds())/1000, "activate-ms")
		b.ReportMetric(swept.Seconds(), "sweep-s")
	}
}
