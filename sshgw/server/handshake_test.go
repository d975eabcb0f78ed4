// SPDX-License-Identifier: Apache-2.0

package server_test

import (
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
