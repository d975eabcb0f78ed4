// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import "testing"

// under puts a policy on a group of this person alone, at the host.
func (p *person) under(t *testing.T, flags ...string) {
	t.Helper()
	var hosts []struct {
		Name string `json:"name"`
		Key  string `json:"integration_key"`
	}
	p.site.admin(t, &hosts, "host", "list")
	key := ""
	for _, h := range hosts {
		if h.Name == p.site.host.Name {
			key = h.Key
		}
	}
	p.site.admin(t, nil, "group", "add", p.name)
	p.site.admin(t, nil, "group", "add-user", p.name, p.name)
	p.site.admin(t, nil, append([]string{"policy", "add", p.name}, flags...)...)
	p.site.admin(t, nil, "policy", "apply", p.name, "--integration", key, "--group", p.name)
}

// What policy says holds at every door, and the person reads which it was.
func TestPolicyAtTheDoor(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		denied := town.person(t, "poldeny")
		denied.hotp(t)
		denied.under(t, "--auth", "deny")
		v := d.knock(t, denied)
		v.isRefused()
		v.hasRead("policy lets nobody in here")
		denied.lastEvent(t, event{Result: "denied", Reason: "denied_by_policy"})

		bypassed := town.person(t, "polbypass")
		bypassed.hotp(t)
		bypassed.under(t, "--auth", "bypass")
		d.knock(t, bypassed).comesIn()
		bypassed.lastEvent(t, event{Result: "success", Reason: "allowed_by_policy"})

		// A token is not among the methods, a bypass code always is.
		limited := town.person(t, "polmethods")
		token := limited.hotp(t)
		limited.under(t, "--allow-method", "duo-push")
		v = d.knock(t, limited)
		v.answers(token.next())
		v.answers(limited.bypassCodes(t, 1)[0])
		v.comesIn()
		v.hasRead("Policy does not allow this kind of passcode here.")
		limited.lastEvent(t, event{Result: "success", Reason: "valid_passcode", Factor: "bypass_code"})
	})
}

// A network without a second factor is the one that sshd has seen the person come from.
func TestPolicyTrustedNetwork(t *testing.T) {
	t.Parallel()
	p := town.person(t, "polnet")
	p.hotp(t)
	p.under(t, "--no-2fa-network", "0.0.0.0/0,::/0")
	p.ssh(t, town.client, "22").comesIn()
	p.lastEvent(t, event{Result: "success", Reason: "trusted_network", Factor: "trusted_network"})
	p.site.admin(t, nil, "policy", "set", p.name, "--blocked-network", "0.0.0.0/0,::/0")
	v := p.ssh(t, town.client, "22")
	v.isRefused()
	v.hasRead("policy lets nobody in from this network")
}
