// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

const (
	verifierData = "/var/lib/sallyport/verifier"
	adminProfile = verifierData + "/admin.json"
	verifierURL  = "https://verifier:8443"

	// webhookSecret is shared by the verifier and the telephone company.
	webhookSecret = "whsec_dGhlIHRlc3RzJyBvd24sIG9mIG5vIHVzZSBlbHNld2hlcmU="
	providerLog   = "/var/log/requests.jsonl"
	providerCA    = "/etc/provider-ca.pem"

	// verifierCA is where machines that are no joined host keep the verifier's CA.
	verifierCA = "/etc/verifier-ca.pem"

	// syslog takes what sshd, sudo and the PAM module tell the system's log.
	syslog = "/var/log/messages"

	telephonyConfig = `
[telephony]
url = "https://provider:8443/hook"
secret_file = "webhook-secret"
ca_file = "provider-ca.pem"
`
)

// site is an organisation: one verifier, one host that people log in to, the
// machine they come from and another one, their phones, and the telephone
// company.
type site struct {
	lab *harness.Lab
	url string

	verifier, host, client, elsewhere, phones, provider, proxy *harness.Container
	plan                                                       plan

	mu     sync.Mutex
	people map[string]int
}

// machines that a site consists of, with the programs that each one carries.
func (s *site) machines() map[**harness.Container]machine {
	return map[**harness.Container]machine{
		&s.verifier:  {name: "verifier", programs: []string{"sallyport", "sallyport-verifier"}, options: harness.Options{Hostname: "backend", Aliases: s.plan.aliases}},
		&s.host:      {name: "host", programs: []string{"sallyport", "sallyport-authd", "pam_sallyport.so", "drv"}, options: s.plan.host},
		&s.client:    {name: "client", programs: []string{"drv"}},
		&s.elsewhere: {name: "elsewhere"},
		&s.phones:    {name: "phones", programs: []string{"sallyport"}},
		&s.provider:  {name: "provider", programs: []string{"drv"}},
		&s.proxy:     {name: "proxy", programs: []string{"drv"}},
	}
}

// plan says how a site differs from a plain one.
type plan struct {
	host    harness.Options
	url     string   // of the verifier; [verifierURL] where empty
	aliases []string // further names of the verifier's machine
	config  string   // what verifier.toml says beside what init wrote
}

type machine struct {
	name     string
	programs []string
	options  harness.Options
}

// newSite founds a site: the verifier is initialised, the host joined, and all
// daemons run.
func newSite(ctx context.Context) (*site, error) {
	return newSiteWith(ctx, harness.Options{})
}

// newSiteWith is [newSite] with a host that differs from a plain container.
func newSiteWith(ctx context.Context, host harness.Options) (*site, error) {
	return newSiteOf(ctx, plan{host: host})
}

// newSiteOf is [newSite] after a plan.
func newSiteOf(ctx context.Context, p plan) (_ *site, err error) {
	lab, err := harness.NewLab(ctx, bench.image)
	if err != nil {
		return nil, err
	}
	s := &site{lab: lab, url: cmp.Or(p.url, verifierURL), plan: p, people: map[string]int{}}
	defer func() {
		if err != nil {
			_ = lab.Close()
		}
	}()
	if err := s.startMachines(ctx); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"start the telephone company", s.startProvider},
		{"start the verifier", s.startVerifier},
		{"hand out the verifier's CA", s.handOutCA},
		{"join the host", s.joinHost},
		{"shorten the verifier's delays", s.hurry},
		{"set up PAM, sudo and sshd", s.setUpHost},
		{"start the system log", s.startSyslog},
		{"start authd", s.startAuthd},
		{"start sshd", s.startSSHD},
	} {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s, nil
}

func (s *site) close() error { return s.lab.Close() }

func (s *site) startMachines(ctx context.Context) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for field, m := range s.machines() {
		group.Go(func() {
			c, err := s.lab.Start(ctx, m.name, m.options)
			if err == nil {
				err = install(ctx, c, m.programs)
			}
			mu.Lock()
			defer mu.Unlock()
			*field, errs = c, append(errs, err)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// install puts programs where the packages would.
func install(ctx context.Context, c *harness.Container, programs []string) error {
	var files []harness.File
	for _, name := range programs {
		local, target := filepath.Join(bench.bin, name), "/usr/bin/"+name
		switch name {
		case "drv":
			local = bench.drv
		case "pam_sallyport.so":
			folder, err := c.Shell(ctx, "dirname /usr/lib/*/security/pam_unix.so /lib/*/security/pam_unix.so | head -n 1")
			if err != nil {
				return fmt.Errorf("find the folder of PAM modules: %w", err)
			}
			target = filepath.Join(strings.TrimSpace(folder), name)
		case "sallyport-authd", "sallyport-breakglass", "sallyport-verifier", "sallyport-sshgw", "sallyport-sshgw-pam":
			target = "/usr/sbin/" + name
		}
		file, err := harness.LocalFile(local, target, 0o755)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	return c.Put(ctx, files...)
}

func (s *site) startVerifier(ctx context.Context) error {
	if _, err := s.verifier.Must(ctx, "mkdir", "-p", filepath.Dir(verifierData), outbox); err != nil {
		return err
	}
	if _, err := s.verifier.Must(ctx, "sallyport-verifier", "init", "--data", verifierData, "--url", s.url); err != nil {
		return err
	}
	ca, err := s.provider.Read(ctx, providerCA)
	if err != nil {
		return err
	}
	err = s.verifier.Put(ctx,
		harness.File{Path: verifierData + "/provider-ca.pem", Mode: 0o644, Data: []byte(ca)},
		harness.File{Path: verifierData + "/webhook-secret", Mode: 0o600, Data: []byte(webhookSecret + "\n")})
	if err != nil {
		return err
	}
	if _, err := s.verifier.Shell(ctx, "cat >>"+verifierData+"/verifier.toml <<'END'\n"+telephonyConfig+s.plan.config+"END\n"); err != nil {
		return err
	}
	return s.runVerifier(ctx)
}

// hurry takes the verifier's delays after failures away, as the hosts' are shortened.
func (s *site) hurry(ctx context.Context) error {
	return s.adminErr(ctx, nil, "settings", "set", "attempt_delay=0")
}

// runVerifier starts the verifier's process and waits until it serves.
func (s *site) runVerifier(ctx context.Context) error {
	serve := harness.Command{Args: []string{"sallyport-verifier", "serve", "--data", verifierData}}
	if err := s.verifier.Daemon(ctx, "verifier", serve); err != nil {
		return err
	}
	return s.verifier.AwaitPort(ctx, "8443")
}

func (s *site) startProvider(ctx context.Context) error {
	company := harness.Command{Args: []string{"drv", "provider", "-secret", webhookSecret, "-log", providerLog,
		"-name", "provider", "-ca", providerCA}}
	if err := s.provider.Daemon(ctx, "provider", company); err != nil {
		return err
	}
	return s.provider.AwaitPort(ctx, "8443")
}

func (s *site) handOutCA(ctx context.Context) error {
	ca, err := s.verifier.Read(ctx, verifierData+"/ca.pem")
	if err != nil {
		return err
	}
	file := harness.File{Path: verifierCA, Mode: 0o644, Data: []byte(ca)}
	return errors.Join(s.client.Put(ctx, file), s.provider.Put(ctx, file), s.proxy.Put(ctx, file))
}

func (s *site) joinHost(ctx context.Context) error {
	var token struct{ Token string }
	if err := s.adminErr(ctx, &token, "host", "token"); err != nil {
		return err
	}
	_, err := s.host.Must(ctx, "sallyport", "host", "join", s.url, "--token", token.Token)
	return err
}

func (s *site) setUpHost(ctx context.Context) error {
	if err := s.host.Put(ctx, files(hostFiles)...); err != nil {
		return err
	}
	_, err := s.host.Shell(ctx, hostSetUp)
	return err
}

func files(texts map[string]string) []harness.File {
	var list []harness.File
	for path, text := range texts {
		list = append(list, harness.File{Path: path, Mode: 0o644, Data: []byte(text)})
	}
	return list
}

func (s *site) startSyslog(ctx context.Context) error {
	if err := s.host.Daemon(ctx, "syslog", harness.Command{Args: []string{"drv", "syslog", "-log", syslog}}); err != nil {
		return err
	}
	return s.host.AwaitFile(ctx, "/dev/log")
}

// startAuthd starts authd's process and waits for its socket.
func (s *site) startAuthd(ctx context.Context) error {
	run := harness.Command{Args: []string{"sallyport-authd", "--log", "json", "--config", "/etc/sallyport/authd.toml"}}
	if err := s.host.Daemon(ctx, "authd", run); err != nil {
		return err
	}
	return s.host.AwaitFile(ctx, "/run/sallyport/authd.sock")
}

func (s *site) startSSHD(ctx context.Context) error {
	for _, d := range sshds {
		args := []string{"/usr/local/sbin/" + d.service, "-D", "-e", "-f", "/etc/ssh/" + d.config, "-p", d.port}
		if err := s.host.Daemon(ctx, d.config, harness.Command{Args: args}); err != nil {
			return err
		}
		if err := s.host.AwaitPort(ctx, d.port); err != nil {
			return err
		}
	}
	return s.knowHost(ctx)
}

// knowHost tells those who log in the host's keys.
func (s *site) knowHost(ctx context.Context) error {
	keys, err := s.host.Shell(ctx, "cut -d' ' -f1,2 /etc/ssh/ssh_host_*_key.pub")
	if err != nil {
		return err
	}
	var known strings.Builder
	for key := range strings.Lines(keys) {
		fmt.Fprintf(&known, "%[1]s,[%[1]s]:* %[2]s", s.host.Name, key)
	}
	add := "cat >>/etc/ssh/ssh_known_hosts <<'END'\n" + known.String() + "END\n"
	_, errClient := s.client.Shell(ctx, add)
	_, errElsewhere := s.elsewhere.Shell(ctx, add)
	return errors.Join(errClient, errElsewhere)
}

// adminErr runs an administrator's command and decodes what it prints.
func (s *site) adminErr(ctx context.Context, out any, args ...string) error {
	args = append([]string{"sallyport", "admin", "--profile", adminProfile}, append(args, "--json")...)
	text, err := s.verifier.Must(ctx, args...)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		return fmt.Errorf("%s printed %q: %w", strings.Join(args, " "), text, err)
	}
	return nil
}

// admin is [site.adminErr] for a test that cannot go on without it.
func (s *site) admin(t *testing.T, out any, args ...string) {
	t.Helper()
	if err := s.adminErr(t.Context(), out, args...); err != nil {
		t.Fatal(err)
	}
}

// eventually repeats a check until it passes. How long it may take only tells a
// hang from a slow machine.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if check() {
			return
		}
	}
	t.Fatalf("%s: did not happen", what)
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keepLogs prints the daemons' logs where a test has failed.
func (s *site) keepLogs(t *testing.T) {
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("SALLYPORT_TEST_LOGS") == "" {
			return
		}
		for name, c := range map[string]*harness.Container{"authd": s.host, "verifier": s.verifier} {
			if text, err := c.Log(context.Background(), name); err == nil {
				t.Logf("log of %s:\n%s", name, text)
			}
		}
	})
}
