// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/spool"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// policyRetry is how often authd tries again to write what it could not.
const policyRetry = time.Minute

// policyOf is what sallyport-breakglass has to know of a configuration.
func policyOf(c *config.Config, now time.Time) *breakglass.Policy {
	names := slices.Concat([]string{breakglass.DefaultService}, breakglass.BuiltinServices, slices.Collect(maps.Keys(c.Services)))
	services := map[string]breakglass.ServicePolicy{}
	for _, name := range names {
		s := c.Service(name, false)
		services[name] = breakglass.ServicePolicy{
			Person: string(s.Person), FirstFactor: string(s.FirstFactor), FirstFactorSSH: string(c.Service(name, true).FirstFactor),
		}
	}
	return breakglass.NewPolicy(services, c.RuleSet().Rules(), now)
}

// glassReport tells the verifier of codes that let somebody in while authd was
// away. It is for one goroutine.
type glassReport struct {
	store  *breakglass.Store
	path   string // of what was reported
	append func([]byte, spool.Class) error
	log    *slog.Logger
	done   map[string]bool // nil: not read yet
	failed bool            // and said so
}

// glassReporter reports what is new at each call; without a host key, which makes
// the verifier listen, it does nothing.
func (d *running) glassReporter() func() {
	if d.away == nil {
		return func() {}
	}
	r := &glassReport{
		store: breakglass.Open(breakglass.DefaultDir), path: filepath.Join(d.engine.Config().StateDir, "breakglass-reported.json"),
		append: d.away.events.Append, log: d.opt.Log,
	}
	return r.run
}

// run reports what is new. What fails is tried again with the next run. A crash
// between the report and its record reports once more, never less.
func (r *glassReport) run() {
	err := r.report()
	if err != nil && !r.failed {
		r.log.Error("the verifier has not been told of break-glass codes that were used", slog.String("event", "breakglass_unreported"), slog.Any("error", err))
	}
	r.failed = err != nil
}

func (r *glassReport) report() error {
	uses, err := r.store.Uses(time.Time{})
	if err != nil {
		return err
	}
	if r.done == nil {
		if r.done, err = readReported(r.path); err != nil {
			return err
		}
	}
	current := map[string]bool{}
	fresh := false
	for _, u := range uses {
		key := fmt.Sprintf("%s@%d", u.ID, u.At.Unix())
		if u.Via == breakglass.ViaModule && !r.done[key] {
			if err := r.tell(u); err != nil {
				return err
			}
			fresh = true
		}
		r.done[key], current[key] = true, true
	}
	if !fresh {
		return nil
	}
	r.done = current
	return writeReported(r.path, current)
}

func (r *glassReport) tell(u breakglass.Use) error {
	body, err := json.Marshal(agentapi.HostEvent{
		Time: u.At.UnixMilli(), ID: "bg-" + u.ID, Hook: frames.HookAuthenticate.String(), Service: u.Service, User: u.User,
		Result: frames.OutcomeAllow.String(), Reason: "breakglass", Factor: agentapi.FactorBreakGlass, Source: u.Source, TTY: u.TTY,
	})
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	return r.append(body, spool.Durable)
}

func readReported(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]bool{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what was reported of break-glass: %w", err)
	}
	var keys []string
	if json.Unmarshal(data, &keys) != nil {
		keys = nil // damaged: to tell twice is better than never
	}
	done := map[string]bool{}
	for _, k := range keys {
		done[k] = true
	}
	return done, nil
}

func writeReported(path string, done map[string]bool) error {
	data, err := json.Marshal(slices.Sorted(maps.Keys(done)))
	if err == nil {
		err = durable.Replace(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down what was reported of break-glass: %w", err)
	}
	return nil
}

// keepPolicy writes the copy of the rules that stands while authd is away, before
// they take force here. Where that fails, the copy before stays, authd goes on and
// tries again: a full disk is no reason to let nobody in.
func (d *running) keepPolicy(c *config.Config) {
	d.policy, d.policyPath = policyOf(c, d.opt.Now()), filepath.Join(c.StateDir, breakglass.PolicyFile)
	if err := d.writePolicy(); err != nil {
		d.opt.Log.Error("the rules were not written down for break-glass: while authd is away, those before them count",
			slog.String("event", "breakglass_policy"), slog.String("setting", "state_dir"), slog.Any("error", err))
	}
}

func (d *running) writePolicy() error {
	if d.policy == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(d.policyPath), 0o710); err != nil {
		return fmt.Errorf("make state_dir: %w", err)
	}
	if err := d.policy.Write(d.policyPath); err != nil {
		return err
	}
	d.policy = nil
	return nil
}
