// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// How long a join token is good for, in seconds.
const (
	DefaultJoinSecs = 3_600
	MinJoinSecs     = 60
	MaxJoinSecs     = 7 * 86_400
)

// JoinToken lets one host join.
type JoinToken struct {
	Token   string // sj1.…; shown once, stored as a hash
	Expires time.Time
}

// CreateJoinToken makes a token for one host, if host is not blank for one of that name only.
func (d *Directory) CreateJoinToken(ctx context.Context, a Actor, host string, valid time.Duration) (out JoinToken, err error) {
	if err := text("name", host, maxName, false); err != nil {
		return out, err
	}
	id, err := d.newID(joinPrefix)
	if err != nil {
		return out, err
	}
	token := invite.New(invite.Join, d.Pin)
	now := d.Now()
	out = JoinToken{Token: token.String(), Expires: now.Add(valid)}
	err = d.update(ctx, "", func(w store.Writer) error {
		err := w.AddJoinToken(store.JoinToken{
			ID: id, Hash: token.Hash(), Name: host, UsesLeft: 1, Created: now, Expires: out.Expires,
		})
		if err != nil {
			return fmt.Errorf("add join token: %w", err)
		}
		return d.audit(w, a, "host_token_create", host, map[string]any{"token_id": id, "expires": out.Expires.Unix()})
	})
	return out, err
}

// JoinRequest is what a host says of itself; the caller has checked the proof
// with the key, from which ID derives.
type JoinRequest struct {
	Token     string
	Name      string
	ID        string
	PublicKey string
	Address   string
}

// Joined is a host and its integration.
type Joined struct {
	Host        store.Host
	Integration MadeIntegration
}

// Join spends a join token and makes the host and its integration.
func (d *Directory) Join(ctx context.Context, q JoinRequest) (out Joined, err error) {
	label, err := name("name", q.Name)
	if err != nil {
		return out, err
	}
	if len(label) > 255 {
		return out, invalid("name", "longer than 255 bytes")
	}
	token, err := invite.Parse(invite.Join, q.Token)
	if err != nil {
		return out, duoapi.NewError(duoapi.CodeJoinUnknown, "it has the form sj1.SECRET.PIN")
	}
	// At a PAM prompt nobody enrols, so an unenrolled person is denied.
	deny, asGiven := store.EnrollDeny, store.NameNone
	out.Integration, err = d.newIntegration(Actor{}, store.AuthAPI, IntegrationChange{Name: &label, EnrollPolicy: &deny, NamePolicy: &asGiven})
	if err != nil {
		return out, err
	}
	out.Integration.HostID = q.ID
	out.Host = store.Host{
		ID: q.ID, Name: label, PublicKey: q.PublicKey, IntegrationKey: out.Integration.Key, Created: d.Now(),
	}
	err = d.update(ctx, "", func(w store.Writer) error { return d.join(w, token.Hash(), q, out) })
	return out, err
}

func (d *Directory) join(w store.Writer, hash []byte, q JoinRequest, out Joined) error {
	won, err := w.UseJoinToken(hash, d.Now())
	if err != nil {
		return fmt.Errorf("use join token: %w", err)
	}
	token, err := findJoinToken(w, hash)
	switch {
	case err != nil:
		return err
	case !won && token.UsesLeft == 0:
		return duoapi.NewError(duoapi.CodeJoinUsed, "")
	case !won:
		return duoapi.NewError(duoapi.CodeJoinExpired, "")
	case token.Name != "" && token.Name != out.Host.Name:
		return duoapi.NewError(duoapi.CodeJoinName, "")
	}
	if err := d.addJoined(w, out); err != nil {
		return err
	}
	return d.audit(w, Actor{Name: out.Host.Name, Address: q.Address}, "host_join", out.Host.Name, map[string]any{
		"host_id": out.Host.ID, "integration": out.Integration.Key, "token_id": token.ID,
	})
}

func (d *Directory) addJoined(w store.Writer, out Joined) error {
	if err := w.AddHost(out.Host); errors.Is(err, store.ErrConflict) {
		return duoapi.NewError(duoapi.CodeJoinKeyKnown, "make another key")
	} else if err != nil {
		return fmt.Errorf("add host: %w", err)
	}
	if err := w.AddIntegration(out.Integration.Integration); err != nil {
		return fmt.Errorf("add integration of the host: %w", err)
	}
	return nil
}

func findJoinToken(r store.Reader, hash []byte) (store.JoinToken, error) {
	tokens, err := r.JoinTokens()
	if err != nil {
		return store.JoinToken{}, fmt.Errorf("list join tokens: %w", err)
	}
	for _, t := range tokens {
		if bytes.Equal(t.Hash, hash) {
			return t, nil
		}
	}
	return store.JoinToken{}, duoapi.NewError(duoapi.CodeJoinUnknown, "")
}

// RevokeHost ends a host: its integration is gone with the same step.
func (d *Directory) RevokeHost(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		h, err := w.Host(id)
		if err != nil {
			return err
		}
		if !h.RevokedAt.IsZero() {
			return nil
		}
		if err := d.logDeprovisioned(w, h); err != nil {
			return err
		}
		if err := w.RevokeHost(id, d.Now()); err != nil {
			return fmt.Errorf("revoke host: %w", err)
		}
		return d.audit(w, a, "host_revoke", h.Name, map[string]any{"host_id": id, "integration": h.IntegrationKey})
	})
}

// logDeprovisioned tells whose offline codes a host takes no more.
func (d *Directory) logDeprovisioned(w store.Writer, h store.Host) error {
	keys, err := w.HostOfflineKeys(h.ID)
	if err != nil {
		return fmt.Errorf("list the host's offline keys: %w", err)
	}
	for _, k := range keys {
		u, err := w.User(k.UserID)
		if err != nil {
			return err
		}
		e, err := audit.OfflineEvent(d.Now(), audit.OfflineDeprovisioned, u, h, store.Phone{ID: k.PhoneID})
		if err != nil {
			return err
		}
		if err := w.AddAdminEvent(e); err != nil {
			return err
		}
	}
	return nil
}

// TouchHost notes that a host was heard of.
func (d *Directory) TouchHost(ctx context.Context, id string) error {
	return d.update(ctx, "", func(w store.Writer) error { return w.TouchHost(id, d.Now()) })
}
