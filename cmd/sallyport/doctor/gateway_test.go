// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// A socket that systemd holds is there without a gateway behind it.
func TestGatewayThatDoesNotAnswer(t *testing.T) {
	f := &fixture{T: t, root: t.TempDir()}
	f.host.Root = f.root
	f.write("etc/sallyport/sshgw.toml", "targets.files = [\""+f.root+"/etc/sallyport/targets.toml\"]\n", 0o600)
	f.write("run/sallyport/sshgw.sock", "", 0o600)
	f.write("etc/sallyport/targets.toml", "", 0o600)
	path := filepath.Join(f.root, "run/sallyport", control.SocketName)
	last := func() Finding {
		t.Helper()
		list := f.host.examineGateway(nil)
		return list[len(list)-1]
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if got := last(); got.Status != Fail || !strings.Contains(got.Message, "does not answer") {
		t.Errorf("nobody is behind the socket: %+v", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if l, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &control.Server{Roster: roster.New(time.Now), Audit: &audit.Log{Logger: log}, Logger: log,
		Status: func(context.Context) control.Status { return control.Status{} }}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx, l, uint32(os.Getuid()), uint32(os.Getgid())) }()
	defer func() { stop(); <-done }()
	if got := last(); got.Status != OK {
		t.Errorf("a gateway answers: %+v", got)
	}
}
