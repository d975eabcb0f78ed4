// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// AdminRole is what an administrator may do in the console, by its name on the wire.
type AdminRole string

// The roles of administrators.
const (
	RoleOwner              AdminRole = "Owner"
	RoleAdministrator      AdminRole = "Administrator"
	RoleApplicationManager AdminRole = "Application Manager"
	RoleUserManager        AdminRole = "User Manager"
	RoleSecurityAnalyst    AdminRole = "Security Analyst"
	RoleHelpDesk           AdminRole = "Help Desk"
	RoleBilling            AdminRole = "Billing"
	RolePhishingManager    AdminRole = "Phishing Manager"
	RoleReadOnly           AdminRole = "Read-only"
)

// AdminStatus is the status of an administrator, by its name on the wire.
type AdminStatus string

// The statuses of an administrator.
const (
	AdminActive   AdminStatus = "Active"
	AdminDisabled AdminStatus = "Disabled"
	AdminPending  AdminStatus = "Pending Activation"
)

// Administrator is a person who administers.
type Administrator struct {
	ID               string // DE and 18 characters
	Name             string
	Email            string // in lower case; whose it is
	Phone            string
	Role             AdminRole
	Status           AdminStatus
	Password         string // argon2id, with its parameters; empty: none
	PasswordExternal bool   // set through the API only
	PasswordChange   bool   // to be changed at the next login
	Failures         int    // failed logins in a row
	Created          time.Time
	Activated        time.Time // zero: the link was not used yet
	LastLogin        time.Time
}

// AdminActivation is a link that makes somebody an administrator.
type AdminActivation struct {
	ID      string // DN and 18 characters
	Hash    []byte // keyed hash under purpose "admin activation"
	AdminID string // empty: of nobody yet, who becomes one with this mail and role
	Email   string
	Role    AdminRole
	Created time.Time
	Expires time.Time
	UsedAt  time.Time // zero: not used
}

// AdministratorReader reads administrators.
type AdministratorReader interface {
	Administrator(id string) (Administrator, error)
	// Administrators are listed by mail.
	Administrators(p Page) ([]Administrator, int, error)
	// AdminActivations lists the links that were not used, newest first, expired ones too.
	AdminActivations(p Page) ([]AdminActivation, int, error)
	AdminActivation(id string) (AdminActivation, error)
}

// AdministratorWriter changes administrators. There is always an Owner left who
// can log in: SetAdministrator and DeleteAdministrator refuse (false) to disable,
// demote or delete an active Owner if no other is active, and one whose link was
// not used yet if no other is active or waits for the same.
type AdministratorWriter interface {
	// AddAdministrator gives ErrConflict if the mail is another's.
	AddAdministrator(Administrator) error
	// SetAdministrator writes all but id, mail, creation and activation.
	SetAdministrator(Administrator) (bool, error)
	// DeleteAdministrator deletes the administrator and their links.
	DeleteAdministrator(id string) (bool, error)
	// AddAdminActivation voids the other links of the same administrator or mail.
	AddAdminActivation(AdminActivation) error
	DeleteAdminActivation(id string) error
	// DeleteAdminActivations deletes the links of an administrator and says how many.
	DeleteAdminActivations(adminID string) (int, error)
	// UseAdminActivation spends an unexpired link. The administrator becomes active;
	// where there is none yet, as gives id and name of the one that it makes.
	UseAdminActivation(hash []byte, as Administrator, now time.Time) (Administrator, bool, error)
}
