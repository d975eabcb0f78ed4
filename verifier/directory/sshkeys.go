// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/sshkey"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const sshKeyPrefix = "DK"

// AddSSHKey gives a user an SSH public key: a line of the form TYPE BASE64
// [COMMENT]. comment, if it is given, stands in the place of the line's own.
func (d *Directory) AddSSHKey(ctx context.Context, a Actor, userID, line string, comment *string) (k store.SSHKey, err error) {
	parsed, err := sshkey.Parse(line)
	if err != nil {
		return k, invalid("key", why(err))
	}
	if comment != nil {
		parsed.Comment = strings.TrimSpace(*comment)
		if err := sshkey.CheckComment(parsed.Comment); err != nil {
			return k, invalid("comment", why(err))
		}
	}
	id, err := d.newID(sshKeyPrefix)
	if err != nil {
		return k, err
	}
	k = store.SSHKey{ID: id, UserID: userID, Fingerprint: parsed.Fingerprint, Key: parsed.Text, Comment: parsed.Comment, Created: d.Now()}
	err = d.update(ctx, "key: this user or another has it", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		won, err := w.AddSSHKey(k, sshkey.MaxKeys)
		if err != nil {
			return fmt.Errorf("add SSH key: %w", err)
		}
		if !won {
			return invalid("key", fmt.Sprintf("the user has %d, and no more are kept", sshkey.MaxKeys))
		}
		return d.audit(w, a, "ssh_key_create", u.Username, whole("ssh_key_id", k.ID, sshKeyFields(k)))
	})
	return k, err
}

// DeleteSSHKey takes a key from its user.
func (d *Directory) DeleteSSHKey(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		k, err := w.SSHKey(id)
		if err != nil {
			return err
		}
		u, err := w.User(k.UserID)
		if err != nil {
			return err
		}
		if err := w.DeleteSSHKey(id); err != nil {
			return fmt.Errorf("delete SSH key: %w", err)
		}
		return d.audit(w, a, "ssh_key_delete", u.Username, whole("ssh_key_id", id, sshKeyFields(k)))
	})
}

func sshKeyFields(k store.SSHKey) fields {
	return fields{"user_id": k.UserID, "fingerprint": k.Fingerprint, "comment": k.Comment}
}

// why is a refusal of package sshkey without what its callers say themselves.
func why(err error) string {
	return strings.TrimPrefix(err.Error(), sshkey.ErrRefused.Error()+": ")
}

// SSHKeysFor are the keys that a person may be known by at a host. Who is not
// there, or may not log in at present, is as if not there: 40401.
func (d *Directory) SSHKeysFor(ctx context.Context, h store.Host, name func(store.Integration) string) (u store.User, keys []store.SSHKey, err error) {
	err = d.view(ctx, func(r store.Reader) error {
		i, err := r.Integration(h.IntegrationKey)
		if err != nil {
			return err
		}
		if u, err = r.UserByName(name(i)); err != nil {
			return err
		}
		if u.Status != store.Active && u.Status != store.Bypass {
			return store.ErrNotFound
		}
		keys, _, err = r.SSHKeys(u.ID, store.Page{Limit: sshkey.MaxKeys})
		return err
	})
	var refused *duoapi.Error
	if err != nil && !errors.As(err, &refused) {
		err = fmt.Errorf("list SSH keys: %w", err)
	}
	return u, keys, err
}
