// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// FailMode says what happens when no verifier answers before a factor was offered.
type FailMode string

// The fail modes.
const (
	FailSecure  FailMode = "secure"
	FailOpen    FailMode = "open"    // let in on the first factor, within open_minutes, open_uses and open_local
	FailOffline FailMode = "offline" // ask for an offline code
)

// FirstFactor says how authd knows that a first factor came before it.
type FirstFactor string

// The ways to know of a first factor.
const (
	FirstFactorSSH   FirstFactor = "ssh"   // sshd says so in SSH_AUTH_INFO_0
	FirstFactorStack FirstFactor = "stack" // the administrator says that the PAM stack checks one
)

// Person says which account has to prove itself.
type Person string

// The accounts.
const (
	PersonUser     Person = "user"     // PAM_USER
	PersonTarget   Person = "target"   // PAM_USER as well, where that is whom the caller becomes: su
	PersonCaller   Person = "caller"   // who started the program, by its real uid
	PersonInvoking Person = "invoking" // PAM_RUSER as sudo sets it, else PAM_USER
	PersonLoginUID Person = "loginuid" // who logged in, by the kernel's audit loginuid
)

// Unattended says what happens when nobody can be asked.
type Unattended string

// The ways to treat an unattended login.
const (
	UnattendedDeny Unattended = "deny"
	UnattendedAuto Unattended = "auto" // the first method that needs no typing: push, else phone
)

// GateMode says what the account and session hooks do with a login that no
// authenticate came before and no rule covers.
type GateMode string

// The gate modes.
const (
	GateAllow GateMode = "allow"
	GateDeny  GateMode = "deny"
)

// Passport says what remembered logins are to a service.
type Passport string

// What remembered logins are to a service.
const (
	PassportNever Passport = "never"
	PassportAuto  Passport = "auto" // its logins are remembered as the verifier's policy says
	PassportAsk   Passport = "ask"  // the same, but never without asking the person
	PassportUse   Passport = "use"  // it asks nothing where the login is remembered
)

// Service holds the settings of one PAM service, complete.
type Service struct {
	Name               string
	Description        string
	FailMode           FailMode
	FirstFactor        FirstFactor
	Person             Person
	Mapping            Mapping
	Attempts           int
	AutoPush           bool
	AcceptEnvFactor    bool
	Unattended         Unattended
	AccountWithoutAuth GateMode
	PushCommand        bool
	OpenMinutes        int  // of fail_mode open: how long after the last contact with a verifier
	OpenUses           int  // of fail_mode open: logins of one person in one outage
	OpenLocal          bool // of fail_mode open: at local terminals too
	// Factors are the only ones that are offered and accepted; nil: all that the
	// verifier permits. A rule sets it.
	Factors  []string
	Passport Passport
}

// raw is a service as the file has it: nil means that it says nothing.
type raw struct {
	Description        *string      `toml:"description"`
	FailMode           *FailMode    `toml:"fail_mode"`
	FirstFactor        *FirstFactor `toml:"first_factor"`
	Person             *Person      `toml:"person"`
	Mapping            *Mapping     `toml:"mapping"`
	Attempts           *int         `toml:"attempts"`
	AutoPush           *bool        `toml:"autopush"`
	AcceptEnvFactor    *bool        `toml:"accept_env_factor"`
	Unattended         *Unattended  `toml:"unattended"`
	AccountWithoutAuth *GateMode    `toml:"account_without_auth"`
	PushCommand        *bool        `toml:"push_command"`
	OpenMinutes        *int         `toml:"open_minutes"`
	OpenUses           *int         `toml:"open_uses"`
	OpenLocal          *bool        `toml:"open_local"`
	Passport           *Passport    `toml:"passport"`
}

// defaultService is the table whose settings hold for services that do not set them.
const defaultService = "default"

// Service returns the settings of the PAM service name: those of
// [services.NAME], else those of [services.default], else the built-in ones.
// ssh says that the login carries sshd's own variables, and so counts as sshd's
// whatever the service is called.
func (c *Config) Service(name string, ssh bool) Service {
	s := builtin(name, ssh || name == "sshd")
	c.Services[defaultService].over(&s, ssh || name == "sshd")
	if name != defaultService {
		c.Services[name].over(&s, false)
	}
	return s
}

func builtin(name string, ssh bool) Service {
	s := Service{
		Name:               name,
		Description:        name,
		FailMode:           FailSecure,
		FirstFactor:        FirstFactorStack,
		Person:             PersonUser,
		Attempts:           3,
		Unattended:         UnattendedDeny,
		AccountWithoutAuth: GateAllow,
		OpenMinutes:        240,
		OpenUses:           10,
		Passport:           builtinPassport(name, ssh),
	}
	switch name {
	case "su", "su-l":
		s.Person = PersonCaller
	case "sudo", "sudo-i":
		s.Person = PersonInvoking
	}
	if ssh {
		s.Description = "SSH login"
		s.FirstFactor = FirstFactorSSH
		s.AccountWithoutAuth = GateDeny
	}
	return s
}

// over puts what r says over s. What weakens sshd is taken from sshd's own
// table alone, so keepSSH leaves those settings out.
func (r raw) over(s *Service, keepSSH bool) {
	set(&s.Description, r.Description)
	set(&s.FailMode, r.FailMode)
	set(&s.Mapping, r.Mapping)
	set(&s.Attempts, r.Attempts)
	set(&s.AutoPush, r.AutoPush)
	set(&s.AcceptEnvFactor, r.AcceptEnvFactor)
	set(&s.Unattended, r.Unattended)
	set(&s.PushCommand, r.PushCommand)
	set(&s.OpenMinutes, r.OpenMinutes)
	set(&s.OpenUses, r.OpenUses)
	set(&s.OpenLocal, r.OpenLocal)
	set(&s.Passport, r.Passport)
	if !keepSSH {
		set(&s.Person, r.Person) // sshd's caller is root, and its loginuid that of who started it
		set(&s.FirstFactor, r.FirstFactor)
		set(&s.AccountWithoutAuth, r.AccountWithoutAuth)
	}
}

// builtinPassport: sshd and the console open logins, and what is used inside of
// one rests on it. For the rest it is not known which they are.
func builtinPassport(name string, ssh bool) Passport {
	switch {
	case ssh || name == "login":
		return PassportAuto
	case slices.Contains([]string{"sudo", "sudo-i", "su", "su-l", "polkit-1"}, name):
		return PassportUse
	}
	return PassportNever
}

// checkPassport refuses what would make a login rest on another, and a general
// setting other than off: which services open logins is for each to say.
func checkPassport(service string, p Passport) error {
	switch {
	case service == "sshd" && p == PassportUse:
		return errors.New(`passport "use": a login by sshd rests on no other login`)
	case service == defaultService && p != PassportNever:
		return fmt.Errorf("passport %q holds for one service; here it may be \"never\"", p)
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (c *Config) checkServices() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		for _, err := range c.Services[name].check(name) {
			errs = append(errs, fmt.Errorf("services.%s: %w", name, err))
		}
	}
	return errs
}

func (r raw) check(name string) []error {
	var errs []error
	errs = append(errs,
		oneOf("fail_mode", r.FailMode, FailSecure, FailOpen, FailOffline),
		oneOf("first_factor", r.FirstFactor, FirstFactorSSH, FirstFactorStack),
		oneOf("person", r.Person, PersonUser, PersonTarget, PersonCaller, PersonInvoking, PersonLoginUID),
		oneOf("unattended", r.Unattended, UnattendedDeny, UnattendedAuto),
		oneOf("account_without_auth", r.AccountWithoutAuth, GateAllow, GateDeny))
	if r.Person != nil {
		errs = append(errs, checkPerson(name, *r.Person))
	}
	errs = append(errs, oneOf("passport", r.Passport, PassportNever, PassportAuto, PassportAsk, PassportUse))
	if r.Passport != nil {
		errs = append(errs, checkPassport(name, *r.Passport))
	}
	if r.Mapping != nil {
		errs = append(errs, r.Mapping.check()...)
	}
	if r.Attempts != nil && (*r.Attempts < 1 || *r.Attempts > 10) {
		errs = append(errs, fmt.Errorf("attempts is %d; it may be 1 to 10", *r.Attempts))
	}
	if r.OpenMinutes != nil && (*r.OpenMinutes < 1 || *r.OpenMinutes > 7*24*60) {
		errs = append(errs, fmt.Errorf("open_minutes is %d; it may be 1 to 10080, a week", *r.OpenMinutes))
	}
	if r.OpenUses != nil && (*r.OpenUses < 1 || *r.OpenUses > 1000) {
		errs = append(errs, fmt.Errorf("open_uses is %d; it may be 1 to 1000", *r.OpenUses))
	}
	if r.Description != nil && len(*r.Description) > 100 {
		errs = append(errs, errors.New("description has over 100 bytes"))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// checkPerson refuses what a service cannot know.
func checkPerson(service string, p Person) error {
	switch {
	case p == PersonLoginUID && service == "sshd":
		return errors.New(`person "loginuid": sshd asks before the login has a loginuid; leave it at "user"`)
	case p == PersonCaller && service == "sshd":
		return errors.New(`person "caller": sshd is root's, so everybody would be root; leave it at "user"`)
	case p == PersonTarget && (service == "sudo" || service == "sudo-i"):
		return errors.New(`person "target": sudo asks for the invoking user before it names its target; "invoking" is who runs sudo`)
	}
	return nil
}

func oneOf[T ~string](name string, value *T, allowed ...T) error {
	if value == nil || slices.Contains(allowed, *value) {
		return nil
	}
	return fmt.Errorf("%s %q is none of %q", name, *value, allowed)
}

// Warnings names what is allowed but weakens the host, for `check` and the log
// at start.
func (c *Config) Warnings() []string {
	out := c.Verifier.Proxy.warnings()
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		r := c.Services[name]
		if r.FailMode != nil && *r.FailMode == FailOpen {
			out = append(out, fmt.Sprintf(`services.%s: fail_mode = "open" lets everyone in who has the first factor while no verifier answers`, name))
		}
		if r.FailMode != nil && *r.FailMode == FailOffline && c.Verifier.HostKeyFile == "" {
			out = append(out, fmt.Sprintf(`services.%s: fail_mode = "offline" denies everyone while no verifier answers: without verifier.host_key_file there are no offline codes`, name))
		}
		if r.FirstFactor != nil && *r.FirstFactor == FirstFactorStack && name == "sshd" {
			out = append(out, `services.sshd: first_factor = "stack" trusts the PAM stack to check a password before Sallyport`)
		}
		if r.AccountWithoutAuth != nil && *r.AccountWithoutAuth == GateAllow && name == "sshd" {
			out = append(out, `services.sshd: account_without_auth = "allow" lets every login by key alone in`)
		}
	}
	out = append(out, c.ldapWarnings()...)
	for _, r := range c.Rules {
		if r.Action == rules.Bypass && r.Broad {
			out = append(out, fmt.Sprintf("rule %q: broad = true, a bypass for more than named people, keys or networks", r.Name))
		}
	}
	return out
}
