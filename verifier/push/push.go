// SPDX-License-Identifier: Apache-2.0

// Package push wakes those who wait: a client for the end of a transaction, an
// authenticator for a transaction to answer. A wake-up is a hint and carries no
// decision: whoever is woken reads the store.
package push

import "sync"

// Hub brings wake-ups from those who change to those who wait. It is safe for
// concurrent use. A hint may be missed between two verifiers and must then be
// made up by reading the store; within one process none is lost after Wait.
type Hub interface {
	// Wait registers for topic. The channel is closed by the next Wake of it.
	// stop must be called, once or more, when the waiting ends.
	Wait(topic string) (woken <-chan struct{}, stop func())
	// Wake wakes all who wait for topic.
	Wake(topic string)
	// Waiters is how many wait for topic at this verifier.
	Waiters(topic string) int
}

// Transaction is the topic of a transaction.
func Transaction(txID string) string { return "tx:" + txID }

// Phone is the topic of a phone.
func Phone(phoneID string) string { return "phone:" + phoneID }

// Local is the Hub of a single verifier. The zero value is ready.
type Local struct {
	mu     sync.Mutex
	topics map[string]*topic
}

type topic struct {
	woken   chan struct{}
	waiters int
}

// Wait implements Hub.
func (l *Local) Wait(name string) (<-chan struct{}, func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topics == nil {
		l.topics = map[string]*topic{}
	}
	t := l.topics[name]
	if t == nil {
		t = &topic{woken: make(chan struct{})}
		l.topics[name] = t
	}
	t.waiters++
	return t.woken, sync.OnceFunc(func() { l.leave(name, t) })
}

func (l *Local) leave(name string, t *topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.waiters--; t.waiters == 0 && l.topics[name] == t {
		delete(l.topics, name)
	}
}

// Wake implements Hub.
func (l *Local) Wake(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[name]; t != nil {
		close(t.woken)
		delete(l.topics, name)
	}
}

// Waiters implements Hub.
func (l *Local) Waiters(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[name]; t != nil {
		return t.waiters
	}
	return 0
}
