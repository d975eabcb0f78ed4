// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	netmail "net/mail"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
)

// post is a Service on a real store, with an outbox and a clock that the test sets.
type post struct {
	*Service
	t   *testing.T
	db  *sqlite.DB
	dir string

	mu  sync.Mutex
	now time.Time
}

func (p *post) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *post) later(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func newPost(t *testing.T) *post {
	t.Helper()
	tmp := t.TempDir()
	p := &post{t: t, dir: filepath.Join(tmp, "out"), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if p.db, err = sqlite.Open(t.Context(), filepath.Join(tmp, "v.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.db.Close() })
	keys, err := seal.Create(filepath.Join(tmp, "keys"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.open()
	c := config.Mail{From: "Sallyport <sallyport@example.org>", OutboxDir: p.dir, Timeout: config.Duration{Duration: time.Second}}
	p.Service, err = New(c, p.db, keys, &url.URL{Scheme: "https", Host: "verifier.example:8443"}, p.clock, rand.Reader, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p.update(func(w store.Writer) error {
		return errors.Join(
			w.AddUser(store.User{ID: "DU1", Username: "alice", Email: "alice@example.org", Status: store.Active}),
			w.AddUser(store.User{ID: "DU2", Username: "bob", Status: store.Active}),
			w.AddUser(store.User{ID: "DU3", Username: "eve", Email: "eve@example.org\r\nBcc: mallory@example.org", Status: store.Active}))
	})
	return p
}

// open makes the outbox; without it no mail can be sent.
func (p *post) open() {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) update(f func(store.Writer) error) {
	p.t.Helper()
	if err := p.db.Update(context.Background(), f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) deliver() {
	p.t.Helper()
	if err := p.Deliver(context.Background()); err != nil {
		p.t.Fatal(err)
	}
}

// sent reads the outbox.
func (p *post) sent() (mails []*netmail.Message, texts []string) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "*.eml"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			p.t.Fatal(err)
		}
		info, err := os.Stat(f)
		if err != nil || info.Mode().Perm() != 0o600 {
			p.t.Errorf("%s: mode %v, %v", f, info.Mode(), err)
		}
		m, err := netmail.ReadMessage(bytes.NewReader(raw))
		if err != nil {
			p.t.Fatal(err)
		}
		mails, texts = append(mails, m), append(texts, string(raw))
	}
	return mails, texts
}

func (p *post) waiting() (out []store.Mail) {
	p.t.Helper()
	err := p.db.View(context.Background(), func(r store.Reader) (err error) {
		out, err = r.DueMails(p.clock().Add(365*24*time.Hour), 100)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func TestNotify(t *testing.T) {
	p := newPost(t)
	p.update(func(w store.Writer) error {
		return p.Notify(w, "DU1", notice.AuthenticatorAdded, map[string]string{notice.Authenticator: "Pixel", notice.Platform: "Android", notice.Address: "192.0.2.7"})
	})
	for _, m := range p.waiting() {
		if bytes.Contains(m.Sealed, []byte("alice")) || bytes.Contains(m.Sealed, []byte("Pixel")) {
			t.Error("the store can read the mail")
		}
	}
	if mails, _ := p.sent(); len(mails) != 0 {
		t.Error("it was sent in the update")
	}
	p.deliver()
	p.deliver()
	mails, texts := p.sent()
	if len(mails) != 1 || len(p.waiting()) != 0 {
		t.Fatalf("%d mails, %d waiting", len(mails), len(p.waiting()))
	}
	for header, want := range map[string]string{
		"To": "<alice@example.org>", "From": `"Sallyport" <sallyport@example.org>`, "Subject": "A device can now approve your logins",
		"Auto-Submitted": "auto-generated", "Date": "Sun, 01 Mar 2026 12:00:00 +0000",
	} {
		if got := mails[0].Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	if !strings.HasSuffix(mails[0].Header.Get("Message-Id"), "@verifier.example>") {
		t.Error(mails[0].Header.Get("Message-Id"))
	}
	for _, want := range []string{"Hello alice,", "1 March 2026, 12:00 UTC", "Pixel (Android)", "192.0.2.7", "Contact your administrator."} {
		if !strings.Contains(texts[0], want) {
			t.Errorf("it does not say %q: %s", want, texts[0])
		}
	}
}

// Who has no address, or one that is none, is not told, and nothing else fails.
func TestNobodyToTell(t *testing.T) {
	p := newPost(t)
	p.update(func(w store.Writer) error {
		return errors.Join(p.Notify(w, "DU2", notice.LinkUsed, nil), p.Notify(w, "DU3", notice.LinkUsed, nil))
	})
	if n := len(p.waiting()); n != 0 {
		t.Errorf("%d mails wait", n)
	}
	err := p.db.Update(t.Context(), func(w store.Writer) error {
		u, err := w.User("DU3")
		if err != nil {
			return err
		}
		return p.EnrollmentLink(w, u, "https://verifier.example:8443/enroll/#se1.x.", p.clock())
	})
	if !errors.Is(err, ErrAddress) {
		t.Errorf("a link to an address that is none: %v", err)
	}
	undone := errors.New("undone")
	err = p.db.Update(t.Context(), func(w store.Writer) error {
		return errors.Join(p.Notify(w, "DU1", notice.LinkUsed, nil), undone)
	})
	if !errors.Is(err, undone) || len(p.waiting()) != 0 {
		t.Errorf("told of what was undone: %v, %d", err, len(p.waiting()))
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"a@example.org", "first.last+tag@mail.example.org", "jörg@example.org"} {
		if err := Address(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a", "a@", "@b", "a b@c", "A <a@example.org>", "<a@example.org>", "a@example.org, b@example.org", "a@example.org\n",
		"a@example.org\r\nBcc: b@example.org", "a@exa\x00mple.org", "a\u202e@example.org", "a@example.org\u2028", "a@example.org\xff",
		strings.Repeat("a", 250) + "@b.cd",
	} {
		if err := Address(bad); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Names of devices and people come from strangers: none makes a header, or a line
// of its own in the text.
func TestNothingIsInjected(t *testing.T) {
	p := newPost(t)
	evil := "Pixel\r\n\r\nClick https://evil.example/\r\nBcc: mallory@example.org\u202e\x1b[2J" + strings.Repeat("x", 500)
	for _, kind := range notice.Kinds() {
		p.update(func(w store.Writer) error {
			return p.Notify(w, "DU1", kind, map[string]string{
				notice.Authenticator: evil, notice.Platform: evil, notice.Address: evil, notice.Application: evil, notice.Host: evil, notice.Left: evil,
			})
		})
	}
	p.deliver()
	mails, _ := p.sent()
	if len(mails) != len(notice.Kinds()) {
		t.Fatalf("%d mails of %d kinds", len(mails), len(notice.Kinds()))
	}
	for _, m := range mails {
		if len(m.Header["Bcc"]) > 0 || len(m.Header["To"]) != 1 || strings.Contains(m.Header.Get("Subject"), "Pixel") {
			t.Errorf("headers %v", m.Header)
		}
		body, err := io.ReadAll(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(body, []byte("\nClick")) || bytes.ContainsAny(body, "\x1b\u202e") {
			t.Errorf("body %s", body)
		}
	}
}

func TestEachKindHasItsText(t *testing.T) {
	c := content{Username: "alice", When: time.Now(), Link: "https://v.example/enroll/#x", Expires: time.Now(), URL: "https://v.example", Helpdesk: "Call 42.\r\n\nRoom 7"}
	named := map[string]bool{"footer.txt": true}
	subjects := map[string]bool{}
	for _, kind := range kinds() {
		subject, text, err := render(kind, c)
		if err != nil || subject == "" || subjects[subject] || strings.ContainsFunc(subject, unsafe) {
			t.Errorf("%s: subject %q, %v", kind, subject, err)
		}
		subjects[subject] = true
		if strings.HasPrefix(text, "\n") || strings.Contains(text, "<no value>") || kind != "test" && !strings.Contains(text, "Call 42.\nRoom 7") {
			t.Errorf("%s: %s", kind, text)
		}
		for line := range strings.Lines(text) {
			if len(strings.TrimSpace(line)) > 90 {
				t.Errorf("%s: a long line: %s", kind, line)
			}
		}
		named[kind+".txt"] = true
	}
	entries, err := files.ReadDir("texts")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !named[e.Name()] {
			t.Errorf("nothing uses %s", e.Name())
		}
	}
	if _, _, err := render("nothing", c); err == nil {
		t.Error("a text that is not there")
	}
}

// A mail that cannot be sent waits longer each time, and is given up after a day.
func TestMailThatCannotBeSent(t *testing.T) {
	p := newPost(t)
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	p.update(func(w store.Writer) error { return p.Notify(w, "DU1", notice.LinkUsed, nil) })
	p.deliver()
	first := p.waiting()
	if len(first) != 1 || first[0].Attempts != 1 || !first[0].Due.Equal(p.clock().Add(firstPause)) {
		t.Fatalf("after one attempt: %+v", first)
	}
	p.deliver() // too soon
	if again := p.waiting(); again[0].Attempts != 1 {
		t.Errorf("tried before its time: %+v", again[0])
	}
	p.later(firstPause)
	p.deliver()
	if second := p.waiting(); second[0].Attempts != 2 || !second[0].Due.Equal(p.clock().Add(2*firstPause)) {
		t.Errorf("after two attempts: %+v", second[0])
	}
	for range 30 {
		p.later(maxPause)
		p.deliver()
	}
	if n := len(p.waiting()); n != 0 {
		t.Errorf("%d mails wait after a day", n)
	}
	told := false
	err := p.db.View(t.Context(), func(r store.Reader) error {
		events, err := r.AdminEvents(time.Time{}, 100)
		for _, e := range events {
			told = told || e.Action == "mail_given_up" && e.Object == "alice" && strings.Contains(string(e.Description), notice.LinkUsed)
		}
		return err
	})
	if err != nil || !told {
		t.Errorf("administrators are not told: %v", err)
	}
	p.open()
	p.deliver()
	if mails, _ := p.sent(); len(mails) != 0 {
		t.Error("it was sent after it had been given up")
	}
}

// A mail that waits while the server is away goes out when it is back.
func TestMailWaitsForTheServer(t *testing.T) {
	p := newPost(t)
	if err := os.RemoveAll(p.dir); err != nil {
		t.Fatal(err)
	}
	p.update(func(w store.Writer) error { return p.Notify(w, "DU1", notice.LinkUsed, nil) })
	p.deliver()
	p.open()
	p.later(firstPause)
	p.deliver()
	if mails, _ := p.sent(); len(mails) != 1 || len(p.waiting()) != 0 {
		t.Errorf("%d mails, %d waiting", len(mails), len(p.waiting()))
	}
}

func TestPauses(t *testing.T) {
	p := newPost(t)
	last := time.Duration(0)
	for n := 1; n < 40; n++ {
		d := p.pause(n)
		if d < last || d < p.limit || d > maxPause {
			t.Errorf("pause %d is %s", n, d)
		}
		last = d
	}
	if last != maxPause {
		t.Errorf("the longest pause is %s", last)
	}
}
