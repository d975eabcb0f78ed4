// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Encoding makes the body of an answer and names its type: of what a handler
// answered, or of a refusal, when e is not nil.
type Encoding func(a Answer, e *duoapi.Error) (body []byte, contentType string, err error)

// JSON is the encoding of all paths for which Config names no other.
func JSON(a Answer, e *duoapi.Error) ([]byte, string, error) {
	const kind = "application/json"
	if e != nil {
		body, err := json.Marshal(duoapi.Envelope{Stat: "FAIL", Code: e.Code, Message: e.Message, MessageDetail: e.Detail})
		return body, kind, err
	}
	response, err := json.Marshal(a.Response)
	if err != nil {
		return nil, "", fmt.Errorf("encode response: %w", err)
	}
	body, err := json.Marshal(duoapi.Envelope{Stat: "OK", Response: response, Metadata: a.Metadata})
	return body, kind, err
}

// encoding is how the answer to r is encoded.
func (g *Gate) encoding(r *http.Request) Encoding {
	if g.encodingOf != nil {
		if e := g.encodingOf(r.URL.Path); e != nil {
			return e
		}
	}
	return JSON
}

// WriteRefusal sends a refusal in the encoding of the path.
func (g *Gate) WriteRefusal(w http.ResponseWriter, r *http.Request, e *duoapi.Error) {
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	body, kind, err := g.encoding(r)(Answer{}, e)
	if err != nil { // cannot happen: it is a number and text
		kind, body = "application/json", []byte(`{"stat":"FAIL","code":40090,"message":"The verifier cannot decide at the moment"}`)
	}
	send(w, e.Status(), kind, body)
}

func send(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone is no error of ours
}
