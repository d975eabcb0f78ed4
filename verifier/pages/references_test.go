// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What templates and modules name must be there: a class that no style sheet knows,
// a picture or a module that nobody serves would only be seen by eye.
func TestReferencesResolve(t *testing.T) {
	classes := map[string]bool{}
	tokens, err := os.ReadFile("css/tokens.css")
	if err != nil {
		t.Fatal(err)
	}
	sheets := styles(t)
	sheets["tokens"] = string(tokens)
	comment := regexp.MustCompile(`(?s)/\*.*?\*/`)
	for _, sheet := range sheets {
		for _, m := range regexp.MustCompile(`\.([a-z][a-z0-9-]*)`).FindAllStringSubmatch(comment.ReplaceAllString(sheet, ""), -1) {
			classes[m[1]] = true
		}
	}
	symbols, err := os.ReadFile("icons/symbols.svg")
	if err != nil {
		t.Fatal(err)
	}
	var (
		action   = regexp.MustCompile(`\{\{.*?\}\}`)
		class    = regexp.MustCompile(`\bclass(?:Name)?(?:="|: '|: "|: ` + "`" + `)([^"'` + "`" + `]*)`)
		list     = regexp.MustCompile(`classList\.(?:add|remove|toggle)\('([a-z0-9-]+)'`)
		iconName = regexp.MustCompile(`\bicon(?: "|\(')([a-z]+)["']`)
		static   = regexp.MustCompile(`\bstatic "([^"]+)"`)
		imported = regexp.MustCompile(`(?m)^(?:import|export)\b[^'"]*\bfrom '(\.[^']+)'|^import '(\.[^']+)'`)
		template = regexp.MustCompile(`\$\{[^}]*\}`)
	)
	all, words := sources(t), map[string]bool{}
	for name, text := range all {
		if path.Ext(name) == ".go" {
			continue
		}
		for _, word := range regexp.MustCompile(`[a-z][a-z0-9-]*`).FindAllString(text, -1) {
			words[word] = true
		}
		bare := template.ReplaceAllString(action.ReplaceAllString(text, " "), " ")
		for _, m := range append(class.FindAllStringSubmatch(bare, -1), list.FindAllStringSubmatch(bare, -1)...) {
			for _, word := range strings.Fields(m[1]) {
				if !classes[word] && word != "-" {
					t.Errorf("%s: no style sheet has the class %s", name, word)
				}
			}
		}
		for _, m := range iconName.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(symbols), `id="`+m[1]+`"`) {
				t.Errorf("%s: there is no icon %s", name, m[1])
			}
		}
		for _, m := range static.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil && path.Ext(name) == ".html" {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range imported.FindAllStringSubmatch(text, -1) {
			target := path.Join(path.Dir(name), m[1]+m[2])
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s imports what is not there: %v", name, err)
			}
		}
	}
	for class := range classes {
		if !words[class] {
			t.Errorf("nothing has the class %s", class)
		}
	}
}
