// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sources are the files of the verifier that may name texts, by path from verifier/.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	verifier := os.DirFS("..")
	err := fs.WalkDir(verifier, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "pages/js/texts.js" || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".test.js") {
			return err
		}
		if slices.Contains([]string{".go", ".js", ".html"}, path.Ext(name)) {
			text, err := fs.ReadFile(verifier, name)
			all[name] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d files were found", len(all))
	}
	return all
}

// keyUse is where a key stands for sure: t("key") and counted("one", "other") in
// modules, t "key" in templates.
var (
	keyUse = regexp.MustCompile(`\bt\(\s*['"]([a-z0-9_.]+)['"]|\bt "([a-z0-9_.]+)"|\bcounted\(\s*['"]([a-z0-9_.]+)['"]\s*,\s*['"]([a-z0-9_.]+)['"]`)
	quoted = regexp.MustCompile("[\"'`]([a-z0-9_]+(?:\\.[a-z0-9_]+)+)[\"'`]")
)

func TestTextsAreThereAndUsed(t *testing.T) {
	used := map[string]bool{}
	for name, text := range sources(t) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
		}
		if path.Ext(name) == ".go" {
			continue
		}
		for _, m := range keyUse.FindAllStringSubmatch(text, -1) {
			for _, key := range m[1:] {
				if _, ok := English()[key]; key != "" && !ok {
					t.Errorf("%s uses the text %q, which is not there", name, key)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(English())) {
		if !used[key] {
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

// Keys are sorted by area and unique: JSON would let a second one win in silence.
func TestTextsFile(t *testing.T) {
	source, err := os.ReadFile("js/texts.js")
	if err != nil {
		t.Fatal(err)
	}
	seen, areas, last := map[string]bool{}, []string{}, ""
	for _, m := range regexp.MustCompile(`(?m)^  "([^"]+)":`).FindAllStringSubmatch(string(source), -1) {
		if seen[m[1]] {
			t.Errorf("%s stands there twice", m[1])
		}
		seen[m[1]] = true
		area, _, ok := strings.Cut(m[1], ".")
		if !ok {
			t.Errorf("%s has no area", m[1])
		}
		if area != last {
			if slices.Contains(areas, area) {
				t.Errorf("%s stands apart from its area", m[1])
			}
			areas, last = append(areas, area), area
		}
	}
	if len(seen) != len(English()) {
		t.Errorf("%d lines with keys, %d texts", len(seen), len(English()))
	}
	for key, text := range English() {
		if strings.TrimSpace(text) != text || text == "" || strings.ContainsAny(text, "<>") {
			t.Errorf("%s: %q: empty, with space around it or with markup", key, text)
		}
	}
}

// What templates show to people comes from the texts; attributes too.
func TestTemplatesHoldNoWords(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	code := regexp.MustCompile(`(?s)<(code|kbd|samp)\b.*?</(?:code|kbd|samp)>`)
	tag := regexp.MustCompile(`(?s)<[^>]*>`)
	shown := regexp.MustCompile(`\b(?:alt|title|placeholder|aria-label|aria-description)="([^"]*[A-Za-z]{2}[^"]*)"`)
	word := regexp.MustCompile(`[A-Za-z]{2,}`)
	for name, text := range sources(t) {
		if path.Ext(name) != ".html" {
			continue
		}
		noInline(t, name, text)
		bare := code.ReplaceAllString(action.ReplaceAllString(text, ""), "")
		if m := shown.FindString(bare); m != "" {
			t.Errorf("%s: %s belongs into the texts", name, m)
		}
		if m := word.FindString(tag.ReplaceAllString(bare, " ")); m != "" {
			t.Errorf("%s: %q belongs into the texts", name, m)
		}
		if !strings.Contains(name, "/parts/") && !strings.Contains(text, `{{define "title"}}`) {
			t.Errorf("%s has no title", name)
		}
	}
}

// Modules make no markup out of text: the pages forbid it by Trusted Types too, but
// not every browser has those.
func TestModulesMakeNoMarkup(t *testing.T) {
	sink := regexp.MustCompile(`\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTMLUnsafe|eval|srcdoc|importScripts)\b|new Function\b|setAttribute\(\s*['"](?:style|on)`)
	for name, text := range sources(t) {
		if path.Ext(name) != ".js" {
			continue
		}
		if m := sink.FindString(text); m != "" {
			t.Errorf("%s: %s", name, m)
		}
	}
}

func TestText(t *testing.T) {
	texts := Texts{"a.b": "Hello {name}, {count} left"}
	if got, err := texts.template("a.b", "name", "{count}", "count", 3); err != nil || got != "Hello {count}, 3 left" {
		t.Errorf("%q, %v", got, err)
	}
	for _, pairs := range [][]any{{"name", "x"}, {"name"}} {
		if got, err := texts.template("a.b", pairs...); err == nil {
			t.Errorf("%v: %q", pairs, got)
		}
	}
	if _, err := texts.template("a.c"); err == nil {
		t.Error("a text that is not there")
	}
	for _, bad := range []string{"", "export default", `export default {"a": 1};`, `export default {'a': 'b'};`} {
		if _, err := parseTexts([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
