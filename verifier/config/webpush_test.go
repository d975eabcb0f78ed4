// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWebPush(t *testing.T) {
	c, err := load(t, "url='https://v'\n")
	if err != nil || !c.WebPush.Enabled {
		t.Fatalf("%+v, %v", c, err)
	}
	c, err = load(t, `url='https://v'
[web_push]
enabled = false
subject = 'mailto:ops@example.org'
ca_file = 'secret'
allow_hosts = ['fcm.googleapis.com', '*.push.apple.com', 'push']
allow_ports = [8443]
allow_networks = ['10.1.2.0/24', 'fd00::/8']
proxy_url = 'http://proxy.example:3128'
`)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := c.WebPush.Proxy()
	if c.WebPush.Enabled || err != nil || proxy.Host != "proxy.example:3128" ||
		!slices.Equal(c.WebPush.Networks(), []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00::/8")}) {
		t.Errorf("%+v, %v, %v", c.WebPush, proxy, err)
	}
	files := c.Files()
	if len(files) != 1 || files[0].Key != "web_push.ca_file" || !filepath.IsAbs(files[0].Path) {
		t.Errorf("files %+v", files)
	}
	for line, want := range map[string]string{
		"subject = 'ops@example.org'":               "web_push.subject",
		"subject = 'mailto:ops'":                    "web_push.subject",
		"subject = 'mailto:Ops <ops@example.org>'":  "web_push.subject",
		"subject = 'http://example.org'":            "web_push.subject",
		"subject = 'https:'":                        "web_push.subject",
		"ca_file = 'gone.pem'":                      "web_push.ca_file",
		"allow_hosts = ['*']":                       "web_push.allow_hosts",
		"allow_hosts = ['FCM.googleapis.com']":      "web_push.allow_hosts",
		"allow_hosts = ['https://push.example']":    "web_push.allow_hosts",
		"allow_hosts = ['push.example:443']":        "web_push.allow_hosts",
		"allow_hosts = ['a.*.example']":             "web_push.allow_hosts",
		"allow_ports = [0]":                         "web_push.allow_ports",
		"allow_ports = [65536]":                     "web_push.allow_ports",
		"allow_networks = ['10.1.2.3']":             "web_push.allow_networks",
		"allow_networks = ['10.1.2.3/24']":          "web_push.allow_networks",
		"proxy_url = 'proxy.example:3128'":          "web_push.proxy_url",
		"proxy_url = 'http://proxy.example:3128'":   "web_push.allow_hosts",
		"proxy_url = 'socks5://proxy.example:1080'": "web_push.proxy_url",
		"proxy_url = 'http://a:b@proxy.example'":    "web_push.proxy_url",
		"proxy_url = 'http://proxy.example/x'":      "web_push.proxy_url",
		"enabeld = true":                            "unknown key",
	} {
		if _, err := load(t, "url='https://v'\n[web_push]\n"+line+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
