// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

// userEntry is a person in the directory; dn is empty for nobody.
type userEntry struct {
	dn         string
	attributes map[string][]string // by name in lower case
	primary    string              // filter that finds the primary group, or empty
}

func (u userEntry) found() bool { return u.dn != "" }

// groupEntry is a group in the directory; dn is empty for none.
type groupEntry struct{ dn string }

func (g groupEntry) found() bool { return g.dn != "" }

// membership is the set of groups that a person is in.
type membership struct {
	known  bool            // the directory has the person
	groups map[string]bool // by DN, as canonical writes it
	cut    bool            // there are groups beyond nested_depth
}

func (m membership) found() bool { return m.known }

// query asks one question of whichever server answers.
type query func(*goldap.SearchRequest) (*goldap.SearchResult, error)

func (c *Client) query(ctx context.Context) query {
	return func(req *goldap.SearchRequest) (*goldap.SearchResult, error) { return c.search(ctx, req) }
}

func (c *Client) timeLimit() int { return max(1, int(c.opt.Timeout.Seconds())) }

// request is a search below base for entries that match both filters, of which
// the second holds nothing but escaped values.
func (c *Client) request(base, filter, and string, limit int, attributes ...string) *goldap.SearchRequest {
	req := goldap.NewSearchRequest(base, goldap.ScopeWholeSubtree, goldap.NeverDerefAliases, limit, c.timeLimit(), false,
		"(&"+filter+and+")", attributes, nil)
	req.EnforceSizeLimit = true
	return req
}

// equals is the filter that finds one value.
func equals(attribute, value string) string {
	return "(" + attribute + "=" + goldap.EscapeFilter(value) + ")"
}

func (c *Client) findUser(ctx context.Context, name string) (userEntry, error) {
	return c.userBy(name, c.query(ctx))
}

func (c *Client) userBy(name string, ask query) (userEntry, error) {
	want := append([]string{c.set.UserAttribute, "gidNumber"}, c.opt.Attributes...)
	if c.set.Schema == config.SchemaAD {
		want = append([]string{c.set.UserAttribute, "objectSid", "primaryGroupID"}, c.opt.Attributes...)
	}
	found, err := ask(c.request(c.set.UserBase, c.set.UserFilter, equals(c.set.UserAttribute, name), 2, want...))
	switch {
	case isSizeLimit(err) || err == nil && len(found.Entries) > 1:
		return userEntry{}, fmt.Errorf("the directory has more than one person with %s %q", c.set.UserAttribute, name)
	case err != nil:
		return userEntry{}, err
	case len(found.Entries) == 0:
		return userEntry{}, nil
	}
	e := found.Entries[0]
	// Servers compare without regard to case and outer blanks; the name service
	// of this host does not.
	if !slices.ContainsFunc(e.GetEqualFoldAttributeValues(c.set.UserAttribute), func(v string) bool { return c.sameName(v, name) }) {
		return userEntry{}, fmt.Errorf("the directory calls %q another name: %q", name, e.GetEqualFoldAttributeValues(c.set.UserAttribute))
	}
	u := userEntry{dn: e.DN, attributes: map[string][]string{}, primary: c.primaryGroup(e)}
	for _, name := range c.opt.Attributes {
		u.attributes[strings.ToLower(name)] = e.GetEqualFoldAttributeValues(name)
	}
	return u, nil
}

func (c *Client) sameName(a, b string) bool {
	if c.set.Schema == config.SchemaAD {
		return strings.EqualFold(a, b)
	}
	return a == b
}

// primaryGroup is the filter for the group that no member attribute names.
func (c *Client) primaryGroup(e *goldap.Entry) string {
	if c.set.Schema != config.SchemaAD {
		if gid := e.GetEqualFoldAttributeValue("gidNumber"); gid != "" {
			return equals("gidNumber", gid)
		}
		return ""
	}
	// The primary group of an account is in its domain: same SID, other last number.
	sid := []byte(e.GetEqualFoldAttributeValue("objectSid"))
	rid, err := strconv.ParseUint(e.GetEqualFoldAttributeValue("primaryGroupID"), 10, 32)
	if err != nil || len(sid) < 12 {
		return ""
	}
	binary.LittleEndian.PutUint32(sid[len(sid)-4:], uint32(rid))
	return equals("objectSid", string(sid))
}

// findGroup finds a group by its DN or by its name.
func (c *Client) findGroup(ctx context.Context, group string) (groupEntry, error) {
	req := c.request(c.set.GroupBase, c.set.GroupFilter, equals(c.set.GroupAttribute, group), 2, "1.1")
	if isDN(group) {
		req = c.request(group, c.set.GroupFilter, "", 1, "1.1")
		req.Scope = goldap.ScopeBaseObject
	}
	found, err := c.search(ctx, req)
	switch {
	case isDN(group) && goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject):
		return groupEntry{}, nil
	case isSizeLimit(err) || err == nil && len(found.Entries) > 1:
		return groupEntry{}, fmt.Errorf("the directory has more than one group with %s %q; write its DN", c.set.GroupAttribute, group)
	case err != nil || len(found.Entries) == 0:
		return groupEntry{}, err
	}
	return groupEntry{canonical(found.Entries[0].DN)}, nil
}

// isDN tells a DN from the name of a group.
func isDN(group string) bool {
	dn, err := goldap.ParseDN(group)
	return err == nil && len(dn.RDNs) > 1
}

// canonical writes a DN so that two spellings of one are the same text.
func canonical(dn string) string {
	if parsed, err := goldap.ParseDN(dn); err == nil {
		dn = parsed.String()
	}
	return strings.ToLower(dn)
}

// filterChunk bounds how many groups one question names.
const filterChunk = 50

// findGroups walks from a person up through the groups. Every group is asked for
// once, so that groups which contain each other end the walk.
func (c *Client) findGroups(ctx context.Context, name string) (membership, error) {
	u, err := c.user(ctx, name)
	if err != nil || !u.found() {
		return membership{}, err
	}
	member := u.dn
	if c.set.Schema == config.SchemaRFC2307 {
		member = name
	}
	m := membership{known: true, groups: map[string]bool{}}
	level, err := c.parents(ctx, equals(c.set.MemberAttribute, member)+u.primary)
	for depth := 0; err == nil; depth++ {
		var unseen []string
		for _, dn := range level {
			if key := canonical(dn); !m.groups[key] {
				if depth > c.set.NestedDepth {
					m.cut = true
					return m, nil
				}
				m.groups[key] = true
				unseen = append(unseen, dn)
			}
		}
		if len(m.groups) > c.set.MaxGroups {
			return membership{}, fmt.Errorf("%q is in more than max_groups (%d) groups", name, c.set.MaxGroups)
		}
		if len(unseen) == 0 || c.set.NestedDepth == 0 {
			return m, nil
		}
		level, err = c.parentsOf(ctx, unseen)
	}
	return membership{}, err
}

// parentsOf finds the groups that have one of these as a member.
func (c *Client) parentsOf(ctx context.Context, groups []string) ([]string, error) {
	var out []string
	for chunk := range slices.Chunk(groups, filterChunk) {
		var anyOf strings.Builder
		for _, dn := range chunk {
			anyOf.WriteString(equals(c.set.MemberAttribute, dn))
		}
		parents, err := c.parents(ctx, anyOf.String())
		if err != nil {
			return nil, err
		}
		out = append(out, parents...)
	}
	return out, nil
}

// parents finds the groups that match one of these filters.
func (c *Client) parents(ctx context.Context, anyOf string) ([]string, error) {
	found, err := c.search(ctx, c.request(c.set.GroupBase, c.set.GroupFilter, "(|"+anyOf+")", c.set.MaxGroups, "1.1"))
	if isSizeLimit(err) {
		return nil, fmt.Errorf("the directory has more groups for one person than max_groups (%d), or than it gives out at once: %w", c.set.MaxGroups, err)
	}
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(found.Entries))
	for _, e := range found.Entries {
		out = append(out, e.DN)
	}
	return out, nil
}

func isSizeLimit(err error) bool {
	return goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded) || errors.Is(err, goldap.ErrSizeLimitExceeded)
}
