// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
)

// waiters is how many logins wait for a push at once.
const waiters = 5000

// waiterKey is the key of all authenticators here, from a fixed number, so that both
// processes have it.
func waiterKey() (*ecdsa.PrivateKey, error) {
	sum := sha256.Sum256([]byte("the authenticators of the benchmark"))
	d := new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), new(big.Int).Sub(elliptic.P256().Params().N, big.NewInt(1)))
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), d.Add(d, big.NewInt(1)).FillBytes(make([]byte, 32)))
}

func waiterPublicKey() (string, error) {
	key, err := waiterKey()
	if err != nil {
		return "", err
	}
	return keyproof.EncodeKey(&key.PublicKey)
}

// crowd is the waiting clients of one server.
type crowd struct {
	*child
	hosts  []*http.Client // connections: each carries a part of the waiters
	ends   []chan time.Time
	hello  func(ctx context.Context, c *http.Client) error        // makes the connection
	begins func(ctx context.Context, c *http.Client, i int) error // until waiter i waits
	waits  func(ctx context.Context, c *http.Client, i int) error // until it is answered
	answer func(ctx context.Context, i int) (time.Time, error)    // sends what it waits for, and says when
	stop   func()
}

// client makes one connection over HTTP/2 and TLS.
func (c *crowd) client(b *testing.B) *http.Client {
	b.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(c.CAPEM))
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	b.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// starting is how many begin at once.
const starting = 64

// gather has all of them wait. They wait again after each answer, until stop.
func (c *crowd) gather(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all, begun sync.WaitGroup
	slots := make(chan struct{}, starting)
	c.ends = make([]chan time.Time, waiters)
	for i := range waiters {
		c.ends[i] = make(chan time.Time, 1)
		begun.Add(1)
		first := sync.OnceFunc(begun.Done)
		all.Go(func() {
			defer first()
			host := c.hosts[i%len(c.hosts)]
			for ctx.Err() == nil {
				slots <- struct{}{}
				err := c.begins(ctx, host, i)
				<-slots
				first()
				if err == nil {
					err = c.waits(ctx, host, i)
				}
				if err != nil {
					if ctx.Err() == nil {
						b.Errorf("waiter %d: %v", i, err)
					}
					return
				}
				c.ends[i] <- time.Now()
			}
		})
	}
	begun.Wait()
	c.stop = func() { cancel(); all.Wait() }
}

// settled is the memory of the server once all wait.
func (c *crowd) settled(b *testing.B) memory {
	b.Helper()
	for range 600 {
		if m := c.memory(b); m.Waiting == waiters {
			return m
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatal("not all of them wait")
	return memory{}
}

func (c *crowd) get(ctx context.Context, h *http.Client, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return err
	}
	res, err := h.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// atParking is a crowd at the bare handler.
func atParking(b *testing.B) *crowd {
	b.Helper()
	c := &crowd{child: startChild(b, childBare)}
	c.hello = func(ctx context.Context, h *http.Client) error { return c.get(ctx, h, "/release") }
	c.begins = func(context.Context, *http.Client, int) error { return nil }
	c.waits = func(ctx context.Context, h *http.Client, i int) error {
		return c.get(ctx, h, fmt.Sprint("/park?id=", i))
	}
	phone := c.client(b)
	c.answer = func(ctx context.Context, i int) (time.Time, error) {
		begun := time.Now()
		return begun, c.get(ctx, phone, fmt.Sprint("/release?id=", i))
	}
	return c
}

// atVerifier is a crowd of logins: asynchronous auth, then auth_status until the end.
func atVerifier(b *testing.B) *crowd {
	b.Helper()
	c := &crowd{child: startChild(b, childVerifier)}
	base, err := url.Parse(c.URL)
	if err != nil {
		b.Fatal(err)
	}
	c.hello = func(ctx context.Context, h *http.Client) error { return c.get(ctx, h, "/healthz") }
	var txids [waiters]atomic.Value
	api := func(h *http.Client) *duoapi.Client {
		return &duoapi.Client{BaseURL: base, IntegrationKey: waiterKeyOf, Secret: []byte(secret), HTTP: h, Now: time.Now}
	}
	status := func(ctx context.Context, h *http.Client, i int) (duoapi.Auth, error) {
		var out duoapi.Auth
		_, err := api(h).Call(ctx, http.MethodGet, "/auth/v2/auth_status", url.Values{"txid": {txids[i].Load().(string)}}, &out)
		return out, err
	}
	c.begins = func(ctx context.Context, h *http.Client, i int) error {
		var out duoapi.Auth
		_, err := api(h).Call(ctx, http.MethodPost, "/auth/v2/auth", url.Values{
			"username": {waiterName(i)}, "factor": {"push"}, "device": {waiterPhone(i)}, "async": {"1"}, "ipaddr": {"192.0.2.1"}, "hostname": {"web1.example"},
		}, &out)
		if err != nil {
			return err
		}
		txids[i].Store(out.TxID)
		_, err = status(ctx, h, i) // answers at once
		return err
	}
	c.waits = func(ctx context.Context, h *http.Client, i int) error {
		for {
			out, err := status(ctx, h, i)
			switch {
			case err != nil:
				return err
			case out.Result == duoapi.ResultAllow:
				return nil
			case out.Result != duoapi.ResultWaiting:
				return fmt.Errorf("%+v", out)
			}
		}
	}
	private, err := waiterKey()
	if err != nil {
		b.Fatal(err)
	}
	phone := c.client(b)
	c.answer = func(ctx context.Context, i int) (time.Time, error) {
		a := &agentapi.Client{BaseURL: base, Key: private, KeyID: waiterPhone(i), HTTP: phone, Now: time.Now}
		list, err := a.Transactions(ctx, 0, nil)
		at := slices.IndexFunc(list, func(tx agentapi.Transaction) bool { return tx.TxID == txids[i].Load().(string) })
		if err != nil || at < 0 {
			return time.Time{}, fmt.Errorf("not among %d transactions: %w", len(list), err)
		}
		signed, err := a.SignAnswer(list[at], agentapi.Approve, "")
		if err != nil {
			return time.Time{}, err
		}
		begun := time.Now()
		_, err = a.SendAnswer(ctx, list[at].TxID, agentapi.SignedAnswer{Answer: signed})
		return begun, err
	}
	return c
}

// connect makes the connections that the crowd waits on.
func (c *crowd) connect(b *testing.B, hosts int) {
	b.Helper()
	c.hosts = make([]*http.Client, hosts)
	var all sync.WaitGroup
	slots := make(chan struct{}, starting)
	for i := range c.hosts {
		c.hosts[i] = c.client(b)
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := c.hello(context.Background(), c.hosts[i]); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
}

// disperse ends all waiting, and waits until the server knows.
func (c *crowd) disperse(b *testing.B) {
	b.Helper()
	c.stop()
	for _, h := range c.hosts {
		h.CloseIdleConnections()
	}
	for range 600 {
		if c.memory(b).Waiting == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.Fatal("some still wait")
}

// weigh gathers the crowd and says what the server holds for each. It does so twice,
// and the first time only has the server's caches filled.
func (c *crowd) weigh(b *testing.B, hosts int) (heap, stack, rss float64) {
	b.Helper()
	c.connect(b, 10)
	c.gather(b)
	c.settled(b)
	c.disperse(b)
	empty := c.memory(b)
	c.connect(b, hosts)
	c.gather(b)
	full := c.settled(b)
	each := func(full, empty int64) float64 { return float64(full-empty) / waiters }
	return each(full.Heap, empty.Heap), each(full.Stack, empty.Stack), each(full.RSS, empty.RSS)
}

// answerAll answers n waiters, one after another, and says how long each then waited.
func (c *crowd) answerAll(b *testing.B, n int, turn *int) (each []time.Duration) {
	b.Helper()
	for range n {
		i := *turn % waiters
		*turn++
		begun, err := c.answer(context.Background(), i)
		if err != nil {
			b.Fatal(err)
		}
		each = append(each, (<-c.ends[i]).Sub(begun))
	}
	return each
}

// BenchmarkWaiting: 5,000 logins wait for a push by auth_status, over HTTP/2 and TLS,
// at a verifier in a process of its own. What one costs is the difference of that
// process with and without them, its connections included. An iteration is an
// approval by an authenticator while the others wait, from when it is sent to when the
// login has its answer; the login then begins anew. Beside it, the same requests
// parked on a channel by a handler that does nothing else.
func BenchmarkWaiting(b *testing.B) {
	for _, hosts := range []int{10, waiters} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			full, bare := atVerifier(b), atParking(b)
			heap, stack, rss := full.weigh(b, hosts)
			bareHeap, bareStack, bareRSS := bare.weigh(b, hosts)
			var each, bareEach []time.Duration
			turn, bareTurn := 0, 0
			b.Run("approve", func(b *testing.B) {
				for round := range rounds {
					n := b.N*(round+1)/rounds - b.N*round/rounds
					each = append(each, full.answerAll(b, n, &turn)...)
					bareEach = append(bareEach, bare.answerAll(b, n, &bareTurn)...)
				}
				b.ReportMetric(0, "ns/op") // of both together
				for _, m := range []struct {
					unit        string
					value, bare float64
				}{
					{"heap-B/waiter", heap, bareHeap}, {"stack-B/waiter", stack, bareStack}, {"rss-B/waiter", rss, bareRSS},
					{"p50-ms", quantile(each, 0.5), quantile(bareEach, 0.5)}, {"p99-ms", quantile(each, 0.99), quantile(bareEach, 0.99)},
				} {
					b.ReportMetric(m.value, m.unit)
					b.ReportMetric(m.bare, "bare-"+m.unit)
				}
				b.ReportMetric(rss/bareRSS, "rss-ratio")
				b.ReportMetric(quantile(each, 0.99)/quantile(bareEach, 0.99), "p99-ratio")
			})
			full.disperse(b)
			bare.disperse(b)
		})
	}
}

// BenchmarkWaitingService is BenchmarkWaiting without the network: what the login
// service itself takes for a login that waits, beside a goroutine parked on a channel.
func BenchmarkWaitingService(b *testing.B) {
	p := newPlace(b)
	if err := addWaiters(p.data); err != nil {
		b.Fatal(err)
	}
	hub := &counted{Hub: &push.Local{}}
	service, err := login.New(login.Config{
		Store: p.data.Store, Keys: p.data.Keys, Hub: hub, Audience: p.verifier.String(), Now: time.Now, Random: rand.Reader,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	var txids [waiters]string
	for i := range waiters {
		out, err := service.Auth(context.Background(), login.Client{Integration: waiterIntegration()}, login.AuthRequest{
			Username: waiterName(i), Factor: duoapi.FactorPush, Device: waiterPhone(i), Async: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		txids[i] = out.TxID
	}
	// crowd says what n goroutines take that wait in park until stop.
	crowd := func(park func(ctx context.Context, i int), waiting func() int) float64 {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		before := weighSelf(0)
		for i := range waiters {
			all.Go(func() { park(ctx, i) })
		}
		for waiting() < waiters {
			time.Sleep(10 * time.Millisecond)
		}
		after := weighSelf(0)
		stop()
		all.Wait()
		return float64(after.Heap+after.Stack-before.Heap-before.Stack) / waiters
	}
	b.ResetTimer()
	var full, bare float64
	for range b.N {
		full += crowd(func(ctx context.Context, i int) {
			for ctx.Err() == nil { // the first answers at once
				if _, err := service.Status(ctx, waiterKeyOf, txids[i]); err != nil && ctx.Err() == nil {
					b.Error(err)
					return
				}
			}
		}, hub.count)
		var n atomic.Int64
		bare += crowd(func(ctx context.Context, _ int) {
			n.Add(1)
			<-ctx.Done()
		}, func() int { return int(n.Load()) })
	}
	b.ReportMetric(full/float64(b.N), "B/waiter")
	b.ReportMetric(bare/float64(b.N), "bare-B/waiter")
	b.ReportMetric(full/bare, "ratio")
}
