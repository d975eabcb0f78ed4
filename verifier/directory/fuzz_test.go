// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"image"
	"image/png"
	"net/netip"
	"testing"
)

// What a client calls a logo is refused, or comes out as a PNG of permitted size.
func FuzzLogo(f *testing.F) {
	var good bytes.Buffer
	if err := png.Encode(&good, image.NewGray(image.Rect(0, 0, 16, 12))); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add(append(good.Bytes(), "more"...))
	f.Add(good.Bytes()[:30])
	f.Fuzz(func(t *testing.T, file []byte) {
		out, _, err := redraw(file)
		if err != nil {
			return
		}
		c, err := png.DecodeConfig(bytes.NewReader(out))
		if err != nil || min(c.Width, c.Height) < minLogoSide || max(c.Width, c.Height) > maxLogoSide {
			t.Errorf("came out as %v, %v", c, err)
		}
	})
}

// Each network that is taken is a prefix that the gate can compare with.
func FuzzNetworks(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "::1-::ffff", "fe80::1%eth0", "::ffff:10.0.0.1-::ffff:10.0.0.2", "-", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out, err := cleanNetworks("networks", []string{s})
		for _, n := range out {
			if p, err := netip.ParsePrefix(n); err != nil || p != p.Masked() || p.Addr().Is4In6() {
				t.Errorf("%q gave %q, %v", s, n, err)
			}
		}
		if err != nil && out != nil {
			t.Errorf("%q: refused and taken", s)
		}
	})
}
