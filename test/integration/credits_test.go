// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"regexp"
	"strings"
	"testing"
)

// The last credit pays for one SMS. After it a person is offered neither calls nor
// SMS, is refused both, and comes in with a token; administrators are told.
func TestNoCreditsLeft(t *testing.T) {
	t.Parallel()
	s := ownSite(t)
	p := s.person(t, "broke")
	token, telephone := p.hotp(t), p.telephone(t)
	s.admin(t, nil, "telephony", "credits", "set", "1")
	v := p.ssh(t, s.client, "22")
	v.asksFor("sms")
	v.hasRead("SMS passcodes to")
	v.answers(regexp.MustCompile(`\b\d{7}\b`).FindString(telephone.rings().Text))
	v.comesIn()

	v = p.ssh(t, s.client, "22")
	v.expect(asksFactor)
	if screen := v.terminal.Screen(); strings.Contains(screen, "SMS") || strings.Contains(screen, "Phone call") {
		t.Errorf("the menu without credits:\n%s", screen)
	}
	v.types(token.next())
	v.comesIn()

	var log []struct{ Action string }
	s.admin(t, &log, "log", "admin")
	told := 0
	for _, e := range log {
		if e.Action == "telephony_credits_exhausted" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("administrators were told %d times", told)
	}
	var orders []struct {
		Type    string
		Credits int
	}
	s.admin(t, &orders, "log", "telephony")
	if len(orders) != 1 || orders[0].Type != "sms" || orders[0].Credits != 1 {
		t.Errorf("telephony log %+v", orders)
	}
}
