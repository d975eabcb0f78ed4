// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/spool"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
)

const denyAlice = "[[rules]]\nname = \"no\"\naction = \"deny\"\nusers = [\"alice\"]\n"

// decided is what the copy of the rules on disk says of a user.
func decided(t *testing.T, path, user string) rules.Action {
	t.Helper()
	p, err := breakglass.ReadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	return p.Decide(t.Context(), rules.Facts{User: user, Service: "sshd"}).Action
}

func TestRulesAreWrittenDownForBreakGlass(t *testing.T) {
	s := newSite(t, denyAlice)
	s.start()
	cfg, err := config.Load(filepath.Join(s.dir, "authd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cfg.StateDir, breakglass.PolicyFile)
	if got := decided(t, path, "alice"); got != rules.Deny {
		t.Errorf("at start: %s", got)
	}
	reload := func(settings, event string) {
		t.Helper()
		s.write(settings)
		before := strings.Count(s.log.String(), "event="+event+" ") + strings.Count(s.log.String(), "event="+event+"\n")
		s.reload <- syscall.SIGHUP
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if strings.Count(s.log.String(), "event="+event+" ")+strings.Count(s.log.String(), "event="+event+"\n") > before {
				return
			}
		}
		t.Fatalf("no event %s:\n%s", event, s.log)
	}
	reload("nonsense = 1\n", "reload_failed")
	if got := decided(t, path, "alice"); got != rules.Deny {
		t.Errorf("after a broken file: %s", got)
	}
	reload(strings.ReplaceAll(denyAlice, "alice", "bob"), "reload")
	if alice, bob := decided(t, path, "alice"), decided(t, path, "bob"); alice != rules.Require || bob != rules.Deny {
		t.Errorf("after a good one: alice %s, bob %s", alice, bob)
	}
	// What cannot be written hinders nobody.
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	reload(denyAlice, "reload")
	if !strings.Contains(s.log.String(), "event=breakglass_policy") {
		t.Errorf("the log does not say that the rules were not written:\n%s", s.log)
	}
}

// What codes were used for while authd was away is told once, whatever fails on the
// way; what authd itself asked for stands in its own events.
func TestUsesAreReportedOnce(t *testing.T) {
	dir := t.TempDir()
	store := breakglass.Open(filepath.Join(dir, "store"))
	codes, err := store.Generate(t.Context(), breakglass.Request{
		Users: []breakglass.Account{{Name: "root"}}, Services: []string{"sshd"}, Count: 3, Owners: breakglass.NoOwners,
	}, time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var told []agentapi.HostEvent
	var full error
	report := func() *glassReport {
		return &glassReport{store: store, path: filepath.Join(dir, "reported"), log: slog.New(slog.DiscardHandler), append: func(body []byte, class spool.Class) error {
			var e agentapi.HostEvent
			if err := json.Unmarshal(body, &e); err != nil || class != spool.Durable {
				t.Errorf("%v, class %d", err, class)
			}
			if full == nil {
				told = append(told, e)
			}
			return full
		}}
	}
	want := func(what string, n int) {
		t.Helper()
		if len(told) != n {
			t.Errorf("%s: %d events are told, want %d", what, len(told), n)
		}
	}
	use := func(i int, via string) {
		t.Helper()
		u := breakglass.Use{User: "root", Service: "sshd", At: time.Now(), Via: via, Source: "192.0.2.7"}
		if err := store.Redeem(t.Context(), codes[i], u); err != nil {
			t.Fatal(err)
		}
	}
	r := report()
	r.run()
	want("nothing used", 0)
	use(0, breakglass.ViaModule)
	use(1, breakglass.ViaAuthd)
	full = errors.New("full")
	r.run()
	want("the spool is full", 0)
	full = nil
	r.run()
	r.run()
	want("one use while authd was away", 1)
	if e := told[0]; e.Reason != "breakglass" || e.User != "root" || e.Source != "192.0.2.7" || e.ID != "bg-"+codes[0].ID() || e.Result != "allow" {
		t.Errorf("told %+v", e)
	}
	report().run()
	want("after a restart", 1)
	use(2, breakglass.ViaModule)
	report().run()
	want("another use", 2)
}

func TestPolicyOfAConfiguration(t *testing.T) {
	s := newSite(t, "[services.default]\nfirst_factor = \"stack\"\n[services.sudo-many]\nperson = \"invoking\"\n[services.sshd-password]\nfirst_factor = \"stack\"\n")
	cfg, err := config.Load(filepath.Join(s.dir, "authd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p := policyOf(cfg, time.Now())
	for name, want := range map[string]breakglass.ServicePolicy{
		"sshd":          {Person: "user", FirstFactor: "ssh", FirstFactorSSH: "ssh"},
		"sshd-password": {Person: "user", FirstFactor: "stack", FirstFactorSSH: "stack"},
		"sudo-many":     {Person: "invoking", FirstFactor: "stack", FirstFactorSSH: "ssh"},
		"su":            {Person: "caller", FirstFactor: "stack", FirstFactorSSH: "ssh"},
		"anything":      {Person: "user", FirstFactor: "stack", FirstFactorSSH: "ssh"},
	} {
		if got := p.Service(name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	// Without configuration both sides know the same.
	bare := newSite(t, "")
	if cfg, err = config.Load(filepath.Join(bare.dir, "authd.toml")); err != nil {
		t.Fatal(err)
	}
	p = policyOf(cfg, time.Now())
	for _, name := range append([]string{"login"}, breakglass.BuiltinServices...) {
		if got, want := p.Service(name), (*breakglass.Policy)(nil).Service(name); got != want {
			t.Errorf("%s: %+v by authd, %+v without it", name, got, want)
		}
	}
}
