// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/sshinfo"
	"github.com/sallyport-mfa/sallyport/authd/sudoinfo"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// login is one call of a hook.
type login struct {
	*Server
	conn    *net.UnixConn
	req     *frames.Request
	policy  *breakglass.Policy
	service breakglass.ServicePolicy
	process process.Process // whom authenticate lets in
	person  string          // who has to prove themselves; empty: not known
	relayed bool            // authd asks, and has applied the rules

	ssh       bool // the login carries sshd's own variables
	auth      sshinfo.Auth
	source    netip.Addr
	hasSource bool // there is another end

	code string // the name of the last code tried
}

func (s *Server) newLogin(conn *net.UnixConn, req *frames.Request, peer process.Process) (*login, error) {
	l := &login{Server: s, conn: conn, req: req, process: peer, policy: s.policy()}
	l.service = l.policy.Service(req.Service)
	l.readSSH()
	if person, ok := req.PAMEnv[breakglass.PersonVar]; ok {
		l.person, l.relayed = person, true
		p, err := breakglass.ParseProcess(req.PAMEnv[breakglass.ProcessVar])
		l.process = p
		return l, err
	}
	l.person = l.whose()
	return l, nil
}

func (l *login) readSSH() {
	info, hasInfo := l.req.PAMEnv[sshinfo.AuthInfoVar]
	conn, hasConn := l.req.PAMEnv[sshinfo.ConnectionVar]
	l.ssh = hasInfo || hasConn || l.req.Service == "sshd"
	var err error
	switch {
	case hasConn:
		l.hasSource = true
		l.source, err = sshinfo.ParseSource(conn)
	case l.req.RHost != "" || l.ssh:
		l.hasSource = true
		l.source, err = sshinfo.ParseAddr(l.req.RHost)
	}
	if err != nil {
		l.source = netip.Addr{}
	}
	if l.ssh {
		// What cannot be read shows no first factor, and leaves the keys unknown.
		l.auth, _ = sshinfo.ParseAuth(info)
	}
}

// whose is the account that has to prove itself, as authd would find it, but by
// local files alone: a name service that hangs must not keep anybody out.
func (l *login) whose() string {
	switch l.service.Person {
	case breakglass.PersonCaller:
		return l.callerName(int64(l.req.RUID))
	case breakglass.PersonLoginUID:
		if uid, err := l.process.ID.LoginUID(); err == nil {
			return l.callerName(int64(uid))
		}
		return l.req.User
	case breakglass.PersonInvoking:
		if l.req.RUser != "" {
			return l.req.RUser
		}
	}
	return l.req.User
}

// callerName is the name of a uid: by /etc/passwd, else as it was when a code was
// made for it.
func (l *login) callerName(uid int64) string {
	if name, ok := l.Accounts.name(uid); ok {
		return name
	}
	entries, err := l.Store.List()
	if err != nil {
		return ""
	}
	for _, e := range entries {
		for _, a := range e.Users {
			if a.UID == uid && e.State == breakglass.Unused {
				return a.Name
			}
		}
	}
	return ""
}

// authenticate asks for a code where there is one for this login.
func (l *login) authenticate(ctx context.Context) frames.Outcome {
	if l.person == "" {
		return frames.OutcomeUnavailable
	}
	n, err := l.Store.Unused(l.person, l.req.Service)
	if err != nil {
		l.event(slog.LevelError, frames.OutcomeUnavailable, "store_failed", err)
		return frames.OutcomeUnavailable
	}
	if n == 0 {
		l.Log.Debug("no code for this login", slog.String("user", l.person), slog.String("service", l.req.Service))
		return frames.OutcomeUnavailable
	}
	if !l.enter(l.person, l.hasSource) {
		l.event(slog.LevelWarn, frames.OutcomeUnavailable, "too_many_connections", nil)
		return frames.OutcomeUnavailable
	}
	defer l.exit(l.person)
	outcome, reason, err := l.gate(ctx)
	if outcome == 0 {
		outcome, reason, err = l.converse(ctx)
	}
	level := slog.LevelWarn
	if l.relayed && outcome == frames.OutcomeAborted {
		level = slog.LevelDebug // authd looked whether there is a code, or asks its person itself
	}
	l.event(level, outcome, reason, err)
	return outcome
}

// gate is what stands before the question; outcome 0: nothing.
func (l *login) gate(ctx context.Context) (frames.Outcome, string, error) {
	if l.relayed {
		return 0, "", nil // authd has done it, and knows more
	}
	first := l.service.FirstFactor
	if l.ssh {
		first = l.service.FirstFactorSSH
	}
	if first == breakglass.FirstFactorSSH && !l.auth.FirstFactor() {
		return frames.OutcomeDeny, "no_first_factor", nil
	}
	if d := l.policy.Decide(ctx, l.facts()); d.Action == rules.Deny {
		return frames.OutcomeDeny, "rule_deny", fmt.Errorf("rule %q", d.RuleName())
	}
	return 0, "", nil
}

// facts is what is known here. What only the network or sudo could tell is
// unknown, and an unknown deny holds.
func (l *login) facts() rules.Facts {
	f := rules.Facts{
		User: l.person, Service: l.req.Service,
		Source: l.source, SourceUnknown: l.hasSource && !l.source.IsValid(),
		InGroup:     func(_ context.Context, group string) rules.Truth { return l.Accounts.inGroup(l.person, group) },
		InLDAPGroup: func(context.Context, string) rules.Truth { return l.Accounts.inDirectoryGroup(l.person) },
		Time:        l.Now(),
	}
	if l.ssh {
		f.Keys, f.KeysUnknown = l.auth.Keys, l.auth.KeysUnknown
		// Which CAs count is in authd's configuration alone.
		f.CertificatesUnknown = l.auth.KeysUnknown || len(l.auth.Certificates) > 0
	}
	if rules.KnowsTarget(f.Service) {
		f.Target = l.switchesTo()
		f.TargetUnknown = f.Target == ""
	}
	if rules.KnowsCommand(f.Service) {
		command, known := sudoinfo.Command(l.req.ProcEnv[sudoinfo.CommandVar].Reveal())
		f.Command, f.CommandUnknown = command, !known
	}
	return f
}

// switchesTo is the account that su or sudo turns to, "" if it cannot be told.
func (l *login) switchesTo() string {
	if !rules.KnowsCommand(l.req.Service) {
		return l.req.User
	}
	t := sudoinfo.ParseTarget(process.Args(l.process.ID.PID))
	uid := int64(0)
	switch t.Kind {
	case sudoinfo.Name:
		return t.Value
	case sudoinfo.Self:
		return l.person
	case sudoinfo.UID:
		n, err := strconv.ParseInt(t.Value, 10, 64)
		if err != nil {
			return ""
		}
		uid = n
	case sudoinfo.Unknown:
		return ""
	}
	name, _ := l.Accounts.name(uid)
	return name
}

// converse asks until a code is right or the attempts are used up.
func (l *login) converse(ctx context.Context) (frames.Outcome, string, error) {
	note := ""
	reason := ""
	for range attempts {
		asked := l.Now()
		answer, err := ask(l.conn, note+l.question())
		switch {
		case errors.Is(err, errAborted):
			return frames.OutcomeAborted, "unattended", nil
		case err != nil:
			return frames.OutcomeDeny, "peer_gone", err
		case l.Now().Sub(asked) > answerTimeout:
			return frames.OutcomeDeny, "answer_late", nil
		case strings.TrimSpace(answer.Reveal()) == "":
			return frames.OutcomeDeny, "given_up", nil
		}
		reason, err = l.try(ctx, answer)
		switch {
		case reason == "breakglass":
			l.grants.add(l.process, l.req, l.Now())
			l.farewell()
			return frames.OutcomeAllow, reason, nil
		case err != nil:
			return frames.OutcomeUnavailable, reason, err
		}
		note = notes[reason] + "\n\n"
	}
	return frames.OutcomeMaxTries, reason, nil
}

func (l *login) question() string {
	return fmt.Sprintf("The second factor cannot be checked on this host at the moment.\nEnter a break-glass code for %s, or nothing to give up: ", l.Hostname)
}

// notes is what a person reads of a try that failed. Only who has a right code
// learns what has become of it.
var notes = map[string]string{
	"mistyped":     "That code is mistyped: please compare it letter by letter.",
	"wrong_code":   "That code is not right.",
	"code_used":    "That code has been used; each works once. Please take the next.",
	"code_revoked": "That code has been revoked. Please take another.",
	"code_not_for": "That code is not for this account and service.",
}

// try is one answer: its reason is "breakglass" where the code lets in. An error
// says that no code can be taken at the moment.
func (l *login) try(ctx context.Context, answer frames.Secret) (reason string, err error) {
	code, err := breakglass.ParseCode(answer.Reveal())
	if err != nil {
		l.code = ""
		if errors.Is(err, breakglass.ErrTypo) {
			return "mistyped", nil
		}
		return "wrong_code", l.delay(ctx, "")
	}
	l.code = code.ID()
	ctx, cancel := context.WithTimeout(ctx, hashTimeout)
	defer cancel()
	if err := wait(l.conn, hashTimeout+time.Second); err != nil {
		return "peer_gone", err
	}
	use := breakglass.Use{At: l.Now(), User: l.person, Service: l.req.Service, TTY: l.req.TTY, Via: l.via()}
	if l.source.IsValid() {
		use.Source = l.source.String()
	}
	err = l.Store.Redeem(ctx, code, use)
	for want, reason := range map[error]string{
		breakglass.ErrUnknown: "wrong_code", breakglass.ErrWrong: "wrong_code", breakglass.ErrUsed: "code_used",
		breakglass.ErrRevoked: "code_revoked", breakglass.ErrNotFor: "code_not_for",
	} {
		if !errors.Is(err, want) {
			continue
		}
		l.event(slog.LevelWarn, 0, reason, nil)
		known := ""
		if !errors.Is(err, breakglass.ErrUnknown) {
			known = code.ID()
		}
		return reason, l.delay(ctx, known)
	}
	if err != nil {
		return "store_failed", err
	}
	l.throttle.forgive(l.person, code.ID())
	return "breakglass", nil
}

// via says who asks.
func (l *login) via() string {
	if l.relayed {
		return breakglass.ViaAuthd
	}
	return breakglass.ViaModule
}

// delay holds back what follows a wrong code.
func (l *login) delay(ctx context.Context, known string) error {
	d := l.throttle.fail(l.person, known, l.Now())
	if d <= 0 {
		return nil
	}
	if err := wait(l.conn, d+writeTimeout); err != nil {
		return err
	}
	l.Sleep(ctx, d)
	return nil
}

// farewell says how many codes are left. Whether it is read changes nothing.
func (l *login) farewell() {
	left, err := l.Store.Unused(l.person, l.req.Service)
	if err != nil {
		return
	}
	text := fmt.Sprintf("Break-glass code %s is used up. Codes left for %s here: %d.", l.code, l.person, left)
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_ = frames.WriteFrame(l.conn, &frames.Show{Style: frames.StyleInfo, Text: text})
}

// event is the log line of a login that asked for a code, and of each wrong one
// (outcome 0). docs/reference/breakglass.md lists the fields.
func (l *login) event(level slog.Level, outcome frames.Outcome, reason string, err error) {
	result := "refused"
	if outcome != 0 {
		result = outcome.String()
	}
	attrs := []slog.Attr{
		slog.String("event", "breakglass"), slog.String("hook", l.req.Hook.String()), slog.String("result", result), slog.String("reason", reason),
		slog.String("service", l.req.Service), slog.String("user", l.person),
	}
	source := ""
	switch {
	case l.source.IsValid():
		source = l.source.String()
	case l.hasSource:
		source = "unknown"
	}
	target := ""
	if l.req.User != l.person {
		target = l.req.User
	}
	for _, a := range []struct{ key, value string }{
		{"target", target}, {"code", l.code}, {"source", source}, {"tty", l.req.TTY}, {"via", l.via()},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	attrs = append(attrs, slog.Int("pid", int(l.process.ID.PID)))
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.Log.LogAttrs(context.Background(), level, "break-glass", attrs...)
}
