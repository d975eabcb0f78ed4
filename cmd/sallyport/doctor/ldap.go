// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/directory/ldap"
	"github.com/sallyport-mfa/sallyport/authd/person"
)

// examineDirectory asks each server of the directory as authd would, and looks
// for the people that it was told of.
func (h *Host) examineDirectory(ctx context.Context, c *config.Config) []Finding {
	r := &report{area: "ldap"}
	if c == nil || !c.LDAP.Configured() {
		return nil
	}
	if c.LDAP.BindPasswordFile != "" && c.LDAP.Password() == "" {
		r.warn("ldap", "not looked at: bind_password_file cannot be read", "run as root")
		return r.findings
	}
	client, err := ldap.New(ldap.Options{Settings: c.LDAP, Attributes: c.LDAPAttributes(), Timeout: c.Timeouts.LDAP, Now: h.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.fail("ldap", err.Error(), "correct ldap.ca_file")
		return r.findings
	}
	defer client.Close()
	user := ""
	for _, u := range h.Users {
		if u != "root" {
			user = u
		}
	}
	for _, s := range client.Check(ctx, user) {
		switch {
		case s.Err != nil:
			r.fail(s.URL, "it gives no answer; what only it knows is unknown to the rules: "+s.Err.Error(), fixDirectory(s.Err))
		case user == "":
			r.ok(s.URL, "it answers, and takes this host's bind_dn (--user NAME looks for a person)")
		case s.User == "":
			r.warn(s.URL, fmt.Sprintf("it answers, and has no person %q: to the rules they are in no group", user), "check user_base, user_filter and what bind_dn may read, if they should be there")
		default:
			r.ok(s.URL, fmt.Sprintf("it answers, and %q is %s", user, s.User))
		}
	}
	return r.findings
}

// fixDirectory says what to do about a server that gives no answer.
func fixDirectory(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	text := err.Error()
	switch {
	case errors.As(err, &authority) || strings.Contains(text, "unknown authority"):
		return "ldap.ca_file must hold the CA that signed the server's certificate"
	case errors.As(err, &name) || strings.Contains(text, "certificate is valid for"):
		return "ldap.urls must name the server as its certificate does"
	case strings.Contains(text, "bind_dn"):
		return "correct ldap.bind_dn or the password in bind_password_file; authd asks such a server once a minute, so that the account is not locked"
	case strings.Contains(text, "base_dn"):
		return "correct ldap.base_dn, or what bind_dn may read"
	}
	return "check that the server runs and that nothing blocks the way to it"
}

// examineMappings names those that take what users may write.
func (h *Host) examineMappings(r *report, c *config.Config) {
	guard := person.GECOS{Root: h.Root}
	for name, m := range c.Mappings() {
		if err := guard.Writable(m); err != nil {
			r.fail("services."+name, err.Error()+"; logins that need it are denied", "map by an LDAP attribute or another piece")
		}
	}
}
