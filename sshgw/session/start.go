// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// program is what a session is to run.
type program struct {
	kind    string // shell, exec or subsystem
	command string
	asked   string // by the client, where its key says another one; for the log
}

// programOf reads the request that starts a program.
func programOf(r *ssh.Request) (program, bool) {
	if r.Type == "shell" {
		return program{kind: "shell"}, len(r.Payload) == 0
	}
	c, ok := parse[command](r.Payload)
	return program{kind: r.Type, command: c.Command}, ok && len(c.Command) <= maxCommand
}

// start runs the program that the request asks for, and answers the request.
func (s *sessionChannel) start(ctx context.Context, r *ssh.Request, carried *sync.WaitGroup) {
	p, ok := programOf(r)
	if !ok {
		_ = r.Reply(false, nil)
		return
	}
	// Whoever is to read or answer something needs the reply first: clients wait for it.
	var once sync.Once
	reply := func(ok bool) { once.Do(func() { _ = r.Reply(ok, nil) }) }
	name, login := s.conn.target, s.conn.login
	if name == "" {
		name, login, ok = s.gateway(ctx, p, reply)
		if !ok {
			return
		}
		p = program{kind: "shell"}
	}
	run, done, err := s.launch(ctx, p, name, login, reply)
	if err != nil {
		reply(true)
		s.refuse(err)
		return
	}
	if run == nil { // the target said no, as it may without the gateway
		reply(false)
		return
	}
	reply(true)
	carried.Add(1)
	s.conn.spawn(func() {
		defer carried.Done()
		defer done()
		s.carry(ctx, run)
	})
}

// launch opens the target and starts the program there. A nil program without an error is
// one that the target refused.
func (s *sessionChannel) launch(ctx context.Context, p program, name, login string, reply func(bool)) (*running, func(), error) {
	c := s.conn
	w, err := c.decide(ctx, name, login)
	if err != nil {
		return nil, nil, err
	}
	if p, err = s.judge(ctx, w, p); err != nil {
		return nil, nil, err
	}
	with := companion{person: &lazy{start: func() { reply(true) }, person: s.person()}, reads: s.pty == nil}
	s.mu.Lock()
	if s.agent && w.grant.Agent {
		s.granted["auth-agent@openssh.com"] = true
	}
	if s.agent && (w.grant.Agent || unseen(&w.grant)) { // the gateway asks it itself
		with.agent = s.forwardedAgent
	}
	if s.x11 != nil && w.grant.X11 {
		s.granted["x11"] = true
	}
	s.mu.Unlock()
	h, to, err := c.open(ctx, w, with)
	if err != nil {
		return nil, nil, err
	}
	if s.pty != nil && p.kind != "shell" && !w.grant.MayTerminal() {
		s.say(fmt.Sprintf("the rule %q gives commands no terminal", w.grant.Rule))
		s.mu.Lock()
		s.pty = nil
		s.mu.Unlock()
	}
	wait := c.config().Timeouts.Target
	ch, requests, err := c.openChannel(ctx, to.SSH, "session", nil, wait)
	if err != nil {
		return nil, nil, c.failed(ctx, w.target.Name, w.login, fmt.Errorf("open a session: %w", err))
	}
	run := &running{way: w, hop: h, ch: ch, requests: requests, kind: p.kind, command: p.command, asked: p.asked, began: c.service.Now()}
	abandon := func() {
		_ = ch.Close()
		c.spawn(func() { refuse(requests) })
		c.spawn(func() { drain(ch) })
		c.spawn(func() { drain(ch.Stderr()) })
		if run.tape != nil {
			_ = run.tape.Close() // nothing ran
		}
		h.leave(s)
	}
	if run.name, err = c.service.name(); err != nil {
		abandon()
		return nil, nil, err
	}
	if err := s.record(ctx, run); err != nil {
		abandon()
		return nil, nil, err
	}
	if len(s.granted) > 0 {
		h.join(s)
	}
	if err := s.prepare(ctx, run); err != nil {
		abandon()
		return nil, nil, c.failed(ctx, w.target.Name, w.login, err)
	}
	var payload []byte
	if p.kind != "shell" {
		payload = ssh.Marshal(command{p.command})
	}
	ok, err := c.ask(ctx, ch, p.kind, true, payload)
	if err != nil || !ok {
		abandon()
		if err != nil {
			err = c.failed(ctx, w.target.Name, w.login, fmt.Errorf("start the %s: %w", p.kind, err))
		}
		return nil, nil, err
	}
	run.carried = c.entry.Open(roster.Opening{
		Kind: p.kind, Way: roster.Terminated, Target: w.target.Name, Login: w.login, Detail: clip(p.command), Rule: w.grant.Rule,
	})
	if run.tape != nil {
		run.carried.Recorded(run.tape.Name())
	}
	c.event(ctx, slog.LevelInfo, audit.SessionOpened, run.attrs()...)
	s.mu.Lock()
	s.running = run
	late, told := s.window, s.told
	s.mu.Unlock()
	if late != nil && late != run.taped && run.tape != nil {
		_ = run.tape.Resize(int(late.Columns), int(late.Rows)) // Failed says it
	}
	if late != nil && late != told {
		_, _ = ch.SendRequest("window-change", false, ssh.Marshal(*late))
	}
	return run, run.carried.Close, nil
}

// attrs say which program it is.
func (r *running) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("target", r.way.target.Name), slog.String("login", r.way.login), slog.String("rule", r.way.grant.Rule),
		slog.String("channel", r.name), slog.String("kind", r.kind),
	}
	if r.kind != "shell" {
		attrs = append(attrs, slog.String("command", long(r.command)))
	}
	if r.asked != "" {
		attrs = append(attrs, slog.String("asked", long(r.asked)))
	}
	if r.tape != nil {
		attrs = append(attrs, slog.String("recording", r.tape.Name()))
	}
	return attrs
}

// judge says whether the rule permits the program; a key's own command comes first.
func (s *sessionChannel) judge(ctx context.Context, w *way, p program) (program, error) {
	c := s.conn
	if forced := c.id.Limits.Command; forced != "" {
		asked := p.kind
		if p.kind != "shell" {
			asked += " " + p.command
		}
		p = program{kind: "exec", command: forced, asked: asked}
		if forced == "internal-sftp" {
			p = program{kind: "subsystem", command: "sftp", asked: asked}
		}
	}
	var may bool
	what := "a shell"
	switch {
	case p.kind == "shell":
		may = w.grant.Shell
	case p.kind == "exec":
		may, what = w.grant.MayExec(p.command), "this command"
	case p.command == "sftp":
		may, _ = w.grant.MaySFTP()
		what = "sftp"
	default:
		may, what = w.grant.MaySubsystem(p.command), "this subsystem"
	}
	if !may {
		return p, c.denied(ctx, w.target.Name, w.login, p.kind, fmt.Sprintf("the rule %q does not permit %s at %s", w.grant.Rule, what, w.target.Name),
			slog.String("rule", w.grant.Rule), slog.String("command", long(p.command)))
	}
	return p, nil
}

// person is whoever is at the other end of the session.
func (s *sessionChannel) person() conversation.Person {
	if s.pty == nil {
		return reader{s.errs}
	}
	t := newTypist(s.ch, s.ch)
	if w, h := s.size(); w > 0 && h > 0 {
		_ = t.terminal.SetSize(w, h)
	}
	return t
}

// lazy calls start before a person is shown or asked the first thing.
type lazy struct {
	start  func()
	person conversation.Person
}

func (l *lazy) Show(style frames.Style, text string) error {
	l.start()
	return l.person.Show(style, text)
}

func (l *lazy) Ask(ctx context.Context, text string, echo bool) (frames.Secret, error) {
	l.start()
	return l.person.Ask(ctx, text, echo)
}

// prepare hands on what the client wished for, as far as the rule permits it.
func (s *sessionChannel) prepare(ctx context.Context, run *running) error {
	c, grant := s.conn, run.way.grant
	if s.agent && grant.Agent {
		if _, err := run.ch.SendRequest("auth-agent-req@openssh.com", false, nil); err != nil {
			return fmt.Errorf("ask for the agent: %w", err)
		}
	}
	if s.x11 != nil && grant.X11 {
		if _, err := run.ch.SendRequest("x11-req", false, s.x11); err != nil {
			return fmt.Errorf("ask for X11: %w", err)
		}
	}
	if s.pty != nil {
		ok, err := c.ask(ctx, run.ch, "pty-req", true, ssh.Marshal(*s.terminal()))
		if err != nil {
			return fmt.Errorf("ask for a terminal: %w", err)
		}
		if !ok {
			s.say("PTY allocation request failed at " + run.way.target.Name)
			s.pty = nil
		}
	}
	for _, v := range s.vars {
		if !grant.MayEnv(v.Name) {
			continue
		}
		if _, err := run.ch.SendRequest("env", false, ssh.Marshal(v)); err != nil {
			return fmt.Errorf("pass on a variable: %w", err)
		}
	}
	return nil
}

// record begins the recording that the rule wants, before anything runs. What is done by
// sftp is in the log instead.
func (s *sessionChannel) record(ctx context.Context, run *running) error {
	grant := run.way.grant
	if grant.Record != policy.RecordOn && grant.Record != policy.RecordRequired || run.kind == "subsystem" && run.command == "sftp" {
		return nil
	}
	c := s.conn
	who := c.server.Who()
	m := record.Meta{
		Channel: run.name, Connection: who.Connection, Session: who.Session, Inner: who.Inner, User: who.User, Source: who.Source,
		Target: run.way.target.Name, Login: run.way.login, Rule: grant.Rule, Command: run.command,
		Input: grant.Input, Started: run.began,
	}
	if p := s.terminal(); p != nil {
		s.mu.Lock()
		run.taped = s.told
		s.mu.Unlock()
		m.Terminal, m.Term, m.Width, m.Height = true, p.Term, int(p.Columns), int(p.Rows)
	}
	rec, err := c.service.Record(m)
	if err != nil {
		return s.unrecorded(ctx, run, err)
	}
	run.tape = rec
	return nil
}

// unrecorded is what becomes of a session whose recording cannot be, or cannot go on: an
// error where the rule demands it.
func (s *sessionChannel) unrecorded(ctx context.Context, run *running, err error) error {
	required := run.way.grant.Record != policy.RecordOn
	s.conn.event(ctx, slog.LevelError, audit.RecordFailed, append(run.attrs(),
		slog.String("error", err.Error()), slog.Bool("required", required))...)
	if !required {
		return nil
	}
	return &refusal{ssh.ResourceShortage, s.conn.contact("this session must be recorded, and cannot be: it ends")}
}
