// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	gatewayconfig "github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
)

const startGateway = "systemctl enable --now sallyport-sshgw, and see: journalctl -u sallyport-sshgw"

// examineGateway looks at the SSH gateway of this machine, where there is one.
func (h *Host) examineGateway(c *config.Config) []Finding {
	path := h.path(gatewayconfig.DefaultPath)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r := &report{area: "gateway"}
	g, err := gatewayconfig.LoadWithoutTrust(path)
	if err != nil {
		r.fail(gatewayconfig.DefaultPath, "it is not in order, so a gateway that starts now does not: "+err.Error(), "see: sallyport-sshgw check")
		return r.findings
	}
	r.ok(gatewayconfig.DefaultPath, "it is valid")
	if c != nil && c.Gateway.User == "" {
		r.fail("authd", "gateway.user is not set in authd.toml, so authd answers no gateway and nobody comes in", `[gateway] user = "sallyport-sshgw" in authd.toml, and restart authd`)
	}
	socket := g.SocketDir + "/sshgw.sock"
	if _, err := os.Lstat(h.path(socket)); err != nil {
		r.fail(socket, "authd cannot be asked, so nobody comes in through the gateway: "+err.Error(), "systemctl enable --now sallyport-authd-sshgw.socket")
	} else {
		r.ok(socket, "it is there")
	}
	// systemd makes this one, and it is there without a gateway as well: an answer is wanted.
	socket = g.SocketDir + "/" + control.SocketName
	if err := gatewayAnswers(h.path(socket)); err != nil {
		r.fail("sallyport-sshgw", "the gateway does not answer: "+err.Error(), startGateway)
	} else {
		r.ok("sallyport-sshgw", "it answers")
	}
	return r.findings
}

// gatewayTimeout bounds the wait for the gateway's answer.
const gatewayTimeout = 5 * time.Second

func gatewayAnswers(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), gatewayTimeout)
	defer cancel()
	_, err := (&control.Client{Path: path}).Status(ctx)
	return err
}
