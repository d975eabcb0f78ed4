// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestKeyThenPasscode(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", `command="only this",no-pty`, key.PublicKey())
	g.start()
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := whoami(t, c); got != "alice publickey authd only this" {
		t.Errorf("the connection is %q", got)
	}
	if connections, _ := g.roster.Len(); connections != 1 {
		t.Errorf("%d connections on the roster", connections)
	}
	if !strings.Contains(g.log.String(), "event=gw_login ") {
		t.Errorf("no event of the login:\n%s", g.log)
	}
	_ = c.Close()
	eventually(t, "the connection is off the roster", func() bool { n, _ := g.roster.Len(); return n == 0 })
	eventually(t, "the end is logged", func() bool { return strings.Contains(g.log.String(), "event=gw_disconnect") })

	if c, err := g.client("alice", code("000000"), ssh.PublicKeys(key)); err == nil {
		_ = c.Close()
		t.Error("a wrong passcode lets in")
	}
	if c, err := g.client("alice", code("123456"), ssh.PublicKeys(newSigner(t))); err == nil {
		_ = c.Close()
		t.Error("an unknown key lets in")
	}
	eventually(t, "the refusals are logged", func() bool { return strings.Count(g.log.String(), "event=gw_login_refused") == 2 })
}
