// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"testing"
)

func TestTimeBasedToken(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "totp")
		secret := p.totp(t)
		v := d.knock(t, p)
		v.answers(totpNow(t, secret))
		v.comesIn()
		p.lastEvent(t, event{Result: "success", Reason: "valid_passcode"})
	})
}

func TestCounterBasedToken(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "hotp")
		token := p.hotp(t)
		for range 2 {
			v := d.knock(t, p)
			v.answers(token.next())
			v.comesIn()
		}
		// Someone has played with the button.
		token.next()
		token.next()
		v := d.knock(t, p)
		v.answers(token.next())
		v.comesIn()
	})
}

// A bypass code is good once.
func TestBypassCode(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "bypass")
		code := p.bypassCodes(t, 2)[0]
		v := d.knock(t, p)
		v.answers(code)
		v.comesIn()
		p.lastEvent(t, event{Result: "success", Reason: "valid_passcode", Factor: "bypass_code"})

		v = d.knock(t, p)
		v.answers(code)
		v.expect(asksFactor)
		v.leaves()
	})
}

// Three wrong codes end the visit; the right one as the third lets in.
func TestWrongCodes(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "wrong")
		token := p.hotp(t)
		v := d.knock(t, p)
		v.answers(token.wrong())
		v.answers(token.wrong())
		v.answers(token.wrong())
		v.isRefused()
		p.lastEvent(t, event{Result: "denied", Reason: "invalid_passcode"})

		v = d.knock(t, p)
		v.answers(token.wrong())
		v.answers(token.wrong())
		v.answers(token.next())
		v.comesIn()
	})
}

// A code that someone has looked at over the shoulder is of no use.
func TestSameCodeTwice(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "twice")
		secret := p.totp(t)
		code := totpNow(t, secret)
		v := d.knock(t, p)
		v.answers(code)
		v.comesIn()

		v = d.knock(t, p)
		v.answers(code)
		v.expect(asksFactor)
		v.leaves()
	})
}

// Two who type the same code in the same moment: one comes in.
func TestSameCodeAtOnce(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "atonce")
		token := p.hotp(t)
		visits := []*visit{d.knock(t, p), d.knock(t, p)}
		for _, v := range visits {
			v.expect(asksFactor)
		}
		code := token.next()
		for _, v := range visits {
			v.types(code)
		}
		in, again := 0, 0
		for _, v := range visits {
			switch v.expect(isIn + "|" + asksFactor)[0] {
			case isIn:
				in++
				v.leaves()
			default:
				again++
				v.leaves()
			}
		}
		if in != 1 || again != 1 {
			t.Errorf("%d came in and %d were asked again, want one each", in, again)
		}
	})
}

// A passcode in the environment saves the question, where the rules permit it.
func TestPasscodeFromEnvironment(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"SALLYPORT_PASSCODE", "DUO_PASSCODE"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := town.person(t, "env")
			token := p.hotp(t)
			v := p.sudo(t, name+"="+token.next())
			v.comesIn()
			v = p.su(t, name+"="+token.next())
			v.comesIn()
			// A wrong one costs an attempt, and then the person is asked.
			v = p.sudo(t, name+"="+token.wrong())
			v.answers(token.next())
			v.comesIn()
		})
	}
}
