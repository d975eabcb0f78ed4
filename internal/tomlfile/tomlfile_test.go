// SPDX-License-Identifier: Apache-2.0

package tomlfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

type config struct {
	URL       string `toml:"url"`
	Telephony struct {
		Key string `toml:"key"`
	} `toml:"telephony"`
	Services map[string]struct {
		Mode string `toml:"mode"`
	} `toml:"services"`
	Rules []struct {
		Name string `toml:"name"`
	} `toml:"rules"`
}

func TestErrorsNameKeyAndLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"top level":      {"url = 'x'\nurll = 'y'\n", "f.toml:2: unknown key urll"},
		"in a table":     {"[telephony]\nkey = '#'\n\nkeey = '*' # typo\n", "f.toml:4: unknown key telephony.keey"},
		"dotted":         {"telephony.keey = '*'\n", "f.toml:1: unknown key telephony.keey"},
		"unknown table":  {"\n[telefony]\nkey = '*'\n", "f.toml:2: unknown key telefony"},
		"in an array":    {"[[rules]]\nname = 'a'\n[[rules]]\nnaem = 'b'\n", "f.toml:4: unknown key rules.naem"},
		"quoted service": {"[services.'a.b']\nmode = 'x'\nmod = 'y'\n", "f.toml:3: unknown key services.\"a.b\".mod"},
		"inline table":   {"url = 'u'\ntelephony = { keey = '*' }\n", "f.toml:2: unknown key telephony.keey"},
		"syntax":         {"url = \n", "f.toml:1: "},
		"wrong type":     {"\nurl = 3\n", "url"},
	} {
		var v config
		err := tomlfile.Decode("f.toml", c.text, &v)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestTwoUnknownKeysAreBothNamed(t *testing.T) {
	var v config
	err := tomlfile.Decode("f", "a = 1\nb = 2\n", &v)
	if err == nil || !strings.Contains(err.Error(), "f:1: unknown key a") || !strings.Contains(err.Error(), "f:2: unknown key b") {
		t.Errorf("got %v", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte("url = 'https://v'\n[telephony]\nkey='#'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var v config
	if err := tomlfile.Load(path, &v); err != nil {
		t.Fatal(err)
	}
	if v.URL != "https://v" || v.Telephony.Key != "#" {
		t.Errorf("got %+v", v)
	}
	if err := tomlfile.Load(path+"x", &v); err == nil || !strings.Contains(err.Error(), "c.tomlx") {
		t.Errorf("missing file: got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("url = 'x'\n[telephony]\nkey = '#'\n[[rules]]\nname='a'\n")
	f.Add("[services.'a.b']\nmod = \"\"\"x\n[q]\n\"\"\"\n")
	f.Fuzz(func(_ *testing.T, text string) {
		var v config
		_ = tomlfile.Decode("f", text, &v)
	})
}
