// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	administratorPrefix   = "DE"
	adminActivationPrefix = "DN"
)

// Validity of the link that makes somebody an administrator, in days.
const (
	DefaultAdminDays = 7
	MaxAdminDays     = 31
)

// ActivationPurpose is the purpose of the hashes of administrators' links.
const ActivationPurpose = "admin activation"

// Roles are the roles of administrators.
func Roles() []store.AdminRole {
	return []store.AdminRole{
		store.RoleOwner, store.RoleAdministrator, store.RoleApplicationManager, store.RoleUserManager, store.RoleSecurityAnalyst,
		store.RoleHelpDesk, store.RoleBilling, store.RolePhishingManager, store.RoleReadOnly,
	}
}

// AdministratorChange is what to set; nil leaves it as it is.
type AdministratorChange struct {
	Name, Phone, Role, Status *string
	PasswordChange            *bool
}

func (c AdministratorChange) apply(a *store.Administrator) error {
	if c.Name != nil {
		n, err := name("name", *c.Name)
		if err != nil {
			return err
		}
		a.Name = n
	}
	if c.Phone != nil {
		number, err := Number(*c.Phone)
		if err != nil {
			return invalid("phone", "not a number such as +15551234567")
		}
		a.Phone = number
	}
	if c.Role != nil {
		role, err := adminRole("role", *c.Role)
		if err != nil {
			return err
		}
		a.Role = role
	}
	if c.PasswordChange != nil {
		a.PasswordChange = *c.PasswordChange
	}
	return c.applyStatus(a)
}

func (c AdministratorChange) applyStatus(a *store.Administrator) error {
	if c.Status == nil {
		return nil
	}
	switch {
	case strings.EqualFold(*c.Status, string(store.AdminDisabled)):
		a.Status = store.AdminDisabled
	case !strings.EqualFold(*c.Status, string(store.AdminActive)):
		return invalid("status", "not one of Active, Disabled")
	case a.Activated.IsZero() && a.Status == store.AdminPending:
		return invalid("status", "the administrator becomes active by the activation link")
	case a.Activated.IsZero():
		a.Status = store.AdminPending
	default:
		a.Status = store.AdminActive
	}
	return nil
}

func adminRole(param, value string) (store.AdminRole, error) {
	for _, r := range Roles() {
		if strings.EqualFold(value, string(r)) {
			return r, nil
		}
	}
	return "", invalid(param, "not one of Owner, Administrator, Application Manager, User Manager, Security Analyst, Help Desk, Billing, Phishing Manager, Read-only")
}

// address checks a mail address and puts it in lower case.
func address(param, value string) (string, error) {
	value = strings.ToLower(strings.TrimSpace(value))
	parsed, err := mail.ParseAddress(value)
	if err != nil || parsed.Address != value || parsed.Name != "" {
		return "", invalid(param, "not a mail address")
	}
	return value, text(param, value, maxName, false)
}

// AdminLink is a link that makes somebody an administrator. Code and Link are
// shown this once.
type AdminLink struct {
	store.AdminActivation
	Code string
	Link string
}

// newAdminLink makes a link, for an administrator or (without id) for nobody yet.
func (d *Directory) newAdminLink(adminID, email string, role store.AdminRole, days int) (l AdminLink, err error) {
	if l.Code, err = d.random(secretLen, alphanumeric); err != nil {
		return l, err
	}
	id, err := d.newID(adminActivationPrefix)
	if err != nil {
		return l, err
	}
	now := d.Now()
	l.AdminActivation = store.AdminActivation{
		ID: id, Hash: d.Keys.Hash(ActivationPurpose, l.Code), AdminID: adminID, Email: email, Role: role,
		Created: now, Expires: now.Add(time.Duration(days) * 24 * time.Hour),
	}
	// The code stands in the fragment, which no log of a server or proxy sees.
	l.Link = d.Base.JoinPath("sallyport", "console", "activate").String() + "#" + l.Code
	return l, nil
}

func administratorFields(a store.Administrator) fields {
	return fields{
		"name": a.Name, "email": a.Email, "phone": a.Phone, "role": a.Role, "status": a.Status,
		"password_change_required": a.PasswordChange, "has_external_password_mgmt": a.PasswordExternal,
	}
}

// CreateAdministrator makes an administrator and the link by which they become active.
func (d *Directory) CreateAdministrator(ctx context.Context, a Actor, email string, c AdministratorChange, days int) (out store.Administrator, l AdminLink, err error) {
	if c.Name == nil {
		return out, l, duoapi.NewError(duoapi.CodeMissingParameter, "name")
	}
	id, err := d.newID(administratorPrefix)
	if err != nil {
		return out, l, err
	}
	out = store.Administrator{ID: id, Role: store.RoleOwner, Status: store.AdminPending, Created: d.Now()}
	if out.Email, err = address("email", email); err != nil {
		return out, l, err
	}
	if err := c.apply(&out); err != nil {
		return out, l, err
	}
	if l, err = d.newAdminLink(id, out.Email, out.Role, days); err != nil {
		return out, l, err
	}
	err = d.update(ctx, "an administrator has the mail address "+out.Email, func(w store.Writer) error {
		if err := w.AddAdministrator(out); err != nil {
			return fmt.Errorf("add administrator: %w", err)
		}
		if err := w.AddAdminActivation(l.AdminActivation); err != nil {
			return fmt.Errorf("add link: %w", err)
		}
		return d.audit(w, a, "admin_create", out.Email, whole("admin_id", id, administratorFields(out)))
	})
	return out, l, err
}

var errLastOwner = duoapi.NewError(duoapi.CodeInvalidParameter,
	"role: this is the last Owner who can log in; make another Owner first")

// changeAdministrator changes one and logs the difference.
func (d *Directory) changeAdministrator(ctx context.Context, a Actor, id, action string, change func(store.Writer, *store.Administrator) error) (out store.Administrator, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		var err error
		if out, err = w.Administrator(id); err != nil {
			return err
		}
		before := administratorFields(out)
		if err := change(w, &out); err != nil {
			return err
		}
		won, err := w.SetAdministrator(out)
		if err != nil {
			return err
		}
		if !won {
			return errLastOwner
		}
		return d.audit(w, a, action, out.Email, difference("admin_id", id, before, administratorFields(out)))
	})
	return out, err
}

// UpdateAdministrator changes an administrator.
func (d *Directory) UpdateAdministrator(ctx context.Context, a Actor, id string, c AdministratorChange) (store.Administrator, error) {
	return d.changeAdministrator(ctx, a, id, "admin_update", func(_ store.Writer, out *store.Administrator) error { return c.apply(out) })
}

// ResetAdministrator forgives failed logins.
func (d *Directory) ResetAdministrator(ctx context.Context, a Actor, id string) (store.Administrator, error) {
	return d.changeAdministrator(ctx, a, id, "admin_reset", func(_ store.Writer, out *store.Administrator) error {
		out.Failures = 0
		return nil
	})
}

// SetAdminPassword sets a password, who manages it, or both.
func (d *Directory) SetAdminPassword(ctx context.Context, a Actor, id string, password *string, external *bool) (store.Administrator, error) {
	var hash string
	if password != nil {
		set, err := d.Settings(ctx)
		if err != nil {
			return store.Administrator{}, err
		}
		if err := checkPassword(set, *password); err != nil {
			return store.Administrator{}, err
		}
		if hash, err = d.hashPassword(*password); err != nil {
			return store.Administrator{}, err
		}
	}
	return d.changeAdministrator(ctx, a, id, "admin_set_password", func(_ store.Writer, out *store.Administrator) error {
		if external != nil {
			out.PasswordExternal = *external
		}
		if password == nil {
			return nil
		}
		if !out.PasswordExternal {
			return invalid("has_external_password_mgmt", "must be 1 for a password to be set here")
		}
		out.Password, out.PasswordChange = hash, false
		return nil
	})
}

// DeleteAdministrator removes an administrator, but not the last Owner.
func (d *Directory) DeleteAdministrator(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		out, err := w.Administrator(id)
		if err != nil {
			return err
		}
		won, err := w.DeleteAdministrator(id)
		if err != nil {
			return fmt.Errorf("delete administrator: %w", err)
		}
		if !won {
			return errLastOwner
		}
		return d.audit(w, a, "admin_delete", out.Email, whole("admin_id", id, administratorFields(out)))
	})
}

// LinkAdministrator makes another link for one who was not activated yet; the one before is void.
func (d *Directory) LinkAdministrator(ctx context.Context, a Actor, id string, days int) (l AdminLink, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		out, err := w.Administrator(id)
		if err != nil {
			return err
		}
		if out.Status != store.AdminPending {
			return invalid("admin_id", "the administrator is "+string(out.Status)+"; links are for those who wait for activation")
		}
		if l, err = d.newAdminLink(id, out.Email, out.Role, days); err != nil {
			return err
		}
		if err := w.AddAdminActivation(l.AdminActivation); err != nil {
			return fmt.Errorf("add link: %w", err)
		}
		return d.audit(w, a, "admin_activation_create", out.Email, linkFields(l.AdminActivation))
	})
	return l, err
}

func linkFields(l store.AdminActivation) map[string]any {
	return map[string]any{
		"admin_activation_id": l.ID, "admin_id": l.AdminID, "email": l.Email, "role": l.Role, "expires": l.Expires.Unix(),
	}
}

// UnlinkAdministrator voids the links of an administrator.
func (d *Directory) UnlinkAdministrator(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		out, err := w.Administrator(id)
		if err != nil {
			return err
		}
		n, err := w.DeleteAdminActivations(id)
		if err != nil {
			return err
		}
		return d.audit(w, a, "admin_activation_delete", out.Email, map[string]any{"admin_id": id, "links": n})
	})
}

// InviteAdministrator makes a link for somebody who is no administrator yet.
func (d *Directory) InviteAdministrator(ctx context.Context, a Actor, email, role string, days int) (l AdminLink, err error) {
	if email, err = address("email", email); err != nil {
		return l, err
	}
	as, err := adminRole("admin_role", role)
	if err != nil {
		return l, err
	}
	if l, err = d.newAdminLink("", email, as, days); err != nil {
		return l, err
	}
	taken := "an administrator has the mail address " + email
	err = d.update(ctx, taken, func(w store.Writer) error {
		known, err := hasAdministrator(w, email)
		if err != nil {
			return err
		}
		if known {
			return duoapi.NewError(duoapi.CodeConflict, taken)
		}
		if err := w.AddAdminActivation(l.AdminActivation); err != nil {
			return fmt.Errorf("add link: %w", err)
		}
		return d.audit(w, a, "admin_activation_create", email, linkFields(l.AdminActivation))
	})
	return l, err
}

func hasAdministrator(r store.Reader, email string) (bool, error) {
	for p := (store.Page{Limit: maxNetworks}); ; p.Offset += p.Limit {
		some, _, err := r.Administrators(p)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(some, func(a store.Administrator) bool { return a.Email == email }) {
			return true, nil
		}
		if len(some) < p.Limit {
			return false, nil
		}
	}
}

// DeleteAdminLink voids a link.
func (d *Directory) DeleteAdminLink(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		l, err := w.AdminActivation(id)
		if err != nil {
			return err
		}
		if err := w.DeleteAdminActivation(id); err != nil {
			return fmt.Errorf("delete link: %w", err)
		}
		return d.audit(w, a, "admin_activation_delete", l.Email, linkFields(l))
	})
}
