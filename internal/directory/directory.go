// SPDX-License-Identifier: Apache-2.0

// Package directory asks the name service of this host which accounts and groups
// there are; package directory/ldap asks a directory. It never decides what a person may do, and takes no answer for a no.
package directory

import (
	"context"
	"errors"
	"strings"
)

// ErrNoSuchUser says that the name service answered, and knows no such account.
var ErrNoSuchUser = errors.New("no such user")

// ErrNoValue says that the directory answered, and has no value that can be used.
var ErrNoValue = errors.New("no value in the directory")

// Account is an account as the name service knows it.
type Account struct {
	Name  string // canonical
	UID   uint32
	GID   uint32
	GECOS string
	Local bool // it stands so in /etc/passwd
	// Absent says that it stands for a person without an account on this host.
	Absent bool
}

// NoAccount is a person whom the name service has been asked for and does not
// know. Its ids are -1, which no account can have.
func NoAccount(name string) Account {
	return Account{Name: name, UID: ^uint32(0), GID: ^uint32(0), Absent: true}
}

// Directory is the name service of this host. Its methods are safe for
// concurrent use and end when ctx does. An error that does not wrap
// ErrNoSuchUser means that nothing is known.
type Directory interface {
	ByName(ctx context.Context, name string) (Account, error)
	ByUID(ctx context.Context, uid uint32) (Account, error)
	// InGroup says whether the account is in the group. A group that the name
	// service does not know is an error, not a no: it may know it tomorrow.
	InGroup(ctx context.Context, account Account, group string) (bool, error)
}

// SplitDomain takes DOMAIN\user and user@domain apart; domain is empty for other
// names. Where both are there, the domain after the @ is the more exact one.
func SplitDomain(name string) (user, domain string) {
	user = name
	if i := strings.LastIndexByte(user, '\\'); i >= 0 && i+1 < len(user) {
		domain, user = user[:i], user[i+1:]
	}
	if i := strings.IndexByte(user, '@'); i > 0 && i+1 < len(user) {
		user, domain = user[:i], user[i+1:]
	}
	return user, domain
}
