// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const policyPrefix = "PO"

const policyTaken = "policy_name: another policy has it"

// Limits of one call.
const (
	maxPolicyCopies = 100
)

// PolicyChange is what to set; nil leaves it as it is.
type PolicyChange struct {
	Name     *string
	Sections map[string]json.RawMessage // each replaces that section as a whole
	Remove   []string                   // sections to delete
	Put      []PolicyPlace
	Take     []PolicyPlace
}

// PolicyPlace is an application, or groups at one, in their order.
type PolicyPlace struct {
	IntegrationKey string
	GroupIDs       []string // nil: the application as a whole
}

func (c PolicyChange) apply(p *store.Policy) error {
	if c.Name != nil {
		n, err := name("policy_name", *c.Name)
		if err != nil {
			return err
		}
		p.Name = n
	}
	sections := maps.Clone(p.Sections)
	if sections == nil {
		sections = map[string]json.RawMessage{}
	}
	for _, key := range c.Remove {
		if _, known := policy.Sections()[key]; !known {
			return invalid("sections_to_delete", "there is no section "+strconv.Quote(key))
		}
		if _, both := c.Sections[key]; both {
			return invalid("sections_to_delete", key+" is in sections as well")
		}
		delete(sections, key)
	}
	for key, value := range c.Sections {
		var compact bytes.Buffer
		if err := json.Compact(&compact, value); err != nil {
			return invalid("sections", "not JSON")
		}
		sections[key] = compact.Bytes()
	}
	var wrong *policy.Error
	if err := policy.Check(sections); errors.As(err, &wrong) {
		return invalid("sections."+wrong.Key, wrong.Why)
	} else if err != nil {
		return err
	}
	p.Sections = sections
	return nil
}

// CreatePolicy makes a policy; Name must be set in c.
func (d *Directory) CreatePolicy(ctx context.Context, a Actor, c PolicyChange) (p store.Policy, err error) {
	if c.Name == nil {
		return p, duoapi.NewError(duoapi.CodeMissingParameter, "policy_name")
	}
	if p, err = d.newPolicy(); err != nil {
		return p, err
	}
	if err := c.apply(&p); err != nil {
		return p, err
	}
	err = d.update(ctx, policyTaken, func(w store.Writer) error {
		if err := d.addPolicy(w, a, p, ""); err != nil {
			return err
		}
		return d.place(w, a, p, c)
	})
	return p, err
}

func (d *Directory) newPolicy() (store.Policy, error) {
	id, err := d.newID(policyPrefix)
	return store.Policy{ID: id, Created: d.Now()}, err
}

func (d *Directory) addPolicy(w store.Writer, a Actor, p store.Policy, copyOf string) error {
	if err := w.AddPolicy(p); err != nil {
		return fmt.Errorf("add policy: %w", err)
	}
	description := map[string]any{"policy_key": p.ID, "sections": p.Sections}
	if copyOf != "" {
		description["copy_of"] = copyOf
	}
	return d.audit(w, a, "policy_create", p.Name, description)
}

// UpdatePolicy changes a policy and where it is put.
func (d *Directory) UpdatePolicy(ctx context.Context, a Actor, id string, c PolicyChange) (p store.Policy, err error) {
	err = d.update(ctx, policyTaken, func(w store.Writer) error {
		if p, err = w.Policy(id); err != nil {
			return err
		}
		return d.changePolicy(w, a, &p, c)
	})
	return p, err
}

func (d *Directory) changePolicy(w store.Writer, a Actor, p *store.Policy, c PolicyChange) error {
	before := *p
	if before.Global && len(c.Put)+len(c.Take) > 0 {
		return invalid("apply_to_apps", "the global policy holds everywhere")
	}
	if err := c.apply(p); err != nil {
		return err
	}
	if difference := policyDifference(before, *p); len(difference) > 0 {
		if err := w.SetPolicy(*p); err != nil {
			return fmt.Errorf("set policy: %w", err)
		}
		difference["policy_key"] = p.ID
		if err := d.audit(w, a, "policy_update", p.Name, difference); err != nil {
			return err
		}
	}
	return d.place(w, a, *p, c)
}

func policyDifference(before, after store.Policy) map[string]any {
	out := map[string]any{}
	if before.Name != after.Name {
		out["policy_name"] = map[string]string{"before": before.Name, "after": after.Name}
	}
	keys := slices.Sorted(maps.Keys(before.Sections))
	for key := range after.Sections {
		if _, had := before.Sections[key]; !had {
			keys = append(keys, key)
		}
	}
	changed := map[string]any{}
	for _, key := range keys {
		if !bytes.Equal(before.Sections[key], after.Sections[key]) {
			changed[key] = map[string]json.RawMessage{"before": before.Sections[key], "after": after.Sections[key]}
		}
	}
	if len(changed) > 0 {
		out["sections"] = changed
	}
	return out
}

// place puts a policy where c says, and takes it off.
func (d *Directory) place(w store.Writer, a Actor, p store.Policy, c PolicyChange) error {
	for _, place := range c.Take {
		for _, u := range uses(p, place) {
			if err := d.takePolicy(w, a, p, u); err != nil {
				return err
			}
		}
	}
	for _, place := range c.Put {
		for _, u := range uses(p, place) {
			if err := d.putPolicy(w, a, p, u); err != nil {
				return err
			}
		}
	}
	return nil
}

func uses(p store.Policy, place PolicyPlace) []store.PolicyUse {
	if place.GroupIDs == nil {
		return []store.PolicyUse{{PolicyID: p.ID, IntegrationKey: place.IntegrationKey}}
	}
	var out []store.PolicyUse
	for _, g := range place.GroupIDs {
		out = append(out, store.PolicyUse{PolicyID: p.ID, IntegrationKey: place.IntegrationKey, GroupID: g})
	}
	return out
}

// placeExists says which parameter names what is not there.
func placeExists(w store.Writer, u store.PolicyUse) error {
	i, err := w.Integration(u.IntegrationKey)
	if errors.Is(err, store.ErrNotFound) || err == nil && i.Type != store.AuthAPI && i.Type != store.WebSDK {
		return invalid("apply_to_apps", "no application that people log in to has the integration_key "+strconv.Quote(u.IntegrationKey))
	}
	if err != nil || u.GroupID == "" {
		return err
	}
	_, err = w.Group(u.GroupID)
	if errors.Is(err, store.ErrNotFound) {
		return invalid("apply_to_groups_in_apps", "no group has the group_id "+strconv.Quote(u.GroupID))
	}
	return err
}

func (d *Directory) putPolicy(w store.Writer, a Actor, p store.Policy, u store.PolicyUse) error {
	if err := placeExists(w, u); err != nil {
		return err
	}
	applied, err := w.AppliedPolicies(u.IntegrationKey)
	if err != nil {
		return err
	}
	before := ""
	for _, was := range applied.Uses {
		if was.GroupID == u.GroupID {
			before = was.PolicyID
		}
	}
	if before == p.ID {
		return nil
	}
	if err := w.PutPolicy(u); err != nil {
		return fmt.Errorf("put a policy: %w", err)
	}
	return d.audit(w, a, "policy_apply", p.Name, useDescription(u, map[string]any{"in_place_of": before}))
}

func useDescription(u store.PolicyUse, more map[string]any) map[string]any {
	out := map[string]any{"policy_key": u.PolicyID, "application": u.IntegrationKey}
	if u.GroupID != "" {
		out["group_id"] = u.GroupID
	}
	for k, v := range more {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

func (d *Directory) takePolicy(w store.Writer, a Actor, p store.Policy, u store.PolicyUse) error {
	taken, err := w.TakePolicy(u)
	if err != nil || !taken { // it was not there: that is what was asked for
		return err
	}
	return d.audit(w, a, "policy_unapply", p.Name, useDescription(u, nil))
}

// OrderPolicies sets the order in which the policies on groups at an application count.
func (d *Directory) OrderPolicies(ctx context.Context, a Actor, integrationKey string, groupIDs []string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		i, err := w.Integration(integrationKey)
		if err != nil {
			return err
		}
		before, err := groupOrder(w, integrationKey)
		if err != nil {
			return err
		}
		for n, id := range groupIDs {
			if !slices.Contains(before, id) || slices.Contains(groupIDs[:n], id) {
				return invalid("group_id_list", "no policy is on the group "+strconv.Quote(id)+" at this application, or it is named twice")
			}
		}
		if err := w.OrderPolicies(integrationKey, groupIDs); err != nil {
			return fmt.Errorf("order policies: %w", err)
		}
		after, err := groupOrder(w, integrationKey)
		if err != nil {
			return err
		}
		return d.audit(w, a, "policy_order", i.Name, map[string]any{"application": integrationKey, "before": before, "after": after})
	})
}

func groupOrder(r store.Reader, integrationKey string) ([]string, error) {
	applied, err := r.AppliedPolicies(integrationKey)
	var out []string
	for _, u := range applied.Uses {
		if u.GroupID != "" {
			out = append(out, u.GroupID)
		}
	}
	return out, err
}

// UpdatePolicies changes sections of several policies alike; ids nil: of all.
func (d *Directory) UpdatePolicies(ctx context.Context, a Actor, ids []string, c PolicyChange) (out []store.Policy, err error) {
	err = d.update(ctx, policyTaken, func(w store.Writer) error {
		out = nil
		if ids == nil {
			if out, err = allPolicies(w); err != nil {
				return err
			}
		}
		for _, id := range ids {
			p, err := w.Policy(id)
			if errors.Is(err, store.ErrNotFound) {
				return duoapi.NewError(duoapi.CodeNotFound, "policy "+strconv.Quote(id))
			}
			if err != nil {
				return err
			}
			out = append(out, p)
		}
		for i := range out {
			if err := d.changePolicy(w, a, &out[i], c); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func allPolicies(r store.Reader) ([]store.Policy, error) {
	var out []store.Policy
	for {
		page, total, err := r.Policies(store.Page{Limit: 500, Offset: len(out)})
		if err != nil {
			return nil, err
		}
		if out = append(out, page...); len(page) == 0 || len(out) >= total {
			return out, nil
		}
	}
}

// CopyPolicy makes policies with the sections of another, put nowhere.
func (d *Directory) CopyPolicy(ctx context.Context, a Actor, id string, names []string) (out []store.Policy, err error) {
	if len(names) == 0 || len(names) > maxPolicyCopies {
		return nil, invalid("new_policy_names_list", fmt.Sprintf("not 1 to %d names", maxPolicyCopies))
	}
	made := make([]store.Policy, len(names))
	for i := range names {
		if made[i], err = d.newPolicy(); err != nil {
			return nil, err
		}
		if made[i].Name, err = name("new_policy_names_list", names[i]); err != nil {
			return nil, err
		}
	}
	err = d.update(ctx, "new_policy_names_list: a policy has one of these names", func(w store.Writer) error {
		from, err := w.Policy(id)
		if err != nil {
			return err
		}
		out = slices.Clone(made)
		for i := range out {
			out[i].Sections = maps.Clone(from.Sections)
			if err := d.addPolicy(w, a, out[i], from.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// DeletePolicy removes a policy from wherever it is put. The global one stays.
func (d *Directory) DeletePolicy(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		p, err := w.Policy(id)
		if err != nil {
			return err
		}
		if p.Global {
			return invalid("policy_key", "the global policy cannot be deleted; delete its sections instead")
		}
		where, err := w.PolicyUses(id)
		if err != nil {
			return err
		}
		if err := w.DeletePolicy(id); err != nil {
			return fmt.Errorf("delete policy: %w", err)
		}
		return d.audit(w, a, "policy_delete", p.Name, map[string]any{"policy_key": id, "sections": p.Sections, "uses": len(where)})
	})
}
