// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// history records what clients asked of one code, or one row of codes, and what
// they were told, with the times between which it was decided.
type history struct {
	start time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func newHistory() *history { return &history{start: time.Now()} }

// record calls use, which tries number n of the row, and notes whether it was accepted.
func (h *history) record(client int, n int64, use func() bool) {
	call := time.Since(h.start).Nanoseconds()
	ok := use()
	done := time.Since(h.start).Nanoseconds()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: n, Call: call, Output: ok, Return: done})
}

func (h *history) accepted() int {
	n := 0
	for _, op := range h.ops {
		if accepted(op.Output) {
			n++
		}
	}
	return n
}

func accepted(output any) bool { ok, is := output.(bool); return is && ok }

func number(input any) int64 {
	n, is := input.(int64)
	if !is {
		panic("the input of an operation is not a number")
	}
	return n
}

// uses is the model of a code that is good n times: it is accepted while a use is
// left and refused only when none is.
func uses(n int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return n },
		Step: func(state, _, output any) (bool, any) {
			left, is := state.(int)
			if accepted(output) {
				return is && left > 0, left - 1
			}
			return is && left == 0, left
		},
	}
}

// watermark is the model of codes in a row, of which using one voids it and all
// before it: TOTP steps and HOTP counters. The first that is good is first.
func watermark(first int64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, output any) (bool, any) {
			next, is := state.(int64)
			if accepted(output) {
				return is && number(input) >= next, number(input) + 1
			}
			return is && number(input) < next, next
		},
	}
}

// linearizable says whether there is an order of the operations, each between its
// call and its return, in which the model gives the very answers.
func (h *history) linearizable(m porcupine.Model) bool {
	return porcupine.CheckOperationsTimeout(m, h.ops, 2*time.Minute) == porcupine.Ok
}

// check fails the test, with the history, unless it is linearizable.
func (h *history) check(t testing.TB, what string, m porcupine.Model) {
	t.Helper()
	if h.linearizable(m) {
		return
	}
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var lines strings.Builder
	for _, op := range h.ops {
		fmt.Fprintf(&lines, "%10d - %10d ns: client %d, number %v: %v\n", op.Call, op.Return, op.ClientId, op.Input, op.Output)
	}
	t.Errorf("%s: no order of these uses explains their answers:\n%s", what, &lines)
}
