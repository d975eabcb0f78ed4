// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"os"
	"strings"
	"testing"
)

// The page that tells what is left out, and the table that answers for it, are one.
func TestLeftOutIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/admin-api-left-out.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, l := range LeftOut() {
		rows = append(rows, "| `"+strings.Join(l.Patterns, "`, `")+"` | "+l.Why+" |")
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if a, b := strings.Join(got, "\n"), strings.Join(rows, "\n"); a != b {
		t.Errorf("the page says\n%s\nand the table\n%s", a, b)
	}
}
