// SPDX-License-Identifier: Apache-2.0

// Package server owns the socket of sallyport-breakglass: who may ask, the
// question for a code, the delays after wrong ones, and the memory that the later
// hooks of a login need. It lets nobody in but by a code of package breakglass,
// and never where authd's rules say deny. docs/explanation/break-glass.md.
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Limits of the program.
const (
	maxConnections = 512             // at once, those included that have said nothing yet
	maxCallers     = 64              // of these at work for programs that users started
	maxPlaces      = 64              // logins that are asked at once
	rootRoom       = 16              // of these for logins of root alone
	consoleRoom    = 4               // of these for logins of root at this host itself
	maxPerPerson   = 8               // of the places for one person other than root
	requestTimeout = 5 * time.Second // from connect to the whole REQUEST
	writeTimeout   = 5 * time.Second // for a frame
	answerTimeout  = 5 * time.Minute // what is typed later is void
	hashTimeout    = 30 * time.Second
	attempts       = 3 // wrong codes in one login
)

// Server answers the PAM module and authd. Its fields are set once.
type Server struct {
	Store *breakglass.Store
	// PolicyPath is the copy of authd's rules.
	PolicyPath string
	Accounts   *Accounts
	Hostname   string
	// AuthdUID is authd's account, which may ask beside root; -1: none.
	AuthdUID int64
	// Idle is how long Serve goes on without a connection, 0 for ever. What the
	// later hooks of a login need keeps it longer.
	Idle time.Duration
	Now  func() time.Time
	// Sleep waits for d or until ctx ends.
	Sleep func(ctx context.Context, d time.Duration)
	Log   *slog.Logger

	throttle throttle
	grants   grants

	mu        sync.Mutex
	active    int // connections
	callers   int // of these, for programs that users started
	places    int // logins that are asked
	ordinary  int // of these, not root's
	perPerson map[string]int
	last      time.Time // when a connection came or went
	conns     sync.WaitGroup
}

// Serve accepts until ctx ends or nobody has come for Idle. Conversations under
// way end first. It closes l.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.last = s.Now()
	s.mu.Unlock()
	go func() {
		s.awaitEnd(ctx)
		_ = l.Close()
	}()
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			s.conns.Wait()
			return nil
		}
		if err != nil {
			s.Log.Error("accept", slog.Any("error", err))
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		s.take(ctx, conn)
	}
}

// awaitEnd returns when ctx ends or the program has been idle for long enough.
func (s *Server) awaitEnd(ctx context.Context) {
	if s.Idle <= 0 {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(max(s.Idle/8, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.mu.Lock()
			idle := s.active == 0 && s.Now().Sub(s.last) >= s.Idle
			s.mu.Unlock()
			if idle && s.grants.empty(s.Now()) && s.throttle.quiet(s.Now()) {
				return
			}
		}
	}
}

func (s *Server) take(ctx context.Context, conn *net.UnixConn) {
	cred, err := process.Credentials(conn)
	if err != nil || cred.Uid != 0 && int64(cred.Uid) != s.AuthdUID {
		s.refuse(conn, "peer is not permitted on this socket", err)
		return
	}
	s.mu.Lock()
	full := s.active >= maxConnections
	if !full {
		s.active++
	}
	s.last = s.Now()
	s.mu.Unlock()
	if full {
		s.refuse(conn, "too many connections", nil)
		return
	}
	s.conns.Go(func() {
		defer s.leave()
		defer conn.Close()
		s.handle(ctx, conn, process.Of(cred.Pid))
	})
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.last = s.Now()
}

// refuse says that nothing was decided, which is a denial at the other end.
func (s *Server) refuse(conn *net.UnixConn, why string, cause error) {
	defer conn.Close()
	s.Log.Warn("connection refused", slog.String("event", "refused"), slog.String("reason", why), slog.Any("error", cause))
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = frames.WriteFrame(conn, &frames.Done{Outcome: frames.OutcomeUnavailable})
}

// enter gives a login of this person its place. Root has room of its own, so that
// no crowd of others can keep the owner out, and some of it at the console, so that
// nobody with a stolen key of root's can. remote says that there is another end.
func (s *Server) enter(user string, remote bool) bool {
	root := s.Accounts.isRoot(user)
	room := maxPlaces
	if remote || !root {
		room -= consoleRoom
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places >= room || !root && (s.ordinary >= maxPlaces-rootRoom || s.perPerson[user] >= maxPerPerson) {
		return false
	}
	s.places++
	if root {
		return true
	}
	if s.perPerson == nil {
		s.perPerson = map[string]int{}
	}
	s.ordinary++
	s.perPerson[user]++
	return true
}

func (s *Server) exit(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places--
	if s.perPerson[user] == 0 {
		return // root's
	}
	s.ordinary--
	if s.perPerson[user]--; s.perPerson[user] == 0 {
		delete(s.perPerson, user)
	}
}

// enterCaller counts a program in that a user has started, such as su: any number
// of them can knock, and each takes a look at the rules and the store. ruid is
// root's word.
func (s *Server) enterCaller(ruid uint32) bool {
	if ruid == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.callers >= maxCallers {
		return false
	}
	s.callers++
	return true
}

func (s *Server) leaveCaller(ruid uint32) {
	if ruid == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callers--
}

// handle is one connection: REQUEST, conversation, DONE.
func (s *Server) handle(ctx context.Context, conn *net.UnixConn, peer process.Process) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	first, err := frames.ReadFrame(conn)
	req, ok := first.(*frames.Request)
	if err != nil || !ok {
		s.Log.Debug("no request", slog.Any("error", err))
		return
	}
	if !s.enterCaller(req.RUID) {
		s.refuse(conn, "too many connections of users", nil)
		return
	}
	defer s.leaveCaller(req.RUID)
	outcome := s.decide(ctx, conn, req, peer)
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := frames.WriteFrame(conn, &frames.Done{Outcome: outcome}); err != nil {
		s.Log.Debug("outcome not delivered", slog.String("outcome", outcome.String()), slog.Any("error", err))
	}
}

func (s *Server) decide(ctx context.Context, conn *net.UnixConn, req *frames.Request, peer process.Process) frames.Outcome {
	switch req.Hook {
	case frames.HookSetcred: // a probe: it decides nothing
		return frames.OutcomeAllow
	case frames.HookChauthtok:
		return frames.OutcomeDeny
	}
	l, err := s.newLogin(conn, req, peer)
	if err != nil {
		s.Log.Warn("break-glass request not understood", slog.String("event", "breakglass"), slog.String("result", "deny"),
			slog.String("reason", "protocol_error"), slog.Any("error", err))
		return frames.OutcomeDeny
	}
	switch req.Hook {
	case frames.HookCloseSession:
		s.grants.drop(l.process)
		return frames.OutcomeAllow
	case frames.HookAcctMgmt, frames.HookOpenSession:
		if s.grants.holds(l.process, req, l.service.Person == breakglass.PersonInvoking, s.Now()) {
			return frames.OutcomeAllow
		}
		return frames.OutcomeUnavailable
	}
	return l.authenticate(ctx)
}

// policy reads the copy of authd's rules. Without one no rule is known; a damaged
// one counts the same, loudly: the owner must get in when authd's files are
// garbage, and whoever can write them is authd already.
func (s *Server) policy() *breakglass.Policy {
	p, err := breakglass.ReadPolicy(s.PolicyPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.Log.Error("the rules of authd are not known: explicit denies cannot be kept", slog.String("event", "breakglass_policy"), slog.Any("error", err))
		return nil
	}
	return p
}

// errPeer says that the other end is gone or does not keep to the protocol.
var errPeer = errors.New("the other end hung up or broke the protocol")

// errAborted says that nobody can be asked.
var errAborted = errors.New("nobody can be asked")

// ask puts a question and waits for the answer.
func ask(conn *net.UnixConn, text string) (frames.Secret, error) {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err := frames.WriteFrame(conn, &frames.Ask{Text: text}); err != nil {
		return "", fmt.Errorf("%w: %w", errPeer, err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(answerTimeout))
	f, err := frames.ReadFrame(conn)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPeer, err)
	}
	switch f := f.(type) {
	case *frames.Answer:
		return f.Text, nil // too long: empty, and so no code
	case *frames.Abort:
		return "", errAborted
	}
	return "", errPeer
}

// wait tells the other end that the next frame may take d.
func wait(conn *net.UnixConn, d time.Duration) error {
	_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return frames.WriteFrame(conn, &frames.Wait{For: d})
}
