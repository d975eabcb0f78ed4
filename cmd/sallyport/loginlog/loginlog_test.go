// SPDX-License-Identifier: Apache-2.0

package loginlog_test

import (
	"bytes"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/loginlog"
)

func read(t testing.TB, text string) []loginlog.Login {
	t.Helper()
	var out []loginlog.Login
	for l, err := range loginlog.Read(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// What is not in the log is unknown, and only that.
func TestWhatIsKnown(t *testing.T) {
	const print = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	type known struct{ source, keys, certificates, target, command bool }
	for line, want := range map[string]known{
		"service=sshd source=10.0.4.7 keys=" + print:   {true, true, true, true, true},
		"service=sshd source=10.0.4.7 keys=none":       {true, true, true, true, true},
		"service=sshd source=unknown keys=unknown":     {false, false, false, true, true},
		"service=sshd source=10.0.4.7":                 {true, false, false, true, true},
		"service=sshd keys=none certificates=unknown":  {true, true, false, true, true},
		`service=sshd keys=none certificates="[{}"`:    {true, true, false, true, true},
		"service=sshd source=db1.example keys=none":    {false, true, true, true, true},
		"service=sudo target=root":                     {true, true, true, false, false},
		"service=sudo switch_to=root":                  {true, true, true, true, false},
		"service=sudo switch_to=unknown":               {true, true, true, false, false},
		"service=su target=postgres":                   {true, true, true, true, true},
		"service=su":                                   {true, true, true, true, true},
		"service=su switch_to=unknown target=postgres": {true, true, true, false, true},
		"service=sshgw keys=none gateway_target=db1":   {true, true, true, true, true},
		"service=sshgw keys=none target=zoe":           {true, true, true, false, true},
		"service=sshgw keys=none switch_to=unknown":    {true, true, true, false, true},
		"service=login":                                {true, true, true, true, true},
	} {
		got := read(t, "event=login user=alice action=require "+line)
		if len(got) != 1 {
			t.Fatalf("%s: %d logins", line, len(got))
		}
		f := got[0].Facts
		if has := (known{!f.SourceUnknown, !f.KeysUnknown, !f.CertificatesUnknown, !f.TargetUnknown, !f.CommandUnknown}); has != want {
			t.Errorf("%s: known is %+v, want %+v", line, has, want)
		}
		if f.InGroup != nil || f.InLDAPGroup != nil || !f.Time.IsZero() {
			t.Errorf("%s: %+v", line, f)
		}
	}
	if f := read(t, "event=login service=su user=alice")[0].Facts; f.Target != "alice" {
		t.Errorf("su to oneself: %q", f.Target)
	}
}

// What slog writes is read back, whatever stands in it.
func TestRoundTrip(t *testing.T) {
	for _, user := range []string{"alice", "a b", `a"b`, "a=b event=login", "é\x1b[31m", "a\\b", ""} {
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			log := slog.New(handler(&b))
			before := time.Now()
			log.Info("login", "id", "x1", "event", "login", "service", "sshd", "user", user, "rule", user, "source", "2001:db8::1", "action", "deny", "keys", "none",
				"certificates", `[{"ca":"ops","key_id":"a b","principals":["x","y"]}]`, "pid", 7)
			got := read(t, b.String())
			if len(got) != 1 {
				t.Fatalf("%s: %d logins in %s", name, len(got), &b)
			}
			l := got[0]
			if l.ID != "x1" || l.Action != rules.Deny || l.Rule != user || l.Facts.User != user || l.Facts.Source.String() != "2001:db8::1" ||
				!reflect.DeepEqual(l.Facts.Certificates, []rules.Certificate{{CA: "ops", KeyID: "a b", Principals: []string{"x", "y"}}}) {
				t.Errorf("%s: got %+v of %s", name, l, &b)
			}
			if d := l.Facts.Time.Sub(before); d < -time.Second || d > time.Minute {
				t.Errorf("%s: time %s", name, l.Facts.Time)
			}
		}
	}
}

func TestLongLine(t *testing.T) {
	for _, err := range loginlog.Read(strings.NewReader(strings.Repeat("x", 2<<20))) {
		if err == nil {
			t.Error("no error")
		}
		return
	}
	t.Error("nothing was said of it")
}

func FuzzRead(f *testing.F) {
	f.Add("time=2026-11-20T02:00:00.000Z level=INFO msg=login id=a1 event=login service=sshd user=\"a b\" keys=none\n")
	f.Add("{\"event\":\"login\",\"user\":\"x\",\"source\":\"::1\"}\n{\"__REALTIME_TIMESTAMP\":\"1\",\"SALLYPORT_EVENT\":\"login\"}\n")
	f.Fuzz(func(t *testing.T, text string) {
		for l, err := range loginlog.Read(strings.NewReader(text)) {
			if err != nil {
				return
			}
			if l.Facts.Source.IsValid() == l.Facts.SourceUnknown && l.Source != "" {
				t.Errorf("source %q: %+v", l.Source, l.Facts)
			}
		}
	})
}
