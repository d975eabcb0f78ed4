// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// ruleFile writes a file of rules.d.
func (s *site) ruleFile(name, text string, mode os.FileMode) {
	s.Helper()
	path := filepath.Join(s.dir, "rules.d", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		s.Fatal(err)
	}
}

// outcome is a login to its end, with a code if it is asked for one.
func (s *site) outcome(code string) frames.Outcome {
	s.Helper()
	c := s.dial(RootSocketName)
	s.send(c, request())
	for {
		f, err := frames.ReadFrame(c)
		if err != nil {
			s.Fatalf("waiting for a frame: %v\n%s", err, s.log)
		}
		switch f := f.(type) {
		case *frames.Ask:
			s.send(c, &frames.Answer{Text: frames.Secret(code)})
		case *frames.Done:
			return f.Outcome
		}
	}
}

func TestReloadOfRules(t *testing.T) {
	const denyRoot = "[[rules]]\nname = \"not today\"\naction = \"deny\"\nusers = [\"root\"]\n"
	s := newSite(t, "").start()
	reload := func(want ...string) {
		t.Helper()
		before := len(s.log.String())
		s.reload <- syscall.SIGHUP
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			news := s.log.String()[before:]
			missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(news, w) })
			if len(missing) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the reload left no %q in the log:\n%s", missing, news)
			}
		}
	}

	// A conversation under way keeps the rules that it began with.
	c := s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	s.ruleFile("50-deny.toml", denyRoot, 0o644)
	reload("event=reload\n")
	s.send(c, &frames.Answer{Text: "123456"})
	if got := until[*frames.Done](s, c).Outcome; got != frames.OutcomeAllow {
		t.Errorf("begun before: %s\n%s", got, s.log)
	}
	if got := s.outcome("234567"); got != frames.OutcomeDeny {
		t.Errorf("begun after: %s\n%s", got, s.log)
	}

	// A file that is wrong leaves all rules in force as they were, those of the other files too.
	s.ruleFile("50-deny.toml", "# gone\n", 0o644)
	for name, wrong := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"60-syntax.toml":   {"[[rules]\n", 0o644, "60-syntax.toml:2"},
		"60-rule.toml":     {"[[rules]]\nname = \"b\"\naction = \"bypass\"\n", 0o644, "a bypass rule needs a reason"},
		"60-table.toml":    {"[services.sudo]\nfail_mode = \"open\"\n", 0o644, "unknown key services"},
		"60-writable.toml": {"[[rules]]\naction = \"deny\"\nusers = [\"x\"]\n", 0o666, "60-writable.toml can be changed by others"},
	} {
		s.ruleFile(name, wrong.text, wrong.mode)
		reload("event=reload_failed", wrong.want)
		if got := s.outcome("234567"); got != frames.OutcomeDeny {
			t.Errorf("%s: %s, but the rules from before are in force", name, got)
		}
		if err := os.Remove(filepath.Join(s.dir, "rules.d", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(s.dir, "rules.d"), 0o777); err != nil {
		t.Fatal(err)
	}
	reload("event=reload_failed", "rules.d can be changed by others")
	if err := os.Chmod(filepath.Join(s.dir, "rules.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	reload("event=reload\n")
	if got := s.outcome("234567"); got != frames.OutcomeAllow {
		t.Errorf("without the rule: %s\n%s", got, s.log)
	}
}
