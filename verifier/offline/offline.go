// SPDX-License-Identifier: Apache-2.0

// Package offline decides which host gets which keys for offline codes. A host
// only ever gets its own. It never sees a code, and lets nobody in.
package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Fresh is how old the login may be for which a host gets keys.
const Fresh = 5 * time.Minute

// maxKeys bounds the authenticators of one person that get keys.
const maxKeys = 8

// NewRoot makes the root of an authenticator in its present generation.
func NewRoot(keys *seal.Keys, random io.Reader, p store.Phone) (root []byte, sealed store.OfflineRoot, err error) {
	root = make([]byte, offlinecode.Size)
	if _, err := io.ReadFull(random, root); err != nil {
		return nil, sealed, fmt.Errorf("make an offline root: %w", err)
	}
	sealed = store.OfflineRoot{PhoneID: p.ID, Generation: p.Generation}
	sealed.Sealed = keys.Seal(root, identity(sealed)...)
	return root, sealed, nil
}

func identity(r store.OfflineRoot) []string {
	return []string{"offline root", r.PhoneID, strconv.FormatInt(r.Generation, 10)}
}

// Service hands out keys. All fields must be set; it is safe for concurrent use.
// Errors for which the caller is to blame are *duoapi.Error.
type Service struct {
	Store store.Store
	Keys  *seal.Keys
	Now   func() time.Time
}

// Grant gives a host the keys of whoever has just logged in to it.
func (s *Service) Grant(ctx context.Context, h store.Host, q agentapi.OfflineRequest) (out agentapi.OfflineGrant, err error) {
	held := map[agentapi.OfflineKeyID]bool{}
	for _, id := range q.Have {
		held[id] = true
	}
	err = s.Store.Update(ctx, func(w store.Writer) error {
		now := s.Now()
		out = agentapi.OfflineGrant{Label: offlinecode.Label(h.Name, h.ID), Time: now.Unix()}
		set, err := w.Settings()
		if err != nil {
			return err
		}
		if !set.OfflineEnabled {
			return duoapi.NewError(duoapi.CodeOfflineOff, "")
		}
		user, err := proven(w, h, q.TxID, now)
		if err != nil {
			return err
		}
		out.UserID, out.MaxUses, out.MaxDays = user, set.OfflineMaxUses, set.OfflineMaxDays
		out.Keys, err = s.keys(w, h, user, held, now)
		return err
	})
	if err != nil {
		return agentapi.OfflineGrant{}, fmt.Errorf("grant offline keys: %w", err)
	}
	return out, nil
}

// proven is whose login the transaction was. What a host reported itself is no proof.
func proven(r store.Reader, h store.Host, txID string, now time.Time) (userID string, err error) {
	e, err := r.Event(txID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "", duoapi.NewError(duoapi.CodeOfflineLogin, "")
	case err != nil:
		return "", fmt.Errorf("find the login: %w", err)
	}
	fresh := now.Sub(e.Time)
	if e.HostReport != nil || e.Application.Key != h.IntegrationKey || e.EventType != audit.Authentication ||
		e.Result != audit.Success || e.Reason != audit.UserApproved && e.Reason != audit.ValidPasscode ||
		e.User.Key == "" || fresh > Fresh {
		return "", duoapi.NewError(duoapi.CodeOfflineLogin, "")
	}
	return e.User.Key, nil
}

func (s *Service) keys(w store.Writer, h store.Host, userID string, held map[agentapi.OfflineKeyID]bool, now time.Time) ([]agentapi.OfflineKey, error) {
	phones, err := w.UserPhones(userID)
	if err != nil {
		return nil, err
	}
	out := []agentapi.OfflineKey{}
	for _, p := range phones {
		root, err := w.OfflineRoot(p.ID)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k := store.OfflineKey{HostID: h.ID, UserID: userID, PhoneID: p.ID, Generation: root.Generation}
		has := false
		for id := range held {
			if id.UserID == k.UserID && id.PhoneID == k.PhoneID && id.Generation == k.Generation && id.Edition > k.Edition {
				k.Edition, has = id.Edition, true
			}
		}
		asked := k.Edition
		k, won, err := w.GrantOfflineKey(k, has, now)
		if err != nil {
			return nil, err
		}
		if !won {
			continue // deactivated, or its number changed
		}
		if !has || k.Edition != asked {
			if err := logGrant(w, h, p, k, now); err != nil {
				return nil, err
			}
		}
		secret, err := s.Keys.Open(root.Sealed, identity(root)...)
		if err != nil {
			return nil, fmt.Errorf("open the offline root of %s: %w", p.ID, err)
		}
		key, err := offlinecode.Key(secret, offlinecode.ID{
			HostID: h.ID, UserID: userID, PhoneID: p.ID, Generation: k.Generation, Edition: k.Edition,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, agentapi.OfflineKey{OfflineKeyID: keyID(k), Name: audit.Printable(p.Name), Key: key})
		if len(out) == maxKeys {
			break
		}
	}
	return out, nil
}

// logGrant tells that a host has a key which it did not have.
func logGrant(w store.Writer, h store.Host, p store.Phone, k store.OfflineKey, now time.Time) error {
	u, err := w.User(k.UserID)
	if err != nil {
		return err
	}
	action := audit.OfflineProvisioned
	if k.Edition > 1 {
		action = audit.OfflineReenrolled
	}
	e, err := audit.OfflineEvent(now, action, u, h, p)
	if err != nil {
		return err
	}
	return w.AddAdminEvent(e)
}

func keyID(k store.OfflineKey) agentapi.OfflineKeyID {
	return agentapi.OfflineKeyID{UserID: k.UserID, PhoneID: k.PhoneID, Generation: k.Generation, Edition: k.Edition}
}

// Live lists the keys that a host may go on to use; none while offline codes are off.
func (s *Service) Live(ctx context.Context, h store.Host) (out agentapi.LiveKeys, err error) {
	err = s.Store.View(ctx, func(r store.Reader) error {
		out = agentapi.LiveKeys{Time: s.Now().Unix(), Keys: []agentapi.LiveKey{}}
		set, err := r.Settings()
		if err != nil || !set.OfflineEnabled {
			return err
		}
		keys, err := r.HostOfflineKeys(h.ID)
		for _, k := range keys {
			out.Keys = append(out.Keys, agentapi.LiveKey{OfflineKeyID: keyID(k), Next: k.Next})
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("list offline keys: %w", err)
	}
	return out, nil
}

// Hosts lists the hosts that take codes of an authenticator.
func (s *Service) Hosts(ctx context.Context, p store.Phone) (out []agentapi.OfflineHost, err error) {
	err = s.Store.View(ctx, func(r store.Reader) error {
		out = []agentapi.OfflineHost{}
		set, err := r.Settings()
		if err != nil || !set.OfflineEnabled {
			return err
		}
		keys, err := r.PhoneOfflineKeys(p.ID)
		if err != nil {
			return err
		}
		for _, k := range keys {
			h, err := r.Host(k.HostID)
			if err != nil {
				return err
			}
			u, err := r.User(k.UserID)
			if err != nil {
				return err
			}
			out = append(out, agentapi.OfflineHost{
				HostID: h.ID, Name: h.Name, Label: offlinecode.Label(h.Name, h.ID), UserID: u.ID, Username: u.Username,
				Generation: k.Generation, Edition: k.Edition, Next: k.Next, Issued: k.Issued.Unix(),
				Until: k.Issued.AddDate(0, 0, set.OfflineMaxDays).Unix(),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list hosts of an authenticator: %w", err)
	}
	return out, nil
}
