// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestRenewAndDrop(t *testing.T) {
	k, path := create(t)
	old := k.Seal([]byte("secret"), "token", "1")
	hash := k.Hash("bypass", "123")
	id, begun, err := k.Renew(t.Context(), rand.Reader)
	if err != nil || !begun || id != 2 {
		t.Fatalf("key %d, begun %v, %v", id, begun, err)
	}
	if id, begun, err = k.Renew(t.Context(), rand.Reader); err != nil || begun || id != 2 {
		t.Errorf("a second rotation over the first: key %d, begun %v, %v", id, begun, err)
	}
	next := k.Seal([]byte("secret"), "token", "1")
	reloaded, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range []*Keys{k, reloaded} {
		for _, sealed := range [][]byte{old, next} {
			if got, err := keys.Open(sealed, "token", "1"); err != nil || string(got) != "secret" {
				t.Errorf("open: %q, %v", got, err)
			}
		}
		if !slices.Equal(keys.Hash("bypass", "123"), hash) {
			t.Error("a rotation made codes void")
		}
	}
	no := errors.New("one is left")
	if err := k.DropOld(t.Context(), func() error { return no }); !errors.Is(err, no) || !slices.Equal(k.IDs(), []uint32{1, 2}) {
		t.Errorf("dropped although one is left: %v, %v", err, k.IDs())
	}
	if err := k.DropOld(t.Context(), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if reloaded, err = Load(path); err != nil {
		t.Fatal(err)
	}
	for _, keys := range []*Keys{k, reloaded} {
		if !slices.Equal(keys.IDs(), []uint32{2}) || keys.Primary() != 2 {
			t.Errorf("keys %v, primary %d", keys.IDs(), keys.Primary())
		}
		if _, err := keys.Open(old, "token", "1"); !errors.Is(err, ErrOpen) {
			t.Errorf("the dropped key opens: %v", err)
		}
		if got, err := keys.Open(next, "token", "1"); err != nil || string(got) != "secret" {
			t.Errorf("open: %q, %v", got, err)
		}
	}
}

// Who holds the file keeps keys from coming and going; others may hold it too.
func TestHold(t *testing.T) {
	k, path := create(t)
	release, err := Hold(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	also, err := Hold(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	also()
	short, cancel := context.WithTimeout(t.Context(), 2*lockPause)
	defer cancel()
	if _, begun, err := k.Renew(short, rand.Reader); begun || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a key came while the file was held: %v, %v", begun, err)
	}
	// One that waits for the lock works on the file that is there when it gets it.
	done := make(chan error, 1)
	go func() { _, _, err := k.Renew(context.Background(), rand.Reader); done <- err }()
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	release, err = Hold(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if got, err := Load(path); err != nil || got.Primary() != 2 {
		t.Errorf("primary %d, %v", got.Primary(), err)
	}
}
