// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Mail is a mail that waits to be sent.
type Mail struct {
	ID       string
	UserID   string // who it is for
	Kind     string // what it is about, for the log
	Sealed   []byte // address and text, under identity "mail", ID
	Created  time.Time
	Due      time.Time // it is not tried before
	Attempts int
}

// MailReader lists mails.
type MailReader interface {
	// DueMails lists up to limit mails whose time has come: of each user the one that
	// waits longest, then of each the second, and so on. So many mails for one user do
	// not hold up those for others.
	DueMails(now time.Time, limit int) ([]Mail, error)
}

// MailWriter is the queue of mails.
type MailWriter interface {
	AddMail(Mail) error
	// TakeMail counts an attempt at a mail that is due as it was read, and keeps
	// others off it until then. False: somebody else took it, or it is gone.
	TakeMail(m Mail, until time.Time) (bool, error)
	// DeleteMail removes a mail that was sent or given up. False: it is gone.
	DeleteMail(id string) (bool, error)
}
