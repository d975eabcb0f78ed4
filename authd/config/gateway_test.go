// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
	"time"
)

const leastConfig = "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"x\"\n"

func TestGatewaySettings(t *testing.T) {
	c, err := Parse("authd.toml", leastConfig)
	if err != nil || c.Gateway != (Gateway{Accounts: AccountsNSS, KeysMaxAge: time.Hour}) {
		t.Errorf("by default %+v, %v", c.Gateway, err)
	}
	for text, want := range map[string]string{
		`grace = "24h"`: "", `step_up_grace = "0s"`: "", `keys_max_age = "168h"`: "", `accounts = "any"`: "",
		`grace = "-1s"`: "gateway.grace", `grace = "25h"`: "gateway.grace", `step_up_grace = "25h"`: "gateway.step_up_grace",
		`keys_max_age = "169h"`: "gateway.keys_max_age", `accounts = "all"`: "gateway.accounts", `accounts = ""`: "gateway.accounts", `graces = "1m"`: "graces",
	} {
		_, err := Parse("authd.toml", leastConfig+"[gateway]\n"+text+"\n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What the gateway knows, rules for it may name; what it does not, they may not.
func TestRulesForTheGateway(t *testing.T) {
	for text, want := range map[string]string{
		`targets = ["db*", "!db9"]`: "", `keys = ["SHA256:OcLVv1k6GIum2ikHPCk2aArKmww1FIzYD7yCwq8reVA"]`: "", `sources = ["192.0.2.0/24"]`: "",
		`commands = ["/bin/ls"]`: "commands",
	} {
		_, err := Parse("authd.toml", leastConfig+"[[rules]]\naction = \"require\"\nservices = [\"sshgw\"]\n"+text+"\n")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, rule := range []string{"action = \"require\"\nservices = [\"sshd\"]", "action = \"bypass\"\nname = \"b\"\nreason = \"r\"\nusers = [\"alice\"]\nservices = [\"sshgw\"]"} {
		if _, err := Parse("authd.toml", leastConfig+"[[rules]]\n"+rule+"\ntargets = [\"db1\"]\n"); err == nil || !strings.Contains(err.Error(), "targets") {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// The gateway's logins are sshd's: no general setting lets them in without a first factor.
func TestGatewayNeedsAFirstFactor(t *testing.T) {
	c, err := Parse("authd.toml", leastConfig+"[services.default]\nfirst_factor = \"stack\"\naccount_without_auth = \"allow\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Service("sshgw", true); s.FirstFactor != FirstFactorSSH || s.AccountWithoutAuth != GateDeny {
		t.Errorf("%+v", s)
	}
}
