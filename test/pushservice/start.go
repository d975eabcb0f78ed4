// SPDX-License-Identifier: Apache-2.0

package pushservice

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Started is a Service that serves on the loopback.
type Started struct {
	*Service
	CAFile string // roots for it
	Port   int
}

// Start serves until the test ends, over TLS with HTTP/2. The sender needs its
// CAFile, its Port, and leave to connect to 127.0.0.1.
func Start(t testing.TB) *Started {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	address, ok := server.Listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("the push service listens on %v", server.Listener.Addr())
	}
	s := &Started{
		Service: New(time.Now, "https://"+address.String()), Port: address.Port, CAFile: filepath.Join(t.TempDir(), "push-ca.pem"),
	}
	server.Config.Handler = s.Service
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that are broken on purpose
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() {
		s.Close()
		server.Close()
	})
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(s.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}
