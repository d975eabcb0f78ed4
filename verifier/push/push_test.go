// SPDX-License-Identifier: Apache-2.0

package push

import (
	"sync"
	"testing"
)

func woken(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWake(t *testing.T) {
	var l Local
	a, stopA := l.Wait("x")
	b, stopB := l.Wait("x")
	other, stopOther := l.Wait("y")
	defer stopOther()
	l.Wake("x")
	l.Wake("nobody")
	if !woken(a) || !woken(b) || woken(other) {
		t.Fatalf("woken: %v %v, other topic %v", woken(a), woken(b), woken(other))
	}
	later, stopLater := l.Wait("x")
	if woken(later) {
		t.Fatal("an earlier wake-up woke a later waiter")
	}
	stopA()
	stopB() // of the round before: must not count against the later waiter
	l.Wake("x")
	if !woken(later) {
		t.Fatal("not woken")
	}
	stopLater()
}

func TestLeave(t *testing.T) {
	var l Local
	_, stop := l.Wait("x")
	_, stop2 := l.Wait("x")
	if l.Waiters("x") != 2 {
		t.Fatalf("%d waiters", l.Waiters("x"))
	}
	stop()
	stop()
	stop2()
	if l.Waiters("x") != 0 || len(l.topics) != 0 {
		t.Fatalf("%d waiters, %d topics left", l.Waiters("x"), len(l.topics))
	}
}

func TestConcurrent(t *testing.T) {
	var l Local
	var ready, wg sync.WaitGroup
	for range 100 {
		ready.Add(1)
		wg.Add(1)
		go func() {
			defer wg.Done()
			c, stop := l.Wait("x")
			defer stop()
			ready.Done()
			<-c
		}()
	}
	ready.Wait()
	l.Wake("x")
	wg.Wait()
	if len(l.topics) != 0 {
		t.Fatalf("%d topics left", len(l.topics))
	}
}
