// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const groupColumns = `g.id, g.name, g.description, g.status, g.push_enabled, g.sms_enabled, g.voice_enabled,
	g.mobile_otp_enabled, g.created`

func scanGroup(s scanner) (store.Group, error) {
	var (
		g                               store.Group
		push, sms, voice, code, created int64
	)
	err := s.Scan(&g.ID, &g.Name, &g.Desc, &g.Status, &push, &sms, &voice, &code, &created)
	g.PushEnabled, g.SMSEnabled, g.VoiceEnabled, g.MobileOTPEnabled = push == 1, sms == 1, voice == 1, code == 1
	g.Created = fromMicros(created)
	return g, err
}

// Group implements store.Reader.
func (t *Tx) Group(id string) (store.Group, error) {
	return one(t, "group", scanGroup, `SELECT `+groupColumns+` FROM user_groups g WHERE g.id = $1`, id)
}

// Groups implements store.Reader.
func (t *Tx) Groups(p store.Page) ([]store.Group, int, error) {
	return page(t, "groups", scanGroup, groupColumns, "user_groups g", "g.name", where{}, p)
}

// GroupUsers implements store.Reader.
func (t *Tx) GroupUsers(groupID string, p store.Page) ([]store.User, int, error) {
	var w where
	w.and("u.id IN (SELECT user_id FROM group_users WHERE group_id = ?)", groupID)
	return page(t, "users of a group", scanUser, userColumns, "users u", "u.username", w, p)
}

// UserGroups implements store.Reader.
func (t *Tx) UserGroups(userID string) ([]store.Group, error) {
	return list(t, "groups of a user", scanGroup, `SELECT `+groupColumns+` FROM group_users m
		JOIN user_groups g ON g.id = m.group_id WHERE m.user_id = $1 ORDER BY g.name`, userID)
}

// AddGroup implements store.Writer.
func (t *Tx) AddGroup(g store.Group) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	return t.add("group", `INSERT INTO user_groups (id, name, description, status, push_enabled, sms_enabled, voice_enabled,
		mobile_otp_enabled, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
		g.ID, g.Name, g.Desc, string(g.Status), bit(g.PushEnabled), bit(g.SMSEnabled), bit(g.VoiceEnabled),
		bit(g.MobileOTPEnabled), micros(g.Created))
}

// SetGroup implements store.Writer.
func (t *Tx) SetGroup(g store.Group) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	if err := t.freeName("group", "user_groups", g.Name, g.ID); err != nil {
		return err
	}
	return t.set("group", `UPDATE user_groups SET name = $2, description = $3, status = $4, push_enabled = $5, sms_enabled = $6,
		voice_enabled = $7, mobile_otp_enabled = $8 WHERE id = $1`,
		g.ID, g.Name, g.Desc, string(g.Status), bit(g.PushEnabled), bit(g.SMSEnabled), bit(g.VoiceEnabled), bit(g.MobileOTPEnabled))
}

// freeName gives ErrConflict if another row of the table has the name: PostgreSQL
// would end the transaction on its constraint.
func (t *Tx) freeName(what, table, name, id string) error {
	taken, err := count(t, `SELECT COUNT(*) FROM `+table+` WHERE name = $1 AND id <> $2`, name, id)
	if err != nil {
		return fmt.Errorf("change %s: %w", what, err)
	}
	if taken > 0 {
		return fmt.Errorf("change %s: name %q: %w", what, name, store.ErrConflict)
	}
	return nil
}

// DeleteGroup implements store.Writer.
func (t *Tx) DeleteGroup(id string) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	if _, err := t.conn.Exec(`DELETE FROM policy_uses WHERE group_id = $1`, id); err != nil {
		return fmt.Errorf("take policies off the group: %w", err)
	}
	return t.set("group", `DELETE FROM user_groups WHERE id = $1`, id)
}

// AddGroupUser implements store.Writer.
func (t *Tx) AddGroupUser(groupID, userID string) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	if _, err := t.Group(groupID); err != nil {
		return err
	}
	if _, err := t.User(userID); err != nil {
		return err
	}
	_, err := t.conn.Exec(`INSERT INTO group_users (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, groupID, userID)
	if err != nil {
		return fmt.Errorf("add a user to a group: %w", err)
	}
	return nil
}

// RemoveGroupUser implements store.Writer.
func (t *Tx) RemoveGroupUser(groupID, userID string) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	return t.set("membership", `DELETE FROM group_users WHERE group_id = $1 AND user_id = $2`, groupID, userID)
}
