// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// The stream of login requests is of type text/event-stream (WHATWG HTML,
// section 9.2).
const (
	StreamType         = "text/event-stream"
	StreamTransactions = "transactions" // event; data: Transactions
	StreamEnd          = "end"          // event; data: End. Nothing follows
	// StreamEvery is how often at least something comes, a comment if nothing else.
	StreamEvery = 20 * time.Second
	// StreamSilence is the silence after which a client takes the stream for dead.
	StreamSilence = 50 * time.Second
	// StreamFor is the longest that a stream stays open.
	StreamFor = 5 * time.Minute
	// MaxStreams is how many an authenticator can have open; one more ends the oldest.
	MaxStreams = 4
)

// Reasons of an End.
const (
	EndRenew    = "renew"    // connect again
	EndReplaced = "replaced" // the authenticator has opened too many others
	EndRemoved  = "removed"  // the key is not the authenticator's any more
	EndStopping = "stopping" // the verifier stops: connect again, after a while
)

// End says why a stream ends.
type End struct {
	Reason string `json:"reason"`
}

// maxStreamLine bounds a line of a stream, in bytes.
const maxStreamLine = 1 << 20

// Stream calls GET /sallyport/v1/authenticator/stream and gives each list of open
// login requests to each, until the verifier ends the stream (its reason is
// returned), each returns an error, ctx ends, or nothing has come for
// StreamSilence. An answer that breaks off is a wrapped duoapi.ErrTransport. The
// time limit of c.HTTP does not count here.
func (c *Client) Stream(ctx context.Context, each func([]Transaction) error) (reason string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(StreamSilence, cancel)
	defer silence.Stop()
	res, err := c.openStream(ctx)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxStreamLine)
	var event, data string
	for lines.Scan() {
		silence.Reset(StreamSilence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			event = value
		case "data":
			data += value
		case "":
			if lines.Text() != "" {
				continue // a comment
			}
			if reason, err = dispatch(event, data, each); err != nil || reason != "" {
				return reason, err
			}
			event, data = "", ""
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return "", fmt.Errorf("stream of login requests: %w: %w", duoapi.ErrTransport, err)
}

// openStream connects, and reads a refusal.
func (c *Client) openStream(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.BaseURL.JoinPath("/sallyport/v1/authenticator/stream").String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Accept", StreamType)
	if err := keyproof.SetHeader(req, nil, c.Key, c.KeyID, c.Audience(), c.Now()); err != nil {
		return nil, fmt.Errorf("prove request: %w", err)
	}
	unlimited := *c.HTTP
	unlimited.Timeout = 0
	res, err := unlimited.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", duoapi.ErrTransport, err)
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); res.StatusCode == http.StatusOK && kind == StreamType {
		return res, nil
	}
	defer res.Body.Close()
	if _, err = duoapi.ReadAnswer(res, nil); err == nil {
		err = fmt.Errorf("%w: not a stream", duoapi.ErrMalformed)
	}
	return nil, err
}

// dispatch handles one event. An event of another name is passed over.
func dispatch(event, data string, each func([]Transaction) error) (reason string, err error) {
	switch event {
	case StreamTransactions:
		var t Transactions
		if err := json.Unmarshal([]byte(data), &t); err != nil {
			return "", fmt.Errorf("stream of login requests: %w: %w", duoapi.ErrMalformed, err)
		}
		return "", each(t.Transactions)
	case StreamEnd:
		var e End
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return "", fmt.Errorf("stream of login requests: %w: %w", duoapi.ErrMalformed, err)
		}
		if e.Reason == "" {
			return "", fmt.Errorf("stream of login requests: %w: %w", duoapi.ErrMalformed, errors.New("it ends without a reason"))
		}
		return e.Reason, nil
	}
	return "", nil
}
