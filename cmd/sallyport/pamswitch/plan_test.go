// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

// Lines that stacks are made of, sound and odd.
var pool = []string{
	"auth required pam_unix.so", "auth sufficient pam_unix.so nullok", "auth requisite pam_deny.so", "auth required pam_permit.so",
	"auth [success=1 default=ignore] pam_unix.so", "auth [success=2 default=ignore] pam_sss.so", "auth sufficient pam_rootok.so",
	"auth required pam_env.so user_readenv=1", "auth optional pam_cap.so", "auth [success=1 default=bad] \\\n  pam_localuser.so",
	"auth include common", "auth substack common", "@include common", "@include all", "auth required pam_mystery.so # why",
	"account required pam_unix.so", "account sufficient pam_localuser.so", "account include common", "account [success=1 default=ignore] pam_unix.so",
	"session required pam_loginuid.so", "session required pam_env.so user_readenv=1", "-session optional pam_systemd.so", "session [default=1] pam_permit.so",
	"session required pam_unix.so", "password required pam_unix.so", "# a comment", "",
}

// Whatever a stack is made of: it is refused, or the module is a gate in it that
// somebody can pass, and switching off gives the file back as it was.
func TestPlansOfAnyStack(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	pick := func() string { return pool[random.IntN(len(pool))] }
	enabled := 0
	const stacks = 250
	for range stacks {
		root := t.TempDir()
		var lines []string
		for range 2 + random.IntN(9) {
			lines = append(lines, pick())
		}
		text := strings.Join(lines, "\n") + "\n"
		for name, text := range map[string]string{
			"x": text, "sshd": text,
			"common": "auth sufficient pam_unix.so\nauth required pam_deny.so\naccount required pam_unix.so\n",
			"all":    "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\n",
		} {
			path := filepath.Join(root, "etc/pam.d", name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"x", "sshd"} {
			p := &Planner{Root: root, Doctor: &doctor.Host{Root: root}}
			plan, err := p.Plan(Enable, []string{name})
			var refusal *Refusal
			if errors.As(err, &refusal) {
				continue
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			enabled++
			isGate(t, p, plan, name)
			path := plan.Files[0].Path
			if err := os.WriteFile(filepath.Join(root, path), []byte(*plan.Files[0].After), 0o600); err != nil {
				t.Fatal(err)
			}
			back, err := p.Plan(Disable, []string{name})
			if err != nil || len(back.Files) != 1 || *back.Files[0].After != text {
				t.Fatalf("%v: switching off gives %+v, want\n%s", err, back, text)
			}
		}
	}
	t.Logf("%d of %d stacks were switched on", enabled, 2*stacks)
	if enabled < stacks/50 {
		t.Errorf("%d of %d stacks were switched on: the stacks do not test much", enabled, 2*stacks)
	}
}

func isGate(t *testing.T, p *Planner, plan *Plan, name string) {
	t.Helper()
	text := *plan.Files[0].After
	s, err := pamstack.Loader{Root: p.Root, Instead: map[string]string{plan.Files[0].Path: text}}.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range types(name) {
		for _, way := range pamstack.Ways(s.Stacks[typ], pamstack.Question{Module: doctor.Module, Returns: []string{"auth_err", "perm_denied", "session_err"}}) {
			// Conditions and root's way are the administrator's own.
			if way.Blame == nil || way.Blame.Name() != "pam_rootok.so" && way.Blame.Name() != "pam_localuser.so" {
				t.Fatalf("the %s stack lets somebody past the module by %v:\n%s", typ, way.Blame, text)
			}
		}
		if len(pamstack.Ways(s.Stacks[typ], pamstack.Question{Module: doctor.Module, Returns: []string{"success"}})) == 0 {
			t.Fatalf("the %s stack lets nobody in:\n%s", typ, text)
		}
	}
}
