// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

const profileEnv = "SALLYPORT_PROFILE"

// admin is a session with the Admin API.
type admin struct {
	*app
	profilePath string
	client      *duoapi.Client
}

func (a *app) adminCommand() *cobra.Command {
	s := &admin{app: a}
	c := &cobra.Command{
		Use:   "admin",
		Short: "Administer a verifier through its Admin API",
		Long: `Administer a verifier through its Admin API.

The profile is the admin.json that "sallyport-verifier init" wrote: a JSON object
with integration_key, secret_key, api_hostname and ca_file (a relative ca_file is
beside the profile). It is given by --profile or ` + profileEnv + `.`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return s.open() },
	}
	c.PersistentFlags().StringVar(&s.profilePath, "profile", "", "admin.json of the verifier (default $"+profileEnv+")")
	if err := c.MarkPersistentFlagFilename("profile", "json"); err != nil {
		panic(err) // the flag is defined above
	}
	a.jsonFlag(c)
	c.AddCommand(
		s.userCommand(), s.groupCommand(), s.phoneCommand(), s.tokenCommand(), s.webauthnCommand(), s.bypassCodesCommand(), s.sshKeyCommand(),
		s.integrationCommand(), s.managementCommand(), s.hostCommand(), s.sessionCommand(), s.policyCommand(), s.settingsCommand(),
		s.adminCommand(), s.endpointCommand(), s.registeredDeviceCommand(), s.passportCommand(), s.logoCommand(), s.telephonyCommand(), s.logCommand(),
	)
	return c
}

// profileFile is the profile that was named.
func (s *admin) profileFile() string {
	if s.profilePath != "" {
		return s.profilePath
	}
	return s.env(profileEnv)
}

func (s *admin) open() error {
	path := s.profileFile()
	if path == "" {
		return cli.Usagef("no profile given; pass --profile admin.json or set %s", profileEnv)
	}
	p, err := readProfile(path)
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.CAFile != "" {
		text, err := os.ReadFile(p.CAFile)
		if err != nil {
			return cli.WithHint(fmt.Errorf("read the verifier's CA: %w", err), "correct ca_file in "+path)
		}
		if config.RootCAs, err = invite.ParseCA(text); err != nil {
			return cli.WithHint(fmt.Errorf("read the verifier's CA %s: %w", p.CAFile, err), "correct ca_file in "+path)
		}
	}
	base, err := parseBase("https://" + p.APIHostname)
	if err != nil {
		return cli.WithHint(fmt.Errorf("profile %s: api_hostname: %w", path, err), "it is HOST or HOST:PORT")
	}
	s.client = &duoapi.Client{
		BaseURL: base, IntegrationKey: p.IntegrationKey, Secret: []byte(p.SecretKey),
		HTTP: agentapi.HTTPClient(config, 30*time.Second), UserAgent: "sallyport/" + version.String(), Now: s.Now,
		Nonce: duoapi.RandomNonce,
	}
	return nil
}

func readProfile(path string) (duoapi.Profile, error) {
	var p duoapi.Profile
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, cli.WithHint(fmt.Errorf("read profile: %w", err), "sallyport-verifier init writes one, recover-admin replaces a lost one")
	}
	if err != nil {
		return p, fmt.Errorf("read profile: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !isCredential(path) {
		return p, cli.WithHint(fmt.Errorf("profile %s holds a secret and its mode %04o lets others read it", path, mode), "chmod 600 "+path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read profile: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read profile %s: %w", path, err)
	}
	if p.IntegrationKey == "" || p.SecretKey == "" || p.APIHostname == "" {
		return p, fmt.Errorf("profile %s lacks one of integration_key, secret_key, api_hostname", path)
	}
	if p.CAFile != "" && !filepath.IsAbs(p.CAFile) {
		p.CAFile = filepath.Join(filepath.Dir(path), p.CAFile)
	}
	return p, nil
}

// isCredential says that systemd handed the file to this service. It lets nobody
// else read it, though the mask of its ACL may look like a right of the group.
func isCredential(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(path) == filepath.Clean(dir)
}

// call is one request to the Admin API; what says what it is for.
func (s *admin) call(ctx context.Context, what, method, path string, params url.Values, out any) error {
	_, err := s.client.Call(ctx, method, path, params, out)
	return s.explain(what, err)
}

func (s *admin) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	return explain(what, err, map[int]string{
		duoapi.CodeInvalidKey:       "the profile is of another verifier, or its integration was removed: sallyport-verifier recover-admin makes one",
		duoapi.CodeInvalidSignature: "the profile's secret_key is not the one that the verifier has: sallyport-verifier recover-admin makes one",
		duoapi.CodeBadDate:          "set this machine's clock",
		duoapi.CodeForbidden:        "use a profile whose integration is of type adminapi",
		duoapi.CodeGrant:            "use a profile whose integration has the grant",
		duoapi.CodeNetwork:          "call from a network that the integration accepts",
		duoapi.CodeNotFound:         "the matching list command shows what there is",
		duoapi.CodeConflict:         "choose another name, or change the one that exists",
	})
}

// explain makes an error of a call one line: what failed, why, and what to do
// about it by the code of the answer.
func explain(what string, err error, next map[int]string) error {
	var refused *duoapi.Error
	switch {
	case errors.As(err, &refused):
		err := fmt.Errorf("%s: the verifier refused: %w", what, refused)
		if hint := next[refused.Code]; hint != "" {
			return cli.WithHint(err, hint)
		}
		if refused.Code == duoapi.CodeTooManyRequests {
			return cli.WithHint(err, "try again in "+strconv.Itoa(max(refused.RetryAfter, 1))+" s")
		}
		return err
	case errors.Is(err, context.Canceled):
		return err
	case isCertificate(err):
		return cli.WithHint(fmt.Errorf("%s: %w", what, cause(err)), "the address must be the verifier's own, and the CA the one that signed its certificate")
	case errors.Is(err, duoapi.ErrTransport):
		return cli.WithHint(fmt.Errorf("%s: %w", what, cause(err)), "check that the verifier runs and that nothing blocks the way to it")
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification)
}

// cause drops the method, path and sentinel around what net/http says.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("no answer from %s: %w", hostOf(u.URL), u.Err)
	}
	return err
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the verifier"
	}
	return u.Host
}

// list reads all pages of a list.
func (s *admin) list(ctx context.Context, what, path string, params url.Values) ([]json.RawMessage, error) {
	query := url.Values{"limit": {"100"}}
	for k, v := range params {
		query[k] = v
	}
	out := []json.RawMessage{}
	for {
		var page []json.RawMessage
		meta, err := s.client.Call(ctx, http.MethodGet, path, query, &page)
		if err != nil {
			return nil, s.explain(what, err)
		}
		out = append(out, page...)
		if meta == nil || meta.NextOffset == nil {
			return out, nil
		}
		if len(page) == 0 {
			return nil, fmt.Errorf("%s: the verifier announces more but sends nothing", what)
		}
		query.Set("offset", strconv.Itoa(*meta.NextOffset))
	}
}

// present shows objects as the API sent them, or as a table.
func present[T any](s *app, objects []json.RawMessage, head []string, row func(T) []string) error {
	if s.json {
		return s.JSON(objects)
	}
	rows := make([][]string, 0, len(objects))
	for _, raw := range objects {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("read the verifier's answer: %w", err)
		}
		rows = append(rows, row(v))
	}
	return s.Table(head, rows)
}

// fields shows name and value pairs, one a line.
func (a *app) fields(pairs ...string) error {
	var rows [][]string
	for i := 2; i+1 < len(pairs); i += 2 {
		rows = append(rows, pairs[i:i+2])
	}
	return a.Table(pairs[:2], rows)
}

// unix shows a time of the API.
func unix(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).Format("2006-01-02 15:04:05Z07:00")
}

// flagged is a boolean of the API as a parameter.
func flagged(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func parseBase(s string) (*url.URL, error) {
	base, err := duoapi.ParseBase(s)
	if err != nil {
		return nil, fmt.Errorf("read address: %w", err)
	}
	return base, nil
}

// isRefusal says that the verifier answered: trying again changes nothing.
func isRefusal(err error) bool {
	var refused *duoapi.Error
	return errors.As(err, &refused) && refused.Code/100 != http.StatusTooManyRequests && refused.Code/100 < 500
}
