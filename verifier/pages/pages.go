// SPDX-License-Identifier: Apache-2.0

// Package pages is the frame of everything that the verifier shows in a browser:
// layout, design tokens, components, texts, and the headers, host check and
// cross-origin check without which no page goes out. It decides nothing about
// people or logins, and reads nothing of a request but what these checks need.
// docs/explanation/pages.md is its design.
package pages

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"
)

// files is the bundle "pages": what all pages share.
//
//go:embed html js css icons
var files embed.FS

// Config is what New needs.
type Config struct {
	// Base is the verifier's address; a request for a page must name exactly its authority.
	Base *url.URL
	// Partners are origins of other verifiers that the app may call.
	Partners []string
	// Help is what the organisation tells people to do when they need help; nil: nothing.
	Help func(context.Context) (string, error)
	Now  func() time.Time
	Log  *slog.Logger
}

// Pages serves pages and what they are made of. Make one with New and give it all
// bundles with Add before the first request; after that it is safe for concurrent use.
type Pages struct {
	config    Config
	host      string
	origin    http.CrossOriginProtection
	texts     Texts
	templates map[string]*template.Template
	static    map[string]file
	hash      string
	seal      sync.Once
	strangers strangers
}

// New makes a Pages. It panics if the files of this package do not fit together,
// which a test would have shown.
func New(c Config) *Pages {
	p := &Pages{
		config: c, host: authority(c.Base.Host), texts: English(),
		templates: map[string]*template.Template{}, static: map[string]file{},
	}
	p.Add("pages", files)
	return p
}

// Add gives p a bundle of files by the name of its package: templates in html/,
// modules in js/, style sheets in css/, pictures in icons/; whatever is not there
// is left out. A template html/begin.html of the bundle enroll is the page
// "enroll/begin"; it must define "title" and "main", and may define "head".
// Templates in html/parts/ can be used by all pages of the bundle. Other files are
// served as in the source tree, so that modules can import one another relatively:
// js/main.js of the bundle app is static "app/js/main.js", and imports
// ../../pages/js/i18n.js. Add panics if a file is not as described.
func (p *Pages) Add(bundle string, files fs.FS) {
	if p.hash != "" {
		panic("pages: Add after the first use")
	}
	p.addTemplates(bundle, files)
	p.addStatic(bundle, files)
}

func (p *Pages) addTemplates(bundle string, bundled fs.FS) {
	names := glob(bundled, "html/*.html")
	if len(names) == 0 {
		return
	}
	shared := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"t": p.texts.template, "static": p.URL, "icon": p.icon})
	shared = template.Must(shared.ParseFS(files, "html/parts/*.html"))
	if bundle != "pages" && len(glob(bundled, "html/parts/*.html")) > 0 {
		shared = template.Must(shared.ParseFS(bundled, "html/parts/*.html"))
	}
	for _, name := range names {
		text, err := fs.ReadFile(bundled, name)
		if err != nil {
			panic(fmt.Sprintf("pages: %v", err))
		}
		page := template.Must(template.Must(shared.Clone()).Parse(string(text)))
		for _, part := range []string{"title", "main"} {
			if page.Lookup(part) == nil {
				panic(fmt.Sprintf("pages: %s of %s does not define %q", name, bundle, part))
			}
		}
		p.templates[path.Join(bundle, strings.TrimSuffix(path.Base(name), ".html"))] = page
	}
}

func glob(files fs.FS, pattern string) []string {
	names, err := fs.Glob(files, pattern)
	if err != nil {
		panic(fmt.Sprintf("pages: %v", err))
	}
	return names
}

// icon draws a symbol of icons/symbols.svg, which takes the size and the colour of
// the text. It is decoration: what it says must also stand in words.
func (p *Pages) icon(name string) (template.HTML, error) {
	if !strings.Contains(string(p.static["pages/icons/symbols.svg"].body), `id="`+name+`"`) {
		return "", fmt.Errorf("there is no icon %q", name)
	}
	return template.HTML(`<svg class="icon" aria-hidden="true" focusable="false"><use href="` + //nolint:gosec // a URL of our own and a name that was looked up
		template.HTMLEscapeString(p.URL("pages/icons/symbols.svg")) + `#` + name + `"></use></svg>`), nil
}

// Render answers with a page: name is "bundle/page", data is the template's dot.
// Nothing is written if the page cannot be rendered.
func (p *Pages) Render(w http.ResponseWriter, status int, name string, data any) error {
	page, ok := p.templates[name]
	if !ok {
		return fmt.Errorf("render %s: there is no such page", name)
	}
	var b bytes.Buffer
	if err := page.ExecuteTemplate(&b, "layout", data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a browser that is gone is no error of ours
	return nil
}

// Text is a text by its key, with the placeholders filled from pairs of name and
// value. An unknown key, or a placeholder without a value, is an error.
func (p *Pages) Text(key string, pairs ...any) (string, error) {
	return p.texts.template(key, pairs...)
}
