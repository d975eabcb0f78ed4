// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// sessionChannel is a session of the client: first its wishes, then a program at a target.
type sessionChannel struct {
	conn *connection
	ch   ssh.Channel
	errs io.Writer // its stderr, which several may write to

	// What was asked for before the program. Requests come one after the other.
	pty     *ptyRequest
	vars    []variable
	agent   bool
	x11     []byte
	started bool // a program was asked for: there is one per session

	mu      sync.Mutex
	window  *windowChange   // of the terminal, as it is while no program has it; nil: as at first
	told    *windowChange   // what of that the program was started with
	granted map[string]bool // kinds of channels that the target may open towards the client
	bound   map[ssh.Channel]ssh.Channel
	running *running // nil: no program
	over    bool

	gone chan struct{} // closed when the client has closed the channel
}

// running is the program of a session, at its target.
type running struct {
	way      *way
	hop      *hop
	ch       ssh.Channel
	requests <-chan *ssh.Request
	kind     string        // shell, exec or subsystem
	command  string        // or the name of the subsystem
	asked    string        // see program
	tape     Recording     // nil: not recorded
	taped    *windowChange // what of the terminal's size stands at the head of the tape
	began    time.Time
	carried  *roster.Channel
	name     string
}

// session serves a session channel for the connection's target.
func (c *connection) session(ctx context.Context, ch ssh.NewChannel) error {
	if _, err := c.decide(ctx, c.target, c.login); err != nil {
		return err
	}
	return c.serveSession(ctx, ch)
}

// accept opens a channel that was asked for. Not ok: the connection has ended, and there is
// nobody to tell.
func accept(nc ssh.NewChannel) (_ ssh.Channel, _ <-chan *ssh.Request, ok bool) {
	ch, requests, err := nc.Accept()
	return ch, requests, err == nil
}

func (c *connection) serveSession(ctx context.Context, nc ssh.NewChannel) error {
	ch, requests, ok := accept(nc)
	if !ok {
		return nil
	}
	s := &sessionChannel{
		conn: c, ch: ch, errs: &locked{w: ch.Stderr()}, gone: make(chan struct{}),
		granted: map[string]bool{}, bound: map[ssh.Channel]ssh.Channel{},
	}
	c.spawn(func() { drain(ch.Stderr()) }) // a client has no business there
	var carried sync.WaitGroup
	ordered := inOrder(c.spawn, requests, s.resized, func(r *ssh.Request) { s.request(ctx, r, &carried) })
	if !ordered {
		if more, ok := c.spend(&c.root().refusals, c.root().tooMany); ok {
			c.log.LogAttrs(ctx, slog.LevelWarn, "a session asked too much at once", more...)
		}
		_ = ch.Close()
		c.spawn(func() { refuse(requests) })
	}
	close(s.gone)
	carried.Wait()
	s.end()
	_ = ch.Close()
	return nil
}

// request handles one request of the client.
func (s *sessionChannel) request(ctx context.Context, r *ssh.Request, carried *sync.WaitGroup) {
	s.mu.Lock()
	program, over := s.running, s.over
	s.mu.Unlock()
	switch {
	case over:
		_ = r.Reply(false, nil)
	case program != nil:
		_ = r.Reply(s.pass(ctx, program, r), nil)
	case s.started:
		_ = r.Reply(false, nil)
	case r.Type == "shell" || r.Type == "exec" || r.Type == "subsystem":
		s.started = true
		s.start(ctx, r, carried)
	default:
		_ = r.Reply(s.wish(r), nil)
	}
}

// wish takes note of what a client wants for its program. Whether a rule permits it is
// decided when the program starts as well; here, so that the client is told.
func (s *sessionChannel) wish(r *ssh.Request) bool {
	limits := s.conn.id.Limits
	switch r.Type {
	case "pty-req":
		p, ok := parse[ptyRequest](r.Payload)
		if !ok || s.pty != nil || limits.NoPTY || len(r.Payload) > maxTerminal {
			return false
		}
		s.pty = &p
		return true
	case "env":
		v, ok := parse[variable](r.Payload)
		if !ok || len(s.vars) >= maxVariables || len(r.Payload) > maxVariable {
			return false
		}
		s.vars = append(s.vars, v)
		return true
	case "auth-agent-req@openssh.com":
		s.agent = !limits.NoAgent
		return s.agent
	case "x11-req":
		if limits.NoX11 || len(r.Payload) > maxTerminal {
			return false
		}
		s.x11 = r.Payload
		return true
	}
	return false
}

// resized takes note of a new size of the terminal while no program has it: people drag
// windows while they are asked, and each drag is many requests.
func (s *sessionChannel) resized(r *ssh.Request) bool {
	if r.Type != "window-change" || r.WantReply {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return false
	}
	if w, ok := parse[windowChange](r.Payload); ok {
		s.window = &w
	}
	return true
}

// terminal is the pty-req as it would be now, nil for none.
func (s *sessionChannel) terminal() *ptyRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pty == nil {
		return nil
	}
	p := *s.pty
	if w := s.window; w != nil {
		p.Columns, p.Rows, p.Width, p.Height = w.Columns, w.Rows, w.Width, w.Height
	}
	s.told = s.window
	return &p
}

// size is that of the terminal, within what a terminal may have.
func (s *sessionChannel) size() (width, height int) {
	p := s.terminal()
	if p == nil {
		return 0, 0
	}
	return int(min(p.Columns, 1000)), int(min(p.Rows, 1000))
}

// pass hands a request to the program that runs.
func (s *sessionChannel) pass(ctx context.Context, p *running, r *ssh.Request) bool {
	switch r.Type {
	case "window-change":
		w, ok := parse[windowChange](r.Payload)
		if !ok {
			return false
		}
		if p.tape != nil {
			_ = p.tape.Resize(int(w.Columns), int(w.Rows)) // Failed says it
		}
	case "signal", "break", "eow@openssh.com":
	default:
		return false
	}
	ok, err := s.conn.ask(ctx, p.ch, r.Type, r.WantReply, r.Payload)
	if errors.Is(err, errSilent) {
		s.conn.log.Warn("a target does not answer", "request", r.Type, "target", p.way.target.Name)
		_ = p.ch.Close()
	}
	return ok && err == nil
}

// ask sends a request to a peer that may never answer.
func (c *connection) ask(ctx context.Context, ch ssh.Channel, kind string, want bool, payload []byte) (bool, error) {
	if !want {
		_, err := ch.SendRequest(kind, false, payload)
		return err == nil, err
	}
	type answer struct {
		ok  bool
		err error
	}
	answers := make(chan answer, 1)
	c.spawn(func() {
		ok, err := ch.SendRequest(kind, true, payload)
		answers <- answer{ok, err}
	})
	timer := time.NewTimer(c.config().Timeouts.Target)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.ok, a.err
	case <-timer.C:
		return false, errSilent
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// say writes a text for the person. A client that does not read is not waited for.
func (s *sessionChannel) say(text string) {
	done := make(chan struct{})
	s.conn.spawn(func() {
		defer close(done)
		newline := "\n"
		if s.pty != nil {
			newline = "\r\n"
		}
		_, _ = io.WriteString(s.errs, "sallyport: "+clip(text)+newline)
	})
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// exitRefused is the exit status of a session that the gateway ends or refuses, as ssh
// itself has it for errors of its own.
const exitRefused = 255

// refuse ends a session whose program does not start: the person reads why.
func (s *sessionChannel) refuse(err error) {
	r := &refusal{ssh.ConnectionFailed, "the gateway could not do this"}
	if !errors.As(err, &r) {
		s.conn.log.Warn("a session was refused", "error", short(err.Error()))
	}
	s.say(r.text)
	s.exit(exitRefused)
}

// exit ends the session with a status of the gateway's own.
func (s *sessionChannel) exit(status uint32) {
	_, _ = s.ch.SendRequest("exit-status", false, ssh.Marshal(exitStatus{status}))
	_ = s.ch.CloseWrite()
	s.end()
	_ = s.ch.Close()
}

// end closes what came with the session: the agent is not asked after it.
func (s *sessionChannel) end() {
	s.mu.Lock()
	s.over = true
	program := s.running
	bound := s.bound
	s.bound = map[ssh.Channel]ssh.Channel{}
	s.mu.Unlock()
	if program != nil {
		program.hop.leave(s)
	}
	for far, near := range bound {
		_ = far.Close()
		_ = near.Close()
	}
}

// wants says whether the session lives and was granted channels of this kind.
func (s *sessionChannel) wants(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.over && s.granted[kind]
}

// bind ties two channels to the session; false when it is over.
func (s *sessionChannel) bind(far, near ssh.Channel) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.bound[far] = near
	return true
}

func (s *sessionChannel) unbind(far ssh.Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bound, far)
}

// forwardedAgent is the user's agent while a target is opened. The client is asked for it
// when it is needed, and not before.
func (s *sessionChannel) forwardedAgent(ctx context.Context) (agent.ExtendedAgent, func()) {
	l := &lazyAgent{session: s, ctx: ctx}
	source := target.NewAgentSource(l)
	return source, func() {
		_ = source.Close()
		l.close()
	}
}

// lazyAgent is an agent that is reached when it is first asked. It lists and signs.
type lazyAgent struct {
	agent.ExtendedAgent // nil: what is not below panics, and target.AgentSource asks for nothing else
	session             *sessionChannel
	ctx                 context.Context

	mu     sync.Mutex
	ch     ssh.Channel
	agent  agent.ExtendedAgent
	err    error
	closed bool
}

func (l *lazyAgent) reach() (agent.ExtendedAgent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.agent != nil || l.err != nil {
		return l.agent, l.err
	}
	c := l.session.conn
	ch, requests, err := c.openChannel(l.ctx, c.server.SSH, "auth-agent@openssh.com", nil, c.config().Timeouts.Target)
	if err != nil {
		l.err = fmt.Errorf("reach the client's agent: %w", err)
		return nil, l.err
	}
	c.spawn(func() { refuse(requests) })
	c.spawn(func() { drain(ch.Stderr()) })
	if l.closed || !l.session.bind(ch, ch) {
		_ = ch.Close()
		l.err = target.ErrAgentClosed
		return nil, l.err
	}
	l.ch, l.agent = ch, agent.NewClient(ch)
	return l.agent, nil
}

func (l *lazyAgent) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.ch != nil {
		l.session.unbind(l.ch)
		_ = l.ch.Close()
	}
}

// List implements agent.Agent.
func (l *lazyAgent) List() ([]*agent.Key, error) {
	a, err := l.reach()
	if err != nil {
		return nil, err
	}
	return a.List()
}

// SignWithFlags implements agent.ExtendedAgent.
func (l *lazyAgent) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	a, err := l.reach()
	if err != nil {
		return nil, err
	}
	return a.SignWithFlags(key, data, flags)
}

// locked lets several goroutines write to one stream of a channel.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
