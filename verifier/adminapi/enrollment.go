// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
)

const enrollmentLinksPath = "/sallyport/v1/admin/enrollment_links"

type enrollmentLinkView struct {
	Link     string `json:"link"`
	Expires  *int64 `json:"expires"`
	Mailed   bool   `json:"mailed"`
	UserID   string `json:"user_id"`
	Username string `json:"username"`
}

func (a *API) createEnrollmentLink(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var q enrollment.LinkRequest
	var err error
	if q.Username, err = r.Params.Required("username", maxText); err != nil {
		return gate.Answer{}, err
	}
	if q.Email, err = r.Params.String("email", maxText); err != nil {
		return gate.Answer{}, err
	}
	if q.Create, err = r.Params.Bool("create", false); err != nil {
		return gate.Answer{}, err
	}
	if q.Send, err = r.Params.Bool("send", false); err != nil {
		return gate.Answer{}, err
	}
	q.Valid, err = validSecs(r.Params, int(enrollment.DefaultValid.Seconds()), int(enrollment.MinValid.Seconds()), int(enrollment.MaxValid.Seconds()))
	if err != nil {
		return gate.Answer{}, err
	}
	l, err := a.Enrollment.NewLink(ctx, actor(r), q)
	return gate.Answer{Response: enrollmentLinkView{
		Link: l.URL, Expires: stamp(l.Expires), Mailed: l.Mailed, UserID: l.User.ID, Username: l.User.Username,
	}}, err
}

// deleteEnrollmentLinks is as good as done where there is nothing to delete.
func (a *API) deleteEnrollmentLinks(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	_, err := a.Enrollment.VoidLinks(ctx, actor(r), r.Path("user_id"))
	return done, err
}
