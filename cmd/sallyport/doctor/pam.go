// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

// What the module may return when it refuses, by hook (docs/reference/pam-module.md).
var refusals = map[pamstack.Type][]string{
	pamstack.Auth:    {"auth_err", "maxtries", "user_unknown", "conv_err", "service_err", "authinfo_unavail"},
	pamstack.Account: {"perm_denied", "user_unknown"},
	pamstack.Session: {"session_err"},
}

// FirstFactors are the modules that check a first factor. Whether the second
// factor is enough alone is asked with these failing.
var FirstFactors = []string{
	"pam_unix.so", "pam_sss.so", "pam_ldap.so", "pam_krb5.so", "pam_winbind.so", "pam_systemd_home.so",
	"pam_fprintd.so", "pam_u2f.so", "pam_pkcs11.so", "pam_ecryptfs.so", "pam_authd.so", "pam_kanidm.so", "pam_himmelblau.so",
}

// Modules that decide for whom a line holds.
var conditions = []string{
	"pam_succeed_if.so", "pam_listfile.so", "pam_localuser.so", "pam_access.so", "pam_time.so",
	"pam_wheel.so", "pam_group.so", "pam_usertype.so", "pam_exec.so",
}

// services that matter if they are there.
var expected = []string{"sshd", "sudo", "su"}

func (h *Host) examinePAM(c *config.Config) []Finding {
	r := &report{area: "pam"}
	loader := pamstack.Loader{Root: h.Root}
	names, err := loader.Services()
	if err != nil {
		r.fail("/etc/pam.d", err.Error(), "make it readable")
		return r.findings
	}
	protected := 0
	for _, name := range names {
		s, err := loader.Load(name)
		if err != nil {
			r.warn(name, err.Error(), "make it readable")
			continue
		}
		if !s.Has(Module) {
			if slices.Contains(expected, name) {
				r.warn(name, "the service does not ask for a second factor", "if it should: sallyport pam enable "+name)
			}
			continue
		}
		if strings.HasPrefix(name, "common-") || name == "system-auth" || name == "password-auth" {
			continue // an include file: what matters is who includes it
		}
		protected++
		h.examineService(r, c, s)
	}
	if protected == 0 {
		r.fail("/etc/pam.d", "no service names "+Module+": nobody is asked for a second factor", "docs/how-to/sudo-and-su.md and docs/how-to/protect-sshd.md say how")
	}
	return r.findings
}

// ExamineService looks at one service's stacks, which need not be in place; c may
// be nil.
func (h *Host) ExamineService(c *config.Config, s pamstack.Service) []Finding {
	r := &report{area: "pam"}
	h.examineService(r, c, s)
	return r.findings
}

// ExamineStack looks at one stack of a service alone.
func ExamineStack(c *config.Config, s pamstack.Service, t pamstack.Type) []Finding {
	r := &report{area: "pam"}
	examineStack(r, s, t)
	switch t {
	case pamstack.Auth:
		examineFirstFactor(r, c, s)
	case pamstack.Session:
		examineUserEnvironment(r, s)
		examineLoginIdentity(r, c, s)
	}
	return r.findings
}

func (h *Host) examineService(r *report, c *config.Config, s pamstack.Service) {
	before := len(r.findings)
	for _, f := range s.Faults {
		r.fail(s.Name, f+": libpam denies everyone or misreads the stack", "correct the line")
	}
	for _, t := range []pamstack.Type{pamstack.Auth, pamstack.Account, pamstack.Session, pamstack.Password} {
		for _, line := range s.Lines(t) {
			h.examineLine(r, c, s.Name, line)
		}
	}
	for _, t := range []pamstack.Type{pamstack.Auth, pamstack.Account, pamstack.Session} {
		examineStack(r, s, t)
	}
	examineUserEnvironment(r, s)
	examineLoginIdentity(r, c, s)
	examineFirstFactor(r, c, s)
	if !slices.ContainsFunc(r.findings[before:], func(f Finding) bool { return f.Status != OK }) {
		r.ok(s.Name, "no way through the stack avoids the module")
	}
}

// examineLine looks at one line: is its module there, and are ours arguments right?
func (h *Host) examineLine(r *report, c *config.Config, service string, line pamstack.Line) {
	subject := service + " (" + line.At() + ")"
	if line.Name() != Module {
		return
	}
	if filepath.IsAbs(line.Module) {
		if _, err := os.Stat(h.path(line.Module)); err != nil {
			r.fail(subject, line.Module+" does not exist: libpam denies everyone", "write "+Module+" without a path")
		}
	}
	if line.Type == pamstack.Password {
		r.fail(subject, "the module stands in the password stack, where it refuses every change", "remove the line")
	}
	if line.Silent {
		r.warn(subject, `the "-" before the type keeps a missing module out of the log`, "remove it")
	}
	socketDir := ""
	if c != nil {
		socketDir = c.SocketDir
	}
	for _, arg := range line.Args {
		key, value, _ := strings.Cut(arg, "=")
		switch {
		case arg == "debug", arg == "unreachable=deny", key == "timeout":
		case arg == "unreachable=allow":
			r.warn(subject, "unreachable=allow: whoever has the first factor gets in while authd is not running", "remove it unless that is meant")
		case key == "socket_dir":
			if socketDir != "" && filepath.Clean(value) != filepath.Clean(socketDir) {
				r.fail(subject, fmt.Sprintf("socket_dir=%s is not the socket_dir of authd.toml, %s: the module finds nobody and denies", value, socketDir), "make them equal")
			}
		default:
			r.fail(subject, fmt.Sprintf("the module does not know the argument %q and denies everyone", arg), "remove it; docs/reference/pam-module.md lists the arguments")
		}
	}
}

// examineStack looks for ways to success that do not need the module.
func examineStack(r *report, s pamstack.Service, t pamstack.Type) {
	has := slices.ContainsFunc(s.Lines(t), func(l pamstack.Line) bool { return l.Name() == Module })
	if !has {
		missing(r, s, t)
		return
	}
	for _, way := range pamstack.Ways(s.Stacks[t], pamstack.Question{Module: Module, Returns: refusals[t]}) {
		blame(r, s.Name, t, way)
	}
}

func missing(r *report, s pamstack.Service, t pamstack.Type) {
	subject := s.Name + " (" + string(t) + ")"
	line := fmt.Sprintf("add: %s required %s", t, Module)
	switch t {
	case pamstack.Auth:
		r.warn(subject, "the module is not in the auth stack: nobody is asked, only logins that a rule lets in pass the other hooks", line)
	case pamstack.Account:
		if s.Name == "sshd" {
			r.fail(subject, "the module is not in the account stack: a login by key alone, if sshd lets it, meets no second factor", line)
			return
		}
		if s.Name == "su" || s.Name == "su-l" {
			return // root's su is not asked, and has to work while authd is away
		}
		r.warn(subject, "the module is not in the account stack: logins that never ask (NOPASSWD, a live ticket) are not seen", line)
	case pamstack.Session:
		if s.Name == "sshd" {
			r.fail(subject, "the module is not in the session stack: the key of a batch login is never compared with the rule's", line)
		}
	}
}

func blame(r *report, service string, t pamstack.Type, way pamstack.Way) {
	if way.Blame == nil {
		return // the module is not part of that way at all: missing says so
	}
	line := *way.Blame
	subject := fmt.Sprintf("%s (%s)", service, line.At())
	switch name := line.Name(); {
	case name == Module:
		r.fail(subject, fmt.Sprintf("%q lets the %s stack succeed although the module returns %s: the control makes it no gate", line, t, way.Value),
			fmt.Sprintf("write: %s required %s", t, Module))
	case t == pamstack.Auth && name == "pam_rootok.so":
		r.ok(subject, "root needs no second factor to become someone else")
	case slices.Contains(conditions, name):
		r.warn(subject, fmt.Sprintf("%q lets some through without a second factor", line), "make sure that the exception is meant; rules in authd.toml are logged, this is not")
	default:
		r.fail(subject, fmt.Sprintf("%q ends or skips the %s stack: when it returns %s the module is not asked", line, t, way.Value),
			fmt.Sprintf("put the module before it (%s required %s), or change its control so that the stack goes on", t, Module))
	}
}

// examineUserEnvironment looks for a pam_env that reads the user's own
// ~/.pam_environment before the module looks. What it sets is in the PAM
// environment, where sshd too puts the key and address of a login: a user could
// give a batch login the key of a bypass rule.
func examineUserEnvironment(r *report, s pamstack.Service) {
	lines := s.Lines(pamstack.Session)
	own := slices.IndexFunc(lines, func(l pamstack.Line) bool { return l.Name() == Module })
	for _, l := range append(s.Lines(pamstack.Auth), lines[:max(own, 0)]...) {
		if l.Name() == "pam_env.so" && slices.Contains(l.Args, "user_readenv=1") {
			r.fail(fmt.Sprintf("%s (%s)", s.Name, l.At()),
				"pam_env reads the user's ~/.pam_environment before the module looks: a user can forge SSH_AUTH_INFO_0, the key of the login",
				fmt.Sprintf("put \"session required %s\" directly below pam_loginuid.so, or drop user_readenv=1", Module))
		}
	}
}

// examineLoginIdentity looks whether logins that may be remembered have an audit
// identity when the module looks: pam_loginuid gives it to them.
func examineLoginIdentity(r *report, c *config.Config, s pamstack.Service) {
	if c == nil || c.Verifier.HostKeyFile == "" {
		return
	}
	if p := c.Service(s.Name, false).Passport; p != config.PassportAuto && p != config.PassportAsk {
		return
	}
	lines := s.Lines(pamstack.Session)
	own := slices.IndexFunc(lines, func(l pamstack.Line) bool { return l.Name() == Module })
	if own < 0 || slices.ContainsFunc(lines[:own], func(l pamstack.Line) bool { return l.Name() == "pam_loginuid.so" }) {
		return
	}
	r.warn(fmt.Sprintf("%s (%s)", s.Name, lines[own].At()),
		"no pam_loginuid.so before the module: its logins have no audit identity and are never remembered for sudo and su",
		fmt.Sprintf("put \"session required %s\" directly below pam_loginuid.so, or set passport = \"never\" in [services.%s]", Module, s.Name))
}

// examineFirstFactor looks at the services whose first factor is the stack's business.
func examineFirstFactor(r *report, c *config.Config, s pamstack.Service) {
	lines := s.Lines(pamstack.Auth)
	own := slices.IndexFunc(lines, func(l pamstack.Line) bool { return l.Name() == Module })
	stack := s.Name != "sshd"
	if c != nil {
		stack = c.Service(s.Name, false).FirstFactor == config.FirstFactorStack
	}
	if own < 0 || !stack {
		return
	}
	alone := pamstack.Ways(s.Stacks[pamstack.Auth], pamstack.Question{
		Module: Module, Returns: []string{"success"}, Fail: append([]string{"pam_rootok.so"}, FirstFactors...),
	})
	if len(alone) > 0 {
		r.fail(s.Name, "the second factor alone is enough: no password needs to be right", "put a line such as: auth required pam_unix.so before the module's")
	}
	for _, l := range lines {
		if l.Name() == "pam_unix.so" && slices.Contains(l.Args, "nullok") {
			r.warn(fmt.Sprintf("%s (%s)", s.Name, l.At()), "nullok: an empty password counts as the first factor", "remove nullok, or make sure that no account has an empty password")
		}
	}
}
