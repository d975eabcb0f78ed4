// SPDX-License-Identifier: Apache-2.0

package invite

import (
	"net/url"
	"strings"
)

// EnrollPath is the path of an enrolment link.
const EnrollPath = "/enroll/"

// EnrollLink is the link of an Enroll token at the verifier base. The token stands
// behind the #, which browsers send to nobody.
func EnrollLink(base *url.URL, t Token) string {
	u := url.URL{Scheme: base.Scheme, Host: base.Host, Path: EnrollPath, Fragment: t.String()}
	return u.String()
}

// ParseEnroll reads an Enroll token from what a person pasted: the token, or a whole
// link, of which only what stands behind the # counts. The point at the end may be
// missing: mail programs take it for the end of a sentence. Errors wrap ErrMalformed.
func ParseEnroll(pasted string) (Token, error) {
	pasted = strings.TrimSpace(pasted)
	if _, fragment, ok := strings.Cut(pasted, "#"); ok {
		pasted = fragment
	}
	if strings.Count(pasted, ".") == 1 {
		pasted += "."
	}
	return Parse(Enroll, pasted)
}
