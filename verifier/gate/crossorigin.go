// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/http"
	"slices"
	"strings"
)

// PartnerPrefix is the path under which the web apps of partners may call.
const PartnerPrefix = "/sallyport/v1/authenticator/"

// preflightSeconds is how long a browser remembers what a partner may send.
const preflightSeconds = "600"

// CrossOrigin lets browsers show answers under PartnerPrefix to the web apps of
// partners (Fetch standard, section 3.3), and to no other origin. It answers
// preflight requests of partners itself and says so. It gives nobody a right: each
// call needs its key proof, and no cookie counts.
func (g *Gate) CrossOrigin(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(g.partners) == 0 || !strings.HasPrefix(r.URL.Path, PartnerPrefix) {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(g.partners, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Date, Retry-After") // the clock of a phone may be wrong
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Max-Age", preflightSeconds)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return true
}
