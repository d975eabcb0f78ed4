// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"

	"golang.org/x/crypto/ssh"
)

// gatewaySession serves a session at the gateway itself: its commands, and the list of targets.
func (c *connection) gatewaySession(ctx context.Context, ch ssh.NewChannel) error {
	return c.serveSession(ctx, ch)
}

// gateway runs a command of the gateway's own, or lets the person choose a target.
func (s *sessionChannel) gateway(ctx context.Context, p program, reply func(bool)) (name, login string, ok bool) {
	reply(true)
	s.say("name the target: ssh USER%TARGET@GATEWAY, or ssh -J GATEWAY TARGET")
	s.exit(exitRefused)
	return "", "", false
}
