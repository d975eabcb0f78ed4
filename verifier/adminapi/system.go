// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // which time zones there are must not depend on the machine

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) createHostToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	valid, err := validSecs(r.Params, directory.DefaultJoinSecs, directory.MinJoinSecs, directory.MaxJoinSecs)
	if err != nil {
		return gate.Answer{}, err
	}
	token, err := a.Directory.CreateJoinToken(ctx, actor(r), r.Params["name"], valid)
	return gate.Answer{Response: map[string]any{
		"token": token.Token, "expiration": token.Expires.Unix(), "url": a.Base.String(),
	}}, err
}

func (a *API) listHosts(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []hostView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		hosts, n, err := s.Hosts(p)
		total, views = n, nil
		for _, h := range hosts {
			views = append(views, viewHost(h))
		}
		return err
	})
	return paged(p, views, total), err
}

func (a *API) getHost(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v hostView
	err := a.view(ctx, func(s store.Reader) error {
		h, err := s.Host(r.Path("host_id"))
		v = viewHost(h)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) revokeHost(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.RevokeHost(ctx, actor(r), r.Path("host_id"))
}

func (a *API) settings(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	s, err := a.Directory.Settings(ctx)
	return gate.Answer{Response: viewSettings(s)}, err
}

func (a *API) setSettings(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	s, err := a.Directory.SetSettings(ctx, actor(r), func(s *store.Settings) error { return changeSettings(r.Params, s) })
	return gate.Answer{Response: viewSettings(s)}, err
}

func changeSettings(p gate.Params, s *store.Settings) error {
	for _, f := range []struct {
		name      string
		place     *int
		low, high int
	}{
		{"lockout_threshold", &s.LockoutThreshold, 1, 9999},
		{"lockout_expire_duration", &s.LockoutExpireDuration, 0, 525_600},
		{"attempt_delay", &s.AttemptDelay, 0, 300},
		{"telephony_call_cost", &s.TelephonyCallCost, 0, 1000},
		{"telephony_sms_cost", &s.TelephonySMSCost, 0, 1000},
		{"telephony_warning_min", &s.TelephonyWarningMin, 0, 1_000_000_000},
		{"user_telephony_cost_max", &s.UserTelephonyCostMax, 0, 1000},
		{"push_timeout", &s.PushTimeout, 10, 600},
		{"push_budget", &s.PushBudget, 1, 1000},
		{"push_free", &s.PushFree, 1, 1000},
		{"push_delay", &s.PushDelay, 0, 600},
		{"push_alarm", &s.PushAlarm, 0, 1000},
		{"sms_batch", &s.SMSBatch, 1, 10},
		{"sms_expiration", &s.SMSExpiration, 1, 10},
		{"offline_max_uses", &s.OfflineMaxUses, 1, 100},
		{"offline_max_days", &s.OfflineMaxDays, 1, 90},
		{"log_retention_days", &s.LogRetentionDays, 0, 3650},
		{"inactive_user_expiration", &s.InactiveExpiration, 0, 365},
		{"pending_deletion_days", &s.PendingDeletionDays, 0, 30},
		{"unenrolled_user_lockout_threshold", &s.UnenrolledLockout, 0, 365},
		{"minimum_password_length", &s.MinimumPasswordLength, 8, 100},
		{"helpdesk_bypass_expiration", &s.HelpdeskBypassExpires, 0, 525_600},
	} {
		n, err := p.Int(f.name, *f.place, f.low, f.high)
		if err != nil {
			return err
		}
		*f.place = n
	}
	if err := changeFlags(p, s); err != nil {
		return err
	}
	return changeTexts(p, s)
}

func changeFlags(p gate.Params, s *store.Settings) (err error) {
	for name, place := range map[string]*bool{
		"offline_enabled": &s.OfflineEnabled, "fraud_email_enabled": &s.FraudEmailEnabled, "sms_refresh": &s.SMSRefresh,
		"password_requires_upper_alpha": &s.PasswordRequiresUpper, "password_requires_lower_alpha": &s.PasswordRequiresLower,
		"password_requires_numeric": &s.PasswordRequiresNumeric, "password_requires_special": &s.PasswordRequiresSpecial,
		"helpdesk_can_send_enroll_email": &s.HelpdeskEnrollEmail, "security_checkup_enabled": &s.SecurityCheckup,
		"user_managers_can_put_users_in_bypass": &s.ManagersMayBypass, "email_activity_notification_enabled": &s.EmailNotification,
		"push_activity_notification_enabled": &s.PushNotification, "enrollment_universal_prompt_enabled": &s.EnrollmentPrompt,
	} {
		if *place, err = p.Bool(name, *place); err != nil {
			return err
		}
	}
	return nil
}

func changeTexts(p gate.Params, s *store.Settings) (err error) {
	if s.NewUserPolicy, err = p.OneOf("new_user_policy", s.NewUserPolicy, store.EnrollDeny, store.EnrollOffer); err != nil {
		return err
	}
	if s.HelpdeskBypass, err = p.OneOf("helpdesk_bypass", s.HelpdeskBypass, "allow", "limit", "deny"); err != nil {
		return err
	}
	for name, place := range map[string]*string{
		"helpdesk_message": &s.HelpdeskMessage, "sms_message": &s.SMSMessage, "call_message": &s.CallMessage,
		"name": &s.Name, "fraud_email": &s.FraudEmail, "caller_id": &s.CallerID,
	} {
		if !p.Has(name) {
			continue
		}
		if *place, err = p.String(name, 500); err != nil {
			return err
		}
	}
	for name, f := range map[string]struct {
		place *string
		good  func(string) bool
		what  string
	}{
		"keypress_confirm": {&s.KeypressConfirm, isKeys, "not digits, # and *"},
		"keypress_fraud":   {&s.KeypressFraud, isKeys, "not digits, # and *"},
		"timezone":         {&s.Timezone, isTimezone, "not the name of a time zone such as Europe/Berlin"},
		"language":         {&s.Language, isLanguage, "not a language such as EN or PT-BR"},
	} {
		value := p[name]
		if value == "" {
			continue
		}
		if !f.good(value) {
			return gate.Invalid(name, f.what)
		}
		*f.place = value
	}
	return nil
}

func isKeys(s string) bool { return len(s) <= 8 && strings.Trim(s, "0123456789#*") == "" }

func isTimezone(s string) bool {
	if s == "Local" { // would be the verifier's own
		return false
	}
	_, err := time.LoadLocation(s)
	return err == nil
}

var language = regexp.MustCompile(`^[A-Za-z]{2,3}(-[A-Za-z]{2,4})?$`)

func isLanguage(s string) bool { return language.MatchString(s) }

// viewSettings are the settings that have no calls of their own.
func viewSettings(s store.Settings) map[string]any {
	out := members(s)
	delete(out, "admin_auth_methods")
	delete(out, "passport_config")
	return out
}
