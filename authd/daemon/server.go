// SPDX-License-Identifier: Apache-2.0

// Package daemon owns authd's sockets and its life: who may connect, how many at
// once, one conversation per connection, start, reload and stop. It never
// decides a login.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Names of the sockets in socket_dir, and of the descriptors that systemd passes.
const (
	RootSocketName    = "authd.sock"
	UserSocketName    = "user.sock"
	GatewaySocketName = "sshgw.sock"
)

// server takes connections of one socket. Each socket has its own, with its own
// limit: a flood on one does not queue in front of another.
type server struct {
	socket login.Socket
	name   string
	engine *login.Engine
	people directory.Directory
	log    *slog.Logger

	mu     sync.Mutex
	active int
	// callers is how many of these are programs that ordinary users have started.
	callers int
	perUID  map[uint32]int  // on authd.sock by real uid, on the others by that of the peer
	perUser map[subject]int // on sshgw.sock
	keys    int             // of the conversations on sshgw.sock, those about SSH keys
	full    quieted
	conns   sync.WaitGroup

	closing chan struct{} // closed when no more connections come

	refusals atomic.Int64
	// refused is told of each refusal; nil: nobody is.
	refused func(socket, why string)
}

// quieted keeps the log of refused connections from being a flood of its own.
type quieted struct {
	last  time.Time
	since int
}

// refusalInterval is how often refusals on a socket are logged, at most.
const refusalInterval = time.Second

// serve accepts until the listener is closed. ctx is the parent of the
// conversations.
func (s *server) serve(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			close(s.closing)
			return
		}
		if err != nil {
			// EMFILE and the like pass; a loop without a pause would not let them.
			s.log.Error("accept", slog.String("socket", s.name), slog.Any("error", err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		s.take(ctx, conn)
	}
}

// take starts a conversation, or refuses one at once.
func (s *server) take(ctx context.Context, conn *net.UnixConn) {
	cred, err := process.Credentials(conn)
	if err != nil {
		s.refuse(conn, "no peer credentials", 0, err)
		return
	}
	if !s.enter(cred.Uid) {
		s.refuse(conn, "too many connections", cred.Uid, nil)
		return
	}
	s.conns.Go(func() {
		defer s.leave(cred.Uid)
		if s.socket == login.UserSocket {
			defer s.pause(ctx)
		}
		defer conn.Close()
		if err := s.admit(ctx, cred.Uid); err != nil {
			s.refuse(conn, "peer is not permitted on this socket", cred.Uid, err)
			return
		}
		s.handle(ctx, conn, login.Peer{Socket: s.socket, UID: cred.Uid, Process: process.Of(cred.Pid)})
	})
}

// userPause is how long a place on user.sock stays taken after its conversation.
// With the limits it bounds how often ordinary users can make authd work, and
// log: 64 places give 256 calls a second, below what journald begins to drop at.
const userPause = 250 * time.Millisecond

func (s *server) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.closing:
	case <-time.After(userPause):
	}
}

// admit says whether a uid may use this socket at all.
func (s *server) admit(ctx context.Context, uid uint32) error {
	switch s.socket {
	case login.RootSocket:
		if uid != 0 {
			return errors.New("not uid 0")
		}
	case login.GatewaySocket:
		gateway := s.engine.Config().Gateway.User
		if gateway == "" {
			return errors.New("gateway.user is not set")
		}
		ctx, cancel := context.WithTimeout(ctx, s.engine.Config().Timeouts.NSS)
		defer cancel()
		account, err := s.people.ByName(ctx, gateway)
		if err != nil {
			return fmt.Errorf("look up gateway.user: %w", err)
		}
		if account.UID != uid {
			return errors.New("not gateway.user")
		}
	}
	return nil
}

// enter counts a connection in, unless the socket is full.
func (s *server) enter(uid uint32) bool {
	limits := s.engine.Config().Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active >= s.limit(limits) || s.socket == login.UserSocket && s.perUID[uid] >= limits.UserPerUID {
		return false
	}
	s.active++
	if s.socket != login.RootSocket {
		s.perUID[uid]++
	}
	return true
}

func (s *server) leave(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	if s.socket != login.RootSocket {
		s.forget(uid)
	}
}

func (s *server) forget(uid uint32) {
	if s.perUID[uid]--; s.perUID[uid] == 0 {
		delete(s.perUID, uid)
	}
}

// enterCaller counts a setuid program of an ordinary user in: else a user could
// hold every place of authd.sock by starting sudo often enough, and nobody else,
// the administrator at sshd included, would get in. ruid is root's word.
func (s *server) enterCaller(ruid uint32) bool {
	if s.socket != login.RootSocket || ruid == 0 {
		return true
	}
	limits := s.engine.Config().Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perUID[ruid] >= limits.RootPerUID || s.callers >= limits.Root-reserve(limits.Root) {
		return false
	}
	s.perUID[ruid]++
	s.callers++
	return true
}

func (s *server) leaveCaller(ruid uint32) {
	if s.socket != login.RootSocket || ruid == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers--
	s.forget(ruid)
}

// subject is who a conversation on sshgw.sock is about. Strangers can make the gateway
// ask for a person's SSH keys, so these take nothing of what the person's logins have.
type subject struct {
	name string
	keys bool
}

// enterPerson counts a conversation of the gateway's in: else who has one key could
// hold every place of sshgw.sock with questions that nobody answers, and nobody else
// would get through the gateway. why is a refusal, by a setting.
func (s *server) enterPerson(req *frames.Request) (why string, setting error) {
	if s.socket != login.GatewaySocket {
		return "", nil
	}
	limits := s.engine.Config().Limits
	p := subject{req.User, req.Hook == frames.HookSSHKeys}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.perUser[p] >= limits.GatewayPerUser:
		return "too many connections about one person", errors.New("limits.gateway_connections_user")
	case p.keys && s.keys >= reserve(limits.Gateway):
		return "too many connections about keys", errors.New("limits.gateway_connections")
	}
	s.perUser[p]++
	if p.keys {
		s.keys++
	}
	return "", nil
}

func (s *server) leavePerson(req *frames.Request) {
	if s.socket != login.GatewaySocket {
		return
	}
	p := subject{req.User, req.Hook == frames.HookSSHKeys}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.keys {
		s.keys--
	}
	if s.perUser[p]--; s.perUser[p] == 0 {
		delete(s.perUser, p)
	}
}

// reserve is a quarter of the places. On authd.sock they are kept for what root itself
// starts, sshd and the console among it: many users together cannot take those. On
// sshgw.sock no more than these go to what strangers can cause.
func reserve(limit int) int { return (limit + 3) / 4 }

// refuse tells the module that nothing was decided, which is a denial there.
func (s *server) refuse(conn *net.UnixConn, why string, uid uint32, cause error) {
	defer conn.Close()
	s.refusals.Add(1)
	if s.refused != nil {
		s.refused(s.name, why)
	}
	s.mu.Lock()
	s.full.since++
	count, now := s.full.since, time.Now()
	due := now.Sub(s.full.last) >= refusalInterval
	if due {
		s.full.last, s.full.since = now, 0
	}
	s.mu.Unlock()
	if due {
		attrs := []any{slog.String("event", "refused"), slog.String("socket", s.name), slog.String("reason", why),
			slog.Uint64("peer_uid", uint64(uid)), slog.Int("count", count)}
		if cause != nil {
			attrs = append(attrs, slog.Any("error", cause))
		}
		s.log.Warn("connection refused", attrs...)
	}
	// The frame fits the socket's empty buffer, so this does not block the accept
	// loop; the deadline is for a kernel that sees that differently.
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = frames.WriteFrame(conn, &frames.Done{Outcome: frames.OutcomeUnavailable})
}

// handle is one connection: REQUEST, conversation, DONE.
func (s *server) handle(ctx context.Context, conn *net.UnixConn, peer login.Peer) {
	_ = conn.SetReadDeadline(time.Now().Add(frameTimeout))
	first, err := frames.ReadFrame(conn)
	req, ok := first.(*frames.Request)
	if err != nil || !ok {
		s.log.Debug("no request", slog.String("socket", s.name), slog.Uint64("peer_uid", uint64(peer.UID)), slog.Any("error", err))
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	if !s.enterCaller(req.RUID) {
		s.refuse(conn, "too many connections of one user", req.RUID, nil)
		return
	}
	defer s.leaveCaller(req.RUID)
	if why, setting := s.enterPerson(req); why != "" {
		s.refuse(conn, why, peer.UID, setting)
		return
	}
	defer s.leavePerson(req)
	conv, ctx := converse(ctx, conn)
	outcome := s.engine.Handle(ctx, peer, req, conv)
	if err := conv.write(&frames.Done{Outcome: outcome}); err != nil {
		s.log.Debug("outcome not delivered", slog.String("outcome", outcome.String()), slog.Any("error", err))
	}
}

// state is what a report says of the socket.
func (s *server) state() status.Socket {
	limits := s.engine.Config().Limits
	s.mu.Lock()
	defer s.mu.Unlock()
	return status.Socket{Name: s.name, Connections: s.active, Limit: s.limit(limits), Refused: s.refusals.Load()}
}

func (s *server) limit(l config.Limits) int {
	switch s.socket {
	case login.UserSocket:
		return l.User
	case login.GatewaySocket:
		return l.Gateway
	}
	return l.Root
}

// newServer makes the server of a socket; it holds no descriptor of its own.
func newServer(socket login.Socket, name string, e *login.Engine, people directory.Directory, log *slog.Logger) *server {
	return &server{socket: socket, name: name, engine: e, people: people, log: log, perUID: map[uint32]int{}, perUser: map[subject]int{}, closing: make(chan struct{})}
}

// socketKinds maps the sockets' names.
var socketKinds = map[string]login.Socket{
	RootSocketName:    login.RootSocket,
	UserSocketName:    login.UserSocket,
	GatewaySocketName: login.GatewaySocket,
}

// wantedSockets are the sockets that authd makes for itself.
func wantedSockets(c *config.Config) []string {
	names := []string{RootSocketName, UserSocketName, status.SocketName}
	if c.Gateway.User != "" {
		names = append(names, GatewaySocketName)
	}
	return names
}
