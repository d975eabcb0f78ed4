// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"crypto/rand"
	"io"
	"log/slog"
	"mime/quotedprintable"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/mail"
	"github.com/sallyport-mfa/sallyport/verifier/server"
)

// mailed is a site whose mails become files.
type mailed struct {
	*site
	out  string
	mail *mail.Service
}

func newMailed(t *testing.T) *mailed {
	t.Helper()
	m := &mailed{out: t.TempDir()}
	m.site = newSiteWith(t, func(c *server.Config, l *login.Config) {
		var err error
		m.mail, err = mail.New(config.Mail{From: "sallyport@example.org", OutboxDir: m.out}, c.Store, c.Keys, c.Base, c.Now, rand.Reader,
			slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		c.Mail, c.Directory.Notices, l.Notices = m.mail, m.mail, m.mail
	})
	return m
}

// letter is a mail that went out.
type letter struct{ to, subject, text string }

// letters sends what waits and gives what went out since the last call.
func (m *mailed) letters() (out []letter) {
	m.t.Helper()
	m.must(m.mail.Deliver(m.t.Context()))
	files, err := filepath.Glob(filepath.Join(m.out, "*.eml"))
	m.must(err)
	for _, name := range files {
		f, err := os.Open(name)
		m.must(err)
		msg, err := netmail.ReadMessage(f)
		m.must(err)
		text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
		m.must(err)
		m.must(f.Close())
		m.must(os.Remove(name))
		out = append(out, letter{msg.Header.Get("To"), msg.Header.Get("Subject"), string(text)})
	}
	return out
}

// told asserts that one mail went out, with that subject.
func (m *mailed) told(subject string, texts ...string) letter {
	m.t.Helper()
	got := m.letters()
	if len(got) != 1 || got[0].subject != subject || got[0].to != "<alice@example.org>" {
		m.t.Fatalf("%d mails %+v, want one: %s", len(got), got, subject)
	}
	for _, text := range texts {
		if !strings.Contains(got[0].text, text) {
			m.t.Errorf("%s: it does not say %q: %s", subject, text, got[0].text)
		}
	}
	return got[0]
}

// TestPeopleAreMailed: each change of how a person can log in comes by mail.
func TestPeopleAreMailed(t *testing.T) {
	m := newMailed(t)
	var made struct {
		Link, Username string
		Mailed         bool
		Expires        int64
	}
	m.must(m.call(m.admin, "POST", "/sallyport/v1/admin/enrollment_links",
		params{"username": "alice", "email": "alice@example.org", "create": "1", "send": "1"}, &made))
	if !made.Mailed || made.Username != "alice" || made.Expires == 0 {
		t.Errorf("%+v", made)
	}
	m.told("Set up your second factor", made.Link)

	p := m.person()
	p.goes(p.post("/enroll/begin", "link", made.Link), "/enroll/setup")
	m.told("Your enrolment link was used", "127.0.0.1")
	p.addTOTP()
	m.told("Passcodes were set up for your account")
	codes := listed.FindAllStringSubmatch(p.post("/enroll/codes").text, -1)
	m.told("You have new recovery codes")
	p.goes(p.post("/enroll/finish", "saved", "yes"), "/enroll/done")
	if got := m.letters(); len(got) != 0 {
		t.Errorf("mails at the end: %+v", got)
	}

	var out struct{ Result string }
	m.must(m.call(m.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": codes[0][1], "ipaddr": "192.0.2.9", "hostname": "db1"}, &out))
	if out.Result != "allow" {
		t.Fatal(out)
	}
	m.told("A recovery code was used to log in", "Codes that are left: 9.", "192.0.2.9", "db1")
	m.must(m.call(m.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": codes[0][1]}, &out))
	if got := m.letters(); len(got) != 0 || out.Result != "deny" {
		t.Errorf("a code that was refused: %s, %+v", out.Result, got)
	}

	var users []struct {
		UserID string `json:"user_id"`
	}
	m.must(m.call(m.admin, "GET", "/admin/v1/users", params{"username": "alice"}, &users))
	_, phone := m.authenticator(users[0].UserID)
	m.told("A device can now approve your logins", "laptop (Linux)")
	m.must(m.dir.DeletePhone(t.Context(), directory.Actor{Name: "test"}, phone))
	m.told("A device was removed from your account", "laptop (Linux)")
}

// Duo's call answers an activation code as ever, and with an address mails a link.
func TestDuosEnrolMailsALink(t *testing.T) {
	m := newMailed(t)
	enrolls := func(p params) (string, error) {
		var code string
		return code, m.call(m.admin, "POST", "/admin/v1/users/enroll", p, &code)
	}
	code1, err := enrolls(params{"username": "alice", "email": "alice@example.org", "valid_secs": "3600"})
	if err != nil || !strings.HasPrefix(code1, "sa1.") {
		t.Fatalf("%q, %v", code1, err)
	}
	l := m.told("Set up your second factor")
	at := strings.Index(l.text, "https://")
	link, _, _ := strings.Cut(l.text[at:], "\n")
	p := m.person()
	p.goes(p.post("/enroll/begin", "link", strings.TrimSpace(link)), "/enroll/setup")
	m.told("Your enrolment link was used")
	if _, err := enrolls(params{"username": "alice"}); err != nil || len(m.letters()) != 0 {
		t.Errorf("without an address: %v", err)
	}
	if _, err := enrolls(params{"username": "alice", "email": "mallory@example.org"}); code(err) != 40002 || len(m.letters()) != 0 {
		t.Errorf("to another address than the user's: %v", err)
	}
	if _, err := enrolls(params{"username": "bob", "email": "bob"}); code(err) != 40002 {
		t.Errorf("to no address: %v", err)
	}
}
