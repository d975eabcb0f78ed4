// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"fmt"
	"net/http"
)

// lost is what the page about a lost phone shows.
type lost struct {
	Help string // the organisation's own words; may be empty
}

// Register adds the pages that belong to nobody else: the first page, what to do
// when a phone is lost, the files of all bundles, and the way from an address that
// somebody typed without its last slash.
func (p *Pages) Register(mux Routes) {
	p.Handle(mux, "GET /{$}", func(w http.ResponseWriter, _ *http.Request) error {
		return p.Render(w, http.StatusOK, "pages/home", nil)
	})
	p.Handle(mux, "GET /app/lost", func(w http.ResponseWriter, r *http.Request) error {
		var data lost
		if p.config.Help != nil {
			help, err := p.config.Help(r.Context())
			if err != nil {
				return fmt.Errorf("read what to tell people who need help: %w", err)
			}
			data.Help = help
		}
		return p.Render(w, http.StatusOK, "pages/lost", data)
	})
	p.Handle(mux, StaticPattern, p.Static)
	for _, path := range []string{"/app", "/enroll"} {
		p.Handle(mux, "GET "+path, func(w http.ResponseWriter, r *http.Request) error {
			http.Redirect(w, r, path+"/", http.StatusPermanentRedirect)
			return nil
		})
	}
}
