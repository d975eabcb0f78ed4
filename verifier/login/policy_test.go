// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// policies puts a policy on the application, and one on the group DG1 there.
func (w *world) policies() {
	w.Helper()
	w.update(func(x store.Writer) error {
		return errors.Join(
			x.AddGroup(store.Group{ID: "DG1", Name: "ops", Status: store.Active}),
			x.AddPolicy(store.Policy{ID: "POapp", Name: "app"}), x.AddPolicy(store.Policy{ID: "POgroup", Name: "group"}),
			x.PutPolicy(store.PolicyUse{PolicyID: "POapp", IntegrationKey: "DI1"}),
			x.PutPolicy(store.PolicyUse{PolicyID: "POgroup", IntegrationKey: "DI1", GroupID: "DG1"}))
	})
}

// sections sets the sections of a policy.
func (w *world) sections(id, text string) {
	w.Helper()
	var sections map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &sections); err != nil {
		w.Fatal(err)
	}
	w.update(func(x store.Writer) error {
		p, err := x.Policy(id)
		if err != nil {
			return err
		}
		p.Sections = sections
		return x.SetPolicy(p)
	})
}

// TestPolicyChangesWhilePushWaits: the policy of the approval counts, not that of the beginning.
func TestPolicyChangesWhilePushWaits(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		status string
		reason string // of a denial
	}{
		"nothing":         {func(*world) {}, "allow", ""},
		"policy bypasses": {func(w *world) { w.sections("POapp", `{"authentication_policy":{"user_auth_behavior":"bypass"}}`) }, "allow", ""},
		"policy denies":   {func(w *world) { w.sections("POapp", `{"authentication_policy":{"user_auth_behavior":"deny"}}`) }, "deny", audit.DeniedByPolicy},
		"push forbidden":  {func(w *world) { w.sections("POapp", `{"authentication_methods":{"blocked_auth_list":["duo-push"]}}`) }, "deny", audit.FactorRestricted},
		"network denied":  {func(w *world) { w.sections("POapp", `{"authorized_networks":{"blocked":{"ip_list":["192.0.2.7"]}}}`) }, "deny", audit.DeniedNetwork},
		"another network": {func(w *world) { w.sections("POapp", `{"authorized_networks":{"blocked":{"ip_list":["192.0.2.8"]}}}`) }, "allow", ""},
		"joins a bad group": {func(w *world) {
			w.update(func(x store.Writer) error {
				return errors.Join(x.SetGroup(store.Group{ID: "DG1", Name: "ops", Status: store.Disabled}), x.AddGroupUser("DG1", "DU1"))
			})
		}, "deny", audit.UserDisabled},
		"application gone": {func(w *world) { w.update(func(x store.Writer) error { return x.DeleteIntegration("DI1") }) }, "deny", audit.Error},
		"not for her any more": {func(w *world) {
			i := w.client.Integration
			i.UserAccess = store.AccessNone
			w.update(func(x store.Writer) error { return x.SetIntegration(i) })
		}, "deny", audit.NotInGroup},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policies()
			pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true, IPAddr: "192.0.2.7"})
			out := w.auth(AuthRequest{Factor: duoapi.FactorPush, Device: "auto", TxID: pre.TxID, Async: true, IPAddr: "192.0.2.7"})
			c.change(w)
			answer, err := w.answer(out.TxID, Approve, pre.VerificationCode, nil)
			if err != nil {
				t.Fatal(err)
			}
			if allowed := answer.State == store.TxApproved; allowed != (c.status == "allow") {
				t.Errorf("the authenticator hears %+v", answer)
			}
			if got := w.status(out.TxID); got.Result != c.status || got.StatusMsg == "" {
				t.Errorf("the client hears %+v", got)
			}
			result, reason := audit.Success, audit.UserApproved
			if c.reason != "" {
				result, reason = audit.Denied, c.reason
			}
			w.wantEvent(0, result, reason, "duo_push")
		})
	}
}

// TestPolicyChangesBeforeTheDecision: what was evaluated is not what is decided by,
// if it changed in between.
func TestPolicyChangesBeforeTheDecision(t *testing.T) {
	w := newWorld(t)
	w.policies()
	w.sections("POapp", `{"authentication_policy":{"user_auth_behavior":"bypass"}}`)
	var p person
	err := w.Store.View(context.Background(), func(r store.Reader) (err error) {
		p, err = w.lookUp(r, w.client, "alice", "", origin{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	v, decided := w.standing(p)
	if !decided || v.result != duoapi.ResultAllow {
		t.Fatalf("%+v", v)
	}
	w.sections("POapp", `{"authentication_policy":{"user_auth_behavior":"deny"}}`)
	if v, err = w.settle(context.Background(), p, event("T1", p, "", ""), v, false); err != nil || v.reason != audit.DeniedByPolicy {
		t.Errorf("%+v, %v", v, err)
	}
	// The same for a passcode: prepared while allowed, decided when not.
	w.sections("POapp", `{}`)
	a, err := w.prepare(context.Background(), w.client, AuthRequest{Username: "alice", Factor: duoapi.FactorPasscode, Passcode: w.code(0, 6)})
	if err != nil || len(a.matches) == 0 {
		t.Fatal(a.matches, err)
	}
	w.sections("POapp", `{"authentication_methods":{"blocked_auth_list":["hardware-token"]}}`)
	out, err := w.passcode(context.Background(), a)
	if err != nil || out.Result != duoapi.ResultDeny || !strings.Contains(out.StatusMsg, "kind of passcode") {
		t.Errorf("%+v, %v", out, err)
	}
	if u := w.user(); u.Failures != 1 {
		t.Errorf("failures %d: a code of a forbidden kind counts", u.Failures)
	}
}

// TestMethodsInMenu: what policy forbids is in no menu, and refused if asked for.
func TestMethodsInMenu(t *testing.T) {
	w := newWorld(t)
	w.policies()
	w.allowPlainPush()
	w.sections("POapp", `{"authentication_methods":{"allowed_auth_list":["duo-push","phonecall"],"require_verified_push":true,"verified_push_digits":4}}`)
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true, TextPrompt: true})
	if len(pre.Devices) != 1 || slices.Contains(pre.Devices[0].Capabilities, duoapi.CapabilitySMS) || len(pre.VerificationCode) != 4 {
		t.Errorf("%+v", pre)
	}
	if strings.Contains(pre.Prompt.Text, "SMS") {
		t.Errorf("menu %q", pre.Prompt.Text)
	}
	plain := w.preauth(PreauthRequest{Username: "alice"})
	if slices.Contains(plain.Devices[0].Capabilities, duoapi.CapabilityPush) {
		t.Errorf("push without digits: %+v", plain.Devices)
	}
	for _, r := range []AuthRequest{{Factor: duoapi.FactorSMS, Device: "phone1"}, {Factor: duoapi.FactorPush, Device: "phone1"}} {
		n := len(w.events())
		w.want(w.auth(r), duoapi.ResultDeny, "deny")
		if list := w.events(); len(list) != n+1 || list[n].Reason != audit.FactorRestricted {
			t.Errorf("%s: %+v", r.Factor, list[n:])
		}
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: "123456789"}), duoapi.ResultAllow, "allow") // a bypass code
}

// situation is a random set of policies, and who comes from where.
type situation struct {
	Group, App, Global map[string]any
	InGroup            bool
	Who                string
	IP                 string
}

var (
	someIPs      = []string{"", "gw.example", "192.0.2.1", "198.51.100.7", "2001:db8::1"}
	someNetworks = []string{"192.0.2.0/24", "198.51.100.1-198.51.100.9", "2001:db8::/32", "0.0.0.0/0", "192.0.2.1"}
)

// Generate implements quick.Generator.
func (situation) Generate(r *rand.Rand, _ int) reflect.Value {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	some := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(string) bool { return r.Intn(3) > 0 })
	}
	policy := func() map[string]any {
		out := map[string]any{}
		add := func(key string, value map[string]any) {
			if r.Intn(3) == 0 {
				out[key] = value
			}
		}
		add("authentication_policy", map[string]any{"user_auth_behavior": pick("enforce", "bypass", "bypass", "deny")})
		add("new_user", map[string]any{"new_user_behavior": pick("enroll", "no-mfa", "no-mfa", "deny")})
		add("trusted_endpoints", map[string]any{"trusted_endpoint_checking": pick("allow-all", "allow-all", "require-trusted")})
		add("authentication_methods", map[string]any{"blocked_auth_list": some([]string{"hardware-token", "duo-push"})})
		add("authorized_networks", map[string]any{
			"no_2fa_required": map[string]any{"ip_list": some(someNetworks), "require_enrollment": r.Intn(2) == 0},
			"mfa_required":    map[string]any{"ip_list": some(someNetworks)}, "blocked": map[string]any{"ip_list": some(someNetworks)},
			"deny_other_access": r.Intn(3) == 0,
		})
		return out
	}
	return reflect.ValueOf(situation{
		policy(), policy(), policy(), r.Intn(2) == 0, pick("alice", "carol", "nobody"), pick(someIPs...),
	})
}

// section is the most specific one, by a way of its own: not that of the code under test.
func (s situation) section(key string) map[string]any {
	levels := []map[string]any{s.App, s.Global}
	if s.InGroup && s.Who != "nobody" {
		levels = append([]map[string]any{s.Group}, levels...)
	}
	for _, level := range levels {
		if section, ok := level[key].(map[string]any); ok {
			return section
		}
	}
	return map[string]any{}
}

// denied says why a section denies, looking at each for itself; empty: none does.
func (s situation) denied() string {
	in := func(list string) bool {
		ips, _ := s.section("authorized_networks")[list].(map[string]any)
		networks, _ := ips["ip_list"].([]string)
		ip, err := netip.ParseAddr(s.IP)
		return slices.ContainsFunc(networks, func(n string) bool {
			if err != nil {
				return list == "blocked" // unknown: it may be blocked, and is not known to be named
			}
			switch n {
			case "192.0.2.1":
				return n == s.IP
			case "198.51.100.1-198.51.100.9":
				return s.IP == "198.51.100.7"
			}
			return netip.MustParsePrefix(n).Contains(ip)
		})
	}
	switch {
	case s.section("authentication_policy")["user_auth_behavior"] == "deny":
		return "authentication_policy"
	case s.Who != "alice" && s.section("new_user")["new_user_behavior"] == "deny":
		return "new_user"
	case s.section("trusted_endpoints")["trusted_endpoint_checking"] == "require-trusted":
		return "trusted_endpoints"
	case in("blocked"):
		return "authorized_networks"
	case s.section("authorized_networks")["deny_other_access"] == true && !in("no_2fa_required") && !in("mfa_required"):
		return "authorized_networks"
	}
	return ""
}

// TestNoCombinationLetsInWhomASectionDenies sends random people through the service
// under random policies, with a right passcode.
func TestNoCombinationLetsInWhomASectionDenies(t *testing.T) {
	w := newWorld(t)
	w.policies()
	var global string
	w.update(func(x store.Writer) error {
		g, err := x.GlobalPolicy()
		global = g.ID
		return errors.Join(err, x.AddUser(store.User{ID: "DU3", Username: "carol", Status: store.Active}))
	})
	step := w.clock.Now().Unix() / 30
	denied, allowed := 0, 0
	check := func(s situation) bool {
		w.clock.Add(time.Minute)
		step += 2
		for id, sections := range map[string]map[string]any{"POgroup": s.Group, "POapp": s.App, global: s.Global} {
			text, err := json.Marshal(sections)
			if err != nil {
				t.Fatal(err)
			}
			w.sections(id, string(text))
		}
		w.update(func(x store.Writer) error {
			for _, id := range []string{"DU1", "DU3"} {
				if err := x.AddGroupUser("DG1", id); err != nil {
					return err
				}
				if !s.InGroup {
					if err := x.RemoveGroupUser("DG1", id); err != nil {
						return err
					}
				}
			}
			// Failures of the rounds before do not count.
			return errors.Join(x.SetUserStatus("DU1", store.Disabled, "", w.clock.Now()), x.SetUserStatus("DU1", store.Active, "", w.clock.Now()))
		})
		pre := w.preauth(PreauthRequest{Username: s.Who, IPAddr: s.IP, VerifiedPush: true})
		auth := w.auth(AuthRequest{Username: s.Who, IPAddr: s.IP, Factor: duoapi.FactorPasscode, Passcode: w.code(step, 6)})
		in := pre.Result == duoapi.ResultAllow || auth.Result == duoapi.ResultAllow
		if why := s.denied(); why != "" {
			denied++
			if in || pre.Result != duoapi.ResultDeny {
				t.Errorf("%s denies, and preauth says %s, auth %s: %+v", why, pre.Result, auth.Result, s)
				return false
			}
			return true
		}
		if in {
			allowed++
		}
		return true
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 1000, Rand: rand.New(rand.NewSource(1))}); err != nil {
		t.Fatal(err)
	}
	if denied < 200 || allowed < 100 {
		t.Errorf("%d denied and %d let in: the situations are too much alike", denied, allowed)
	}
}
