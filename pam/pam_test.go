// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

type vector struct {
	sender, name string
	valid        bool
	bytes        []byte
}

// readVectors reads the vectors that the Go codec is tested with.
func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("../internal/frames/testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	for line := range strings.Lines(string(text)) {
		col := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(col) != 5 {
			t.Fatalf("malformed vector %q", line)
		}
		v := vector{sender: col[0], valid: col[1] == "valid", name: col[2]}
		if col[3] != "-" {
			if v.bytes, err = hex.DecodeString(col[3]); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, v)
	}
	return list
}

func TestVectorsOfTheDaemon(t *testing.T) {
	n := 0
	for _, v := range readVectors(t) {
		if v.sender != "daemon" {
			continue
		}
		n++
		t.Run(v.name, func(t *testing.T) {
			f, err := Decode(v.bytes)
			if (err == nil) != v.valid {
				t.Fatalf("Decode: %v, %v; valid: %v", f, err, v.valid)
			}
			compareDecoders(t, v.bytes)
		})
	}
	if n < 50 {
		t.Errorf("only %d vectors", n)
	}
}

// The module reads no frame that a module sends.
func TestVectorsOfTheModuleAreRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.sender == "module" {
			if f, err := Decode(v.bytes); err == nil {
				t.Errorf("%s: decoded as %v", v.name, f)
			}
		}
	}
}

// What the C encoder makes of a valid request is what the vector says, byte for byte
// but for the order of variables.
func TestVectorsEncoded(t *testing.T) {
	n := 0
	for _, v := range readVectors(t) {
		if v.sender != "module" || !v.valid {
			continue
		}
		f, err := frames.ReadFrame(bytes.NewReader(v.bytes))
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		switch f := f.(type) {
		case *frames.Request:
			got, err = EncodeRequest(f)
		case *frames.Answer:
			text := f.Text
			if f.TooLong {
				text = frames.Secret(strings.Repeat("1", frames.AnswerMax+1))
			}
			got = EncodeAnswer(text)
		default:
			continue
		}
		n++
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		again, err := frames.ReadFrame(bytes.NewReader(got))
		if err != nil || !reflect.DeepEqual(again, f) || len(got) != len(v.bytes) {
			t.Errorf("%s: encoded as %x, read as %v, %v; want %x", v.name, got, again, err, v.bytes)
		}
	}
	if n < 7 {
		t.Errorf("only %d vectors", n)
	}
}

// compareDecoders looks that C and Go think the same of data, one whole frame.
func compareDecoders(t *testing.T, data []byte) {
	t.Helper()
	c, cErr := Decode(data)
	r := bytes.NewReader(data)
	g, gErr := frames.ReadFrame(r)
	if gErr == nil && (g.Type() < frames.TypeShow || r.Len() > 0) {
		gErr = frames.ErrBroken // not for the module, or more than one frame
	}
	if (cErr == nil) != (gErr == nil) {
		t.Fatalf("C says %v, %v; Go says %v, %v", c, cErr, g, gErr)
	}
	if cErr == nil && !reflect.DeepEqual(c, g) {
		t.Fatalf("C reads %#v, Go reads %#v", c, g)
	}
}

func FuzzDecodersAgree(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareDecoders(t, data) })
}

func FuzzEncodersAgree(f *testing.F) {
	f.Add("sshd", "alice", "pts/1", "192.0.2.7", "bob", "publickey ssh-ed25519 AAAA", "push", uint32(0x8000))
	f.Add("su", strings.Repeat("x", 255), "", "", "", strings.Repeat("y", 6128), strings.Repeat("1", 512), uint32(0))
	f.Add("su", strings.Repeat("x", 256), "", "", "", strings.Repeat("y", 6129), strings.Repeat("1", 999), uint32(0))
	f.Fuzz(func(t *testing.T, service, user, tty, rhost, ruser, info, passcode string, flags uint32) {
		r := &frames.Request{
			Hook: frames.HookOpenSession, Flags: flags, RUID: flags, EUID: ^flags, Version: "1",
			Service: service, User: user, TTY: tty, RHost: rhost, RUser: ruser,
			PAMEnv:  map[string]string{"SSH_AUTH_INFO_0": info},
			ProcEnv: map[string]frames.Secret{"SALLYPORT_PASSCODE": frames.Secret(passcode)},
		}
		if strings.Contains(service+user+tty+rhost+ruser+info+passcode, "\x00") {
			return // ends a string in C
		}
		data, err := EncodeRequest(r)
		names := []string{service, user, tty, rhost, ruser}
		fits := len(info)+len("SSH_AUTH_INFO_0=") <= 6144 && len(passcode)+len("SALLYPORT_PASSCODE=") <= 4160
		for _, s := range names {
			fits = fits && len(s) <= 255
		}
		fits = fits && service != "" && user != ""
		if whole, appendErr := frames.Append(nil, r); appendErr != nil || len(whole) > frames.HeaderSize+frames.PayloadMax {
			fits = false
		}
		if fits != (err == nil) {
			t.Fatalf("fits: %v, C says %v", fits, err)
		}
		if err != nil {
			return
		}
		got, err := frames.ReadFrame(bytes.NewReader(data))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("C wrote %v, %v; want %v", got, err, r)
		}
	})
}

// cleaned says in Go what frame_clean does.
func cleaned(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && size == 1, c < ' ' && c != '\n' && c != '\t', c >= 0x7f && c < 0xa0:
			out.WriteByte('?')
		default:
			out.WriteString(s[i : i+size])
		}
		i += size
	}
	return out.String()
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "plain", "a\x1b[2J\r\n\tb", "\u009b31m", "\x9b31m", "é€😀", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xf0\x9f\x98", "\x7f", "\xf8\x88\x80\x80\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s, _, _ = strings.Cut(s, "\x00")
		got := Clean(s)
		if got != cleaned(s) {
			t.Fatalf("Clean(%q) = %q, want %q", s, got, cleaned(s))
		}
		if !utf8.ValidString(got) {
			t.Fatalf("Clean(%q) = %q is not UTF-8", s, got)
		}
	})
}

// answers is a conversation that answers from a list.
type answers struct {
	list  []frames.Secret
	shown []string
}

func (a *answers) Show(style frames.Style, text string) {
	a.shown = append(a.shown, []string{"", "info ", "error "}[style]+text)
}

func (a *answers) Ask(echo bool, text string) (frames.Secret, error) {
	a.shown = append(a.shown, map[bool]string{true: "ask ", false: "secret "}[echo]+text)
	if len(a.list) == 0 {
		return "", errors.New("nobody there")
	}
	answer := a.list[0]
	a.list = a.list[1:]
	return answer, nil
}

func authenticate() *frames.Request {
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sshd", User: "alice"}
}

func (d *daemon) client(conv Conversation) *Client {
	return &Client{SocketPath: d.socket(), ServerUID: uint32(os.Getuid()), Timeout: 20 * time.Second, Conversation: conv}
}

func TestCall(t *testing.T) {
	var replies []frames.Frame
	var mu sync.Mutex
	d := serve(t, func(c *conn) {
		c.request()
		for _, f := range []frames.Frame{&frames.Ask{Text: "One: "}, &frames.AskSecret{Text: "Two: "}, &frames.Ask{Text: "Three: "}, &frames.Ask{Text: "Four: "}} {
			reply := c.say(f)
			mu.Lock()
			replies = append(replies, reply)
			mu.Unlock()
		}
		c.say(&frames.Show{Text: "not shown, nobody is there", Style: frames.StyleInfo}, done(frames.OutcomeMaxTries))
		c.linger()
	})
	conv := &answers{list: []frames.Secret{"", frames.Secret(strings.Repeat("x", frames.AnswerMax+1)), frames.Secret(strings.Repeat("x", frames.AnswerMax))}}
	outcome, err := d.client(conv).Call(authenticate())
	if err != nil || outcome != frames.OutcomeMaxTries {
		t.Fatalf("Call: %v, %v", outcome, err)
	}
	mu.Lock()
	defer mu.Unlock()
	expected := []frames.Frame{
		&frames.Answer{}, &frames.Answer{TooLong: true}, &frames.Answer{Text: frames.Secret(strings.Repeat("x", frames.AnswerMax))},
		&frames.Abort{Reason: frames.ReasonConversation},
	}
	if !reflect.DeepEqual(replies, expected) {
		t.Errorf("replies %v, want %v", replies, expected)
	}
	if got := strings.Join(conv.shown, "|"); got != "ask One: |secret Two: |ask Three: |ask Four: " {
		t.Errorf("shown: %s", got)
	}
}

func TestCallsAreIndependent(t *testing.T) {
	d := serve(t, func(c *conn) {
		r := c.request()
		reply, _ := c.say(&frames.Ask{Text: "Code: "}).(*frames.Answer)
		if reply != nil && reply.Text.Reveal() == r.User {
			c.say(done(frames.OutcomeAllow))
		} else {
			c.say(done(frames.OutcomeDeny))
		}
		c.linger()
	})
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := authenticate()
			r.User = strings.Repeat("u", i+1)
			expected, answer := frames.OutcomeAllow, r.User
			if i%3 == 0 {
				expected, answer = frames.OutcomeDeny, "wrong"
			}
			if outcome, err := d.client(&answers{list: []frames.Secret{frames.Secret(answer)}}).Call(r); err != nil || outcome != expected {
				t.Errorf("call %d: %v, %v; want %v", i, outcome, err, expected)
			}
		})
	}
	wg.Wait()
}

// The daemon dies at each byte that it sends, over a real socket.
func TestEOFAtEveryByte(t *testing.T) {
	var stream []byte
	for _, f := range []frames.Frame{&frames.Wait{For: time.Second}, &frames.Show{Text: "Hi", Style: frames.StyleError}, done(frames.OutcomeAllow)} {
		var err error
		if stream, err = frames.Append(stream, f); err != nil {
			t.Fatal(err)
		}
	}
	for n := range len(stream) + 1 {
		d := serve(t, func(c *conn) {
			c.request()
			_, _ = c.Write(stream[:n])
		})
		outcome, err := d.client(nil).Call(authenticate())
		var failure *Failure
		switch {
		case n == len(stream):
			if err != nil || outcome != frames.OutcomeAllow {
				t.Errorf("whole: %v, %v", outcome, err)
			}
		case !errors.As(err, &failure) || failure.Reason != "gone":
			t.Errorf("cut at %d of %d: %v, %v", n, len(stream), outcome, err)
		}
	}
}

func TestFailures(t *testing.T) {
	d := serve(t, script(done(frames.OutcomeAllow)))
	missing := d.client(nil)
	missing.SocketPath += "x"
	_, err := missing.Call(authenticate())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no-socket") || !strings.Contains(err.Error(), missing.SocketPath) {
		t.Errorf("missing socket: %v", err)
	}

	foreign := d.client(nil)
	foreign.ServerUID++
	_, err = foreign.Call(authenticate())
	var failure *Failure
	if !errors.As(err, &failure) || failure.Reason != "wrong-owner" || failure.PeerUID != uint32(os.Getuid()) || errors.Unwrap(err) != nil {
		t.Errorf("foreign socket: %v", err)
	}

	long := authenticate()
	long.RHost = strings.Repeat("x", 256)
	_, err = d.client(nil).Call(long)
	if !errors.As(err, &failure) || failure.TooLarge != "PAM_RHOST" || !strings.Contains(err.Error(), "PAM_RHOST") {
		t.Errorf("large request: %v", err)
	}

	path := d.client(nil)
	path.SocketPath = "/" + strings.Repeat("x", 108)
	if _, err = path.Call(authenticate()); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("long path: %v", err)
	}
	path.SocketPath = "/a\x00b"
	if _, err = path.Call(authenticate()); err == nil {
		t.Error("a path with NUL was accepted")
	}

	many := authenticate()
	many.PAMEnv = map[string]string{"A": "", "B": "", "C": "", "D": "", "E": "", "F": ""}
	if _, err = d.client(nil).Call(many); !errors.Is(err, frames.ErrTooLarge) {
		t.Errorf("many variables: %v", err)
	}

	short := serve(t, func(c *conn) { c.linger() }).client(nil)
	short.Timeout = 20 * time.Millisecond
	if _, err = short.Call(authenticate()); !errors.As(err, &failure) || failure.Reason != "timeout" || failure.Limit != short.Timeout {
		t.Errorf("silent daemon: %v", err)
	}
}

func TestProbe(t *testing.T) {
	d := serve(t, script(done(frames.OutcomeAllow)))
	if err := probe(d.socket(), uint32(os.Getuid())); err != nil {
		t.Errorf("probe of a daemon that is well: %v", err)
	}
	if r := d.lastRequest(t); r.Hook != frames.HookSetcred || r.Service != "sallyport-doctor" || r.User == "" {
		t.Errorf("the probe sent %v", r)
	}
	odd := serve(t, script(done(frames.OutcomeUnavailable)))
	if err := probe(odd.socket(), uint32(os.Getuid())); err == nil || !strings.Contains(err.Error(), "unavailable") {
		t.Errorf("probe of an odd daemon: %v", err)
	}
	if err := Probe(filepath.Join(d.dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("probe of nothing: %v", err)
	}
}

func TestHeaderAgreesWithGo(t *testing.T) {
	names := map[string]string{
		"FRAME_VERSION": "1", "FRAME_HEADER_SIZE": "8", "FRAME_PAYLOAD_MAX": "8192", "FRAME_TEXT_MAX": "4096",
		"FRAME_ANSWER_MAX": "512", "FRAME_ROUNDS_MAX": "64",
	}
	if frames.Version != 1 || frames.HeaderSize != 8 || frames.PayloadMax != 8192 || frames.TextMax != 4096 || frames.AnswerMax != 512 || frames.MaxRounds != 64 {
		t.Error("the Go constants are not those of version 1")
	}
	header, err := os.ReadFile("frame.h")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range names {
		if !strings.Contains(string(header), "#define "+name+" "+value+"\n") {
			t.Errorf("frame.h has not %s = %s", name, value)
		}
	}
}
