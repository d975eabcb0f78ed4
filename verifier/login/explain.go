// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// ExplainRequest asks what would happen. Username or UserID is set.
type ExplainRequest struct {
	Username       string
	UserID         string
	IntegrationKey string
	IPAddr         string
	DeviceID       string
}

// Explanation is what policy comes to and what it rests on.
type Explanation struct {
	User        store.User // without ID: nobody has that name
	Groups      []store.Group
	Integration store.Integration
	Enrolled    bool
	Sections    map[string]policy.Origin
	Outcome     policy.Outcome
	Message     string // what the person would read; empty where a factor is asked for
	NewUser     string // where no policy has the section new_user
}

// Explain implements API.
func (s *Service) Explain(ctx context.Context, q ExplainRequest) (Explanation, error) {
	var out Explanation
	err := s.Store.View(ctx, func(r store.Reader) error {
		i, err := r.Integration(q.IntegrationKey)
		if errors.Is(err, store.ErrNotFound) {
			return duoapi.NewError(duoapi.CodeNotFound, "integration_key")
		}
		if err != nil {
			return err
		}
		p, err := s.lookUp(r, Client{Integration: i}, q.Username, q.UserID, origin{ip: q.IPAddr, device: q.DeviceID})
		if err != nil {
			return err
		}
		applied, err := r.AppliedPolicies(i.Key)
		if err != nil {
			return err
		}
		out = Explanation{
			User: p.user, Groups: p.groups, Integration: i, Enrolled: s.enrolled(p), Outcome: p.outcome,
			Sections: policy.Merge(applied, p.groups), NewUser: policy.DefaultNewUser(p.settings),
		}
		if v, decided := s.standing(p); decided {
			out.Message = v.message
		}
		return nil
	})
	if err != nil {
		return out, fmt.Errorf("explain: %w", err)
	}
	return out, nil
}
