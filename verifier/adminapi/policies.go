// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const explainPath = "/sallyport/v1/admin/policy/explain"

// maxPlaces bounds the applications and groups of one call.
const maxPlaces = 1000

func (a *API) policyReadRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v2/policies":              a.listPolicies,
		"GET /admin/v2/policies/global":       a.globalPolicy,
		"GET /admin/v2/policies/summary":      a.policySummary,
		"GET /admin/v2/policies/calculate":    a.calculatePolicy,
		"GET /admin/v2/policies/{policy_key}": a.getPolicy,
		"GET " + explainPath:                  a.explainPolicy,
	}
}

func (a *API) policyWriteRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /admin/v2/policies":                a.createPolicy,
		"POST /admin/v2/policies/copy":           a.copyPolicy,
		"PUT /admin/v2/policies/update":          a.updatePolicies,
		"PUT /admin/v2/policies/{policy_key}":    a.updatePolicy,
		"DELETE /admin/v2/policies/{policy_key}": a.deletePolicy,

		"POST /sallyport/v1/admin/policy/order": a.orderPolicies,
	}
}

type policyView struct {
	Key      string                     `json:"policy_key"`
	Name     string                     `json:"policy_name"`
	Global   bool                       `json:"is_global_policy"`
	Sections map[string]json.RawMessage `json:"sections"`
}

func viewPolicy(p store.Policy) policyView {
	v := policyView{p.ID, p.Name, p.Global, p.Sections}
	if v.Sections == nil {
		v.Sections = map[string]json.RawMessage{}
	}
	return v
}

func viewPolicies(list []store.Policy) []policyView {
	views := make([]policyView, 0, len(list))
	for _, p := range list {
		views = append(views, viewPolicy(p))
	}
	return views
}

func (a *API) listPolicies(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var list []store.Policy
	var total int
	err = a.view(ctx, func(s store.Reader) (err error) {
		list, total, err = s.Policies(p)
		return err
	})
	return paged(p, viewPolicies(list), total), err
}

func (a *API) showPolicy(ctx context.Context, read func(store.Reader) (store.Policy, error)) (gate.Answer, error) {
	var p store.Policy
	err := a.view(ctx, func(s store.Reader) (err error) {
		p, err = read(s)
		return err
	})
	return gate.Answer{Response: viewPolicy(p)}, err
}

func (a *API) getPolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showPolicy(ctx, func(s store.Reader) (store.Policy, error) { return s.Policy(r.Path("policy_key")) })
}

func (a *API) globalPolicy(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	return a.showPolicy(ctx, store.Reader.GlobalPolicy)
}

// object reads a parameter that is a JSON object into its place; strict refuses
// members that the place does not have.
func object(p gate.Params, name string, place any) error {
	value, err := p.String(name, policy.MaxSections)
	if err != nil || value == "" {
		return err
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(place); err != nil || d.More() || !strings.HasPrefix(strings.TrimSpace(value), "{") {
		return gate.Invalid(name, "not a JSON object of the documented form")
	}
	return nil
}

type appPlaces struct {
	Apply   []string `json:"apply_list"`
	Unapply []string `json:"unapply_list"`
}

type groupPlace struct {
	App    string   `json:"app_integration_key"`
	Groups []string `json:"group_id_list"`
}

// groupPlaces takes both names that its lists go by.
type groupPlaces struct {
	Apply         []groupPlace `json:"apply_list"`
	ApplyGroups   []groupPlace `json:"apply_group_policies_list"`
	Unapply       []groupPlace `json:"unapply_list"`
	UnapplyGroups []groupPlace `json:"unapply_group_policies_list"`
}

func policyChange(p gate.Params) (c directory.PolicyChange, err error) {
	if c.Name, err = optional(p, "policy_name"); err != nil {
		return c, err
	}
	if err := object(p, "sections", &c.Sections); err != nil {
		return c, err
	}
	if c.Remove, err = p.List("sections_to_delete"); err != nil {
		return c, err
	}
	var apps appPlaces
	if err := object(p, "apply_to_apps", &apps); err != nil {
		return c, err
	}
	var groups groupPlaces
	if err := object(p, "apply_to_groups_in_apps", &groups); err != nil {
		return c, err
	}
	c.Put = append(places(apps.Apply), inGroups(append(groups.Apply, groups.ApplyGroups...))...)
	c.Take = append(places(apps.Unapply), inGroups(append(groups.Unapply, groups.UnapplyGroups...))...)
	if count(c.Put)+count(c.Take) > maxPlaces {
		return c, gate.Invalid("apply_to_apps", "more than 1000 applications and groups at once")
	}
	return c, nil
}

func places(apps []string) (out []directory.PolicyPlace) {
	for _, key := range apps {
		out = append(out, directory.PolicyPlace{IntegrationKey: key})
	}
	return out
}

func inGroups(list []groupPlace) (out []directory.PolicyPlace) {
	for _, g := range list {
		if g.Groups == nil {
			g.Groups = []string{}
		}
		out = append(out, directory.PolicyPlace{IntegrationKey: g.App, GroupIDs: g.Groups})
	}
	return out
}

func count(list []directory.PolicyPlace) (n int) {
	for _, p := range list {
		n += max(1, len(p.GroupIDs))
	}
	return n
}

func (a *API) createPolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if _, err := r.Params.Required("policy_name", maxText); err != nil {
		return gate.Answer{}, err
	}
	c, err := policyChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Directory.CreatePolicy(ctx, actor(r), c)
	return gate.Answer{Response: viewPolicy(p)}, err
}

func (a *API) updatePolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := policyChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Directory.UpdatePolicy(ctx, actor(r), r.Path("policy_key"), c)
	return gate.Answer{Response: viewPolicy(p)}, err
}

func (a *API) deletePolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeletePolicy(ctx, actor(r), r.Path("policy_key"))
}

func (a *API) copyPolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	key, err := r.Params.Required("policy_key", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := r.Params.Required("new_policy_names_list", policy.MaxSections); err != nil {
		return gate.Answer{}, err
	}
	names, err := r.Params.List("new_policy_names_list")
	if err != nil {
		return gate.Answer{}, err
	}
	made, err := a.Directory.CopyPolicy(ctx, actor(r), key, names)
	return gate.Answer{Response: map[string]any{"policies": viewPolicies(made)}}, err
}

// updatePolicies changes several policies alike.
func (a *API) updatePolicies(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	for _, name := range []string{"policies_to_update", "policy_changes"} {
		if _, err := r.Params.Required(name, policy.MaxSections); err != nil {
			return gate.Answer{}, err
		}
	}
	var which struct {
		All  bool     `json:"edit_all_policies"`
		List []string `json:"edit_list"`
	}
	if err := object(r.Params, "policies_to_update", &which); err != nil {
		return gate.Answer{}, err
	}
	var change struct {
		Sections map[string]json.RawMessage `json:"sections"`
		Remove   []string                   `json:"sections_to_delete"`
	}
	if err := object(r.Params, "policy_changes", &change); err != nil {
		return gate.Answer{}, err
	}
	switch {
	case which.All == (len(which.List) > 0):
		return gate.Answer{}, gate.Invalid("policies_to_update", "edit_all_policies or edit_list, one of them")
	case len(which.List) > maxPlaces:
		return gate.Answer{}, gate.Invalid("policies_to_update", "more than 1000 policies at once")
	case len(change.Sections)+len(change.Remove) == 0:
		return gate.Answer{}, gate.Invalid("policy_changes", "neither sections nor sections_to_delete")
	}
	ids := which.List
	if which.All {
		ids = nil
	}
	changed, err := a.Directory.UpdatePolicies(ctx, actor(r), ids, directory.PolicyChange{Sections: change.Sections, Remove: change.Remove})
	return gate.Answer{Response: map[string]any{"policies": viewPolicies(changed)}}, err
}

func (a *API) orderPolicies(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	key, err := r.Params.Required("integration_key", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := r.Params.Required("group_id_list", policy.MaxSections); err != nil {
		return gate.Answer{}, err
	}
	ids, err := r.Params.List("group_id_list")
	if err != nil {
		return gate.Answer{}, err
	}
	return done, a.Directory.OrderPolicies(ctx, actor(r), key, ids)
}

// maxSummary is how many policies a summary shows.
const maxSummary = 1000

type summaryView struct {
	Policies  []summaryPolicy `json:"policies"`
	Count     int             `json:"policy_count"`
	Truncated bool            `json:"response_is_truncated"`
}

type summaryPolicy struct {
	Key       string       `json:"policy_key"`
	Name      string       `json:"policy_name"`
	Global    bool         `json:"is_global_policy"`
	AppliesTo []summaryUse `json:"policy_applies_to"`
}

type summaryUse struct {
	App       string  `json:"app_integration_key"`
	AppName   string  `json:"app_name"`
	Type      string  `json:"apply_type"` // app or group_app
	GroupID   *string `json:"group_id"`
	GroupName *string `json:"group_name"`
	Position  *int    `json:"group_position"` // from 1
}

func (a *API) policySummary(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	var v summaryView
	err := a.view(ctx, func(s store.Reader) error {
		list, total, err := s.Policies(store.Page{Limit: maxSummary})
		if err != nil {
			return err
		}
		v = summaryView{Policies: []summaryPolicy{}, Count: total, Truncated: total > len(list)}
		where, err := usesByPolicy(s)
		if err != nil {
			return err
		}
		for _, p := range list {
			applies := where[p.ID]
			if applies == nil {
				applies = []summaryUse{}
			}
			v.Policies = append(v.Policies, summaryPolicy{p.ID, p.Name, p.Global, applies})
		}
		return nil
	})
	return gate.Answer{Response: v}, err
}

func usesByPolicy(s store.Reader) (map[string][]summaryUse, error) {
	all, err := s.PolicyUses("")
	if err != nil {
		return nil, err
	}
	out := map[string][]summaryUse{}
	position, app := 0, ""
	for _, u := range all { // by application, groups in their order
		if u.IntegrationKey != app {
			position, app = 0, u.IntegrationKey
		}
		i, err := s.Integration(u.IntegrationKey)
		if err != nil {
			return nil, err
		}
		use := summaryUse{App: i.Key, AppName: i.Name, Type: policy.LevelApplication}
		if u.GroupID != "" {
			g, err := s.Group(u.GroupID)
			if err != nil {
				return nil, err
			}
			position++
			here := position
			use.Type, use.GroupID, use.GroupName, use.Position = policy.LevelGroup, &g.ID, &g.Name, &here
		}
		out[u.PolicyID] = append(out[u.PolicyID], use)
	}
	return out, nil
}

// sectionView is a section in force and where it comes from.
type sectionView struct {
	PolicyKey  *string         `json:"policy_key"` // null: no policy, a default
	PolicyName *string         `json:"policy_name"`
	Type       string          `json:"apply_type"` // group_app, app, global or default
	GroupID    *string         `json:"group_id"`
	GroupName  *string         `json:"group_name"`
	Section    json.RawMessage `json:"section"`
}

func viewSections(in map[string]policy.Origin) map[string]sectionView {
	out := map[string]sectionView{}
	for key, o := range in {
		out[key] = sectionView{null(o.Policy.ID), null(o.Policy.Name), o.Level, null(o.Group.ID), null(o.Group.Name), o.Value}
	}
	return out
}

func (a *API) calculatePolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	key, err := r.Params.Required("integration_key", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	userID, err := r.Params.Required("user_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	var merged map[string]policy.Origin
	err = a.view(ctx, func(s store.Reader) error {
		if _, err := s.User(userID); err != nil {
			return err
		}
		if _, err := s.Integration(key); err != nil {
			return err
		}
		groups, err := s.UserGroups(userID)
		if err != nil {
			return err
		}
		applied, err := s.AppliedPolicies(key)
		merged = policy.Merge(applied, groups)
		return err
	})
	return gate.Answer{Response: map[string]any{"integration_key": key, "user_id": userID, "sections": viewSections(merged)}}, err
}

type explainView struct {
	User        explainUser            `json:"user"`
	Integration string                 `json:"integration_key"`
	AppName     string                 `json:"app_name"`
	IPAddr      string                 `json:"ipaddr"`
	Sections    map[string]sectionView `json:"sections"`
	Decision    explainDecision        `json:"decision"`
	Factors     *explainFactors        `json:"factors"` // null unless a factor is asked for
}

type explainUser struct {
	UserID   *string           `json:"user_id"` // null: nobody has that name
	Username *string           `json:"username"`
	Status   *store.UserStatus `json:"status"`
	Enrolled bool              `json:"is_enrolled"`
	Groups   []groupView       `json:"groups"`
}

type explainDecision struct {
	Result  policy.Effect `json:"result"`
	Reason  *string       `json:"reason"`
	Because *string       `json:"because"` // user, group, application, or the key of the section
	Message *string       `json:"status_msg"`
}

type explainFactors struct {
	Methods       []string `json:"methods"`
	RequireDigits bool     `json:"require_verified_push"`
	Digits        int      `json:"verified_push_digits"`
	Remember      bool     `json:"host_logins"`
}

func (a *API) explainPolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	key, err := r.Params.Required("integration_key", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	q := login.ExplainRequest{IntegrationKey: key}
	for name, place := range map[string]*string{"username": &q.Username, "user_id": &q.UserID, "ipaddr": &q.IPAddr} {
		if *place, err = r.Params.String(name, maxText); err != nil {
			return gate.Answer{}, err
		}
	}
	e, err := a.Login.Explain(ctx, q)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, set := e.Sections[policy.NewUser]; !set {
		value, err := json.Marshal(map[string]string{"new_user_behavior": e.NewUser})
		if err != nil {
			return gate.Answer{}, err
		}
		e.Sections[policy.NewUser] = policy.Origin{Level: policy.LevelDefault, Value: value}
	}
	return gate.Answer{Response: viewExplanation(e, q)}, nil
}

func viewExplanation(e login.Explanation, q login.ExplainRequest) explainView {
	v := explainView{
		User: explainUser{Enrolled: e.Enrolled, Groups: viewGroups(e.Groups)}, Integration: e.Integration.Key, AppName: e.Integration.Name,
		IPAddr: q.IPAddr, Sections: viewSections(e.Sections),
		Decision: explainDecision{e.Outcome.Effect, null(e.Outcome.Reason), null(e.Outcome.Because), null(e.Message)},
	}
	if e.User.ID != "" {
		v.User.UserID, v.User.Username, v.User.Status = &e.User.ID, &e.User.Username, &e.User.Status
	}
	if e.Outcome.Effect == policy.Ask {
		rules := e.Outcome.Rules
		v.Factors = &explainFactors{rules.Methods(), rules.RequireVerifiedPush, rules.PushDigits, rules.RememberHosts}
	}
	return v
}
