// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os/exec"
	"strings"
	"testing"
)

// A pattern cannot be left by what a shell makes of a command.
func TestACommandDoesNotLeaveItsPattern(t *testing.T) {
	c, err := newCommands([]string{"systemctl status *", "rsync --server **", "/usr/lib/nagios/plugins/check_*", "cat /var/log/*", "grep -c %u /etc/%l.conf", "uptime", "LC_ALL=C df -h"})
	if err != nil {
		t.Fatal(err)
	}
	who := person{"alice", "web"}
	for s, want := range map[string]bool{
		"systemctl status nginx":                            true,
		"systemctl  status   nginx ":                        true,
		"systemctl status":                                  false,
		"systemctl status nginx ssh":                        false,
		"systemctl status -H evil":                          false,
		"systemctl status --host=evil":                      false,
		"systemctl status ../../x":                          false,
		"systemctl status a/b":                              false,
		"systemctl stop nginx":                              false,
		"systemctl status nginx; id":                        false,
		"systemctl status nginx;id":                         false,
		"systemctl status nginx & id":                       false,
		"systemctl status nginx && id":                      false,
		"systemctl status nginx || id":                      false,
		"systemctl status nginx | sh":                       false,
		"systemctl status $(id)":                            false,
		"systemctl status ${IFS}x":                          false,
		"systemctl status $x":                               false,
		"systemctl status `id`":                             false,
		"systemctl status nginx\nid":                        false,
		"systemctl status nginx\rid":                        false,
		"systemctl status nginx\tid":                        false,
		"systemctl status nginx\x00id":                      false,
		"systemctl status nginx\x0bid":                      false,
		"systemctl status nginx\u00a0id":                    false,
		"systemctl status nginx\u2028id":                    false,
		"systemctl status >/etc/passwd":                     false,
		"systemctl status </etc/shadow":                     false,
		"systemctl status <(id)":                            false,
		"systemctl status {a,b}":                            false,
		"systemctl status *":                                false,
		"systemctl status [a-z]":                            false,
		"systemctl status ?":                                false,
		"systemctl status ~root":                            false,
		"systemctl status 'nginx'":                          false,
		`systemctl status "nginx"`:                          false,
		`systemctl status \nginx`:                           false,
		"systemctl status #":                                false,
		"systemctl status !x":                               false,
		"systemctl status ^x":                               false,
		"X=y systemctl status nginx":                        false,
		"/bin/systemctl status nginx":                       false,
		"Systemctl status nginx":                            false,
		"ѕystemctl status nginx":                            false,
		"systemctl status \xff":                             false,
		"rsync --server --sender -l . /":                    true,
		"rsync --server":                                    true,
		"rsync --server -e.x . /srv; id":                    false,
		"rsync":                                             false,
		"/usr/lib/nagios/plugins/check_x":                   true,
		"/usr/lib/nagios/plugins/check_":                    true,
		"/usr/lib/nagios/plugins/check_/x":                  false,
		"/usr/lib/nagios/plugins/check_/../../../../bin/sh": false,
		"cat /var/log/syslog":                               true,
		"cat /var/log/../shadow":                            false,
		"cat /var/log/..":                                   false,
		"cat /var/log/a..b":                                 true,
		"cat /var/log/apt/x":                                false,
		"grep -c alice /etc/web.conf":                       true,
		"grep -c bob /etc/web.conf":                         false,
		"uptime":                                            true,
		"uptime ":                                           true,
		"uptime -p":                                         false,
		"LC_ALL=C df -h":                                    true,
		"LC_ALL=D df -h":                                    false,
		"":                                                  false,
		" ":                                                 false,
	} {
		if got := c.match(s, who); got != want {
			t.Errorf("%q: %t", s, got)
		}
	}
	all, err := newCommands([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	if !all.match("a; b", who) {
		t.Error(`"*" is any command`)
	}
	// What a person or login is called does not add words or signs.
	for _, name := range []string{"a b", "a;b", "*", "$(id)", ""} {
		if c.match("grep -c "+name+" /etc/web.conf", person{name, "web"}) {
			t.Errorf("a user %q", name)
		}
	}
}

// What fits a pattern is taken apart by a real shell into the words of the pattern.
func FuzzExec(f *testing.F) {
	for _, s := range []string{"systemctl status nginx", "systemctl status $(id)", "systemctl status a;b", "rsync --server . /x", "systemctl status \n", "systemctl status a=b", "systemctl status %1", "systemctl status @x"} {
		f.Add(s)
	}
	c, err := newCommands([]string{"systemctl status *", "rsync --server **"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !c.match(s, person{"alice", "alice"}) {
			return
		}
		have := words(s)
		if strings.Trim(s, plain) != "" || len(have) < 2 {
			t.Fatalf("%q fits", s)
		}
		if have[0] == "systemctl" && (len(have) != 3 || have[2][0] == '-' || climbs(have[2])) {
			t.Fatalf("%q fits", s)
		}
		out, err := exec.Command("sh", "-c", "systemctl() { printf '%s\\0' systemctl \"$@\"; }; rsync() { printf '%s\\0' rsync \"$@\"; }; "+s).Output()
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); strings.Join(got, "\x00") != strings.Join(have, "\x00") {
			t.Fatalf("a shell makes %q of %q", got, s)
		}
	})
}
