// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
)

func (a *API) registerOffline(mux gate.Routes) {
	mux.Handle("POST /sallyport/v1/hosts/events", a.Gate.Host(a.events))
	mux.Handle("POST /sallyport/v1/offline/keys", a.Gate.Host(a.grantOffline))
	mux.Handle("GET /sallyport/v1/offline/keys", a.Gate.Host(a.liveOffline))
	mux.Handle("GET /sallyport/v1/authenticator/hosts", a.Gate.Phone(false, a.offlineHosts))
}

// seen notes that a host was heard of, now and then.
func (a *API) seen(ctx context.Context, r *gate.Request) error {
	if a.Now().Sub(r.Host.LastSeen) < touchEvery {
		return nil
	}
	if err := a.Directory.TouchHost(ctx, r.Host.ID); err != nil {
		return fmt.Errorf("note that a host was seen: %w", err)
	}
	return nil
}

func (a *API) events(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.HostEvents
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	seq, err := a.Reports.Take(ctx, r.Host, b)
	if err != nil {
		return gate.Answer{}, err
	}
	return gate.Answer{Response: agentapi.HostEventsTaken{Seq: seq}}, a.seen(ctx, r)
}

func (a *API) grantOffline(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.OfflineRequest
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if b.TxID == "" {
		return gate.Answer{}, gate.Missing("txid")
	}
	out, err := a.Offline.Grant(ctx, r.Host, b)
	if err != nil {
		return gate.Answer{}, err
	}
	a.Log.Info("keys for offline codes were handed to a host", "host", r.Host.ID, "name", r.Host.Name, "user", out.UserID, "keys", len(out.Keys))
	return gate.Answer{Response: out}, nil
}

func (a *API) liveOffline(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	out, err := a.Offline.Live(ctx, r.Host)
	if err != nil {
		return gate.Answer{}, err
	}
	return gate.Answer{Response: out}, a.seen(ctx, r)
}

func (a *API) offlineHosts(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	hosts, err := a.Offline.Hosts(ctx, r.Phone)
	return gate.Answer{Response: map[string]any{"hosts": hosts}}, err
}
