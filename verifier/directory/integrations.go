// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// secretLen is the length of an integration's secret in characters (238 bits).
const secretLen = 40

// Grants are all grants of an Admin API integration.
func Grants() []string {
	return []string{
		store.GrantAdmins, store.GrantInfo, store.GrantIntegrations, store.GrantReadLog,
		store.GrantReadResource, store.GrantSettings, store.GrantWriteResource,
	}
}

// IntegrationChange is what to set; nil leaves it as it is.
type IntegrationChange struct {
	Name, Notes, Greeting, EnrollPolicy, EnrollURL *string

	NamePolicy                         *store.NamePolicy
	AllowSHA1, AllowV1, AllowPlainPush *bool

	UserAccess              *store.UserAccess
	GroupsAllowed           *[]string
	SelfServiceAllowed      *bool
	VisualStyle             *string
	TrustedDeviceDays       *int
	IPWhitelist             *[]string
	IPWhitelistEnrollPolicy *string

	Networks *[]string
	Grants   map[string]bool // by name; those not named stay
	// NewSecret makes another secret; the one before stays good for Overlap, so
	// that clients can be changed one by one. At creation there always is one.
	NewSecret bool
	Overlap   time.Duration
}

// Overlap of secrets after a rotation.
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 30 * 24 * time.Hour
)

func (c IntegrationChange) apply(i *store.Integration) error {
	if c.Name != nil {
		n, err := name("name", *c.Name)
		if err != nil {
			return err
		}
		i.Name = n
	}
	for _, f := range []struct {
		param        string
		value, place *string
	}{{"notes", c.Notes, &i.Notes}, {"greeting", c.Greeting, &i.Greeting}} {
		if f.value == nil {
			continue
		}
		if err := text(f.param, *f.value, maxText, true); err != nil {
			return err
		}
		*f.place = *f.value
	}
	if err := c.applyEnroll(i); err != nil {
		return err
	}
	if err := c.applyFlags(i); err != nil {
		return err
	}
	if c.Networks != nil {
		networks, err := cleanNetworks("networks_for_api_access", *c.Networks)
		if err != nil {
			return err
		}
		i.Networks = networks
	}
	if err := c.applyMore(&i.IntegrationMore); err != nil {
		return err
	}
	return c.applyGrants(i)
}

func (c IntegrationChange) applyMore(m *store.IntegrationMore) error {
	if err := c.applyAccess(m); err != nil {
		return err
	}
	if c.SelfServiceAllowed != nil {
		m.SelfServiceAllowed = *c.SelfServiceAllowed
	}
	if c.TrustedDeviceDays != nil {
		m.TrustedDeviceDays = *c.TrustedDeviceDays
	}
	if c.VisualStyle != nil {
		if err := text("visual_style", *c.VisualStyle, maxName, false); err != nil {
			return err
		}
		m.VisualStyle = *c.VisualStyle
	}
	if c.IPWhitelist != nil {
		networks, err := cleanNetworks("ip_whitelist", *c.IPWhitelist)
		if err != nil {
			return err
		}
		m.IPWhitelist = networks
	}
	if c.IPWhitelistEnrollPolicy != nil {
		if !slices.Contains([]string{"", "allow", "enforce"}, *c.IPWhitelistEnrollPolicy) {
			return invalid("ip_whitelist_enroll_policy", "not one of allow, enforce")
		}
		m.IPWhitelistEnrollPolicy = *c.IPWhitelistEnrollPolicy
	}
	return nil
}

// maxGroups is how many groups an integration can be for.
const maxGroups = 100

// applyAccess sets who may log in. Groups that come alone say it by themselves:
// some, those; none, everyone.
func (c IntegrationChange) applyAccess(m *store.IntegrationMore) error {
	if c.GroupsAllowed != nil {
		groups, err := cleanGroups(*c.GroupsAllowed)
		if err != nil {
			return err
		}
		// Who sees no user_access, as in versions 1 and 2, opens nothing with a blank
		// list that was closed for all.
		closed := m.UserAccess == store.AccessNone && len(groups) == 0
		m.GroupsAllowed, m.UserAccess = groups, store.AccessGroups
		switch {
		case closed:
			m.UserAccess = store.AccessNone
		case len(groups) == 0:
			m.UserAccess = store.AccessAll
		}
	}
	if c.UserAccess == nil {
		return nil
	}
	if !slices.Contains([]store.UserAccess{store.AccessAll, store.AccessNone, store.AccessGroups}, *c.UserAccess) {
		return invalid("user_access", "not one of ALL_USERS, NO_USERS, PERMITTED_GROUPS")
	}
	m.UserAccess = *c.UserAccess
	return nil
}

func cleanGroups(in []string) ([]string, error) {
	var out []string
	for _, id := range in {
		if id == "" || slices.Contains(out, id) {
			continue
		}
		if !strings.HasPrefix(id, "DG") || len(id) != len("DG")+idLen || text("groups_allowed", id, maxName, false) != nil {
			return nil, invalid("groups_allowed", strconv.Quote(id)+" is not the id of a group")
		}
		out = append(out, id)
	}
	if len(out) > maxGroups {
		return nil, invalid("groups_allowed", fmt.Sprintf("more than %d groups", maxGroups))
	}
	return out, nil
}

func (c IntegrationChange) applyEnroll(i *store.Integration) error {
	if c.EnrollPolicy != nil {
		if !slices.Contains([]string{store.EnrollAllow, store.EnrollDeny, store.EnrollOffer}, *c.EnrollPolicy) {
			return invalid("enroll_policy", "not one of enroll, allow, deny")
		}
		i.EnrollPolicy = *c.EnrollPolicy
	}
	if c.EnrollURL != nil {
		u, err := url.Parse(*c.EnrollURL)
		if *c.EnrollURL != "" && (err != nil || u.Scheme != "https" || u.Host == "" || text("", *c.EnrollURL, maxText, false) != nil) {
			return invalid("enroll_url", "not an https URL")
		}
		i.EnrollURL = *c.EnrollURL
	}
	if c.NamePolicy != nil {
		switch p := *c.NamePolicy; {
		case strings.EqualFold(string(p), string(store.NameNone)):
			i.NamePolicy = store.NameNone
		case strings.EqualFold(string(p), string(store.NameSimple)):
			i.NamePolicy = store.NameSimple
		default:
			return invalid("username_normalization_policy", "not one of None, Simple")
		}
	}
	return nil
}

func (c IntegrationChange) applyFlags(i *store.Integration) error {
	for _, f := range []struct {
		param   string
		value   *bool
		place   *bool
		allowed bool
	}{
		// Without a date a signature can be replayed, so never where objects are changed.
		{"allow_v1", c.AllowV1, &i.AllowV1, i.Type == store.AuthAPI},
		{"allow_sha1", c.AllowSHA1, &i.AllowSHA1, true},
		{"allow_plain_push", c.AllowPlainPush, &i.AllowPlainPush, i.Type == store.AuthAPI || i.Type == store.WebSDK},
	} {
		if f.value == nil {
			continue
		}
		if *f.value && !f.allowed {
			return invalid(f.param, "not for integrations of type "+string(i.Type))
		}
		*f.place = *f.value
	}
	return nil
}

func (c IntegrationChange) applyGrants(i *store.Integration) error {
	for _, grant := range Grants() {
		on, named := c.Grants[grant]
		if !named {
			continue
		}
		if on && i.Type != store.AdminAPI {
			return invalid(grant, "only for integrations of type adminapi")
		}
		i.Grants = slices.DeleteFunc(slices.Clone(i.Grants), func(g string) bool { return g == grant })
		if on {
			i.Grants = append(i.Grants, grant)
		}
	}
	return nil
}

// maxNetworks is how many networks an integration can be limited to.
const maxNetworks = 256

// cleanNetworks reads addresses, ranges FIRST-LAST and CIDR prefixes.
func cleanNetworks(param string, in []string) ([]string, error) {
	var out []string
	for _, s := range in {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		prefixes, ok := network(s)
		if !ok {
			return nil, invalid(param, strconv.Quote(s)+" is not an address, a range or a network such as 192.0.2.0/24")
		}
		for _, p := range prefixes {
			out = append(out, p.String())
		}
		if len(out) > maxNetworks {
			return nil, invalid(param, fmt.Sprintf("more than %d networks", maxNetworks))
		}
	}
	return out, nil
}

func network(s string) ([]netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return []netip.Prefix{netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())}, a.Zone() == ""
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return []netip.Prefix{p.Masked()}, !p.Addr().Is4In6()
	}
	r, err := netipx.ParseIPRange(strings.ReplaceAll(s, " ", ""))
	if err != nil || r.From().Zone() != "" || r.From().Is4In6() {
		return nil, false
	}
	return r.Prefixes(), true
}

// MadeIntegration is an integration with its secret, which is shown this once;
// Secret is empty where none was made.
type MadeIntegration struct {
	store.Integration
	Secret string
}

// CreateIntegration makes an integration. Nobody can give grants that they lack.
func (d *Directory) CreateIntegration(ctx context.Context, a Actor, kind store.IntegrationType, c IntegrationChange) (m MadeIntegration, err error) {
	if c.Name == nil {
		return m, duoapi.NewError(duoapi.CodeMissingParameter, "name")
	}
	m, err = d.newIntegration(a, kind, c)
	if err != nil {
		return m, err
	}
	if err := mayGovern(a, m.Integration); err != nil {
		return m, err
	}
	err = d.update(ctx, "", func(w store.Writer) error { return d.addIntegration(w, a, m.Integration) })
	return m, err
}

func (d *Directory) newIntegration(a Actor, kind store.IntegrationType, c IntegrationChange) (m MadeIntegration, err error) {
	if !slices.Contains([]store.IntegrationType{store.AuthAPI, store.AdminAPI, store.DeviceAPI, store.WebSDK}, kind) {
		return m, invalid("type", "not one of authapi, adminapi, deviceapi, websdk")
	}
	key, err := d.newID(integrationPrefix)
	if err != nil {
		return m, err
	}
	m.Integration = store.Integration{
		Key: key, Type: kind, NamePolicy: store.NameSimple, EnrollPolicy: store.EnrollOffer, Created: d.Now(),
	}
	if !mayMakePeople(a) {
		m.EnrollPolicy = store.EnrollDeny
	}
	if err := c.apply(&m.Integration); err != nil {
		return m, err
	}
	return m, d.newSecret(&m)
}

func (d *Directory) newSecret(m *MadeIntegration) error {
	secret, err := d.random(secretLen, alphanumeric)
	if err != nil {
		return err
	}
	m.Secret = secret
	m.SecretSealed = d.Keys.Seal([]byte(secret), "integration", m.Key)
	return nil
}

// rotate makes another secret and keeps the one before for overlap.
func (d *Directory) rotate(m *MadeIntegration, overlap time.Duration) error {
	m.OldSecret = store.OldSecret{}
	if overlap > 0 {
		m.OldSecret = store.OldSecret{Sealed: m.SecretSealed, Until: d.Now().Add(overlap)}
	}
	return d.newSecret(m)
}

func (d *Directory) addIntegration(w store.Writer, a Actor, i store.Integration) error {
	if err := groupsExist(w, "groups_allowed", i.GroupsAllowed); err != nil {
		return err
	}
	if err := w.AddIntegration(i); err != nil {
		return fmt.Errorf("add integration: %w", err)
	}
	return d.audit(w, a, "integration_create", i.Name, integrationDescription(i))
}

// integrationDescription is what the administrator log tells of an integration:
// all but its secrets.
func integrationDescription(i store.Integration) map[string]any {
	out := map[string]any{
		"key": i.Key, "name": i.Name, "type": i.Type, "allow_sha1": i.AllowSHA1, "allow_v1": i.AllowV1,
		"allow_plain_push": i.AllowPlainPush, "networks_for_api_access": i.Networks, "grants": i.Grants, "enroll_policy": i.EnrollPolicy,
		"enroll_url": i.EnrollURL, "username_normalization_policy": i.NamePolicy, "greeting": i.Greeting, "notes": i.Notes,
		"user_access": i.Access(), "groups_allowed": i.GroupsAllowed, "self_service_allowed": i.SelfServiceAllowed,
		"visual_style": i.VisualStyle, "trusted_device_days": i.TrustedDeviceDays,
		"ip_whitelist": i.IPWhitelist, "ip_whitelist_enroll_policy": i.IPWhitelistEnrollPolicy,
	}
	if !i.OldSecret.Until.IsZero() {
		out["old_secret_expires"] = i.OldSecret.Until.Unix()
	}
	return out
}

// mayGovern refuses a caller that would gain grants by another integration.
func mayGovern(a Actor, i store.Integration) error {
	if a.Integration == "" {
		return nil
	}
	for _, grant := range i.Grants {
		if !slices.Contains(a.Grants, grant) {
			return duoapi.NewError(duoapi.CodeGrant, "this integration lacks "+grant+" and so cannot manage one that has it")
		}
	}
	if i.Type == store.AuthAPI && i.EnrollPolicy == store.EnrollOffer && !mayMakePeople(a) {
		return duoapi.NewError(duoapi.CodeGrant, "this integration lacks "+store.GrantWriteResource+" and so cannot manage one whose enroll_policy is enroll")
	}
	return nil
}

// mayMakePeople says whether the caller may make users, by itself or through an
// application that enrols them.
func mayMakePeople(a Actor) bool {
	return a.Integration == "" || slices.Contains(a.Grants, store.GrantWriteResource)
}

// UpdateIntegration changes an integration and, if asked, its secret.
func (d *Directory) UpdateIntegration(ctx context.Context, a Actor, key string, c IntegrationChange) (m MadeIntegration, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		m = MadeIntegration{}
		if m.Integration, err = w.Integration(key); err != nil {
			return err
		}
		if err := mayGovern(a, m.Integration); err != nil {
			return err
		}
		before := integrationDescription(m.Integration)
		if err := c.apply(&m.Integration); err != nil {
			return err
		}
		if err := mayGovern(a, m.Integration); err != nil {
			return err
		}
		if c.NewSecret {
			if err := d.rotate(&m, c.Overlap); err != nil {
				return err
			}
		}
		if c.GroupsAllowed != nil {
			if err := groupsExist(w, "groups_allowed", m.GroupsAllowed); err != nil {
				return err
			}
		}
		if err := w.SetIntegration(m.Integration); err != nil {
			return fmt.Errorf("set integration: %w", err)
		}
		return d.audit(w, a, "integration_update", m.Name, map[string]any{
			"key": key, "reset_secret_key": c.NewSecret, "before": before, "after": integrationDescription(m.Integration),
		})
	})
	return m, err
}

// DeleteIntegration removes an integration: its next request is refused.
func (d *Directory) DeleteIntegration(ctx context.Context, a Actor, key string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		i, err := w.Integration(key)
		if err != nil {
			return err
		}
		if err := mayGovern(a, i); err != nil {
			return err
		}
		if i.HostID != "" {
			return invalid("integration_key", "it belongs to host "+i.HostID+": revoke the host")
		}
		if err := belongsToManagement(w, key); err != nil {
			return err
		}
		if err := w.DeleteIntegration(key); err != nil {
			return fmt.Errorf("delete integration: %w", err)
		}
		return d.audit(w, a, "integration_delete", i.Name, map[string]any{"key": key, "type": i.Type})
	})
}

// NewAdmin makes an Admin API integration with every grant. With replace, the
// integration of that key is deleted in the same step; it need not be there.
func (d *Directory) NewAdmin(ctx context.Context, a Actor, replace string) (m MadeIntegration, err error) {
	label := "Administrator"
	grants := map[string]bool{}
	for _, g := range Grants() {
		grants[g] = true
	}
	m, err = d.newIntegration(Actor{}, store.AdminAPI, IntegrationChange{Name: &label, Grants: grants})
	if err != nil {
		return m, err
	}
	err = d.update(ctx, "", func(w store.Writer) error {
		if replace != "" {
			if err := d.dropAdmin(w, a, replace); err != nil {
				return err
			}
		}
		return d.addIntegration(w, a, m.Integration)
	})
	return m, err
}

func (d *Directory) dropAdmin(w store.Writer, a Actor, key string) error {
	old, err := w.Integration(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil // nothing to revoke
	}
	if err != nil {
		return fmt.Errorf("find the integration to replace: %w", err)
	}
	if old.Type != store.AdminAPI {
		return invalid("integration_key", key+" is not an Admin API integration")
	}
	if err := w.DeleteIntegration(key); err != nil {
		return fmt.Errorf("delete integration: %w", err)
	}
	return d.audit(w, a, "admin_recover", old.Name, map[string]any{"revoked": key})
}
