// SPDX-License-Identifier: Apache-2.0

// Package menu lets a person at a terminal choose a target from a list. It decides
// nothing about targets, and shows no byte of theirs unescaped.
package menu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// Entry is a target that can be chosen.
type Entry struct {
	Name        string
	Aliases     []string
	Logins      []string // at least one; the first is the default
	Description string
	Note        string // what to expect there, such as a factor of its own
}

// Choice is what was chosen.
type Choice struct{ Name, Login string }

// ErrLeft says that the person left without choosing.
var ErrLeft = errors.New("nothing was chosen")

// Menu is a list on a terminal.
type Menu struct {
	Title   string
	Entries []Entry
	// Size is that of the terminal, asked before each drawing.
	Size func() (width, height int)
	In   io.Reader
	Out  io.Writer
	// Plain shows and asks line by line, for terminals that cannot move their cursor.
	Plain bool
}

// Choose runs the menu. It reads no byte beyond the choice.
func (m *Menu) Choose() (Choice, error) {
	if m.Plain {
		return m.plain()
	}
	return m.rich()
}

// found is an entry that fits what was typed, with its number in the whole list.
type found struct {
	Entry
	number int
}

// split takes login@target apart.
func split(typed string) (login, rest string) {
	if i := strings.LastIndexByte(typed, '@'); i >= 0 {
		return typed[:i], typed[i+1:]
	}
	return "", typed
}

// matching are the entries that fit what was typed: all words occur in them, or it is
// their number. exact is the index of the one that is named or numbered, -1 for none.
func (m *Menu) matching(typed string) (list []found, exact int) {
	_, rest := split(typed)
	words := strings.Fields(strings.ToLower(rest))
	number, err := strconv.Atoi(strings.TrimSpace(rest))
	exact = -1
	for i, e := range m.Entries {
		text := strings.ToLower(e.Name + " " + strings.Join(e.Aliases, " ") + " " + e.Description)
		fits := true
		for _, w := range words {
			fits = fits && strings.Contains(text, w)
		}
		numbered := err == nil && number == i+1
		if !fits && !numbered {
			continue
		}
		list = append(list, found{e, i + 1})
		named := len(words) == 1 && (strings.EqualFold(e.Name, words[0]) || slices.ContainsFunc(e.Aliases, func(a string) bool { return strings.EqualFold(a, words[0]) }))
		if named || numbered && exact < 0 {
			exact = len(list) - 1
		}
	}
	return list, exact
}

// choice is an entry with the login that was typed before it, or its first.
func choice(e Entry, typed string) Choice {
	login, _ := split(typed)
	if login == "" && len(e.Logins) > 0 {
		login = e.Logins[0]
	}
	return Choice{e.Name, login}
}

// line shows an entry.
func (f found) line() string {
	s := fmt.Sprintf("%3d  %-20s  %s", f.number, cli.Escape(f.Name), cli.Escape(strings.Join(f.Logins, ", ")))
	if f.Description != "" {
		s += "  " + cli.Escape(f.Description)
	}
	if f.Note != "" {
		s += "  (" + cli.Escape(f.Note) + ")"
	}
	return s
}

// longest is how many entries the plain list shows at once.
const longest = 200

func (m *Menu) plain() (Choice, error) {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{single{m.In}, m.Out}, "")
	show := func(list []found) {
		for i, f := range list {
			if i == longest {
				fmt.Fprintf(t, "… and %d more\n", len(list)-longest)
				break
			}
			fmt.Fprintln(t, f.line())
		}
	}
	fmt.Fprintln(t, m.Title)
	list, _ := m.matching("")
	show(list)
	t.SetPrompt("Number, name or login@name (q leaves): ")
	for {
		line, err := t.ReadLine()
		if errors.Is(err, io.EOF) {
			return Choice{}, ErrLeft
		}
		if err != nil {
			return Choice{}, err
		}
		switch line = strings.TrimSpace(line); line {
		case "":
			continue
		case "q":
			return Choice{}, ErrLeft
		}
		list, exact := m.matching(line)
		switch {
		case exact >= 0:
			return choice(list[exact].Entry, line), nil
		case len(list) == 1:
			return choice(list[0].Entry, line), nil
		case len(list) == 0:
			fmt.Fprintln(t, "Nothing fits.")
		default:
			show(list)
		}
	}
}

// Keys beyond those that are a byte.
const (
	keyUp = utf8.MaxRune + 1 + iota
	keyDown
	keyPageUp
	keyPageDown
	keyOther
)

// longestFilter bounds what can be typed.
const longestFilter = 128

func (m *Menu) rich() (Choice, error) {
	in := bufio.NewReaderSize(single{m.In}, 16) // never more than a byte ahead
	typed := ""
	list, at := m.matching("")
	at = max(at, 0)
	drawn := 0
	draw := func() error {
		var b strings.Builder
		drawn = m.draw(&b, list, at, typed, drawn)
		_, err := io.WriteString(m.Out, b.String())
		return err
	}
	leave := func(c Choice, err error) (Choice, error) {
		_, werr := io.WriteString(m.Out, up(drawn)+"\r\x1b[J")
		return c, errors.Join(err, werr)
	}
	for {
		if err := draw(); err != nil {
			return Choice{}, err
		}
		key, err := readKey(in)
		if err != nil {
			return Choice{}, err
		}
		before := typed
		switch key {
		case 3, 4: // Ctrl-C, Ctrl-D
			return leave(Choice{}, ErrLeft)
		case '\r', '\n':
			if at < len(list) {
				return leave(choice(list[at].Entry, typed), nil)
			}
		case keyUp, 16: // Ctrl-P
			at = max(at-1, 0)
		case keyDown, 14: // Ctrl-N
			at = min(at+1, max(len(list)-1, 0))
		case keyPageUp:
			at = max(at-m.rows(), 0)
		case keyPageDown:
			at = min(at+m.rows(), max(len(list)-1, 0))
		case 127, 8:
			_, size := utf8.DecodeLastRuneInString(typed)
			typed = typed[:len(typed)-size]
		case 21: // Ctrl-U
			typed = ""
		default:
			if key >= ' ' && key <= utf8.MaxRune && cli.Escape(string(key)) == string(key) && len(typed) < longestFilter {
				typed += string(key)
			}
		}
		if typed != before {
			list, at = m.matching(typed)
			at = max(at, 0)
		}
	}
}

// rows is how many entries are shown at once.
func (m *Menu) rows() int {
	_, h := m.Size()
	if h <= 0 {
		h = 24
	}
	return min(max(h-4, 1), longest)
}

// up moves the cursor up.
func up(lines int) string {
	if lines == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA", lines)
}

// draw draws over what was drawn before, and returns how far up the first line is.
func (m *Menu) draw(b *strings.Builder, list []found, at int, typed string, drawn int) int {
	w, _ := m.Size()
	if w <= 0 {
		w = 80
	}
	b.WriteString(up(drawn) + "\r\x1b[J")
	line := func(s string) { b.WriteString(cut(s, w-1) + "\r\n") }
	line(cli.Escape(m.Title))
	rows := m.rows()
	first := min(max(at-rows/2, 0), max(len(list)-rows, 0))
	lines := 1
	for i := first; i < min(first+rows, len(list)); i++ {
		if i == at {
			b.WriteString("\x1b[7m" + cut(list[i].line(), w-1) + "\x1b[0m\r\n")
		} else {
			line(list[i].line())
		}
		lines++
	}
	line(fmt.Sprintf("%d of %d; type to filter, arrows and Enter, Ctrl-C leaves", len(list), len(m.Entries)))
	b.WriteString(cut("> "+typed, w-1))
	return lines + 1
}

// cut shortens a line to a width.
func cut(s string, width int) string {
	for i := range s {
		if width <= 0 {
			return s[:i]
		}
		width--
	}
	return s
}

// readKey reads a key. Sequences that stand for no key that matters are read to their end.
func readKey(in *bufio.Reader) (rune, error) {
	r, _, err := in.ReadRune()
	if err != nil || r != 0x1b {
		return r, err
	}
	b, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	if b != '[' && b != 'O' {
		return keyOther, nil
	}
	param := byte(0)
	for range 16 {
		if b, err = in.ReadByte(); err != nil {
			return 0, err
		}
		if b >= 0x40 && b <= 0x7e {
			break
		}
		if param == 0 {
			param = b
		}
	}
	switch {
	case b == 'A':
		return keyUp, nil
	case b == 'B':
		return keyDown, nil
	case b == '~' && param == '5':
		return keyPageUp, nil
	case b == '~' && param == '6':
		return keyPageDown, nil
	}
	return keyOther, nil
}

// single reads one byte at a time.
type single struct{ r io.Reader }

func (s single) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.r.Read(p[:1])
}
