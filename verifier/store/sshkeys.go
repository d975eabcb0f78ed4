// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// SSHKey is an SSH public key of a user.
type SSHKey struct {
	ID          string // DK and 18 characters
	UserID      string
	Fingerprint string // SHA256:…; unique
	Key         string // TYPE BASE64
	Comment     string
	Created     time.Time
}

// SSHKeyReader reads SSH keys. Lists are oldest first; userID "" lists everyone's.
type SSHKeyReader interface {
	SSHKey(id string) (SSHKey, error)
	SSHKeys(userID string, p Page) ([]SSHKey, int, error)
}

// SSHKeyWriter changes them.
type SSHKeyWriter interface {
	// AddSSHKey gives a user a key, who has less than limit. False: as many are there.
	// A key that anybody has gives ErrConflict, a user who is not there ErrNotFound.
	AddSSHKey(k SSHKey, limit int) (bool, error)
	DeleteSSHKey(id string) error
}
