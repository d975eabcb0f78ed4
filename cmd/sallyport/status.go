// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/pam"
)

// hostStatus is what status prints with --json. An empty error means that all is well.
type hostStatus struct {
	HostID         string           `json:"host_id,omitempty"`
	IntegrationKey string           `json:"integration_key"`
	Authd          string           `json:"authd"` // up or down
	AuthdError     string           `json:"authd_error,omitempty"`
	Verifiers      []verifierStatus `json:"verifiers"` // as this command sees them
	// Report is what authd says of itself; who may not ask gets none, and why.
	Report      *status.Report `json:"report,omitempty"`
	ReportError string         `json:"report_error,omitempty"`
	// BreakGlass is how many codes are left; nil for who may not read them.
	BreakGlass *int `json:"breakglass_codes,omitempty"`
}

type verifierStatus struct {
	URL   string `json:"url"`
	State string `json:"state"` // up or down
	Error string `json:"error,omitempty"`
}

const (
	up   = "up"
	down = "down"
)

// startAuthd is what to do when nothing answers.
const startAuthd = `authd is not running; start it with "systemctl start sallyport-authd.socket", and see "journalctl -u sallyport-authd" if it does not stay`

func (a *app) statusCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "status", Short: "Say how authd and the verifier are, and which host this is", Args: args(),
		Long: `Say how authd and the verifier are, and which host this is: each verifier's health as
authd sees it and since when, the rules in force and whether the last reload
failed, logins that passed by fail mode open, events that the verifier does not
have yet. What authd says of itself is for root and the group sallyport-authd.
The exit code is 1 if authd or a verifier does not answer, or if a changed
configuration is not in force. "sallyport doctor" says why and what to do.`,
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := loadConfig(path)
			if err != nil {
				return err
			}
			s, err := a.examineStatus(c.Context(), conf, path)
			if err != nil {
				return err
			}
			return a.showStatus(s)
		},
	}
	c.Flags().StringVar(&path, "config", config.DefaultPath, "authd.toml")
	a.jsonFlag(c)
	return c
}

// statusTimeout bounds each question that status asks.
const statusTimeout = 5 * time.Second

func (a *app) examineStatus(ctx context.Context, conf *config.Config, path string) (hostStatus, error) {
	s := hostStatus{IntegrationKey: conf.Verifier.IntegrationKey, Authd: up}
	if err := pam.Probe(conf.SocketDir); err != nil {
		s.Authd, s.AuthdError = down, err.Error()
	}
	if id, err := hostID(hostKeyFile(path)); err == nil {
		s.HostID = id
	}
	asking, cancel := context.WithTimeout(ctx, statusTimeout)
	report, err := status.Fetch(asking, conf.SocketDir)
	cancel()
	switch {
	case err == nil:
		s.Report = &report
	case errors.Is(err, fs.ErrPermission):
		s.ReportError = "only root and the group sallyport-authd may ask"
	default:
		s.ReportError = err.Error()
	}
	if entries, err := breakglass.Open(breakglass.DefaultDir).List(); err == nil {
		left := 0
		for _, e := range entries {
			if e.State == breakglass.Unused {
				left++
			}
		}
		s.BreakGlass = &left
	}
	client, err := doctor.HTTP(conf)
	if err != nil {
		return s, err
	}
	for _, u := range conf.Verifier.Endpoints() {
		v := verifierStatus{URL: u.String(), State: up}
		ctx, cancel := context.WithTimeout(ctx, statusTimeout)
		if _, _, err := doctor.Ping(ctx, client, u); err != nil {
			v.State, v.Error = down, err.Error()
		}
		cancel()
		s.Verifiers = append(s.Verifiers, v)
	}
	return s, nil
}

// hostID is the id that derives from the host's key.
func hostID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read host key: %w", err)
	}
	key, err := keyproof.DecodePrivateKey(text)
	if err != nil {
		return "", fmt.Errorf("read host key %s: %w", path, err)
	}
	return keyproof.ID(agentapi.HostPrefix, &key.PublicKey)
}

func (a *app) showStatus(s hostStatus) error {
	if a.json {
		if err := a.JSON(s); err != nil {
			return err
		}
	} else if err := a.fields(s.rows()...); err != nil {
		return err
	}
	if s.Authd == down {
		a.Notef("%s\n", startAuthd)
	}
	if s.bad() {
		return cli.ErrReported
	}
	return nil
}

func (s hostStatus) bad() bool {
	bad := s.Authd == down
	for _, v := range s.Verifiers {
		bad = bad || v.State == down
	}
	if s.Report != nil {
		bad = bad || s.Report.Config.ReloadError != "" || s.Report.Events != nil && !s.Report.Events.Kept
		for _, v := range s.Report.Verifiers {
			bad = bad || !v.Up
		}
	}
	return bad
}

// rows is the table for people.
func (s hostStatus) rows() []string {
	rows := []string{"WHAT", "STATE", "Host", s.HostID, "Integration", s.IntegrationKey, "authd", withReason(s.Authd, s.AuthdError)}
	for _, v := range s.Verifiers {
		rows = append(rows, v.URL, withReason(v.State, v.Error))
	}
	if s.BreakGlass != nil {
		rows = append(rows, "Break-glass codes left", strconv.Itoa(*s.BreakGlass))
	}
	if s.Report == nil {
		return append(rows, "State of authd", withReason("not known", s.ReportError))
	}
	return append(rows, reportRows(*s.Report)...)
}

func reportRows(r status.Report) []string {
	rows := []string{"Version", r.Version + ", started " + moment(r.Started)}
	for _, v := range r.Verifiers {
		rows = append(rows, "authd to "+v.Address, verifierText(v))
	}
	rules := strconv.Itoa(r.Config.Rules) + ", read " + moment(r.Config.Loaded)
	if len(r.Config.RuleFiles) > 0 {
		rules += " from " + strings.Join(r.Config.RuleFiles, ", ")
	}
	rows = append(rows, "Rules", rules)
	if r.Config.ReloadError != "" {
		rows = append(rows, "Reload", "failed "+moment(r.Config.ReloadFailed)+", what was in force before still is: "+r.Config.ReloadError)
	}
	for _, l := range r.LDAP {
		state := up
		if !l.Up {
			state = withReason(down+since(l.Since), l.Error)
		}
		rows = append(rows, "LDAP "+l.Server, state)
	}
	rows = append(rows, "Passed by fail mode open", strconv.Itoa(r.FailOpen))
	if e := r.Events; e != nil {
		text := strconv.Itoa(e.Unreported)
		if !e.Oldest.IsZero() {
			text += ", the oldest of " + moment(e.Oldest)
		}
		if !e.Kept {
			text = "cannot be kept: see state_dir"
		}
		rows = append(rows, "Events to report", text)
	}
	for _, x := range r.Sockets {
		rows = append(rows, x.Name, fmt.Sprintf("%d of %d conversations, %d refused", x.Connections, x.Limit, x.Refused))
	}
	return append(rows, "Counts of failures kept", strconv.Itoa(r.Throttled))
}

func verifierText(v status.Verifier) string {
	state := up
	if !v.Up {
		state = down
	}
	state += since(v.Since)
	if v.First {
		state += ", asked first"
	}
	if v.LastContact.IsZero() {
		state += ", no contact yet"
	} else {
		state += ", last contact " + moment(v.LastContact)
	}
	return withReason(state, v.Error)
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + moment(t)
}

// moment shows a time as the tables of this command do.
func moment(t time.Time) string { return unix(t.Unix()) }

func withReason(state, err string) string {
	if err == "" {
		return state
	}
	return state + ": " + err
}
