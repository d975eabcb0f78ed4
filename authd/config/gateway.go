// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"time"
)

// Accounts says whom the gateway may let through.
type Accounts string

// The accounts.
const (
	AccountsNSS Accounts = "nss" // whom the name service of this host knows
	AccountsAny Accounts = "any" // and everybody else whose name has the form of one
)

// Gateway says whose calls sshgw.sock serves, and what is remembered of them.
// Without an account sshgw.sock serves nobody.
type Gateway struct {
	User        string        `toml:"user"`
	Accounts    Accounts      `toml:"accounts"`
	Grace       time.Duration `toml:"grace"`         // a factor at the door counts again; 0: never
	StepUpGrace time.Duration `toml:"step_up_grace"` // a factor for a target counts again; 0: never
	KeysMaxAge  time.Duration `toml:"keys_max_age"`  // SSH keys count while no verifier answers; 0: not at all
}

func defaultGateway() Gateway { return Gateway{Accounts: AccountsNSS, KeysMaxAge: time.Hour} }

func (g *Gateway) check() []error {
	var errs []error
	if err := oneOf("gateway.accounts", &g.Accounts, AccountsNSS, AccountsAny); err != nil {
		errs = append(errs, err)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		top   time.Duration
	}{
		{"grace", g.Grace, 24 * time.Hour},
		{"step_up_grace", g.StepUpGrace, 24 * time.Hour},
		{"keys_max_age", g.KeysMaxAge, 7 * 24 * time.Hour},
	} {
		if d.value < 0 || d.value > d.top {
			errs = append(errs, fmt.Errorf("gateway.%s is %s; it may be 0s to %s", d.name, d.value, d.top))
		}
	}
	return errs
}
