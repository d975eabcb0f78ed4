// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// span is a length of time on the command line: Go's form, and days: 90m, 1h, 7d, 1d12h.
type span time.Duration

func (s *span) String() string {
	d := time.Duration(*s)
	if d == 0 {
		return "0s"
	}
	if day := 24 * time.Hour; d%day == 0 {
		return strconv.Itoa(int(d/day)) + "d"
	}
	// 1h0m0s reads worse than 1h.
	text := d.String()
	if d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Type implements pflag.Value.
func (*span) Type() string { return "span" }

// maxDays keeps a span far from overflow.
const maxDays = 36500

// Set implements pflag.Value.
func (s *span) Set(text string) error {
	malformed := errors.New("not a length of time such as 90m, 1h or 7d")
	var total time.Duration
	if days, rest, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > maxDays {
			return malformed
		}
		total, text = time.Duration(n)*24*time.Hour, rest
	}
	if text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > maxDays*24*time.Hour {
			return malformed
		}
		total += d
	} else if total == 0 {
		return malformed
	}
	*s = span(total)
	return nil
}

// seconds is the span as a parameter of the API.
func (s span) seconds() string {
	return strconv.FormatInt(int64(time.Duration(s)/time.Second), 10)
}

// spanFlag defines a flag; 0 as def leaves the default to the verifier, or to usage.
func spanFlag(c *cobra.Command, s *span, name string, def time.Duration, usage string) {
	*s = span(def)
	c.Flags().Var(s, name, usage)
	if def == 0 { // what it then is, usage says
		c.Flags().Lookup(name).DefValue = ""
	}
}
