// SPDX-License-Identifier: Apache-2.0

// Package sshkeys owns what authd knows of the SSH public keys of people: it asks
// the verifier, remembers the answer for a moment, and goes on with it while no
// verifier answers, for as long as it is told. It never says that a key was
// proven, nor that its owner may log in.
package sshkeys

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/sshkey"
)

const (
	// fresh is how long an answer is taken without asking again.
	fresh = time.Minute
	// maxPeople bounds the people whose keys are kept, and apart from them the
	// names that are nobody's: strangers choose those.
	maxPeople = 4096
	// callTimeout bounds a call with all its addresses.
	callTimeout = 30 * time.Second
)

// Keys asks and remembers. It is safe for concurrent use.
type Keys struct {
	now func() time.Time
	log *slog.Logger

	mu       sync.Mutex
	people   *memory
	nobody   *memory
	underWay map[string]*call
	away     bool // and that has been said
}

// known is what the verifier said of a name.
type known struct {
	username string
	keys     []string
	at       time.Time
}

// call is a question that is under way, for all who have it.
type call struct {
	done chan struct{}
	keys []string
	err  error
}

// New makes an empty memory.
func New(now func() time.Time, log *slog.Logger) *Keys {
	return &Keys{now: now, log: log, people: newMemory(), nobody: newMemory(), underWay: map[string]*call{}}
}

// Of implements login.SSHKeys.
func (k *Keys) Of(ctx context.Context, host passport.Host, username string, maxAge time.Duration) ([]string, error) {
	if host == nil {
		return nil, upstream.ErrNoHostKey
	}
	k.mu.Lock()
	if got, ok := k.people.find(username); ok && k.age(got) < fresh {
		k.mu.Unlock()
		return got.keys, nil
	}
	if got, ok := k.nobody.find(username); ok && k.age(got) < fresh {
		k.mu.Unlock()
		return nil, login.ErrNoPerson
	}
	c := k.underWay[username]
	if c == nil {
		c = &call{done: make(chan struct{})}
		k.underWay[username] = c
		go k.ask(context.WithoutCancel(ctx), host, username, c)
	}
	k.mu.Unlock()
	select {
	case <-ctx.Done():
		return k.stale(username, maxAge, context.Cause(ctx))
	case <-c.done:
	}
	var outage *upstream.Outage
	if errors.As(c.err, &outage) {
		return k.stale(username, maxAge, c.err)
	}
	return c.keys, c.err
}

// stale is what was known before, if it is not too old.
func (k *Keys) stale(username string, maxAge time.Duration, err error) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if got, ok := k.people.find(username); ok && k.age(got) < maxAge {
		return got.keys, nil
	}
	return nil, err
}

// age is how old an answer is; one from the future of a clock that was set back is
// as old as can be.
func (k *Keys) age(n *known) time.Duration {
	if age := k.now().Sub(n.at); age >= 0 {
		return age
	}
	return 1<<63 - 1
}

// ask asks the verifier once, for all who wait.
func (k *Keys) ask(ctx context.Context, host passport.Host, username string, c *call) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begun := k.now()
	var got agentapi.SSHKeys
	err := host.Host(ctx, true, func(ctx context.Context, client *agentapi.Client) (err error) {
		got, err = client.SSHKeys(ctx, username)
		return err
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(c.done)
	delete(k.underWay, username)
	c.keys, c.err = k.take(username, got, begun, err)
}

// take remembers an answer. One that is a refusal ends what was known.
func (k *Keys) take(username string, got agentapi.SSHKeys, at time.Time, err error) ([]string, error) {
	var outage *upstream.Outage
	if down := errors.As(err, &outage); down != k.away {
		if k.away = down; down {
			k.log.Warn("no verifier tells SSH keys; those known count on", slog.String("event", "ssh_keys_away"), slog.String("setting", "keys_max_age"), slog.Any("error", err))
		} else {
			k.log.Info("SSH keys are told again", slog.String("event", "ssh_keys_back"))
		}
	}
	var refused *duoapi.Error
	switch {
	case outage != nil:
		return nil, err
	case errors.As(err, &refused) && refused.Code == duoapi.CodeNotFound:
		k.people.drop(username)
		k.nobody.put(&known{username: username, at: at})
		return nil, login.ErrNoPerson
	case err != nil:
		if refused != nil && (refused.Status() == http.StatusUnauthorized || refused.Status() == http.StatusForbidden) {
			k.people.drop(username) // not for this host, whatever it was before
		}
		return nil, fmt.Errorf("ask for SSH keys: %w", err)
	}
	n := &known{username: username, at: at}
	for _, line := range got.Keys {
		key, err := sshkey.Parse(line)
		if err != nil || len(n.keys) >= sshkey.MaxKeys {
			k.log.Warn("an SSH key of the verifier is left out", slog.String("event", "ssh_key_left_out"), slog.String("username", username), slog.Any("error", err))
			continue
		}
		n.keys = append(n.keys, key.Text)
	}
	k.nobody.drop(username)
	k.people.put(n)
	return n.keys, nil
}

// memory keeps a bounded number of answers; the one asked for least recently goes
// first.
type memory struct {
	order  *list.List // of *known
	byName map[string]*list.Element
}

func newMemory() *memory {
	return &memory{order: list.New(), byName: map[string]*list.Element{}}
}

func (m *memory) find(name string) (*known, bool) {
	e := m.byName[name]
	if e == nil {
		return nil, false
	}
	m.order.MoveToBack(e)
	return e.Value.(*known), true
}

func (m *memory) put(n *known) {
	m.drop(n.username)
	for m.order.Len() >= maxPeople {
		m.drop(m.order.Front().Value.(*known).username)
	}
	m.byName[n.username] = m.order.PushBack(n)
}

func (m *memory) drop(name string) {
	if e := m.byName[name]; e != nil {
		m.order.Remove(e)
		delete(m.byName, name)
	}
}
