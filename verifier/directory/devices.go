// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func deviceFields(d store.RegisteredDevice) fields {
	return fields{"user_id": d.UserID, "name": d.Name, "os": d.OS, "blocked": d.Blocked}
}

// BlockDevice says whether a registered device may remember logins.
func (d *Directory) BlockDevice(ctx context.Context, a Actor, id string, blocked bool) (out store.RegisteredDevice, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		if out, err = w.RegisteredDevice(id); err != nil {
			return err
		}
		before := deviceFields(out)
		changed, err := w.BlockRegisteredDevice(id, blocked)
		if err != nil || !changed {
			return err
		}
		out.Blocked = blocked
		return d.audit(w, a, "registered_device_update", out.Name, difference("registered_device_id", id, before, deviceFields(out)))
	})
	return out, err
}

// DeleteDevice removes a registered device.
func (d *Directory) DeleteDevice(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		out, err := w.RegisteredDevice(id)
		if err != nil {
			return err
		}
		if err := w.DeleteRegisteredDevice(id); err != nil {
			return fmt.Errorf("delete registered device: %w", err)
		}
		return d.audit(w, a, "registered_device_delete", out.Name, whole("registered_device_id", id, deviceFields(out)))
	})
}

// The values of PassportConfig.EnabledStatus.
const (
	PassportDisabled   = "disabled"
	PassportEnabled    = "enabled"
	PassportGroups     = "enabled-for-groups"
	PassportExceptions = "enabled-with-exceptions"
)

// Passport is the Passport configuration. Whether it is on for everyone is a
// matter of the policy for remembered logins, the rest is kept here.
func (d *Directory) Passport(ctx context.Context) (c store.PassportConfig, err error) {
	err = d.view(ctx, func(r store.Reader) error {
		s, err := r.Settings()
		if err != nil {
			return err
		}
		p, err := r.RememberedDevices()
		c = passport(s, p)
		return err
	})
	return c, err
}

func passport(s store.Settings, p store.RememberedDevices) store.PassportConfig {
	c := s.Passport
	switch {
	case p.Enabled && c.EnabledStatus == PassportDisabled:
		c.EnabledStatus = PassportEnabled
	case !p.Enabled && c.EnabledStatus == PassportEnabled:
		c.EnabledStatus = PassportDisabled
	}
	return c
}

// SetPassport changes the configuration, and with disabled and enabled the policy
// for remembered logins; for groups that policy has no place, so it is off then.
func (d *Directory) SetPassport(ctx context.Context, a Actor, change func(*store.PassportConfig) error) (c store.PassportConfig, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		s, err := w.Settings()
		if err != nil {
			return err
		}
		p, err := w.RememberedDevices()
		if err != nil {
			return err
		}
		before := passport(s, p)
		c = before
		if err := change(&c); err != nil {
			return err
		}
		if err := checkPassport(w, c); err != nil {
			return err
		}
		s.Passport, p.Enabled = c, c.EnabledStatus == PassportEnabled
		if err := errors.Join(w.SetSettings(s), w.SetRememberedDevices(p, d.Now())); err != nil {
			return fmt.Errorf("set the Passport configuration: %w", err)
		}
		return d.audit(w, a, "passport_config_update", "", map[string]any{"before": before, "after": c})
	})
	return c, err
}

func checkPassport(r store.Reader, c store.PassportConfig) error {
	if !slices.Contains([]string{PassportDisabled, PassportEnabled, PassportGroups, PassportExceptions}, c.EnabledStatus) {
		return invalid("enabled_status", "not one of disabled, enabled, enabled-for-groups, enabled-with-exceptions")
	}
	for param, ids := range map[string][]string{"enabled_groups": c.EnabledGroups, "disabled_groups": c.DisabledGroups} {
		if err := groupsExist(r, param, ids); err != nil {
			return err
		}
	}
	for system, browsers := range c.Browsers {
		if len(browsers) > maxGroups {
			return invalid("custom_supported_browsers", fmt.Sprintf("more than %d browsers", maxGroups))
		}
		for _, b := range browsers {
			if err := errors.Join(text(system, b.TeamID, maxName, false), text(system, b.CommonName, maxName, false)); err != nil {
				return invalid("custom_supported_browsers", "a text is too long or holds control characters")
			}
		}
	}
	return nil
}

// groupsExist refuses ids that no group has.
func groupsExist(r store.Reader, param string, ids []string) error {
	if len(ids) > maxGroups {
		return invalid(param, fmt.Sprintf("more than %d groups", maxGroups))
	}
	for _, id := range ids {
		_, err := r.Group(id)
		if errors.Is(err, store.ErrNotFound) {
			return invalid(param, "there is no group of one of these ids")
		}
		if err != nil {
			return err
		}
	}
	return nil
}
