// SPDX-License-Identifier: Apache-2.0

package upkeep

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
	"github.com/sallyport-mfa/sallyport/verifier/store/storetest"
)

type site struct {
	*Keeper
	t     *testing.T
	db    *sqlite.DB
	path  string // of the keys
	log   *strings.Builder
	clock time.Time
}

const host = "verifier.example"

func newSite(t *testing.T) *site {
	dir := t.TempDir()
	s := &site{t: t, path: filepath.Join(dir, "keys.json"), log: &strings.Builder{}, clock: time.Now()}
	keys, err := seal.Create(s.path, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.db, err = sqlite.Open(t.Context(), filepath.Join(dir, "store.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	ca, err := certs.NewCA(host, s.clock)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return s.clock }
	source, err := certs.Own(ca, host, filepath.Join(dir, "c"), filepath.Join(dir, "k"), now)
	if err != nil {
		t.Fatal(err)
	}
	s.Keeper = New(s.db, keys, source, host, now, slog.New(slog.NewTextHandler(s.log, nil)))
	return s
}

func (s *site) update(f func(w store.Writer) error) {
	s.t.Helper()
	if err := s.db.Update(context.Background(), f); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) failing() (names []string) {
	for _, c := range s.Checks() {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestReadiness(t *testing.T) {
	s := newSite(t)
	want := func(when string, names ...string) {
		t.Helper()
		if got := s.failing(); !slices.Equal(got, names) {
			t.Errorf("%s: %v fail, want %v", when, got, names)
		}
		if s.Ready() != (len(names) == 0) {
			t.Errorf("%s: ready %v", when, s.Ready())
		}
	}
	want("before the first beat", "store")
	s.Beat(t.Context())
	want("after it")
	s.clock = s.clock.Add(staleAfter + time.Second)
	want("when it is old", "store")
	s.Beat(t.Context())
	want("after another")
	s.clock = s.clock.Add(-2 * behind)
	s.Beat(t.Context())
	want("with the clock behind", "clock")
	s.clock = s.clock.Add(2 * behind)
	s.Beat(t.Context())
	want("when it has caught up")
	s.clock = s.clock.Add(100 * 24 * time.Hour)
	s.Beat(t.Context())
	want("when the certificate has run out", "certificate")
	s.Certificate(t.Context())
	want("when it is renewed")
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	s.Beat(t.Context())
	s.clock = s.clock.Add(staleAfter + time.Second)
	want("when the store is gone", "store")
	if !strings.Contains(s.log.String(), "the store takes no changes") {
		t.Error("nothing in the log")
	}
}

// A machine may come up with a clock years ahead. Nothing is deleted by its word,
// and when it is right again, the verifier is fit to serve within the hour.
func TestClockAhead(t *testing.T) {
	s := newSite(t)
	s.update(func(w store.Writer) error {
		set, err := w.Settings()
		set.LogRetentionDays = 30
		return errors.Join(err, w.SetSettings(set), w.AddEvent(store.Event{TxID: "young", Time: s.clock}))
	})
	stays := func() {
		t.Helper()
		s.Purge(t.Context())
		if err := s.db.View(t.Context(), func(r store.Reader) error {
			_, err := r.Event("young")
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	s.Beat(t.Context())
	if begun := s.clock; !s.MayDelete() {
		t.Error("a clock that is right is not believed")
	} else {
		s.clock = begun.AddDate(3, 0, 0)
		s.Beat(t.Context())
		stays()
		s.clock = begun.Add(time.Minute)
	}
	for range 362 { // of ten seconds each
		if s.Beat(t.Context()); s.MayDelete() {
			t.Fatal("the clock is believed at once")
		}
		s.clock = s.clock.Add(10 * time.Second)
	}
	if !s.Ready() {
		t.Errorf("not fit to serve: %+v", s.Checks())
	}
	stays()
}

func TestRetention(t *testing.T) {
	s := newSite(t)
	const old = purgeChunk + 30
	s.update(func(w store.Writer) error {
		var errs []error
		for n := range old {
			errs = append(errs, w.AddEvent(store.Event{TxID: fmt.Sprint(n), Time: s.clock.AddDate(0, 0, -31)}))
		}
		return errors.Join(append(errs, w.AddEvent(store.Event{TxID: "young", Time: s.clock.AddDate(0, 0, -29)}),
			w.AddAdminEvent(store.AdminEvent{Time: s.clock.AddDate(0, 0, -31), Action: "x"}))...)
	})
	events := func() (n int) {
		if err := s.db.View(t.Context(), func(r store.Reader) error {
			all, err := r.Events(store.EventFilter{Limit: 10000})
			n = len(all)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.Beat(t.Context())
	s.Purge(t.Context())
	if events() != old+1 {
		t.Error("entries were deleted without a setting")
	}
	s.update(func(w store.Writer) error {
		set, err := w.Settings()
		set.LogRetentionDays = 30
		return errors.Join(err, w.SetSettings(set))
	})
	s.clock = s.clock.Add(-time.Hour)
	s.Purge(t.Context())
	if events() != old+1 {
		t.Error("entries were deleted by a clock that is wrong")
	}
	s.clock = s.clock.Add(time.Hour)
	s.Purge(t.Context())
	if events() != 1 {
		t.Errorf("%d entries are left, want the young one", events())
	}
	if p := s.Purged(); p[store.AuthenticationLog] != old || p[store.AdministratorLog] != 1 || p[store.TelephonyLog] != 0 {
		t.Errorf("counted %v", p)
	}
}

// sealed adds tokens and an integration under the present key.
func (s *site) sealed(from, to int) {
	s.t.Helper()
	s.update(func(w store.Writer) error {
		var errs []error
		for n := from; n < to; n++ {
			x := storetest.Token(fmt.Sprintf("DH%05d", n), store.TOTP6)
			x.SecretSealed = s.keys.Seal([]byte(x.ID), "token", x.ID)
			errs = append(errs, w.AddToken(x))
		}
		return errors.Join(errs...)
	})
}

// opens demands that every token opens with these keys, and counts those under key.
func (s *site) opens(keys *seal.Keys, key uint32, total int) (under int) {
	s.t.Helper()
	err := s.db.View(context.Background(), func(r store.Reader) error {
		all, n, err := r.Tokens(store.TokenFilter{}, store.Page{Limit: 1 << 20})
		if n != total {
			s.t.Errorf("%d tokens, want %d", n, total)
		}
		for _, x := range all {
			if got, err := keys.Open(x.SecretSealed, "token", x.ID); err != nil || string(got) != x.ID {
				return fmt.Errorf("%s: %q, %w", x.ID, got, err)
			}
			if x.SecretSealed[4] == byte(key) {
				under++
			}
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return under
}

// cut is a store that fails after so many updates, as if the verifier was killed there.
type cut struct {
	store.Store
	left int
}

var errCut = errors.New("killed")

func (c *cut) Update(ctx context.Context, f func(store.Writer) error) error {
	if c.left == 0 {
		return errCut
	}
	c.left--
	return c.Store.Update(ctx, f)
}

// TestRotationBrokenOff: broken off after any of its steps, everything opens with
// the keys on disk, and the next rotation ends what the first began.
func TestRotationBrokenOff(t *testing.T) {
	const tokens = 2*resealChunk + 50
	for steps := range 7 { // 3 columns of nothing, tokens in 3 chunks, and their end
		s := newSite(t)
		s.sealed(0, tokens)
		_, err := Rotate(t.Context(), &cut{s.db, steps}, s.keys, 0, s.Keeper.log)
		if !errors.Is(err, errCut) {
			t.Fatalf("broken off after %d updates: %v", steps, err)
		}
		restarted, err := seal.Load(s.path)
		if err != nil {
			t.Fatal(err)
		}
		s.opens(restarted, 2, tokens)
		if !slices.Equal(restarted.IDs(), []uint32{1, 2}) {
			t.Fatalf("keys %v", restarted.IDs())
		}
		s.keys = restarted
		s.sealed(tokens, tokens+1)
		r, err := s.Rotate(t.Context(), 0)
		if err != nil || r.Key != 2 || !r.Resumed {
			t.Fatalf("the next one: %+v, %v", r, err)
		}
		if restarted, err = seal.Load(s.path); err != nil || !slices.Equal(restarted.IDs(), []uint32{2}) {
			t.Fatalf("keys %v, %v", restarted.IDs(), err)
		}
		if under := s.opens(restarted, 2, tokens+1); under != tokens+1 {
			t.Fatalf("%d of %d under the new key", under, tokens+1)
		}
	}
}

// TestRotationUnderLoad: what others write meanwhile, and what was sealed under
// the old key before and is written only after the first round, opens afterwards.
func TestRotationUnderLoad(t *testing.T) {
	s := newSite(t)
	s.sealed(0, 300)
	late := storetest.Token("DHlate", store.TOTP6)
	late.SecretSealed = s.keys.Seal([]byte(late.ID), "token", late.ID)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	added := 0
	load.Go(func() {
		for ctx.Err() == nil {
			s.sealed(1000+added, 1001+added)
			added++
		}
	})
	// The late one comes while the rotation waits for such.
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for {
			left := 1
			_ = s.db.View(context.Background(), func(r store.Reader) error {
				rows, err := r.SealedUnder(store.SealedToken, 1, false, "", 1)
				left = len(rows)
				return err
			})
			if s.keys.Primary() == 2 && left == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		s.update(func(w store.Writer) error { return w.AddToken(late) })
	}()
	r, err := s.Rotate(t.Context(), time.Second)
	cancel()
	load.Wait()
	<-waiting
	if err != nil || r.Key != 2 || r.Resumed || r.Resealed < 301 {
		t.Fatalf("%+v, %v", r, err)
	}
	total := 301 + added
	if under := s.opens(s.keys, 2, total); under != total {
		t.Errorf("%d of %d under the new key", under, total)
	}
	if _, err := s.keys.Open(late.SecretSealed, "token", late.ID); !errors.Is(err, seal.ErrOpen) {
		t.Error("the old key still opens")
	}
}

// A value that nobody can open stops the rotation, and the old key stays.
func TestRotationOfWhatDoesNotOpen(t *testing.T) {
	s := newSite(t)
	s.sealed(0, 1)
	moved := storetest.Token("DHmoved", store.TOTP6)
	moved.SecretSealed = s.keys.Seal([]byte("x"), "token", "DHother")
	s.update(func(w store.Writer) error { return w.AddToken(moved) })
	_, err := s.Rotate(t.Context(), 0)
	if !errors.Is(err, seal.ErrOpen) || !strings.Contains(err.Error(), "DHmoved") || len(s.keys.IDs()) != 2 {
		t.Errorf("%v, keys %v", err, s.keys.IDs())
	}
}

// TestCertificateOnLiveConnections: new handshakes show the new certificate, and
// connections that were open before go on.
func TestCertificateOnLiveConnections(t *testing.T) {
	for _, kind := range []string{"own", "given"} {
		t.Run(kind, func(t *testing.T) {
			s := newSite(t)
			dir := t.TempDir()
			cert, key := filepath.Join(dir, "c"), filepath.Join(dir, "k")
			issue := func(host string) {
				t.Helper()
				ca, err := certs.NewCA(host, s.clock)
				if err := errors.Join(err, ca.Issue(host, cert, key, s.clock)); err != nil {
					t.Fatal(err)
				}
			}
			if kind == "given" {
				issue(host)
				source, err := certs.Given(cert, key, s.now)
				if err != nil {
					t.Fatal(err)
				}
				s.certs = source
			}
			addr := echo(t, s.certs)
			before, serial := connect(t, addr)
			s.Certificate(t.Context())
			if _, now := connect(t, addr); now != serial {
				t.Error("the certificate changed without need")
			}
			if kind == "own" {
				s.clock = s.clock.Add(61 * 24 * time.Hour) // 29 of 90 days are left
			} else {
				issue("other.example")
				s.Certificate(t.Context())
				if _, now := connect(t, addr); now != serial {
					t.Error("took a certificate for another name")
				}
				if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
					t.Fatal(err)
				}
				s.Certificate(t.Context())
				if _, now := connect(t, addr); now != serial {
					t.Error("took half of a replacement")
				}
				issue(host)
			}
			s.Certificate(t.Context())
			after, now := connect(t, addr)
			if now == serial {
				t.Error("the old certificate is shown")
			}
			for _, c := range []*tls.Conn{before, after} {
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Errorf("an open connection: %v", err)
				}
			}
		})
	}
}

func echo(t *testing.T, source *certs.Source) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: source.GetCertificate, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) { _, _ = io.Copy(c, c); _ = c.Close() }(c)
		}
	}()
	return l.Addr().String()
}

func connect(t *testing.T, addr string) (*tls.Conn, string) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
