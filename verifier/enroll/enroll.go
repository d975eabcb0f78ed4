// SPDX-License-Identifier: Apache-2.0

// Package enroll shows enrolment in a browser: it translates forms to package
// enrollment and back. Pages are rendered by the server and work without
// JavaScript. It holds no rule of who may enrol.
package enroll

import (
	"crypto/sha256"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/pace"
	"github.com/sallyport-mfa/sallyport/verifier/pages"
)

//go:embed html js
var files embed.FS

// cookie carries a session's token. The prefix has browsers refuse it unless it is
// Secure, of this host alone and for all paths (RFC 6265bis, 4.1.3.2).
const cookie = "__Host-enroll"

// Paths of the pages; the first is that of links.
const (
	startPath  = "/enroll/"
	setupPath  = "/enroll/setup"
	phonePath  = "/enroll/phone"
	totpPath   = "/enroll/totp"
	codesPath  = "/enroll/codes"
	donePath   = "/enroll/done"
	statusPath = "/enroll/status"
)

var (
	errOver = &pages.Error{Status: http.StatusForbidden, Title: "enroll.over.title", Text: "enroll.over.text"}
	errBusy = &pages.Error{Status: http.StatusTooManyRequests, Title: "enroll.busy.title", Text: "enroll.busy.text"}
	errFast = &pages.Error{Status: http.StatusTooManyRequests, Title: "enroll.fast.title", Text: "enroll.fast.text"}
	// errSpent is no 429: waiting does not help.
	errSpent = &pages.Error{Status: http.StatusForbidden, Title: "enroll.spent.title", Text: "enroll.spent.text"}
)

// A session may send forms so often, on and on and at once.
const (
	formEvery   = time.Second
	formsAtOnce = 30
)

// Pages serves the pages of enrolment. All exported fields must be set; it is safe for
// concurrent use.
type Pages struct {
	Enrollment *enrollment.Service
	Frame      *pages.Pages
	// Refused counts a refusal against an address, and says whether more of them are
	// answered in full.
	Refused func(netip.Addr) bool
	Now     func() time.Time

	forms *pace.Pace // by session
}

// Register adds the bundle and the pages.
func (p *Pages) Register(mux pages.Routes) {
	p.Frame.Add("enroll", files)
	p.forms = pace.New(formEvery, formsAtOnce)
	for pattern, h := range map[string]pages.Handler{
		"GET " + startPath + "{$}":   p.start,
		"POST /enroll/begin":         p.begin,
		"GET " + setupPath:           p.setup,
		"GET " + phonePath:           p.phone,
		"POST " + phonePath:          p.form(p.startPhone),
		"GET " + totpPath:            p.totp,
		"POST " + totpPath:           p.form(p.startTOTP),
		"POST " + totpPath + "/code": p.form(p.confirmTOTP),
		"POST " + codesPath:          p.form(p.codes),
		"POST /enroll/finish":        p.form(p.finish),
		"GET " + donePath:            p.done,
		"GET " + statusPath:          p.status,
	} {
		p.Frame.Handle(mux, pattern, h)
	}
}

// token is the session's token as the browser sent it; blank: none.
func token(r *http.Request) string {
	c, err := r.Cookie(cookie)
	if err != nil {
		return ""
	}
	return c.Value
}

func setCookie(w http.ResponseWriter, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: value, Path: "/", MaxAge: int(life.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

func forgetCookie(w http.ResponseWriter) { setCookie(w, "", -time.Second) }

// address is the peer of the connection.
func address(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// over turns the end of a session, and what it may not make any more, into their
// pages; other errors stay. Who sends tokens that are none is counted.
func (p *Pages) over(w http.ResponseWriter, r *http.Request, err error) error {
	switch {
	case errors.Is(err, enrollment.ErrSpent):
		return errSpent
	case !errors.Is(err, enrollment.ErrOver):
		return err
	}
	forgetCookie(w)
	if token(r) != "" && !p.Refused(address(r)) {
		w.Header().Set("Retry-After", "60")
		return errBusy
	}
	return errOver
}

// form lets forms of a live session through, and those of one only so fast. A token
// that is made up does not come as far as the store's writer.
func (p *Pages) form(h pages.Handler) pages.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := p.show(w, r); err != nil {
			return err
		}
		session := sha256.Sum256([]byte(token(r))) // the token itself is not kept
		if !p.forms.Take(string(session[:]), p.Now()) {
			w.Header().Set("Retry-After", "60")
			return errFast
		}
		return h(w, r)
	}
}

// to sends the browser to another page, by GET.
func to(w http.ResponseWriter, path string) error {
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// startData is what the first page shows.
type startData struct {
	Link    string // as it was pasted, after an error; never one that came in an address
	Refused bool
	Going   string // who is enrolling in this browser already; blank: nobody
}

// start is the page of a link. It changes nothing, whoever fetches it.
func (p *Pages) start(w http.ResponseWriter, r *http.Request) error {
	var d startData
	v, err := p.Enrollment.Show(r.Context(), token(r))
	switch {
	case err == nil:
		d.Going = v.Username
	case !errors.Is(err, enrollment.ErrOver):
		return fmt.Errorf("look for an enrolment: %w", err)
	}
	return p.Frame.Render(w, http.StatusOK, "enroll/start", d)
}

// begin spends the link. What is wrong with one that cannot be used is the same for all.
func (p *Pages) begin(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	link := r.PostForm.Get("link")
	made, err := p.Enrollment.Begin(r.Context(), link, address(r).String())
	switch {
	case errors.Is(err, enrollment.ErrLink):
		if !p.Refused(address(r)) {
			w.Header().Set("Retry-After", "60")
			return errBusy
		}
		return p.Frame.Render(w, http.StatusForbidden, "enroll/start", startData{Refused: true})
	case err != nil:
		return fmt.Errorf("begin an enrolment: %w", err)
	}
	setCookie(w, made, enrollment.SessionTime)
	return to(w, setupPath)
}

// badForm is a body that is no form, or too large for one.
func badForm(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return &pages.Error{Status: http.StatusBadRequest, Title: "common.not_allowed.title", Text: "common.not_allowed.text"}
}

// show reads the session.
func (p *Pages) show(w http.ResponseWriter, r *http.Request) (enrollment.View, error) {
	v, err := p.Enrollment.Show(r.Context(), token(r))
	if err != nil {
		return v, p.over(w, r, fmt.Errorf("show an enrolment: %w", err))
	}
	return v, nil
}

func (p *Pages) setup(w http.ResponseWriter, r *http.Request) error {
	v, err := p.show(w, r)
	if err != nil {
		return err
	}
	return p.Frame.Render(w, http.StatusOK, "enroll/setup", v)
}

func (p *Pages) phone(w http.ResponseWriter, r *http.Request) error {
	v, err := p.show(w, r)
	if err != nil {
		return err
	}
	if v.Phone != enrollment.Waiting {
		return to(w, setupPath)
	}
	code, err := drawQR(v.Activation)
	if err != nil {
		return err
	}
	return p.Frame.Render(w, http.StatusOK, "enroll/phone", phoneData{View: v, QR: code})
}

type phoneData struct {
	enrollment.View
	QR qrData
}

func (p *Pages) startPhone(w http.ResponseWriter, r *http.Request) error {
	err := p.Enrollment.StartPhone(r.Context(), token(r), address(r).String())
	switch {
	case errors.Is(err, enrollment.ErrStep):
		return to(w, setupPath)
	case err != nil:
		return p.over(w, r, fmt.Errorf("begin to add a phone: %w", err))
	}
	return to(w, phonePath)
}

type totpData struct {
	enrollment.View
	QR     qrData
	Groups string // the secret in groups of four
	Wrong  bool
	Spent  bool // too many wrong codes
}

func (p *Pages) totp(w http.ResponseWriter, r *http.Request) error {
	return p.renderTOTP(w, r, http.StatusOK, totpData{})
}

func (p *Pages) renderTOTP(w http.ResponseWriter, r *http.Request, status int, d totpData) (err error) {
	if d.View, err = p.show(w, r); err != nil {
		return err
	}
	if d.TOTP != enrollment.Waiting {
		return to(w, setupPath)
	}
	if d.QR, err = drawQR(d.URI); err != nil {
		return err
	}
	d.Groups, d.Spent = grouped(d.Secret), d.TriesLeft <= 0
	return p.Frame.Render(w, status, "enroll/totp", d)
}

// grouped parts a secret into groups of four, to be read and typed.
func grouped(s string) string {
	var b strings.Builder
	for i, c := range s {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (p *Pages) startTOTP(w http.ResponseWriter, r *http.Request) error {
	err := p.Enrollment.StartTOTP(r.Context(), token(r))
	switch {
	case errors.Is(err, enrollment.ErrStep):
		return to(w, setupPath)
	case err != nil:
		return p.over(w, r, fmt.Errorf("begin to add passcodes: %w", err))
	}
	return to(w, totpPath)
}

func (p *Pages) confirmTOTP(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	err := p.Enrollment.ConfirmTOTP(r.Context(), token(r), r.PostForm.Get("code"), address(r).String())
	switch {
	case errors.Is(err, enrollment.ErrCode), errors.Is(err, enrollment.ErrTries):
		return p.renderTOTP(w, r, http.StatusUnprocessableEntity, totpData{Wrong: true})
	case errors.Is(err, enrollment.ErrStep):
		return to(w, setupPath)
	case err != nil:
		return p.over(w, r, fmt.Errorf("confirm passcodes: %w", err))
	}
	return to(w, setupPath)
}

// codes makes recovery codes and shows them, in this one answer.
func (p *Pages) codes(w http.ResponseWriter, r *http.Request) error {
	v, err := p.show(w, r)
	if err != nil {
		return err
	}
	codes, err := p.Enrollment.RecoveryCodes(r.Context(), token(r), address(r).String())
	switch {
	case errors.Is(err, enrollment.ErrStep):
		return to(w, setupPath)
	case err != nil:
		return p.over(w, r, fmt.Errorf("make recovery codes: %w", err))
	}
	d := codesData{View: v, Codes: codes}
	if d.File, err = p.file(v.Username, codes); err != nil {
		return err
	}
	return p.Frame.Render(w, http.StatusOK, "enroll/codes", d)
}

// finish ends the session of a person who says that the codes are saved.
func (p *Pages) finish(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return badForm(err)
	}
	if r.PostForm.Get("saved") != "yes" {
		v, err := p.show(w, r)
		if err != nil {
			return err
		}
		return p.Frame.Render(w, http.StatusUnprocessableEntity, "enroll/codes", codesData{View: v, Unsaved: true})
	}
	err := p.Enrollment.Finish(r.Context(), token(r), address(r).String())
	switch {
	case errors.Is(err, enrollment.ErrStep):
		return to(w, setupPath)
	case err != nil:
		return p.over(w, r, fmt.Errorf("end an enrolment: %w", err))
	}
	forgetCookie(w)
	return to(w, donePath)
}

// done tells nothing of anyone, so anyone may see it.
func (p *Pages) done(w http.ResponseWriter, _ *http.Request) error {
	return p.Frame.Render(w, http.StatusOK, "enroll/done", nil)
}

// status is what the page of the phone asks for while it waits.
func (p *Pages) status(w http.ResponseWriter, r *http.Request) error {
	state := "over"
	v, err := p.Enrollment.Show(r.Context(), token(r))
	switch {
	case err == nil:
		state = string(v.Phone)
	case !errors.Is(err, enrollment.ErrOver):
		return fmt.Errorf("show how an enrolment stands: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]string{"phone": state})
}
