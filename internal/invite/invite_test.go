// SPDX-License-Identifier: Apache-2.0

package invite_test

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/invite"
)

func TestTokenRoundTrip(t *testing.T) {
	for _, pin := range [][]byte{nil, bytes.Repeat([]byte{7}, 32)} {
		tok := invite.New(invite.Join, pin)
		got, err := invite.Parse(invite.Join, tok.String())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Secret, tok.Secret) || !bytes.Equal(got.Pin, tok.Pin) || got.Kind != invite.Join {
			t.Errorf("got %+v, want %+v", got, tok)
		}
		if !bytes.Equal(got.Hash(), tok.Hash()) {
			t.Error("hash changes with the round trip")
		}
	}
}

func TestHashSeparatesKinds(t *testing.T) {
	a := invite.New(invite.Join, nil)
	b := a
	b.Kind = invite.Activate
	if bytes.Equal(a.Hash(), b.Hash()) {
		t.Error("one secret has one hash for both kinds")
	}
}

func TestParseRefuses(t *testing.T) {
	good := invite.New(invite.Join, bytes.Repeat([]byte{7}, 32)).String()
	for name, s := range map[string]string{
		"empty":         "",
		"other kind":    "sa1" + good[3:],
		"no pin part":   good[:strings.LastIndex(good, ".")],
		"short pin":     good[:len(good)-4],
		"short secret":  "sj1.AAAA.",
		"padding":       "sj1." + strings.Repeat("A", 32) + "=.",
		"newline":       good + "\n",
		"too long":      good + strings.Repeat("A", 300),
		"a fourth part": good + ".x",
	} {
		if _, err := invite.Parse(invite.Join, s); !errors.Is(err, invite.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
}

func TestLink(t *testing.T) {
	base, _ := url.Parse("https://verifier.example:8443")
	tok := invite.New(invite.Activate, bytes.Repeat([]byte{1}, 32))
	link := invite.Link(base, tok)
	if want := "https://verifier.example:8443/sallyport/activate#" + tok.String(); link != want {
		t.Errorf("got %s, want %s", link, want)
	}
	gotBase, got, err := invite.ParseLink(link)
	if err != nil {
		t.Fatal(err)
	}
	if gotBase.String() != base.String() || !bytes.Equal(got.Hash(), tok.Hash()) {
		t.Errorf("got %s %v", gotBase, got)
	}
	for _, bad := range []string{
		"http" + link[5:], strings.Replace(link, "/sallyport/", "/other/", 1), link[:strings.Index(link, "#")],
		strings.Replace(link, "verifier", "user@verifier", 1), "::", "",
	} {
		if _, _, err := invite.ParseLink(bad); !errors.Is(err, invite.ErrMalformed) {
			t.Errorf("%q: got %v, want ErrMalformed", bad, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(invite.New(invite.Join, nil).String())
	f.Add("sj1..")
	f.Add("sj1.AAAA.BBBB")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := invite.Parse(invite.Join, s)
		if err == nil && tok.String() != s {
			t.Errorf("%q is read as %q", s, tok.String())
		}
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add("https://verifier.example:8443/sallyport/activate#" + invite.New(invite.Activate, nil).String())
	f.Add("https://h/sallyport/activate#sa1..")
	f.Add("https://[::1]:1/sallyport/activate?x#sa1.AAAA.")
	f.Fuzz(func(t *testing.T, s string) {
		base, tok, err := invite.ParseLink(s)
		if err != nil {
			return
		}
		if base.Scheme != "https" || base.Host == "" || base.Path != "" || tok.Kind != invite.Activate {
			t.Errorf("%q is read as %s and a token of kind %s", s, base, tok.Kind)
		}
	})
}
