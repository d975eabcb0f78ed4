// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	gateCA       = "/etc/sallyport/gate-ca.pem"
	gatePassword = "/etc/sallyport/gate-password"
)

// gateFiles set up two proxies that people have: squid, in plain text and over
// TLS, and tinyproxy.
var gateFiles = map[string]string{
	"/etc/squid/test.conf": `
http_port 3128
https_port 3129 tls-cert=/etc/squid/gate.pem tls-key=/etc/squid/gate.key
auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/squid/people
acl people proxy_auth REQUIRED
acl verifier dstdomain verifier
http_access allow CONNECT people verifier
http_access deny all
visible_hostname gate
cache deny all
pid_filename none
access_log none
cache_log /var/log/squid/cache.log
shutdown_lifetime 0 seconds
`,
	"/etc/tinyproxy.conf": `
Port 8888
Timeout 600
MaxClients 100
LogLevel Connect
Allow 0.0.0.0/0
ConnectPort 8443
BasicAuth web1 open-sesame
`,
}

const gateSetUp = `
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gate \
	-addext subjectAltName=DNS:gate -keyout /etc/squid/gate.key -out /etc/squid/gate.pem 2>/dev/null
echo "web1:$(openssl passwd -apr1 open-sesame)" >/etc/squid/people
chmod 0644 /etc/squid/people /etc/squid/gate.key
`

// secludedSite is an [ownSite] whose verifier, and the phones, are on a network
// that the host is not on. Its way there is the gate, a machine with proxies.
func secludedSite(t *testing.T) (*site, *harness.Container) {
	t.Helper()
	ctx := t.Context()
	s := ownSite(t)
	gate, err := s.lab.Start(ctx, "gate", harness.Options{})
	must(t, err)
	must(t, gate.Put(ctx, files(gateFiles)...))
	_, err = gate.Shell(ctx, gateSetUp)
	must(t, err)
	beyond, err := s.lab.Segment(ctx)
	must(t, err)
	must(t, beyond.Join(ctx, gate, s.verifier, s.phones))
	must(t, s.verifier.Disconnect(ctx))
	startProxies(t, gate)

	ca, err := gate.Read(ctx, "/etc/squid/gate.pem")
	must(t, err)
	must(t, s.host.Put(ctx,
		harness.File{Path: gateCA, Mode: 0o644, Data: []byte(ca)},
		harness.File{Path: gatePassword, Mode: 0o600, Data: []byte("open-sesame\n")},
		harness.File{Path: gatePassword + "-wrong", Mode: 0o600, Data: []byte("open-barley\n")}))
	return s, gate
}

func startProxies(t *testing.T, gate *harness.Container) {
	t.Helper()
	must(t, gate.Daemon(t.Context(), "squid", harness.Command{Args: []string{"squid", "-N", "-f", "/etc/squid/test.conf"}}))
	must(t, gate.Daemon(t.Context(), "tinyproxy", harness.Command{Args: []string{"tinyproxy", "-d", "-c", "/etc/tinyproxy.conf"}}))
	for _, port := range []string{"3128", "3129", "8888"} {
		must(t, gate.AwaitPort(t.Context(), port))
	}
}

// proxyTable is a [verifier.proxy] of authd.toml.
func proxyTable(url, password string, more ...string) string {
	table := fmt.Sprintf("\n[verifier.proxy]\nurl = %q\n", url)
	if password != "" {
		table += fmt.Sprintf("username = \"web1\"\npassword_file = %q\n", password)
	}
	return table + strings.Join(more, "\n") + "\n"
}

// A host whose only way to the verifier is an HTTP proxy.
func TestHTTPProxy(t *testing.T) {
	t.Parallel()
	s, gate := secludedSite(t)
	plain := s.authdConfig(t)
	p := s.person(t, "proxied")
	token, phone := p.hotp(t), p.authenticator(t)
	works := func(t *testing.T) {
		t.Helper()
		v := p.sudo(t)
		v.answers(token.next())
		v.comesIn()
		p.lastDecision(t, decision{Reason: "passcode"})
	}
	ca := fmt.Sprintf("ca_file = %q", gateCA)

	for name, table := range map[string]string{
		"squid":          proxyTable("http://gate:3128", gatePassword),
		"squid over TLS": proxyTable("https://gate:3129", gatePassword, ca),
		"tinyproxy":      proxyTable("http://gate:8888", gatePassword),
	} {
		t.Run(name, func(t *testing.T) {
			s.setAuthdConfig(t, plain+table)
			works(t)
			v := p.ssh(t, s.client, "22")
			digits := v.asksForPush()
			phone.approve(digits)
			v.types("")
			v.comesIn()
		})
	}

	proxy := decision{Cause: "proxy", CauseSetting: "verifier.proxy"}
	for name, tc := range map[string]struct {
		table string
		want  decision
	}{
		"no proxy":                  {"", decision{}},
		"wrong password, squid":     {proxyTable("http://gate:3128", gatePassword+"-wrong"), proxy},
		"wrong password, tinyproxy": {proxyTable("http://gate:8888", gatePassword+"-wrong"), proxy},
		"no password":               {proxyTable("http://gate:3128", ""), proxy},
		"wrong password, TLS":       {proxyTable("https://gate:3129", gatePassword+"-wrong", ca), proxy},
		"unknown CA":                {proxyTable("https://gate:3129", gatePassword), proxy},
		"another CA":                {proxyTable("https://gate:3129", gatePassword, `ca_file = "/etc/sallyport/ca.pem"`), proxy},
		"plain text to TLS":         {proxyTable("http://gate:3129", gatePassword), proxy},
		"nobody listens":            {proxyTable("http://gate:3199", gatePassword), proxy},
		"no such host":              {proxyTable("http://nowhere:3128", gatePassword), decision{}}, // whether DNS says no or nothing is the network's matter
		"directly, by no_proxy":     {proxyTable("http://gate:3128", gatePassword, `no_proxy = ["verifier"]`), decision{}},
	} {
		t.Run(name, func(t *testing.T) {
			s.setAuthdConfig(t, plain+tc.table)
			want := tc.want
			want.Reason, want.Setting = "verifier_down", "fail_mode"
			p.sudo(t).isRefused()
			p.lastDecision(t, want)
			// 407 and the like are the proxy's word: an outage, which opens what the
			// administrator has said may open.
			opener := s.person(t, "opener")
			opener.joins(t, "openers")
			opener.sudo(t).comesIn()
			want.Reason = "fail_open"
			opener.lastDecision(t, want)
		})
	}

	squid := plain + proxyTable("http://gate:3128", gatePassword)
	lost := decision{Reason: "verifier_lost"}
	kill := func(t *testing.T) { must(t, gate.Signal(t.Context(), "squid", "KILL")) }
	// again is deferred, so that one case that fails does not spoil the next.
	again := func(t *testing.T) {
		must(t, gate.Daemon(t.Context(), "squid", harness.Command{Args: []string{"squid", "-N", "-f", "/etc/squid/test.conf"}}))
		must(t, gate.AwaitPort(t.Context(), "3128"))
		s.recovers(t)
	}
	// downNext is what the next login meets.
	downNext := func(t *testing.T) {
		p.sudo(t).isRefused()
		p.lastDecision(t, decision{Reason: "verifier_down", Setting: "fail_mode", Cause: "proxy", CauseSetting: "verifier.proxy"})
	}
	t.Run("killed at the question", func(t *testing.T) {
		s.setAuthdConfig(t, squid)
		v := p.sudo(t)
		v.expect(asksFactor)
		kill(t)
		defer again(t)
		v.types(token.shown())
		v.isRefused()
		p.lastDecision(t, lost)
		downNext(t)
	})
	t.Run("works again", works)
	t.Run("killed while a push waits", func(t *testing.T) {
		// Long enough to kill it in time, on a busy machine, too.
		s.setAuthdConfig(t, strings.Replace(squid, `approval_timeout = "5s"`, `approval_timeout = "30s"`, 1))
		v := p.ssh(t, s.client, "22")
		digits := v.asksForPush()
		txid := phone.waiting()
		v.types("")
		kill(t)
		defer again(t)
		phone.run("approve", "--txid", txid, "--code", digits)
		v.isRefused()
		p.lastDecision(t, lost)
		downNext(t)
	})
	t.Run("stopped while a push waits", func(t *testing.T) {
		s.setAuthdConfig(t, squid)
		v := p.ssh(t, s.client, "22")
		digits := v.asksForPush()
		txid := phone.waiting()
		v.types("")
		must(t, gate.Signal(t.Context(), "squid", "STOP"))
		defer func() {
			must(t, gate.Signal(t.Context(), "squid", "CONT"))
			s.recovers(t)
		}()
		phone.run("approve", "--txid", txid, "--code", digits)
		v.expect(asksFactor) // the approval does not get here within approval_timeout
		// Whether this code is used nobody can say: it waits in a socket of the stopped
		// proxy, which may still deliver it.
		v.types(token.next())
		v.isRefused()
		p.lastDecision(t, lost)
		p.sudo(t).isRefused()
		p.lastDecision(t, decision{Reason: "verifier_down", Setting: "fail_mode", CauseSetting: "connect_timeout"})
	})
	t.Run("no_proxy", func(t *testing.T) {
		must(t, s.verifier.Connect(context.Background()))
		must(t, gate.Signal(t.Context(), "squid", "KILL"))
		s.setAuthdConfig(t, plain+proxyTable("http://gate:3128", gatePassword, `no_proxy = ["verifier"]`))
		works(t)
		s.setAuthdConfig(t, squid)
		downNext(t)
	})
}
