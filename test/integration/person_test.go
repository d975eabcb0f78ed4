// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// person has an account on the host with password and key, and is known to the
// verifier where [site.person] made them.
type person struct {
	site     *site
	name     string
	password string
	key      string // private key in PEM
}

// stranger makes an account on the host that the verifier does not know. The
// name begins with what it is for.
func (s *site) stranger(t *testing.T, what string) *person {
	t.Helper()
	s.mu.Lock()
	s.people[what]++
	p := &person{site: s, name: fmt.Sprintf("%s%d", what, s.people[what])}
	s.mu.Unlock()
	p.password = "password of " + p.name
	private, public := newKey(t)
	p.key = private
	_, err := s.host.Shell(t.Context(), fmt.Sprintf(`
flock /run/useradd.lock useradd --create-home --shell /bin/bash --groups people %[1]s
echo '%[1]s:%[2]s' | chpasswd
install -d -o %[1]s -g %[1]s -m 700 /home/%[1]s/.ssh
echo '%[3]s' > /home/%[1]s/.ssh/authorized_keys
`, p.name, p.password, public))
	must(t, err)
	file := harness.File{Path: "/root/keys/" + p.name, Mode: 0o600, Data: []byte(private)}
	must(t, s.client.Put(t.Context(), file))
	must(t, s.elsewhere.Put(t.Context(), file))
	return p
}

// person makes an account whose owner the verifier knows, without a factor.
func (s *site) person(t *testing.T, what string, options ...string) *person {
	t.Helper()
	p := s.stranger(t, what)
	s.admin(t, nil, append([]string{"user", "add", p.name}, options...)...)
	return p
}

func newKey(t *testing.T) (private, authorized string) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(secret, "")
	must(t, err)
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// joins makes the person a member of a Unix group.
func (p *person) joins(t *testing.T, group string) {
	t.Helper()
	_, err := p.site.host.Must(t.Context(), "flock", "/run/useradd.lock", "gpasswd", "--add", p.name, group)
	must(t, err)
}

// codes is a token in its owner's hand.
type codes struct {
	t       *testing.T
	secret  string
	counter uint64
}

// newToken is what `sallyport admin token add --json` prints.
type newToken struct {
	TokenID string `json:"token_id"`
	Serial  string `json:"serial"`
	Secret  string `json:"secret"`
	URI     string `json:"uri"`
}

// token gives the person a token of a type that is made at the verifier.
func (p *person) token(t *testing.T, kind string) (token newToken) {
	t.Helper()
	p.site.admin(t, &token, "token", "add", "--user", p.name, "--type", kind)
	return token
}

// hotp gives the person a counter-based token.
func (p *person) hotp(t *testing.T) *codes {
	t.Helper()
	return &codes{t: t, secret: p.token(t, "hotp").Secret}
}

// next is the code that the token shows when its button is pressed.
func (c *codes) next() string {
	c.t.Helper()
	code := c.shown()
	c.counter++
	return code
}

// shown is the code that next would return, without pressing the button.
func (c *codes) shown() string {
	c.t.Helper()
	code, err := hotp.GenerateCode(c.secret, c.counter)
	must(c.t, err)
	return code
}

// wrong is a code that the token does not show soon.
func (c *codes) wrong() string {
	c.t.Helper()
	digits := []byte(c.shown())
	for i, d := range digits {
		digits[i] = '0' + (d-'0'+5)%10
	}
	return string(digits)
}

// totp gives the person a time-based token and returns its secret.
func (p *person) totp(t *testing.T) string {
	t.Helper()
	return p.token(t, "totp").Secret
}

// totpNow is the code that a time-based token shows.
func totpNow(t *testing.T, secret string) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now())
	must(t, err)
	return code
}

// bypassCodes gives the person one-time codes.
func (p *person) bypassCodes(t *testing.T, count int) []string {
	t.Helper()
	var codes []string
	p.site.admin(t, &codes, "bypass-codes", "add", p.name, "--count", strconv.Itoa(count))
	if len(codes) != count {
		t.Fatalf("asked for %d bypass codes, got %d", count, len(codes))
	}
	return codes
}

func (p *person) setStatus(t *testing.T, status string) {
	t.Helper()
	p.site.admin(t, nil, "user", "set", p.name, "--status", status)
}

func (p *person) status(t *testing.T) string {
	t.Helper()
	var user struct{ Status string }
	p.site.admin(t, &user, "user", "show", p.name)
	return user.Status
}

// event is one line of the verifier's authentication log, as far as a test
// looks at it.
type event struct {
	Result string `json:"result"`
	Reason string `json:"reason"`
	Factor string `json:"factor"`
}

// events is what the verifier's log says of the person, oldest first.
func (p *person) events(t *testing.T) []event {
	t.Helper()
	var events []event
	p.site.admin(t, &events, "log", "auth", "--user", p.name)
	return events
}

// lastEvent asserts what the newest event says; an empty field is not compared.
func (p *person) lastEvent(t *testing.T, want event) {
	t.Helper()
	events := p.events(t)
	if len(events) == 0 {
		t.Fatalf("the log has no event of %s", p.name)
	}
	got := events[len(events)-1]
	if want.Reason == "" {
		got.Reason = ""
	}
	if want.Factor == "" {
		got.Factor = ""
	}
	if got != want {
		t.Errorf("the log says %+v, want %+v", got, want)
	}
}

// decision is authd's log event of a login, as far as a test looks at it.
type decision struct {
	User    string `json:"user"`
	Service string `json:"service"`
	Result  string `json:"result"`
	Reason  string `json:"reason"`
	Setting string `json:"setting"`
	Error   string `json:"error"`
	// Cause and CauseSetting say what an outage looked like.
	Cause        string `json:"cause"`
	CauseSetting string `json:"cause_setting"`
}

// decisions is what authd's log says of the person's logins.
func (p *person) decisions(t *testing.T) []decision {
	t.Helper()
	log, err := p.site.host.Log(t.Context(), "authd")
	must(t, err)
	var found []decision
	for line := range strings.Lines(log) {
		var d struct {
			Event string `json:"event"`
			Hook  string `json:"hook"`
			decision
		}
		if json.Unmarshal([]byte(line), &d) == nil && d.Event == "login" && d.Hook == "authenticate" && d.User == p.name {
			found = append(found, d.decision)
		}
	}
	return found
}

// lastDecision asserts reason, setting and a part of the error of the newest one.
func (p *person) lastDecision(t *testing.T, want decision) {
	t.Helper()
	all := p.decisions(t)
	if len(all) == 0 {
		t.Errorf("authd's log has no login of %s, want %+v", p.name, want)
		return
	}
	got := all[len(all)-1]
	if got.Reason != want.Reason || want.Setting != "" && got.Setting != want.Setting ||
		want.Cause != "" && got.Cause != want.Cause || want.CauseSetting != "" && got.CauseSetting != want.CauseSetting ||
		!strings.Contains(got.Error, want.Error) {
		t.Errorf("authd's log says %+v, want %+v", got, want)
	}
}
