// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/internal/ownfile"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	Fault   Level = "error"   // something will not work
	Warning Level = "warning" // something is not what it seems, or weakens the gateway
)

// Finding is something that is wrong with a configuration which can be loaded.
type Finding struct {
	Level Level  `json:"level"`
	File  string `json:"file"`
	Line  int    `json:"line,omitempty"`
	Text  string `json:"text"`
}

func (f Finding) String() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s: %s: %s", at, f.Level, f.Text)
}

// Check looks for what Load lets pass and what is wrong all the same: files that will be read
// later, rules that never match, limits that limit nothing. people may be nil: names of users
// and groups are not looked up then.
func (c *Config) Check(ctx context.Context, people directory.Directory, now time.Time) []Finding {
	k := &checker{c: c}
	k.places()
	k.startable()
	k.keysOfUsers()
	k.userCAs()
	k.hostKeys()
	k.credentials()
	k.rules(now)
	k.limits()
	k.batches(ctx, now)
	k.doors()
	if people != nil {
		k.names(ctx, people)
	}
	return k.found
}

type checker struct {
	c     *Config
	found []Finding
}

func (k *checker) add(level Level, key []string, format string, args ...any) {
	k.found = append(k.found, Finding{level, k.c.Path, k.c.line(key...), fmt.Sprintf(format, args...)})
}

func (k *checker) file(level Level, path string, line int, format string, args ...any) {
	k.found = append(k.found, Finding{level, path, line, fmt.Sprintf(format, args...)})
}

func (k *checker) places() {
	for _, d := range []struct {
		key  []string
		path string
	}{{[]string{"state_dir"}, k.c.StateDir}, {[]string{"record", "dir"}, k.c.Record.Dir}, {[]string{"keys", "dir"}, k.c.Keys.Dir}} {
		info, err := os.Stat(d.path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it is made
		case err != nil:
			k.add(Warning, d.key, "%s: %v", strings.Join(d.key, "."), err)
		case !info.IsDir():
			k.add(Fault, d.key, "%s: %s is no folder", strings.Join(d.key, "."), d.path)
		case info.Mode().Perm()&0o022 != 0:
			k.add(Fault, d.key, "%s: %s can be changed by others (mode %04o)", strings.Join(d.key, "."), d.path, info.Mode().Perm())
		}
	}
	if t := k.c.Timeouts; t.Handshake < time.Minute {
		k.add(Warning, []string{"timeouts", "handshake"}, "timeouts.handshake is %s: a push may wait for a minute", t.Handshake)
	}
	if t := k.c.Timeouts; t.FirstFactor > t.Handshake {
		k.add(Warning, []string{"timeouts", "first_factor"}, "timeouts.first_factor is above handshake, of which it is a part")
	}
	if k.c.Timeouts.Banner >= k.c.Timeouts.Handshake {
		k.add(Warning, []string{"timeouts", "banner"}, "timeouts.banner is not below handshake: a client that waits gets no sign of life")
	}
}

// maxKeyFiles bounds how many files of authorized keys are looked at.
const maxKeyFiles = 10_000

func (k *checker) keysOfUsers() {
	key := []string{"first_factor", "authorized_keys"}
	for _, pattern := range k.c.First.AuthorizedKeys {
		glob := strings.NewReplacer("%%", "%", "%u", "*").Replace(pattern)
		if dir := filepath.Dir(pattern); !strings.Contains(dir, "%u") {
			if err := ownfile.Check(dir); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					k.add(Warning, key, "first_factor.authorized_keys: there is no folder %s", dir)
				} else {
					k.add(Fault, key, "first_factor.authorized_keys: %v", err)
				}
				continue
			}
		}
		paths, err := filepath.Glob(glob)
		if err != nil {
			k.add(Fault, key, "first_factor.authorized_keys: %q: %v", pattern, err)
			continue
		}
		if len(paths) > maxKeyFiles {
			k.add(Warning, key, "first_factor.authorized_keys: %d files fit %q; the first %d are looked at", len(paths), pattern, maxKeyFiles)
			paths = paths[:maxKeyFiles]
		}
		for _, path := range paths {
			k.authorizedKeys(path)
		}
	}
}

func (k *checker) authorizedKeys(path string) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return
	}
	if !strings.HasPrefix(path, "/home/") {
		if err := ownfile.Check(path); err != nil {
			k.file(Fault, path, 0, "%v", err)
			return
		}
	}
	text, err := readFile(path)
	if err != nil {
		k.file(Fault, path, 0, "%v", err)
		return
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(rest) > 0 {
			k.file(Fault, path, n, "this is no public key, and nobody gets in with it")
			continue
		}
		if why := k.weak(key); why != "" {
			k.file(Warning, path, n, "%s", why)
		}
	}
}

// weak says why a key will not be taken.
func (k *checker) weak(key ssh.PublicKey) string {
	switch key.Type() {
	case "ssh-dss":
		return "DSA keys are not accepted any more"
	case ssh.KeyAlgoRSA:
		if bits := rsaBits(key); bits > 0 && bits < k.c.First.MinRSABits {
			return fmt.Sprintf("an RSA key of %d bits is below first_factor.min_rsa_bits (%d)", bits, k.c.First.MinRSABits)
		}
	}
	return ""
}

// revoked looks at a list of what is taken back: while one cannot be read, nothing counts that
// it could name.
func (k *checker) revoked(path string, key []string, what string) {
	if path == "" {
		return
	}
	err := ownfile.Check(path)
	if err != nil {
		k.add(Fault, key, "%s: %v", what, err)
		return
	}
	text, err := readFile(path)
	if err == nil {
		_, err = sshcert.ParseRevoked(text)
	}
	if err != nil {
		k.add(Fault, key, "%s: %s: %v", what, path, err)
	}
}

func (k *checker) userCAs() {
	k.revoked(k.c.First.RevokedKeys, []string{"first_factor", "revoked_keys"}, "first_factor.revoked_keys: no key counts")
	for i, ca := range k.c.First.CAs {
		k.revoked(ca.RevokedKeys, nth("user_ca", i, "revoked_keys"), fmt.Sprintf("user_ca %q: revoked_keys: no certificate of it counts", ca.Name))
		if ca.PrincipalsFile != "" {
			if dir := filepath.Dir(ca.PrincipalsFile); !strings.Contains(dir, "%u") {
				if err := ownfile.Check(dir); err != nil {
					k.add(Fault, nth("user_ca", i, "principals_file"), "user_ca %q: %v", ca.Name, err)
				}
			}
		}
	}
}

// maxHostKeys bounds for how many targets a host key is looked up: known_hosts is read from
// its beginning for each.
const maxHostKeys = 1000

// hostKeys looks whether each target's host key could be verified.
func (k *checker) hostKeys() {
	t := k.c.Targets
	key := []string{"targets", "known_hosts"}
	var files []string
	for _, path := range t.KnownHosts {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			files = append(files, path)
		}
	}
	known, err := knownhosts.NewDB(files...)
	if err != nil {
		said := len(k.found)
		for _, path := range files {
			k.knownHosts(path)
		}
		if len(k.found) == said {
			k.add(Fault, key, "targets.known_hosts: %v", err)
		}
		return
	}
	if t.TrustOnFirstUse {
		k.add(Warning, []string{"targets", "trust_on_first_use"}, "targets.trust_on_first_use: whoever answers first in place of a target is believed from then on")
		return
	}
	var without []string
	targets := k.c.Inventory().All()
	for _, t := range targets[:min(len(targets), maxHostKeys)] {
		port := strconv.Itoa(int(t.Port))
		have := len(t.HostCAs) > 0
		for _, at := range []string{net.JoinHostPort(t.Host, port), net.JoinHostPort(t.Name, port), net.JoinHostPort(t.Name, "22")} {
			have = have || len(known.HostKeys(at)) > 0
		}
		if !have {
			without = append(without, t.Name)
		}
	}
	if n := len(without); n > 0 {
		more := ""
		if n > 5 {
			without, more = without[:5], ", ..."
		}
		k.add(Warning, key, "no host key is known of %d targets (%s%s): they can be reached raw, with ssh -J, and not otherwise; put their keys into a file of known_hosts, or name a [[host_ca]] in host_cas", n, strings.Join(without, ", "), more)
	}
}

// knownHosts finds the lines of a file of known_hosts that do not parse. One is enough for
// the gateway to take none of the files.
func (k *checker) knownHosts(path string) {
	_, err := knownhosts.NewDB(path)
	if err == nil {
		return
	}
	wrong := func(line int, why string) {
		k.file(Fault, path, line, "this is no line of known_hosts, and the gateway takes no such file: %s", why)
	}
	// The library's reader stops at the first; another one of its own finds most of the others.
	first, why, found := strings.Cut(strings.TrimPrefix(err.Error(), "knownhosts: "+path+":"), ": ")
	at, atoi := strconv.Atoi(first)
	if !found || atoi != nil {
		at, why = 0, err.Error()
	}
	wrong(at, why)
	text, err := readFile(path)
	if err != nil {
		return // which is what was wrong
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if n <= at || line == "" || line[0] == '#' {
			continue
		}
		marker, _, _, _, _, err := ssh.ParseKnownHosts([]byte(line))
		if err == nil && marker != "" && marker != "revoked" && marker != "cert-authority" {
			err = fmt.Errorf("unexpected marker: @%s", marker)
		}
		if err != nil {
			wrong(n, err.Error())
		}
	}
}

func (k *checker) credentials() {
	for i, cr := range k.c.Credentials {
		if cr.Kind != CredentialKey {
			continue
		}
		key := nth("credential", i, "key_file")
		info, err := os.Stat(cr.KeyFile)
		switch {
		case err != nil:
			k.add(Fault, key, "credential %q: %v", cr.Name, err)
			continue
		case info.Mode().Perm()&0o027 != 0:
			k.add(Fault, key, "credential %q: %s is open to others (mode %04o); make it 0600", cr.Name, cr.KeyFile, info.Mode().Perm())
			continue
		}
		text, err := readFile(cr.KeyFile)
		if err == nil {
			_, err = ssh.ParsePrivateKey([]byte(text))
		}
		var locked *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			k.add(Fault, key, "credential %q: %s has a passphrase, which nobody would type", cr.Name, cr.KeyFile)
		case err != nil:
			k.add(Fault, key, "credential %q: %s: %v", cr.Name, cr.KeyFile, err)
		}
	}
}

// rules finds rules that are never asked or never match.
func (k *checker) rules(now time.Time) {
	rules := k.c.rules.Rules()
	if len(rules) == 0 {
		k.add(Warning, nil, "there is no [[rule]]: nobody reaches anything")
	}
	inv := k.c.Inventory()
	targets := append(inv.All(), inv.Samples()...)
	for i := range rules {
		r := &rules[i]
		warn := func(format string, args ...any) {
			k.file(Warning, r.Origin, r.Line, "rule %q: %s", r.Name, fmt.Sprintf(format, args...))
		}
		if j := k.c.rules.Shadowed(i); j >= 0 {
			warn("it is never asked: rule %q (line %d) matches whatever it matches", rules[j].Name, rules[j].Line)
		}
		if k.c.rules.Ended(i, now) {
			warn("it has ended: not_after is over")
		}
		if len(targets) > 0 && !slices.ContainsFunc(targets, func(t *inventory.Target) bool { return k.c.rules.Reaches(i, t) }) {
			warn("it never matches: no target is one of %s", strings.Join(r.Targets, ", "))
		}
		for _, w := range r.Targets {
			value, _ := match.Split(w)
			if name, ok := inventory.Canonical(value); ok && !match.IsPattern(value) {
				if _, ok := inv.Find(name); !ok {
					warn("there is no target %q", value)
				}
			}
		}
		for _, list := range []struct {
			name   string
			values []string
		}{{"users", r.Users}, {"groups", r.Groups}, {"keys", r.Keys}, {"logins", r.Logins}, {"targets", r.Targets}, {"sources", r.Sources}} {
			if nothingLeft(list.values) {
				warn("it never matches: %s takes back all that it names", list.name)
			}
		}
		permissions(r, warn)
	}
}

// nothingLeft says that a list negates every value that it holds.
func nothingLeft(values []string) bool {
	some := false
	for _, v := range values {
		if strings.HasPrefix(v, "!") {
			continue
		}
		some = true
		if !slices.Contains(values, "!"+v) && !slices.Contains(values, "!*") {
			return false
		}
	}
	return some
}

// permissions finds limits that limit nothing, and what people may miss.
func permissions(r *policy.Rule, warn func(format string, args ...any)) {
	if r.Action == policy.Deny {
		return
	}
	on := func(p *bool) bool { return p != nil && *p }
	some := func(p *[]string) bool { return p != nil && len(*p) > 0 }
	anyCommand := on(r.Shell) || some(r.Exec) && slices.Contains(*r.Exec, "*")
	all := func(p *[]string) bool { return p != nil && slices.Contains(*p, "/**") }
	if anyCommand && (some(r.SFTPRead) && !all(r.SFTPRead) || some(r.SFTPWrite) && !all(r.SFTPWrite)) {
		warn("sftp_read and sftp_write limit nothing: with shell or exec = [\"*\"] every file can be read and written that the login may")
	}
	if on(r.Shell) && r.Exec != nil && !slices.Contains(*r.Exec, "*") {
		warn("exec limits nothing: with shell = true any command can be typed")
	}
	if some(r.Exec) && slices.Contains(*r.Exec, "*") && !on(r.Shell) {
		warn(`shell limits nothing: exec = ["*"] runs any shell there is`)
	}
	if (on(r.Agent) || on(r.X11)) && !on(r.Shell) && !some(r.Exec) {
		warn("agent and x11 are of no use: the rule permits neither shell nor exec")
	}
	if r.Record == policy.RecordRequired && r.Forward != nil {
		for _, f := range *r.Forward {
			if match.IsPattern(f) || strings.Contains(f, "/") || strings.Contains(f[strings.LastIndexByte(f, ':')+1:], "-") {
				warn("record = \"required\": through the target only destinations go that are named exactly, and %q is a pattern", f)
			}
		}
	}
	if some(r.SFTPWrite) && !some(r.SFTPRead) {
		warn("sftp_write without sftp_read: files can be written, folders cannot be listed")
	}
}

func (k *checker) limits() {
	if l := k.c.Limits; l.UnauthenticatedFrom > l.Unauthenticated {
		k.add(Warning, []string{"limits", "unauthenticated_from"}, "limits.unauthenticated_from is above unauthenticated, of which it is a part")
	}
	if l := k.c.Limits; l.Penalty > 0 && l.PenaltyMax < l.PenaltyMin {
		k.add(Warning, []string{"limits", "penalty_max"}, "limits.penalty_max is below penalty_min: no source is ever shut out")
	}
	if l := k.c.Limits; l.ConnectionsFrom > l.Connections || l.ConnectionsUser > l.Connections {
		k.add(Warning, []string{"limits", "connections"}, "limits.connections is below connections_from or connections_user, which are parts of it")
	}
}

// batches finds batch rules that open nothing.
func (k *checker) batches(ctx context.Context, now time.Time) {
	inv := k.c.Inventory()
	targets := append(inv.All(), inv.Samples()...)
	for i := range k.c.Batches {
		b := &k.c.Batches[i]
		var mine []*inventory.Target
		for _, t := range targets {
			if b.Reaches(t) {
				mine = append(mine, t)
			}
		}
		if len(mine) == 0 {
			k.add(Warning, nth("batch", i, "targets"), "batch %q: no target is one of %s", b.Name, strings.Join(b.Targets, ", "))
			continue
		}
		for _, user := range b.Users {
			if !match.Exact([]string{user}) || slices.ContainsFunc(mine, func(t *inventory.Target) bool { return k.mayReach(ctx, user, b, t, now) }) {
				continue
			}
			k.add(Warning, nth("batch", i, "targets"), "batch %q: no [[rule]] that names no group lets %q reach any of its targets; a batch rule says that nothing is asked, not where one may go", b.Name, user)
		}
	}
}

func (k *checker) mayReach(ctx context.Context, user string, b *Batch, t *inventory.Target, now time.Time) bool {
	source := netip.Addr{}
	if p, err := match.ParseNetwork(b.Sources[0]); err == nil {
		source = p.Addr()
	}
	q := policy.Query{Account: directory.Account{Name: user}, Key: b.Keys[0], Source: source, Time: now, Target: t,
		InGroup: func(context.Context, string) (bool, error) { return true, nil }}
	return k.c.rules.Decide(ctx, q).Allowed
}

func (k *checker) doors() {
	for i, d := range k.c.Doors {
		for _, before := range k.c.Doors[:i] {
			if len(before.Users)+len(before.Groups)+len(before.Keys)+len(before.Sources) == 0 ||
				slices.Equal(before.Users, d.Users) && slices.Equal(before.Groups, d.Groups) && slices.Equal(before.Keys, d.Keys) && slices.Equal(before.Sources, d.Sources) {
				k.add(Warning, nth("door", i, "name"), "door %q is never asked: door %q matches whatever it matches", d.Name, before.Name)
				break
			}
		}
	}
}

// names looks up the users and groups that are written out.
func (k *checker) names(ctx context.Context, people directory.Directory) {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("the name service did not answer within 20 s"))
	defer cancel()
	root := directory.Account{Name: "root"}
	users, groups := map[string]error{}, map[string]error{}
	look := func(place func(format string, args ...any), names, ofGroups []string) {
		for _, n := range names {
			n, _ = match.Split(n)
			if match.IsPattern(n) {
				continue
			}
			if _, known := users[n]; !known {
				_, users[n] = people.ByName(ctx, n)
			}
			if errors.Is(users[n], directory.ErrNoSuchUser) {
				place("the name service knows no user %q", n)
			}
		}
		for _, g := range ofGroups {
			g, _ = match.Split(g)
			if _, known := groups[g]; !known {
				_, groups[g] = people.InGroup(ctx, root, g)
			}
			if err := groups[g]; err != nil {
				place("%v", err)
			}
		}
	}
	rules := k.c.rules.Rules()
	for i := range rules {
		r := &rules[i]
		look(func(format string, args ...any) {
			k.file(Warning, r.Origin, r.Line, "rule %q: %s", r.Name, fmt.Sprintf(format, args...))
		}, r.Users, r.Groups)
	}
	for i := range k.c.Doors {
		d := &k.c.Doors[i]
		look(func(format string, args ...any) {
			k.add(Warning, nth("door", i, "name"), "door %q: %s", d.Name, fmt.Sprintf(format, args...))
		}, d.Users, d.Groups)
	}
	for i := range k.c.Batches {
		b := &k.c.Batches[i]
		look(func(format string, args ...any) {
			k.add(Warning, nth("batch", i, "name"), "batch %q: %s", b.Name, fmt.Sprintf(format, args...))
		}, b.Users, nil)
	}
}

// rsaBits is the length of an RSA key, 0 for another.
func rsaBits(key ssh.PublicKey) int {
	c, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return 0
	}
	if k, ok := c.CryptoPublicKey().(interface{ Size() int }); ok {
		return k.Size() * 8
	}
	return 0
}
