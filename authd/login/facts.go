// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/sudoinfo"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
)

// facts is what the rules may know. docs/explanation/rules.md says which service
// can know what.
func (l *login) facts(ctx context.Context) rules.Facts {
	f := rules.Facts{User: l.who.Name, Service: l.service.Name, InGroup: l.inGroup, InLDAPGroup: l.inLDAPGroup, Time: l.Now()}
	f.Source, f.SourceUnknown = l.source()
	if l.ssh.present {
		f.Keys, f.KeysUnknown = l.ssh.auth.Keys, l.ssh.auth.KeysUnknown
		f.Certificates, f.CertificatesUnknown = l.certificates()
	}
	if l.peer.Socket == GatewaySocket {
		l.gatewayFacts(&f)
	}
	if l.peer.Socket != RootSocket {
		return f
	}
	set := l.cfg.RuleSet()
	if rules.KnowsTarget(f.Service) && set.NamesTargets() {
		if rules.ChangesAccount(f.Service) {
			f.Target = l.switchesTo(ctx)
		}
		f.TargetUnknown = f.Target == ""
	}
	if rules.KnowsCommand(f.Service) {
		var known bool
		f.Command, known = sudoinfo.Command(l.req.ProcEnv[sudoinfo.CommandVar].Reveal())
		f.CommandUnknown = !known
	}
	return f
}

// certificates are those of the login that count, by the CAs of authd.toml.
func (l *login) certificates() (out []rules.Certificate, unknown bool) {
	unknown = l.ssh.auth.KeysUnknown
	for _, c := range l.ssh.auth.Certificates {
		ca, err := l.cfg.Authorities().Check(c, l.Now(), l.ssh.source)
		switch {
		case err == nil:
			out = append(out, rules.Certificate{CA: ca, KeyID: c.KeyId, Principals: c.ValidPrincipals})
		case errors.Is(err, sshcert.ErrCannotTell):
			unknown = true
			fallthrough
		case !errors.Is(err, sshcert.ErrNotOurs):
			l.log.Warn("SSH certificate does not count for the rules", slog.String("key_id", c.KeyId), slog.Any("error", err))
		}
	}
	return out, unknown
}

// switchesTo is the canonical name of the account that su or sudo turns to, "" if
// it cannot be told. sudo names it in PAM_USER only when all is decided, so it is
// read where sudo itself reads it, from its arguments.
func (l *login) switchesTo(ctx context.Context) string {
	name := l.req.User
	if rules.KnowsCommand(l.service.Name) {
		if l.Args == nil {
			return ""
		}
		t := sudoinfo.ParseTarget(l.Args(l.peer.Process.ID.PID))
		switch t.Kind {
		case sudoinfo.Name:
			name = t.Value
		case sudoinfo.Self:
			return l.who.Name
		case sudoinfo.Default, sudoinfo.UID:
			return l.nameOf(ctx, t.Value)
		default:
			return ""
		}
	}
	account, err := l.people.ByName(ctx, name)
	if err != nil {
		l.log.Debug("target not looked up", "target", name, "error", err)
		return ""
	}
	return account.Name
}

// nameOf is the name of a decimal uid, of root for "".
func (l *login) nameOf(ctx context.Context, uid string) string {
	n, err := strconv.ParseUint(orElse(uid, "0"), 10, 32)
	if err != nil {
		return ""
	}
	account, err := l.people.ByUID(ctx, uint32(n))
	if err != nil {
		l.log.Debug("target not looked up", "uid", n, "error", err)
		return ""
	}
	return account.Name
}

// decided notes for the event what the rules said, and puts the options of a
// require rule in force for the rest of this login.
func (l *login) decided(f rules.Facts, d rules.Decision) {
	l.rule, l.action, l.asked = d.RuleName(), d.Action, f
	l.required = d.Action == rules.Require && d.Rule != nil
	if d.Action == rules.Require {
		l.service = l.service.Under(d.Rule)
	}
}

// known is what the rules were told, for the event: `sallyport rules replay` asks
// them again by it. Commands are left out, since they may hold secrets.
func (l *login) known() []slog.Attr {
	if l.action == "" {
		return nil
	}
	attrs := []slog.Attr{slog.String("action", string(l.action))}
	add := func(key, value string, unknown bool) {
		if unknown {
			value = "unknown"
		}
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if l.ssh.present {
		add("keys", orElse(strings.Join(l.asked.Keys, ","), "none"), l.asked.KeysUnknown)
		if shown := len(l.ssh.auth.Certificates); shown > 0 {
			text, err := json.Marshal(l.asked.Certificates)
			// With other rules and CAs one that does not count may count.
			add("certificates", string(text), err != nil || l.asked.CertificatesUnknown || shown > len(l.asked.Certificates))
		}
	}
	add("switch_to", l.asked.Target, l.asked.TargetUnknown)
	return attrs
}
