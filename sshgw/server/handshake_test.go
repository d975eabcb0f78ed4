// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The clock of the handshake is not that of the session: a connection outlives it.
func TestConnectionOutlivesItsHandshake(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.Handshake = time.Second
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("an open connection ended with the handshake's clock: %v", err)
	case <-time.After(2 * g.settings.Timeouts.Handshake):
	}
	if got := whoami(t, c); got != "alice publickey held" {
		t.Errorf("the connection is %q", got)
	}
}

// A client that cannot answer, such as Ansible or BatchMode, leaves a line that says so.
func TestSecondFactorThatNobodyAnswers(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	if c, err := g.client("alice", nil, ssh.PublicKeys(key)); err == nil {
		_ = c.Close()
		t.Fatal("a key alone came in")
	}
	eventually(t, "the reason is logged", func() bool {
		return strings.Contains(g.log.String(), "reason=second_factor_unanswered")
	})
	for line := range strings.Lines(g.log.String()) {
		if strings.Contains(line, "gw_login_refused") && (!strings.Contains(line, "session=") || !strings.Contains(line, "connection=") || strings.Contains(line, "partial success")) {
			t.Errorf("the line is %s", line)
		}
	}
}
