// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/directory/ldap"
	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// ldapGroupsOf asks the directory of authd.toml about a user, as authd would. What
// it does not answer is unknown, and is said.
func (a *app) ldapGroupsOf(user string, conf *config.Config) func(context.Context, string) rules.Truth {
	if !conf.LDAP.Configured() {
		return nil
	}
	var client *ldap.Client // lives as long as the command
	err := conf.LDAP.ReadPassword()
	if err == nil {
		client, err = ldap.New(ldap.Options{Settings: conf.LDAP, Timeout: conf.Timeouts.LDAP, Now: a.Now, Log: slog.New(slog.DiscardHandler)})
	}
	return func(ctx context.Context, group string) rules.Truth {
		if err != nil {
			a.Notef("warning: LDAP is not asked: %v\n", err)
			return rules.Unknown
		}
		switch in, err := client.InGroup(ctx, user, group); {
		case err != nil:
			a.Notef("warning: %v\n", err)
			return rules.Unknown
		case in:
			return rules.True
		}
		return rules.False
	}
}
