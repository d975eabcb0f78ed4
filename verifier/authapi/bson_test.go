// SPDX-License-Identifier: Apache-2.0

package authapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
)

// The types that libduo's own reader knows what to do with here.
const (
	typeString = 0x02
	typeObject = 0x03
	typeInt32  = 0x10
)

var errUnknownType = errors.New("a type at which libduo exits its host process")

// readLikeLibduo reads a document by the rules of the reader that stands in
// libduo 1.11.3, made strict: where that reader would read beyond the document or
// exit, this gives an error. Values are string, int32 or map.
func readLikeLibduo(doc []byte) (map[string]any, error) {
	size, rest, err := readInt32(doc)
	if err != nil {
		return nil, err
	}
	if int(size) != len(doc) {
		return nil, fmt.Errorf("the document says %d bytes, and the body has %d", size, len(doc))
	}
	out := map[string]any{}
	for {
		if len(rest) == 0 {
			return nil, errors.New("no end of the document")
		}
		kind := rest[0]
		if rest = rest[1:]; kind == 0 {
			if len(rest) != 0 {
				return nil, fmt.Errorf("%d bytes behind the end", len(rest))
			}
			return out, nil
		}
		name, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, errors.New("a name without an end")
		}
		if _, twice := out[string(name)]; twice {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		if out[string(name)], rest, err = readValue(kind, after); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
	}
}

func readInt32(b []byte) (int32, []byte, error) {
	if len(b) < 4 {
		return 0, nil, errors.New("cut off in a number")
	}
	return int32(binary.LittleEndian.Uint32(b)), b[4:], nil
}

func readValue(kind byte, b []byte) (any, []byte, error) {
	switch kind {
	case typeInt32:
		return firstOf3(readInt32(b))
	case typeString:
		size, rest, err := readInt32(b)
		if err != nil || size < 1 || int(size) > len(rest) {
			return nil, nil, fmt.Errorf("a string of %d bytes: %w", size, err)
		}
		text := rest[:size-1]
		if rest[size-1] != 0 || bytes.IndexByte(text, 0) >= 0 || !utf8.Valid(text) {
			return nil, nil, fmt.Errorf("not a string for C: %q", rest[:size])
		}
		return string(text), rest[size:], nil
	case typeObject:
		size, _, err := readInt32(b)
		if err != nil || size < 5 || int(size) > len(b) {
			return nil, nil, fmt.Errorf("an object of %d bytes: %w", size, err)
		}
		object, err := readLikeLibduo(b[:size])
		return object, b[size:], err
	}
	return nil, nil, fmt.Errorf("0x%02x: %w", kind, errUnknownType)
}

func firstOf3(n int32, rest []byte, err error) (any, []byte, error) { return n, rest, err }

// The model must refuse what would make the client exit or read astray.
func TestModelIsStrict(t *testing.T) {
	good, _, err := encodeBSON(gate.Answer{Response: legacyAnswer{Result: "auth", Prompt: "p", Factors: map[string]string{"1": "push1"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readLikeLibduo(good); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := readLikeLibduo(good[:i]); err == nil {
			t.Errorf("the first %d bytes are taken", i)
		}
	}
	if _, err := readLikeLibduo(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte behind the document is taken")
	}
	for _, kind := range []byte{0x01, 0x04, 0x05, 0x08, 0x0a, 0x12, 0x13, 0x7f, 0xff} {
		bad := bytes.Clone(good)
		bad[4] = kind // of stat
		if _, err := readLikeLibduo(bad); !errors.Is(err, errUnknownType) {
			t.Errorf("type 0x%02x: %v", kind, err)
		}
	}
}

func TestBSON(t *testing.T) {
	for name, c := range map[string]struct {
		answer any
		refuse *duoapi.Error
		want   string
	}{
		"preauth": {
			answer: legacyAnswer{Result: "auth", Status: "Account is active", Prompt: "Passcode: ", Factors: map[string]string{"default": "push1", "1": "push1", "2": "sms1"}},
			want:   "map[response:map[factors:map[1:push1 2:sms1 default:push1] prompt:Passcode:  result:auth status:Account is active] stat:OK]",
		},
		"preauth without a choice": {
			answer: legacyAnswer{Result: "auth", Prompt: "Passcode: ", Factors: map[string]string{}},
			want:   "map[response:map[factors:map[] prompt:Passcode:  result:auth] stat:OK]",
		},
		"begun":   {answer: legacy(duoapi.Auth{TxID: "TX"}), want: "map[response:map[txid:TX] stat:OK]"},
		"waiting": {answer: legacy(duoapi.Auth{Result: "waiting", Status: "pushed", StatusMsg: "Pushed..."}), want: "map[response:map[status:Pushed...] stat:OK]"},
		"ended":   {answer: legacy(duoapi.Auth{Result: "deny", Status: "timeout", StatusMsg: "No."}), want: "map[response:map[result:deny status:No.] stat:OK]"},
		"word":    {answer: "pong", want: "map[response:pong stat:OK]"},
		"refusal": {refuse: duoapi.NewError(duoapi.CodeMissingParameter, "user"), want: "map[code:40001 message:Missing required request parameters message_detail:user stat:FAIL]"},
		"no detail": {
			refuse: duoapi.NewError(duoapi.CodeInvalidSignature, ""),
			want:   "map[code:40103 message:Invalid signature in request credentials stat:FAIL]",
		},
		"what C cannot hold": {answer: "a\x00b\xff", want: "map[response:a?b? stat:OK]"},
	} {
		t.Run(name, func(t *testing.T) {
			body, kind, err := encodeBSON(gate.Answer{Response: c.answer}, c.refuse)
			if err != nil || kind != "application/bson" {
				t.Fatalf("%s: %v", kind, err)
			}
			got, err := readLikeLibduo(body)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("got  %v\nwant %s", got, c.want)
			}
		})
	}
	if _, _, err := encodeBSON(gate.Answer{Response: 17}, nil); err == nil {
		t.Error("an answer of another type was encoded")
	}
	if EncodingOf("/rest/v1/auth.bson") == nil || EncodingOf("/rest/v1/auth.json") != nil || EncodingOf("/auth/v2/x.bson") != nil {
		t.Error("BSON is for the legacy paths that end so")
	}
}

// FuzzBSON: whatever the texts are, the document is one that libduo reads, and
// reads as what was meant.
func FuzzBSON(f *testing.F) {
	f.Add("auth", "ok", "", "Passcode or option (1-2): ", "1", "push1", 40002, "m", "d")
	f.Add("", "\x00\xff\xed\xa0\x80", "TX", "", "", "\x1b[2J", math.MaxInt32, "", "")
	f.Add(strings.Repeat("r", 5000), "\u202e", "t", "p", "a\x00b", "v", -1, "\xff", "x")
	f.Fuzz(func(t *testing.T, result, status, txid, prompt, choice, factor string, code int, message, detail string) {
		a := legacyAnswer{Result: result, Status: status, TxID: txid, Prompt: prompt, Factors: map[string]string{choice: factor}}
		body, _, err := encodeBSON(gate.Answer{Response: a}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readLikeLibduo(body)
		if err != nil {
			t.Fatal(err)
		}
		response, _ := got["response"].(map[string]any)
		for name, want := range map[string]string{"result": result, "status": status, "txid": txid, "prompt": prompt} {
			if s, _ := response[name].(string); s != bsonText(want) {
				t.Errorf("%s is %q, want %q", name, s, want)
			}
		}
		factors, _ := response["factors"].(map[string]any)
		if len(factors) != 1 || factors[bsonText(choice)] != bsonText(factor) {
			t.Errorf("factors are %v", factors)
		}
		refusal := &duoapi.Error{Code: int(int32(code)), Message: message, Detail: detail}
		if body, _, err = encodeBSON(gate.Answer{}, refusal); err != nil {
			t.Fatal(err)
		}
		if got, err = readLikeLibduo(body); err != nil {
			t.Fatal(err)
		}
		if got["code"] != int32(code) || got["message"] != bsonText(message) {
			t.Errorf("refusal is %v", got)
		}
	})
}
