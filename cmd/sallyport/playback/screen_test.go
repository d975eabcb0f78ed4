// SPDX-License-Identifier: Apache-2.0

package playback

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/sshgw/record"
)

func shown(chunks ...string) string {
	s := screen{height: 24}
	var out []byte
	for _, c := range chunks {
		out = s.append(out, []byte(c))
	}
	return string(out)
}

func TestWhatDrawsPasses(t *testing.T) {
	for _, text := range []string{
		"plain text\r\n\t\b", "é日本👍🏽 e\u0301", "\x1b[1;31mred\x1b[0m\x1b[38;2;1;2;3m\x1b[4:3m", "\x1b[H\x1b[2J\x1b[10;20H\x1b[K\x1b[3A",
		"\x1b7\x1b8\x1bM\x1bD\x1b(0lqk\x1b(B\x0e\x0f", "\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l\x1b[4h", "\x1b[2;10r", "\x1b[5b\x1b[2P\x1b[@", "\x1b[2 q", "\x1b=\x1b>",
	} {
		if got := shown(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
		// However it is cut.
		var parts []string
		for i := range len(text) {
			parts = append(parts, text[i:i+1])
		}
		if strings.ContainsAny(text, "é日") {
			continue // recordings do not cut characters
		}
		if got := shown(parts...); got != text {
			t.Errorf("%q byte by byte becomes %q", text, got)
		}
	}
}

// Each of these does something to the terminal, or makes it type into the shell of
// whoever looks at a recording.
func TestWhatActsBeyondTheScreenDoesNotPass(t *testing.T) {
	for name, text := range map[string]string{
		"clipboard":             "\x1b]52;c;ZXZpbA==\x07",
		"clipboard, other end":  "\x1b]52;c;ZXZpbA==\x1b\\",
		"clipboard, C1":         "\x9d52;c;ZXZpbA==\x9c",
		"title":                 "\x1b]0;rm -rf\x07\x1b]2;x\x07",
		"icon of iTerm":         "\x1b]1337;File=name=x:AAAA\x07",
		"hyperlink":             "\x1b]8;;http://evil/\x1b\\\x1b]8;;\x1b\\",
		"notification":          "\x1b]9;x\x07\x1b]777;notify;x;y\x07",
		"question for a colour": "\x1b]10;?\x07\x1b]4;1;?\x07",
		"cursor position":       "\x1b[6n\x1b[?6n\x1b[5n",
		"who are you":           "\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZ\x05\x1b[>q",
		"parameters":            "\x1b[x\x1b[1x",
		"mode question":         "\x1b[?2004$p\x1b[4$p",
		"settings question":     "\x1bP$qm\x1b\\\x1bP+q544e\x1b\\",
		"keys defined":          "\x1bP1;1|17/414243\x1b\\\x1b[>4;2m\x1b[>1u\x1b[=1u\x1b[<u",
		"window":                "\x1b[21t\x1b[3;0;0t\x1b[8;1;1t\x1b[14t\x1b[22;0t",
		"printer":               "\x1b[i\x1b[5i\x1b[?5i",
		"mouse and paste":       "\x1b[?1000h\x1b[?1003h\x1b[?1006h\x1b[?9h\x1b[?2004h\x1b[?1004h\x1b[?2026h",
		"132 columns":           "\x1b[?3h",
		"checksum":              "\x1b[1;1;1;1;1;1*y\x1b[1;1;1;1$w",
		"character coding":      "\x1b%@\x1b%G\x1b F\x1b G",
		"strings":               "\x1b_x\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\\x90q\x9c\x9fx\x9c",
		"bell and flow":         "\x07\x00\x11\x13\x1a\x18\x7f",
		"too large":             "\x1b[2147483647b\x1b[99999999999999999999C\x1b[10000;1H",
		"too many":              "\x1b[" + strings.Repeat("1;", 100) + "m",
		"an end alone":          "\x1b\\",
		"C1 in UTF-8":           "\u009b6n"[:2] + "\u0090" + "\u009d",
	} {
		if got := shown(text); got != "" {
			t.Errorf("%s: %q passes as %q", name, text, got)
		}
		var parts []string
		for i := range len(text) {
			parts = append(parts, text[i:i+1])
		}
		if got := shown(parts...); !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%s, byte by byte: %q", name, got)
		}
	}
	if got := shown("\x1b[?1000;25;2004h"); got != "\x1b[?25h" {
		t.Errorf("of several modes %q passes", got)
	}
	if got := shown("\x1b[r\x1bc"); got != "\x1b[1;24r\x1bc\x1b[1;24r" {
		t.Errorf("scrolling: %q", got)
	}
}

func TestAStringWithoutEndIsNotKept(t *testing.T) {
	s := screen{}
	var out []byte
	out = s.append(out, []byte("\x1b]0;"))
	for range 60 {
		out = s.append(out, bytes.Repeat([]byte("x"), 1000))
	}
	if len(out) > 0 || len(s.rest) > 2 {
		t.Errorf("%d bytes shown, %d kept", len(out), len(s.rest))
	}
	if out = s.append(out, []byte("\x07done")); string(out) != "done" {
		t.Errorf("after its end %q", out)
	}
}

// A string that is never ended must not hide what was done after it.
func TestAStringWithoutEndHidesNothing(t *testing.T) {
	const after = "$ cat /etc/shadow\r\nroot:x\r\n"
	text := func(parts []string) (string, string) {
		s := screen{height: 24}
		var out []byte
		var b strings.Builder
		l := &lines{each: func(_ time.Duration, line string) error { b.WriteString(line + "\n"); return nil }}
		for _, p := range parts {
			out = s.append(out, []byte(p))
			if err := l.write(0, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.end(); err != nil {
			t.Fatal(err)
		}
		return string(s.end(out)), b.String()
	}
	for _, start := range []string{
		"\x1b_", "\x1bP", "\x1b]0;", "\x1b^", "\x1bX", "\x9f", "\x90", "\x9d", "\x9e", "\x98", "\x1bP1;2q", "\x1b_\x1b_", "\x1b]\x1bP\x18\x1b^",
	} {
		for _, end := range []string{"\r\n", "\n", "\x18", "\x1a", "\x1b[m", strings.Repeat("y", 2*maxString)} {
			all := "before " + start + "x" + end + after
			var parts []string
			for i := range []byte(all) {
				parts = append(parts, all[i:i+1])
			}
			for _, cut := range [][]string{{all}, parts} {
				screen, lines := text(cut)
				for _, got := range []string{screen, strings.ReplaceAll(lines, "\n", "\r\n")} {
					if !strings.Contains(got, after) || !strings.Contains(got, "bytes is left out]") || !strings.HasPrefix(got, "before ") {
						t.Errorf("%q and %.10q show %.200q", start, end, got)
					}
				}
			}
		}
		screen, lines := text([]string{start + "never"})
		if !strings.Contains(screen, "left out") || !strings.Contains(lines, "left out") {
			t.Errorf("%q at the end shows %q and %q", start, screen, lines)
		}
	}
	q := &sequences{}
	if got := plain(q, record.Event{Data: []byte("\x1b_x\r\nrm\u200b -rf")}); !strings.Contains(string(got), "rm -rf") {
		t.Errorf("search finds %q", got)
	}
}

func TestTextThatReadsAsSomethingElseDoesNotPass(t *testing.T) {
	for text, want := range map[string]string{
		"a\u202ecod.exe\u202c":             "acod.exe",
		"r\u200bm\u2066x\u2069\u200f":      "rmx",
		"\x1b[3J\x1b[0;3J\x1b[;3J\x1b[?3J": "",
		"\x1b[J\x1b[0J\x1b[2J\x1b[?1J":     "\x1b[J\x1b[0J\x1b[2J\x1b[?1J",
		"\x1b[1;2;3;4;5T\x1b[1:2T":         "",
		"\x1b[T\x1b[3T":                    "\x1b[T\x1b[3T",
	} {
		if got := shown(text); got != want {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// allowed is every sequence that may reach a terminal, written a second time.
var allowed = regexp.MustCompile(`^(?:[^\x00-\x08\x10-\x1f\x7f\x{80}-\x{9f}\x07]|[\x08-\x0f]|\x1b\[[0-9;:]*[@A-IK-MPSXZ` + "`" + `abdefgmrsu]|\x1b\[\??0*[0-2]?J|\x1b\[\d*T|\x1b\[\?[0-9;:]*K|\x1b\[\??\d+[hl]|\x1b\[[0-9;:]* q|\x1b\[[0-9;:]*!p|\x1b[78DEHMc=>no|}~]|\x1b[()*+].|\x1b#8)*$`)

func FuzzScreen(f *testing.F) {
	f.Add([]byte("a\x1b[31m\x1b]52;c;x\x07b"), uint8(3))
	f.Add([]byte("\x9b6n\xc2\x9b6n\x1b[?1049;1000h"), uint8(1))
	f.Add([]byte("\x1b[1;2;3;4;5;6;7\x1b[mé\u0301"), uint8(4))
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		s := screen{height: 24}
		l := &lines{each: func(time.Duration, string) error { return nil }}
		var out []byte
		for len(data) > 0 {
			n := min(len(data), int(cut)+1)
			out = s.append(out, data[:n])
			if err := l.write(0, data[:n]); err != nil {
				t.Fatal(err)
			}
			data = data[n:]
			if len(s.rest) > maxSequence || len(l.rest) > maxSequence {
				t.Fatal("too much is kept")
			}
		}
		if !utf8.Valid(out) || !allowed.Match(out) {
			t.Fatalf("a terminal is told %q", out)
		}
	})
}

func TestLines(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nb":                         "a\nb\n",
		"car\b \bt\r\n":                  "cat\n",
		"50%\r100%\r\n":                  "100%\n",
		"ls -x\x1b[D\x1b[K\r\n":          "ls -\n",
		"abc\x1b[2D\x1b[@X\r\n":          "aXbc\n",
		"abc\x1b[3D\x1b[P\r\n":           "bc\n",
		"\x1b]0;title\x07$ \x1b[1mx\r\n": "$ x\n",
		"":                               "",
	} {
		var b strings.Builder
		l := &lines{each: func(_ time.Duration, line string) error { b.WriteString(line + "\n"); return nil }}
		if err := l.write(0, []byte(in)); err != nil {
			t.Fatal(err)
		}
		if err := l.end(); err != nil || b.String() != want {
			t.Errorf("%q becomes %q (%v)", in, b.String(), err)
		}
	}
}

func TestParseTime(t *testing.T) {
	for in, want := range map[string]time.Duration{"90s": 90 * time.Second, "1:30": 90 * time.Second, "1:02:03": 3723 * time.Second, "7": 7 * time.Second, "1h": time.Hour} {
		if got, err := ParseTime(in); err != nil || got != want {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1s", "1:60", "1:2:3:4", "1:-2"} {
		if got, err := ParseTime(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}
