// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// Whoever looks for what one connection did finds all of it by one field, inside a jump
// too, and by the session that authd was told.
func TestLinesOfAConnectionAreJoined(t *testing.T) {
	r := newRig(t, rule("recorded", "record = \"required\"\nexec = [\"exit *\"]"))
	c := r.client("")
	conn, err := opened(c, "db1", 22)
	if err != nil {
		t.Fatal(err)
	}
	inner, channels, requests, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	within := ssh.NewClient(inner, channels, requests)
	run(t, within, "exit 5", "")
	run(t, within, "id", "")
	listed := r.roster.List("")
	_ = within.Close()
	_ = c.Close()
	r.event(audit.Disconnected, nil)

	id, session := listed[0].ID, listed[0].Session
	seen, inside := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(r.log.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		code, _ := e["event"].(string)
		if code == "" {
			continue
		}
		seen[code] = true
		if e["connection"] != id || e["session"] != session || e["user"] != "alice" || e["source"] != "127.0.0.1" {
			t.Errorf("not of connection %s, session %s: %s", id, session, line)
		}
		if e["inner"] != nil {
			inside[code] = true
			if e["inner"] == session {
				t.Errorf("inside and outside are the same: %s", line)
			}
		}
	}
	for _, code := range []audit.Code{audit.LoginAllowed, audit.SessionOpened, audit.SessionClosed, audit.Exec, audit.Denied, audit.Disconnected} {
		if !seen[string(code)] {
			t.Errorf("there is no %s", code)
		}
	}
	if !inside["gw_session"] || !inside["gw_denied"] || inside["gw_disconnect"] {
		t.Errorf("inside the jump were %v", inside)
	}
	if m := r.tapes[0].meta; m.Connection != id || m.Session != session || m.Inner == "" || m.Source != "127.0.0.1" ||
		r.event(audit.SessionOpened, map[string]any{"channel": m.Channel})["inner"] != m.Inner {
		t.Errorf("the recording says %+v", m)
	}
}

// Ansible and others ask for terminals that have no size: a terminal is one all the same.
func TestRecordingOfATerminalWithoutASize(t *testing.T) {
	r := newRig(t, rule("rec", "record = \"required\""))
	s, err := r.client("db1").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	_ = s.Run("exit 0")
	if m := r.tapes[0].meta; !m.Terminal || m.Width != 0 {
		t.Errorf("the recording says %+v", m)
	}
}
