// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// maxPartners bounds the Content-Security-Policy of the app's pages.
const maxPartners = 32

// App is the authenticator app that the verifier serves.
type App struct {
	// Partners are other verifiers, https://HOST or https://HOST:PORT: the app of
	// this one may call them, and theirs may call this one. After Load they are
	// normalised like URL.
	Partners []string `toml:"partners"`
}

func (a *App) finish(own *url.URL) []error {
	var errs []error
	if len(a.Partners) > maxPartners {
		errs = append(errs, fmt.Errorf("app.partners: %d are too many, at most %d", len(a.Partners), maxPartners))
	}
	var all []string
	for _, partner := range a.Partners {
		u, err := duoapi.ParseBase(partner)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("app.partners: %w", err))
		case strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") != "":
			errs = append(errs, fmt.Errorf("app.partners: %s is no name of one host", partner)) // a policy of browsers would take * as any
		case own != nil && u.Host == own.Host:
			errs = append(errs, fmt.Errorf("app.partners: %s is this verifier itself", partner))
		case slices.Contains(all, u.String()):
			errs = append(errs, fmt.Errorf("app.partners: %s stands there twice", partner))
		default:
			all = append(all, u.String())
		}
	}
	a.Partners = all
	return errs
}
