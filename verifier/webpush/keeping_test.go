// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/backup"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/upkeep"
)

// Key and subscriptions outlive a rotation of the keys that seal them.
func TestRotation(t *testing.T) {
	p := newPlace(t, nil)
	ua := p.subscribe()
	before, err := p.PublicKey(t.Context())
	p.must(err)
	sealed, err := p.kept()
	p.must(err)
	r, err := upkeep.Rotate(t.Context(), p.store, p.keys, time.Millisecond, slog.New(slog.NewTextHandler(io.Discard, nil)))
	p.must(err)
	if again, err := p.kept(); r.Resealed != 2 || err != nil || string(again.Sealed) == string(sealed.Sealed) {
		t.Fatalf("%+v, %v", r, err)
	}
	p.Service = p.another(nil)
	if after, err := p.PublicKey(t.Context()); after != before || err != nil {
		t.Errorf("key %q, %v; want %q", after, err, before)
	}
	p.notify(push.Taken)
	if _, _, err := ua.Receive(p.done()); err != nil {
		t.Error(err)
	}
}

// A verifier that was made again of a backup is the same one to push services.
func TestRestore(t *testing.T) {
	p := newPlace(t, nil)
	dir, to, file := filepath.Join(p.dir, "d"), filepath.Join(p.dir, "r"), filepath.Join(p.dir, "b")
	p.must(datadir.Init(t.Context(), datadir.InitOptions{Dir: dir, URL: "https://verifier.example:8443"}, time.Now))
	use := func(dir string, f func()) {
		t.Helper()
		data, err := datadir.Open(context.Background(), dir, "", time.Now)
		p.must(err)
		p.store, p.keys = data.Store, data.Keys
		p.Service = p.another(nil)
		f()
		p.Close()
		p.must(data.Close())
	}
	var before string
	use(dir, func() {
		p.must(p.store.Update(t.Context(), func(w store.Writer) error { return w.AddPhone(p.phone()) }))
		p.subscribe()
		var err error
		before, err = p.PublicKey(t.Context())
		p.must(err)
	})
	_, err := backup.Make(t.Context(), backup.Options{Dir: dir, Out: file, Now: time.Now})
	p.must(err)
	_, err = backup.Restore(t.Context(), backup.RestoreOptions{Dir: to, In: file, Now: time.Now})
	p.must(err)
	use(to, func() {
		if after, err := p.PublicKey(t.Context()); after != before || err != nil {
			t.Errorf("key %q, %v; want %q", after, err, before)
		}
		p.notify(push.Taken)
	})
}
