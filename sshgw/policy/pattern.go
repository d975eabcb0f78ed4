// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// person is what stands for %u and %l.
type person struct{ user, login string }

// pattern is a pattern of paths or of a word of a command, compiled: * stands for any text
// without a slash, ** for any text, ? for one character but a slash, %u for the user's name,
// %l for the login, %% for a percent sign.
type pattern struct {
	written string
	tokens  []token
}

type token struct {
	kind tokenKind
	text string // of a literal
}

type tokenKind uint8

const (
	literal tokenKind = iota
	userName
	loginName
	anyInside // *
	anyText   // **
	oneInside // ?
)

// maxPattern bounds a pattern, in bytes.
const maxPattern = 4096

func newPattern(s string) (*pattern, error) {
	if s == "" || len(s) > maxPattern || !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
		return nil, fmt.Errorf("%q is no pattern: text without control characters, at most %d bytes", s, maxPattern)
	}
	p := &pattern{written: s}
	text := ""
	flush := func() {
		if text != "" {
			p.tokens = append(p.tokens, token{literal, text})
			text = ""
		}
	}
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "***"):
			return nil, fmt.Errorf("%q: three stars mean nothing", s)
		case strings.HasPrefix(s[i:], "**"):
			flush()
			p.tokens = append(p.tokens, token{kind: anyText})
			i++
		case s[i] == '*':
			flush()
			p.tokens = append(p.tokens, token{kind: anyInside})
		case s[i] == '?':
			flush()
			p.tokens = append(p.tokens, token{kind: oneInside})
		case s[i] == '%':
			if i++; i == len(s) {
				return nil, errPercent(s)
			}
			switch s[i] {
			case '%':
				text += "%"
				continue
			case 'u':
				flush()
				p.tokens = append(p.tokens, token{kind: userName})
			case 'l':
				flush()
				p.tokens = append(p.tokens, token{kind: loginName})
			default:
				return nil, errPercent(s)
			}
		default:
			text += s[i : i+1]
		}
	}
	flush()
	return p, nil
}

func errPercent(s string) error {
	return fmt.Errorf("%q: %%u is the user's name, %%l the login, %%%% a percent sign", s)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// exact says that the pattern is a text.
func (p *pattern) exact() bool {
	for _, t := range p.tokens {
		if t.kind >= anyInside {
			return false
		}
	}
	return true
}

// match says whether s fits. It takes time in proportion to the lengths of both, whatever
// they say: states are tokens that come next, all of them at once.
func (p *pattern) match(s string, who person) bool {
	// at[i]: where in s token i may begin, as a set over positions, one token after the other.
	// A name that is empty stands for nothing at all: it fits nowhere.
	now := make([]bool, len(s)+1)
	now[0] = true
	for _, t := range p.tokens {
		next := make([]bool, len(s)+1)
		some := false
		switch t.kind {
		case literal, userName, loginName:
			text := t.text
			switch t.kind {
			case userName:
				text = who.user
			case loginName:
				text = who.login
			}
			if text == "" {
				return false
			}
			for i := 0; i+len(text) <= len(s); i++ {
				if now[i] && s[i:i+len(text)] == text {
					next[i+len(text)], some = true, true
				}
			}
		case oneInside:
			for i := range len(s) {
				if now[i] && s[i] != '/' {
					_, n := utf8.DecodeRuneInString(s[i:])
					next[i+n], some = true, true
				}
			}
		case anyInside, anyText:
			reach := false
			for i := range len(s) + 1 {
				if reach = reach || now[i]; reach {
					next[i], some = true, true
				}
				if i < len(s) && s[i] == '/' && t.kind == anyInside {
					reach = false
				}
			}
		}
		if !some {
			return false
		}
		now = next
	}
	return now[len(s)]
}

// paths are patterns of absolute paths.
type paths struct {
	all  bool // every path
	some []*pattern
}

// newPaths compiles patterns of paths.
func newPaths(written []string) (paths, error) {
	var out paths
	var errs []error
	for _, w := range written {
		if !strings.HasPrefix(w, "/") || w != "/" && !cleanPath(strings.TrimSuffix(w, "/**")) && w != "/**" {
			errs = append(errs, fmt.Errorf("%q is no pattern of absolute paths, such as /srv/data/** or /home/%%u/*.log", w))
			continue
		}
		p, err := newPattern(w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.all = out.all || w == "/**"
		out.some = append(out.some, p)
		// A tree is its root as well.
		if top, ok := strings.CutSuffix(w, "/**"); ok && top != "" {
			if p, err := newPattern(top); err == nil {
				out.some = append(out.some, p)
			}
		}
	}
	return out, errors.Join(errs...)
}

// match says whether a path is among them; only clean, absolute ones are.
func (p *paths) match(path string, who person) bool {
	if !cleanPath(path) {
		return false
	}
	if p.all {
		return true
	}
	for _, one := range p.some {
		if one.match(path, who) {
			return true
		}
	}
	return false
}

// below says that every path below a folder is among them, by one pattern. Several that only
// do so together are not found.
func (p *paths) below(path string, who person) bool {
	if !cleanPath(path) {
		return false
	}
	if p.all {
		return true
	}
	path = strings.TrimSuffix(path, "/") + "/"
	for _, one := range p.some {
		// What ** at the end stands for may be longer by whatever follows.
		if n := len(one.tokens); n > 0 && one.tokens[n-1].kind == anyText && one.match(path, who) {
			return true
		}
	}
	return false
}

// exact says whether a pattern without a wildcard is this path.
func (p *paths) exact(path string, who person) bool {
	for _, one := range p.some {
		if one.exact() && cleanPath(path) && one.match(path, who) {
			return true
		}
	}
	return false
}

// cleanPath says that a path is absolute, and the shortest way to write it.
func cleanPath(path string) bool {
	if path == "/" {
		return true
	}
	if len(path) < 2 || len(path) > maxPattern || path[0] != '/' || strings.ContainsRune(path, 0) {
		return false
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
