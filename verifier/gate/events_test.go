// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// connection is a ResponseWriter that notes deadlines.
type connection struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
	broken    error
}

func (c *connection) SetWriteDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return nil
}

func (c *connection) WriteString(s string) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	return c.ResponseRecorder.WriteString(s)
}

// TestEvents: a reader that takes nothing holds the connection for so long and no
// longer, one that reads for as long as it is written to.
func TestEvents(t *testing.T) {
	c := &connection{ResponseRecorder: httptest.NewRecorder()}
	out := &Events{w: c, rc: http.NewResponseController(c), every: time.Hour}
	before := time.Now()
	for _, err := range []error{out.Send("news", map[string]string{"a": "b\n\nevent: x"}), out.Comment()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, want := c.Body.String(), "event: news\ndata: {\"a\":\"b\\n\\nevent: x\"}\n\n: \n\n"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if !c.Flushed || c.Header().Get("Content-Type") != "text/event-stream" || c.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("flushed %t, %v", c.Flushed, c.Header())
	}
	if len(c.deadlines) != 2 {
		t.Fatalf("%d deadlines", len(c.deadlines))
	}
	for _, d := range c.deadlines {
		if d.Before(before.Add(time.Hour)) || d.After(time.Now().Add(time.Hour+slowReader)) {
			t.Errorf("deadline %s", d)
		}
	}
	c.broken = errors.New("broken pipe")
	if err := out.Comment(); !errors.Is(err, c.broken) {
		t.Errorf("%v", err)
	}
}
