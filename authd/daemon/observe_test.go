// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

func (s *site) report() status.Report {
	s.Helper()
	r, err := status.Fetch(s.Context(), filepath.Join(s.dir, "run"))
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// get reads a page of status.sock, or of the loopback where address is not empty.
func (s *site) get(address, path string) (int, string) {
	s.Helper()
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == "authd:80" {
			network, to = "unix", filepath.Join(s.dir, "run", status.SocketName)
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}}}
	if address == "" {
		address = "authd"
	}
	res, err := client.Get("http://" + address + path)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func (s *site) wantMetrics(lines ...string) {
	s.Helper()
	_, text := s.get("", "/metrics")
	for _, l := range lines {
		if !strings.Contains("\n"+text, "\n"+l+"\n") {
			s.Errorf("no line %q in\n%s", l, text)
		}
	}
}

func TestStatusAndMetrics(t *testing.T) {
	s := newSite(t, "[limits]\nuser_connections_uid = 1\n[services.default]\nattempts = 1\n[[rules]]\nname = \"r\"\naction = \"deny\"\nusers = [\"mallory\"]\n").start()
	if info, err := os.Lstat(filepath.Join(s.dir, "run", status.SocketName)); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	s.login("123456")
	s.login("000000")
	for s.report().Verifiers[0].LastContact.IsZero() { // the first probe is on its way
		time.Sleep(5 * time.Millisecond)
	}
	r := s.report()
	if r.Version != "test" || r.Started.IsZero() || r.Config.Rules != 1 || r.Config.ReloadError != "" || r.Throttled == 0 ||
		len(r.Verifiers) != 1 || !r.Verifiers[0].Up || !r.Verifiers[0].First || r.Verifiers[0].Address != s.verifier.URL.Host || len(r.Sockets) != 2 {
		t.Errorf("report: %+v", r)
	}
	s.dial(UserSocketName)
	if got := until[*frames.Done](s, s.dial(UserSocketName)).Outcome; got != frames.OutcomeUnavailable {
		t.Errorf("second connection: %s", got)
	}
	s.wantMetrics(
		`sallyport_logins_total{reason="passcode",result="allow",service="sudo"} 1`,
		`sallyport_authd_info{version="test"} 1`,
		`sallyport_verifier_up{address="`+s.verifier.URL.Host+`"} 1`,
		`sallyport_verifier_request_duration_seconds_count{call="preauth",result="answer"} 2`,
		`sallyport_connections_refused_total{reason="too many connections",socket="user.sock"} 1`,
		`sallyport_connections_limit{socket="authd.sock"} 1024`,
		`sallyport_rules 1`, `sallyport_fail_open_logins 0`, `sallyport_config_reload_failed 0`, `sallyport_config_reloads_total{result="failed"} 0`,
	)

	s.write("nonsense = 1\n")
	s.reload <- syscall.SIGHUP
	s.waitLog("event=reload_failed")
	s.reload <- syscall.SIGHUP // the report follows the log line; the second is taken when the first is done
	if r := s.report(); !strings.Contains(r.Config.ReloadError, "unknown key nonsense") || r.Config.ReloadFailed.IsZero() || r.Config.Rules != 1 {
		t.Errorf("after a broken file: %+v", r.Config)
	}
	s.wantMetrics(`sallyport_config_reload_failed 1`)
	s.write("")
	s.reload <- syscall.SIGHUP
	s.waitLog("configuration reloaded")
	s.reload <- syscall.SIGHUP
	if r := s.report(); r.Config.ReloadError != "" || r.Config.Rules != 0 {
		t.Errorf("after a good file: %+v", r.Config)
	}
}

func TestStatusIsForReadersOnly(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := newSite(t, fmt.Sprintf("[metrics]\nlisten = %q\n", address)).start()
	for _, tc := range []struct {
		address, path string
		code          int
	}{
		{"", "/status", 200}, {"", "/metrics", 200}, {"", "/", 404}, {"", "/debug/pprof/", 404},
		{address, "/metrics", 200}, {address, "/status", 404},
	} {
		if code, text := s.get(tc.address, tc.path); code != tc.code {
			t.Errorf("%s%s: %d %s", tc.address, tc.path, code, text)
		}
	}
}

// Whoever holds every place of the observers is in the way of observers alone.
func TestFloodOfObserversIsInNobodysWay(t *testing.T) {
	s := newSite(t, "").start()
	for range 3 * maxObservers {
		s.dial(status.SocketName)
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("%s\n%s", got, s.log)
	}
}
