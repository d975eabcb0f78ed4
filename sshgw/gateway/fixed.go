// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"slices"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// fixed is what holds from the start of the gateway to its end: where it listens, and where
// its files and sockets are. systemd made the folders, and sockets there are open already.
type fixed struct {
	listen                                       []string
	metrics, stateDir, socketDir, record, keyDir string
}

func fixedBy(c *config.Config) *fixed {
	return &fixed{slices.Clone(c.Listen), c.Metrics, c.StateDir, c.SocketDir, c.Record.Dir, c.Keys.Dir}
}

// keep puts back into a configuration what was fixed, and names the settings whose change
// waits for a restart. A folder that only follows from state_dir is not named beside it.
func (f *fixed) keep(c *config.Config) (waiting []string) {
	moved := c.StateDir != f.stateDir
	note := func(name string, changed bool) {
		if changed {
			waiting = append(waiting, name)
		}
	}
	follows := func(dir, name string) bool { return moved && dir == c.StateDir+"/"+name }
	note("listen", !slices.Equal(c.Listen, f.listen))
	note("state_dir", moved)
	note("socket_dir", c.SocketDir != f.socketDir)
	note("metrics", c.Metrics != f.metrics)
	note("record.dir", c.Record.Dir != f.record && !follows(c.Record.Dir, "recordings"))
	note("keys.dir", c.Keys.Dir != f.keyDir && !follows(c.Keys.Dir, "keys"))
	c.Listen, c.Metrics, c.StateDir, c.SocketDir, c.Record.Dir, c.Keys.Dir = slices.Clone(f.listen), f.metrics, f.stateDir, f.socketDir, f.record, f.keyDir
	return waiting
}
