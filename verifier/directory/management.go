// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const managementPrefix = "DM"

const managementTaken = "another management system has this name"

// ManagementChange is what to set; nil leaves it as it is.
type ManagementChange struct {
	Name, OS *string // OS at creation only
	Status   *store.ManagementStatus
	GroupIDs *[]string
}

func (c ManagementChange) apply(m *store.ManagementSystem) error {
	if c.Name != nil {
		n, err := name("name", *c.Name)
		if err != nil {
			return err
		}
		m.Name = n
	}
	if c.Status != nil {
		if !slices.Contains([]store.ManagementStatus{store.ManagementDisabled, store.ManagementTestGroup, store.ManagementAll}, *c.Status) {
			return invalid("status", "not one of disabled, test-group, all")
		}
		m.Status = *c.Status
	}
	if c.GroupIDs != nil {
		groups, err := cleanGroupIDs("group_ids", *c.GroupIDs)
		if err != nil {
			return err
		}
		m.GroupIDs = groups
	}
	if m.Status == store.ManagementTestGroup && len(m.GroupIDs) == 0 {
		return invalid("group_ids", "with the status test-group at least one is needed")
	}
	return nil
}

// cleanGroupIDs checks ids of groups. That a group is gone is for the moment of a
// login: its members are none.
func cleanGroupIDs(param string, in []string) ([]string, error) {
	var out []string
	for _, id := range in {
		if err := text(param, id, maxName, false); err != nil {
			return nil, err
		}
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	if len(out) > maxTestGroups {
		return nil, invalid(param, fmt.Sprintf("more than %d", maxTestGroups))
	}
	return out, nil
}

const maxTestGroups = 100

func managementFields(m store.ManagementSystem) map[string]any {
	return map[string]any{"name": m.Name, "os": m.OS, "status": m.Status, "group_ids": m.GroupIDs}
}

// MadeManagementSystem is a management system with its integration, whose secret
// is shown this once.
type MadeManagementSystem struct {
	store.ManagementSystem
	Integration MadeIntegration
}

// CreateManagementSystem makes a management system, disabled unless c says else,
// and the Device API integration by which its caches are filled.
func (d *Directory) CreateManagementSystem(ctx context.Context, a Actor, c ManagementChange) (m MadeManagementSystem, err error) {
	switch {
	case c.Name == nil:
		return m, duoapi.NewError(duoapi.CodeMissingParameter, "name")
	case c.OS == nil:
		return m, duoapi.NewError(duoapi.CodeMissingParameter, "os")
	case !slices.Contains([]string{store.OSWindows, store.OSMac, store.OSLinux}, *c.OS):
		return m, invalid("os", "not one of windows, macos, linux")
	}
	m.ManagementSystem = store.ManagementSystem{OS: *c.OS, Status: store.ManagementDisabled, Created: d.Now()}
	if err := c.apply(&m.ManagementSystem); err != nil {
		return m, err
	}
	if m.Key, err = d.newID(managementPrefix); err != nil {
		return m, err
	}
	// Cut to what the name of an integration may be.
	label := "device caches of " + m.Key
	if m.Integration, err = d.newIntegration(Actor{}, store.DeviceAPI, IntegrationChange{Name: &label}); err != nil {
		return m, err
	}
	m.IntegrationKey = m.Integration.Key
	err = d.update(ctx, managementTaken, func(w store.Writer) error {
		if err := d.addIntegration(w, a, m.Integration.Integration); err != nil {
			return err
		}
		if err := w.AddManagementSystem(m.ManagementSystem); err != nil {
			return fmt.Errorf("add management system: %w", err)
		}
		entry := managementFields(m.ManagementSystem)
		entry["mkey"] = m.Key
		return d.audit(w, a, "management_system_create", m.Name, entry)
	})
	return m, err
}

// UpdateManagementSystem changes name, status and groups.
func (d *Directory) UpdateManagementSystem(ctx context.Context, a Actor, key string, c ManagementChange) (m store.ManagementSystem, err error) {
	err = d.update(ctx, managementTaken, func(w store.Writer) error {
		before, err := w.ManagementSystem(key)
		if err != nil {
			return err
		}
		m = before
		if c.OS != nil && *c.OS != m.OS {
			return invalid("os", "stays as it is: identifiers of another system need a management system of their own")
		}
		if err := c.apply(&m); err != nil {
			return err
		}
		if err := w.SetManagementSystem(m); err != nil {
			return fmt.Errorf("set management system: %w", err)
		}
		return d.audit(w, a, "management_system_update", m.Name, map[string]any{
			"mkey": key, "before": managementFields(before), "after": managementFields(m),
		})
	})
	return m, err
}

// DeleteManagementSystem removes it with its caches and its integration.
func (d *Directory) DeleteManagementSystem(ctx context.Context, a Actor, key string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		m, err := w.ManagementSystem(key)
		if err != nil {
			return err
		}
		if err := w.DeleteManagementSystem(key); err != nil {
			return fmt.Errorf("delete management system: %w", err)
		}
		if err := w.DeleteIntegration(m.IntegrationKey); err != nil {
			return fmt.Errorf("delete its integration: %w", err)
		}
		entry := managementFields(m)
		entry["mkey"], entry["deleted_integration_key"] = key, m.IntegrationKey
		return d.audit(w, a, "management_system_delete", m.Name, entry)
	})
}

// belongsToManagement refuses to take an integration from its management system.
func belongsToManagement(r store.Reader, integrationKey string) error {
	m, err := r.ManagementSystemOf(integrationKey)
	if err == nil {
		return invalid("integration_key", "it belongs to management system "+m.Key+": remove that")
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
