// SPDX-License-Identifier: Apache-2.0

package target

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Whatever a target says, a person sees lines that begin with the target's name, of
// characters that draw nothing, and not more than fits a frame.
func FuzzWhatATargetSays(f *testing.F) {
	f.Add("Welcome\r\n\x1b[2J\n", "Password: ")
	f.Add("", "")
	f.Add("\xff\u202e\n\n\n", strings.Repeat("\x00", textMax))
	f.Add(strings.Repeat("a\n", textMax/2), "\x9b31m")
	f.Add(strings.Repeat("\u202e", lineMax), "ü"+strings.Repeat("…", lineMax))
	f.Fuzz(func(t *testing.T, lead, prompt string) {
		p := &person{answers: []string{"yes"}}
		a := &attempt{ctx: t.Context(), name: "db1", budget: startBudget(time.Hour, func() {}), request: Request{Person: p}}
		defer a.budget.stop()
		a.proof = &proof{attempt: a}
		q := &questions{attempt: a}
		if err := q.banner(lead); err != nil {
			t.Fatal(err)
		}
		answers, err := q.challenge(lead, lead, []string{prompt}, []bool{true})
		if err == nil != (len(answers) == 1) {
			t.Fatalf("%q, %v", answers, err)
		}
		if err != nil && ReasonOf(err) != TooManyQuestions {
			t.Fatal(err)
		}
		for _, text := range append(p.shown, p.asked...) {
			if len(text) > frames.TextMax || !utf8.ValidString(text) {
				t.Fatalf("%d bytes: %q", len(text), text)
			}
			for _, l := range strings.Split(text, "\n") {
				if !strings.HasPrefix(l, "db1 says: ") && !strings.HasPrefix(l, "db1 asks: ") {
					t.Fatalf("a line that could be the gateway's: %q", l)
				}
				if i := strings.IndexFunc(l, func(r rune) bool { return !unicode.IsGraphic(r) }); i >= 0 {
					t.Fatalf("a line that draws: %q", l)
				}
			}
		}
	})
}

// The file of first sights may be edited by hand.
func FuzzFirstSights(f *testing.F) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	f.Add([]byte("[db1]:2222 " + key + "\n"))
	f.Add([]byte("# a comment\n\ndb1,db2 " + key + " who\n@revoked * " + key + "\n"))
	f.Add([]byte("db1 ssh-ed25519 x\n"))
	path := filepath.Join(f.TempDir(), "known_hosts")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		seen, err := readSights(path)
		if (err == nil) != (seen != nil) {
			t.Fatalf("%v, %v", seen, err)
		}
	})
}
