// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"errors"
	"strconv"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func notFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return duoapi.NewError(duoapi.CodeNotFound, "")
	}
	return err
}

// stamp is Unix seconds, null for a time that is not set.
func stamp(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.Unix()
	return &n
}

// null is null for a blank text.
func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

type userView struct {
	UserID        string            `json:"user_id"`
	Username      string            `json:"username"`
	Alias1        *string           `json:"alias1"`
	Alias2        *string           `json:"alias2"`
	Alias3        *string           `json:"alias3"`
	Alias4        *string           `json:"alias4"`
	Aliases       map[string]string `json:"aliases"`
	RealName      string            `json:"realname"`
	FirstName     string            `json:"firstname"`
	LastName      string            `json:"lastname"`
	Email         string            `json:"email"`
	Notes         string            `json:"notes"`
	Status        store.UserStatus  `json:"status"`
	LockoutReason *string           `json:"lockout_reason"`
	Created       *int64            `json:"created"`
	LastLogin     *int64            `json:"last_login"`
	LastSync      *int64            `json:"last_directory_sync"`
	IsEnrolled    bool              `json:"is_enrolled"`
	Groups        []groupView       `json:"groups"`
	Phones        []phoneView       `json:"phones"`
	Tokens        []tokenView       `json:"tokens"`
	U2FTokens     []struct{}        `json:"u2ftokens"`
	WebAuthn      []webauthnView    `json:"webauthncredentials"`

	DesktopTokens         []briefDesktop             `json:"desktoptokens"`
	DesktopAuthenticators []desktopAuthenticatorView `json:"desktop_authenticators"`
	Attributes            map[string]string          `json:"custom_attributes"`

	RecoveryCodesLeft int `json:"recovery_codes_left"` // Sallyport's own
}

func briefUser(u store.User) userView {
	v := userView{
		UserID: u.ID, Username: u.Username, Aliases: map[string]string{}, RealName: u.RealName, FirstName: u.FirstName,
		LastName: u.LastName, Email: u.Email, Notes: u.Notes, Status: u.Status, LockoutReason: null(u.LockoutReason),
		Created: stamp(u.Created), LastLogin: stamp(u.LastLogin),
		Groups: []groupView{}, Phones: []phoneView{}, Tokens: []tokenView{}, U2FTokens: []struct{}{}, WebAuthn: []webauthnView{},
		DesktopTokens: []briefDesktop{}, DesktopAuthenticators: []desktopAuthenticatorView{}, Attributes: u.Attributes,
	}
	if v.Attributes == nil {
		v.Attributes = map[string]string{}
	}
	places := []**string{&v.Alias1, &v.Alias2, &v.Alias3, &v.Alias4}
	for i, alias := range u.Aliases {
		if alias == "" { // a free place
			continue
		}
		v.Aliases["alias"+strconv.Itoa(i+1)] = alias
		if i < len(places) {
			*places[i] = &alias
		}
	}
	return v
}

// fullUser is a user with phones and tokens.
func (a *API) fullUser(r store.Reader, u store.User) (userView, error) {
	v := briefUser(u)
	phones, err := r.UserPhones(u.ID)
	if err != nil {
		return v, err
	}
	tokens, err := r.UserTokens(u.ID)
	if err != nil {
		return v, err
	}
	groups, err := r.UserGroups(u.ID)
	if err != nil {
		return v, err
	}
	v.Groups = viewGroups(groups)
	if v.Phones, v.DesktopTokens, err = phoneViews(r, phones); err != nil {
		return v, err
	}
	for _, p := range phones {
		v.IsEnrolled = v.IsEnrolled || p.CanPush() || a.Telephony && p.Number != ""
	}
	if err := credentialViews(r, &v); err != nil {
		return v, err
	}
	for _, t := range tokens {
		v.Tokens = append(v.Tokens, briefToken(t))
		v.IsEnrolled = true
	}
	if v.RecoveryCodesLeft, err = r.RecoveryCodesLeft(u.ID); err != nil {
		return v, err
	}
	codes, err := r.HasBypassCode(u.ID, a.Now())
	v.IsEnrolled = v.IsEnrolled || codes
	return v, err
}

// allOf is the page that holds all that one user has.
var allOf = store.Page{Limit: 1000}

func credentialViews(r store.Reader, v *userView) error {
	credentials, _, err := r.WebAuthnCredentials(v.UserID, allOf)
	if err != nil {
		return err
	}
	for _, c := range credentials {
		v.WebAuthn = append(v.WebAuthn, viewWebAuthn(c))
	}
	desktops, _, err := r.DesktopAuthenticators(v.UserID, allOf)
	for _, d := range desktops {
		v.DesktopAuthenticators = append(v.DesktopAuthenticators, viewDesktopAuthenticator(d))
	}
	return err
}

// phoneViews are the phones of a user, and their desktop tokens.
func phoneViews(r store.Reader, phones []store.Phone) (views []phoneView, desktops []briefDesktop, err error) {
	views, desktops = []phoneView{}, []briefDesktop{}
	for _, p := range phones {
		if p.Type == store.DesktopToken {
			desktops = append(desktops, briefDesktop{ID: p.ID, Name: p.Name, Platform: named(p.Platform), Type: "Desktop Token", Activated: p.CanPush()})
			continue
		}
		v := briefPhone(p)
		if v.SMSSent, err = r.SMSCodesSent(p.ID); err != nil {
			return nil, nil, err
		}
		views = append(views, v)
	}
	return views, desktops, nil
}

// briefDesktop is a desktop token in its user's object.
type briefDesktop struct {
	ID        string `json:"desktoptoken_id"`
	Name      string `json:"name"`
	Platform  string `json:"platform"`
	Type      string `json:"type"`
	Activated bool   `json:"activated"`
}

// named is how Duo calls what nobody has told it.
func named(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}

// phoneTypes are the types of phones as Duo shows them; it takes them in lower case.
var phoneTypes = map[string]string{"mobile": "Mobile", "landline": "Landline", "unknown": "Unknown"}

type phoneView struct {
	PhoneID      string     `json:"phone_id"`
	Number       string     `json:"number"`
	Extension    string     `json:"extension"`
	Name         string     `json:"name"`
	Type         string     `json:"type"`
	Platform     string     `json:"platform"`
	Model        string     `json:"model"`
	Activated    bool       `json:"activated"`
	Capabilities []string   `json:"capabilities"`
	Encrypted    string     `json:"encrypted"`
	Fingerprint  string     `json:"fingerprint"`
	ScreenLock   string     `json:"screenlock"`
	LastSeen     string     `json:"last_seen"`
	PreDelay     *string    `json:"predelay"`
	PostDelay    *string    `json:"postdelay"`
	SMSSent      bool       `json:"sms_passcodes_sent"`
	Users        []userView `json:"users,omitzero"` // not in the object of a user
}

func briefPhone(p store.Phone) phoneView {
	v := phoneView{
		PhoneID: p.ID, Number: p.Number, Extension: p.Extension, Name: p.Name, Type: phoneTypes[p.Type], Platform: named(p.Platform),
		Model: p.Model, Activated: p.CanPush(), Capabilities: []string{}, PreDelay: null(p.PreDelay), PostDelay: null(p.PostDelay),
	}
	if !p.LastSeen.IsZero() {
		v.LastSeen = p.LastSeen.UTC().Format("2006-01-02T15:04:05")
	}
	if p.CanPush() {
		v.Capabilities = append(v.Capabilities, duoapi.CapabilityAuto, duoapi.CapabilityPush)
	}
	if p.Number != "" {
		v.Capabilities = append(v.Capabilities, duoapi.CapabilityPhone)
		if p.Type != "landline" && p.Extension == "" {
			v.Capabilities = append(v.Capabilities, duoapi.CapabilitySMS)
		}
	}
	return v
}

func fullPhone(r store.Reader, p store.Phone) (phoneView, error) {
	v := briefPhone(p)
	v.Users = []userView{}
	users, err := r.PhoneUsers(p.ID)
	if err != nil {
		return v, err
	}
	for _, u := range users {
		v.Users = append(v.Users, briefUser(u))
	}
	v.SMSSent, err = r.SMSCodesSent(p.ID)
	return v, err
}

type tokenView struct {
	TokenID string          `json:"token_id"`
	Type    store.TokenType `json:"type"`
	Serial  string          `json:"serial"`
	Step    *int            `json:"totp_step"`
	Admins  []struct{}      `json:"admins"`
	Users   []userView      `json:"users,omitzero"`   // not in the object of a user
	Secret  string          `json:"secret,omitempty"` // base32; at creation only
	URI     string          `json:"uri,omitempty"`    // otpauth; at creation only
}

func briefToken(t store.Token) tokenView {
	v := tokenView{TokenID: t.ID, Type: t.Type, Serial: t.Serial, Admins: []struct{}{}}
	if t.Type == store.TOTP6 || t.Type == store.TOTP8 {
		v.Step = &t.Step
	}
	return v
}

func fullToken(r store.Reader, t store.Token) (tokenView, error) {
	v := briefToken(t)
	v.Users = []userView{}
	users, err := r.TokenUsers(t.ID)
	for _, u := range users {
		v.Users = append(v.Users, briefUser(u))
	}
	return v, err
}

type bypassView struct {
	ID         string    `json:"bypass_code_id"`
	AdminEmail string    `json:"admin_email"`
	Created    *int64    `json:"created"`
	Expiration *int64    `json:"expiration"`
	ReuseCount *int      `json:"reuse_count"` // uses left; null: any number
	Recovery   bool      `json:"recovery"`    // Sallyport's own: one of those that the person keeps
	User       *userView `json:"user,omitempty"`
}

func viewBypass(c store.BypassCode, u *store.User) bypassView {
	v := bypassView{ID: c.ID, Created: stamp(c.Created), Expiration: stamp(c.Expires), Recovery: c.Recovery}
	if c.UsesLeft != store.Unlimited {
		v.ReuseCount = &c.UsesLeft
	}
	if u != nil {
		user := briefUser(*u)
		v.User = &user
	}
	return v
}

type hostView struct {
	HostID         string `json:"host_id"`
	Name           string `json:"name"`
	IntegrationKey string `json:"integration_key"`
	Status         string `json:"status"` // active or revoked
	Created        *int64 `json:"created"`
	LastSeen       *int64 `json:"last_seen"`
	Revoked        *int64 `json:"revoked"`
}

func viewHost(h store.Host) hostView {
	v := hostView{
		HostID: h.ID, Name: h.Name, IntegrationKey: h.IntegrationKey, Status: "active",
		Created: stamp(h.Created), LastSeen: stamp(h.LastSeen), Revoked: stamp(h.RevokedAt),
	}
	if v.Revoked != nil {
		v.Status = "revoked"
	}
	return v
}
