// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// echoes is a service at an address, whose port it returns.
func echoes(t *testing.T, at string) int {
	t.Helper()
	l, err := net.Listen("tcp", at+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// around tries ways by a forwarding through db1, none of which must lead on.
func (r *rig) around(port int, hosts ...string) {
	r.t.Helper()
	for _, host := range hosts {
		if conn, err := opened(r.client("db1"), host, port); err == nil {
			r.t.Errorf("%s port %d was reached through db1", host, port)
			_ = conn.Close()
		}
		if r.target.has("channel direct-tcpip") {
			r.t.Errorf("the target was asked for %s port %d", host, port)
		}
	}
}

const freeAndRecorded = "[[rule]]\nname = \"free\"\nusers = [\"*\"]\nlogins = [\"*\"]\ntargets = [\"db1\"]\n" +
	"[[rule]]\nname = \"recorded\"\nusers = [\"*\"]\nlogins = [\"*\"]\ntargets = [\"*\"]\nrecord = \"required\"\n"

// Of a target that a pattern makes nobody knows the addresses.
func TestAttackTargetOfAPatternByItsAddress(t *testing.T) {
	r := newRig(t, "")
	p, other := r.target.port, echoes(t, "127.0.0.1")
	r.names["s1.prod.internal"] = []netip.Addr{netip.MustParseAddr("10.9.8.7")}
	r.names["other.example"] = r.names["s1.prod.internal"]
	targets := fmt.Sprintf("[[target]]\nname = \"db1\"\nhost = \"127.0.0.1\"\nport = %d\n[[pattern]]\nname = \"*.prod\"\nhost = \"%%n.internal\"\nport = ", p)
	r.with(targets+fmt.Sprint(p), freeAndRecorded)
	r.around(p, "s1.prod", "s1.prod.internal", "10.9.8.7", "::ffff:10.9.8.7", "other.example", "2130706434")
	r.with(targets+fmt.Sprint(other), freeAndRecorded)
	r.around(other, "10.9.8.7", "other.example", "2130706434")
}

// A file of targets that changes makes the gateway forget nobody's address.
func TestAttackAddressWhileTheTargetsAreReadAgain(t *testing.T) {
	r := newRig(t, "")
	p := r.target.port
	targets := fmt.Sprintf("[[target]]\nname = \"db1\"\nhost = \"127.0.0.1\"\nport = %d\n[[target]]\nname = \"web1\"\nhost = \"web1.internal\"\nport = %[1]d\n", p)
	r.with(targets, freeAndRecorded)
	book := r.config.Load().Book()
	r.around(p, "10.9.8.7", "web1.internal") // not looked up yet: it may be any of them
	r.names["web1.internal"] = []netip.Addr{netip.MustParseAddr("10.1.1.1")}
	book.Inventory().Resolve(t.Context(), r.Resolve)
	r.around(p, "10.1.1.1")
	if got := book.Inventory().Unresolved(uint16(p)); len(got) != 0 {
		t.Errorf("%v is not resolved", got)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "other-targets.toml"), []byte(targets+"# changed\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := false
	for range 3 {
		now, err := book.Refresh()
		if err != nil {
			t.Fatal(err)
		}
		changed = changed || now
	}
	if !changed {
		t.Fatal("the targets were not read again")
	}
	r.around(p, "10.1.1.1")
	if at, ok := book.Inventory().At("10.1.1.1", nil, uint16(p)); !ok || at.Name != "web1" {
		t.Errorf("at its address is %v", at)
	}
}

// A name with several addresses is judged by all of them.
func TestAttackNameWithTheAddressesOfSeveralTargets(t *testing.T) {
	r := newRig(t, freeAndRecorded)
	r.names["multi.attacker.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	r.around(r.target.port, "multi.attacker.example")
}

// Two targets at one host: one is the other's localhost.
func TestAttackAnotherTargetAtTheSameHost(t *testing.T) {
	r := newRig(t, "")
	second := echoes(t, "127.0.0.1")
	r.names["localhost"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	r.with(fmt.Sprintf("[[target]]\nname = \"db1\"\nhost = \"127.0.0.2\"\nport = %d\n[[target]]\nname = \"b\"\nhost = \"127.0.0.2\"\nport = %d\n", r.target.port, second),
		freeAndRecorded)
	r.around(second, "127.0.0.2", "127.0.0.1", "localhost", "b")
}

// What the gateway's name service says of a name, the target's may not.
func TestAttackNameThatIsAnotherHostAtTheTarget(t *testing.T) {
	r := newRig(t, "")
	p := r.target.port
	r.names["localhost"] = []netip.Addr{netip.MustParseAddr("127.0.0.9")}
	r.names["elsewhere"] = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	r.rules(rule("looked at", "record = \"on\"\nshell = true\nforward = [\"*:*\"]"))
	r.around(p, "localhost")
	if conn, err := opened(r.client("db1"), "elsewhere", p); err == nil {
		t.Error("the target connected to the name")
		_ = conn.Close()
	}
	if !r.target.has("to 198.51.100.1") {
		t.Errorf("the target was told another host: %v", r.target.seen)
	}
}

// sshd listens at Unix sockets as well.
func TestAttackTheSocketOfTheTargetsSSHD(t *testing.T) {
	r := newRig(t, rule("looked at", "record = \"on\""))
	for path, passes := range map[string]bool{
		"/run/ssh-unix-local/socket": false, "/var/run/sshd.sock": false, "/run/x/../ssh-unix-local/socket": false, "//run/ssh-unix-local/socket": false,
		"\x00sshd": false, "@sshd": false, "run/ssh-unix-local/socket": false, "": false, "/proc/self/root/run/ssh-unix-local/socket": false,
		"/run/postgresql/.s.PGSQL.5432": true,
	} {
		before := len(r.log.events(audit.Denied))
		_, _, err := r.client("db1").OpenChannel("direct-streamlocal@openssh.com", ssh.Marshal(struct {
			Path, Origin string
			R            uint32
		}{path, "", 0}))
		if err == nil {
			t.Errorf("%q was reached", path)
		}
		if denied := len(r.log.events(audit.Denied)) > before; denied == passes {
			t.Errorf("%q: %v", path, err)
		}
	}
}
