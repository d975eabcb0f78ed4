// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMail(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"password": 0o600, "open": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("secret\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ mail, want string }{
		{"", ""},
		{`from = "a@example.org"` + "\n" + `server = "mail.example.org:587"`, ""},
		{`from = "Sallyport <a@example.org>"` + "\n" + `outbox_dir = "."`, ""},
		{`from = "a@example.org"` + "\n" + `server = "127.0.0.1:25"` + "\n" + `tls = "none"`, ""},
		{`from = "a@example.org"` + "\n" + `server = "m:465"` + "\n" + `tls = "implicit"` + "\n" + `user = "u"` + "\n" + `password_file = "password"`, ""},
		{`from = "a@example.org"`, "neither server nor outbox_dir"},
		{`server = "m:25"`, "mail.from"},
		{`from = "a"` + "\n" + `server = "m:25"`, "mail.from"},
		{`from = "A\r\nBcc: x <a@example.org>"` + "\n" + `server = "m:25"`, "mail.from"},
		{`from = "a@example.org"` + "\n" + `server = "m"`, "not HOST:PORT"},
		{`from = "a@example.org"` + "\n" + `server = "m:0"`, "not HOST:PORT"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `tls = "none"`, "only for a loopback address"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `tls = "maybe"`, "none of starttls"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `user = "u"`, "go together"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `user = "u"` + "\n" + `password_file = "open"`, "lets others read it"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `timeout = "2m"`, "mail.timeout"},
		{`from = "a@example.org"` + "\n" + `server = "m:25"` + "\n" + `outbox_dir = "."`, "not both"},
		{`from = "a@example.org"` + "\n" + `outbox_dir = "missing"`, "mail.outbox_dir"},
		{`from = "a@example.org"` + "\n" + `outbox_dir = "password"`, "no directory"},
	} {
		path := filepath.Join(dir, "verifier.toml")
		text := fmt.Sprintf("url = \"https://verifier.example\"\n[mail]\n%s\n", c.mail)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.mail, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.mail, err, c.want)
		case err == nil && got.Mail.On() && (got.Mail.TLS == "" || got.Mail.Timeout.Duration < time.Second):
			t.Errorf("%s: %+v", c.mail, got.Mail)
		}
	}
}
