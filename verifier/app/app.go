// SPDX-License-Identifier: Apache-2.0

// Package app serves the authenticator that runs in a browser: its page, its
// manifest, its service worker, and the page behind an activation link. The app
// itself is the modules in js/, which speak to the API like any authenticator; this
// package decides nothing and reads nothing of a request.
// docs/explanation/web-app.md is its design.
package app

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"sync"

	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/pages"
)

//go:embed html js css
var files embed.FS

// Where the app lives. Its service worker has the folder as its scope.
const (
	Path         = "/app/"
	workerPath   = Path + "sw.js"
	manifestPath = Path + "manifest.webmanifest"
)

// Config is what New needs.
type Config struct {
	Pages *pages.Pages
	// Partners are origins of other verifiers whose accounts the app takes too.
	Partners []string
	Version  string // of the verifier
}

// App serves the app. It is safe for concurrent use.
type App struct {
	config Config
	worker func() ([]byte, error)
}

// New makes an App and adds its files to the pages.
func New(c Config) *App {
	c.Pages.Add("app", files)
	a := &App{config: c}
	a.worker = sync.OnceValues(a.makeWorker)
	return a
}

// Register adds the app's paths.
func (a *App) Register(mux pages.Routes) {
	p := a.config.Pages
	p.Handle(mux, "GET "+Path+"{$}", func(w http.ResponseWriter, _ *http.Request) error { return a.shell(w) })
	p.Handle(mux, "GET "+manifestPath, a.serveManifest)
	p.Handle(mux, "GET "+workerPath, a.serviceWorker)
	p.Handle(mux, "GET "+invite.ActivationPath, func(w http.ResponseWriter, _ *http.Request) error {
		return p.Render(w, http.StatusOK, "app/activate", nil)
	})
}

// shell is the app's page: the same for everybody, so that it can be kept.
func (a *App) shell(w http.ResponseWriter) error {
	return a.config.Pages.Render(w, http.StatusOK, "app/app", struct{ Partners, Version string }{
		strings.Join(a.config.Partners, " "), a.config.Version,
	})
}

// icon is a picture in the manifest (W3C Web Application Manifest).
type icon struct {
	Source  string `json:"src"`
	Sizes   string `json:"sizes"`
	Type    string `json:"type"`
	Purpose string `json:"purpose,omitempty"`
}

// shortcut is an entry of the menu of the installed app's icon.
type shortcut struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// manifest makes the app installable.
type manifest struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	ShortName   string     `json:"short_name"`
	Description string     `json:"description"`
	Lang        string     `json:"lang"`
	StartURL    string     `json:"start_url"`
	Scope       string     `json:"scope"`
	Display     string     `json:"display"`
	Theme       string     `json:"theme_color"`
	Background  string     `json:"background_color"`
	Icons       []icon     `json:"icons"`
	Shortcuts   []shortcut `json:"shortcuts"`
}

// texts are several texts that take no facts.
func (a *App) texts(keys ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range keys {
		text, err := a.config.Pages.Text(key)
		if err != nil {
			return nil, err
		}
		out[key] = text
	}
	return out, nil
}

func (a *App) serveManifest(w http.ResponseWriter, _ *http.Request) error {
	text, err := a.texts("common.name", "app.description", "app.nav.codes", "app.nav.devices")
	if err != nil {
		return err
	}
	url := a.config.Pages.URL
	body, err := json.Marshal(manifest{
		ID: Path, Name: text["common.name"], ShortName: text["common.name"], Description: text["app.description"], Lang: "en",
		StartURL: Path, Scope: Path, Display: "standalone", Theme: "#0b5d52", Background: "#f4f3ee",
		Icons: []icon{
			{url("pages/icons/icon-192.png"), "192x192", "image/png", ""},
			{url("pages/icons/icon-512.png"), "512x512", "image/png", ""},
			{url("pages/icons/maskable-512.png"), "512x512", "image/png", "maskable"},
		},
		Shortcuts: []shortcut{{text["app.nav.codes"], Path + "#codes"}, {text["app.nav.devices"], Path + "#devices"}},
	})
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	return write(w, "application/manifest+json", body)
}

// notification is what a service worker shows: the same for every request, as
// whoever sees the screen can read it.
type notification struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	Test  string `json:"test"` // the title of one that somebody asked for in the settings
	Icon  string `json:"icon"`
	Badge string `json:"badge"`
}

// worked is what the service worker keeps; js/worker.js describes it.
type worked struct {
	Version      string       `json:"version"`
	Files        []string     `json:"files"`
	Notification notification `json:"notification"`
}

// page takes a page's bytes for their hash.
type page struct {
	header http.Header
	sum    hash.Hash
}

func (p page) Header() http.Header         { return p.header }
func (p page) WriteHeader(int)             {}
func (p page) Write(b []byte) (int, error) { return p.sum.Write(b) }

// makeWorker makes the script of the service worker. It differs whenever the page or
// a file that it loads does, and that is how browsers learn of a new version.
func (a *App) makeWorker() ([]byte, error) {
	text, err := a.texts("app.notification.title", "app.notification.body", "app.notification.test")
	if err != nil {
		return nil, err
	}
	p := a.config.Pages
	shell := page{header: http.Header{}, sum: sha256.New()}
	if err := a.shell(shell); err != nil {
		return nil, err
	}
	body, err := json.Marshal(worked{
		Version: hex.EncodeToString(shell.sum.Sum(nil)[:8]),
		Files:   append([]string{Path, manifestPath}, append(p.Files("app/"), p.Files("pages/")...)...),
		Notification: notification{
			text["app.notification.title"], text["app.notification.body"], text["app.notification.test"], p.URL("pages/icons/icon-192.png"), p.URL("pages/icons/badge-96.png"),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode what the service worker keeps: %w", err)
	}
	return fmt.Appendf(nil, "import { work } from %q;\nwork(%s);\n", p.URL("app/js/worker.js"), body), nil
}

// serviceWorker answers with the worker's script. Browsers ask for it each time that
// the app is opened, and compare it with the one that they have.
func (a *App) serviceWorker(w http.ResponseWriter, _ *http.Request) error {
	body, err := a.worker()
	if err != nil {
		return err
	}
	w.Header().Set("Service-Worker-Allowed", Path)
	return write(w, "text/javascript; charset=utf-8", body)
}

func write(w http.ResponseWriter, kind string, body []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // a browser that is gone is no error of ours
	return nil
}
