// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

type vector struct {
	sender, name, meaning string
	valid                 bool
	bytes                 []byte
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		col := strings.Split(line, "\t")
		if len(col) != 5 || col[1] != "valid" && col[1] != "broken" {
			t.Fatalf("malformed vector %q", line)
		}
		v := vector{sender: col[0], valid: col[1] == "valid", name: col[2], meaning: col[4]}
		if col[3] != "-" {
			if v.bytes, err = hex.DecodeString(col[3]); err != nil {
				t.Fatalf("vector %q: %v", v.name, err)
			}
		}
		list = append(list, v)
	}
	return list
}

// meaning spells out a frame in the words of the vector file, secrets included.
func meaning(f Frame) string {
	switch f := f.(type) {
	case *Request:
		proc := map[string]string{}
		for k, v := range f.ProcEnv {
			proc[k] = v.Reveal()
		}
		return fmt.Sprintf("REQUEST hook=%d flags=%#x ruid=%d euid=%d version=%+q service=%+q user=%+q tty=%+q rhost=%+q ruser=%+q pam_env=%+q proc_env=%+q",
			byte(f.Hook), f.Flags, f.RUID, f.EUID, f.Version, f.Service, f.User, f.TTY, f.RHost, f.RUser, f.PAMEnv, proc)
	case *Answer:
		if f.TooLong {
			return "ANSWER too_long"
		}
		return fmt.Sprintf("ANSWER text=%+q", f.Text.Reveal())
	case *Abort:
		return fmt.Sprintf("ABORT reason=%d", f.Reason)
	case *Show:
		return fmt.Sprintf("SHOW style=%d text=%+q", f.Style, f.Text)
	case *Ask:
		return fmt.Sprintf("ASK text=%+q", f.Text)
	case *AskSecret:
		return fmt.Sprintf("ASK_SECRET text=%+q", f.Text)
	case *Wait:
		return fmt.Sprintf("WAIT millis=%d", f.For.Milliseconds())
	case *Done:
		return fmt.Sprintf("DONE outcome=%d", byte(f.Outcome))
	}
	return "no frame"
}

func TestVectors(t *testing.T) {
	list := readVectors(t)
	if len(list) < 80 {
		t.Fatalf("only %d vectors", len(list))
	}
	for _, v := range list {
		t.Run(v.sender+" "+v.name, func(t *testing.T) {
			f, err := ReadFrame(iotest.OneByteReader(bytes.NewReader(v.bytes)))
			if !v.valid {
				if err == nil {
					t.Fatalf("broken frame read as %s", meaning(f))
				}
				if !errors.Is(err, ErrBroken) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("error of no known kind: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := meaning(f); got != v.meaning {
				t.Fatalf("read\n %s, want\n %s", got, v.meaning)
			}
			if fromDaemon := f.Type() >= TypeShow; fromDaemon != (v.sender == "daemon") {
				t.Errorf("%s is not sent by the %s", f.Type(), v.sender)
			}
			checkRoundTrip(t, f)
		})
	}
}

func checkRoundTrip(t *testing.T, f Frame) {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteFrame(&buf, f); err != nil {
		t.Fatalf("write: %v", err)
	}
	buf.WriteString("next")
	again, err := ReadFrame(&buf)
	if err != nil {
		t.Fatalf("read again: %v", err)
	}
	if !reflect.DeepEqual(f, again) {
		t.Fatalf("round trip: %s became %s", meaning(f), meaning(again))
	}
	if buf.String() != "next" {
		t.Fatalf("reader took bytes of the next frame, left %q", buf.String())
	}
}

func TestReadFrameEveryCut(t *testing.T) {
	for _, v := range readVectors(t) {
		if !v.valid {
			continue
		}
		for n := range v.bytes {
			f, err := ReadFrame(bytes.NewReader(v.bytes[:n]))
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if f != nil || !errors.Is(err, want) {
				t.Fatalf("%s cut to %d bytes: %v, %v; want %v", v.name, n, f, err, want)
			}
		}
	}
}

func TestReadFrameKeepsReaderError(t *testing.T) {
	timeout := iotest.ErrReader(os.ErrDeadlineExceeded)
	for _, prefix := range []string{"", "SP\x01", "SP\x01\x14\x00\x00\x00\x04\x13"} {
		_, err := ReadFrame(io.MultiReader(strings.NewReader(prefix), timeout))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q: %v", prefix, err)
		}
	}
}

func validRequest() *Request {
	return &Request{Hook: HookAuthenticate, Version: "0", Service: "sshd", User: "alice"}
}

func TestWriteFrameRefuses(t *testing.T) {
	long := strings.Repeat("x", PayloadMax)
	request := func(change func(*Request)) *Request {
		r := validRequest()
		change(r)
		return r
	}
	tests := []struct {
		name  string
		frame Frame
		want  error // nil: any
	}{
		{"answer over the limit", &Answer{Text: Secret(long[:AnswerMax+1])}, ErrBroken},
		{"answer with NUL", &Answer{Text: "1\x002"}, ErrBroken},
		{"answer too long with text", &Answer{Text: "1", TooLong: true}, nil},
		{"ask over the limit", &Ask{Text: long[:TextMax+1]}, ErrTooLarge},
		{"ask secret with NUL", &AskSecret{Text: "\x00"}, ErrBroken},
		{"show without style", &Show{Text: "x"}, ErrBroken},
		{"show over the limit", &Show{Text: long, Style: StyleInfo}, ErrTooLarge},
		{"negative wait", &Wait{For: -1}, nil},
		{"wait of 50 days", &Wait{For: 50 * 24 * time.Hour}, nil},
		{"longest duration", &Wait{For: 1<<63 - 1}, nil},
		{"done without outcome", &Done{}, ErrBroken},
		{"done with an unknown outcome", &Done{Outcome: 7}, ErrBroken},
		{"abort without reason", &Abort{}, ErrBroken},
		{"request without user", request(func(r *Request) { r.User = "" }), ErrBroken},
		{"request without hook", request(func(r *Request) { r.Hook = 0 }), ErrBroken},
		{"request over the limit", request(func(r *Request) { r.RHost = long }), ErrTooLarge},
		{"request with a field over 64 KiB", request(func(r *Request) { r.TTY = strings.Repeat(long, 9) }), ErrTooLarge},
		{"variable name with equals", request(func(r *Request) { r.ProcEnv = map[string]Secret{"A=B": "c"} }), nil},
		{"variable without name", request(func(r *Request) { r.PAMEnv = map[string]string{"": "c"} }), ErrBroken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			err := WriteFrame(&buf, tt.frame)
			if err == nil {
				t.Fatal("accepted")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if buf.Len() != 0 {
				t.Fatalf("%d bytes written in spite of the error", buf.Len())
			}
		})
	}
}

func TestWaitRoundsUp(t *testing.T) {
	var buf bytes.Buffer
	if err := WriteFrame(&buf, &Wait{For: time.Second + 1}); err != nil {
		t.Fatal(err)
	}
	f, err := ReadFrame(&buf)
	if err != nil || f.(*Wait).For != 1001*time.Millisecond {
		t.Fatalf("got %v, %v", f, err)
	}
}

func TestWriteFrameReportsWriter(t *testing.T) {
	r, w := io.Pipe()
	_ = r.CloseWithError(io.ErrClosedPipe)
	if err := WriteFrame(w, &Done{Outcome: OutcomeDeny}); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	const secret = "493817"
	r := validRequest()
	r.ProcEnv = map[string]Secret{"DUO_PASSCODE": secret}
	list := []Frame{
		r,
		&Answer{Text: secret},
		&Ask{Text: "Type " + secret},
		&AskSecret{Text: "Type " + secret},
		&Show{Text: "Type " + secret, Style: StyleInfo},
	}
	for _, f := range list {
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("frame", "frame", f)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("frame", "frame", f)
		forms := []string{f.String(), fmt.Sprintf("%v %+v %s", f, f, f), log.String()}
		for _, form := range forms {
			if strings.Contains(form, secret) {
				t.Errorf("%s shows its secret: %s", f.Type(), form)
			}
		}
	}
	for _, value := range []any{*r, Answer{Text: secret}, Secret(secret)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			out := fmt.Sprintf(verb, value)
			if strings.Contains(out, secret) || strings.Contains(out, hex.EncodeToString([]byte(secret))) {
				t.Errorf("%T with %s shows its secret: %s", value, verb, out)
			}
		}
		if out, err := json.Marshal(value); err != nil || bytes.Contains(out, []byte(secret)) {
			t.Errorf("%T as JSON: %s, %v", value, out, err)
		}
	}
}

func TestStringsAreEscaped(t *testing.T) {
	r := validRequest()
	r.User = "al\x1b[2Jice\n"
	r.PAMEnv = map[string]string{"A\n": ""}
	r.ProcEnv = map[string]Secret{"B\n": ""}
	if s := r.String(); strings.ContainsAny(s, "\x1b\n") {
		t.Fatalf("control characters in %q", s)
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		frame, err := ReadFrame(r)
		if err != nil {
			return
		}
		if used := len(data) - r.Len(); used > HeaderSize+PayloadMax {
			t.Fatalf("read %d bytes for one frame", used)
		}
		checkRoundTrip(t, frame)
	})
}
