// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"time"
)

// observed serves a request and tells what came of it.
func (s *Server) observed(route string, w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	o := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	s.mux.ServeHTTP(o, r)
	s.config.Observe(route, o.status, time.Since(began))
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController, by which handlers move deadlines.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
