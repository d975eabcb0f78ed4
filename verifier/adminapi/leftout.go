// SPDX-License-Identifier: Apache-2.0

package adminapi

// Absent is a group of calls of Duo's APIs that the verifier leaves out.
type Absent struct {
	Patterns []string // of http.ServeMux; without a method: any
	Why      string
}

// LeftOut lists what is left out. docs/reference/admin-api-left-out.md is the
// same table; a test compares them.
func LeftOut() []Absent {
	return []Absent{
		{
			[]string{"/admin/v1/administrative_units", "/admin/v1/administrative_units/{rest...}"},
			"administrative units divide a company among administrators; what an administrator may do is a role here, and what a script may do its grants",
		},
		{
			[]string{"/admin/v1/trust_monitor/{rest...}"},
			"Trust Monitor learns what is usual from the logins of all of Duo's customers; the authentication log and its stream are there for such tools",
		},
		{
			[]string{"/admin/v1/billing/edition"},
			"there are no editions: every verifier has all features",
		},
		{
			[]string{"/accounts/v1/{rest...}"},
			"one verifier serves one organisation; a provider with several runs one verifier for each",
		},
		{
			[]string{"/admin/v2/identity_verification/{rest...}"},
			"it hands people's identity papers to an outside service",
		},
		{
			[]string{
				"POST /admin/v1/users/directorysync/{directory_key}/syncuser",
				"POST /admin/v1/admins/directorysync/{directory_key}/syncadmin",
			},
			"the verifier reads no directory: a script writes users and groups through this API",
		},
		{
			[]string{"POST /admin/v1/admins/{admin_id}/activation_link/email"},
			"the verifier sends no mail: pass the link on that activation_link answers",
		},
		{
			[]string{"/admin/v1/branding", "/admin/v1/branding/{rest...}"},
			"pages have no draft and no custom styles; the logo can be set, and the help desk's message",
		},
		{
			[]string{
				"GET /admin/v1/desktop_authenticators/shared_device_auth", "POST /admin/v1/desktop_authenticators/shared_device_auth",
				"/admin/v1/desktop_authenticators/shared_device_auth/{rest...}",
			},
			"a device that several people share proves none of them",
		},
		{
			[]string{
				"GET /admin/v1/integrations/{integration_key}/skey", "GET /admin/v2/integrations/{integration_key}/skey",
				"GET /admin/v3/integrations/{integration_key}/skey",
			},
			"a secret is shown once, when it is made: rotate it with reset_secret_key, the old one stays good for a while",
		},
		{
			[]string{
				"/admin/v2/integrations/oauth_cc/{integration_key}/client_secret/{client_id}",
				"/admin/v2/integrations/oidc/{integration_key}/client_secret",
			},
			"the verifier is no OAuth server for machines and no single sign-on; the web prompt is for integrations of type websdk",
		},
	}
}
