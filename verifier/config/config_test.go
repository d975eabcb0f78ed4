// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/config"
)

func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"secret": 0o600, "open-secret": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("whsec_AAAA\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "verifier.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

func TestDefaults(t *testing.T) {
	c, err := load(t, "url = 'https://V.example:8443/'\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.Audience() != "https://v.example:8443" || c.Listen != ":8443" || !c.OwnCA() || c.Telephony.URL != "" {
		t.Errorf("got %+v, audience %s", c, c.Audience())
	}
}

func TestTelephony(t *testing.T) {
	c, err := load(t, "url='https://v'\n[telephony]\nurl='https://p.example/hook'\nsecret_file='secret'\ntimeout='2s'\n")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := c.Telephony.Secret()
	if err != nil || secret != "whsec_AAAA" {
		t.Errorf("secret %q, %v", secret, err)
	}
	if c.Telephony.Timeout.Duration != 2*time.Second || c.Telephony.ApproveKey != "#" || c.Telephony.FraudKey != "*" {
		t.Errorf("got %+v", c.Telephony)
	}
}

func TestErrors(t *testing.T) {
	const ok = "url='https://v'\n"
	for text, want := range map[string]string{
		"":                                       "url: missing",
		"url='http://v'":                         "https://HOST:PORT",
		"url='https://v/path'":                   "paths of the API are fixed",
		"url='https://v:99999'":                  "not a port",
		ok + "listn=':1'":                        "verifier.toml:2: unknown key listn",
		ok + "listen='1'":                        "listen:",
		ok + "cert_file='x'":                     "cert_file and key_file",
		ok + "log_level='loud'":                  "log_level",
		ok + "logo_file='gone.png'":              "logo_file",
		ok + "[telephony]\nurl='https://p'":      "secret_file is missing",
		ok + "[telephony]\nsecret_file='secret'": "without telephony.url",
		ok + "[telephony]\nurl='https://p'\nsecret_file='open-secret'":                                     "0600",
		ok + "[telephony]\nurl='http://p.example'\nsecret_file='secret'":                                   "must be https",
		ok + "[telephony]\nurl='http://127.0.0.1:9'\nsecret_file='secret'\napprove_key='*'":                "two different keys",
		ok + "[telephony]\nurl='http://127.0.0.1:9'\nsecret_file='secret'\ntimeout='1h'":                   "telephony.timeout",
		ok + "[telephony]\nurl='http://127.0.0.1:9'\nsecret_file='secret'\ntimeout='soon'":                 "not a duration",
		ok + "[telephony]\nurl='http://127.0.0.1:9'\nsecret_file='secret'\nattempts=9":                     "telephony.attempts",
		ok + "[telephony]\nurl='http://127.0.0.1:9'\nsecret_file='secret'\napprove_key='#'\nfraud_key='x'": "two different keys",
	} {
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestTextLoads(t *testing.T) {
	base, err := duoapi.ParseBase("https://127.0.0.1:8443")
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(t, config.Text(base, "127.0.0.1:8443", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:8443" || c.Audience() != base.String() {
		t.Errorf("got %+v", c)
	}
}

// TestKeysAreDocumented looks for each key in docs/reference/verifier.md.
func TestKeysAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/verifier.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func(reflect.Type)
	look = func(kind reflect.Type) {
		for i := range kind.NumField() {
			f := kind.Field(i)
			key := f.Tag.Get("toml")
			switch {
			case key == "":
			case f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[config.Duration]():
				look(f.Type)
			case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
				look(f.Type.Elem())
			case !strings.Contains(string(text), "`"+key+"`"):
				t.Errorf("docs/reference/verifier.md does not name %s", key)
			}
		}
	}
	look(reflect.TypeFor[config.Config]())
}

func TestStreams(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, config.FileName)
	for name, mode := range map[string]os.FileMode{"good": 0o600, "loose": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("whsec_x\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	load := func(text string) (*config.Config, error) {
		if err := os.WriteFile(path, []byte("url = \"https://v.example\"\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(path)
	}
	c, err := load("[streams.siem]\nurl = \"https://s.example/x\"\nsecret_file = \"good\"\n[streams.central]\nurl = \"tls://l.example:6514\"\nca_file = \"good\"\ntimeout = \"3s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Streams["siem"]; s.SecretFile != filepath.Join(dir, "good") || s.Timeout.Duration != 10*time.Second || s.MaxBacklog != 1_000_000 {
		t.Errorf("%+v", s)
	}
	if s, err := c.Streams["siem"].Secret(); err != nil || s != "whsec_x" {
		t.Errorf("secret %q, %v", s, err)
	}
	if files := c.Files(); len(files) != 2 || files[1].Key != "streams.siem.secret_file" || !files[1].Secret {
		t.Errorf("files %+v", files)
	}
	for text, want := range map[string]string{
		"[streams.\"a b\"]\nurl = \"udp://h:1\"":                     "streams.a b: a name is",
		"[metrics]\nlisten = \"0.0.0.0:9177\"":                       "is no loopback address",
		"[metrics]\nlisten = \"localhost:9\"":                        "neither ADDRESS:PORT nor unix:",
		"[metrics]\nlisten = \"unix:x\"":                             "absolute path",
		"[streams.a]\nurl = \"ftp://h\"":                             "streams.a.url: begins with none",
		"[streams.a]\nurl = \"tcp://h\"":                             "streams.a.url: syslog is tcp://HOST:PORT",
		"[streams.a]\nurl = \"http://h/\"\nsecret_file = \"good\"":   "streams.a.url: names and addresses",
		"[streams.a]\nurl = \"https://h/\"":                          "streams.a.secret_file: is missing",
		"[streams.a]\nurl = \"https://h/\"\nsecret_file = \"loose\"": "lets others read it",
		"[streams.a]\nurl = \"udp://h:1\"\nsecret_file = \"good\"":   "streams.a.secret_file: syslog has no signature",
		"[streams.a]\nurl = \"tcp://h:1\"\nca_file = \"good\"":       "streams.a.ca_file: is for tls and https",
		"[streams.a]\nurl = \"tls://h:1\"\nca_file = \"gone\"":       "streams.a.ca_file: ",
		"[streams.a]\nurl = \"udp://h:1\"\ntimeout = \"10m\"":        "streams.a.timeout",
		"[streams.a]\nurl = \"udp://h:1\"\nmax_backlog = 5":          "streams.a.max_backlog",
		"[streams.a]\nurl = \"udp://h:1\"\nfacility = 5":             "unknown key streams.a.facility",
	} {
		if _, err := load(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}

func TestPartners(t *testing.T) {
	with := func(partners string) (*config.Config, error) {
		return load(t, "url = \"https://v.example:8443\"\n[app]\npartners = "+partners+"\n")
	}
	c, err := with(`["https://Other.Example:443", "https://third.example:8443"]`)
	if err != nil || !slices.Equal(c.App.Partners, []string{"https://other.example", "https://third.example:8443"}) {
		t.Errorf("partners: %v, %v", c, err)
	}
	for _, bad := range []string{
		`["http://other.example"]`, `["https://other.example/app"]`, `["*"]`, `["https://*.example"]`, `["https://v.example:8443"]`,
		`["https://other.example", "https://other.example:443"]`, `["https://a.example; script-src *"]`, `[""]`,
	} {
		if c, err := with(bad); err == nil || !strings.Contains(err.Error(), "app.partners") {
			t.Errorf("%s: %v, %v", bad, c, err)
		}
	}
}
