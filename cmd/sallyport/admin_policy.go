// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	policiesPath      = "/admin/v2/policies"
	explainPolicyPath = "/sallyport/v1/admin/policy/explain"
	orderPolicyPath   = "/sallyport/v1/admin/policy/order"
	// globalPolicy stands for the global policy where a policy is named.
	globalPolicy = "global"
)

// policy is what the commands read of a policy of the Admin API.
type policy struct {
	Key      string                     `json:"policy_key"`
	Name     string                     `json:"policy_name"`
	Global   bool                       `json:"is_global_policy"`
	Sections map[string]json.RawMessage `json:"sections"`
}

func (p policy) sections() string { return strings.Join(slices.Sorted(maps.Keys(p.Sections)), ", ") }

func (s *admin) policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "policy", Short: "What the verifier permits",
		Long: `What the verifier permits. A policy is named by its name or its key; "global" is the
one that holds everywhere. Applications are named by their integration key.`,
	}
	c.AddCommand(
		s.policyList(), s.policyShow(), s.policyAdd(), s.policySet(), s.policyRemove(), s.policyCopy(), s.policyApply(true),
		s.policyApply(false), s.policyOrder(), s.policySummary(), s.policyCalculate(), s.policyExplain(), s.policyRememberedDevices(),
	)
	return c
}

// policyFlags make sections, without writing JSON, of what is wanted most.
type policyFlags struct {
	file                           string
	auth, newUser, trusted         string
	allow, block                   []string
	free, mfa, blocked             []string
	digits                         int
	verified, enrolled, denyOthers bool
	unset                          []string
}

func (f *policyFlags) define(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.file, "file", "", "JSON with sections, as the Admin API has them; - reads standard input")
	flags.StringVar(&f.auth, "auth", "", "authentication_policy: enforce, bypass or deny")
	flags.StringVar(&f.newUser, "new-user", "", "new_user: enroll, no-mfa or deny")
	flags.StringVar(&f.trusted, "trusted-endpoints", "", "trusted_endpoints: require-trusted, allow-all or not-configured")
	flags.StringSliceVar(&f.allow, "allow-method", nil, "authentication_methods: only this; may repeat")
	flags.StringSliceVar(&f.block, "block-method", nil, "authentication_methods: not this; may repeat")
	flags.BoolVar(&f.verified, "require-verified-push", false, "authentication_methods: no push without digits")
	flags.IntVar(&f.digits, "push-digits", 0, "authentication_methods: digits of a verified push, 3 to 6")
	flags.StringSliceVar(&f.free, "no-2fa-network", nil, "authorized_networks: no second factor from there; may repeat")
	flags.BoolVar(&f.enrolled, "require-enrollment", false, "authorized_networks: with --no-2fa-network, only for the enrolled")
	flags.StringSliceVar(&f.mfa, "mfa-network", nil, "authorized_networks: always a second factor from there; may repeat")
	flags.StringSliceVar(&f.blocked, "blocked-network", nil, "authorized_networks: nobody from there; may repeat")
	flags.BoolVar(&f.denyOthers, "deny-other-networks", false, "authorized_networks: nobody from networks that are not named")
	if err := c.MarkFlagFilename("file", "json"); err != nil {
		panic(err) // the flag is defined above
	}
	methods := []string{"duo-push", "phonecall", "sms", "hardware-token"}
	complete(c, "auth", "enforce", "bypass", "deny")
	complete(c, "new-user", "enroll", "no-mfa", "deny")
	complete(c, "trusted-endpoints", "require-trusted", "allow-all", "not-configured")
	complete(c, "allow-method", methods...)
	complete(c, "block-method", methods...)
}

// body is the JSON of a change: the file's, and the sections of the flags in it.
func (f *policyFlags) body(a *app, c *cobra.Command) (map[string]any, error) {
	body, err := f.read(a)
	if err != nil {
		return nil, err
	}
	sections, ok := body["sections"].(map[string]any)
	if body["sections"] != nil && !ok {
		return nil, fmt.Errorf("%s: sections is not a JSON object", f.file)
	}
	if sections == nil {
		sections = map[string]any{}
	}
	add := func(flag, section, key string, value any) {
		if !c.Flags().Changed(flag) {
			return
		}
		keys, _ := sections[section].(map[string]any)
		if keys == nil {
			keys = map[string]any{}
		}
		place := keys
		if outer, inner, nested := strings.Cut(key, "."); nested {
			deep, _ := keys[outer].(map[string]any)
			if deep == nil {
				deep = map[string]any{}
			}
			keys[outer], place, key = deep, deep, inner
		}
		place[key] = value
		sections[section] = keys
	}
	add("auth", "authentication_policy", "user_auth_behavior", f.auth)
	add("new-user", "new_user", "new_user_behavior", f.newUser)
	add("trusted-endpoints", "trusted_endpoints", "trusted_endpoint_checking", f.trusted)
	add("allow-method", "authentication_methods", "allowed_auth_list", f.allow)
	add("block-method", "authentication_methods", "blocked_auth_list", f.block)
	add("require-verified-push", "authentication_methods", "require_verified_push", f.verified)
	add("push-digits", "authentication_methods", "verified_push_digits", f.digits)
	add("no-2fa-network", "authorized_networks", "no_2fa_required.ip_list", f.free)
	add("require-enrollment", "authorized_networks", "no_2fa_required.require_enrollment", f.enrolled)
	add("mfa-network", "authorized_networks", "mfa_required.ip_list", f.mfa)
	add("blocked-network", "authorized_networks", "blocked.ip_list", f.blocked)
	add("deny-other-networks", "authorized_networks", "deny_other_access", f.denyOthers)
	if len(sections) > 0 {
		body["sections"] = sections
	}
	if len(f.unset) > 0 {
		body["sections_to_delete"] = f.unset
	}
	return body, nil
}

// read takes what can be changed from the file, which may be a policy as "show
// --json" prints it.
func (f *policyFlags) read(a *app) (map[string]any, error) {
	body := map[string]any{}
	if f.file == "" {
		return body, nil
	}
	text, err := func() ([]byte, error) {
		if f.file == "-" {
			return io.ReadAll(a.In)
		}
		return os.ReadFile(f.file)
	}()
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("read the policy %s: %w", f.file, err)
	}
	for key := range body {
		switch key {
		case "policy_key", "is_global_policy": // what a policy is, not what it says
			delete(body, key)
		case "policy_name", "sections", "sections_to_delete", "apply_to_apps", "apply_to_groups_in_apps":
		default:
			return nil, cli.WithHint(fmt.Errorf("%s: a policy has no %q", f.file, key), `sections stand under "sections"`)
		}
	}
	return body, nil
}

func (s *admin) callJSON(ctx context.Context, what, method, path string, body, out any) error {
	_, err := s.client.CallJSON(ctx, method, path, body, out)
	return s.explain(what, err)
}

func (s *admin) policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List policies", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := s.list(c.Context(), "list policies", policiesPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, list, []string{"NAME", "GLOBAL", "SECTIONS", "KEY"}, func(p policy) []string {
				return []string{p.Name, yesNo(p.Global), p.sections(), p.Key}
			})
		},
	}
}

func (s *admin) policyShow() *cobra.Command {
	return &cobra.Command{
		Use: "show POLICY", Short: "Show a policy with its sections", Args: args("POLICY"),
		RunE: func(c *cobra.Command, args []string) error {
			raw, _, err := s.findPolicy(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.showPolicy(raw)
		},
	}
}

func (s *admin) showPolicy(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var p policy
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{"POLICY", p.Name, "Key", p.Key, "Global", yesNo(p.Global)}
	for _, key := range slices.Sorted(maps.Keys(p.Sections)) {
		pairs = append(pairs, key, string(p.Sections[key]))
	}
	return s.fields(pairs...)
}

func (s *admin) policyAdd() *cobra.Command {
	var f policyFlags
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a policy; it holds nowhere until it is applied", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := f.body(s.app, c)
			if err != nil {
				return err
			}
			body["policy_name"] = args[0]
			var raw json.RawMessage
			if err := s.callJSON(c.Context(), fmt.Sprintf("add policy %q", args[0]), http.MethodPost, policiesPath, body, &raw); err != nil {
				return err
			}
			return s.showPolicy(raw)
		},
	}
	f.define(c)
	return c
}

func (s *admin) policySet() *cobra.Command {
	var f policyFlags
	var rename string
	c := &cobra.Command{
		Use: "set POLICY", Short: "Change sections of a policy; the others stay", Args: args("POLICY"),
		Long: `Change sections of a policy; the others stay. A section that is set is set as a
whole: keys of it that are not named get their defaults.`,
		RunE: func(c *cobra.Command, args []string) error {
			body, err := f.body(s.app, c)
			if err != nil {
				return err
			}
			if c.Flags().Changed("rename") {
				body["policy_name"] = rename
			}
			if len(body) == 0 {
				return cli.Usagef("nothing to change: give --file, --unset, --rename or a section")
			}
			_, p, err := s.findPolicy(c.Context(), args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := s.callJSON(c.Context(), fmt.Sprintf("change policy %q", p.Name), http.MethodPut, policiesPath+"/"+p.Key, body, &raw); err != nil {
				return err
			}
			return s.showPolicy(raw)
		},
	}
	f.define(c)
	c.Flags().StringSliceVar(&f.unset, "unset", nil, "delete this section; may repeat")
	c.Flags().StringVar(&rename, "rename", "", "new name of the policy")
	return c
}

func (s *admin) policyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm POLICY", Short: "Remove a policy from wherever it holds", Args: args("POLICY"),
		RunE: func(c *cobra.Command, args []string) error {
			_, p, err := s.findPolicy(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.remove(c.Context(), fmt.Sprintf("policy %q", p.Name), policiesPath+"/"+p.Key)
		},
	}
}

func (s *admin) policyCopy() *cobra.Command {
	return &cobra.Command{
		Use: "copy POLICY NAME...", Short: "Copy a policy under other names", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			_, p, err := s.findPolicy(c.Context(), args[0])
			if err != nil {
				return err
			}
			var made struct {
				Policies []json.RawMessage `json:"policies"`
			}
			body := map[string]any{"policy_key": p.Key, "new_policy_names_list": args[1:]}
			if err := s.callJSON(c.Context(), fmt.Sprintf("copy policy %q", p.Name), http.MethodPost, policiesPath+"/copy", body, &made); err != nil {
				return err
			}
			return present(s.app, made.Policies, []string{"NAME", "SECTIONS", "KEY"}, func(p policy) []string {
				return []string{p.Name, p.sections(), p.Key}
			})
		},
	}
}

// policyApply is apply, or unapply.
func (s *admin) policyApply(apply bool) *cobra.Command {
	var integrations, groups []string
	c := &cobra.Command{
		Use: "apply POLICY --integration KEY", Short: "Put a policy on an application, or on groups there", Args: args("POLICY"),
		Long: `Put a policy on an application, in place of the one that it had; with --group on
groups at that application, whose policies come before its own. "policy order" sets
their order.`,
	}
	if !apply {
		c.Use, c.Short, c.Long = "unapply POLICY --integration KEY", "Take a policy off an application, or off groups there", ""
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		_, p, err := s.findPolicy(c.Context(), args[0])
		if err != nil {
			return err
		}
		body, err := s.policyPlaces(c.Context(), apply, integrations, groups)
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := s.callJSON(c.Context(), fmt.Sprintf("%s policy %q", c.Name(), p.Name), http.MethodPut, policiesPath+"/"+p.Key, body, &raw); err != nil {
			return err
		}
		return s.showPolicy(raw)
	}
	c.Flags().StringSliceVar(&integrations, "integration", nil, "key of the application; may repeat")
	c.Flags().StringSliceVar(&groups, "group", nil, "name of a group at the application; may repeat")
	if err := c.MarkFlagRequired("integration"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

func (s *admin) policyPlaces(ctx context.Context, apply bool, integrations, groups []string) (map[string]any, error) {
	list, inGroups := "apply_list", "apply_group_policies_list"
	if !apply {
		list, inGroups = "unapply_list", "unapply_group_policies_list"
	}
	if len(groups) == 0 {
		return map[string]any{"apply_to_apps": map[string]any{list: integrations}}, nil
	}
	ids, err := s.groupIDs(ctx, groups)
	if err != nil {
		return nil, err
	}
	var places []map[string]any
	for _, key := range integrations {
		places = append(places, map[string]any{"app_integration_key": key, "group_id_list": ids})
	}
	return map[string]any{"apply_to_groups_in_apps": map[string]any{inGroups: places}}, nil
}

func (s *admin) groupIDs(ctx context.Context, names []string) ([]string, error) {
	var ids []string
	for _, name := range names {
		_, g, err := s.findGroup(ctx, name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, g.GroupID)
	}
	return ids, nil
}

func (s *admin) policyOrder() *cobra.Command {
	var integration string
	c := &cobra.Command{
		Use: "order --integration KEY GROUP...", Short: "Set the order of the policies on groups at an application", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ids, err := s.groupIDs(c.Context(), args)
			if err != nil {
				return err
			}
			list, err := json.Marshal(ids)
			if err != nil {
				return fmt.Errorf("order policies: %w", err)
			}
			return s.call(c.Context(), "order policies", http.MethodPost, orderPolicyPath,
				url.Values{"integration_key": {integration}, "group_id_list": {string(list)}}, nil)
		},
	}
	c.Flags().StringVar(&integration, "integration", "", "key of the application")
	if err := c.MarkFlagRequired("integration"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

func (s *admin) policySummary() *cobra.Command {
	return &cobra.Command{
		Use: "summary", Short: "Show where each policy holds", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if err := s.call(c.Context(), "read the summary of policies", http.MethodGet, policiesPath+"/summary", nil, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			return s.tableOfUses(raw)
		},
	}
}

func (s *admin) tableOfUses(raw json.RawMessage) error {
	var summary struct {
		Policies []struct {
			Name   string `json:"policy_name"`
			Global bool   `json:"is_global_policy"`
			Uses   []struct {
				App      string `json:"app_integration_key"`
				AppName  string `json:"app_name"`
				Group    string `json:"group_name"`
				Position int    `json:"group_position"`
			} `json:"policy_applies_to"`
		} `json:"policies"`
	}
	if err := json.Unmarshal(raw, &summary); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	var rows [][]string
	for _, p := range summary.Policies {
		switch {
		case p.Global:
			rows = append(rows, []string{p.Name, "everywhere", "", "", ""})
		case len(p.Uses) == 0:
			rows = append(rows, []string{p.Name, "nowhere", "", "", ""})
		}
		for _, u := range p.Uses {
			position := ""
			if u.Position > 0 {
				position = strconv.Itoa(u.Position)
			}
			rows = append(rows, []string{p.Name, u.AppName, u.Group, position, u.App})
		}
	}
	return s.Table([]string{"POLICY", "APPLICATION", "GROUP", "POSITION", "INTEGRATION"}, rows)
}

// mergedSection is a section in force, of calculate and explain.
type mergedSection struct {
	Policy  string          `json:"policy_name"`
	Type    string          `json:"apply_type"`
	Group   string          `json:"group_name"`
	Section json.RawMessage `json:"section"`
}

func (m mergedSection) origin() string {
	switch {
	case m.Type == "group_app":
		return fmt.Sprintf("%s (group %s)", m.Policy, m.Group)
	case m.Policy == "":
		return "default"
	}
	return m.Policy
}

func sectionRows(sections map[string]mergedSection) [][]string {
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(sections)) {
		rows = append(rows, []string{key, sections[key].origin(), string(sections[key].Section)})
	}
	return rows
}

var sectionHead = []string{"SECTION", "FROM", "VALUE"}

func (s *admin) policyCalculate() *cobra.Command {
	var name, integration string
	c := &cobra.Command{
		Use: "calculate --user NAME --integration KEY", Short: "Show the sections that hold for a person at an application", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			_, u, err := s.findUser(c.Context(), name)
			if err != nil {
				return err
			}
			var raw json.RawMessage
			params := url.Values{"integration_key": {integration}, "user_id": {u.UserID}}
			if err := s.call(c.Context(), "calculate the policy", http.MethodGet, policiesPath+"/calculate", params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			var out struct{ Sections map[string]mergedSection }
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the verifier's answer: %w", err)
			}
			return s.Table(sectionHead, sectionRows(out.Sections))
		},
	}
	whoAndWhere(c, &name, &integration)
	return c
}

func whoAndWhere(c *cobra.Command, name, integration *string) {
	c.Flags().StringVar(name, "user", "", "name or alias of the person")
	c.Flags().StringVar(integration, "integration", "", "key of the application")
	for _, flag := range []string{"user", "integration"} {
		if err := c.MarkFlagRequired(flag); err != nil {
			panic(err) // the flag is defined above
		}
	}
}

func (s *admin) policyExplain() *cobra.Command {
	var name, integration, ip string
	c := &cobra.Command{
		Use: "explain --user NAME --integration KEY [--ip ADDRESS]", Short: "Say what would be decided for a person at an application, and why", Args: args(),
		Long: `Say what would be decided for a person at an application, and why, by the code that
decides logins. Nobody is asked, and nothing is logged. The person may be one whom
the verifier does not know. Without --ip, the address is not known, which counts
against the person in every rule about networks.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var raw json.RawMessage
			params := url.Values{"integration_key": {integration}, "username": {name}}
			if ip != "" {
				params.Set("ipaddr", ip)
			}
			if err := s.call(c.Context(), "explain the policy", http.MethodGet, explainPolicyPath, params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			return s.showExplanation(raw)
		},
	}
	whoAndWhere(c, &name, &integration)
	c.Flags().StringVar(&ip, "ip", "", "address that the person comes from")
	return c
}

type policyExplanation struct {
	User struct {
		ID       string `json:"user_id"`
		Name     string `json:"username"`
		Status   string `json:"status"`
		Enrolled bool   `json:"is_enrolled"`
		Groups   []group
	}
	App      string `json:"app_name"`
	IPAddr   string `json:"ipaddr"`
	Sections map[string]mergedSection
	Decision struct {
		Result, Reason, Because string
		Message                 string `json:"status_msg"`
	}
	Factors *struct {
		Methods       []string
		RequireDigits bool `json:"require_verified_push"`
		Digits        int  `json:"verified_push_digits"`
	}
}

func (s *admin) showExplanation(raw json.RawMessage) error {
	var e policyExplanation
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	user, groups := "nobody has that name", []string{}
	if e.User.ID != "" {
		user = e.User.Name + ", " + e.User.Status
		if !e.User.Enrolled {
			user += ", not enrolled"
		}
	}
	for _, g := range e.User.Groups {
		groups = append(groups, g.Name+" ("+g.Status+")")
	}
	because := e.Decision.Because
	if m, is := e.Sections[because]; is {
		because += " of " + m.origin()
	}
	pairs := []string{
		"DECISION", e.Decision.Result, "Reason", e.Decision.Reason, "Because of", because, "The person reads", e.Decision.Message,
		"User", user, "Groups", strings.Join(groups, ", "), "Application", e.App, "Address", e.IPAddr,
	}
	if f := e.Factors; f != nil {
		push := fmt.Sprintf("%d digits", f.Digits)
		if f.RequireDigits {
			push += ", never without"
		}
		pairs = append(pairs, "Methods", strings.Join(f.Methods, ", "), "Push", push)
	}
	if err := s.fields(pairs...); err != nil {
		return err
	}
	s.Printf("\n")
	return s.Table(sectionHead, sectionRows(e.Sections))
}

// findPolicy reads the policy of that name or key.
func (s *admin) findPolicy(ctx context.Context, name string) (json.RawMessage, policy, error) {
	var p policy
	all, err := s.list(ctx, fmt.Sprintf("find policy %q", name), policiesPath, nil)
	if err != nil {
		return nil, p, err
	}
	for _, raw := range all {
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, p, errors.New("read the verifier's answer: it is no policy")
		}
		if p.Name == name || p.Key == name || p.Global && name == globalPolicy {
			return raw, p, nil
		}
		p = policy{}
	}
	return nil, p, cli.WithHint(fmt.Errorf("no policy is named %q", name), "sallyport admin policy list shows what there is")
}
