// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// Schema says how a directory keeps people and groups.
type Schema string

// The schemas.
const (
	SchemaRFC2307    Schema = "rfc2307"    // posixGroup names its members by memberUid
	SchemaRFC2307bis Schema = "rfc2307bis" // groups name their members, groups too, by DN
	SchemaAD         Schema = "ad"         // Active Directory
)

// LDAP says which directory is asked for groups and attributes. Without urls
// none is. After Load the settings that the schema completes are complete.
type LDAP struct {
	URLs             []string `toml:"urls"`
	StartTLS         bool     `toml:"start_tls"`
	CAFile           string   `toml:"ca_file"` // empty: the system's roots
	BindDN           string   `toml:"bind_dn"` // empty: anonymous
	BindPasswordFile string   `toml:"bind_password_file"`

	Schema          Schema   `toml:"schema"`
	BaseDN          string   `toml:"base_dn"`
	UserBase        string   `toml:"user_base"`  // empty: base_dn
	GroupBase       string   `toml:"group_base"` // empty: base_dn
	UserFilter      string   `toml:"user_filter"`
	UserAttribute   string   `toml:"user_attribute"`
	GroupFilter     string   `toml:"group_filter"`
	GroupAttribute  string   `toml:"group_attribute"`
	MemberAttribute string   `toml:"member_attribute"`
	Domains         []string `toml:"domains"`      // whose names are looked up without the domain
	NestedDepth     int      `toml:"nested_depth"` // groups in groups; 0: direct members only
	MaxGroups       int      `toml:"max_groups"`   // of one person

	CacheMaxAge   time.Duration `toml:"cache_max_age"`  // an answer is used without asking again
	CacheNegative time.Duration `toml:"cache_negative"` // the same for "there is none"
	CacheStale    time.Duration `toml:"cache_stale"`    // an older one is used while the directory is away
	CacheSize     int           `toml:"cache_size"`     // answers kept

	servers  []LDAPServer
	password string
}

// LDAPServer is an address of the directory.
type LDAPServer struct {
	URL     string // as configured
	Network string // tcp or unix
	Address string
	Host    string // whom the certificate must name
	TLS     bool   // from the first byte
}

// Configured says whether there is a directory at all.
func (l *LDAP) Configured() bool { return len(l.URLs) > 0 }

// Servers are the addresses in order of preference.
func (l *LDAP) Servers() []LDAPServer { return l.servers }

// Password is that of bind_dn; empty unless Load or ReadPassword read it.
func (l *LDAP) Password() string { return l.password }

// LDAPAttributes are the attributes that mappings want of a person, sorted.
func (c *Config) LDAPAttributes() []string {
	set := map[string]bool{}
	for _, m := range c.Mappings() {
		if m.LDAP != "" {
			set[m.LDAP] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func defaultLDAP() LDAP {
	return LDAP{
		Schema: SchemaRFC2307bis, NestedDepth: -1, MaxGroups: 1000,
		CacheMaxAge: 5 * time.Minute, CacheNegative: 30 * time.Second, CacheSize: 4096,
	}
}

// attribute is an attribute description without options, RFC 4512 section 1.4.
var attribute = regexp.MustCompile(`\A(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)\z`)

// maxLDAPServers bounds urls: all of them share the time of one question.
const maxLDAPServers = 8

func (c *Config) checkLDAP() []error {
	l := &c.LDAP
	if !l.Configured() {
		var errs []error
		if !reflect.DeepEqual(*l, defaultLDAP()) {
			errs = append(errs, errors.New("ldap.urls is missing: no directory to ask"))
		}
		if attrs := c.LDAPAttributes(); len(attrs) > 0 {
			errs = append(errs, fmt.Errorf("a mapping wants the LDAP attribute %q, but there is no [ldap]", attrs[0]))
		}
		return errs
	}
	var errs []error
	if len(l.URLs) > maxLDAPServers {
		errs = append(errs, fmt.Errorf("ldap.urls has %d servers, at most %d", len(l.URLs), maxLDAPServers))
	}
	for _, s := range l.URLs {
		server, err := parseLDAPServer(s, l.StartTLS)
		if err != nil {
			errs = append(errs, fmt.Errorf("ldap.urls: %w", err))
			continue
		}
		l.servers = append(l.servers, server)
	}
	if (l.BindDN == "") != (l.BindPasswordFile == "") {
		errs = append(errs, errors.New("ldap.bind_dn and ldap.bind_password_file belong together"))
	}
	errs = append(errs, l.complete()...)
	errs = append(errs, l.checkNames()...)
	errs = append(errs, l.checkNumbers()...)
	if c.Timeouts.LDAP > c.Timeouts.NSS {
		errs = append(errs, errors.New("timeouts.ldap_timeout is above nss_timeout, of which it is a part"))
	}
	return errs
}

// complete fills in what the schema says.
func (l *LDAP) complete() []error {
	depth := 8
	var d LDAP
	switch l.Schema {
	case SchemaRFC2307:
		depth = 0
		d = LDAP{UserFilter: "(objectClass=posixAccount)", UserAttribute: "uid", GroupFilter: "(objectClass=posixGroup)", GroupAttribute: "cn", MemberAttribute: "memberUid"}
	case SchemaRFC2307bis:
		d = LDAP{UserFilter: "(objectClass=posixAccount)", UserAttribute: "uid",
			GroupFilter: "(|(objectClass=groupOfNames)(objectClass=groupOfMembers)(objectClass=posixGroup))", GroupAttribute: "cn", MemberAttribute: "member"}
	case SchemaAD:
		d = LDAP{UserFilter: "(&(objectCategory=person)(objectClass=user))", UserAttribute: "sAMAccountName",
			GroupFilter: "(objectClass=group)", GroupAttribute: "sAMAccountName", MemberAttribute: "member"}
	default:
		return []error{fmt.Errorf("ldap.schema %q is none of %q", l.Schema, []Schema{SchemaRFC2307, SchemaRFC2307bis, SchemaAD})}
	}
	for _, s := range []struct {
		to   *string
		from string
	}{
		{&l.UserBase, l.BaseDN}, {&l.GroupBase, l.BaseDN}, {&l.UserFilter, d.UserFilter}, {&l.UserAttribute, d.UserAttribute},
		{&l.GroupFilter, d.GroupFilter}, {&l.GroupAttribute, d.GroupAttribute}, {&l.MemberAttribute, d.MemberAttribute},
	} {
		if *s.to == "" {
			*s.to = s.from
		}
	}
	if l.NestedDepth == -1 {
		l.NestedDepth = depth
	}
	if l.Schema == SchemaRFC2307 && l.NestedDepth > 0 {
		return []error{errors.New(`ldap.nested_depth: memberUid of schema "rfc2307" holds no groups; "rfc2307bis" has groups in groups`)}
	}
	return nil
}

func (l *LDAP) checkNames() []error {
	var errs []error
	if l.BaseDN == "" {
		errs = append(errs, errors.New("ldap.base_dn is missing: where does the directory keep its people?"))
	}
	for _, s := range []struct{ name, value string }{{"base_dn", l.BaseDN}, {"user_base", l.UserBase}, {"group_base", l.GroupBase}, {"bind_dn", l.BindDN}} {
		// Active Directory takes user@domain as well as a DN to bind with.
		if s.name == "bind_dn" && !strings.Contains(s.value, "=") {
			continue
		}
		if _, err := goldap.ParseDN(s.value); err != nil {
			errs = append(errs, fmt.Errorf("ldap.%s %q is not a DN: %w", s.name, s.value, err))
		}
	}
	for _, s := range []struct{ name, value string }{{"user_filter", l.UserFilter}, {"group_filter", l.GroupFilter}} {
		if _, err := goldap.CompileFilter(s.value); err != nil {
			errs = append(errs, fmt.Errorf("ldap.%s %q: %w", s.name, s.value, err))
		}
	}
	for _, s := range []struct{ name, value string }{{"user_attribute", l.UserAttribute}, {"group_attribute", l.GroupAttribute}, {"member_attribute", l.MemberAttribute}} {
		if !attribute.MatchString(s.value) {
			errs = append(errs, fmt.Errorf("ldap.%s %q is not the name of an attribute", s.name, s.value))
		}
	}
	for _, d := range l.Domains {
		if d == "" || strings.ContainsAny(d, "@\\ ") || strings.ContainsFunc(d, isControl) {
			errs = append(errs, fmt.Errorf("ldap.domains: %q is not a domain such as EXAMPLE or example.org", d))
		}
	}
	return errs
}

func (l *LDAP) checkNumbers() []error {
	var errs []error
	for _, n := range []struct {
		name       string
		value      int
		least, top int
	}{
		{"nested_depth", l.NestedDepth, 0, 32}, {"max_groups", l.MaxGroups, 1, 10000}, {"cache_size", l.CacheSize, 1, 1 << 20},
	} {
		if n.value < n.least || n.value > n.top {
			errs = append(errs, fmt.Errorf("ldap.%s is %d; it may be %d to %d", n.name, n.value, n.least, n.top))
		}
	}
	for _, d := range []struct {
		name       string
		value      time.Duration
		least, top time.Duration
	}{
		{"cache_max_age", l.CacheMaxAge, time.Second, 24 * time.Hour},
		{"cache_negative", l.CacheNegative, time.Second, time.Hour},
		{"cache_stale", l.CacheStale, 0, 7 * 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.top {
			errs = append(errs, fmt.Errorf("ldap.%s is %s; it may be %s to %s", d.name, d.value, d.least, d.top))
		}
	}
	return errs
}

// parseLDAPServer reads ldaps://HOST[:PORT], ldap://HOST[:PORT] or
// ldapi://PATH, the path percent-encoded. What goes over a network is encrypted:
// whoever can change the answers decides who is in which group.
func parseLDAPServer(s string, startTLS bool) (LDAPServer, error) {
	if rest, ok := strings.CutPrefix(s, "ldapi://"); ok {
		path, err := url.PathUnescape(strings.TrimSuffix(rest, "/"))
		if err != nil || !strings.HasPrefix(path, "/") || len(path) > 107 {
			return LDAPServer{}, fmt.Errorf("%q is not an address such as ldapi://%%2Frun%%2Fslapd%%2Fldapi", s)
		}
		return LDAPServer{URL: s, Network: "unix", Address: path}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return LDAPServer{}, fmt.Errorf("%q is not an address such as ldaps://HOST, ldap://HOST or ldapi://PATH; the base stands in base_dn", s)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	}
	server := LDAPServer{URL: s, Network: "tcp", Address: net.JoinHostPort(u.Hostname(), port), Host: u.Hostname(), TLS: u.Scheme == "ldaps"}
	if server.TLS || startTLS {
		return server, nil
	}
	// A name, even localhost, may lead elsewhere.
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && addr.Unmap().IsLoopback() {
		return server, nil
	}
	return LDAPServer{}, fmt.Errorf("%q is not encrypted, and whoever changes the answers on their way decides who is in which group: write ldaps:// or start_tls = true (only 127.0.0.1 and ::1 may do without)", s)
}

// ReadPassword reads bind_password_file, for those who have not used Load.
func (l *LDAP) ReadPassword() error {
	if l.BindPasswordFile == "" {
		return nil
	}
	text, err := secretFile("ldap.bind_password_file", l.BindPasswordFile)
	if err != nil {
		return err
	}
	// A bind with an empty password succeeds as nobody, RFC 4513 section 5.1.2.
	if l.password = strings.TrimRight(string(text), "\r\n"); l.password == "" {
		return fmt.Errorf("ldap.bind_password_file: %s is empty", l.BindPasswordFile)
	}
	return nil
}

func (c *Config) ldapWarnings() []string {
	if !c.LDAP.Configured() {
		return nil
	}
	var out []string
	if c.LDAP.BindDN == "" {
		out = append(out, "ldap: without bind_dn the directory is asked anonymously; groups and people that it hides from strangers count as missing")
	}
	if c.LDAP.CacheStale > time.Hour {
		out = append(out, fmt.Sprintf("ldap: cache_stale = %q lets who was taken out of a group keep what rules give it for that long, while the directory is away", c.LDAP.CacheStale))
	}
	return out
}
