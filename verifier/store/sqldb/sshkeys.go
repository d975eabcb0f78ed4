// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const sshKeyColumns = `id, user_id, fingerprint, key, comment, created`

func scanSSHKey(s scanner) (store.SSHKey, error) {
	var (
		k       store.SSHKey
		created int64
	)
	err := s.Scan(&k.ID, &k.UserID, &k.Fingerprint, &k.Key, &k.Comment, &created)
	k.Created = fromMicros(created)
	return k, err
}

// SSHKey implements store.SSHKeyReader.
func (t *Tx) SSHKey(id string) (store.SSHKey, error) {
	return one(t, "SSH key", scanSSHKey, `SELECT `+sshKeyColumns+` FROM ssh_keys WHERE id = $1`, id)
}

// SSHKeys implements store.SSHKeyReader.
func (t *Tx) SSHKeys(userID string, p store.Page) ([]store.SSHKey, int, error) {
	return page(t, "SSH keys", scanSSHKey, sshKeyColumns, "ssh_keys", "created, id", ofUser(userID), p)
}

// AddSSHKey implements store.SSHKeyWriter. The user is read first, and so held: two
// who add a key of one user count one after the other.
func (t *Tx) AddSSHKey(k store.SSHKey, limit int) (bool, error) {
	if _, err := t.User(k.UserID); err != nil {
		return false, fmt.Errorf("find user: %w", err)
	}
	taken, err := count(t, `SELECT COUNT(*) FROM ssh_keys WHERE fingerprint = $1 OR id = $2`, k.Fingerprint, k.ID)
	if err == nil && taken > 0 {
		err = store.ErrConflict
	}
	if err != nil {
		return false, fmt.Errorf("add SSH key: %w", err)
	}
	have, err := count(t, `SELECT COUNT(*) FROM ssh_keys WHERE user_id = $1`, k.UserID)
	if err != nil || have >= limit {
		return false, err
	}
	return true, t.add("SSH key", `INSERT INTO ssh_keys (`+sshKeyColumns+`) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		k.ID, k.UserID, k.Fingerprint, k.Key, k.Comment, micros(k.Created))
}

// DeleteSSHKey implements store.SSHKeyWriter.
func (t *Tx) DeleteSSHKey(id string) error {
	return t.set("SSH key", `DELETE FROM ssh_keys WHERE id = $1`, id)
}
