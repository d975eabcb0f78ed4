// SPDX-License-Identifier: Apache-2.0

package pamstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const own = "pam_sallyport.so"

func tree(t *testing.T, files map[string]string) Loader {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, "etc/pam.d", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Loader{Root: root}
}

// Debian's common-auth, which most stacks include.
const commonAuth = `
auth	[success=1 default=ignore]	pam_unix.so nullok
# here's the fallback if no module succeeds
auth	requisite			pam_deny.so
auth	required			pam_permit.so
`

func TestWays(t *testing.T) {
	deny := Question{Module: own, Returns: []string{"auth_err", "maxtries", "user_unknown", "conv_err", "service_err", "authinfo_unavail"}}
	for name, c := range map[string]struct {
		stack string
		want  []string // line and value of each way that does not need the module
	}{
		"factor after password":       {"auth required pam_unix.so\nauth required pam_sallyport.so", nil},
		"factor alone":                {"auth required pam_sallyport.so", nil},
		"requisite":                   {"auth requisite pam_sallyport.so\nauth required pam_unix.so", nil},
		"behind Debian's block":       {"@include common-auth\nauth required pam_sallyport.so", nil},
		"before Debian's block":       {"auth required pam_sallyport.so\n@include common-auth", nil},
		"listed actions":              {"auth required pam_unix.so\nauth [success=ok default=die] pam_sallyport.so", nil},
		"password is enough":          {"auth sufficient pam_unix.so\nauth required pam_sallyport.so", []string{"auth sufficient pam_unix.so: success"}},
		"password after it":           {"auth required pam_sallyport.so\nauth sufficient pam_unix.so\nauth required pam_deny.so", nil},
		"optional":                    {"auth required pam_unix.so\nauth optional pam_sallyport.so", []string{"auth optional pam_sallyport.so: auth_err"}},
		"sufficient, others after":    {"auth sufficient pam_sallyport.so\nauth required pam_unix.so", []string{"auth sufficient pam_sallyport.so: auth_err"}},
		"sufficient, denied after":    {"auth sufficient pam_sallyport.so\nauth required pam_deny.so", nil},
		"daemon away is ignored":      {"auth required pam_unix.so\nauth [success=ok authinfo_unavail=ignore default=die] pam_sallyport.so", []string{"auth [success=ok authinfo_unavail=ignore default=die] pam_sallyport.so: authinfo_unavail"}},
		"skipped by success":          {"auth [success=1 default=ignore] pam_succeed_if.so user ingroup nofactor\nauth required pam_sallyport.so\nauth required pam_unix.so", []string{"auth [success=1 default=ignore] pam_succeed_if.so: success"}},
		"password skips it":           {"auth [success=2 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_sallyport.so\nauth required pam_permit.so", []string{"auth [success=2 default=ignore] pam_unix.so: success"}},
		"root need not":               {"auth sufficient pam_rootok.so\nauth required pam_unix.so\nauth required pam_sallyport.so", []string{"auth sufficient pam_rootok.so: success"}},
		"sufficient within substack":  {"auth substack passwords\nauth required pam_sallyport.so", nil},
		"optional behind a substack":  {"auth substack passwords\nauth optional pam_sallyport.so", []string{"auth optional pam_sallyport.so: auth_err"}},
		"it stands in a substack":     {"auth substack ours\nauth required pam_permit.so", nil},
		"substack that forgives":      {"auth substack lax\nauth required pam_permit.so", []string{"auth optional pam_sallyport.so: auth_err"}},
		"jump over a substack":        {"auth [success=1 default=ignore] pam_localuser.so\nauth substack ours\nauth required pam_permit.so", []string{"auth [success=1 default=ignore] pam_localuser.so: success"}},
		"reset forgets a refusal":     {"auth [success=ok default=reset] pam_sallyport.so\nauth required pam_unix.so", []string{"auth [success=ok default=reset] pam_sallyport.so: auth_err"}},
		"jump past the end":           {"auth [success=9 default=ignore] pam_unix.so\nauth required pam_sallyport.so", nil},
		"continued line":              {"auth \\\n  required \\\n pam_sallyport.so", nil},
		"nothing but ignored lines":   {"auth optional pam_warn.so\nauth required pam_sallyport.so", nil},
		"default=ok on all its codes": {"auth required pam_unix.so\nauth [default=ok] pam_sallyport.so", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := tree(t, map[string]string{
				"x": c.stack, "common-auth": commonAuth, "ours": "auth required pam_sallyport.so",
				"passwords": "auth sufficient pam_unix.so\nauth required pam_deny.so", "lax": "auth optional pam_sallyport.so\nauth required pam_unix.so",
			}).Load("x")
			if err != nil || len(s.Faults) != 0 {
				t.Fatal(err, s.Faults)
			}
			var got []string
			for _, w := range Ways(s.Stacks[Auth], deny) {
				if w.Blame == nil {
					t.Fatalf("a way that nothing is to blame for: %+v", w)
				}
				got = append(got, w.Blame.String()+": "+w.Value)
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Fatalf("ways %q, want %q", got, c.want)
			}
		})
	}
}

// Is the module's own success enough although every password fails?
func TestFactorAlone(t *testing.T) {
	q := Question{Module: own, Returns: []string{"success"}, Fail: []string{"pam_unix.so"}}
	for stack, want := range map[string]bool{
		"auth required pam_unix.so\nauth required pam_sallyport.so":   false,
		"auth sufficient pam_sallyport.so\nauth required pam_unix.so": true,
		"auth required pam_sallyport.so":                              true,
		"auth required pam_sallyport.so\n@include common-auth":        false,
		"auth optional pam_unix.so\nauth required pam_sallyport.so":   true,
	} {
		s, err := tree(t, map[string]string{"x": stack, "common-auth": commonAuth}).Load("x")
		if err != nil {
			t.Fatal(err)
		}
		if got := len(Ways(s.Stacks[Auth], q)) > 0; got != want {
			t.Errorf("%q: %v, want %v", stack, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	lines, faults := Parse("/etc/pam.d/x", strings.Join([]string{
		"# comment", "", "-session optional pam_systemd.so", `auth [success=1 \`, `  default=ignore] pam_unix.so nullok [a b] # trailing`,
		"account required", "aut required pam_unix.so", "auth requierd pam_unix.so", "@include", "auth [success=maybe] pam_unix.so", "AUTH REQUIRED pam_unix.so",
	}, "\n"))
	if len(lines) != 5 || !lines[0].Silent || lines[0].Number != 3 || lines[1].Number != 4 || lines[1].Args[1] != "[a b]" || lines[4].Type != Auth {
		t.Errorf("lines %+v", lines)
	}
	if lines[1].on("success").skip != 1 || lines[1].on("auth_err").word != "ignore" {
		t.Errorf("control %+v", lines[1].actions)
	}
	if len(faults) != 5 {
		t.Errorf("faults %q", faults)
	}
}

func TestLoadFaults(t *testing.T) {
	l := tree(t, map[string]string{"x": "@include missing\nauth required pam_unix.so", "loop": "auth include loop", "x.dpkg-old": "", "y~": ""})
	s, err := l.Load("x")
	if err != nil || len(s.Faults) != 1 || !strings.Contains(s.Faults[0], "missing") || len(s.Stacks[Auth]) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = l.Load("loop"); err != nil || len(s.Faults) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if names, err := l.Services(); err != nil || strings.Join(names, " ") != "loop x" {
		t.Errorf("services %q, %v", names, err)
	}
	if _, err := l.Load("none"); err == nil {
		t.Error("a service that does not exist was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(commonAuth)
	f.Add("auth [success=ok default=reset] a\nauth \\\nrequired b [x\\]y]")
	f.Add("@include common-auth\n-session optional pam_systemd.so")
	f.Fuzz(func(t *testing.T, text string) {
		lines, _ := Parse("x", text)
		if len(lines) > 50 {
			return
		}
		for i := range lines {
			if lines[i].actions == nil {
				return // an include, which Load resolves
			}
		}
		for _, w := range Ways(lines, Question{Module: own, Returns: []string{"auth_err"}}) {
			if w.Asked && w.Blame == nil {
				t.Fatalf("the module refused, and nothing is to blame for success: %+v", w)
			}
		}
	})
}
