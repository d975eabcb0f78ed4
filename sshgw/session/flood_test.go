// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// counted is how many events of a code there are, and how many they say were left out.
func (r *rig) counted(code audit.Code) (events, leftOut int) {
	for _, e := range r.log.events(code) {
		events++
		if n, ok := e["left_out"].(float64); ok {
			leftOut += int(n)
			if e["reason"] == "too_many" {
				events-- // it stands for the others alone
			}
		}
	}
	return events, leftOut
}

// few are more events than a flood may make in the time that it takes here.
const few = 500

func (r *rig) wantCounted(code audit.Code, all int) {
	r.t.Helper()
	events, leftOut := 0, 0
	r.eventually("the sum of what was left out", func() bool {
		events, leftOut = r.counted(code)
		return events+leftOut == all
	})
	if events > few || leftOut == 0 {
		r.t.Errorf("%d refusals made %d events, and %d were left out", all, events, leftOut)
	}
}

// flood opens channels that nobody knows, until they are n or the connection ends.
func flood(c *ssh.Client, n int) {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range n / 16 {
				if _, _, err := c.OpenChannel("what@example.com", nil); errors.Is(err, io.EOF) {
					return
				}
			}
		})
	}
	all.Wait()
}

func TestAuditLogIsNotFloodedByDeniedChannels(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	flood(c, 4800)
	_ = c.Close()
	r.wantCounted(audit.Denied, 4800)
}

func TestDenialsWithoutEndEndTheConnection(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	flood(c, 16_000)
	_ = c.Wait()
	r.event(audit.Disconnected, map[string]any{"reason": "too_many_refusals"})
}

func TestAuditLogIsNotFloodedByATarget(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	run(t, c, "openmany 2000", "")
	// What the target does is not held against the user.
	if _, _, status := run(t, c, "exit 5", ""); status != 5 {
		t.Errorf("status %d", status)
	}
	_ = c.Close()
	r.wantCounted(audit.Denied, 2000)
}

func TestTargetThatOpensWithoutEndLosesItsConnection(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run("openmany 12000"); err == nil {
		t.Error("the target's session ended as if nothing had been")
	}
	// The user's connection is whole, and opens the target again, once the lost one is gone.
	status := 0
	for range 100 {
		if _, _, status = run(t, c, "exit 5", ""); status == 5 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if status != 5 {
		t.Errorf("status %d", status)
	}
}

func TestAuditLogIsNotFloodedByDeniedFiles(t *testing.T) {
	r := newRig(t, rule("files", `sftp_read = ["/srv/public/**"]`))
	c := r.client("db1")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	if err := s.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	const many = 1000
	go func() {
		_, _ = in.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
		for id := range uint32(many) {
			p := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 13, 14}, id) // MKDIR without attributes
			_, _ = in.Write(append(p, 0, 0, 0, 4, '/', 'e', 't', 'c'))
		}
	}()
	next := func() []byte {
		var n [4]byte
		if _, err := io.ReadFull(out, n[:]); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, binary.BigEndian.Uint32(n[:]))
		if _, err := io.ReadFull(out, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	next()
	for range many {
		if p := next(); p[0] != 101 || binary.BigEndian.Uint32(p[5:]) != 3 {
			t.Fatalf("the answer is %q", p)
		}
	}
	_ = c.Close()
	r.wantCounted(audit.File, many)
}
