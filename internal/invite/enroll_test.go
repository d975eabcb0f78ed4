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

func TestEnrollLink(t *testing.T) {
	token := invite.New(invite.Enroll, nil)
	link := invite.EnrollLink(&url.URL{Scheme: "https", Host: "v.example:8443"}, token)
	if !strings.HasPrefix(link, "https://v.example:8443/enroll/#se1.") {
		t.Fatal(link)
	}
	code := token.String()
	for _, pasted := range []string{link, code, " " + link + "\n", strings.TrimSuffix(link, "."), strings.TrimSuffix(code, "."), "https://other.example/x#" + code} {
		got, err := invite.ParseEnroll(pasted)
		if err != nil || !bytes.Equal(got.Hash(), token.Hash()) {
			t.Errorf("%q: %v", pasted, err)
		}
	}
	for _, bad := range []string{"", "#", "se1.", "se1..", code + ".", code[:len(code)-2], strings.Replace(code, "se1", "sa1", 1), "https://v.example:8443/enroll/", strings.Repeat("a", 10_000)} {
		if _, err := invite.ParseEnroll(bad); !errors.Is(err, invite.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
