// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// Calls that the host's key signs go to the same addresses, by the same health,
// and each address gets a proof that names it.
func TestHostCalls(t *testing.T) {
	s := verifiertest.New(t)
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyproof.ID(agentapi.HostPrefix, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var proven atomic.Int32
	s.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/sallyport/v1/hosts/self" {
			return false
		}
		proof, err := keyproof.ParseHeader(r)
		if err != nil || proof.KeyID != id {
			t.Errorf("proof of %q: %v", proof.KeyID, err)
			return false
		}
		if _, err := proof.Verify(&key.PublicKey, r, nil, "https://"+s.URL.Host, time.Now()); err != nil {
			t.Errorf("proof: %v", err)
		}
		proven.Add(1)
		_, _ = w.Write([]byte(`{"stat":"OK","response":{"host_id":"` + id + `"}}`))
		return true
	}
	c := client(t, s, func(o *upstream.Options) {
		o.HostKey = key
		o.Endpoints = []*url.URL{closedPort(t), s.URL}
	})
	var self agentapi.Host
	err = c.Host(t.Context(), true, func(ctx context.Context, host *agentapi.Client) (err error) {
		self, err = host.Self(ctx)
		return err
	})
	if err != nil || self.HostID != id || c.HostID() != id || proven.Load() != 1 {
		t.Errorf("got %+v, %v after %d calls", self, err, proven.Load())
	}
}

func TestHostCallsNeedAKey(t *testing.T) {
	c := client(t, verifiertest.New(t), nil)
	err := c.Host(t.Context(), true, func(context.Context, *agentapi.Client) error {
		t.Error("called without a key")
		return nil
	})
	if !errors.Is(err, upstream.ErrNoHostKey) {
		t.Errorf("got %v", err)
	}
}
