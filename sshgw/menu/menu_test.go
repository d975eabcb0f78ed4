// SPDX-License-Identifier: Apache-2.0

package menu

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func entries() []Entry {
	return []Entry{
		{Name: "db1", Aliases: []string{"database"}, Logins: []string{"root", "postgres"}, Description: "the first"},
		{Name: "db2", Logins: []string{"root"}, Description: "\x1b]0;evil\x07\u202e"},
		{Name: "web1", Logins: []string{"www"}, Note: "asks for a second factor"},
	}
}

func TestChoices(t *testing.T) {
	for _, c := range []struct{ typed, want, login string }{
		{"\r", "db1", "root"},
		{"\x1b[B\r", "db2", "root"},
		{"\x1bOB\x1bOB\x1bOB\x1bOA\r", "db2", "root"},
		{"web\r", "web1", "www"},
		{"3\r", "web1", "www"},
		{"2\r", "db2", "root"},
		{"database\r", "db1", "root"},
		{"postgres@db1\r", "db1", "postgres"},
		{"nothing\x15first\r", "db1", "root"},
		{"webx\x7f\r", "web1", "www"},
		{"zzz\r\x03", "", ""},
		{"\x04", "", ""},
		{"\x1b[5~\x1b[6~\x1b[1;5H\x1bx\r", "web1", "www"},
	} {
		var out strings.Builder
		in := strings.NewReader(c.typed + "ahead")
		m := &Menu{Title: "Targets", Entries: entries(), Size: func() (int, int) { return 80, 24 }, In: in, Out: &out}
		got, err := m.Choose()
		if (err != nil) != (c.want == "") || got.Name != c.want || got.Login != c.login {
			t.Errorf("%q: %+v, %v", c.typed, got, err)
		}
		if err != nil && !errors.Is(err, ErrLeft) {
			t.Errorf("%q: %v", c.typed, err)
		}
		if rest, _ := io.ReadAll(in); string(rest) != "ahead" {
			t.Errorf("%q: what was typed ahead is %q now", c.typed, rest)
		}
		if strings.Contains(out.String(), "\x1b]") || strings.Contains(out.String(), "\u202e") {
			t.Errorf("%q: a description reached the terminal as it is: %q", c.typed, out.String())
		}
	}
}

func TestPlain(t *testing.T) {
	for _, c := range []struct{ typed, want string }{
		{"2\r", "db2"}, {"web\r", "web1"}, {"db\rdb1\r", "db1"}, {"zzz\r\rq\r", ""}, {"\x04", ""},
	} {
		var out strings.Builder
		m := &Menu{Title: "Targets", Entries: entries(), In: strings.NewReader(c.typed), Out: &out, Plain: true}
		got, err := m.Choose()
		if (err != nil) != (c.want == "") || got.Name != c.want {
			t.Errorf("%q: %+v, %v", c.typed, got, err)
		}
		if strings.Contains(out.String(), "\x1b]") || !strings.Contains(out.String(), "web1") {
			t.Errorf("%q: %q", c.typed, out.String())
		}
	}
}

func TestSmallTerminals(t *testing.T) {
	for _, size := range [][2]int{{0, 0}, {1, 1}, {5, 3}, {-1, -1}, {1 << 30, 1 << 30}} {
		m := &Menu{Entries: entries(), Size: func() (int, int) { return size[0], size[1] }, In: strings.NewReader("\x1b[B\r"), Out: io.Discard}
		if got, err := m.Choose(); err != nil || got.Name != "db2" {
			t.Errorf("%v: %+v, %v", size, got, err)
		}
	}
}

func FuzzChoose(f *testing.F) {
	for _, s := range []string{"\r", "web\r", "\x1b[B\r", "\x1b[", "\x1bO", "\xff\xfe\r", "1@2@3\r", "\x1b[999999999999999999999A\r"} {
		f.Add(s, 80, 24)
	}
	f.Fuzz(func(t *testing.T, typed string, w, h int) {
		for _, plain := range []bool{false, true} {
			m := &Menu{Entries: entries(), Size: func() (int, int) { return w, h }, In: strings.NewReader(typed), Out: io.Discard, Plain: plain}
			got, err := m.Choose()
			if err == nil && got.Name == "" {
				t.Errorf("%q: chose nothing", typed)
			}
		}
	})
}
