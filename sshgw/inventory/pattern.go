// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// pattern is a [[pattern]], compiled.
type pattern struct {
	written string
	port    uint16
	model   Target // with neither name nor host
	name    *regexp.Regexp
	host    []piece
	back    *regexp.Regexp // the name of a host; groups as in backTo
	backTo  []int          // what each group of back stands for: 0 the name, n the nth star
	stars   int
	// What a name, and a host, begins and ends with: quicker to look at than the expression.
	nameEnds, hostEnds [2]string
}

func between(s string, ends [2]string) bool {
	return strings.HasPrefix(s, ends[0]) && strings.HasSuffix(s, ends[1])
}

// piece is a part of the host of a pattern: text, or what the name gives.
type piece struct {
	text string
	from int // -1: text; 0: the name, n: what the nth star stands for
}

const star = `([a-z0-9_-]+)`

// newPattern compiles a name with stars, each of which stands for one character or more
// and for no dot, and a host in which %n is the name, %1 what the first star stands for.
func newPattern(name, host string) (*pattern, error) {
	p := &pattern{written: strings.ToLower(strings.TrimSuffix(name, ".")), stars: strings.Count(name, "*")}
	if p.stars == 0 || p.stars > 9 {
		return nil, fmt.Errorf("name %q has %d stars; a pattern has one to nine, and a name without is for [[target]]", name, p.stars)
	}
	if strings.Contains(p.written, "**") {
		return nil, fmt.Errorf("name %q: two stars stand side by side", name)
	}
	// What the stars stand for must not be what makes it a name.
	if _, ok := Canonical(strings.ReplaceAll(p.written, "*", "a")); !ok {
		return nil, fmt.Errorf("name %q is no name of a host, with stars for what differs", name)
	}
	var re strings.Builder
	re.WriteString("^")
	parts := strings.Split(p.written, "*")
	for i, text := range parts {
		if i > 0 {
			re.WriteString(star)
		}
		re.WriteString(regexp.QuoteMeta(text))
	}
	p.nameEnds = [2]string{parts[0], parts[len(parts)-1]}
	p.name = regexp.MustCompile(re.String() + "$")
	return p, p.setHost(host)
}

func (p *pattern) setHost(host string) error {
	if host == "" {
		host = "%n"
	}
	pieces, err := split(host, p.stars)
	if err != nil {
		return fmt.Errorf("host %q: %w", host, err)
	}
	p.host = pieces
	if first := pieces[0]; first.from < 0 {
		p.hostEnds[0] = first.text
	}
	if last := pieces[len(pieces)-1]; last.from < 0 {
		p.hostEnds[1] = last.text
	}
	named := make([]bool, p.stars+1)
	var re, sample strings.Builder
	re.WriteString("^")
	for _, part := range pieces {
		switch {
		case part.from < 0:
			re.WriteString(regexp.QuoteMeta(part.text))
			sample.WriteString(part.text)
			continue
		case part.from == 0:
			re.WriteString(`([a-z0-9._-]+)`)
		default:
			re.WriteString(star)
		}
		sample.WriteString("a")
		named[part.from] = true
		p.backTo = append(p.backTo, part.from)
	}
	p.back = regexp.MustCompile(re.String() + "$")
	if _, ok := Canonical(sample.String()); !ok {
		return fmt.Errorf("host %q is no name of a host, with %%n and %%1 for what differs", host)
	}
	if !named[0] {
		for i := 1; i <= p.stars; i++ {
			if !named[i] {
				return fmt.Errorf("host %q says neither %%n nor %%%d: several names would be one server, and rules about one would not hold for the other", host, i)
			}
		}
	}
	return nil
}

// split reads a host with percent signs.
func split(host string, stars int) ([]piece, error) {
	var out []piece
	text := ""
	for i := 0; i < len(host); i++ {
		if host[i] != '%' {
			text += strings.ToLower(host[i : i+1])
			continue
		}
		i++
		if i == len(host) {
			return nil, errors.New("a percent sign at the end; %n is the name, %1 what the first star stands for")
		}
		from := 0
		if host[i] != 'n' {
			n, err := strconv.Atoi(host[i : i+1])
			if err != nil || n < 1 || n > stars {
				return nil, fmt.Errorf("%%%c is nothing; %%n is the name, %%1 what the first of its %d stars stands for", host[i], stars)
			}
			from = n
		}
		if text != "" {
			out = append(out, piece{text, -1})
		}
		out, text = append(out, piece{"", from}), ""
	}
	if text != "" {
		out = append(out, piece{text, -1})
	}
	return out, nil
}

// target makes the target of a canonical name.
func (p *pattern) target(name string) (*Target, bool) {
	if !between(name, p.nameEnds) {
		return nil, false
	}
	m := p.name.FindStringSubmatch(name)
	if m == nil {
		return nil, false
	}
	var host strings.Builder
	for _, part := range p.host {
		if part.from < 0 {
			host.WriteString(part.text)
		} else {
			host.WriteString(m[part.from])
		}
	}
	canonical, addr, ok := Host(host.String())
	if !ok {
		return nil, false
	}
	if addr.IsValid() {
		canonical = addr.String()
	}
	t := p.model
	t.Name, t.Host, t.Port, t.Pattern = name, canonical, p.port, p.written
	return &t, true
}

// nameOf is the name that has this host.
func (p *pattern) nameOf(host string) (string, bool) {
	if !between(host, p.hostEnds) {
		return "", false
	}
	m := p.back.FindStringSubmatch(host)
	if m == nil {
		return "", false
	}
	stars := make([]string, p.stars+1)
	for i, from := range p.backTo {
		if stars[from] != "" && stars[from] != m[i+1] {
			return "", false
		}
		stars[from] = m[i+1]
	}
	name := stars[0]
	if name == "" {
		parts := strings.Split(p.written, "*")
		name = parts[0]
		for i, text := range parts[1:] {
			name += stars[i+1] + text
		}
	}
	if t, ok := p.target(name); !ok || t.Host != host {
		return "", false
	}
	return name, true
}
