// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// TestAttackHeldRepliesAbandoned: with a stolen key somebody signs, lets the push go out,
// hangs up and comes again. Who does so fails, and waits like anybody who fails.
func TestAttackHeldRepliesAbandoned(t *testing.T) {
	for name, pushed := range map[string]bool{"a push is out": true, "nothing is out yet": false} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t)
			key := newSigner(t)
			g.authorize("alice", "", key.PublicKey())
			g.settings.Limits.Penalty, g.settings.Limits.PenaltyMax = time.Minute, 5*time.Minute
			g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
				return &config.Door{Name: "held", Action: config.DoorHold}
			}
			asked := make(chan struct{}, 10)
			g.asker.answer = func(ctx context.Context, _ secondfactor.Question, p conversation.Person) error {
				if pushed {
					_ = p.Show(frames.StyleInfo, "Type 123456 at your authenticator")
				}
				asked <- struct{}{}
				<-ctx.Done()
				return context.Cause(ctx)
			}
			g.start()
			w := dialRaw(t, g.address)
			w.publicKey("alice", key, key)
			<-asked
			_ = w.conn.Close()
			eventually(t, "the end is logged", func() bool { return strings.Contains(g.log.String(), "gw_login_refused") })
			if blamed := strings.Contains(g.log.String(), "nobody waited for its answer"); blamed != pushed {
				t.Errorf("blamed: %v\n%s", blamed, g.log)
			}
			if c, err := g.client("nobody", nil); err == nil {
				_ = c.Close()
			}
			if pushed {
				eventually(t, "the source waits", func() bool { return strings.Contains(g.log.String(), "limits.penalty") })
			} else if strings.Contains(g.log.String(), "limits.penalty") {
				t.Errorf("who had nothing sent must wait\n%s", g.log)
			}
		})
	}
}
