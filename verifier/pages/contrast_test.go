// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// pairs are what is drawn on what, and the contrast that WCAG 2.2 asks for: 4.5 for
// text (1.4.3), 3 for the edges of controls and for focus (1.4.11).
var pairs = []struct {
	front, back string
	want        float64
}{
	{"ink", "ground", 4.5}, {"ink", "surface", 4.5}, {"ink", "sunken", 4.5},
	{"ink", "accent-soft", 4.5}, {"ink", "warn-soft", 4.5}, {"ink", "danger-soft", 4.5},
	{"muted", "ground", 4.5}, {"muted", "surface", 4.5}, {"muted", "sunken", 4.5},
	{"muted", "accent-soft", 4.5}, {"muted", "warn-soft", 4.5}, {"muted", "danger-soft", 4.5},
	{"accent", "ground", 4.5}, {"accent", "surface", 4.5}, {"accent", "accent-soft", 4.5},
	{"accent-strong", "accent-soft", 4.5}, {"accent-strong", "ground", 4.5}, {"accent-strong", "surface", 4.5},
	{"on-accent", "accent", 4.5}, {"on-accent", "accent-strong", 4.5},
	{"danger", "ground", 4.5}, {"danger", "surface", 4.5}, {"danger", "danger-soft", 4.5},
	{"danger-strong", "danger-soft", 4.5},
	{"on-danger", "danger", 4.5}, {"on-danger", "danger-strong", 4.5},
	{"warn", "surface", 4.5}, {"warn", "warn-soft", 4.5},
	{"ground", "ink", 4.5},
	{"edge", "ground", 3}, {"edge", "surface", 3},
	{"accent", "sunken", 3}, {"danger", "sunken", 3},
	{"focus", "ground", 3}, {"focus", "surface", 3}, {"focus", "accent-soft", 3}, {"focus", "danger-soft", 3}, {"focus", "warn-soft", 3},
}

// themes are the colours of tokens.css: light, and dark with what it changes.
func themes(t *testing.T) map[string]map[string]string {
	t.Helper()
	source, err := os.ReadFile("css/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, ok := strings.Cut(string(source), "@media screen and (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("tokens.css has no dark theme")
	}
	dark, _, _ := strings.Cut(rest, "@media")
	colour := regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`)
	all := map[string]map[string]string{"light": {}, "dark": {}}
	for theme, text := range map[string]string{"light": light, "dark": dark} {
		for _, m := range colour.FindAllStringSubmatch(text, -1) {
			all[theme][m[1]] = m[2]
		}
	}
	for name := range all["light"] {
		if all["dark"][name] == "" {
			t.Errorf("%s has no dark colour", name)
		}
	}
	return all
}

// luminance is the relative luminance of WCAG 2.2.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	v, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatalf("%q is no colour", hex)
	}
	channel := func(shift int) float64 {
		c := float64(v>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestContrast(t *testing.T) {
	if got := contrast(t, "000000", "ffffff"); math.Abs(got-21) > 0.001 {
		t.Fatalf("black on white is %.3f", got)
	}
	page, err := os.ReadFile("../../docs/explanation/pages.md")
	if err != nil {
		t.Fatal(err)
	}
	all := themes(t)
	used := map[string]bool{"line": true} // only ever decoration
	for _, p := range pairs {
		used[p.front], used[p.back] = true, true
		ratios := map[string]float64{}
		for theme, colours := range all {
			ratios[theme] = contrast(t, colours[p.front], colours[p.back])
			if ratios[theme] < p.want {
				t.Errorf("%s: %s on %s is %.2f, below %.1f", theme, p.front, p.back, ratios[theme], p.want)
			}
		}
		row := fmt.Sprintf("| `%s` on `%s` | %.1f | %.1f | %.1f |", p.front, p.back, p.want, ratios["light"], ratios["dark"])
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/explanation/pages.md lacks the row: %s", row)
		}
	}
	for name, colours := range all {
		for token := range colours {
			if !used[token] {
				t.Errorf("%s: no pair has the colour %s", name, token)
			}
		}
	}
}

// Colours come from the tokens; black and white stand in the QR figure alone.
func TestColoursAreTokens(t *testing.T) {
	names := map[string]bool{}
	source, err := os.ReadFile("css/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(--[a-z0-9-]+):`).FindAllStringSubmatch(string(source), -1) {
		names[m[1]] = true
	}
	for file, text := range styles(t) {
		for _, m := range regexp.MustCompile(`var\((--[a-z0-9-]+)`).FindAllStringSubmatch(text, -1) {
			if !names[m[1]] {
				t.Errorf("%s uses %s, which is no token", file, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|\b(?:hsl|oklch|lab|lch)\(`).FindAllString(text, -1) {
			if m != "#fff" && m != "#000" {
				t.Errorf("%s names the colour %s; colours belong into tokens.css", file, m)
			}
		}
	}
}
