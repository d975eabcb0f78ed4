// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"strings"
	"testing"
)

// A key and a passcode let in to a target, by each way: named behind the percent sign,
// and by a jump, whether it is carried unseen or looked into.
func TestGatewayFirstLogin(t *testing.T) {
	s := harbour(t)
	t.Parallel()
	p := s.member(t, "first")
	token := p.hotp(t)
	for what, v := range map[string]func() *visit{
		"terminated, by name":  func() *visit { return p.through(t, "db1") },
		"terminated, by alias": func() *visit { return p.through(t, deploy+"@postgres") },
		"a jump, raw":          func() *visit { return p.jumps(t, p.name, "web1") },
		"a jump, looked into":  func() *visit { return p.jumps(t, p.name, "db1") },
	} {
		t.Run(what, func(t *testing.T) {
			v := v().as(t)
			v.answers(token.next())
			v.comesIn()
			p.lastEvent(t, event{Result: "success"})
			s.wantEvent(t, p, "gw_login", map[string]string{"method": "publickey", "factor": "authd"})
		})
	}
}

// The wrong passcode keeps out, and the person reads what to do.
func TestGatewayWrongPasscode(t *testing.T) {
	s := harbour(t)
	t.Parallel()
	p := s.member(t, "wrongcode")
	token := p.hotp(t)
	v := p.through(t, "db1")
	for range 3 {
		v.answers(token.wrong())
	}
	v.isRefused()
	s.wantEvent(t, p, "gw_login_refused", nil)
	if strings.Contains(v.terminal.Screen(), isIn) {
		t.Error("let in")
	}
}
