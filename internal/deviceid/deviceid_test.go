// SPDX-License-Identifier: Apache-2.0

package deviceid

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct {
		in, want string
		err      error
	}{
		{"942477A1-F1C1-58B2-A2D2-B8CA8DA1A671", "942477a1-f1c1-58b2-a2d2-b8ca8da1a671", nil},
		{" \t82be363f-5c10-j05h-p00l-d4d80d4156c7\r\n", "82be363f-5c10-j05h-p00l-d4d80d4156c7", nil}, // no UUID, and right
		{"{6984852C}", "{6984852c}", nil},
		{"two words", "two words", nil},
		{"STRASSE ẞ Σς", "strasse ss σσ", nil},
		{"\u00a0A\u00a0", "a", nil},
		{strings.Repeat("x", Max), strings.Repeat("x", Max), nil},
		{strings.Repeat("x", Max+1), "", ErrLong},
		{"", "", ErrBlank},
		{" \t\n", "", ErrBlank},
		{"a\x00b", "", ErrControl},
		{"a\x1b[2Jb", "", ErrControl},
		{"a\u202eb", "", ErrControl},
		{"a\xffb", "", ErrUTF8},
	} {
		got, err := Clean(c.in)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("Clean(%q) = %q, %v; want %q, %v", c.in, got, err, c.want, c.err)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"A-1", " ẞ ", "İ", "\xff", "K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := Clean(s)
		if err != nil {
			return
		}
		if !utf8.ValidString(once) || once == "" || len(once) > Max {
			t.Fatalf("Clean(%q) = %q", s, once)
		}
		if twice, err := Clean(once); err != nil || twice != once {
			t.Fatalf("Clean(%q) = %q, and of that %q, %v", s, once, twice, err)
		}
		if upper, err := Clean(strings.ToUpper(once)); err == nil && len(s) < 64 && isASCII(s) && upper != once {
			t.Fatalf("the case of %q matters: %q and %q", s, once, upper)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
