// SPDX-License-Identifier: Apache-2.0

// Package status owns what authd says of itself to root: the report, and the way
// it is fetched over status.sock. It never changes anything, and a report holds no
// secret and no person's name.
package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// SocketName is the socket's name in socket_dir. Root and the group of authd's
// account may connect.
const SocketName = "status.sock"

// Report is the state of a running authd.
type Report struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Config  Config    `json:"config"`
	// Verifiers are in the order of the configuration.
	Verifiers []Verifier `json:"verifiers"`
	// FailOpen is how many logins fail_mode open has let in since a verifier last worked.
	FailOpen int      `json:"fail_open_logins"`
	Sockets  []Socket `json:"sockets"`
	// Grants is how many logins are remembered for their later hooks.
	Grants int `json:"grants"`
	// Throttled is how many counts of failures are kept.
	Throttled int `json:"throttle_entries"`
	// What is nil is not in use on this host.
	Events *Events `json:"events,omitempty"`
	LDAP   []LDAP  `json:"ldap,omitempty"`
}

// Config is the configuration in force.
type Config struct {
	File   string    `json:"file"`
	Loaded time.Time `json:"loaded"`
	Rules  int       `json:"rules"`
	// RuleFiles are the files in which rules stand.
	RuleFiles []string `json:"rule_files,omitempty"`
	// ReloadError is why a later file is not in force; empty: none has failed since Loaded.
	ReloadError  string    `json:"reload_error,omitempty"`
	ReloadFailed time.Time `json:"reload_failed,omitzero"`
}

// Verifier is what is known of one address.
type Verifier struct {
	Address     string        `json:"address"`
	Up          bool          `json:"up"`
	Since       time.Time     `json:"since,omitzero"`        // of this state; zero: not looked at yet
	Cause       string        `json:"cause,omitempty"`       // of being down, one word
	Error       string        `json:"error,omitempty"`       // of being down, for people
	LastContact time.Time     `json:"last_contact,omitzero"` // the last good answer; zero: none since the start
	Latency     time.Duration `json:"latency_ns,omitempty"`  // of the last probe
	First       bool          `json:"first"`                 // the address that is asked first now
}

// Events is what the verifier does not know yet.
type Events struct {
	Unreported int       `json:"unreported"`
	Oldest     time.Time `json:"oldest,omitzero"` // of those; zero: there is none
	// Kept says that events can be kept on disk; what cannot be recorded is denied.
	Kept bool `json:"kept"`
}

// Socket is one of the sockets that authd serves.
type Socket struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
	Limit       int    `json:"limit"`
	Refused     int64  `json:"refused_total"`
}

// LDAP is what is known of one LDAP server.
type LDAP struct {
	Server string    `json:"server"`
	Up     bool      `json:"up"`
	Since  time.Time `json:"since,omitzero"`
	Error  string    `json:"error,omitempty"`
}

// Handler serves a report at /status.
func Handler(report func() Report) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(report()) // whoever hung up reads nothing
	})
}

// maxReport bounds what Fetch reads, in bytes.
const maxReport = 1 << 20

// ErrStatus says that something answered at the socket that is no report.
var ErrStatus = errors.New("no report of authd's")

// Fetch asks the authd of socketDir. Where none serves the socket, the error is
// one of dial (ENOENT, ECONNREFUSED); without permission it is EACCES.
func Fetch(ctx context.Context, socketDir string) (Report, error) {
	var r Report
	path := filepath.Join(socketDir, SocketName)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://authd/status", nil)
	if err != nil {
		return r, fmt.Errorf("ask authd: %w", err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return r, fmt.Errorf("ask authd at %s: %w", path, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return r, fmt.Errorf("ask authd at %s: %w: HTTP status %d", path, ErrStatus, res.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxReport)).Decode(&r); err != nil {
		return r, fmt.Errorf("ask authd at %s: %w: %w", path, ErrStatus, err)
	}
	return r, nil
}
