// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
)

// commands are patterns of commands.
//
// A command goes to the login's shell on the target, so a pattern must say what a shell will
// make of it. A command is plain if it is made of the characters of plain alone: no shell
// gives those a meaning that joins, substitutes, redirects, quotes or expands. Of plain
// commands alone the words are compared with those of a pattern; any other command fits the
// pattern "*" and none else. So a pattern can never be left by ; & | $( ) ` < > a quote, a
// backslash, a glob or a line break.
//
// Within a pattern a word is a pattern of its own, in which * stands for text without a
// slash and ** for any text. A word that is * alone, or begins with a wildcard, does not fit
// a word that begins with a hyphen: an argument cannot become an option. What a wildcard
// stands for has no component "..". ** as the last word stands for any words, options too,
// and for none.
type commands struct {
	all  bool // the pattern "*"
	some []command
}

type command struct {
	words []*pattern
	rest  bool // ** as the last word
}

// plain are the characters of plain commands.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _@%+=:,./-"

// maxCommand bounds a command that patterns are compared with, in bytes.
const maxCommand = 32 << 10

func newCommands(written []string) (commands, error) {
	var out commands
	var errs []error
	for _, w := range written {
		if w == "*" {
			out.all = true
			continue
		}
		c, err := newCommand(w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out.some = append(out.some, c)
	}
	return out, errors.Join(errs...)
}

func newCommand(w string) (command, error) {
	var c command
	if extra := strings.Trim(w, plain+"*?"); extra != "" {
		return c, fmt.Errorf("%q: only letters of ASCII, digits, spaces, @ %% + = : , . / - _ and the wildcards * and ? can stand in it, or else * alone, which is any command", w)
	}
	words := words(w)
	if len(words) == 0 {
		return c, fmt.Errorf("%q is no command", w)
	}
	if last := len(words) - 1; last > 0 && words[last] == "**" {
		c.rest, words = true, words[:last]
	}
	// A wildcard could stand for an assignment, VARIABLE=value, in front of the command.
	if first := words[0]; strings.ContainsAny(first, "*?") && (first[0] != '/' || strings.Contains(first, "**")) {
		return c, fmt.Errorf("%q: the program must be named; a wildcard may stand in the last part of an absolute path, as in /usr/lib/nagios/plugins/check_*", w)
	}
	for _, word := range words {
		p, err := newPattern(word)
		if err != nil {
			return c, err
		}
		c.words = append(c.words, p)
	}
	return c, nil
}

// words takes a plain command apart as a shell does: nothing but spaces stands between words.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' })
}

func (c *commands) match(s string, who person) bool {
	if c.all {
		return true
	}
	if len(s) > maxCommand || strings.Trim(s, plain) != "" {
		return false
	}
	have := words(s)
	for i := range c.some {
		if c.some[i].match(have, who) {
			return true
		}
	}
	return false
}

func (c *command) match(have []string, who person) bool {
	if len(have) < len(c.words) || len(have) > len(c.words) && !c.rest {
		return false
	}
	for i, p := range c.words {
		if !p.match(have[i], who) {
			return false
		}
		if p.exact() {
			continue
		}
		if climbs(have[i]) || have[i][0] == '-' && p.tokens[0].kind >= anyInside {
			return false
		}
	}
	return true
}

// climbs says that a word has a component "..", as of a path, behind whatever sign.
func climbs(word string) bool {
	for i := 0; i+2 <= len(word); i++ {
		if word[i:i+2] != ".." {
			continue
		}
		if (i == 0 || !partOfName(word[i-1])) && (i+2 == len(word) || !partOfName(word[i+2])) {
			return true
		}
	}
	return false
}

func partOfName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}
