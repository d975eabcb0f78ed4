// SPDX-License-Identifier: Apache-2.0

// Package login owns the steps of a login on this host and the conversation
// with the person: from a hook call of the PAM module to an outcome, a log
// event, and the memory that the later hooks of the same login need. It never
// touches a socket, and never lets anyone in but by a rule, by the verifier, or
// by package failmode. docs/explanation/login.md draws its states.
package login

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Socket says which of authd's sockets a call came in by.
type Socket int

// The sockets.
const (
	RootSocket    Socket = iota // authd.sock: processes of uid 0
	UserSocket                  // user.sock: a caller authenticates itself alone
	GatewaySocket               // sshgw.sock: the SSH gateway's account
)

// UnprivilegedService is the service that every call on the UserSocket meets.
const UnprivilegedService = "unprivileged"

// GatewayService is the service that every call on the GatewaySocket meets.
const GatewayService = rules.Gateway

// Peer is the process at the other end, as the kernel describes it.
type Peer struct {
	Socket  Socket
	UID     uint32
	Process Process
}

// Process names a process of this boot, and its parent.
type Process = process.Process

// ProcessID names a process for good.
type ProcessID = process.ID

// Errors of Conversation.
var (
	// ErrAborted says that nobody can be asked.
	ErrAborted = errors.New("nobody can be asked")
	// ErrTooLong says that the answer was too long and was not sent.
	ErrTooLong = errors.New("the answer is too long")
	// ErrPeerGone says that the module hung up. It is also the cause of the
	// context of Handle when that happens outside of a question.
	ErrPeerGone = errors.New("the module hung up")
	// ErrProtocol says that the module broke the protocol.
	ErrProtocol = errors.New("the module broke the protocol")
	// ErrShutdown is the cause of the context of Handle when authd stops.
	ErrShutdown = errors.New("authd is stopping")
)

// Conversation is the person, through the module. Its methods are called by one
// goroutine at a time.
type Conversation interface {
	Show(style frames.Style, text string) error
	// Ask shows text and waits for the answer until ctx ends; then it returns
	// the cause of ctx.
	Ask(ctx context.Context, text string) (frames.Secret, error)
	// Wait tells the module that the next frame may take d.
	Wait(d time.Duration) error
}

// Verifier is what a login asks of package upstream.
type Verifier interface {
	Preauth(ctx context.Context, params url.Values) (duoapi.Preauth, error)
	Auth(ctx context.Context, params url.Values) (duoapi.Auth, error)
	AuthStatus(ctx context.Context, txid string) (duoapi.Auth, error)
	Cancel(ctx context.Context, txid string) error
}

// Meter counts for the metrics. It is safe for concurrent use.
type Meter interface {
	Login(service, result, reason string)
	Request(call, result string, took time.Duration)
	Slowed(setting string, d time.Duration)
}

// State is what a reload replaces as a whole. A login keeps the one it began with.
type State struct {
	Config   *config.Config
	Verifier Verifier
	// LDAP is the directory, and UserLDAP that of the UserSocket: apart, as the
	// name services are. Both are nil where none is configured.
	LDAP, UserLDAP LDAP
	// Host makes calls that the host's key signs; nil without a key.
	Host passport.Host
}

// Engine decides logins. Its fields are set once; it is safe for concurrent use.
type Engine struct {
	People directory.Directory
	Grants *Grants
	// UserPeople and UserGrants are the name service and the memory of the
	// UserSocket: apart, so that no ordinary user can hold every place in the
	// queue of look-ups, or push root's logins out.
	UserPeople directory.Directory
	UserGrants *Grants
	// Throttle and UserThrottle, apart for the same reason, slow down those who
	// have failed; nil: nobody.
	Throttle     *throttle.Throttle
	UserThrottle *throttle.Throttle
	FailMode     *failmode.Gate
	BreakGlass   BreakGlass // nil: no break-glass codes here
	Offline      Offline    // nil: no offline codes here
	Events       Events     // nil: the verifier is not told what it has not decided
	Habits       Habits     // nil: each menu is in the verifier's order
	Hostname     string     // the host's own name, unless the configuration has another
	Now          func() time.Time
	NewID        func() string // makes the id that joins the log lines of a login
	Log          *slog.Logger
	// Meter is told what happens, for the metrics; nil: nobody is.
	Meter Meter
	// Command returns the command line of a process, "" if it cannot; for push_command.
	Command  func(pid int32) string
	Passport *passport.Passport // nil: no login is remembered
	// Grace remembers answers at the gateway; nil: none is.
	Grace *Grace
	// SSHKeys knows the keys of people; nil: there are none.
	SSHKeys SSHKeys
	// LoginUID returns the audit loginuid of a process.
	LoginUID func(process.ID) (uint32, error)
	// Args returns the arguments of a process, nil if it cannot; nil: never.
	Args func(pid int32) []string

	state atomic.Pointer[State]
}

// Use makes s the state of the logins to come.
func (e *Engine) Use(s *State) {
	old := e.state.Swap(s)
	if e.Grace != nil && old != nil {
		was, is := old.Config.Gateway, s.Config.Gateway
		e.Grace.shrunk(is.Grace < was.Grace, is.StepUpGrace < was.StepUpGrace)
	}
}

// Config is the configuration in force.
func (e *Engine) Config() *config.Config { return e.state.Load().Config }

// Handle decides one call of one hook. It logs what it decided before it returns.
func (e *Engine) Handle(ctx context.Context, peer Peer, req *frames.Request, conv Conversation) frames.Outcome {
	l := e.begin(peer, req, conv)
	var v verdict
	switch hook := req.Hook; {
	case peer.Socket == GatewaySocket && !slices.Contains(gatewayHooks, hook):
		v = deny("unsupported_hook")
	default:
		v = l.call(ctx, hook)
	}
	l.finish(ctx, v)
	return v.outcome
}

// gatewayHooks are what the gateway calls: its sessions have no other hooks.
var gatewayHooks = []frames.Hook{frames.HookAuthenticate, frames.HookSetcred, frames.HookSSHKeys}

func (l *login) call(ctx context.Context, hook frames.Hook) verdict {
	switch hook {
	case frames.HookAuthenticate:
		return l.authenticate(ctx)
	case frames.HookAcctMgmt:
		return l.reported(l.account(ctx))
	case frames.HookOpenSession:
		return l.reported(l.openSession(ctx))
	case frames.HookCloseSession:
		l.grants.Drop(l.peer.Process.ID)
		l.closed(ctx)
		return pass("close_session")
	case frames.HookSetcred:
		return pass("setcred")
	case frames.HookSSHKeys:
		return l.sshKeys(ctx)
	}
	return deny("unsupported_hook")
}

// login is one call of a hook.
type login struct {
	*Engine
	cfg      *config.Config
	verifier Verifier
	host     passport.Host // nil: no key
	people   directory.Directory
	ldap     LDAP // nil: none
	grants   *Grants
	peer     Peer
	req      *frames.Request
	conv     Conversation
	base     *slog.Logger // with the id
	log      *slog.Logger // with both names as well, once they are known
	begun    time.Time
	budget   time.Duration // machine time left, see machine
	waits    int           // so far, because the verifier was busy
	gone     bool          // a question went unanswered: nobody is there to read

	// What is found out on the way.
	id       string
	service  config.Service
	ssh      sshFacts
	who      directory.Account // whoever has to prove themselves
	username string            // their name at the verifier
	unmapped error             // why they have none

	// What the gateway says of its question; the zero value on other sockets.
	claims    claims
	badClaims error
	required  bool // a rule of authd says that a factor is to be asked for

	// For the log event.
	rule    string
	action  rules.Action // "": the rules were not asked
	asked   rules.Facts  // what they were told
	factor  string
	txid    string
	session string // that answered for a factor

	proof string // the txid by which this login is to be remembered; empty: it is not

	offlineUse *agentapi.OfflineUse
}

func (e *Engine) begin(peer Peer, req *frames.Request, conv Conversation) *login {
	s := e.state.Load()
	l := &login{
		Engine: e, cfg: s.Config, verifier: s.Verifier, host: s.Host, people: e.People, ldap: s.LDAP, grants: e.Grants, peer: peer, req: req, conv: conv,
		begun: e.Now(), budget: s.Config.Timeouts.Login, id: e.NewID(),
	}
	l.ssh = readSSH(req, peer.Socket == GatewaySocket)
	name := req.Service
	switch peer.Socket {
	case UserSocket:
		// Nothing that a process of an ordinary user says of itself is believed.
		name, l.ssh, l.people, l.ldap, l.grants = UnprivilegedService, sshFacts{}, e.UserPeople, s.UserLDAP, e.UserGrants
	case GatewaySocket:
		name = GatewayService
		l.ofGateway()
	}
	l.service = s.Config.Service(name, l.ssh.present)
	l.base = e.Log.With(slog.String("id", l.id))
	l.log = l.base
	return l
}

// authenticate is the steps of docs/explanation/login.md.
func (l *login) authenticate(ctx context.Context) verdict {
	v := l.reported(l.decide(ctx))
	l.granted(v)
	l.bearInMind(v)
	switch {
	case l.peer.Socket == GatewaySocket: // one process for many people, and no further hooks
	case v.outcome == frames.OutcomeAllow:
		l.grants.Add(l.peer.Process, l.service.Name, l.req.User, l.proof, l.cfg.Limits.Grants)
	default:
		// What this process was allowed before it may have lost by this.
		l.grants.Drop(l.peer.Process.ID)
	}
	return v
}

func (l *login) decide(ctx context.Context) verdict {
	if l.badClaims != nil {
		return deny("bad_claims").because(l.badClaims)
	}
	lookups, cancel := l.lookups(ctx)
	defer cancel()
	if v, ok := l.identify(lookups); !ok {
		return v
	}
	if l.service.FirstFactor == config.FirstFactorSSH && !l.ssh.auth.FirstFactor() {
		v := deny("no_first_factor")
		v.setting, v.err = "first_factor", l.ssh.authErr
		v.text = textNoFirstFactor()
		return v
	}
	if v, ok := l.applyRules(lookups); ok {
		return v
	}
	cancel()
	if v, ok := l.batch(); ok {
		return v
	}
	if v, ok := l.mapped(); ok {
		return v
	}
	if v, ok := l.remembered(ctx); ok {
		return v
	}
	return l.secondFactor(ctx)
}

// applyRules returns a verdict unless a second factor is required.
func (l *login) applyRules(ctx context.Context) (verdict, bool) {
	facts := l.facts(ctx)
	d := l.cfg.RuleSet().Decide(ctx, facts)
	l.decided(facts, d)
	l.log.Debug("rules asked", slog.String("action", string(d.Action)), slog.String("rule", l.rule))
	return ruleVerdict(d.Action)
}

// verdict is an outcome and why.
type verdict struct {
	outcome frames.Outcome
	reason  string // a word of docs/explanation/login.md
	setting string // the setting that decided or ran out, if one did
	text    string // for the person, empty: nothing to say
	err     error  // for the log
	quiet   bool   // another hook of this login has the log event
}

func allow(reason string) verdict { return verdict{outcome: frames.OutcomeAllow, reason: reason} }
func deny(reason string) verdict  { return verdict{outcome: frames.OutcomeDeny, reason: reason} }

// pass is an allow that another hook of the login logs, or none need.
func pass(reason string) verdict {
	return verdict{outcome: frames.OutcomeAllow, reason: reason, quiet: true}
}

func (v verdict) by(setting string) verdict {
	v.setting = setting
	return v
}

func (v verdict) saying(text string) verdict {
	v.text = text
	return v
}

func (v verdict) because(err error) verdict {
	v.err = err
	return v
}

// finish writes the event, and tells the person, who may take their time to read.
func (l *login) finish(ctx context.Context, v verdict) {
	if v.quiet {
		l.base.Debug("hook passed", slog.String("hook", l.req.Hook.String()), slog.String("service", l.service.Name),
			slog.String("user", cmp.Or(l.who.Name, l.req.User)), slog.String("username", l.username), slog.String("outcome", v.outcome.String()), slog.String("reason", v.reason))
		return
	}
	l.event(v)
	if err := l.say(ctx, v); err != nil {
		l.log.Debug("last message not shown", slog.Any("error", err))
	}
}

// say tells the person how the login ended. Where a message would not be seen, a
// refusal is a question: sshd keeps messages back until the next question, and
// after a refusal there is none; sudo calls PAM silently, and would say of
// everything that the password is wrong. Whoever cannot be asked is refused all
// the same.
func (l *login) say(ctx context.Context, v verdict) error {
	silent := l.req.Flags&pamSilent != 0
	switch {
	case v.text == "":
		return nil
	case v.outcome == frames.OutcomeAllow:
		if silent {
			return nil
		}
		return l.conv.Show(frames.StyleInfo, v.text)
	case l.asksToTell(silent) && !l.gone && ctx.Err() == nil:
		_, err := l.ask(ctx, textToRead(v.text))
		return err
	case silent:
		return nil
	}
	return l.conv.Show(frames.StyleError, v.text)
}

// asksToTell says that this caller shows a person nothing but questions. Without
// a terminal there is nobody to read one.
func (l *login) asksToTell(silent bool) bool {
	if l.req.Hook != frames.HookAuthenticate || l.peer.Socket != RootSocket {
		return false
	}
	if l.ssh.present {
		return !silent
	}
	return silent && l.req.TTY != ""
}

// pamSilent is PAM_SILENT of <security/_pam_types.h>.
const pamSilent = 0x8000

// event writes the one log event of a login. docs/reference/authd.md lists its fields.
func (l *login) event(v verdict) {
	attrs := []slog.Attr{
		slog.String("event", "login"),
		slog.String("hook", l.req.Hook.String()),
		slog.String("service", l.service.Name),
		slog.String("user", l.who.Name),
		slog.String("username", l.username),
		slog.String("result", v.outcome.String()),
		slog.String("reason", v.reason),
	}
	for _, a := range []struct{ key, value string }{
		{"setting", v.setting}, {"rule", l.rule}, {"factor", l.factor}, {"txid", l.txid}, {"session", l.session},
		{"source", l.sourceText()}, {"tty", l.req.TTY},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if l.req.User != l.who.Name {
		attrs = append(attrs, slog.String("target", l.req.User))
	}
	attrs = append(attrs, l.claimed()...)
	attrs = append(attrs, l.known()...)
	attrs = append(attrs, slog.Int("pid", int(l.peer.Process.ID.PID)), slog.Uint64("peer_uid", uint64(l.peer.UID)),
		slog.Int64("duration_ms", l.Now().Sub(l.begun).Milliseconds()))
	if v.err != nil {
		attrs = append(attrs, slog.String("error", v.err.Error()))
		attrs = append(attrs, outageAttrs(v.err)...)
	}
	level := slog.LevelInfo
	switch {
	case v.outcome == frames.OutcomeUnavailable:
		level = slog.LevelError
	case v.outcome != frames.OutcomeAllow || v.reason == "fail_open" || v.reason == "breakglass":
		level = slog.LevelWarn
	}
	l.base.LogAttrs(context.Background(), level, "login", attrs...)
	if l.Meter != nil {
		l.Meter.Login(l.service.Name, v.outcome.String(), v.reason)
	}
}
