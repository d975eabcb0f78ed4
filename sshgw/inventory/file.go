// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
)

// maxFile bounds a file, in bytes: some hundred thousand targets.
const maxFile = 64 << 20

// maxTargets bounds all files together.
const maxTargets = 200_000

// File is what a file of targets may hold.
type File struct {
	Targets  []Entry `toml:"target"`
	Patterns []Entry `toml:"pattern"`
}

// Entry is one [[target]] or [[pattern]] as it is written.
type Entry struct {
	Name        string            `toml:"name"`
	Aliases     []string          `toml:"aliases"`
	Host        string            `toml:"host"` // empty: the name
	Port        int               `toml:"port"` // 0: 22
	Labels      map[string]string `toml:"labels"`
	Groups      []string          `toml:"groups"`
	Logins      []string          `toml:"logins"`
	HostCAs     []string          `toml:"host_cas"`
	Credential  string            `toml:"credential"`
	Description string            `toml:"description"`

	at string // file and line
}

// Names are what sshgw.toml has under the names that entries may use; nil: not looked at.
type Names struct {
	HostCAs, Credentials []string
}

// Parse reads the text of one file; name stands in errors.
func Parse(name, text string, known *Names) (*Inventory, error) {
	b := newBuilder(known)
	b.add(name, text)
	return b.inventory()
}

type builder struct {
	known *Names
	inv   *Inventory
	at    map[*Target]string
	errs  []error
}

func newBuilder(known *Names) *builder {
	return &builder{known: known, at: map[*Target]string{}, inv: &Inventory{
		byName: map[string]*Target{}, byHost: map[hostPort]*Target{}, byAddr: map[netip.AddrPort]*Target{}}}
}

func (b *builder) inventory() (*Inventory, error) {
	if n := len(b.inv.targets) + len(b.inv.patterns); n > maxTargets {
		b.errs = append(b.errs, fmt.Errorf("%d targets: over %d", n, maxTargets))
	}
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	slices.SortFunc(b.inv.targets, func(x, y *Target) int { return strings.Compare(x.Name, y.Name) })
	b.inv.hosts = make(map[string]*Target, len(b.inv.targets))
	for _, t := range b.inv.targets {
		if _, taken := b.inv.hosts[t.Host]; !taken {
			b.inv.hosts[t.Host] = t
		}
	}
	return b.inv, nil
}

// readFile reads a file of targets.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read targets: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read targets: %s: %w", path, err)
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("read targets: %s: over %d bytes", path, maxFile)
	}
	return string(text), nil
}

var header = regexp.MustCompile(`(?m)^[ \t]*\[\[[ \t]*(target|pattern)[ \t]*\]\]`)

func (b *builder) add(name, text string) {
	var file File
	if err := tomlfile.Decode(name, text, &file); err != nil {
		b.errs = append(b.errs, err)
		return
	}
	locate(&file, name, text)
	for i := range file.Targets {
		b.target(&file.Targets[i])
	}
	for i := range file.Patterns {
		b.pattern(&file.Patterns[i])
	}
}

// locate writes into each entry where it stands. Where headers stand in strings, the line
// is left out: none is better than a wrong one.
func locate(file *File, name, text string) {
	lines := map[string][]int{}
	line, from := 1, 0
	for _, m := range header.FindAllStringSubmatchIndex(text, -1) {
		line += strings.Count(text[from:m[2]], "\n")
		from = m[2]
		kind := text[m[2]:m[3]]
		lines[kind] = append(lines[kind], line)
	}
	for kind, entries := range map[string][]Entry{"target": file.Targets, "pattern": file.Patterns} {
		for i := range entries {
			entries[i].at = name
			if len(lines[kind]) == len(entries) {
				entries[i].at = fmt.Sprintf("%s:%d", name, lines[kind][i])
			}
		}
	}
}

func (b *builder) fail(e *Entry, format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("%s: %q: %w", e.at, e.Name, fmt.Errorf(format, args...)))
}

func (b *builder) target(e *Entry) {
	name, ok := Canonical(e.Name)
	if !ok {
		hint := ""
		if strings.Contains(e.Name, "*") {
			hint = "; names with stars are for [[pattern]]"
		}
		b.fail(e, "name is no name of a host: letters a to z, digits, dots, hyphens, underscores%s", hint)
		return
	}
	t := b.common(e)
	t.Name = name
	if e.Host == "" {
		t.Host = name
	} else {
		host, addr, ok := Host(e.Host)
		if !ok {
			b.fail(e, "host %q is neither a name of a host nor an address", e.Host)
			return
		}
		if t.Host = host; addr.IsValid() {
			t.Host = addr.String()
		}
	}
	b.claim(e, &t, name)
	for _, a := range e.Aliases {
		alias, ok := Canonical(a)
		if !ok {
			b.fail(e, "alias %q is no name of a host", a)
			continue
		}
		t.Aliases = append(t.Aliases, alias)
		b.claim(e, &t, alias)
	}
	b.place(e, &t)
	b.at[&t] = e.at
	b.inv.targets = append(b.inv.targets, &t)
}

// claim takes a name for a target.
func (b *builder) claim(e *Entry, t *Target, name string) {
	if other, taken := b.inv.byName[name]; taken {
		if other == t {
			b.fail(e, "name %q is there twice", name)
			return
		}
		b.fail(e, "name %q is one of %q already (%s)", name, other.Name, b.at[other])
		return
	}
	b.inv.byName[name] = t
}

// place takes the address for a target.
func (b *builder) place(e *Entry, t *Target) {
	other, taken := b.inv.byHost[hostPort{t.Host, t.Port}]
	if taken {
		b.fail(e, "%s port %d is %q already (%s): one server under two names could be reached by the rules of either; give it an alias", t.Host, t.Port, other.Name, b.at[other])
		return
	}
	b.inv.byHost[hostPort{t.Host, t.Port}] = t
	if addr, err := netip.ParseAddr(t.Host); err == nil {
		b.inv.byAddr[netip.AddrPortFrom(addr, t.Port)] = t
	}
}

func (b *builder) pattern(e *Entry) {
	p, err := newPattern(e.Name, e.Host)
	if err != nil {
		b.fail(e, "%w", err)
		return
	}
	if len(e.Aliases) > 0 {
		b.fail(e, "a pattern has no aliases: write another pattern")
	}
	if slices.ContainsFunc(b.inv.patterns, func(q *pattern) bool { return q.written == p.written }) {
		b.fail(e, "this pattern is there twice")
	}
	p.model = b.common(e)
	p.port = p.model.Port
	b.inv.patterns = append(b.inv.patterns, p)
}

// common is what targets and patterns share.
func (b *builder) common(e *Entry) Target {
	t := Target{Port: 22, Labels: e.Labels, Groups: e.Groups, Logins: e.Logins, HostCAs: e.HostCAs, Credential: e.Credential, Description: e.Description}
	if e.Port < 0 || e.Port > 65535 {
		b.fail(e, "port %d is none", e.Port)
	} else if e.Port != 0 {
		t.Port = uint16(e.Port)
	}
	for key, value := range e.Labels {
		if !label(key) || !line(value) {
			b.fail(e, "label %q = %q: a key is letters, digits and . _ - /, a value one line", key, value)
		}
	}
	for _, g := range e.Groups {
		if !label(g) {
			b.fail(e, "group %q is no name: letters, digits and . _ - /", g)
		}
	}
	for _, l := range e.Logins {
		if !Login(l) {
			b.fail(e, "login %q is no name of an account", l)
		}
	}
	if !line(e.Description) {
		b.fail(e, "description is one line of at most 200 bytes")
	}
	if b.known != nil {
		for _, ca := range e.HostCAs {
			if !slices.Contains(b.known.HostCAs, ca) {
				b.fail(e, "host_cas: no [[host_ca]] of sshgw.toml is named %q", ca)
			}
		}
		// Several, with commas between, are tried in that order.
		for c := range strings.SplitSeq(e.Credential, ",") {
			if e.Credential != "" && !slices.Contains(b.known.Credentials, strings.TrimSpace(c)) {
				b.fail(e, "credential: no [[credential]] of sshgw.toml is named %q", strings.TrimSpace(c))
			}
		}
	}
	return t
}

// Login says whether s may be the name of an account at a target.
func Login(s string) bool {
	return s != "" && len(s) <= 256 && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`%:/`, r) || r == unicode.ReplacementChar
	})
}

func label(s string) bool {
	return s != "" && len(s) <= 200 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") == ""
}

func line(s string) bool {
	return len(s) <= 200 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) || r == unicode.ReplacementChar })
}
