// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// UserAccess says who may log in by an integration, by its name on the wire.
type UserAccess string

// The values of UserAccess.
const (
	AccessAll    UserAccess = "ALL_USERS"
	AccessNone   UserAccess = "NO_USERS"
	AccessGroups UserAccess = "PERMITTED_GROUPS" // members of GroupsAllowed
)

// IntegrationMore is the part of an integration that no statement decides on.
// The zero value is that of an integration from before these fields were there.
type IntegrationMore struct {
	UserAccess         UserAccess `json:"user_access,omitempty"`    // empty: AccessAll
	GroupsAllowed      []string   `json:"groups_allowed,omitempty"` // ids of groups; with AccessGroups
	SelfServiceAllowed bool       `json:"self_service_allowed,omitempty"`
	VisualStyle        string     `json:"visual_style,omitempty"`
	TrustedDeviceDays  int        `json:"trusted_device_days,omitempty"`
	// IPWhitelist and its enrolment policy are kept for clients that set them; the
	// policy section authorized_networks is what decides.
	IPWhitelist             []string `json:"ip_whitelist,omitempty"`
	IPWhitelistEnrollPolicy string   `json:"ip_whitelist_enroll_policy,omitempty"`
}

// Access is UserAccess with its default.
func (m IntegrationMore) Access() UserAccess {
	if m.UserAccess == "" {
		return AccessAll
	}
	return m.UserAccess
}

// OldSecret is the secret before the last rotation, while it is still good.
type OldSecret struct {
	Sealed []byte    // sealed as SecretSealed; empty: none
	Until  time.Time // good before that time
}

// Good says whether the old secret is still accepted.
func (o OldSecret) Good(now time.Time) bool { return len(o.Sealed) > 0 && now.Before(o.Until) }
