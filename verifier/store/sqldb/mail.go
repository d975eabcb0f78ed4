// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const mailColumns = `id, user_id, kind, body, created, due, attempts`

func scanMail(s scanner) (store.Mail, error) {
	var (
		m            store.Mail
		created, due int64
	)
	err := s.Scan(&m.ID, &m.UserID, &m.Kind, &m.Sealed, &created, &due, &m.Attempts)
	m.Created, m.Due = fromMicros(created), fromMicros(due)
	return m, err
}

// DueMails implements store.MailReader.
func (t *Tx) DueMails(now time.Time, limit int) ([]store.Mail, error) {
	return list(t, "mails", scanMail, `SELECT `+mailColumns+` FROM (
			SELECT `+mailColumns+`, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY due, id) AS turn FROM mails WHERE due <= $1
		) AS waiting ORDER BY turn, due, id LIMIT $2`, micros(now), limit)
}

// AddMail implements store.MailWriter.
func (t *Tx) AddMail(m store.Mail) error {
	return t.add("mail", `INSERT INTO mails (`+mailColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		m.ID, m.UserID, m.Kind, blob(m.Sealed), micros(m.Created), micros(m.Due), m.Attempts)
}

// TakeMail implements store.MailWriter.
func (t *Tx) TakeMail(m store.Mail, until time.Time) (bool, error) {
	return t.won(`UPDATE mails SET due = $3, attempts = attempts + 1 WHERE id = $1 AND attempts = $2`, m.ID, m.Attempts, micros(until))
}

// DeleteMail implements store.MailWriter.
func (t *Tx) DeleteMail(id string) (bool, error) {
	return t.won(`DELETE FROM mails WHERE id = $1`, id)
}
