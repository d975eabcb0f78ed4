// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"time"
)

// Policy is a set of sections. Exactly one is global; it always exists.
type Policy struct {
	ID       string // PO and 18 characters
	Name     string // unique
	Global   bool
	Sections map[string]json.RawMessage // by section key
	Created  time.Time
}

// PolicyUse is a place where a policy is put: an application, or a group at an application.
type PolicyUse struct {
	PolicyID       string
	IntegrationKey string
	GroupID        string // empty: the application as a whole
	Position       int    // among the groups at the application, from 0
}

// AppliedPolicies is what policies rest on at one application, read at one moment.
type AppliedPolicies struct {
	Version int64
	Global  Policy
	Uses    []PolicyUse // groups by position, then the application's own
	// Policies holds the policies of Uses by id.
	Policies map[string]Policy
}

// PolicyReader reads policies and where they are put.
type PolicyReader interface {
	Policy(id string) (Policy, error)
	GlobalPolicy() (Policy, error)
	// Policies lists policies, the global one first, then by name.
	Policies(p Page) ([]Policy, int, error)
	// PolicyUses lists where a policy is put; policyID "" lists all uses.
	PolicyUses(policyID string) ([]PolicyUse, error)
	AppliedPolicies(integrationKey string) (AppliedPolicies, error)
	// PolicyVersion counts the changes of policies, their uses, groups and memberships.
	PolicyVersion() (int64, error)
}

// PolicyWriter changes policies. Each change begins another version of the policies.
type PolicyWriter interface {
	// AddPolicy and SetPolicy give ErrConflict for the name of another policy.
	// SetPolicy writes name and sections; AddPolicy adds none that is global.
	AddPolicy(Policy) error
	SetPolicy(Policy) error
	// DeletePolicy deletes a policy with its uses. The global one is not found.
	DeletePolicy(id string) error
	// PutPolicy puts a policy on an application, or on a group there: in place of
	// the one that was, at the position that the group had, or else behind the others.
	PutPolicy(u PolicyUse) error
	// TakePolicy takes a policy off; false: it was not put there.
	TakePolicy(u PolicyUse) (bool, error)
	// OrderPolicies sets the order of the groups at an application; those not named come behind, as they were.
	OrderPolicies(integrationKey string, groupIDs []string) error

	// HoldPolicies returns the version of the policies and keeps it from changing
	// until the update ends.
	HoldPolicies() (int64, error)
	// NoteUnasked notes the login of a user whom nobody asked for a factor. False:
	// the user is neither active nor in bypass, or not there.
	NoteUnasked(userID string, now time.Time) (bool, error)
}
