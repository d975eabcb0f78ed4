// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// Several people turn into one account. sudo there asks whoever has logged in,
// as the kernel remembers it, for their own second factor.
func TestSharedAccount(t *testing.T) {
	owner, other, shared := town.person(t, "owner"), town.person(t, "other"), town.stranger(t, "shared")
	token, wrong := owner.hotp(t), other.hotp(t)
	before := town.authdConfig(t)
	t.Cleanup(func() { town.setAuthdConfig(t, before) })
	town.setAuthdConfig(t, strings.Replace(before, "[services.sudo]\n", "[services.sudo]\nperson = \"loginuid\"\n", 1))

	v := shared.sudoAfterLoginOf(t, owner)
	v.answers(token.next())
	v.comesIn()
	owner.lastDecision(t, decision{Reason: "passcode"})

	v = shared.sudoAfterLoginOf(t, owner)
	v.answers(wrong.next()) // of another who uses the account as well
	v.answers(token.next())
	v.comesIn()

	v = shared.sudoAfterLoginOf(t, nil)
	v.isRefused()
	log, err := town.host.Log(t.Context(), "authd")
	must(t, err)
	if want := `"reason":"no_loginuid","setting":"person"`; !strings.Contains(log, want) {
		t.Errorf("authd's log does not say %s", want)
	}
}

// sudoAfterLoginOf runs sudo as the shared account, in a session that the person
// has logged in to, or nobody.
func (p *person) sudoAfterLoginOf(t *testing.T, who *person) *visit {
	t.Helper()
	login := ""
	if who != nil {
		// What pam_loginuid does. The kernel takes it once in the life of a session.
		login = fmt.Sprintf("uid=$(id -u %s); echo $uid >/proc/self/loginuid || exit 99\n", who.name)
	}
	script := login + fmt.Sprintf("exec su %s --session-command \"sudo sh -c '%s'\"\n", p.name, strings.ReplaceAll(inside, "$", `\$`))
	v := p.visit(t, p.site.host, harness.Command{Args: []string{"/bin/sh", "-c", script}})
	v.expect(`password for \S+: $`)
	v.types(p.password)
	return v
}
