// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NSS asks the host's name service through getent(1) and id(1).
//
// A process per question, rather than getpwnam in this one, because the modules
// of the name service (LDAP, winbind, SSSD) are other people's C that blocks
// without a deadline: a process can be killed, a C call in a thread of the
// daemon cannot. Where nsswitch.conf asks /etc/passwd first, so does NSS, and
// an account that stands there costs no process.
type NSS struct {
	getent, id       string
	passwd, nsswitch string
	slots            chan struct{}
}

// maxLookups bounds how many processes NSS runs at once.
const maxLookups = 16

// NewNSS finds the programs. It fails when one is missing.
func NewNSS() (*NSS, error) {
	n := &NSS{passwd: "/etc/passwd", nsswitch: "/etc/nsswitch.conf", slots: make(chan struct{}, maxLookups)}
	for _, p := range []struct {
		name string
		to   *string
	}{{"getent", &n.getent}, {"id", &n.id}} {
		for _, dir := range []string{"/usr/bin/", "/bin/", "/usr/local/bin/", "/run/current-system/sw/bin/"} {
			if info, err := os.Stat(dir + p.name); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				*p.to = dir + p.name
				break
			}
		}
		if *p.to == "" {
			return nil, fmt.Errorf("look for %s, which the name service is asked through: %w", p.name, exec.ErrNotFound)
		}
	}
	return n, nil
}

// ByName implements Directory.
func (n *NSS) ByName(ctx context.Context, name string) (Account, error) {
	if name == "" || strings.ContainsAny(name, ":\n\x00") {
		return Account{}, ErrNoSuchUser
	}
	if n.filesFirst() {
		if a, ok := n.inFile(name); ok {
			return a, nil
		}
	}
	a, err := n.passwdEntry(ctx, name)
	if err != nil {
		return Account{}, err
	}
	// getent takes what reads as a number for a uid; getpwnam does not.
	if isNumber(name) && a.Name != name {
		return Account{}, ErrNoSuchUser
	}
	return a, nil
}

// ByUID implements Directory.
func (n *NSS) ByUID(ctx context.Context, uid uint32) (Account, error) {
	a, err := n.passwdEntry(ctx, strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return Account{}, err
	}
	if a.UID != uid { // an account whose name is that number
		return Account{}, ErrNoSuchUser
	}
	return a, nil
}

// InGroup implements Directory.
func (n *NSS) InGroup(ctx context.Context, account Account, group string) (bool, error) {
	line, err := n.run(ctx, n.getent, "group", "--", group)
	if errors.Is(err, errNotFound) {
		return false, fmt.Errorf("look up group %q: the name service does not know it", group)
	}
	if err != nil {
		return false, fmt.Errorf("look up group %q: %w", group, err)
	}
	fields := strings.Split(line, ":")
	if len(fields) < 4 || fields[0] != group {
		return false, fmt.Errorf("look up group %q: unexpected answer of %d fields", group, len(fields))
	}
	if slices.Contains(strings.Split(fields[3], ","), account.Name) {
		return true, nil
	}
	if account.Absent { // in what groups its members name alone
		return false, nil
	}
	ids, err := n.run(ctx, n.id, "-G", "--", account.Name)
	if err != nil {
		return false, fmt.Errorf("look up the groups of %q: %w", account.Name, err)
	}
	return slices.Contains(strings.Fields(ids), fields[2]), nil
}

func (n *NSS) passwdEntry(ctx context.Context, key string) (Account, error) {
	line, err := n.run(ctx, n.getent, "passwd", "--", key)
	if errors.Is(err, errNotFound) {
		return Account{}, ErrNoSuchUser
	}
	if err != nil {
		return Account{}, fmt.Errorf("look up account %q: %w", key, err)
	}
	a, ok := parsePasswd(line)
	if !ok {
		return Account{}, fmt.Errorf("look up account %q: unexpected answer", key)
	}
	if local, ok := n.inFile(a.Name); ok {
		a.Local = true
		a.Local = a == local
	}
	return a, nil
}

// inFile looks into /etc/passwd.
func (n *NSS) inFile(name string) (Account, bool) {
	f, err := os.Open(n.passwd)
	if err != nil {
		return Account{}, false
	}
	defer f.Close()
	prefix := []byte(name + ":")
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if bytes.HasPrefix(lines.Bytes(), prefix) {
			a, ok := parsePasswd(lines.Text())
			a.Local = ok
			return a, ok
		}
	}
	return Account{}, false
}

// filesFirst says whether the line passwd: of nsswitch.conf(5) begins with
// files and takes what it finds there as the answer.
func (n *NSS) filesFirst() bool {
	text, err := os.ReadFile(n.nsswitch)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		sources, ok := strings.CutPrefix(strings.TrimSpace(line), "passwd:")
		if !ok {
			continue
		}
		words := strings.Fields(sources)
		return len(words) > 0 && words[0] == "files" && (len(words) == 1 || !strings.HasPrefix(words[1], "["))
	}
	return false
}

func parsePasswd(line string) (Account, bool) {
	fields := strings.Split(line, ":")
	if len(fields) != 7 || fields[0] == "" {
		return Account{}, false
	}
	uid, err1 := strconv.ParseUint(fields[2], 10, 32)
	gid, err2 := strconv.ParseUint(fields[3], 10, 32)
	return Account{Name: fields[0], UID: uint32(uid), GID: uint32(gid), GECOS: fields[4]}, err1 == nil && err2 == nil
}

// isNumber says whether strtoul(3) would read all of s.
func isNumber(s string) bool {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	s = strings.TrimLeft(s, "+-")
	return s != "" && strings.Trim(s, "0123456789") == ""
}

var errNotFound = errors.New("not found")

// maxOutput bounds what a look-up may print, in bytes: a group may have many members.
const maxOutput = 1 << 20

// run runs a look-up and returns its first line.
func (n *NSS) run(ctx context.Context, program string, args ...string) (string, error) {
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	out := &bounded{left: maxOutput}
	cmd.Stdout = out
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return "", errNotFound
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w", program, err)
	}
	line, _, _ := strings.Cut(out.text.String(), "\n")
	return line, nil
}

// bounded keeps the first bytes and takes the rest without keeping it.
type bounded struct {
	text strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.text.Write(p[:keep])
	return len(p), nil
}
