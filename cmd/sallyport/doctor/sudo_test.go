// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// What rules on sudo rest on, as sudo -V of 1.9.13 tells it to root.
func TestSudo(t *testing.T) {
	const (
		require = "[[rules]]\nname = \"asked each time\"\naction = \"require\"\nservices = [\"sudo\"]\ncommands = [\"/usr/bin/passwd*\"]\n"
		deny    = "[[rules]]\nname = \"not root\"\naction = \"deny\"\nservices = [\"sudo\"]\ntargets = [\"root\"]\n"
		version = "Sudo version 1.9.13p3\n"
		host    = "host_key_file = \"/etc/sallyport/host_key.pem\"\n"
		good    = version + "Authentication timestamp timeout: 0.0 minutes\nDefault user to run commands as: root\n"
	)
	for name, tc := range map[string]struct {
		rules, sudo string
		err         error
		status      Status
		want        string // "": no finding
	}{
		"no such rules":        {"", "", errors.New("there is no sudo"), OK, ""},
		"well":                 {require + deny, good, nil, OK, "timestamp_timeout is 0"},
		"tickets":              {require, strings.Replace(good, "0.0", "15.0", 1), nil, Fail, `timestamp_timeout is 15.0 minutes: for that long after a success sudo asks nothing, whatever rule "asked each time" requires`},
		"remembered logins":    {host, good, nil, OK, "the end of a remembered login"},
		"tickets outlive them": {host, strings.Replace(good, "0.0", "15.0", 1), nil, Warn, "even after a remembered login was ended"},
		"never remembered":     {host + "[services.sudo]\npassport = \"never\"\n", strings.Replace(good, "0.0", "15.0", 1), nil, OK, ""},
		"tickets for good":     {require, strings.Replace(good, "0.0", "-1.0", 1), nil, Fail, "timestamp_timeout is -1.0"},
		"tickets, but a deny":  {deny, strings.Replace(good, "0.0", "15.0", 1), nil, OK, ""},
		"another account":      {deny, strings.Replace(good, ": root", ": oracle", 1), nil, Fail, "runas_default is oracle"},
		"nobody names targets": {require, strings.Replace(good, ": root", ": oracle", 1), nil, OK, "timestamp_timeout is 0"},
		"not root":             {require, version, nil, Warn, "does not tell its Defaults"},
		"no sudo":              {require, "", errors.New("not found"), Warn, "does not tell its Defaults"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.append("authd.toml", tc.rules)
			f.host.Run = func(_ context.Context, name string, arg ...string) ([]byte, error) {
				if line := name + " " + strings.Join(arg, " "); line != "env LC_ALL=C sudo -V" {
					t.Errorf("runs %s", line)
				}
				return []byte(tc.sudo), tc.err
			}
			c, _ := f.host.examineConfig()
			got := f.host.examineSudo(t.Context(), c)
			if tc.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || got[0].Status != tc.status || tc.want == "" || !strings.Contains(got[0].Message, tc.want) || (got[0].Fix == "") != (tc.status == OK) {
				t.Errorf("got %+v", got)
			}
		})
	}
}
