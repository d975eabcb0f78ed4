// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
)

// MaxBody is the most that is read of the body of a request, in bytes.
const MaxBody = 64 << 10

// Routes takes patterns of net/http.
type Routes interface {
	Handle(pattern string, h http.Handler)
}

// Handler answers a request for a page. An *Error becomes the page that it names;
// any other error is the verifier's own fault, is logged, and the person reads a
// page that tells nothing of it. Before an error nothing may have been written.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Error is a refusal that a person reads. Title and Text are keys of texts.
type Error struct {
	Status int
	Title  string
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Title) }

// Errors that every page may answer with.
var (
	ErrNotFound    = &Error{http.StatusNotFound, "common.not_found.title", "common.not_found.text"}
	ErrNotAllowed  = &Error{http.StatusMethodNotAllowed, "common.not_allowed.title", "common.not_allowed.text"}
	ErrOrigin      = &Error{http.StatusForbidden, "common.origin.title", "common.origin.text"}
	ErrTooLarge    = &Error{http.StatusRequestEntityTooLarge, "common.too_large.title", "common.too_large.text"}
	errOwnFault    = &Error{http.StatusInternalServerError, "common.fault.title", "common.fault.text"}
	errMisdirected = errors.New("the request names another host")
)

// Handle registers a page: a pattern of net/http with its method. Whatever h does,
// the answer has the headers of the path, was asked for under the verifier's own
// name, and, unless the method is safe, was sent by a page of the verifier.
func (p *Pages) Handle(mux Routes, pattern string, h Handler) { mux.Handle(pattern, p.Handler(h)) }

// Handler is what Handle registers.
func (p *Pages) Handler(h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.headers(w.Header(), r.URL.Path)
		defer p.recover(w, r)
		if err := p.admit(r); err != nil {
			p.refuse(w, r, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		if err := h(w, r); err != nil {
			p.refuse(w, r, err)
		}
	})
}

// admit makes the checks that come before any handler.
func (p *Pages) admit(r *http.Request) error {
	if authority(r.Host) != p.host {
		return errMisdirected
	}
	if err := p.origin.Check(r); err != nil {
		return ErrOrigin
	}
	return nil
}

// authority is a host and port as they are compared: lower case, without the
// default port.
func authority(host string) string { return strings.TrimSuffix(strings.ToLower(host), ":443") }

func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errMisdirected):
		p.logStranger("a page was asked for under another name", "host", r.Host, "want", p.host, "peer", r.RemoteAddr)
		misdirected(w)
		return
	case errors.As(err, &e):
	case errors.As(err, &large):
		e = ErrTooLarge
	case r.Context().Err() != nil:
		// The client is gone, or the server stops: nobody reads a page, and strangers
		// could fill the log with errors that are none.
		panic(http.ErrAbortHandler)
	default:
		p.config.Log.Error("a page failed", "method", r.Method, "path", r.URL.EscapedPath(), "error", err)
		e = errOwnFault
	}
	if errors.Is(e, ErrOrigin) {
		p.logStranger("a form came from another site", "path", r.URL.EscapedPath(), "origin", r.Header.Get("Origin"), "peer", r.RemoteAddr)
	}
	if err := p.Render(w, e.Status, "pages/error", e); err != nil {
		p.config.Log.Error("the page of an error failed", "error", err)
		http.Error(w, http.StatusText(e.Status), e.Status)
	}
}

// logStranger logs what anybody can cause, at most so often.
func (p *Pages) logStranger(message string, facts ...any) {
	if p.strangers.mayLog(p.config.Now()) {
		p.config.Log.Warn(message, facts...)
	}
}

// misdirected answers under a name that is not the verifier's: nothing of it may
// be reachable there, so the page stands alone and links to nothing.
func misdirected(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_, _ = w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Not here</title>` +
		`<h1>Not here</h1><p>This server does not answer under this name. Use the address that you were given.</p></html>` + "\n"))
}

func (p *Pages) recover(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is thrown, not wrapped
		panic(v)
	}
	p.config.Log.Error("panic while answering with a page", "method", r.Method, "path", r.URL.EscapedPath(),
		"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	p.refuse(w, r, errOwnFault)
}

// NotFound and NotAllowed answer for paths of pages that no pattern matches.
func (p *Pages) NotFound() http.Handler {
	return p.Handler(func(http.ResponseWriter, *http.Request) error { return ErrNotFound })
}

// NotAllowed answers for a path that is there, but not with this method.
func (p *Pages) NotAllowed() http.Handler {
	return p.Handler(func(http.ResponseWriter, *http.Request) error { return ErrNotAllowed })
}

// Owns says whether people, and no client of an API, ask for paths like this one.
func Owns(path string) bool {
	if path == "/" {
		return true
	}
	for _, prefix := range []string{"/app", "/enroll", "/static"} {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}
