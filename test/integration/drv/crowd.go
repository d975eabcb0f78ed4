// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pquerna/otp/hotp"
)

// hangLimit is how long one login may take before it counts as hanging.
const hangLimit = 60 * time.Second

// crowd is a set of logins: those of one person follow one another, those of
// several people run side by side.
type crowd struct {
	// Parallel is how many people log in at a time.
	Parallel int `json:"parallel"`
	// People take part in it.
	People []person `json:"people"`
}

// person logs in with codes of a counter-based token, beginning at counter 0.
type person struct {
	Name string `json:"name"`
	// Key is a private key in PEM, for ssh.
	Key string `json:"key,omitempty"`
	// Secret of the token, in base32.
	Secret string `json:"secret"`
	// Logins is how many there are in all.
	Logins int `json:"logins"`
	// WrongEvery makes each n-th login one with a wrong code, none where 0.
	WrongEvery int `json:"wrong_every"`
}

// report is what happened.
type report struct {
	In      int      `json:"in"`      // right codes let in
	Refused int      `json:"refused"` // wrong codes refused
	Wrong   []string `json:"wrong"`   // anything else
	Slowest float64  `json:"slowest_seconds"`
	Seconds float64  `json:"seconds"`
}

// login tries to come in with one code. It reports whether it was let in; the
// error says that neither being let in nor being refused is what happened.
type login func(p person, code string) (in bool, err error)

// runCrowd reads a crowd from in, lets it log in and prints the report.
func runCrowd(in io.Reader, out io.Writer, try login) error {
	var c crowd
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("read the crowd: %w", err)
	}
	var (
		mu    sync.Mutex
		r     = report{Wrong: []string{}}
		next  atomic.Int64
		group sync.WaitGroup
	)
	begin := time.Now()
	for range c.Parallel {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(c.People)); i = next.Add(1) - 1 {
				c.People[i].logIn(try, func(note func(*report)) {
					mu.Lock()
					defer mu.Unlock()
					note(&r)
				})
			}
		})
	}
	group.Wait()
	r.Seconds = time.Since(begin).Seconds()
	return printJSON(out, r)
}

func (p person) logIn(try login, record func(func(*report))) {
	counter := uint64(0)
	for n := 1; n <= p.Logins; n++ {
		code, err := hotp.GenerateCode(p.Secret, counter)
		if err != nil {
			record(func(r *report) { r.Wrong = append(r.Wrong, fmt.Sprintf("%s: code: %v", p.Name, err)) })
			return
		}
		wrong := p.WrongEvery > 0 && n%p.WrongEvery == 0
		if wrong {
			code = flip(code)
		} else {
			counter++
		}
		begin := time.Now()
		in, err := try(p, code)
		took := time.Since(begin).Seconds()
		record(func(r *report) {
			r.Slowest = max(r.Slowest, took)
			switch {
			case err != nil:
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s login %d: %v", p.Name, n, err))
			case in == wrong:
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s login %d: wrong code %v, let in %v", p.Name, n, wrong, in))
			case in:
				r.In++
			default:
				r.Refused++
			}
		})
	}
}

// flip makes a code that differs from the right one in every digit.
func flip(code string) string {
	digits := []byte(code)
	for i, d := range digits {
		digits[i] = '0' + (d-'0'+5)%10
	}
	return string(digits)
}
