// SPDX-License-Identifier: Apache-2.0

// Package control owns the socket by which administrators look after a running
// gateway: who is connected, how it is, ending a session, reading the configuration
// again. It serves root, the gateway's own account and its group, and nobody else; it
// lets nobody in, and shows no byte of a session.
package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// SocketName is the socket's name in socket_dir.
const SocketName = "sshgw-control.sock"

// Status is how a gateway is.
type Status struct {
	Version     string    `json:"version"`
	Started     time.Time `json:"started"`
	Config      Config    `json:"config"`
	Listen      []string  `json:"listen"`
	HostKeys    []string  `json:"host_keys"` // SHA256:… TYPE
	Connections int       `json:"connections"`
	Limit       int       `json:"connections_limit"`
	Handshakes  int       `json:"handshakes"` // under way
	Channels    int       `json:"channels"`
	BytesIn     int64     `json:"bytes_in"`
	BytesOut    int64     `json:"bytes_out"`
	Recordings  int       `json:"recordings"` // being written
	// Authd and Password are "" for those that answer, else why not; Password is nil
	// where sshgw.toml permits no passwords.
	Authd    string  `json:"authd_error"`
	Password *string `json:"password_error,omitempty"`
	// Draining says that no new connections are taken, and until when those that are open may stay.
	Draining time.Time `json:"draining_until,omitzero"`
}

// Config is the configuration in force.
type Config struct {
	File    string    `json:"file"`
	Loaded  time.Time `json:"loaded"`
	Rules   int       `json:"rules"`
	Targets int       `json:"targets"`
	// ReloadError is why a later file is not in force; empty: none has failed since Loaded.
	ReloadError  string    `json:"reload_error,omitempty"`
	ReloadFailed time.Time `json:"reload_failed,omitzero"`
	// Restart are the settings that have changed in the file and need a restart.
	Restart []string `json:"restart,omitempty"`
}

// Server answers at the socket. It is safe for concurrent use.
type Server struct {
	Roster  *roster.Roster
	Audit   *audit.Log
	Logger  *slog.Logger
	Status  func(ctx context.Context) Status
	Reload  func(ctx context.Context) error
	Metrics http.Handler // nil: none

	// self and group are whose peers are served beside root; set by Serve.
	self, group uint32
}

// errorBody is every answer that is no success.
type errorBody struct {
	Error string `json:"error"`
}

// maxPeers bounds the connections that are served at once.
const maxPeers = 16

type peerKey struct{}

// Serve answers at l until ctx ends. self and group are the account whose peers are
// served beside root.
func (s *Server) Serve(ctx context.Context, l net.Listener, self, group uint32) {
	s.self, s.group = self, group
	h := &http.Server{
		Handler: s.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 10 * time.Second,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			a, ok := c.RemoteAddr().(address)
			if !ok || a.err != nil {
				s.Logger.Warn("a peer of the control socket is not known", slog.Any("error", a.err))
				return ctx
			}
			return context.WithValue(ctx, peerKey{}, a.peer)
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = h.Close() })
	defer stop()
	s.Logger.Debug("control socket", slog.String("path", l.Addr().String()), slog.Any("end", h.Serve(netutil.LimitListener(listener{l}, maxPeers))))
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, s.Status(r.Context())) })
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, s.Roster.List(r.URL.Query().Get("user")))
	})
	mux.HandleFunc("DELETE /sessions/{id}", s.end)
	mux.HandleFunc("DELETE /sessions", s.endUser)
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Reload(r.Context()); err != nil {
			answer(w, http.StatusUnprocessableEntity, errorBody{err.Error()})
			return
		}
		answer(w, http.StatusOK, s.Status(r.Context()))
	})
	if s.Metrics != nil {
		mux.Handle("GET /metrics", s.Metrics)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := r.Context().Value(peerKey{}).(peer)
		if !known || !p.may(s.self, s.group) {
			s.Logger.Warn("refused at the control socket", slog.Int("by_uid", int(p.uid)), slog.Int("by_pid", int(p.pid)))
			answer(w, http.StatusForbidden, errorBody{"only root and the gateway's group may ask"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

const byAdministrator = "ended_by_administrator"

func (s *Server) end(w http.ResponseWriter, r *http.Request) {
	c, ok := s.Roster.End(r.PathValue("id"), byAdministrator)
	if !ok {
		answer(w, http.StatusNotFound, errorBody{"there is no such session; it may be over"})
		return
	}
	s.ended(r.Context(), c)
	answer(w, http.StatusOK, []roster.Connection{c})
}

func (s *Server) endUser(w http.ResponseWriter, r *http.Request) {
	user := r.URL.Query().Get("user")
	if user == "" {
		answer(w, http.StatusBadRequest, errorBody{"a session or a user must be named"})
		return
	}
	list := s.Roster.EndUser(user, byAdministrator)
	for _, c := range list {
		s.ended(r.Context(), c)
	}
	if list == nil {
		list = []roster.Connection{}
	}
	answer(w, http.StatusOK, list)
}

func (s *Server) ended(ctx context.Context, c roster.Connection) {
	p, _ := ctx.Value(peerKey{}).(peer)
	s.Audit.Event(ctx, slog.LevelWarn, audit.Ended,
		audit.Who{Connection: c.ID, Session: c.Session, User: c.User, Source: c.Source}.
			Attrs(slog.Int("by_uid", int(p.uid)), slog.Int("by_pid", int(p.pid)))...)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever hung up reads nothing
}
