// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"math"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// infoSpan is how far back the counts go where the client does not say.
const infoSpan = 30 * 24 * time.Hour

func (a *API) infoRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v1/info/summary":                      a.summary,
		"GET /admin/v1/info/authentication_attempts":      a.attempts("authentication_attempts", func(c store.EventCount) int { return c.Attempts }),
		"GET /admin/v1/info/user_authentication_attempts": a.attempts("user_authentication_attempts", func(c store.EventCount) int { return c.Users }),
		"GET /admin/v1/info/telephony_credits_used":       a.creditsUsed,
	}
}

// attempts counts authentications by result.
func (a *API) attempts(name string, number func(store.EventCount) int) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		high, err := r.Params.Int("maxtime", int(a.Now().Unix()), 0, math.MaxInt64/1_000_000)
		if err != nil {
			return gate.Answer{}, err
		}
		low, err := r.Params.Int("mintime", max(0, high-int(infoSpan.Seconds())), 0, math.MaxInt64/1_000_000)
		if err != nil {
			return gate.Answer{}, err
		}
		counts := map[string]int{"ERROR": 0, "FAILURE": 0, "FRAUD": 0, "SUCCESS": 0}
		err = a.view(ctx, func(s store.Reader) error {
			// Both ends are meant to be within.
			list, err := s.EventCounts(time.Unix(int64(low), 0), time.Unix(int64(high)+1, 0))
			for _, c := range list {
				counts[resultV1(c.Result)] += number(c)
			}
			return err
		})
		return gate.Answer{Response: map[string]any{"mintime": low, "maxtime": high, name: counts}}, err
	}
}

func (a *API) summary(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	counts := map[string]int{"admin_count": 0, "telephony_credits_remaining": 0, "user_pending_deletion_count": 0}
	one := store.Page{Limit: 1}
	err := a.view(ctx, func(s store.Reader) (err error) {
		if _, counts["admin_count"], err = s.Administrators(one); err != nil {
			return err
		}
		if _, counts["user_count"], err = s.Users(store.UserFilter{}, one); err != nil {
			return err
		}
		if _, counts["user_pending_deletion_count"], err = s.Users(store.UserFilter{Trashed: true}, one); err != nil {
			return err
		}
		if _, counts["phone_count"], err = s.Phones(store.PhoneFilter{}, one); err != nil {
			return err
		}
		if _, counts["token_count"], err = s.Tokens(store.TokenFilter{}, one); err != nil {
			return err
		}
		if _, counts["host_count"], err = s.Hosts(one); err != nil {
			return err
		}
		if _, counts["integration_count"], err = s.Integrations(one); err != nil {
			return err
		}
		c, err := s.Credits()
		counts["telephony_credits_remaining"] = int(c.Left)
		return err
	})
	return gate.Answer{Response: counts}, err
}
