// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"io/fs"
	"os"

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
	for _, s := range []struct{ name, what, fix string }{
		{"sshgw.sock", "authd cannot be asked, so nobody comes in through the gateway", "systemctl enable --now sallyport-authd-sshgw.socket"},
		{control.SocketName, "the gateway does not run", startGateway},
	} {
		socket := g.SocketDir + "/" + s.name
		if _, err := os.Lstat(h.path(socket)); err != nil {
			r.fail(socket, s.what+": "+err.Error(), s.fix)
		} else {
			r.ok(socket, "it is there")
		}
	}
	return r.findings
}
