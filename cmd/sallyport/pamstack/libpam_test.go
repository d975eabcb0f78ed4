// SPDX-License-Identifier: Apache-2.0

package pamstack

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"
)

// The evaluation of a stack must be libpam's own. Random stacks, whose modules
// return set values, are given to both: pam_debug.so returns what its arguments say.
func TestAgreesWithLibpam(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 2))
	successes := 0
	const stacks = 800
	for i := range stacks {
		g := &generator{random}
		service := fmt.Sprintf("s%d", i)
		inner := g.lines(1+random.IntN(3), "")
		outer := g.lines(1+random.IntN(4), filepath.Join(dir, service+"-inner"))
		for name, lines := range map[string][]string{service: outer, service + "-inner": inner} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := authenticates(t, dir, service)
		if want {
			successes++
		}
		s, err := Loader{}.Load(filepath.Join(dir, service))
		if err != nil || len(s.Faults) > 0 {
			t.Fatal(err, s.Faults)
		}
		got := len(Ways(s.Stacks[Auth], Question{Module: "none", pinned: pinned})) > 0
		if got != want {
			t.Fatalf("libpam says %v, the evaluation %v:\n%s\ninner:\n%s", want, got, strings.Join(outer, "\n"), strings.Join(inner, "\n"))
		}
	}
	if successes < stacks/20 || successes > stacks*19/20 {
		t.Errorf("%d of %d stacks succeed: the stacks do not test much", successes, stacks)
	}
}

// pinned reads what pam_debug.so was told to return.
func pinned(l *Line) string {
	for _, arg := range l.Args {
		if value, ok := strings.CutPrefix(arg, "auth="); ok {
			return value
		}
	}
	return ""
}

func authenticates(t *testing.T, dir, service string) bool {
	t.Helper()
	tx, err := pam.StartConfDir(service, "root", pam.ConversationFunc(func(pam.Style, string) (string, error) { return "", nil }), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.End()
	return tx.Authenticate(0) == nil
}

type generator struct{ *rand.Rand }

func (g *generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g *generator) value() string {
	return g.pick("success", "success", "auth_err", "user_unknown", "authinfo_unavail", "ignore", "new_authtok_reqd", "maxtries")
}

// lines makes n lines; with an inner file, some of them include it. It is named by
// its path, as libpam looks for other names in /etc/pam.d.
func (g *generator) lines(n int, inner string) []string {
	var out []string
	for i := range n {
		left := n - i - 1
		switch {
		case inner != "" && g.IntN(4) == 0:
			out = append(out, "auth "+g.pick("substack", "include")+" "+inner)
		default:
			out = append(out, fmt.Sprintf("auth %s pam_debug.so auth=%s", g.control(left), g.value()))
		}
	}
	return out
}

// control makes a control that jumps over at most left lines.
func (g *generator) control(left int) string {
	if g.IntN(2) == 0 {
		return g.pick("required", "requisite", "sufficient", "optional")
	}
	var parts []string
	for _, value := range []string{"success", "auth_err", "ignore", "new_authtok_reqd", "default"} {
		if value != "default" && g.IntN(2) == 0 {
			continue
		}
		action := g.pick("ignore", "ok", "done", "bad", "die", "reset")
		if left > 0 && g.IntN(4) == 0 {
			action = fmt.Sprint(1 + g.IntN(left))
		}
		parts = append(parts, value+"="+action)
	}
	return "[" + strings.Join(parts, " ") + "]"
}
