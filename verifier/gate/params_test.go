// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

func codeOf(err error) int {
	var e *duoapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestParams(t *testing.T) {
	p, err := formParams(url.Values{"n": {"7"}, "b": {"TRUE"}, "blank": {""}, "list": {"a, b"}, "json": {`["a","b"]`}, "one": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := p.Int("n", 1, 0, 10); n != 7 || err != nil {
		t.Errorf("n: %d, %v", n, err)
	}
	if n, err := p.Int("blank", 5, 0, 10); n != 5 || err != nil {
		t.Errorf("blank number: %d, %v", n, err)
	}
	if b, err := p.Bool("b", false); !b || err != nil {
		t.Errorf("b: %v, %v", b, err)
	}
	for _, name := range []string{"list", "json"} {
		if l, err := p.List(name); !slices.Equal(l, []string{"a", "b"}) || err != nil {
			t.Errorf("%s: %q, %v", name, l, err)
		}
	}
	if !p.Has("blank") || p.Has("gone") {
		t.Error("a blank parameter counts as sent, an absent one does not")
	}
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"out of range":     {second(p.Int("n", 1, 0, 6)), duoapi.CodeInvalidParameter},
		"not a number":     {second(p.Int("one", 1, 0, 6)), duoapi.CodeInvalidParameter},
		"not a boolean":    {second(p.Bool("one", false)), duoapi.CodeInvalidParameter},
		"none of them":     {second(p.OneOf("one", "", "y", "z")), duoapi.CodeInvalidParameter},
		"missing":          {second(p.Required("gone", 9)), duoapi.CodeMissingParameter},
		"required, blank":  {second(p.Required("blank", 9)), duoapi.CodeInvalidParameter},
		"too long":         {second(p.String("list", 2)), duoapi.CodeInvalidParameter},
		"given twice":      {second(formParams(url.Values{"a": {"1", "2"}})), duoapi.CodeInvalidParameter},
		"not UTF-8":        {second(formParams(url.Values{"a": {"\xff"}})), duoapi.CodeInvalidParameter},
		"a NUL":            {second(formParams(url.Values{"a": {"x\x00"}})), duoapi.CodeInvalidParameter},
		"name not UTF-8":   {second(formParams(url.Values{"\xff": {"x"}})), duoapi.CodeInvalidParameter},
		"JSON, no object":  {second(jsonParams([]byte(`[1]`))), duoapi.CodeInvalidParameter},
		"JSON, cut off":    {second(jsonParams([]byte(`{"a":`))), duoapi.CodeInvalidParameter},
		"JSON, a NUL":      {second(jsonParams([]byte(`{"a":"\u0000"}`))), duoapi.CodeInvalidParameter},
		"JSON, two bodies": {second(jsonParams([]byte(`{}{}`))), duoapi.CodeInvalidParameter},
		"JSON, twice":      {second(jsonParams([]byte(`{"a":1,"a":2}`))), duoapi.CodeInvalidParameter},
		"JSON, null twice": {second(jsonParams([]byte(`{"a":null,"a":2}`))), duoapi.CodeInvalidParameter},
		"JSON, not UTF-8":  {second(jsonParams([]byte("{\"a\":\"\xff\"}"))), duoapi.CodeInvalidParameter},
		"JSON, deep":       {second(jsonParams([]byte(`{"a":` + strings.Repeat("[", 20_000) + `}`))), duoapi.CodeInvalidParameter},
	} {
		if codeOf(c.err) != c.want {
			t.Errorf("%s: got %v, want %d", name, c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestJSONParams(t *testing.T) {
	p, err := jsonParams([]byte(`{"s":"é","n":12,"t":true,"null":null,"l":["a"],"blank":""}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Params{"s": "é", "n": "12", "t": "true", "l": `["a"]`, "blank": ""}
	if len(p) != len(want) {
		t.Errorf("got %v", p)
	}
	for name, value := range want {
		if p[name] != value || !p.Has(name) {
			t.Errorf("%s is %q, want %q", name, p[name], value)
		}
	}
}

// What a peer calls a parameter must not play on the terminal that shows the error.
func TestErrorsAreEscaped(t *testing.T) {
	e := Invalid("a\x1b[2J\u202e"+strings.Repeat("x", 200), "why")
	if strings.ContainsAny(e.Detail, "\x1b\u202e") || len(e.Detail) > 120 {
		t.Errorf("detail %q", e.Detail)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiter(2, func() time.Time { return now })
	take := func(s string) bool { return l.take(netip.MustParseAddr(s)) }
	first, second, third := take("192.0.2.1"), take("192.0.2.1"), take("192.0.2.1")
	if !first || !second || third {
		t.Error("two are good, a third is not")
	}
	if !take("192.0.2.2") {
		t.Error("another address has its own count")
	}
	if !take("2001:db8::1") || !take("2001:db8::2") || take("2001:db8::3") || !take("2001:db8:0:1::1") {
		t.Error("IPv6 counts per /64")
	}
	now = now.Add(time.Minute)
	if !take("192.0.2.1") {
		t.Error("a minute later the count begins anew")
	}
	if !l.take(netip.Addr{}) {
		t.Error("an unknown address has a count too")
	}
	for i := range maxAddresses * 2 {
		l.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(l.counts) > maxAddresses {
		t.Errorf("%d counts are kept", len(l.counts))
	}
}
