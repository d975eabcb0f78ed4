// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/sallyport-mfa/sallyport/authd/process"
)

// commandOf is the command line of a process as it was typed, on one line; empty
// if it cannot be read.
func commandOf(pid int32) string {
	words := process.Args(pid)
	for i, w := range words {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '"' }) {
			words[i] = strconv.Quote(w)
		}
	}
	return strings.Join(words, " ")
}
