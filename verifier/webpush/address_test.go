// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, text := range []string{
		"8.8.8.8", "142.250.74.42", "17.188.143.34", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "223.255.255.1",
		"2a00:1450:4001:82f::200a", "2620:149:208:430::c", "::ffff:8.8.8.8",
	} {
		if !(bounds{}).address(netip.MustParseAddr(text)) {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1",
		"203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "::10.0.0.1",
		"fe80::1", "fe80::1%eth0", "2a00:1450::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1",
		"2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "100::1", "5f00::1",
	} {
		if (bounds{}).address(netip.MustParseAddr(text)) {
			t.Errorf("%s is let through", text)
		}
	}
	b := bounds{networks: prefixes("10.1.0.0/16", "fd00::/8")}
	for text, want := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd12::1": true, "127.0.0.1": false, "8.8.8.8": true,
	} {
		if got := b.address(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v with its networks allowed", text, got)
		}
	}
	for address, want := range map[string]error{"8.8.8.8:443": nil, "[::1]:443": errAddress, "10.0.0.1:443": errAddress} {
		if err := (bounds{}).control("tcp", address, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := (bounds{}).control("tcp", "nonsense", nil); err == nil {
		t.Error("an address that cannot be read was let through")
	}
}

func TestEndpoint(t *testing.T) {
	long := "https://push.example.net/" + strings.Repeat("x", maxEndpoint-len("https://push.example.net/"))
	narrow := bounds{hosts: []string{"fcm.googleapis.com", "*.push.apple.com"}, ports: []int{8443}, networks: prefixes("10.0.0.0/8")}
	for _, c := range []struct {
		b    bounds
		url  string
		want string // of the refusal
	}{
		{bounds{}, "https://fcm.googleapis.com/fcm/send/abc:def", ""},
		{bounds{}, "https://push.example.net:443/x?y=z", ""},
		{bounds{}, long, ""},
		{bounds{}, long + "x", "longer"},
		{bounds{}, "http://push.example.net/x", "not https"},
		{bounds{}, "ftp://push.example.net/x", "not https"},
		{bounds{}, "https:push.example.net", "not a URL"},
		{bounds{}, "https:///x", "not a URL"},
		{bounds{}, "//push.example.net/x", "not https"},
		{bounds{}, "https://push.example.net/\nx", "not a URL"},
		{bounds{}, "https://püsh.example.net/", "not a URL"},
		{bounds{}, "https://push.example.net/%zz", "not a URL"},
		{bounds{}, "https://a@push.example.net/x", "user name"},
		{bounds{}, "https://:b@push.example.net/x", "user name"},
		{bounds{}, "https://push.example.net/x#y", "fragment"},
		{bounds{}, "https://push.example.net:8443/x", "port"},
		{bounds{}, "https://push.example.net:0443/x", ""},
		{bounds{}, "https://push.example.net:22/x", "port"},
		{bounds{}, "https://127.0.0.1/x", "public"},
		{bounds{}, "https://[::1]/x", "public"},
		{bounds{}, "https://[fe80::1%25eth0]/x", "public"},
		{bounds{}, "https://169.254.169.254/latest/meta-data/", "public"},
		{bounds{}, "https://8.8.8.8/x", ""},
		{bounds{}, "https://localhost/x", "internet"},
		{bounds{}, "https://LOCALHOST/x", "internet"},
		{bounds{}, "https://localhost./x", "internet"},
		{bounds{}, "https://intranet/x", "internet"},
		{bounds{}, "https://127.1/x", "internet"},
		{bounds{}, "https://127.0.0.1./x", "internet"},
		{bounds{}, "https://2130706433/x", "internet"},
		{bounds{}, "https://0x7f000001/x", "internet"},
		{bounds{}, "https://0X7F.0X1/x", "internet"},
		{bounds{}, "https://127.0x/x", "internet"},
		{bounds{}, "https://push.example.net./x", ""},
		{bounds{hosts: []string{"push"}}, "https://push/x", ""}, // the administrator named it
		{bounds{hosts: []string{"*.1"}}, "https://127.1/x", "internet"},
		{narrow, "https://fcm.googleapis.com/x", ""},
		{narrow, "https://FCM.GoogleAPIs.com/x", ""},
		{narrow, "https://fcm.googleapis.com:8443/x", ""},
		{narrow, "https://web.push.apple.com/x", ""},
		{narrow, "https://push.apple.com/x", "not a push service"},
		{narrow, "https://evilpush.apple.com/x", "not a push service"},
		{narrow, "https://fcm.googleapis.com.evil.example/x", "not a push service"},
		{narrow, "https://10.0.0.1/x", "not a push service"},
		{bounds{networks: narrow.networks}, "https://10.0.0.1/x", ""},
	} {
		_, err := c.b.endpoint(c.url)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.url, err, c.want)
		}
	}
}

func TestOrigin(t *testing.T) {
	for text, want := range map[string]string{
		"https://push.example.net/x":      "https://push.example.net",
		"https://PUSH.example.net:443/x":  "https://push.example.net",
		"https://push.example.net:8443/x": "https://push.example.net:8443",
		"https://[2001:4860::8888]/x":     "https://[2001:4860::8888]",
	} {
		u, err := (bounds{ports: []int{8443}}).endpoint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := origin(u); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func FuzzEndpoint(f *testing.F) {
	for _, text := range []string{"https://push.example.net/x", "https://[::1]:443/", "https://a:b@c/", "https://push.example.net:443/x#y"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := (bounds{}).endpoint(text)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Hostname() == "" || len(text) > maxEndpoint || !strings.HasPrefix(origin(u), "https://") {
			t.Errorf("%q was let through", text)
		}
	})
}
