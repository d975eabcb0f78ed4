// SPDX-License-Identifier: Apache-2.0

// Package ldap asks a directory (OpenLDAP, Active Directory and their like,
// RFC 4511) which groups a person is in and what it says of them, and remembers
// the answers for a while. It never writes to the directory, never checks a
// person's password, and never takes silence for a no.
package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/invite"
)

// maxPacket bounds one message of a server, in bytes. Entries are asked for with
// few attributes, so that real ones are far smaller.
const maxPacket = 1 << 20

func init() { ber.MaxPacketLengthBytes = maxPacket }

// Options is what New needs.
type Options struct {
	Settings   config.LDAP
	Attributes []string // that Attribute will be asked for
	Timeout    time.Duration
	Now        func() time.Time
	Log        *slog.Logger
}

// Client asks one directory. It is safe for concurrent use.
type Client struct {
	opt     Options
	set     config.LDAP
	cache   *cache
	servers []*server
	slots   chan struct{}
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
}

// maxQueries bounds how many questions are with the directory at once.
const maxQueries = 8

// errTimeout is the cause of a question that took too long.
var errTimeout = errors.New("ldap_timeout ran out")

// New makes a client; it connects to nobody yet. It fails where ca_file cannot
// be used.
func New(opt Options) (*Client, error) {
	base := &tls.Config{MinVersion: tls.VersionTLS12}
	if path := opt.Settings.CAFile; path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read ldap.ca_file: %w", err)
		}
		if base.RootCAs, err = invite.ParseCA(text); err != nil {
			return nil, fmt.Errorf("read ldap.ca_file %s: %w", path, err)
		}
	}
	c := &Client{opt: opt, set: opt.Settings, slots: make(chan struct{}, maxQueries)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.cache = newCache(c, opt.Settings.CacheSize)
	for _, s := range opt.Settings.Servers() {
		conf := base.Clone()
		conf.ServerName = s.Host
		c.servers = append(c.servers, &server{LDAPServer: s, client: c, tls: conf, startTLS: opt.Settings.StartTLS && s.Network == "tcp" && !s.TLS})
	}
	return c, nil
}

// Close ends the questions under way and the connections.
func (c *Client) Close() {
	c.stop()
	for _, s := range c.servers {
		s.closeIdle()
	}
}

// InGroup says whether the person with that Unix name is in a group, directly or
// through groups in groups up to nested_depth. group is the name of a group or
// its DN. A person whom the directory does not have is in none. Whatever else
// leaves the answer open is an error, not a no: a group that is not there, a name
// that two groups have, a nesting deeper than nested_depth, a directory that is
// away for longer than the cache holds.
func (c *Client) InGroup(ctx context.Context, user, group string) (bool, error) {
	in, err := c.inGroup(ctx, user, group)
	if err != nil {
		return false, fmt.Errorf("look up whether %q is in LDAP group %q: %w", user, group, err)
	}
	return in, nil
}

func (c *Client) inGroup(ctx context.Context, user, group string) (bool, error) {
	name, err := c.lookupName(user)
	if err != nil {
		return false, err
	}
	g, err := cached(ctx, c.cache, "group "+group, func(ctx context.Context) (groupEntry, error) { return c.findGroup(ctx, group) })
	if err != nil {
		return false, err
	}
	if g.dn == "" {
		return false, errors.New("the directory has no such group")
	}
	m, err := cached(ctx, c.cache, "groups of "+name, func(ctx context.Context) (membership, error) { return c.findGroups(ctx, name) })
	if err != nil {
		return false, err
	}
	switch {
	case m.groups[g.dn]:
		return true, nil
	case !m.known && hasDomain(name):
		return false, errNoDomain
	case m.cut:
		return false, fmt.Errorf("groups are nested deeper than nested_depth %d", c.set.NestedDepth)
	}
	return false, nil
}

// Attribute is the one value of an attribute, which must be one of
// Options.Attributes, of the person with that Unix name. The error wraps
// directory.ErrNoValue where the directory has answered, and there is none or
// more than one.
func (c *Client) Attribute(ctx context.Context, user, attribute string) (string, error) {
	value, err := c.attribute(ctx, user, attribute)
	if err != nil {
		return "", fmt.Errorf("look up LDAP attribute %q of %q: %w", attribute, user, err)
	}
	return value, nil
}

func (c *Client) attribute(ctx context.Context, user, attribute string) (string, error) {
	name, err := c.lookupName(user)
	if err != nil {
		return "", err
	}
	u, err := c.user(ctx, name)
	if err != nil {
		return "", err
	}
	values := u.attributes[strings.ToLower(attribute)]
	switch {
	case u.dn == "" && hasDomain(name):
		return "", errNoDomain
	case u.dn == "":
		return "", fmt.Errorf("%w: it has no such person", directory.ErrNoValue)
	case len(values) != 1:
		return "", fmt.Errorf("%w: it has %d values, not one", directory.ErrNoValue, len(values))
	}
	return values[0], nil
}

func (c *Client) user(ctx context.Context, name string) (userEntry, error) {
	return cached(ctx, c.cache, "user "+name, func(ctx context.Context) (userEntry, error) { return c.findUser(ctx, name) })
}

var errNoDomain = errors.New("the name has a domain part that ldap.domains does not name, so this directory cannot say who that is")

// lookupName is the name that the directory knows a person by: without the domain
// part, if that is one of its own.
func (c *Client) lookupName(user string) (string, error) {
	if user == "" || strings.ContainsFunc(user, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return "", fmt.Errorf("%q is no name", user)
	}
	name, domain := directory.SplitDomain(user)
	for _, d := range c.set.Domains {
		if domain != "" && strings.EqualFold(d, domain) {
			return name, nil
		}
	}
	return user, nil
}

func hasDomain(name string) bool {
	_, domain := directory.SplitDomain(name)
	return domain != ""
}

// Check asks every server by itself: connects, binds, reads the base, and looks
// for the person, unless user is empty. It is for `sallyport doctor`: nothing is
// remembered.
func (c *Client) Check(ctx context.Context, user string) []ServerCheck {
	var out []ServerCheck
	for _, s := range c.servers {
		r := ServerCheck{URL: s.URL}
		ctx, cancel := context.WithTimeoutCause(ctx, c.opt.Timeout, errTimeout)
		conn, err := s.dial(ctx)
		if err == nil {
			r.Err = c.checkServer(ctx, conn, user, &r)
			conn.close()
		} else {
			r.Err = err
		}
		cancel()
		out = append(out, r)
	}
	return out
}

// ServerCheck is what Check has found out about a server.
type ServerCheck struct {
	URL  string
	User string // DN of the person; empty: not found, or not looked for
	Err  error  // what is wrong; nil: it answers
}

func (c *Client) checkServer(ctx context.Context, conn *conn, user string, r *ServerCheck) error {
	for _, base := range []struct{ name, dn string }{{"user_base", c.set.UserBase}, {"group_base", c.set.GroupBase}} {
		if _, err := conn.search(ctx, goldap.NewSearchRequest(base.dn, goldap.ScopeBaseObject, goldap.NeverDerefAliases, 1, c.timeLimit(), false, "(objectClass=*)", []string{"1.1"}, nil)); err != nil {
			return fmt.Errorf("read %s (base_dn) %q: %w", base.name, base.dn, err)
		}
	}
	name, err := c.lookupName(user)
	if user == "" || err != nil {
		return err
	}
	u, err := c.userBy(name, func(req *goldap.SearchRequest) (*goldap.SearchResult, error) { return conn.search(ctx, req) })
	r.User = u.dn
	return err
}
