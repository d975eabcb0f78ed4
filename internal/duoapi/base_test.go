// SPDX-License-Identifier: Apache-2.0

package duoapi

import "testing"

func TestParseBase(t *testing.T) {
	for s, want := range map[string]string{
		"https://verifier.example:8443": "https://verifier.example:8443", "https://Verifier.Example/": "https://verifier.example",
		"https://[::1]:8443": "https://[::1]:8443", "https://[::1]:443": "https://[::1]", "https://h:443": "https://h", "https://h:": "https://h",
		"": "", "verifier.example": "", "http://verifier.example": "", "https://": "", "https://:8443": "", "https://u@h": "",
		"https://h/path": "", "https://h?q": "", "https://h#f": "", "https://h:x": "", "https://h:0": "", "https://h:65536": "",
		"https://[fe80::1%25eth0]": "",
	} {
		got, err := ParseBase(s)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func FuzzParseBase(f *testing.F) {
	for _, s := range []string{"https://v:8443", "https://[::1]:8443", "https://v:443/", "http://v", "https://u@v?x#y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseBase(s)
		if err != nil {
			return
		}
		again, err := ParseBase(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q becomes %q, which becomes %v (%v)", s, u, again, err)
		}
	})
}
