// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// filter hands channels and requests on to the handler, but for those that are over a
// limit or want no answer but the server's. It ends with the connection.
func (c *Conn) filter(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, toChannels chan<- ssh.NewChannel, toRequests chan<- *ssh.Request, handled <-chan struct{}) {
	defer close(toChannels)
	defer close(toRequests)
	var channel ssh.NewChannel
	var request *ssh.Request
	for channels != nil || requests != nil {
		// One of each waits for the handler at most; until it is taken, none is read.
		inC, inR := channels, requests
		var outC chan<- ssh.NewChannel
		var outR chan<- *ssh.Request
		if channel != nil {
			inC, outC = nil, toChannels
		}
		if request != nil {
			inR, outR = nil, toRequests
		}
		select {
		case n, ok := <-inC:
			if !ok {
				channels = nil
				c.cancel()
				continue
			}
			channel = c.admit(n)
		case r, ok := <-inR:
			if !ok {
				requests = nil
				c.cancel()
				continue
			}
			request = c.note(r)
		case outC <- channel:
			channel = nil
		case outR <- request:
			request = nil
		case <-handled:
			discard(channels, requests)
			return
		}
	}
}

// discard reads both to their end, which is near: the handler is done.
func discard(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	for channels != nil || requests != nil {
		select {
		case n, ok := <-channels:
			if !ok {
				channels = nil
				continue
			}
			_ = n.Reject(ssh.ConnectionFailed, "the connection is ending")
		case r, ok := <-requests:
			if !ok {
				requests = nil
				continue
			}
			_ = r.Reply(false, nil)
		}
	}
}

// admit counts a channel, or refuses it and returns nil.
func (c *Conn) admit(n ssh.NewChannel) ssh.NewChannel {
	if n.ChannelType() == "session" && c.final.Load() {
		_ = n.Reject(ssh.Prohibited, "no more sessions were to be opened")
		return nil
	}
	if c.outermost().open.Add(1) > int64(c.set.Limits.Channels) {
		c.outermost().open.Add(-1)
		if c.rejected.Add(1) == 1 { // the rest is in the report of the end
			c.server.opt.Events.Event(c.ctx, slog.LevelWarn, audit.Limited,
				c.Who().Attrs(slog.String("reason", "channels"), slog.String("setting", "limits.channels"))...)
		}
		_ = n.Reject(ssh.ResourceShortage, "too many channels are open in this connection")
		return nil
	}
	return &countedChannel{NewChannel: n, conn: c}
}

// outermost is the connection over the network: channels inside jumps cost as much as
// others, and count with it.
func (c *Conn) outermost() *Conn {
	for c.Outer != nil {
		c = c.Outer
	}
	return c
}

// countedChannel is a channel that the limit knows. It is counted until the library has
// forgotten it, which is when both ends have closed it: a client that leaves its
// closes out keeps its places taken.
type countedChannel struct {
	ssh.NewChannel
	conn *Conn
}

// Accept implements ssh.NewChannel.
func (n *countedChannel) Accept() (ssh.Channel, <-chan *ssh.Request, error) {
	ch, in, err := n.NewChannel.Accept()
	if err != nil {
		n.conn.outermost().open.Add(-1)
		return nil, nil, err
	}
	out := make(chan *ssh.Request)
	go func() {
		defer n.conn.outermost().open.Add(-1)
		defer close(out)
		for r := range in {
			select {
			case out <- r:
			case <-n.conn.ctx.Done():
				ssh.DiscardRequests(in)
				return
			}
		}
	}()
	return ch, out, nil
}

// Reject implements ssh.NewChannel.
func (n *countedChannel) Reject(reason ssh.RejectionReason, message string) error {
	n.conn.outermost().open.Add(-1)
	return n.NewChannel.Reject(reason, message)
}

// note takes notice of a request as it comes in. It returns those that the handler is to see,
// which are all that want a reply.
func (c *Conn) note(r *ssh.Request) *ssh.Request {
	if r.Type == "no-more-sessions@openssh.com" {
		c.final.Store(true)
	}
	if !r.WantReply && c.Answer(r) {
		return nil
	}
	return r
}

// Answer answers a request that is the server's own, and returns false for any other. The
// handler calls it for each request when its turn has come: a client knows replies to such
// requests by their order alone.
func (c *Conn) Answer(r *ssh.Request) bool {
	switch r.Type {
	case "keepalive@openssh.com", "no-more-sessions@openssh.com":
		_ = r.Reply(true, nil)
	case "hostkeys-prove-00@openssh.com":
		proof, err := c.prove(r.Payload)
		if err != nil {
			c.Log.LogAttrs(c.ctx, slog.LevelInfo, "a host key was not proven", slog.Any("error", err))
		}
		_ = r.Reply(err == nil, proof)
	default:
		return false
	}
	return true
}
