// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
)

func setLabel(path, label string) error {
	return unix.Lsetxattr(path, selinux, []byte(label), 0)
}

// The test program makes attempts as sallyport does.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "pam" && os.Args[2] == "attempt" {
		var a Attempt
		if err := json.Unmarshal([]byte(os.Args[3]), &a); err != nil {
			os.Exit(2)
		}
		if err := a.Make(nil, nil).Report(ReportTo()); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// compile makes a module whose hooks do what the body says.
func compile(t *testing.T, dir, name, body string) string {
	t.Helper()
	source := filepath.Join(dir, name+".c")
	var text strings.Builder
	text.WriteString("#include <unistd.h>\n#include <stdlib.h>\n")
	for _, hook := range []string{"authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok"} {
		fmt.Fprintf(&text, "int pam_sm_%s(void *h, int f, int c, const char **v) { %s }\n", hook, body)
	}
	if err := os.WriteFile(source, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return link(t, filepath.Join(dir, name), source)
}

func link(t *testing.T, path string, sources ...string) string {
	t.Helper()
	args := append([]string{"-shared", "-fPIC", "-std=gnu11", "-o", path}, sources...)
	if out, err := exec.CommandContext(t.Context(), "cc", append(args, "-lpam")...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return path
}

func TestTrial(t *testing.T) {
	dir := t.TempDir()
	sources, err := filepath.Glob("../../../pam/*.c")
	if err != nil || len(sources) == 0 {
		t.Fatal("the module's sources are not there")
	}
	own := link(t, filepath.Join(dir, doctor.Module), sources...)
	crashes := compile(t, dir, "pam_crashes.so", "abort();")
	hangs := compile(t, dir, "pam_hangs.so", "pause(); return 0;")
	alien := filepath.Join(dir, "pam_alien.so")
	if err := os.WriteFile(alien, []byte("no ELF"), 0o600); err != nil {
		t.Fatal(err)
	}
	const password = "auth requisite pam_unix.so\n"
	const fedora = `auth required pam_env.so
auth required pam_faildelay.so delay=2000
auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular
auth [default=1 ignore=ignore success=ok] pam_localuser.so
auth sufficient pam_unix.so nullok
auth required pam_deny.so
`
	gate := "auth required " + own + " socket_dir=/nonexistent/dir\naccount required pam_unix.so\n"
	for name, c := range map[string]struct {
		stack string
		away  bool
		want  string // in the error; "": none
	}{
		"authd is away":                 {password + gate, false, "authd made no decision"},
		"authd may be away":             {password + gate, true, ""},
		"a module is not installed":     {password + "auth required pam_nowhere.so\n" + gate, true, "names pam_nowhere.so, which is not installed"},
		"one that may be missing":       {password + "auth [default=bad success=ok module_unknown=ignore] pam_nowhere.so\n" + gate, true, ""},
		"a module that is none":         {password + "auth required " + alien + "\n" + gate, true, "does not load"},
		"a missing file":                {password + "@include nowhere\n" + gate, true, "does not exist"},
		"wrong arguments":               {password + "auth required " + own + " debgu\naccount required pam_unix.so\n", true, "wrong arguments"},
		"a module that crashes":         {password + "auth required " + crashes + "\n" + gate, true, "crashed"},
		"a module that hangs":           {password + "auth required " + hangs + "\n" + gate, true, "did not end within"},
		"it lets in without the factor": {password + "auth sufficient pam_permit.so\n" + gate, true, "let an account in that does not exist"},
		"an include":                    {"@include common-auth\n" + gate, false, "authd made no decision"},
		"as on Fedora":                  {"auth substack system-auth\n" + gate, false, "authd made no decision"},
		"a substack":                    {"auth substack common-auth\n" + gate, false, "authd made no decision"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "etc/pam.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"common-auth": password, "system-auth": fedora} {
				if err := os.WriteFile(filepath.Join(root, "etc/pam.d", name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			trial := &Trial{
				Root: root, Doctor: &doctor.Host{}, Program: os.Args[0], Dir: filepath.Join(root, "trial"),
				Away: c.away, Limit: 20 * time.Second,
			}
			if strings.Contains(c.stack, hangs) {
				trial.Limit = time.Second
			}
			plan := &Plan{Action: Enable, Services: []string{"sudo"}, Files: []File{{Path: "/etc/pam.d/sudo", After: &c.stack}}}
			_, err := trial.Unattended(t.Context(), plan)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, err := os.Stat(trial.Dir); !os.IsNotExist(err) {
				t.Error("the folder of the trial is still there")
			}
		})
	}
}

// Switching off works where there is no configuration, and for su, which asks
// nothing of root.
func TestTrialOfSwitchingOff(t *testing.T) {
	root := t.TempDir()
	trial := &Trial{Root: root, Doctor: &doctor.Host{}, Program: os.Args[0], Dir: filepath.Join(root, "trial")}
	stack := "auth sufficient pam_rootok.so\nauth required pam_unix.so\naccount required pam_unix.so\n"
	plan := &Plan{Action: Disable, Services: []string{"su"}, Files: []File{{Path: "/etc/pam.d/su", After: &stack}}}
	if notes, err := trial.Unattended(t.Context(), plan); err != nil || len(notes) > 0 {
		t.Errorf("%q, %v", notes, err)
	}
}
