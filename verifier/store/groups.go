// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Group is a set of users with a status of its own.
type Group struct {
	ID     string // DG and 18 characters
	Name   string // unique
	Desc   string
	Status UserStatus // active, bypass or disabled
	// Which factors the group was made for, as the wire has it.
	PushEnabled, SMSEnabled, VoiceEnabled, MobileOTPEnabled bool

	Created time.Time
}

// GroupReader reads groups and who is in them.
type GroupReader interface {
	Group(id string) (Group, error)
	// Groups lists groups by name.
	Groups(p Page) ([]Group, int, error)
	// GroupUsers lists the users of a group by name.
	GroupUsers(groupID string, p Page) ([]User, int, error)
	// UserGroups lists all groups of a user by name.
	UserGroups(userID string) ([]Group, error)
}

// GroupWriter changes groups. Each change begins another version of the policies.
type GroupWriter interface {
	// AddGroup and SetGroup give ErrConflict for the name of another group.
	AddGroup(Group) error
	SetGroup(Group) error
	DeleteGroup(id string) error
	// AddGroupUser puts a user into a group; one who is in it already stays.
	AddGroupUser(groupID, userID string) error
	RemoveGroupUser(groupID, userID string) error
}
