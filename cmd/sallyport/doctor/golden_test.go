// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden reports")

// port is what differs from run to run in a verifier's address.
var port = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// The whole of a report, for a host that is well and for one that is not.
func TestReports(t *testing.T) {
	for name, spoil := range map[string]func(*fixture){
		"well": func(*fixture) {},
		"not_well": func(f *fixture) {
			f.append("authd.toml", `
[services.sudo]
fail_mode = "open"
[[rules]]
name = "the move"
reason = "data centre"
action = "bypass"
users = ["mover"]
not_after = 2020-01-31
[[rules]]
name = "nightly"
reason = "cron"
action = "bypass"
users = ["!root", "backup*", "backup"]
services = ["sshd"]
sources = ["!10.0.4.7", "10.0.4.0/24"]
[[rules]]
name = "passwords by push"
action = "require"
services = ["sudo"]
commands = ["/usr/bin/passwd*"]
factors = ["push"]
`)
			f.write("etc/pam.d/su", "auth required pam_unix.so\n", 0o644)
			f.sshd(strings.Replace(goodSSHD, "RootLogin no", "RootLogin yes", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			spoil(f)
			run := f.host.Run
			f.host.Run = func(ctx context.Context, name string, arg ...string) ([]byte, error) {
				if name == "env" {
					return []byte("Authentication timestamp timeout: 15.0 minutes\nDefault user to run commands as: root\n"), nil
				}
				return run(ctx, name, arg...)
			}
			var b strings.Builder
			for _, x := range f.host.Examine(t.Context()) {
				fmt.Fprintf(&b, "%s %s %s: %s\n", x.Area, x.Status, x.Subject, x.Message)
				if x.Fix != "" {
					fmt.Fprintf(&b, "    %s\n", x.Fix)
				}
			}
			got := port.ReplaceAllString(strings.ReplaceAll(b.String(), f.root, "ROOT"), "127.0.0.1:8443")
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the report differs from %s:\n%s\nwant\n%s", path, got, want)
			}
		})
	}
}
