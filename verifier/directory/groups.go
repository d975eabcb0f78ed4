// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const groupPrefix = "DG"

const groupTaken = "name: another group has it"

// GroupChange is what to set; nil leaves it as it is.
type GroupChange struct {
	Name, Desc *string
	Status     *store.UserStatus

	PushEnabled, SMSEnabled, VoiceEnabled, MobileOTPEnabled *bool
}

func (c GroupChange) apply(g *store.Group) error {
	if c.Name != nil {
		n, err := name("name", *c.Name)
		if err != nil {
			return err
		}
		g.Name = n
	}
	if c.Desc != nil {
		if err := text("desc", *c.Desc, maxText, true); err != nil {
			return err
		}
		g.Desc = *c.Desc
	}
	if c.Status != nil {
		if !slices.Contains([]store.UserStatus{store.Active, store.Bypass, store.Disabled}, *c.Status) {
			return invalid("status", "not one of active, bypass, disabled")
		}
		g.Status = *c.Status
	}
	for _, f := range []struct{ value, place *bool }{
		{c.PushEnabled, &g.PushEnabled}, {c.SMSEnabled, &g.SMSEnabled}, {c.VoiceEnabled, &g.VoiceEnabled},
		{c.MobileOTPEnabled, &g.MobileOTPEnabled},
	} {
		if f.value != nil {
			*f.place = *f.value
		}
	}
	return nil
}

// CreateGroup makes a group; Name must be set in c.
func (d *Directory) CreateGroup(ctx context.Context, a Actor, c GroupChange) (g store.Group, err error) {
	if c.Name == nil {
		return g, duoapi.NewError(duoapi.CodeMissingParameter, "name")
	}
	id, err := d.newID(groupPrefix)
	if err != nil {
		return g, err
	}
	g = store.Group{
		ID: id, Status: store.Active, PushEnabled: true, SMSEnabled: true, VoiceEnabled: true, MobileOTPEnabled: true, Created: d.Now(),
	}
	if err := c.apply(&g); err != nil {
		return g, err
	}
	err = d.update(ctx, groupTaken, func(w store.Writer) error {
		if err := w.AddGroup(g); err != nil {
			return fmt.Errorf("add group: %w", err)
		}
		return d.audit(w, a, "group_create", g.Name, map[string]any{"group_id": g.ID, "status": g.Status, "desc": g.Desc})
	})
	return g, err
}

// UpdateGroup changes a group. The status holds for the members' next login at once.
func (d *Directory) UpdateGroup(ctx context.Context, a Actor, id string, c GroupChange) (g store.Group, err error) {
	err = d.update(ctx, groupTaken, func(w store.Writer) error {
		before, err := w.Group(id)
		if err != nil {
			return err
		}
		g = before
		if err := c.apply(&g); err != nil {
			return err
		}
		if err := w.SetGroup(g); err != nil {
			return fmt.Errorf("set group: %w", err)
		}
		return d.audit(w, a, "group_update", g.Name, groupDifference(before, g))
	})
	return g, err
}

func groupDifference(before, after store.Group) map[string]any {
	out := map[string]any{"group_id": after.ID}
	for _, f := range []struct {
		name          string
		before, after any
	}{
		{"name", before.Name, after.Name},
		{"desc", before.Desc, after.Desc},
		{"status", before.Status, after.Status},
		{"push_enabled", before.PushEnabled, after.PushEnabled},
		{"sms_enabled", before.SMSEnabled, after.SMSEnabled},
		{"voice_enabled", before.VoiceEnabled, after.VoiceEnabled},
		{"mobile_otp_enabled", before.MobileOTPEnabled, after.MobileOTPEnabled},
	} {
		if f.before != f.after {
			out[f.name] = map[string]any{"before": f.before, "after": f.after}
		}
	}
	return out
}

// DeleteGroup removes a group; its members stay, policies on it are taken off.
func (d *Directory) DeleteGroup(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		g, err := w.Group(id)
		if err != nil {
			return err
		}
		_, members, err := w.GroupUsers(id, store.Page{Limit: 1})
		if err != nil {
			return err
		}
		if err := w.DeleteGroup(id); err != nil {
			return fmt.Errorf("delete group: %w", err)
		}
		return d.audit(w, a, "group_delete", g.Name, map[string]any{"group_id": id, "status": g.Status, "members": members})
	})
}

// JoinGroup puts a user into a group. One who is in it already stays, and nothing is logged.
func (d *Directory) JoinGroup(ctx context.Context, a Actor, userID, groupID string) error {
	return d.membership(ctx, userID, func(w store.Writer, u store.User, mine []store.Group) error {
		g, err := w.Group(groupID)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(mine, func(g store.Group) bool { return g.ID == groupID }) {
			return nil
		}
		if err := w.AddGroupUser(groupID, userID); err != nil {
			return fmt.Errorf("add a user to a group: %w", err)
		}
		return d.audit(w, a, "group_associate", g.Name, map[string]any{"group_id": groupID, "user_id": userID, "user": u.Username})
	})
}

// LeaveGroup takes a user out of a group.
func (d *Directory) LeaveGroup(ctx context.Context, a Actor, userID, groupID string) error {
	return d.membership(ctx, userID, func(w store.Writer, u store.User, _ []store.Group) error {
		g, err := w.Group(groupID)
		if err != nil {
			return err
		}
		if err := w.RemoveGroupUser(groupID, userID); err != nil {
			return fmt.Errorf("take a user out of a group: %w", err)
		}
		return d.audit(w, a, "group_disassociate", g.Name, map[string]any{"group_id": groupID, "user_id": userID, "user": u.Username})
	})
}

func (d *Directory) membership(ctx context.Context, userID string, change func(store.Writer, store.User, []store.Group) error) error {
	return d.update(ctx, "", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		mine, err := w.UserGroups(userID)
		if err != nil {
			return err
		}
		return change(w, u, mine)
	})
}
