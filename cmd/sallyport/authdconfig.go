// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"

	"github.com/BurntSushi/toml"
)

// authdTOML is the least authd.toml that works.
type authdTOML struct {
	SocketDir string                  `toml:"socket_dir"`
	StateDir  string                  `toml:"state_dir"`
	Verifier  authdVerifier           `toml:"verifier"`
	Services  map[string]authdService `toml:"services"`
}

type authdVerifier struct {
	URLs           []string `toml:"urls"`
	IntegrationKey string   `toml:"integration_key"`
	SecretKeyFile  string   `toml:"secret_key_file"`
	CAFile         string   `toml:"ca_file,omitempty"`
	HostKeyFile    string   `toml:"host_key_file"`

	Proxy *authdProxy `toml:"proxy,omitempty"`
}

type authdService struct {
	FailMode string `toml:"fail_mode"`
}

const authdHead = `# Configuration of sallyport-authd; see docs/reference/authd.md.
# Check a change with: sallyport-authd check --config FILE

`

const authdTail = `
# Rules: the first that matches wins; no match: require. For example
#
# [[rules]]
# name = "nightly backup"
# reason = "cron on db1 pulls dumps, nobody at the terminal"
# action = "bypass"                # require | bypass | deny
# users = ["backup"]
# services = ["sshd"]
# keys = ["SHA256:..."]
# sources = ["10.0.4.0/24"]
`

func authdConfig(c authdTOML) ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteString(authdHead)
	enc := toml.NewEncoder(&buf)
	enc.Indent = ""
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("write authd.toml: %w", err)
	}
	buf.WriteString(authdTail)
	// The encoder opens a table that holds nothing but tables.
	return bytes.Replace(buf.Bytes(), []byte("[services]\n"), nil, 1), nil
}
