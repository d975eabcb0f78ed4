// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/notice"
)

// The texts: a file for each kind. Its first line is the subject, which is the same
// for everybody.
//
//go:embed texts/*.txt
var files embed.FS

var texts = template.Must(template.New("").Funcs(template.FuncMap{
	"fact": fact, "at": at, "has": func(c content, name string) bool { return c.Facts[name] != "" },
}).ParseFS(files, "texts/*.txt"))

// content is what the texts are made with.
type content struct {
	Username string
	When     time.Time
	Facts    map[string]string // of package notice
	Link     string
	Expires  time.Time
	Helpdesk string // settings: whom to ask
	URL      string // of the verifier
}

// Name is the user's name, fit to be shown.
func (c content) Name() string { return shown(c.Username) }

// Contact says whom to ask.
func (c content) Contact() string {
	var lines []string
	for line := range strings.Lines(c.Helpdesk) {
		if line = strings.TrimSpace(strings.Map(safe, line)); line != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "Contact your administrator."
	}
	return strings.Join(lines, "\n")
}

// fact is a fact, fit to be shown: names of devices come from strangers.
func fact(c content, name string) string { return shown(c.Facts[name]) }

func at(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

// maxShown bounds what is shown of a fact, in characters.
const maxShown = 64

func shown(s string) string {
	r := []rune(strings.Map(safe, s))
	if len(r) > maxShown {
		r = append(r[:maxShown], '…')
	}
	return string(r)
}

// safe drops what would break a line or hide text.
func safe(r rune) rune {
	if unsafe(r) {
		return -1
	}
	return r
}

// kinds are the texts that there are.
func kinds() []string { return append(notice.Kinds(), enrollmentLink, "test") }

func render(kind string, c content) (subject, text string, err error) {
	var b strings.Builder
	if err := texts.ExecuteTemplate(&b, kind+".txt", c); err != nil {
		return "", "", fmt.Errorf("write a mail of kind %q: %w", kind, err)
	}
	subject, text, _ = strings.Cut(b.String(), "\n")
	return subject, strings.TrimLeft(text, "\n"), nil
}
