// SPDX-License-Identifier: Apache-2.0

package store

// SettingsMore are the settings of the Admin API that have no effect on a login
// yet, and those of administrators. docs/reference/admin-api-settings.md says of
// each which.
type SettingsMore struct {
	Name                  string `json:"name"` // of the organisation
	Language              string `json:"language"`
	Timezone              string `json:"timezone"`
	CallerID              string `json:"caller_id"`
	KeypressConfirm       string `json:"keypress_confirm"`
	KeypressFraud         string `json:"keypress_fraud"`
	FraudEmail            string `json:"fraud_email"`
	FraudEmailEnabled     bool   `json:"fraud_email_enabled"`
	SMSRefresh            bool   `json:"sms_refresh"`
	InactiveExpiration    int    `json:"inactive_user_expiration"`          // days; 0: never
	PendingDeletionDays   int    `json:"pending_deletion_days"`             // days in the trash; 0: none
	UnenrolledLockout     int    `json:"unenrolled_user_lockout_threshold"` // days; 0: never
	MinimumPasswordLength int    `json:"minimum_password_length"`           // of administrators
	PasswordRequiresUpper bool   `json:"password_requires_upper_alpha"`
	PasswordRequiresLower bool   `json:"password_requires_lower_alpha"`
	HelpdeskBypass        string `json:"helpdesk_bypass"`            // allow, limit, deny
	HelpdeskBypassExpires int    `json:"helpdesk_bypass_expiration"` // minutes; 0: never
	HelpdeskEnrollEmail   bool   `json:"helpdesk_can_send_enroll_email"`
	SecurityCheckup       bool   `json:"security_checkup_enabled"`
	ManagersMayBypass     bool   `json:"user_managers_can_put_users_in_bypass"`
	EmailNotification     bool   `json:"email_activity_notification_enabled"`
	PushNotification      bool   `json:"push_activity_notification_enabled"`
	EnrollmentPrompt      bool   `json:"enrollment_universal_prompt_enabled"`

	PasswordRequiresNumeric bool `json:"password_requires_numeric"`
	PasswordRequiresSpecial bool `json:"password_requires_special"`

	// AdminAuth and Passport have calls of their own.
	AdminAuth AdminAuthMethods `json:"admin_auth_methods"`
	Passport  PassportConfig   `json:"passport_config"`
}

// AdminAuthMethods are the second factors that administrators may log in with.
type AdminAuthMethods struct {
	Push               bool `json:"push_enabled"`
	SMS                bool `json:"sms_enabled"`
	MobileOTP          bool `json:"mobile_otp_enabled"`
	HardwareToken      bool `json:"hardware_token_enabled"`
	Yubikey            bool `json:"yubikey_enabled"`
	Voice              bool `json:"voice_enabled"`
	VerifiedPush       bool `json:"verified_push_enabled"`
	VerifiedPushLength int  `json:"verified_push_length"`
}

// PassportConfig is for which people and systems workstations keep sessions.
type PassportConfig struct {
	EnabledStatus  string               `json:"enabled_status"` // disabled, enabled, enabled-for-groups, enabled-with-exceptions
	EnabledGroups  []string             `json:"enabled_groups"`
	DisabledGroups []string             `json:"disabled_groups"`
	Browsers       map[string][]Browser `json:"custom_supported_browsers"` // by system: macos, windows
}

// Browser is one that shares sessions, by what signs it.
type Browser struct {
	TeamID     string `json:"team_id,omitempty"`     // macos
	CommonName string `json:"common_name,omitempty"` // windows
}

func defaultMore() SettingsMore {
	return SettingsMore{
		Language: "EN", Timezone: "UTC", KeypressConfirm: "#", KeypressFraud: "*", PendingDeletionDays: 7,
		MinimumPasswordLength: 12, HelpdeskBypass: "allow", HelpdeskBypassExpires: 60, ManagersMayBypass: true,
		AdminAuth: AdminAuthMethods{
			Push: true, MobileOTP: true, HardwareToken: true, Yubikey: true, VerifiedPush: true, VerifiedPushLength: 6,
		},
		Passport: PassportConfig{EnabledStatus: "disabled"},
	}
}
