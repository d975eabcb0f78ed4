// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// oracle is a pattern as a regular expression.
func oracle(p string, who person) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^(?s:`)
	for i := 0; i < len(p); i++ {
		switch {
		case strings.HasPrefix(p[i:], "**"):
			b.WriteString(`.*`)
			i++
		case p[i] == '*':
			b.WriteString(`[^/]*`)
		case p[i] == '?':
			b.WriteString(`[^/]`)
		case p[i] == '%' && p[i+1] == 'u':
			b.WriteString(regexp.QuoteMeta(who.user))
			i++
		case p[i] == '%' && p[i+1] == 'l':
			b.WriteString(regexp.QuoteMeta(who.login))
			i++
		case p[i] == '%':
			b.WriteString("%")
			i++
		default:
			b.WriteString(regexp.QuoteMeta(p[i : i+1]))
		}
	}
	b.WriteString(`)$`)
	return regexp.MustCompile(b.String())
}

// A pattern means what the regular expression means that it stands for.
func TestPatternsAgreeWithTheOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "/", "*", "**", "?", "%u", "%l", "%%", "ab", "."}
	texts := []string{"a", "b", "/", "ab", ".", "%", "ba", "x"}
	who := person{"ab", "b.a"}
	agreed, fits := 0, 0
	for range 60_000 {
		p, s := "", ""
		for range r.IntN(7) + 1 {
			p += parts[r.IntN(len(parts))]
		}
		for range r.IntN(8) {
			s += texts[r.IntN(len(texts))]
		}
		if strings.Contains(p, "***") {
			continue
		}
		c, err := newPattern(p)
		if err != nil {
			t.Fatalf("%q: %v", p, err)
		}
		want := oracle(p, who).MatchString(s)
		if got := c.match(s, who); got != want {
			t.Fatalf("%q, %q: %t, want %t", p, s, got, want)
		}
		agreed++
		if want {
			fits++
		}
	}
	if agreed < 40_000 || fits < 1000 {
		t.Errorf("%d comparisons, of which %d fit: too few to say much", agreed, fits)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("/home/%u/**", "/home/alice/x", "alice")
	f.Add("**a**b?*", "xaxbc", "*")
	f.Add("%u", "**", "**")
	f.Add("/%%/?", "/%/é", "")
	f.Fuzz(func(t *testing.T, p, s, user string) {
		c, err := newPattern(p)
		if err != nil || len(p)+len(s)+len(user) > 300 || !utf8.ValidString(s) || !utf8.ValidString(user) {
			return
		}
		who := person{user, "login"}
		if user == "" && strings.Contains(strings.ReplaceAll(p, "%%", ""), "%u") {
			if c.match(s, who) {
				t.Errorf("%q fits for nobody", p)
			}
			return
		}
		if got, want := c.match(s, who), oracle(p, who).MatchString(s); got != want {
			t.Errorf("%q, %q for %q: %t, want %t", p, s, user, got, want)
		}
	})
}

// A pattern of many stars takes no more time for a text that almost fits. That it ends at all
// is the test.
func TestStarsDoNotExplode(t *testing.T) {
	c, err := newPattern("/" + strings.Repeat("**a", 200) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if c.match("/"+strings.Repeat("a", 4000), person{}) {
		t.Error("it fits")
	}
}

func TestPaths(t *testing.T) {
	who := person{"alice", "web"}
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"/**", "/", true},
		{"/**", "/etc/passwd", true},
		{"/**", "etc/passwd", false},
		{"/**", "/etc/../etc/passwd", false},
		{"/**", "/etc//passwd", false},
		{"/**", "/etc/passwd/", false},
		{"/**", "/etc/./passwd", false},
		{"/**", "/etc/pass\x00wd", false},
		{"/", "/", true},
		{"/", "/etc", false},
		{"/srv/data/**", "/srv/data", true},
		{"/srv/data/**", "/srv/data/a/b", true},
		{"/srv/data/**", "/srv/data/../secret", false},
		{"/srv/data/**", "/srv/database", false},
		{"/srv/data/**", "/srv/DATA/a", false},
		{"/srv/data/*", "/srv/data/a", true},
		{"/srv/data/*", "/srv/data/a/b", false},
		{"/srv/data/*", "/srv/data", false},
		{"/home/%u/**", "/home/alice/.ssh/id", true},
		{"/home/%u/**", "/home/bob/x", false},
		{"/home/%l/*", "/home/web/x", true},
		{"/home/*/public/**", "/home/bob/public/x", true},
		{"/home/*/public/**", "/home/bob/x/public/y", false},
		{"/var/log/*.log", "/var/log/syslog", false},
		{"/var/log/*.log", "/var/log/a.log", true},
		{"/a?c", "/a/c", false},
	} {
		p, err := newPaths([]string{c.pattern})
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if got := p.match(c.path, who); got != c.want {
			t.Errorf("%q, %q: %t", c.pattern, c.path, got)
		}
	}
	// A name that is a path, or a pattern, stands for itself.
	p, err := newPaths([]string{"/home/%u/**"})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"..", ".", "*", "**", "", "a/../.."} {
		if p.match("/home/bob/x", person{user, ""}) || p.match("/x", person{user, ""}) || p.match("/home/../x", person{user, ""}) {
			t.Errorf("user %q reaches files of others", user)
		}
	}
}

func TestBelowIsTrueOnlyOfWholeTrees(t *testing.T) {
	who := person{"alice", "root"}
	for _, c := range []struct {
		pattern, folder string
		want            bool
	}{
		{"/**", "/", true},
		{"/**", "/srv", true},
		{"/srv/**", "/srv", true},
		{"/srv/**", "/srv/a/b", true},
		{"/srv/**", "/", false},
		{"/srv/**", "/srvs", false},
		{"/srv/*", "/srv", false},
		{"/srv/**/x", "/srv", false},
		{"/srv/**.txt", "/srv", false},
		{"/srv/*/**", "/srv", false},
		{"/srv/*/**", "/srv/a", true},
		{"/home/%u/**", "/home/alice", true},
		{"/home/%u/**", "/home/bob", false},
		{"/srv/a**", "/srv", false},
		{"/srv/a**", "/srv/ab", true},
		{"/srv", "/srv", false},
		{"/srv/**", "/srv/..", false},
		{"/srv/**", "srv", false},
	} {
		p, err := newPaths([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.below(c.folder, who); got != c.want {
			t.Errorf("%s, below %s: %v", c.pattern, c.folder, got)
		}
		if c.want {
			for _, more := range []string{"/x", "/.x", "/x/y.txt", "/\xff/é"} {
				if path := strings.TrimSuffix(c.folder, "/") + more; !p.match(path, who) {
					t.Errorf("%s does not hold %s", c.pattern, path)
				}
			}
		}
	}
}
