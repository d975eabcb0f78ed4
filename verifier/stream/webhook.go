// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sallyport-mfa/sallyport/verifier/telephony"
)

// webhookBatch is how many events one request carries at most.
const webhookBatch = 100

// webhook posts events, signed per the Standard Webhooks specification.
type webhook struct {
	name   string
	url    string
	hook   *standard.Webhook
	client *http.Client
	now    func() time.Time
}

// delivery is the body of a request.
type delivery struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // of the first event
	Data      struct {
		Stream string    `json:"stream"`
		Events []Message `json:"events"`
	} `json:"data"`
}

func (w *webhook) limit() int { return webhookBatch }

func (w *webhook) close() { w.client.CloseIdleConnections() }

// send implements sender. The id names the events that a request carries, so
// that a request that is sent again is known by it.
func (w *webhook) send(ctx context.Context, batch []Message) error {
	first, last := batch[0], batch[len(batch)-1]
	d := delivery{Type: "sallyport.events", Timestamp: first.Time}
	d.Data.Stream, d.Data.Events = w.name, batch
	body, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode events: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id, at := fmt.Sprintf("%s-%d-%d", w.name, first.Seq, last.Seq), w.now()
	signature, err := w.hook.Sign(id, at, body)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(standard.HeaderWebhookID, id)
	req.Header.Set(standard.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standard.HeaderWebhookSignature, signature)
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4096)) // so that the connection is used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver answers with HTTP status %d", res.StatusCode)
	}
	return nil
}

func newWebhook(name, url, secret string, client *http.Client, now func() time.Time) (*webhook, error) {
	hook, err := telephony.Key(secret)
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	return &webhook{name: name, url: url, hook: hook, client: client, now: now}, nil
}
