// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// The pages of the verifier tell people what to type: it must be there.
func TestCommandsOnPagesExist(t *testing.T) {
	names, err := filepath.Glob("../../verifier/*/html/*.html")
	if err != nil || len(names) == 0 {
		t.Fatalf("pages: %v, %v", names, err)
	}
	code, found := regexp.MustCompile(`(?s)<code>(.*?)</code>`), 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range code.FindAllStringSubmatch(string(text), -1) {
			for line := range strings.Lines(block[1]) {
				words := strings.Fields(line)
				if len(words) == 0 || words[0] != "sallyport" {
					continue
				}
				found++
				root := newRoot(&app{Terminal: &cli.Terminal{}, env: func(string) string { return "" }})
				c, rest, err := root.Find(words[1:])
				if err != nil || !c.Runnable() {
					t.Errorf("%s: %q is no command: %v", name, line, err)
					continue
				}
				for _, word := range rest {
					if flag, ok := strings.CutPrefix(word, "--"); ok && c.Flag(flag) == nil {
						t.Errorf("%s: %q: there is no flag %s", name, line, word)
					}
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d commands were found", found)
	}
}
