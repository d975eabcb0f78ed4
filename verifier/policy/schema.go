// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Keys of sections.
const (
	AuthenticationPolicy  = "authentication_policy"
	NewUser               = "new_user"
	AuthenticationMethods = "authentication_methods"
	AuthorizedNetworks    = "authorized_networks"
	TrustedEndpoints      = "trusted_endpoints"
	RememberedDevices     = "remembered_devices"
)

// MaxSections bounds the sections of a policy as JSON, and maxList each list in
// them: policies are read at every login.
const (
	MaxSections = 64 << 10
	maxList     = 1000
)

// Error names the key of a section whose value is refused.
type Error struct {
	Key string // section, or section.key
	Why string
}

func (e *Error) Error() string { return e.Key + ": " + e.Why }

func refused(key, why string, args ...any) error { return &Error{key, fmt.Sprintf(why, args...)} }

// check looks at a value of a key; the key is for its error.
type check func(key string, value any) error

// Section is what is known of a section.
type Section struct {
	keys map[string]check
	// effective says that a login depends on the section. Then a key that is not
	// known is refused: a slip of the pen must not weaken a policy.
	effective bool
}

// Effective says whether logins depend on the section.
func (s Section) Effective() bool { return s.effective }

// Keys lists the keys that are known, in order.
func (s Section) Keys() []string { return slices.Sorted(maps.Keys(s.keys)) }

// Sections are the sections that a policy can have, by key.
func Sections() map[string]Section { return sections }

// Names of Duo's authentication methods.
var methodNames = []string{
	MethodPush, "duo-passcode", MethodPhone, MethodSMS, MethodToken, "desktop", "webauthn-platform", "webauthn-roaming",
	"duo-push-pwl", "webauthn-platform-pwl", "webauthn-roaming-pwl",
}

var systems = []string{"android", "blackberry", "chromeos", "ios", "linux", "macos", "windows", "windowsphone"}

var sections = map[string]Section{
	AuthenticationPolicy: {effective: true, keys: map[string]check{"user_auth_behavior": oneOf(Enforce, BypassAll, DenyAll)}},
	NewUser:              {effective: true, keys: map[string]check{"new_user_behavior": oneOf(EnrollNew, AllowNew, DenyNew)}},
	AuthenticationMethods: {effective: true, keys: map[string]check{
		"allowed_auth_list": listOf(oneOf(methodNames...)), "blocked_auth_list": listOf(oneOf(methodNames...)),
		"require_verified_push": flag, "verified_push_digits": number(3, 6),
	}},
	AuthorizedNetworks: {effective: true, keys: map[string]check{
		"no_2fa_required":   object(map[string]check{"ip_list": listOf(network), "require_enrollment": flag}),
		"mfa_required":      object(map[string]check{"ip_list": listOf(network)}),
		"blocked":           object(map[string]check{"ip_list": listOf(network)}),
		"deny_other_access": flag,
	}},
	TrustedEndpoints: {effective: true, keys: map[string]check{
		"trusted_endpoint_checking":        oneOf(AllowAllEndpoints, RequireTrusted, "not-configured"),
		"trusted_endpoint_checking_mobile": oneOf(AllowAllEndpoints, RequireTrusted, "not-configured"),
	}},
	RememberedDevices: {effective: true, keys: map[string]check{
		"browser_apps": object(map[string]check{
			"enabled": flag, "remember_method": oneOf("user-based", "risk-based"), "max_time_value": number(1, 365),
			"max_time_units": oneOf("minutes", "hours", "days"), "user_based": anything, "risk_based": anything,
		}),
		"windows_logon": open(map[string]check{"enabled": flag}),
		"host_logins":   object(map[string]check{"enabled": flag}),
	}},
	"anonymous_networks": {keys: map[string]check{"anonymous_access_behavior": oneOf("no-action", "require-mfa", "deny")}},
	"user_location": {keys: map[string]check{
		"default_action": oneOf(locationActions...), "deny_access_countries_list": listOf(text),
		"require_mfa_countries_list": listOf(text), "allow_access_no_2fa_countries_list": listOf(text),
		"ignore_location_countries_list": listOf(text),
	}},
	"risk_based_factor_selection": {keys: map[string]check{
		"limit_to_risk_based_auth_methods": flag, "risk_based_verified_push_digits": number(3, 6),
	}},
	"duo_desktop": {keys: map[string]check{
		"requires_duo_desktop": listOf(oneOf(systems...)), "enforce_encryption": listOf(oneOf(systems...)),
		"enforce_firewall": listOf(oneOf(systems...)), "enforce_system_password": listOf(oneOf(systems...)),
		"enforce_signed_payload": listOf(oneOf(systems...)), "enforce_device_id_pinning": listOf(oneOf(systems...)),
	}},
	"operating_systems": {keys: map[string]check{
		"allow_unrestricted_os_list": listOf(oneOf(systems...)), "block_os_list": listOf(oneOf(systems...)), "os_restrictions": open(nil),
	}},
	"browsers":                 {keys: map[string]check{"blocked_browsers_list": listOf(text), "out_of_date_behavior": text}},
	"plugins":                  {keys: map[string]check{"flash": anything, "java": anything}},
	"duo_mobile_app":           {keys: map[string]check{"block_policy": text, "block_version": text}},
	"tampered_devices":         {},
	"screen_lock":              {},
	"full_disk_encryption":     {},
	"mobile_device_biometrics": {},
}

var locationActions = []string{"deny", "require_mfa", "require-mfa", "allow_access_no_2fa", "allow-access-no-2fa", "ignore_location", "ignore-location"}

// Check says whether these can be the sections of a policy; its error is an *Error.
func Check(given map[string]json.RawMessage) error {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(given)) {
		section, known := sections[name]
		if !known {
			return refused(name, "there is no such section")
		}
		if size += len(given[name]); size > MaxSections {
			return refused(name, "the sections have more than %d bytes together", MaxSections)
		}
		value, err := decode(given[name])
		if err != nil {
			return refused(name, "%s", err)
		}
		fields := open(section.keys)
		if section.effective {
			fields = object(section.keys)
		}
		if err := fields(name, value); err != nil {
			return err
		}
	}
	return nil
}

// decode reads JSON and refuses what package encoding/json lets through: a member
// that is there twice, of which one would silently win, and text behind the value.
func decode(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	value, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("not one JSON value")
	}
	return value, nil
}

const maxDepth = 16

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("not JSON")
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels deep", maxDepth)
	}
	switch token {
	case json.Delim('{'):
		out := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, fmt.Errorf("not JSON")
			}
			key, _ := name.(string)
			if _, twice := out[key]; twice {
				return nil, fmt.Errorf("%q is there twice", key)
			}
			if out[key], err = decodeValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		return out, end(d)
	case json.Delim('['):
		out := []any{}
		for d.More() {
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, end(d)
	}
	return token, nil
}

func end(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("not JSON")
	}
	return nil
}

// object takes a JSON object with these keys and no others.
func object(keys map[string]check) check { return members(keys, false) }

// open takes a JSON object and looks at these keys; others may be there.
func open(keys map[string]check) check { return members(keys, true) }

func members(keys map[string]check, others bool) check {
	return func(key string, value any) error {
		m, ok := value.(map[string]any)
		if !ok {
			return refused(key, "not a JSON object")
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			look, known := keys[name]
			if !known && !others {
				return refused(key+"."+name, "there is no such key; there are %s", strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
			}
			if !known {
				continue
			}
			if err := look(key+"."+name, m[name]); err != nil {
				return err
			}
		}
		return nil
	}
}

func oneOf(values ...string) check {
	return func(key string, value any) error {
		if s, ok := value.(string); !ok || !slices.Contains(values, s) {
			return refused(key, "not one of %s", strings.Join(values, ", "))
		}
		return nil
	}
}

func flag(key string, value any) error {
	if _, ok := value.(bool); !ok {
		return refused(key, "not true or false")
	}
	return nil
}

func text(key string, value any) error {
	if _, ok := value.(string); !ok {
		return refused(key, "not a text")
	}
	return nil
}

func anything(string, any) error { return nil }

func number(low, high int64) check {
	return func(key string, value any) error {
		n, ok := value.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil || i < low || i > high {
			return refused(key, "not a whole number from %d to %d", low, high)
		}
		return nil
	}
}

func listOf(item check) check {
	return func(key string, value any) error {
		list, ok := value.([]any)
		if !ok {
			return refused(key, "not a list")
		}
		if len(list) > maxList {
			return refused(key, "more than %d entries", maxList)
		}
		for _, v := range list {
			if err := item(key, v); err != nil {
				return err
			}
		}
		return nil
	}
}

func network(key string, value any) error {
	s, _ := value.(string)
	if _, _, err := parseNetwork(s); err != nil {
		return refused(key, "%q is not an address, a network such as 192.0.2.0/24, or a range such as 192.0.2.1-192.0.2.9", printable(s))
	}
	return nil
}

func printable(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "?")
}

// parseNetwork reads an address, a prefix or a range as its first and last address.
func parseNetwork(s string) (first, last netip.Addr, err error) {
	if from, to, is := strings.Cut(s, "-"); is {
		if first, err = plainAddr(strings.TrimSpace(from)); err != nil {
			return first, last, err
		}
		last, err = plainAddr(strings.TrimSpace(to))
		if err == nil && (first.BitLen() != last.BitLen() || last.Less(first)) {
			err = fmt.Errorf("%s is no range", s)
		}
		return first, last, err
	}
	if !strings.Contains(s, "/") {
		first, err = plainAddr(s)
		return first, first, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return first, last, err
	}
	if p.Addr().Is4In6() {
		return first, last, fmt.Errorf("%s is an IPv4 network in IPv6", s)
	}
	return p.Masked().Addr(), lastOf(p), nil
}

func plainAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && a.Zone() != "" {
		err = fmt.Errorf("%s has a zone", s)
	}
	return a.Unmap(), err
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
