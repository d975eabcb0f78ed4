// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// Client asks a gateway at its socket. Where none serves it, errors are those of dial
// (ENOENT, ECONNREFUSED); without permission it is EACCES.
type Client struct {
	Path string
}

// ErrControl says that the gateway did not do what it was asked.
var ErrControl = errors.New("the gateway says no")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/status", &s)
}

// Sessions lists who is connected; user may be empty.
func (c *Client) Sessions(ctx context.Context, user string) (list []roster.Connection, err error) {
	return list, c.call(ctx, http.MethodGet, "/sessions?"+url.Values{"user": {user}}.Encode(), &list)
}

// End ends one session.
func (c *Client) End(ctx context.Context, id string) (list []roster.Connection, err error) {
	return list, c.call(ctx, http.MethodDelete, "/sessions/"+url.PathEscape(id), &list)
}

// EndUser ends all sessions of a user.
func (c *Client) EndUser(ctx context.Context, user string) (list []roster.Connection, err error) {
	return list, c.call(ctx, http.MethodDelete, "/sessions?"+url.Values{"user": {user}}.Encode(), &list)
}

// Reload makes the gateway read its configuration, and says what is wrong with it.
func (c *Client) Reload(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodPost, "/reload", &s)
}

func (c *Client) call(ctx context.Context, method, path string, into any) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.Path)
		},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sshgw"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask the gateway at %s: %w", c.Path, err)
	}
	defer res.Body.Close()
	body := io.LimitReader(res.Body, maxAnswer)
	if res.StatusCode != http.StatusOK {
		var e errorBody
		if err := json.NewDecoder(body).Decode(&e); err != nil || e.Error == "" {
			e.Error = res.Status
		}
		return fmt.Errorf("%w: %s", ErrControl, e.Error)
	}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the gateway: %w", err)
	}
	return nil
}
