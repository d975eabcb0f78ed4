// SPDX-License-Identifier: Apache-2.0

package pushservice

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Control is how a test tells a service that runs elsewhere what to do; [Client]
// speaks with it. It is for a network that nobody else is in.
func (s *Service) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /control/script", func(w http.ResponseWriter, r *http.Request) {
		var answers []Answer
		if err := json.NewDecoder(r.Body).Decode(&answers); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Script(answers...)
	})
	mux.HandleFunc("GET /control/requests", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("await"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		got, err := s.AwaitRequests(n, r.Context().Done())
		if err != nil {
			return // nobody waits any more
		}
		_ = json.NewEncoder(w).Encode(got) // a client that is gone is no error
	})
	return mux
}

// Client tells a Service that runs elsewhere what to do.
type Client struct {
	URL  string // of Control, without the path
	HTTP *http.Client
}

// Script is [Service.Script]; Until does not travel.
func (c Client) Script(ctx context.Context, answers ...Answer) error {
	body, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/control/script", body, nil)
}

// Requests waits until n requests have come, and returns all of them.
func (c Client) Requests(ctx context.Context, n int) (got []Request, err error) {
	err = c.call(ctx, http.MethodGet, "/control/requests?await="+strconv.Itoa(n), nil, &got)
	return got, err
}

func (c Client) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("tell the push service: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("tell the push service: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("tell the push service: status %d: %s", res.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
