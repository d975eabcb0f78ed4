// SPDX-License-Identifier: Apache-2.0

// Package policy says what policies, groups and statuses come to for one person
// at one application: allow, deny, enrol, or ask for which factors, and why. It
// owns the sections: which there are, what they may hold, how they are merged. It
// reads no store and decides nothing by itself: package login commits a decision,
// and docs/explanation/policy.md draws the order of the checks.
package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Values of the sections' keys.
const (
	Enforce   = "enforce"
	BypassAll = "bypass"
	DenyAll   = "deny"

	EnrollNew = "enroll"
	AllowNew  = "no-mfa"
	DenyNew   = "deny"

	AllowAllEndpoints = "allow-all"
	RequireTrusted    = "require-trusted"
)

// Authentication methods that the verifier has, by their names in authentication_methods.
const (
	MethodPush  = "duo-push"
	MethodPhone = "phonecall"
	MethodSMS   = "sms"
	MethodToken = "hardware-token"
	// MethodBypassCode is no name of a section: bypass codes are always allowed.
	MethodBypassCode = "bypass-code"
)

// Trust says whether the device that somebody logs in from is managed.
type Trust string

// The values of Trust. The zero value is TrustUnknown.
const (
	TrustUnknown Trust = ""
	Trusted      Trust = "trusted"
	NotTrusted   Trust = "not trusted"
)

// Subject is who asks for what, and all that an evaluation rests on.
type Subject struct {
	User        store.User // without ID: nobody has that name
	Groups      []store.Group
	Integration store.Integration
	Settings    store.Settings
	Applied     store.AppliedPolicies

	Enrolled bool   // has something to log in with
	Locked   bool   // locked out, and the lock has not expired
	IP       string // of the person, as the client says
	Endpoint Trust
}

// Effect is what an evaluation comes to.
type Effect string

// The effects.
const (
	Allow  Effect = "allow"
	Deny   Effect = "deny"
	Enroll Effect = "enroll"
	Ask    Effect = "auth"
)

// Outcome is the result of an evaluation.
type Outcome struct {
	Effect  Effect
	Reason  string // of the authentication log; empty with Ask: the factor gives it
	Because string // what decided: user, group, application, a section's key, or default
	Rules   Rules  // for the factors, with Ask
}

// Levels of the policy that gave a section.
const (
	LevelGroup       = "group_app"
	LevelApplication = "app"
	LevelGlobal      = "global"
	LevelDefault     = "default"
)

// Origin is a section in force and where it comes from.
type Origin struct {
	Level  string
	Policy store.Policy // without ID at LevelDefault
	Group  store.Group  // at LevelGroup
	Value  json.RawMessage
}

// Merge gives each section from the most specific policy that has it: the groups
// of the person at the application in their order, the application, the global one.
func Merge(a store.AppliedPolicies, groups []store.Group) map[string]Origin {
	out := map[string]Origin{}
	add := func(p store.Policy, level string, g store.Group) {
		for key, value := range p.Sections {
			if _, have := out[key]; !have {
				out[key] = Origin{Level: level, Policy: p, Group: g, Value: value}
			}
		}
	}
	for _, u := range a.Uses { // groups by position, then the application
		if u.GroupID == "" {
			add(a.Policies[u.PolicyID], LevelApplication, store.Group{})
			continue
		}
		i := slices.IndexFunc(groups, func(g store.Group) bool { return g.ID == u.GroupID })
		if i >= 0 {
			add(a.Policies[u.PolicyID], LevelGroup, groups[i])
		}
	}
	add(a.Global, LevelGlobal, store.Group{})
	return out
}

type ipList struct {
	List []string `json:"ip_list"`
}

// inForce are the sections that logins depend on, merged and decoded.
type inForce struct {
	auth struct {
		Behavior string `json:"user_auth_behavior"`
	}
	newUser struct {
		Behavior string `json:"new_user_behavior"`
	}
	methods struct {
		Allowed       []string `json:"allowed_auth_list"`
		Blocked       []string `json:"blocked_auth_list"`
		RequireDigits bool     `json:"require_verified_push"`
		Digits        int      `json:"verified_push_digits"`
	}
	networks struct {
		Free struct {
			ipList
			RequireEnrollment bool `json:"require_enrollment"`
		} `json:"no_2fa_required"`
		MFA       ipList `json:"mfa_required"`
		Blocked   ipList `json:"blocked"`
		DenyOther bool   `json:"deny_other_access"`
	}
	endpoints struct {
		Checking string `json:"trusted_endpoint_checking"`
	}
	remember struct {
		Hosts struct {
			Enabled *bool `json:"enabled"`
		} `json:"host_logins"`
	}
}

func force(merged map[string]Origin) (f inForce, err error) {
	for key, place := range map[string]any{
		AuthenticationPolicy: &f.auth, NewUser: &f.newUser, AuthenticationMethods: &f.methods,
		AuthorizedNetworks: &f.networks, TrustedEndpoints: &f.endpoints, RememberedDevices: &f.remember,
	} {
		origin, there := merged[key]
		if !there {
			continue
		}
		// Stored sections were checked when they were set; one that cannot be read is
		// another version's, and what it denies is not known.
		if err := Check(map[string]json.RawMessage{key: origin.Value}); err != nil {
			return f, fmt.Errorf("section of policy %s: %w", origin.Policy.ID, err)
		}
		if err := json.Unmarshal(origin.Value, place); err != nil {
			return f, fmt.Errorf("section %s of policy %s: %w", key, origin.Policy.ID, err)
		}
	}
	return f, nil
}

// DefaultNewUser is the behaviour where no policy has the section new_user.
func DefaultNewUser(set store.Settings) string {
	if set.NewUserPolicy == store.EnrollOffer {
		return EnrollNew
	}
	return DenyNew
}

// MayEnroll says why an application may not enrol somebody whom nobody knows yet:
// the setting or section that forbids it, empty if nothing does. Such a person is
// in no group, and where from they will log in is not known.
func MayEnroll(i store.Integration, set store.Settings, applied store.AppliedPolicies) (because string, err error) {
	f, err := force(Merge(applied, nil))
	if err != nil {
		return "", err
	}
	if f.newUser.Behavior == "" {
		f.newUser.Behavior = DefaultNewUser(set)
	}
	switch {
	case i.EnrollPolicy != store.EnrollOffer:
		return "enroll_policy", nil
	case i.Access() != store.AccessAll:
		return "user_access", nil
	case f.auth.Behavior == DenyAll:
		return AuthenticationPolicy, nil
	case f.newUser.Behavior != EnrollNew:
		return NewUser, nil
	}
	return "", nil
}

// Evaluate says what holds for s. An error means that nothing is known, so that
// nobody may be let in on it.
func Evaluate(s Subject) (Outcome, error) {
	if out, decided := standing(s); decided {
		return out, nil
	}
	f, err := force(Merge(s.Applied, s.Groups))
	if err != nil {
		return Outcome{}, err
	}
	at := whereabouts(s.IP, f)
	if f.newUser.Behavior == "" {
		f.newUser.Behavior = DefaultNewUser(s.Settings)
	}
	if out, decided := denials(s, f, at); decided {
		return out, nil
	}
	if out, decided := allowances(s, f, at); decided {
		return out, nil
	}
	if !s.Enrolled {
		if f.newUser.Behavior == EnrollNew && s.Integration.EnrollPolicy == store.EnrollOffer {
			return Outcome{Effect: Enroll, Reason: audit.DenyUnenrolledUser, Because: NewUser}, nil
		}
		return deny(audit.DenyUnenrolledUser, NewUser), nil
	}
	return Outcome{Effect: Ask, Rules: rules(f)}, nil
}

func deny(reason, because string) Outcome {
	return Outcome{Effect: Deny, Reason: reason, Because: because}
}

func allow(reason, because string) Outcome {
	return Outcome{Effect: Allow, Reason: reason, Because: because}
}

// standing decides by what was given to the person and the application, without
// a section.
func standing(s Subject) (Outcome, bool) {
	in := func(status store.UserStatus) bool {
		return slices.ContainsFunc(s.Groups, func(g store.Group) bool { return g.Status == status })
	}
	switch {
	case s.User.Status == store.Disabled, s.User.Status == store.PendingDeletion:
		return deny(audit.UserDisabled, "user"), true
	case in(store.Disabled):
		return deny(audit.UserDisabled, "group"), true
	case s.Locked:
		return deny(audit.LockedOut, "user"), true
	case !permitted(s):
		return deny(audit.NotInGroup, "application"), true
	case s.User.Status == store.Bypass:
		return allow(audit.BypassUser, "user"), true
	case in(store.Bypass):
		return allow(audit.BypassUser, "group"), true
	}
	return Outcome{}, false
}

// permitted says whether the application is for the person.
func permitted(s Subject) bool {
	switch s.Integration.Access() {
	case store.AccessAll:
		return true
	case store.AccessGroups:
		return slices.ContainsFunc(s.Groups, func(g store.Group) bool {
			return slices.Contains(s.Integration.GroupsAllowed, g.ID)
		})
	}
	return false
}

// location is where the person is, in three values: what is not known counts
// against the person in every rule.
type location struct {
	denied   bool // blocked, or other than those that are named
	demanded bool // a second factor is demanded
	free     bool // known to need none
}

func whereabouts(ip string, f inForce) location {
	n := f.networks
	a, known := address(ip)
	if !known {
		return location{denied: len(n.Blocked.List) > 0 || n.DenyOther, demanded: len(n.MFA.List) > 0}
	}
	free, mfa := contains(n.Free.List, a), contains(n.MFA.List, a)
	return location{
		denied:   contains(n.Blocked.List, a) || n.DenyOther && !free && !mfa,
		demanded: mfa,
		free:     free && !mfa,
	}
}

// address reads what a client says of where somebody is. A host name, nothing, and
// the address that means none are not known.
func address(ip string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSpace(ip))
	if err != nil {
		return netip.Addr{}, false
	}
	a = a.WithZone("").Unmap()
	return a, !a.IsUnspecified()
}

func contains(list []string, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		first, last, err := parseNetwork(s)
		return err == nil && first.BitLen() == a.BitLen() && !a.Less(first) && !last.Less(a)
	})
}

// denials comes before allowances: what one section denies, no other allows.
func denials(s Subject, f inForce, at location) (Outcome, bool) {
	switch {
	case f.auth.Behavior == DenyAll:
		return deny(audit.DeniedByPolicy, AuthenticationPolicy), true
	case at.denied:
		return deny(audit.DeniedNetwork, AuthorizedNetworks), true
	case f.endpoints.Checking == RequireTrusted && s.Endpoint == NotTrusted:
		return deny(audit.EndpointNotTrusted, TrustedEndpoints), true
	case f.endpoints.Checking == RequireTrusted && s.Endpoint != Trusted:
		return deny(audit.EndpointUnknown, TrustedEndpoints), true
	case !s.Enrolled && f.newUser.Behavior == DenyNew:
		return deny(audit.DenyUnenrolledUser, NewUser), true
	}
	return Outcome{}, false
}

func allowances(s Subject, f inForce, at location) (Outcome, bool) {
	switch {
	case f.auth.Behavior == BypassAll:
		return allow(audit.AllowedByPolicy, AuthenticationPolicy), true
	case at.free && s.Enrolled:
		return allow(audit.TrustedNetwork, AuthorizedNetworks), true
	case at.free && !f.networks.Free.RequireEnrollment:
		return allow(audit.AllowUnenrolledUserTrusted, AuthorizedNetworks), true
	case !s.Enrolled && f.newUser.Behavior == AllowNew && !at.demanded:
		return allow(audit.AllowUnenrolledUser, NewUser), true
	}
	return Outcome{}, false
}

// Rules say which factors may be used, and how.
type Rules struct {
	allowed, blocked []string
	limited          bool // allowed is a list, be it empty

	RequireVerifiedPush bool // also where the application allows plain push
	PushDigits          int
	RememberHosts       bool // a login of a host may be remembered where that is on
}

// DefaultPushDigits is how many digits a verified push has where no policy says
// (NIST SP 800-63B-4, 3.1.3.2: at least six decimal digits).
const DefaultPushDigits = 6

func rules(f inForce) Rules {
	m := f.methods
	r := Rules{
		allowed: m.Allowed, blocked: m.Blocked, limited: m.Allowed != nil, RequireVerifiedPush: m.RequireDigits,
		PushDigits: m.Digits, RememberHosts: f.remember.Hosts.Enabled == nil || *f.remember.Hosts.Enabled,
	}
	if r.PushDigits == 0 {
		r.PushDigits = DefaultPushDigits
	}
	return r
}

// Allows says whether a method may be used. Bypass codes always may.
func (r Rules) Allows(method string) bool {
	switch {
	case method == MethodBypassCode:
		return true
	case slices.Contains(r.blocked, method):
		return false
	}
	return !r.limited || slices.Contains(r.allowed, method)
}

// Methods lists the methods of the verifier that may be used.
func (r Rules) Methods() []string {
	all := []string{MethodPush, MethodPhone, MethodSMS, MethodToken, MethodBypassCode}
	return slices.DeleteFunc(all, func(m string) bool { return !r.Allows(m) })
}

// MethodOf is the method to which a factor of the authentication log belongs.
func MethodOf(factor string) string {
	switch factor {
	case "duo_push":
		return MethodPush
	case "phone_call":
		return MethodPhone
	case "sms_passcode", audit.SMSRefresh:
		return MethodSMS
	case "bypass_code":
		return MethodBypassCode
	}
	return MethodToken
}
