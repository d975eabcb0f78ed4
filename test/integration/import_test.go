// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// What `sallyport import duo-conf` writes is what authd takes.
func TestImportedDuoConf(t *testing.T) {
	t.Parallel()
	const conf = `[duo]
ikey = DIXXXXXXXXXXXXXXXXXX
skey = secretsecretsecretsecretsecretsecretsecr
host = verifier:8443
cafile = /etc/sallyport/ca.pem
http_proxy = http://user:password@proxy:3128
groups = people,!wheel
pushinfo = yes
https_timeout = 20
send_gecos = yes
gecos_username_pos = 5
`
	must(t, town.host.Put(t.Context(), harness.File{Path: "/etc/security/pam_duo.conf", Mode: 0o600, Data: []byte(conf)}))
	out, err := town.host.Run(t.Context(), harness.Command{Args: []string{"sallyport", "import", "duo-conf", "/etc/security/pam_duo.conf", "--output", "/etc/imported"}})
	must(t, err)
	if out.Code != 0 || strings.Contains(out.Output(), "secretsecret") {
		t.Fatalf("exit status %d: %s", out.Code, out.Output())
	}
	checked, err := town.host.Must(t.Context(), "sallyport-authd", "check", "--config", "/etc/imported/authd.toml")
	must(t, err)
	t.Log(checked)
	modes, err := town.host.Shell(t.Context(), "stat -c '%a %U' /etc/imported/secret_key /etc/imported/proxy_password /etc/imported/authd.toml")
	must(t, err)
	if modes != strings.Repeat("600 root\n", 3) {
		t.Errorf("modes and owners: %q", modes)
	}
}
