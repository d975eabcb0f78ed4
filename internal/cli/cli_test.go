// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":              "plain text",
		"Zoë · 日本":                "Zoë · 日本",
		"\x1b[2Jgone":             `\x1b[2Jgone`,
		"a\nb\r\tc":               `a\nb\r\tc`,
		"\u202eevil":              `\u202eevil`,
		"\u009b31m":               `\u009b31m`,
		"line\u2028sep":           `line\u2028sep`,
		"bad\xffutf8":             `bad\xffutf8`,
		"a real \ufffd character": "a real \ufffd character",
		"nul\x00":                 `nul\x00`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b]0;title\x07")
	f.Add("\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		if !utf8.ValidString(got) || !clean(got) {
			t.Fatalf("Escape(%q) = %q is not clean", s, got)
		}
		if clean(s) && got != s {
			t.Fatalf("clean text %q was changed to %q", s, got)
		}
	})
}

func TestFail(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		line string
	}{
		{nil, ExitDone, ""},
		{ErrReported, ExitFailed, ""},
		{fmt.Errorf("wrapped: %w", ErrReported), ExitFailed, ""},
		{errors.New("it broke\x1b[0m"), ExitFailed, "sallyport: it broke\\x1b[0m\n"},
		{Usagef("need %s", "NAME"), ExitUsage, "sallyport: need NAME\n"},
		{fmt.Errorf("add: %w", Usagef("bad")), ExitUsage, "sallyport: add: bad\n"},
		{errors.Join(errors.New("a"), errors.New("b\rc")), ExitFailed, "sallyport: a\n    b\\rc\n"},
		{WithHint(errors.New("no"), "try harder"), ExitFailed, "sallyport: no; try harder\n"},
	} {
		var buf bytes.Buffer
		term := &Terminal{Err: &buf}
		if code := term.Fail("sallyport", c.err); code != c.code || buf.String() != c.line {
			t.Errorf("%v: code %d, %q; want %d, %q", c.err, code, buf.String(), c.code, c.line)
		}
	}
}

func TestTable(t *testing.T) {
	var buf bytes.Buffer
	term := &Terminal{Out: &buf}
	if err := term.Table([]string{"NAME", "STATUS"}, [][]string{{"bob", ""}, {"eve\x1b[31m", "active"}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME         STATUS\nbob          -\neve\\x1b[31m  active\n"
	if buf.String() != want {
		t.Fatalf("got\n%s\nwant\n%s", buf.String(), want)
	}
}

func TestJSONIsHarmless(t *testing.T) {
	var buf bytes.Buffer
	term := &Terminal{Out: &buf}
	raw := json.RawMessage("{\"a\": \"\u009b31m \u202e \U000e0001 \xff ok \\u001b <é>\"}")
	if err := term.JSONLine(raw); err != nil {
		t.Fatal(err)
	}
	want := `{"a":"\u009b31m \u202e \udb40\udc01 \ufffd ok \u001b <é>"}` + "\n"
	if buf.String() != want {
		t.Fatalf("got %q, want %q", buf.String(), want)
	}
	var before, after map[string]string
	if err := errors.Join(json.Unmarshal(raw, &before), json.Unmarshal(buf.Bytes(), &after)); err != nil || before["a"] != after["a"] {
		t.Errorf("the meaning changed: %q, %q, %v", before, after, err)
	}
	buf.Reset()
	if err := term.JSON(map[string]int{"b": 1}); err != nil || buf.String() != "{\n  \"b\": 1\n}\n" {
		t.Errorf("%q, %v", buf.String(), err)
	}
}

func TestStyled(t *testing.T) {
	if got := (&Terminal{}).Styled(Bad, "x"); got != "x" {
		t.Errorf("colour without a terminal: %q", got)
	}
	if got := (&Terminal{Color: true}).Styled(Bad, "x"); !strings.HasPrefix(got, "\x1b[31m") {
		t.Errorf("no colour on a terminal: %q", got)
	}
}
