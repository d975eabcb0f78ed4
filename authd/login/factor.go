// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// maxQuestions bounds the questions of one login, whatever costs no attempt;
// with its other frames it stays below the module's 64 rounds.
const maxQuestions = 12

// asking is the part of a login that offers factors.
type asking struct {
	*login
	menu      menu
	pre       duoapi.Preauth
	preAt     time.Time // when pre came
	attempts  int       // left
	questions int       // left
	note      string    // to be read with the next question
	texted    choice    // by which codes were sent, if they were
	slow      slowed
	glass     bool // a break-glass code may be typed
}

// secondFactor is preauth and all that follows.
func (l *login) secondFactor(ctx context.Context) verdict {
	a := &asking{login: l, attempts: l.service.Attempts, questions: maxQuestions, slow: l.slowed()}
	if err := l.countLookups(); err != nil {
		return a.preauthFailed(ctx, err)
	}
	if err := a.preauth(ctx); err != nil {
		return a.preauthFailed(ctx, err)
	}
	l.FailMode.Served(l.who.Name)
	if v, ok := a.touched(); ok {
		return v
	}
	switch a.pre.Result {
	case duoapi.ResultAllow:
		return allow("verifier_allow")
	case duoapi.ResultDeny:
		return deny("verifier_deny").saying(orElse(printable(a.pre.StatusMsg, 200), textDenied()))
	case duoapi.ResultEnroll:
		return deny("not_enrolled").saying(textNotEnrolled(l.cfg.Contact))
	}
	if v, ok := a.recalled(); ok {
		return v
	}
	if a.claims.kind == kindStepUpRemembered {
		v := deny("not_remembered")
		v.quiet = true // the question itself comes, once somebody is there
		return v
	}
	a.menu = newMenu(a.pre.Devices, a.lastHabit()).only(l.service.Factors)
	if a.menu.noPasscode && len(a.menu.options) == 0 {
		return deny("no_method").by("factors").saying(textNoMethod(l.cfg.Contact))
	}
	if a.claims.kind.holds() {
		return a.held(ctx)
	}
	return a.offerToRemember(ctx, a.loop(ctx))
}

// preauthFailed is the one place where package failmode is asked.
func (a *asking) preauthFailed(ctx context.Context, err error) verdict {
	l := a.login
	var outage *upstream.Outage
	if v, ok := endedBy(err); ok && !errors.As(err, &outage) {
		return v
	}
	if l.service.FailMode == config.FailOpen { // which waits for the disk
		if err := l.conv.Wait(failmode.SaveTimeout + waitMargin); err != nil {
			return l.failed(err)
		}
	}
	d := l.FailMode.Decide(failmode.Case{Service: l.service, User: l.who.Name, Username: l.username, Local: l.local(), People: l.cfg.Limits.OpenPeople}, err)
	v := verdict{reason: d.Reason, setting: d.Setting, err: err}
	if d.Err != nil {
		v.err = fmt.Errorf("%w; %w", d.Err, err)
	}
	var late *busy
	if d.Answer && errors.As(err, &late) {
		return v.busy(late, l.cfg.Contact)
	}
	switch {
	case d.Allow:
		v.outcome = outcomeAllow
	case d.Answer:
		v.outcome, v.text = outcomeDeny, textVerifierRefused(l.cfg.Contact)
	default:
		v.outcome, v.text = outcomeUnavailable, textVerifierDown(l.cfg.Contact)
		a.glass = a.hasBreakGlass(ctx)
	}
	switch {
	case l.claims.kind.silent(): // nobody can type a code
		return v
	case d.Offline && l.service.Takes(duoapi.FactorPasscode): // an offline code is one
		return a.withoutVerifier(ctx, v)
	case a.glass:
		return a.breakGlass(ctx, v)
	}
	return v
}

func (a *asking) preauth(ctx context.Context) error {
	params := url.Values{"username": {a.username}, "hostname": {a.hostname()}, "client_supports_verified_push": {"1"}}
	a.addSource(params)
	if a.opensLogins() {
		params.Set("sallyport_passport", "1")
	}
	return a.patiently(ctx, "request_timeout", a.requestLimit(), func(ctx context.Context) error {
		begun := a.Now()
		pre, err := a.verifier.Preauth(ctx, params)
		a.metered("preauth", begun, err)
		if err != nil {
			return err
		}
		switch pre.Result {
		case duoapi.ResultAllow, duoapi.ResultDeny, duoapi.ResultEnroll, duoapi.ResultAuth:
			a.pre, a.preAt = pre, a.Now()
			return nil
		}
		return &upstream.Outage{Cause: upstream.CauseMalformed, Err: fmt.Errorf("%w: preauth result %q", duoapi.ErrMalformed, pre.Result)}
	})
}

// loop offers factors until one decides or attempts and questions are used up.
func (a *asking) loop(ctx context.Context) verdict {
	next, ok := a.unasked()
	chosen := false // by the person, at this login
	for {
		if !ok {
			v := a.beforeQuestion(ctx)
			if v != nil {
				return *v
			}
			if next, v = a.question(ctx); v != nil {
				return *v
			}
			chosen = true
		}
		v, again := a.tryToUse(ctx, next)
		if v != nil {
			if chosen && v.outcome == outcomeAllow {
				a.remember(next)
			}
			return *v
		}
		if a.attempts <= 0 {
			return verdict{outcome: outcomeMaxTries, reason: "too_many_attempts", setting: "attempts", text: a.note}
		}
		if ok = again != nil; ok {
			next, chosen = *again, true
		}
	}
}

// unasked is the choice that needs no question: from the environment, or the
// automatic push.
func (a *asking) unasked() (choice, bool) {
	if a.service.AcceptEnvFactor {
		for _, name := range []string{"SALLYPORT_PASSCODE", "DUO_PASSCODE"} {
			value, set := a.req.ProcEnv[name]
			if !set {
				continue
			}
			c, err := a.menu.parse(value)
			if err != nil {
				a.note = textOfVariable(name, err.Error())
				return choice{}, false
			}
			a.log.Debug("factor from the environment", "variable", name, "factor", c.factor)
			return c, true
		}
	}
	if a.service.AutoPush {
		return a.menu.first(duoapi.FactorPush)
	}
	return choice{}, false
}

// question shows the menu until an answer makes sense.
func (a *asking) question(ctx context.Context) (choice, *verdict) {
	for {
		answer, v := a.put(ctx, textMenu(a.menu, printable(a.who.Name, 64), a.note))
		if v != nil {
			return choice{}, v
		}
		a.note = ""
		c, err := a.read(answer)
		if err == nil {
			return c, nil
		}
		a.note = err.Error()
	}
}

// answer is what came back from a question: text, or that it was too long.
type answer struct {
	text    frames.Secret
	tooLong bool
}

func (a *asking) read(in answer) (choice, error) {
	if in.tooLong {
		return choice{}, sayable(textTooLong())
	}
	return a.menu.parse(in.text)
}

// put asks one question. A verdict other than nil is the end of the login.
func (a *asking) put(ctx context.Context, text string) (answer, *verdict) {
	if a.questions--; a.questions < 0 {
		return answer{}, &verdict{outcome: outcomeMaxTries, reason: "too_many_questions", text: textTooManyAsked()}
	}
	in, err := a.ask(ctx, text)
	switch {
	case err == nil:
		return answer{text: in}, nil
	case errors.Is(err, ErrTooLong):
		return answer{tooLong: true}, nil
	case errors.Is(err, ErrAborted):
		v := a.nobody(ctx)
		return answer{}, &v
	}
	v := a.failed(err)
	return answer{}, &v
}

// nobody is the end of a login at which nobody can be asked.
func (a *asking) nobody(ctx context.Context) verdict {
	aborted := verdict{outcome: outcomeAborted, reason: "unattended", setting: "unattended"}
	if a.service.Unattended != config.UnattendedAuto {
		return aborted
	}
	c, ok := a.menu.silent()
	if !ok {
		return deny("no_method").by("unattended")
	}
	// Nobody sees digits here, so this is a plain push; the verifier refuses it
	// unless it permits that for this host.
	a.factor = c.factor
	a.pre.VerificationCode, a.pre.TxID = "", ""
	a.preAt = a.Now()
	t, v := a.try(ctx)
	if v != nil {
		return *v
	}
	v, _ = a.await(ctx, c)
	a.tried(t, v, v == nil)
	if v != nil {
		return *v
	}
	return deny("unattended").by("unattended").saying(a.note)
}

// tryToUse is use, counted and slowed down.
func (a *asking) tryToUse(ctx context.Context, c choice) (*verdict, *choice) {
	t, v := a.try(ctx)
	if v != nil {
		return v, nil
	}
	left := a.attempts
	v, again := a.use(ctx, c)
	a.tried(t, v, a.attempts < left)
	return v, again
}

// use tries a choice. A verdict ends the login; a choice is what the person
// chose meanwhile; neither means that the menu comes again.
func (a *asking) use(ctx context.Context, c choice) (*verdict, *choice) {
	a.factor, a.txid = c.factor, ""
	switch c.factor {
	case duoapi.FactorPasscode:
		return a.passcode(ctx, c), nil
	case duoapi.FactorSMS:
		return a.sms(ctx, c), nil
	}
	if c.factor == duoapi.FactorPush {
		if v := a.freshPreauth(ctx); v != nil {
			return v, nil
		}
	}
	return a.await(ctx, c)
}

func (a *asking) passcode(ctx context.Context, c choice) *verdict {
	params := a.params(c)
	params.Set("passcode", c.code.Reveal())
	if a.opensLogins() || a.wantsOffline() {
		params.Set("sallyport_passport", "1") // the event's id in the answer
	}
	res, err := a.auth(ctx, params)
	if err != nil {
		v := a.failed(err)
		return &v
	}
	a.txid = printable(res.TxID, 64)
	return a.judge(res, "passcode", textWrongPasscode())
}

// sms sends new codes; that decides nothing and costs no attempt.
func (a *asking) sms(ctx context.Context, c choice) *verdict {
	res, err := a.auth(ctx, a.params(c))
	if err != nil {
		v := a.failed(err)
		return &v
	}
	if res.Status == "sent" {
		a.texted = c
		a.note = orElse(printable(res.StatusMsg, 200), textSMSSent())
		return nil
	}
	return a.judge(res, "approved", textSMSNotSent())
}

// judge turns a final answer of the verifier into a verdict, or counts an
// attempt and leaves a note for the next question.
func (a *asking) judge(res duoapi.Auth, reason, otherwise string) *verdict {
	said := printable(res.StatusMsg, 200)
	if res.Result == duoapi.ResultAllow {
		v := allow(reason)
		if reason == "approved" {
			v.text = said
		}
		return &v
	}
	text := orElse(said, otherwise)
	if unreached(res.Status) { // nobody was asked, so nobody failed
		a.note = text
		return nil
	}
	if reason == "approved" && refusal(res) {
		a.refused()
	}
	if endsLogin(res.Status) {
		v := deny(res.Status).saying(text)
		return &v
	}
	a.attemptFailed(text)
	return nil
}

// attemptFailed counts an attempt and leaves word of it for the next question.
func (a *asking) attemptFailed(reason string) {
	a.attempts--
	a.note = textFailed(reason, a.attempts)
}

// endsLogin says that after this status no other factor is offered.
func endsLogin(status string) bool { return status == "fraud" || status == "locked_out" }

// auth is the verifier's auth call.
func (a *asking) auth(ctx context.Context, params url.Values) (duoapi.Auth, error) {
	var res duoapi.Auth
	err := a.patiently(ctx, "request_timeout", a.requestLimit(), func(ctx context.Context) error {
		var err error
		begun := a.Now()
		res, err = a.verifier.Auth(ctx, params)
		a.metered("auth", begun, err)
		return err
	})
	return res, err
}

// metered tells the metrics of a request to the verifier.
func (l *login) metered(call string, begun time.Time, err error) {
	if l.Meter == nil {
		return
	}
	result := "answer"
	switch {
	case isAnswer(err):
		result = "refusal"
	case err != nil:
		result = "outage"
	}
	l.Meter.Request(call, result, l.Now().Sub(begun))
}

// requestLimit bounds a call: each address may cost one request_timeout before
// the next is asked. Package upstream is to be first, since it knows the address.
func (l *login) requestLimit() time.Duration {
	return l.cfg.Timeouts.Request*time.Duration(max(1, len(l.cfg.Verifier.URLs))) + time.Second
}

// params is what every auth call carries.
func (a *asking) params(c choice) url.Values {
	p := url.Values{
		"username":         {a.username},
		"factor":           {c.factor},
		"hostname":         {a.hostname()},
		"type":             {a.service.Description},
		"display_username": {a.who.Name},
	}
	if c.factor != duoapi.FactorPasscode {
		p.Set("device", c.device.Device)
		p.Set("pushinfo", a.pushInfo())
	}
	a.addSource(p)
	return p
}

// maxCommand bounds the command in the push details, in runes.
const maxCommand = 200

// pushInfo is the text that the person reads on the phone, as url-encoded pairs.
func (a *asking) pushInfo() string {
	pairs := [][2]string{{"Host", a.hostname()}, {"Service", a.service.Name}, {"User", a.req.User}}
	if from := a.sourceText(); from != "" {
		pairs = append(pairs, [2]string{"From", from})
	}
	if to := a.claims.goingTo(); to != "" {
		pairs = append(pairs, [2]string{"Target", to})
	}
	if a.service.PushCommand && a.Command != nil && a.peer.Socket == RootSocket {
		if command := a.Command(a.peer.Process.ID.PID); command != "" {
			pairs = append(pairs, [2]string{"Command", command})
		}
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, url.QueryEscape(p[0])+"="+url.QueryEscape(printable(p[1], maxCommand)))
	}
	return strings.Join(parts, "&")
}

func (a *asking) addSource(p url.Values) {
	if addr, _ := a.source(); addr.IsValid() {
		p.Set("ipaddr", addr.WithZone("").String())
	}
}

func (l *login) hostname() string { return orElse(l.cfg.Hostname, l.Hostname) }

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
