// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

func TestTruth(t *testing.T) {
	for in, want := range map[match.Truth]match.Truth{match.True: match.False, match.False: match.True, match.Unknown: match.Unknown} {
		if in.Not() != want {
			t.Errorf("not %s is %s", in, in.Not())
		}
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		list string
		name string
		want bool
	}{
		{"", "a", true},
		{"a", "a", true},
		{"a", "b", false},
		{"!a", "a", false},
		{"!a", "b", true},
		{"a* !ab", "ac", true},
		{"a* !ab", "ab", false},
	} {
		if got := match.Fits(strings.Fields(c.list), c.name); got != c.want {
			t.Errorf("%q, %q: %t", c.list, c.name, got)
		}
	}
}

func TestNetworksAndFingerprintsAreReadStrictly(t *testing.T) {
	for _, s := range []string{"10.0.0.1/8", "fe80::1%eth0", "::ffff:10.0.0.0/104", "db1", "10.0.0.0/33", ""} {
		if p, err := match.ParseNetwork(s); err == nil {
			t.Errorf("%q is %s", s, p)
		}
	}
	if p, err := match.ParseNetwork("::ffff:10.0.0.1"); err != nil || p.String() != "10.0.0.1/32" {
		t.Errorf("%s, %v", p, err)
	}
	for _, s := range []string{"SHA256:", "MD5:aa", "SHA256:AAAA", "SHA256:" + strings.Repeat("A", 44)} {
		if _, err := match.ParseFingerprint(s); err == nil {
			t.Errorf("%q is a fingerprint", s)
		}
	}
}

// A pattern means what the regular expression means that it stands for.
func FuzzGlob(f *testing.F) {
	f.Add("web*.example", "web1.example")
	f.Add("*a*b?", "xaxbc")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern)+len(s) > 200 || !utf8.ValidString(pattern) || !utf8.ValidString(s) {
			return
		}
		quoted := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile("(?s)^(?:" + quoted + ")$").MatchString(s)
		if got := match.Glob(pattern, s); got != want {
			t.Errorf("%q, %q: %t, want %t", pattern, s, got, want)
		}
	})
}
