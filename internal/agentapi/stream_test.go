// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// serveStream is a verifier whose stream is text.
func serveStream(t *testing.T, text string) *Client {
	t.Helper()
	c := serve(t, "", nil)
	c.HTTP.Transport = streamType{c.HTTP.Transport, text}
	return c
}

// streamType makes an answer a stream.
type streamType struct {
	http.RoundTripper
	text string
}

func (s streamType) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := s.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	res.Header.Set("Content-Type", StreamType+"; charset=utf-8")
	res.Body = readCloser{strings.NewReader(s.text)}
	return res, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestStream(t *testing.T) {
	c := serveStream(t, "event: transactions\ndata: {\"transactions\":[]}\n\n: \n\nevent: news\ndata: {}\n\nretry: 5\n\n"+
		"event: transactions\ndata: {\"transactions\":[{\"txid\":\"T\"}]}\n\nevent: end\ndata: {\"reason\":\"renew\"}\n\nevent: transactions\ndata: x\n\n")
	var seen []string
	reason, err := c.Stream(t.Context(), func(list []Transaction) error {
		seen = append(seen, fmt.Sprint(len(list)))
		return nil
	})
	if err != nil || reason != EndRenew || !slices.Equal(seen, []string{"0", "1"}) {
		t.Errorf("%q, %v, %v", reason, err, seen)
	}
}

func TestStreamErrors(t *testing.T) {
	stop := errors.New("stop")
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"breaks off":        {": \n\n", duoapi.ErrTransport},
		"no end of event":   {"event: end\ndata: {\"reason\":\"renew\"}\n", duoapi.ErrTransport},
		"no JSON":           {"event: transactions\ndata: {\n\n", duoapi.ErrMalformed},
		"no reason":         {"event: end\ndata: {}\n\n", duoapi.ErrMalformed},
		"a line too long":   {": " + strings.Repeat("x", maxStreamLine), duoapi.ErrTransport},
		"the caller's own":  {"event: transactions\ndata: {\"transactions\":[]}\n\n", stop},
		"of the end itself": {"event: end\ndata: x\n\n", duoapi.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serveStream(t, c.text).Stream(t.Context(), func([]Transaction) error { return stop })
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// What is no stream is read as an answer.
func TestStreamRefused(t *testing.T) {
	each := func([]Transaction) error { return nil }
	var refused *duoapi.Error
	c := serve(t, `{"stat":"FAIL","code":40107,"message":"no"}`, nil)
	if _, err := c.Stream(t.Context(), each); !errors.As(err, &refused) || refused.Code != duoapi.CodeInvalidProof {
		t.Errorf("refusal: %v", err)
	}
	c = serve(t, `{"stat":"OK","response":{}}`, nil)
	if _, err := c.Stream(t.Context(), each); !errors.Is(err, duoapi.ErrMalformed) {
		t.Errorf("an answer: %v", err)
	}
}
