// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// slowReader is how much longer than the pause between two writes one may take:
// then the reader is gone, or so slow that it holds a connection for nothing.
const slowReader = 10 * time.Second

// Events is an answer of type text/event-stream (WHATWG HTML, section 9.2) that
// stays open. It is for one goroutine. Every error of it ends the connection.
type Events struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	every  time.Duration
	opened bool
}

// Send sends an event with data as JSON.
func (e *Events) Send(event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return e.write("event: " + event + "\ndata: " + string(text) + "\n\n")
}

// Comment sends what says only that the connection is there.
func (e *Events) Comment() error { return e.write(": \n\n") }

func (e *Events) write(text string) error {
	// It must hold until the next write: with HTTP/2 it also ends a stream that rests.
	if err := e.rc.SetWriteDeadline(time.Now().Add(e.every + slowReader)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("move the deadline of a stream: %w", err)
	}
	if !e.opened {
		e.opened = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Accel-Buffering", "no") // nginx would keep it back
		e.w.WriteHeader(http.StatusOK)
	}
	if _, err := io.WriteString(e.w, text); err != nil {
		return fmt.Errorf("write to a stream: %w", err)
	}
	if err := e.rc.Flush(); err != nil {
		return fmt.Errorf("write to a stream: %w", err)
	}
	return nil
}

// EventHandler answers a request with events. Its return ends the answer. An error
// before the first event is answered like one of a Handler, a later one is logged.
type EventHandler func(ctx context.Context, r *Request, out *Events) error

// PhoneEvents serves a stream of events to an activated authenticator. Its proof
// is checked once, at the start. every is the longest pause between two events or
// comments, which the handler must keep to.
func (g *Gate) PhoneEvents(every time.Duration, h EventHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := &logLine{start: g.now(), addr: peer(r)}
		out := &Events{w: w, rc: http.NewResponseController(w), every: every}
		_ = out.rc.SetWriteDeadline(time.Now().Add(Quick))
		_, err := g.answer(w, r, MaxProofBody, line, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
			req, err := g.admitKey(r, body, line, g.findPhone)
			if err != nil {
				return Answer{}, err
			}
			return Answer{}, stream(r.Context(), req, out, h)
		})
		code := 0
		switch {
		case r.Context().Err() != nil:
			panic(http.ErrAbortHandler)
		case err != nil && !out.opened:
			code = g.writeError(w, r, err)
		case err != nil:
			g.log.Info("a stream broke off", "path", r.URL.EscapedPath(), "peer", line.addr, "key", line.integration, "error", err)
			panic(http.ErrAbortHandler)
		}
		g.log.Debug("stream", "path", r.URL.EscapedPath(), "code", code, "peer", line.addr, "key", line.integration,
			"proto", r.Proto, "took", g.now().Sub(line.start))
	})
}

// stream is Gate.run for an EventHandler.
func stream(ctx context.Context, r *Request, out *Events, h EventHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if err := h(ctx, r, out); err != nil {
		return err
	}
	if !out.opened {
		return duoapi.NewError(duoapi.CodeCannotDecide, "")
	}
	return nil
}
