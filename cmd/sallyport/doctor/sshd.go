// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// recommended is the line that makes two factors of sshd's methods.
const recommended = "AuthenticationMethods publickey,keyboard-interactive:pam"

// sshdSettings is what `sshd -T` prints for one login: keyword to value, the
// first of those that repeat.
type sshdSettings map[string]string

// login is whom sshd is asked about.
type login struct {
	user string
	addr netip.Addr
}

func (l login) String() string { return fmt.Sprintf("%s from %s", l.user, l.addr) }

// examineSSHD asks sshd itself what it would do with each login.
func (h *Host) examineSSHD(ctx context.Context, c *config.Config) []Finding {
	r := &report{area: "sshd"}
	if _, err := os.Stat(h.SSHD); errors.Is(err, fs.ErrNotExist) {
		r.ok("sshd", "not installed")
		return r.findings
	}
	global := true
	for _, l := range h.logins() {
		s, err := h.sshdFor(ctx, l)
		if err != nil {
			r.fail("sshd", err.Error(), "correct sshd_config until sshd -t is content; run as root")
			return r.findings
		}
		if global {
			examineGlobal(r, s)
			global = false
		}
		before := len(r.findings)
		h.examineLogin(r, c, l, s)
		if len(r.findings) == before {
			r.ok(l.String(), "asks for "+s["authenticationmethods"])
		}
	}
	h.examineBatch(ctx, r, c)
	return r.findings
}

// logins are those to ask about; by default root and the person who runs the
// command, from elsewhere (TEST-NET-1 of RFC 5737) and from here.
func (h *Host) logins() []login {
	users, addrs := h.Users, h.Addresses
	if len(users) == 0 {
		users = []string{"root"}
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")}
	}
	var out []login
	for _, u := range users {
		for _, a := range addrs {
			out = append(out, login{u, a})
		}
	}
	return out
}

func (h *Host) sshdFor(ctx context.Context, l login) (sshdSettings, error) {
	args := []string{"-T", "-C", fmt.Sprintf("user=%s,addr=%s,host=%s,laddr=127.0.0.1,lport=22", l.user, l.addr, l.addr)}
	if h.SSHDConfig != "" {
		args = append(args, "-f", h.SSHDConfig)
	}
	out, err := h.Run(ctx, h.SSHD, args...)
	if err != nil {
		return nil, fmt.Errorf("sshd cannot say what it does with %s: %w: %s", l, err, strings.TrimSpace(string(out)))
	}
	return parseSettings(string(out)), nil
}

// ValidUser says whether a name can be given to sshd -C as a name and nothing more.
func ValidUser(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == ',' || r == '=' })
}

func parseSettings(text string) sshdSettings {
	s := sshdSettings{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, ok := s[strings.ToLower(key)]; !ok {
			s[strings.ToLower(key)] = value
		}
	}
	return s
}

// examineGlobal looks at what cannot differ by login.
func examineGlobal(r *report, s sshdSettings) {
	if s["usepam"] != "yes" {
		r.fail("UsePAM", "sshd does not ask PAM, so it never asks for a second factor", "set UsePAM yes")
	}
	if s["usedns"] == "yes" {
		r.warn("UseDNS", "sshd looks up the name of every client: a slow name server delays logins, and whoever holds the reverse zone chooses the name that is logged", "set UseDNS no")
	}
	examineGrace(r, s["logingracetime"])
}

func examineGrace(r *report, value string) {
	seconds, err := strconv.Atoi(value)
	grace := time.Duration(seconds) * time.Second
	switch {
	case err != nil:
		return // sshd -T of another kind
	case seconds == 0:
		r.warn("LoginGraceTime", "a login that is never finished holds its place for ever", "set LoginGraceTime 120")
	case grace <= Ceiling:
		r.warn("LoginGraceTime", fmt.Sprintf("sshd ends a login after %s, and Sallyport may need up to %s: a push is cut off without a word", grace, Ceiling), "set LoginGraceTime 120")
	default:
		r.ok("LoginGraceTime", fmt.Sprintf("%s, above the %s that a login may take", grace, Ceiling))
	}
}

// examineLogin looks at what sshd asks of one login.
func (h *Host) examineLogin(r *report, c *config.Config, l login, s sshdSettings) {
	subject := l.String()
	if s["permitemptypasswords"] == "yes" {
		r.fail(subject, "an empty password is accepted as a factor", "set PermitEmptyPasswords no")
	}
	if l.user == "root" && !examineRoot(r, subject, s) {
		return
	}
	methods := s["authenticationmethods"]
	if methods == "" || methods == "any" {
		examineAny(r, subject, s)
		return
	}
	if s["passwordauthentication"] == "yes" {
		r.warn(subject, "PasswordAuthentication is on: where AuthenticationMethods does not name it it serves nobody, and should that line be lost, a password is asked by a method that cannot show the second factor's question",
			"set PasswordAuthentication no")
	}
	asked := false
	for _, list := range strings.Fields(methods) {
		asked = h.examineMethods(r, c, l, list) || asked
	}
	if asked && s["kbdinteractiveauthentication"] != "yes" {
		r.fail(subject, "KbdInteractiveAuthentication is off, so the second factor can never be asked: what names keyboard-interactive is never finished", "set KbdInteractiveAuthentication yes")
	}
}

// examineRoot says whether root can log in at all.
func examineRoot(r *report, subject string, s sshdSettings) bool {
	switch s["permitrootlogin"] {
	case "no":
		r.ok(subject, "root cannot log in")
		return false
	case "yes":
		r.warn(subject, "root may log in directly: the log cannot tell who it was", "set PermitRootLogin no, and let people use sudo")
		return true
	default: // prohibit-password, forced-commands-only
		if strings.Contains(s["authenticationmethods"], "keyboard-interactive") {
			r.warn(subject, fmt.Sprintf("PermitRootLogin %s refuses keyboard-interactive to root, so root can never finish the second factor", s["permitrootlogin"]),
				"set PermitRootLogin no; or yes, if root must log in with a second factor")
			return false
		}
		return true
	}
}

// examineAny is for AuthenticationMethods any: one method is enough for sshd.
func examineAny(r *report, subject string, s sshdSettings) {
	var alone []string
	for _, m := range []struct{ keyword, name string }{
		{"pubkeyauthentication", "a key"}, {"hostbasedauthentication", "a trusted host"},
		{"gssapiauthentication", "a Kerberos ticket"}, {"kerberosauthentication", "a Kerberos password"},
	} {
		if s[m.keyword] == "yes" {
			alone = append(alone, m.name)
		}
	}
	if len(alone) > 0 {
		r.fail(subject, fmt.Sprintf("for sshd %s alone is enough, and nobody is asked for a second factor: Sallyport's account hook refuses such a login, or, if its line is missing, the login succeeds", strings.Join(alone, " or ")),
			"set "+recommended)
		return
	}
	if s["passwordauthentication"] == "yes" {
		r.fail(subject, "with PasswordAuthentication, sshd answers the first question of PAM with the password and shows none after it: nobody can answer the second factor",
			"set PasswordAuthentication no, KbdInteractiveAuthentication yes and "+recommended)
		return
	}
	r.fail(subject, "keyboard-interactive alone is enough for sshd; authd denies a login without a finished first factor, unless services.sshd.first_factor is \"stack\"", "set "+recommended)
}

// examineMethods looks at one list of methods, all of which must succeed. It
// says whether the list asks for the second factor.
func (h *Host) examineMethods(r *report, c *config.Config, l login, list string) bool {
	methods := strings.Split(list, ",")
	for i, m := range methods {
		methods[i], _, _ = strings.Cut(m, ":")
	}
	at := slices.Index(methods, "keyboard-interactive")
	subject := l.String()
	switch {
	case at < 0 && slices.Contains(methods, "password"):
		r.fail(subject, fmt.Sprintf("%q: sshd answers PAM's first question with the password and shows none after it, so the second factor cannot be asked", list), "set "+recommended)
	case at < 0:
		h.examineKeyAlone(r, c, l, list)
	case at == 0 && firstFactor(c) != config.FirstFactorStack:
		r.fail(subject, fmt.Sprintf("%q begins with the second factor: authd denies a login without a finished first factor", list), "set "+recommended)
	case slices.Contains(methods, "password"):
		r.warn(subject, fmt.Sprintf("%q: the password method runs the whole PAM stack, so the second factor is asked twice or not at all", list), "set "+recommended)
	}
	return at >= 0
}

func firstFactor(c *config.Config) config.FirstFactor {
	if c == nil {
		return config.FirstFactorSSH
	}
	return c.Service("sshd", true).FirstFactor
}

// examineKeyAlone is for a login that never asks: right if a bypass rule is for it.
func (h *Host) examineKeyAlone(r *report, c *config.Config, l login, list string) {
	subject := l.String()
	if c == nil {
		r.fail(subject, fmt.Sprintf("%q asks for no second factor", list), "set "+recommended)
		return
	}
	decision := c.RuleSet().MightBypass(context.Background(), rules.Facts{User: l.user, Service: "sshd", Source: l.addr.Unmap(), KeysUnknown: true, CertificatesUnknown: true, Time: h.Now()})
	if decision.Action == rules.Bypass {
		r.ok(subject, fmt.Sprintf("by key alone, as rule %q says", decision.RuleName()))
		return
	}
	r.fail(subject, fmt.Sprintf("%q asks for no second factor and no bypass rule is for this login: Sallyport's account hook refuses it, or, if its line is missing, a key alone is enough", list),
		"set "+recommended+", or add a rule and run: sallyport rules sshd-config")
}

// examineBatch looks at whether sshd knows of the bypass rules.
func (h *Host) examineBatch(ctx context.Context, r *report, c *config.Config) {
	if c == nil {
		return
	}
	expired := map[string]bool{}
	for _, rule := range c.RuleSet().Expired(h.Now()) {
		expired[rule.Name] = true
	}
	for _, rule := range c.RuleSet().Rules() {
		if rule.Action != rules.Bypass || expired[rule.Name] || !rules.Fits(rule.Services, "sshd") {
			continue
		}
		l := login{firstUser(rule), firstSource(rule)}
		if !ValidUser(l.user) {
			continue // it names nobody, or sshd-config says that sshd cannot match it
		}
		s, err := h.sshdFor(ctx, l)
		if err != nil {
			r.fail("sshd", err.Error(), "correct sshd_config until sshd -t is content")
			return
		}
		subject := fmt.Sprintf("rule %q (%s)", rule.Name, l)
		switch {
		case !slices.Contains(strings.Fields(s["authenticationmethods"]), "publickey"):
			r.warn(subject, "sshd asks this login for a second factor all the same: a batch job cannot answer", "put the output of sallyport rules sshd-config into sshd_config")
		case s["permittty"] != "no":
			r.warn(subject, "this login gets in by key alone, and may have a terminal", "put the output of sallyport rules sshd-config into sshd_config")
		case rule.Command != "" && s["forcecommand"] != strings.TrimSpace(rule.Command):
			r.fail(subject, fmt.Sprintf("the rule names a command, but sshd's ForceCommand is %q: the key may run anything else", s["forcecommand"]), "put the output of sallyport rules sshd-config into sshd_config")
		default:
			r.ok(subject, "sshd lets it in by key alone, without a terminal")
		}
	}
}

// firstUser is a user that the rule is for, "" if it names none.
func firstUser(rule rules.Rule) string {
	for _, u := range rule.Users {
		if !strings.ContainsAny(u, "!*?") && rules.Fits(rule.Users, u) {
			return u
		}
	}
	return ""
}

// firstSource is an address that the rule is for.
func firstSource(rule rules.Rule) netip.Addr {
	for _, s := range rule.Sources {
		if p, err := netip.ParsePrefix(s); err == nil {
			if next := p.Addr().Next(); p.Contains(next) {
				return next
			}
			return p.Addr()
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return a
		}
	}
	return netip.MustParseAddr("192.0.2.1")
}
