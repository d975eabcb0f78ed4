// SPDX-License-Identifier: Apache-2.0

package sudoinfo_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/sudoinfo"
)

func TestParseTarget(t *testing.T) {
	for line, want := range map[string]sudoinfo.Target{
		"sudo id":                          {Kind: sudoinfo.Default},
		"sudo":                             {Kind: sudoinfo.Default},
		"sudo -v":                          {Kind: sudoinfo.Default},
		"sudo -i":                          {Kind: sudoinfo.Default},
		"sudo -u bo id":                    {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -ubo id":                     {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -nu bo id":                   {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -nkubo id":                   {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -u al -u bo id":              {Kind: sudoinfo.Name, Value: "bo"},
		"sudo --user bo id":                {Kind: sudoinfo.Name, Value: "bo"},
		"sudo --user=bo id":                {Kind: sudoinfo.Name, Value: "bo"},
		"sudo --us=bo id":                  {}, // an abbreviation: sudo may know more of them
		"sudo -u #0 id":                    {Kind: sudoinfo.UID, Value: "0"},
		"sudo -u # id":                     {},
		"sudo -u #-1 id":                   {},
		"sudo -u":                          {},
		"sudo -g adm id":                   {Kind: sudoinfo.Self},
		"sudo -g adm -u bo id":             {Kind: sudoinfo.Name, Value: "bo"},
		"sudo id -u bo":                    {Kind: sudoinfo.Default},
		"sudo -- -u bo":                    {Kind: sudoinfo.Default},
		"sudo A=b -u bo id":                {Kind: sudoinfo.Name, Value: "bo"},
		"sudo /a=b -u bo":                  {Kind: sudoinfo.Default},
		"sudo -p prompt -u bo id":          {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -C 3 --chdir /tmp -u bo id":  {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -p -u bo id":                 {Kind: sudoinfo.Default}, // the prompt is "-u", the command "bo"
		"sudo -h host id":                  {},
		"sudo -Z id":                       {},
		"sudo --preserve-env=A,B -u bo id": {Kind: sudoinfo.Name, Value: "bo"},
		"sudo --shell=x id":                {},
		"sudo - id":                        {Kind: sudoinfo.Default},
		"sudoedit -u bo /etc/hosts":        {Kind: sudoinfo.Name, Value: "bo"},
		"sudo -l -U bo":                    {Kind: sudoinfo.Default},
	} {
		if got := sudoinfo.ParseTarget(strings.Fields(line)); got != want {
			t.Errorf("%s: got %+v, want %+v", line, got, want)
		}
	}
	for _, args := range [][]string{nil, {"sudo", "-u", "", "id"}, {"sudo", "--user=", "id"}} {
		if got := sudoinfo.ParseTarget(args); got.Kind != sudoinfo.Unknown {
			t.Errorf("%q: got %+v", args, got)
		}
	}
}

func TestCommand(t *testing.T) {
	for value, known := range map[string]bool{
		"/usr/bin/id": true, "/usr/bin/id -u ../x //y": true, "sudoedit /etc/hosts": true, "validate": true, "list": true,
		"": false, " id": false, "/usr/bin/../bin/id": false, "/usr//bin/id": false, "/bin/./id": false, "/usr/bin/": false,
	} {
		if got, ok := sudoinfo.Command(value); ok != known || known && got != value {
			t.Errorf("%q: got %q, %v", value, got, ok)
		}
	}
}

// Whatever the arguments, reading them ends, and a name is one of them.
func FuzzParseTarget(f *testing.F) {
	f.Add("sudo\x00-nu\x00bo\x00id")
	f.Add("sudo\x00--user=bo\x00A=b\x00--\x00id")
	f.Fuzz(func(t *testing.T, joined string) {
		got := sudoinfo.ParseTarget(strings.Split(joined, "\x00"))
		if got.Kind == sudoinfo.Name && (got.Value == "" || !strings.Contains(joined, got.Value)) {
			t.Errorf("%q: %+v", joined, got)
		}
	})
}
