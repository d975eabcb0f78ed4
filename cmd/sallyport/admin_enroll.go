// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

const enrollmentLinksPath = "/sallyport/v1/admin/enrollment_links"

// enrollmentLink is what the verifier answers.
type enrollmentLink struct {
	Link     string `json:"link"`
	Expires  int64  `json:"expires"`
	Mailed   bool   `json:"mailed"`
	Username string `json:"username"`
}

func (s *admin) userEnroll() *cobra.Command {
	var email string
	var create, send, void bool
	var valid span
	c := &cobra.Command{
		Use: "enroll NAME", Short: "Make a one-time link by which a person sets up a second factor", Args: args("NAME"),
		Long: `Make a one-time link to a page on which a person sets up a second factor: an app on a
phone, passcodes, or both, and recovery codes. Open it in the person's own browser,
or hand it to that person only: who opens it first enrols in that name.

Another link makes the one before void, and ends an enrolment that is under way;
--void does only that. Who is not a user yet becomes one with --create, or where an
address is given with --email. With --send the verifier mails the link; it then is
not printed.`,
		Example: `  sallyport admin user enroll alice --email alice@example.org --send
  sallyport admin user enroll alice --valid 1h`,
		RunE: func(c *cobra.Command, args []string) error {
			if void {
				for _, flag := range []string{"email", "create", "send", "valid"} {
					if c.Flags().Changed(flag) {
						return cli.Usagef("--void makes no link: it goes without --%s", flag)
					}
				}
				return s.voidEnrollment(c, args[0])
			}
			params := url.Values{"username": {args[0]}, "send": {flagged(send)}, "create": {flagged(create || email != "")}}
			set(params, map[string]string{"email": email})
			if valid != 0 {
				params.Set("valid_secs", valid.seconds())
			}
			var raw json.RawMessage
			_, err := s.client.Call(c.Context(), http.MethodPost, enrollmentLinksPath, params, &raw)
			if err != nil {
				return explain(fmt.Sprintf("enroll %q", args[0]), err, map[int]string{
					duoapi.CodeNotFound:     "--create makes a user of that name",
					duoapi.CodeMailOff:      "leave --send away, and hand the link over yourself",
					duoapi.CodeMayNotEnroll: "sallyport admin user set NAME --status active makes the user active",
				})
			}
			return s.showEnrollmentLink(raw)
		},
	}
	c.Flags().StringVar(&email, "email", "", "mail address of a user who is new or has none")
	c.Flags().BoolVar(&create, "create", false, "make the user, if there is none of that name")
	c.Flags().BoolVar(&send, "send", false, "have the verifier mail the link to the user's address")
	c.Flags().BoolVar(&void, "void", false, "make no link, but the one before void")
	spanFlag(c, &valid, "valid", 0, "how long the link can be used, such as 24h (default 7d)")
	return c
}

func (s *admin) showEnrollmentLink(raw json.RawMessage) error {
	var l enrollmentLink
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	if s.json {
		return s.JSON(raw)
	}
	if l.Mailed {
		s.Notef("mailed a link to %s; it can be used once, until %s\n", l.Username, unix(l.Expires))
		return nil
	}
	s.Printf("%s\n", l.Link)
	s.qr(l.Link)
	s.Notef("the link can be used once, until %s\n", unix(l.Expires))
	return nil
}

func (s *admin) voidEnrollment(c *cobra.Command, name string) error {
	_, u, err := s.findUser(c.Context(), name)
	if err != nil {
		return err
	}
	err = s.call(c.Context(), fmt.Sprintf("make the enrolment link of %q void", name), http.MethodDelete,
		"/sallyport/v1/admin/users/"+url.PathEscape(u.UserID)+"/enrollment_links", nil, nil)
	if err != nil {
		return err
	}
	s.Notef("%s has no enrolment link any more\n", u.Username)
	return nil
}
