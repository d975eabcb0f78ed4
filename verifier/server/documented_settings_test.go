// SPDX-License-Identifier: Apache-2.0

package server_test

func init() {
	document("GET /admin/v1/settings")
	var all []parameter
	for name, good := range map[string]int{
		"lockout_threshold": 10, "lockout_expire_duration": 10, "attempt_delay": 5, "push_timeout": 60, "push_budget": 10, "push_free": 3, "push_delay": 30,
		"push_alarm": 3, "sms_batch": 1, "sms_expiration": 10,
		"offline_max_uses": 10, "offline_max_days": 10, "log_retention_days": 0, "inactive_user_expiration": 30, "pending_deletion_days": 7,
		"unenrolled_user_lockout_threshold": 30, "telephony_warning_min": 10, "user_telephony_cost_max": 10, "minimum_password_length": 12,
		"helpdesk_bypass_expiration": 60, "telephony_call_cost": 1, "telephony_sms_cost": 1,
	} {
		all = append(all, optional(name, number(good)))
	}
	for _, name := range []string{
		"offline_enabled", "fraud_email_enabled", "sms_refresh", "password_requires_upper_alpha", "password_requires_lower_alpha",
		"password_requires_numeric", "password_requires_special", "helpdesk_can_send_enroll_email", "security_checkup_enabled",
		"user_managers_can_put_users_in_bypass", "email_activity_notification_enabled", "push_activity_notification_enabled",
		"enrollment_universal_prompt_enabled",
	} {
		all = append(all, optional(name, flag()))
	}
	for name, good := range map[string]string{"helpdesk_message": "h", "sms_message": "s", "call_message": "c", "name": "n", "caller_id": "+15550100"} {
		all = append(all, optional(name, text(good)))
	}
	word := func(good string) kind {
		return kind{good: always(good), wrong: []string{"no such value"}, strict: true}
	}
	document("POST /admin/v1/settings", append(all,
		optional("new_user_policy", oneOf("enroll", "deny")), optional("helpdesk_bypass", oneOf("allow", "limit", "deny")),
		optional("fraud_email", word("fraud@example.org")), optional("keypress_confirm", word("#")), optional("keypress_fraud", word("*")),
		optional("timezone", word("Europe/Berlin")), optional("language", word("EN")))...)
}
