// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const administratorColumns = `id, name, email, phone, role, status, password, password_external, password_change, failures,
	created, activated, last_login`

func scanAdministrator(s scanner) (store.Administrator, error) {
	var (
		a                        store.Administrator
		external, change         int64
		created, activated, last int64
	)
	err := s.Scan(&a.ID, &a.Name, &a.Email, &a.Phone, &a.Role, &a.Status, &a.Password, &external, &change, &a.Failures,
		&created, &activated, &last)
	a.PasswordExternal, a.PasswordChange = external == 1, change == 1
	a.Created, a.Activated, a.LastLogin = fromMicros(created), fromMicros(activated), fromMicros(last)
	return a, err
}

// Administrator implements store.Reader.
func (t *Tx) Administrator(id string) (store.Administrator, error) {
	return one(t, "administrator", scanAdministrator, `SELECT `+administratorColumns+` FROM administrators WHERE id = $1`, id)
}

// Administrators implements store.Reader.
func (t *Tx) Administrators(p store.Page) ([]store.Administrator, int, error) {
	return page(t, "administrators", scanAdministrator, administratorColumns, "administrators", "email, id", where{}, p)
}

// AddAdministrator implements store.Writer.
func (t *Tx) AddAdministrator(a store.Administrator) error {
	return t.add("administrator", `INSERT INTO administrators (`+administratorColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING`,
		a.ID, a.Name, a.Email, a.Phone, string(a.Role), string(a.Status), a.Password, bit(a.PasswordExternal), bit(a.PasswordChange),
		a.Failures, micros(a.Created), micros(a.Activated), micros(a.LastLogin))
}

// ownerLeft says that another Owner than the one at $1 can log in, the rows
// locked, or that the one cannot be missed as an Owner.
func (t *Tx) ownerLeft() string {
	return `(role <> 'Owner' OR status = 'Disabled' OR EXISTS (SELECT 1 FROM administrators o WHERE o.id <> $1 AND o.role = 'Owner'
		AND (o.status = 'Active' OR o.status = 'Pending Activation' AND administrators.status <> 'Active')` + t.dialect.LockRow + `))`
}

// SetAdministrator implements store.Writer.
func (t *Tx) SetAdministrator(a store.Administrator) (bool, error) {
	won, err := t.won(`UPDATE administrators SET name = $2, phone = $3, role = $4, status = $5, password = $6,
		password_external = $7, password_change = $8, failures = $9, last_login = $10
		WHERE id = $1 AND ($4 = 'Owner' AND $5 <> 'Disabled' OR `+t.ownerLeft()+`)`,
		a.ID, a.Name, a.Phone, string(a.Role), string(a.Status), a.Password, bit(a.PasswordExternal), bit(a.PasswordChange),
		a.Failures, micros(a.LastLogin))
	if err != nil {
		return false, fmt.Errorf("change administrator: %w", err)
	}
	return won, nil
}

// DeleteAdministrator implements store.Writer.
func (t *Tx) DeleteAdministrator(id string) (bool, error) {
	won, err := t.won(`DELETE FROM administrators WHERE id = $1 AND `+t.ownerLeft(), id)
	if err != nil || !won {
		return false, err
	}
	_, err = t.DeleteAdminActivations(id)
	return err == nil, err
}

const adminActivationColumns = `id, hash, admin_id, email, role, created, expires, used_at`

func scanAdminActivation(s scanner) (store.AdminActivation, error) {
	var (
		a                      store.AdminActivation
		created, expires, used int64
	)
	err := s.Scan(&a.ID, &a.Hash, &a.AdminID, &a.Email, &a.Role, &created, &expires, &used)
	a.Created, a.Expires, a.UsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return a, err
}

// AdminActivations implements store.Reader.
func (t *Tx) AdminActivations(p store.Page) ([]store.AdminActivation, int, error) {
	var w where
	w.and("used_at = 0")
	return page(t, "links of administrators", scanAdminActivation, adminActivationColumns, "admin_activations", "created DESC, id", w, p)
}

// AdminActivation implements store.Reader.
func (t *Tx) AdminActivation(id string) (store.AdminActivation, error) {
	return one(t, "link of an administrator", scanAdminActivation,
		`SELECT `+adminActivationColumns+` FROM admin_activations WHERE id = $1 AND used_at = 0`, id)
}

// AddAdminActivation implements store.Writer.
func (t *Tx) AddAdminActivation(a store.AdminActivation) error {
	_, err := t.conn.Exec(`DELETE FROM admin_activations WHERE used_at = 0 AND (email = $1 OR admin_id <> '' AND admin_id = $2)`, a.Email, a.AdminID)
	if err != nil {
		return fmt.Errorf("void earlier links: %w", err)
	}
	return t.add("link of an administrator", `INSERT INTO admin_activations (`+adminActivationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		a.ID, blob(a.Hash), a.AdminID, a.Email, string(a.Role), micros(a.Created), micros(a.Expires), micros(a.UsedAt))
}

// DeleteAdminActivation implements store.Writer.
func (t *Tx) DeleteAdminActivation(id string) error {
	return t.set("link of an administrator", `DELETE FROM admin_activations WHERE id = $1 AND used_at = 0`, id)
}

// DeleteAdminActivations implements store.Writer.
func (t *Tx) DeleteAdminActivations(adminID string) (int, error) {
	n, err := t.conn.Exec(`DELETE FROM admin_activations WHERE admin_id = $1`, adminID)
	if err != nil {
		return 0, fmt.Errorf("delete links of an administrator: %w", err)
	}
	return int(n), nil
}

// UseAdminActivation implements store.Writer.
func (t *Tx) UseAdminActivation(hash []byte, as store.Administrator, now time.Time) (store.Administrator, bool, error) {
	used, err := list(t, "links of administrators", scanAdminActivation, `UPDATE admin_activations SET used_at = $2
		WHERE hash = $1 AND used_at = 0 AND expires > $2 AND (admin_id = ''
			OR EXISTS (SELECT 1 FROM administrators a WHERE a.id = admin_id AND a.status <> 'Disabled'`+t.dialect.LockRow+`))
		RETURNING `+adminActivationColumns, blob(hash), micros(now))
	if err != nil || len(used) == 0 {
		return store.Administrator{}, false, err
	}
	link := used[0]
	if link.AdminID == "" {
		as.Email, as.Role, as.Status, as.Created, as.Activated = link.Email, link.Role, store.AdminActive, now, now
		return as, true, t.AddAdministrator(as)
	}
	err = t.set("administrator", `UPDATE administrators SET status = 'Active', activated = $2 WHERE id = $1`, link.AdminID, micros(now))
	if err != nil {
		return store.Administrator{}, false, err
	}
	made, err := t.Administrator(link.AdminID)
	return made, err == nil, err
}
