// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// movePolicies begins another version of the policies, and waits for decisions
// that hold the one before.
func (t *Tx) movePolicies() error {
	return t.set("version of the policies", `UPDATE policy_version SET n = n + 1 WHERE id = 1`)
}

func scanInt(s scanner) (int64, error) {
	var n int64
	err := s.Scan(&n)
	return n, err
}

// PolicyVersion implements store.Reader.
func (t *Tx) PolicyVersion() (int64, error) {
	return one(t, "version of the policies", scanInt, `SELECT n FROM policy_version WHERE id = 1`)
}

// HoldPolicies implements store.Writer.
func (t *Tx) HoldPolicies() (int64, error) {
	return one(t, "version of the policies", scanInt, `SELECT n FROM policy_version WHERE id = 1`+t.dialect.LockRow)
}

const policyColumns = `id, name, is_global, sections, created`

func scanPolicy(s scanner) (store.Policy, error) {
	var (
		p               store.Policy
		sections        string
		global, created int64
	)
	if err := s.Scan(&p.ID, &p.Name, &global, &sections, &created); err != nil {
		return p, err
	}
	p.Global, p.Created = global == 1, fromMicros(created)
	if err := json.Unmarshal([]byte(sections), &p.Sections); err != nil {
		return p, fmt.Errorf("decode sections of policy %s: %w", p.ID, err)
	}
	return p, nil
}

// Policy implements store.Reader.
func (t *Tx) Policy(id string) (store.Policy, error) {
	return one(t, "policy", scanPolicy, `SELECT `+policyColumns+` FROM policies WHERE id = $1`, id)
}

// GlobalPolicy implements store.Reader.
func (t *Tx) GlobalPolicy() (store.Policy, error) {
	return one(t, "global policy", scanPolicy, `SELECT `+policyColumns+` FROM policies WHERE is_global = 1`)
}

// Policies implements store.Reader.
func (t *Tx) Policies(p store.Page) ([]store.Policy, int, error) {
	return page(t, "policies", scanPolicy, policyColumns, "policies", "is_global DESC, name", where{}, p)
}

func scanUse(s scanner) (store.PolicyUse, error) {
	var u store.PolicyUse
	err := s.Scan(&u.PolicyID, &u.IntegrationKey, &u.GroupID, &u.Position)
	return u, err
}

// useOrder puts the groups at an application before the application itself.
const useOrder = ` ORDER BY integration_key, CASE WHEN group_id = '' THEN 1 ELSE 0 END, position, group_id`

// PolicyUses implements store.Reader.
func (t *Tx) PolicyUses(policyID string) ([]store.PolicyUse, error) {
	const query = `SELECT policy_id, integration_key, group_id, position FROM policy_uses`
	if policyID == "" {
		return list(t, "uses of policies", scanUse, query+useOrder)
	}
	return list(t, "uses of a policy", scanUse, query+` WHERE policy_id = $1`+useOrder, policyID)
}

// AppliedPolicies implements store.Reader.
func (t *Tx) AppliedPolicies(integrationKey string) (store.AppliedPolicies, error) {
	out := store.AppliedPolicies{Policies: map[string]store.Policy{}}
	var err error
	if out.Version, err = t.PolicyVersion(); err != nil {
		return out, err
	}
	if out.Global, err = t.GlobalPolicy(); err != nil {
		return out, err
	}
	out.Uses, err = t.usesAt(integrationKey)
	if err != nil || len(out.Uses) == 0 {
		return out, err
	}
	policies, err := list(t, "policies of an application", scanPolicy, `SELECT `+policyColumns+` FROM policies
		WHERE id IN (SELECT policy_id FROM policy_uses WHERE integration_key = $1)`, integrationKey)
	for _, p := range policies {
		out.Policies[p.ID] = p
	}
	return out, err
}

func (t *Tx) usesAt(integrationKey string) ([]store.PolicyUse, error) {
	return list(t, "policies of an application", scanUse, `SELECT policy_id, integration_key, group_id, position
		FROM policy_uses WHERE integration_key = $1`+useOrder, integrationKey)
}

// AddPolicy implements store.Writer.
func (t *Tx) AddPolicy(p store.Policy) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	sections, err := encodeSections(p)
	if err != nil {
		return err
	}
	return t.add("policy", `INSERT INTO policies (`+policyColumns+`) VALUES ($1, $2, 0, $3, $4) ON CONFLICT DO NOTHING`,
		p.ID, p.Name, sections, micros(p.Created))
}

func encodeSections(p store.Policy) (string, error) {
	if len(p.Sections) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(p.Sections)
	if err != nil {
		return "", fmt.Errorf("encode sections of policy %s: %w", p.ID, err)
	}
	return string(b), nil
}

// SetPolicy implements store.Writer.
func (t *Tx) SetPolicy(p store.Policy) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	if err := t.freeName("policy", "policies", p.Name, p.ID); err != nil {
		return err
	}
	sections, err := encodeSections(p)
	if err != nil {
		return err
	}
	return t.set("policy", `UPDATE policies SET name = $2, sections = $3 WHERE id = $1`, p.ID, p.Name, sections)
}

// DeletePolicy implements store.Writer.
func (t *Tx) DeletePolicy(id string) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	return t.set("policy", `DELETE FROM policies WHERE id = $1 AND is_global = 0`, id)
}

// PutPolicy implements store.Writer.
func (t *Tx) PutPolicy(u store.PolicyUse) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	if _, err := t.Policy(u.PolicyID); err != nil {
		return err
	}
	if _, err := t.Integration(u.IntegrationKey); err != nil {
		return err
	}
	if u.GroupID != "" {
		if _, err := t.Group(u.GroupID); err != nil {
			return err
		}
	}
	_, err := t.conn.Exec(`INSERT INTO policy_uses (integration_key, group_id, policy_id, position)
		SELECT $1, $2, $3, COALESCE(MAX(position) + 1, 0) FROM policy_uses WHERE integration_key = $1
		ON CONFLICT (integration_key, group_id) DO UPDATE SET policy_id = excluded.policy_id`,
		u.IntegrationKey, u.GroupID, u.PolicyID)
	if err != nil {
		return fmt.Errorf("put a policy: %w", err)
	}
	return nil
}

// TakePolicy implements store.Writer.
func (t *Tx) TakePolicy(u store.PolicyUse) (bool, error) {
	if err := t.movePolicies(); err != nil {
		return false, err
	}
	return t.won(`DELETE FROM policy_uses WHERE integration_key = $1 AND group_id = $2 AND policy_id = $3`,
		u.IntegrationKey, u.GroupID, u.PolicyID)
}

// OrderPolicies implements store.Writer.
func (t *Tx) OrderPolicies(integrationKey string, groupIDs []string) error {
	if err := t.movePolicies(); err != nil {
		return err
	}
	uses, err := t.usesAt(integrationKey)
	if err != nil {
		return err
	}
	for i, u := range uses {
		position := slices.Index(groupIDs, u.GroupID)
		if position < 0 {
			position = len(groupIDs) + i
		}
		if _, err := t.conn.Exec(`UPDATE policy_uses SET position = $3 WHERE integration_key = $1 AND group_id = $2`,
			integrationKey, u.GroupID, position); err != nil {
			return fmt.Errorf("order policies: %w", err)
		}
	}
	return nil
}

// NoteUnasked implements store.Writer.
func (t *Tx) NoteUnasked(userID string, now time.Time) (bool, error) {
	return t.won(`UPDATE users SET last_login = $2 WHERE id = $1 AND (status = 'active' OR status = 'bypass')`, userID, micros(now))
}
