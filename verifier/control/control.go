// SPDX-License-Identifier: Apache-2.0

// Package control is the socket by which commands on the verifier's own machine
// reach the one that serves: for its state, its metrics, and a rotation of keys.
// Only who may open the data directory reaches it. It decides nothing.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/metrics"
	"github.com/sallyport-mfa/sallyport/verifier/upkeep"
)

// SocketName is the socket in the data directory.
const SocketName = "control.sock"

// maxPath is how long the name of a socket may be, with room to spare.
const maxPath = 100

// ErrNotServing means that no verifier serves the directory.
var ErrNotServing = errors.New("no verifier serves it")

// Server answers on the socket.
type Server struct {
	Report  func() metrics.Report
	Metrics http.Handler
	// Rotate changes the keys that seal; it goes on if the caller goes away.
	Rotate func() (upkeep.Rotation, error)
}

// Handler serves what the socket offers.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.Report()) })
	mux.Handle("GET /metrics", s.Metrics)
	mux.HandleFunc("POST /rotate-keys", func(w http.ResponseWriter, _ *http.Request) {
		done, err := s.Rotate()
		if err != nil {
			answer(w, http.StatusConflict, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, done)
	})
	return mux
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone is no error of ours
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Listen makes a Unix socket of that mode, in the place of one that a process
// left that is no more. The caller makes sure that no other serves there.
func Listen(path string, mode os.FileMode) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listen on %s: it is there and is no socket", path)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	name, release, err := short(path)
	if err != nil {
		return nil, err
	}
	defer release()
	// For a moment the process' umask alone counts; nobody answers yet.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // the next one removes it; by a short name it could be another's
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	return l, nil
}

// short gives a name for a socket that the kernel takes however deep its folder is.
func short(path string) (name string, release func(), err error) {
	if len(path) < maxPath {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("open the folder of a socket: %w", err)
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path)), func() { _ = dir.Close() }, nil
}

// Call asks the verifier that serves from dir.
func Call(ctx context.Context, dir, method, path string, out any) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			name, release, err := short(filepath.Join(dir, SocketName))
			if err != nil {
				return nil, err
			}
			defer release()
			return new(net.Dialer).DialContext(ctx, "unix", name)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://verifier"+path, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s: %w", dir, ErrNotServing)
	}
	if err != nil {
		return fmt.Errorf("ask the verifier: %w", err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("ask the verifier: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var failed struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &failed) == nil && failed.Error != "" {
			return errors.New(failed.Error)
		}
		return fmt.Errorf("ask the verifier: HTTP status %d", res.StatusCode)
	}
	return json.Unmarshal(body, out)
}
