// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// maxCached bounds the cache of opened secrets; beyond it the cache starts anew.
const maxCached = 10_000

// secrets opens integration secrets and keeps them, so that a request costs no
// decryption. An entry counts only for the very sealed bytes that it came from.
type secrets struct {
	keys  *seal.Keys
	decoy []byte

	mu    sync.RWMutex
	cache map[string]cached
}

type cached struct {
	sealed    []byte
	secret    []byte
	oldSealed []byte
	old       []byte // the secret before the last rotation; nil: none
	networks  []string
	prefixes  []netip.Prefix
}

func newSecrets(keys *seal.Keys) *secrets {
	return &secrets{keys: keys, decoy: newDecoy(), cache: map[string]cached{}}
}

func (s *secrets) open(i store.Integration) ([]byte, error) {
	c, err := s.entry(i)
	return c.secret, err
}

// allowed says whether addr is in the integration's networks. A network that
// does not parse lets nobody in.
func (s *secrets) allowed(i store.Integration, addr netip.Addr) bool {
	if len(i.Networks) == 0 {
		return true
	}
	c, err := s.entry(i)
	return err == nil && slices.ContainsFunc(c.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (s *secrets) entry(i store.Integration) (cached, error) {
	s.mu.RLock()
	c, ok := s.cache[i.Key]
	s.mu.RUnlock()
	if ok && bytes.Equal(c.sealed, i.SecretSealed) && bytes.Equal(c.oldSealed, i.OldSecret.Sealed) && slices.Equal(c.networks, i.Networks) {
		return c, nil
	}
	secret, err := s.keys.Open(i.SecretSealed, "integration", i.Key)
	if err != nil {
		return cached{}, err
	}
	c = cached{sealed: i.SecretSealed, secret: secret, oldSealed: i.OldSecret.Sealed, networks: i.Networks}
	if len(i.OldSecret.Sealed) > 0 {
		if c.old, err = s.keys.Open(i.OldSecret.Sealed, "integration", i.Key); err != nil {
			return cached{}, err
		}
	}
	for _, text := range i.Networks {
		if p, err := netip.ParsePrefix(text); err == nil {
			c.prefixes = append(c.prefixes, p)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) >= maxCached {
		clear(s.cache)
	}
	s.cache[i.Key] = c
	return c, nil
}

// old is the secret before the last rotation; nil: there is none.
func (s *secrets) old(i store.Integration) []byte {
	c, err := s.entry(i)
	if err != nil {
		return nil // the secret itself was opened before, so this one is lost alone
	}
	return c.old
}
