// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at what the logins of a host go through: module, PAM
// stacks, sockets, verifier, LDAP and sshd, and says what is wrong and what to do
// about it. It changes nothing and asks for no one's second factor.
package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

// Module is the file name of the PAM module.
const Module = "pam_sallyport.so"

// Ceiling is how long the module waits for authd in one login, by default. sshd
// must give a login longer than that.
const Ceiling = 90 * time.Second

// Status is how bad a finding is.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, but weaker or more fragile than it should be
	Fail Status = "fail" // logins fail, or the second factor can be got round
)

// Finding is one thing that was looked at.
type Finding struct {
	Area    string `json:"area"`    // module, config, pam, sudo, sockets, verifier, ldap, gateway, sshd
	Subject string `json:"subject"` // what was looked at
	Status  Status `json:"status"`
	Message string `json:"message"`       // what is the case and what it means
	Fix     string `json:"fix,omitempty"` // what to do about it
}

// Host says where to look.
type Host struct {
	Root   string // prefix of all files but the configuration's own; "" for this machine
	Config string // authd.toml
	UID    uint32 // whom module and sockets must belong to: 0

	Users     []string     // for sshd; none: root and SUDO_USER
	Addresses []netip.Addr // for sshd; none: a remote one and 127.0.0.1

	SSHD       string                                                                // path of sshd
	SSHDConfig string                                                                // its configuration; "": its own default
	Run        func(ctx context.Context, name string, arg ...string) ([]byte, error) // runs a command, both outputs
	Load       func(path string) error                                               // opens a shared object as libpam does
	Probe      func(socketDir string) error                                          // asks authd something that decides nothing
	HTTP       func(*config.Config) (*http.Client, error)                            // client that trusts the verifier's CA
	Now        func() time.Time
}

func (h *Host) path(elem ...string) string {
	return filepath.Join(append([]string{h.Root}, elem...)...)
}

// report collects findings of one area.
type report struct {
	area     string
	findings []Finding
}

func (r *report) add(status Status, subject, message, fix string) {
	r.findings = append(r.findings, Finding{r.area, subject, status, message, fix})
}

func (r *report) ok(subject, message string)        { r.add(OK, subject, message, "") }
func (r *report) warn(subject, message, fix string) { r.add(Warn, subject, message, fix) }
func (r *report) fail(subject, message, fix string) { r.add(Fail, subject, message, fix) }

// Examine looks at everything. What cannot be looked at is a finding, not an error.
func (h *Host) Examine(ctx context.Context) []Finding {
	c, findings := h.examineConfig()
	findings = append(findings, h.examineModule()...)
	findings = append(findings, h.examinePAM(c)...)
	findings = append(findings, h.examineSudo(ctx, c)...)
	findings = append(findings, h.examineSockets(c)...)
	findings = append(findings, h.examineVerifier(ctx, c)...)
	findings = append(findings, h.examineDirectory(ctx, c)...)
	findings = append(findings, h.examineGateway(c)...)
	return append(findings, h.examineSSHD(ctx, c)...)
}

// ExamineFoundations looks at what every login rests on, whatever stacks there
// are: configuration, module, sockets and verifier.
func (h *Host) ExamineFoundations(ctx context.Context) []Finding {
	c, findings := h.examineConfig()
	findings = append(findings, h.examineModule()...)
	findings = append(findings, h.examineSockets(c)...)
	return append(findings, h.examineVerifier(ctx, c)...)
}

// examineConfig returns nil for a configuration that cannot be used.
func (h *Host) examineConfig() (*config.Config, []Finding) {
	r := &report{area: "config"}
	c, err := config.Load(h.Config)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			r.warn(h.Config, err.Error(), "run as root")
		} else {
			r.fail(h.Config, err.Error(), "correct it, or join a verifier: sallyport host join")
		}
		if c, err = config.LoadWithoutSecret(h.Config); err != nil {
			return nil, r.findings
		}
	} else {
		r.ok(h.Config, "it is valid")
	}
	for _, w := range c.Warnings() {
		r.warn(h.Config, w, "change the setting if that is not meant")
	}
	for _, w := range c.RuleWarnings(h.Now()) {
		r.warn("rules", w, "change the rule if that is not meant")
	}
	h.examineMappings(r, c)
	return c, r.findings
}

// Count says how many findings have a status.
func Count(findings []Finding, s Status) int {
	n := 0
	for _, f := range findings {
		if f.Status == s {
			n++
		}
	}
	return n
}
