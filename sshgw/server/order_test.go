// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// Replies to requests of a connection carry no name: a keepalive that is answered while an
// earlier request is still being handled would be taken for that one's answer.
func TestRepliesGoOutInTheOrderOfTheRequests(t *testing.T) {
	g, key := openGateway(t)
	behind := make(chan struct{})
	g.handler = func(_ context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		c.Go(func() {
			for r := range requests {
				switch {
				case r.Type == "slow@example.org":
					<-behind
					_ = r.Reply(true, []byte("slow"))
				case !c.Answer(r):
					_ = r.Reply(false, nil)
				}
			}
		})
		for n := range channels { // it has come once those requests were seen
			close(behind)
			_ = n.Reject(ssh.Prohibited, "no")
		}
	}
	g.start()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	request := func(name string) {
		w.send(append(append([]byte{msgGlobalRequest}, str(name)...), 1))
	}
	request("slow@example.org")
	request("keepalive@openssh.com")
	request("no-more-sessions@openssh.com")
	request("unknown@example.org")
	var replies [][]byte
	_ = w.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // for whatever comes too early
	opened := false
	for len(replies) < 4 {
		p, err := w.tryRead()
		if errors.Is(err, os.ErrDeadlineExceeded) && !opened {
			opened = true
			_ = w.conn.SetReadDeadline(time.Now().Add(limit))
			w.send(channelOpen("x11", 0))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if p[0] == msgRequestSuccess || p[0] == msgRequestFailure {
			replies = append(replies, p)
		}
	}
	if string(replies[0][1:]) != "slow" || replies[1][0] != msgRequestSuccess || replies[2][0] != msgRequestSuccess || replies[3][0] != msgRequestFailure {
		t.Errorf("the replies are %q", replies)
	}
}
