// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

// Parse is Load for a text, without the files that it names; path stands in errors.
func Parse(path, text string) (*Config, error) {
	c := defaults()
	c.Path, c.text = path, text
	if err := hinted(tomlfile.Decode(path, text, c)); err != nil {
		return nil, err
	}
	c.complete()
	policy.Locate(c.Rule, path, text)
	var found faults
	c.checkPaths(&found)
	c.checkLimits(&found)
	c.checkTimeouts(&found)
	c.checkFirst(&found)
	c.checkRecord(&found)
	c.checkTargets(&found)
	c.checkDoors(&found)
	c.checkBatches(&found)
	var errs []error
	for _, f := range found {
		errs = append(errs, fmt.Errorf("%s: %w", c.place(c.line(f.key...)), f.err))
	}
	var err error
	if c.rules, err = policy.Compile(c.Rule); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.First.CAs, c.Targets.HostCAs, c.Targets.Credentials = c.UserCAs, c.HostCAs, c.Credentials
	return c, nil
}

// complete fills in what follows from other settings.
func (c *Config) complete() {
	if c.Name == "" {
		c.Name = hostName()
	}
	if c.Record.Dir == "" {
		c.Record.Dir = filepath.Join(c.StateDir, "recordings")
	}
	if c.Keys.Dir == "" {
		c.Keys.Dir = filepath.Join(c.StateDir, "keys")
	}
	for i := range c.Doors {
		if c.Doors[i].Action == "" {
			c.Doors[i].Action = DoorAsk
		}
	}
	for i := range c.Credentials {
		if c.Credentials[i].Kind == "" {
			c.Credentials[i].Kind = CredentialCertificate
		}
	}
}

// hostName is the machine's name, if people can type it.
func hostName() string {
	if name, err := os.Hostname(); err == nil {
		if name, ok := inventory.Canonical(name); ok {
			return name
		}
	}
	return "gateway"
}

// hinted adds what to write instead to errors about unknown keys.
func hinted(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		for wrong, right := range map[string]string{"rules": "[[rule]]", "doors": "[[door]]", "batches": "[[batch]]", "target": "[[target]] in a file of targets.files", "pattern": "[[pattern]] in a file of targets.files"} {
			if strings.HasSuffix(line, "unknown key "+wrong) {
				lines[i] += "; write " + right
			}
		}
	}
	if hinted := strings.Join(lines, "\n"); hinted != err.Error() {
		return errors.New(hinted)
	}
	return err
}

// fault is a setting that is wrong.
type fault struct {
	key []string // where it stands; [[table]] number n is "table", "#n", then the key
	err error
}

type faults []fault

func (f *faults) add(key []string, format string, args ...any) {
	*f = append(*f, fault{key, fmt.Errorf(format, args...)})
}

func (c *Config) place(line int) string { return fmt.Sprintf("%s:%d", c.Path, line) }

// line is where a setting stands, 1 where it does not.
func (c *Config) line(key ...string) int {
	if len(key) < 2 || !strings.HasPrefix(key[1], "#") {
		return tomlfile.Line(c.text, key)
	}
	n, err := strconv.Atoi(key[1][1:])
	if err != nil {
		return 1
	}
	header := regexp.MustCompile(`^\s*\[\[\s*` + regexp.QuoteMeta(key[0]) + `\s*\]\]`)
	at := 0
	for i, line := range strings.Split(c.text, "\n") {
		if header.MatchString(line) {
			if n--; n < 0 {
				at = i + 1
				break
			}
		}
	}
	if at == 0 || len(key) < 3 {
		return max(at, 1)
	}
	setting := regexp.MustCompile(`^\s*` + regexp.QuoteMeta(key[2]) + `\s*=`)
	for i, line := range strings.Split(c.text, "\n")[at:] {
		if strings.HasPrefix(strings.TrimSpace(line), "[") {
			break
		}
		if setting.MatchString(line) {
			return at + 1 + i
		}
	}
	return at
}

func nth(table string, i int, key string) []string { return []string{table, fmt.Sprint("#", i), key} }

func (c *Config) checkPaths(f *faults) {
	for _, p := range []struct {
		key   []string
		value string
	}{{[]string{"state_dir"}, c.StateDir}, {[]string{"socket_dir"}, c.SocketDir}, {[]string{"record", "dir"}, c.Record.Dir}, {[]string{"keys", "dir"}, c.Keys.Dir}} {
		if !filepath.IsAbs(p.value) {
			f.add(p.key, "%s %q is not an absolute path", strings.Join(p.key, "."), p.value)
		}
	}
	// sun_path holds 108 bytes with its NUL.
	if len(c.SocketDir)+len("/sshgw-control.sock") > 107 {
		f.add([]string{"socket_dir"}, "socket_dir is too long for a socket address: %d bytes, at most 88", len(c.SocketDir))
	}
	if _, _, ok := inventory.Host(c.Name); !ok {
		f.add([]string{"name"}, "name %q is no name of a host, and no address", c.Name)
	}
	if len(c.Contact) > 200 || strings.ContainsFunc(c.Contact, match.IsControl) {
		f.add([]string{"contact"}, "contact is one line of at most 200 bytes")
	}
	if len(c.Listen) == 0 {
		f.add([]string{"listen"}, "listen is empty: nobody could connect")
	}
	for _, l := range c.Listen {
		if err := checkListen(l); err != nil {
			f.add([]string{"listen"}, "listen: %w", err)
		}
	}
	if c.Metrics != "" {
		host, _, _ := net.SplitHostPort(c.Metrics)
		addr, err := netip.ParseAddr(host)
		switch bad := checkListen(c.Metrics); {
		case bad != nil:
			f.add([]string{"metrics"}, "metrics: %w", bad)
		case host != "localhost" && (err != nil || !addr.IsLoopback()):
			f.add([]string{"metrics"}, "metrics: %q is no loopback address, and nobody would be asked who they are", c.Metrics)
		}
	}
}

// checkListen reads an address to listen at; names of hosts are not looked up for that.
func checkListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not of the form address:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !strings.HasPrefix(host, "127.") && host != "::1" {
		return fmt.Errorf("%q: %q is no port", s, port)
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("%q: %q is no address; leave it out for all of them", s, host)
	}
	return nil
}

func (c *Config) checkLimits(f *faults) {
	l := &c.Limits
	for _, n := range []struct {
		name        string
		value, most int
	}{
		{"connections", l.Connections, 1 << 20}, {"unauthenticated", l.Unauthenticated, 1 << 20}, {"unauthenticated_from", l.UnauthenticatedFrom, 1 << 20},
		{"connections_from", l.ConnectionsFrom, 1 << 20}, {"connections_user", l.ConnectionsUser, 1 << 20},
		{"channels", l.Channels, 10_000}, {"auth_tries", l.AuthTries, 100},
	} {
		if n.value < 1 || n.value > n.most {
			f.add([]string{"limits", n.name}, "limits.%s is %d; it may be 1 to %d", n.name, n.value, n.most)
		}
	}
	c.durations(f, "limits", []duration{{"penalty", l.Penalty, 0, time.Hour}, {"penalty_min", l.PenaltyMin, 0, 24 * time.Hour}, {"penalty_max", l.PenaltyMax, 0, 24 * time.Hour}})
	if l.PenaltyMax < l.Penalty {
		f.add([]string{"limits", "penalty_max"}, "limits.penalty_max is below penalty")
	}
	for _, s := range l.PenaltyExempt {
		p, err := match.ParseNetwork(s)
		if err != nil {
			f.add([]string{"limits", "penalty_exempt"}, "limits.penalty_exempt: %w", err)
		}
		l.exempt = append(l.exempt, p)
	}
}

type duration struct {
	name             string
	value, least, to time.Duration
}

func (c *Config) durations(f *faults, table string, list []duration) {
	for _, d := range list {
		switch {
		case d.value > 0 && d.value < time.Microsecond:
			// A bare number is nanoseconds to the library, and to nobody else.
			f.add([]string{table, d.name}, "%s.%s has no unit; write \"%ds\" for seconds", table, d.name, int64(d.value))
		case d.value < d.least || d.value > d.to:
			f.add([]string{table, d.name}, "%s.%s is %s; it may be %s to %s", table, d.name, d.value, d.least, d.to)
		}
	}
}

func (c *Config) checkTimeouts(f *faults) {
	t := &c.Timeouts
	const day = 24 * time.Hour
	c.durations(f, "timeouts", []duration{
		{"first_factor", t.FirstFactor, time.Second, time.Hour},
		{"handshake", t.Handshake, time.Second, time.Hour},
		{"keepalive", t.KeepAlive, time.Second, time.Hour},
		{"dial", t.Dial, 100 * time.Millisecond, 5 * time.Minute},
		{"target", t.Target, 100 * time.Millisecond, 10 * time.Minute},
		{"drain", t.Drain, 0, 7 * day},
		{"banner", t.Banner, 100 * time.Millisecond, time.Minute},
	})
	for _, d := range []duration{{"idle", t.Idle, time.Second, 365 * day}, {"session", t.Session, time.Second, 365 * day}} {
		if d.value != 0 {
			c.durations(f, "timeouts", []duration{d})
		}
	}
	if t.KeepAliveCount < 1 || t.KeepAliveCount > 100 {
		f.add([]string{"timeouts", "keepalive_count"}, "timeouts.keepalive_count is %d; it may be 1 to 100", t.KeepAliveCount)
	}
}

func (c *Config) checkFirst(f *faults) {
	for _, p := range c.First.AuthorizedKeys {
		if err := checkUserFile(p, true); err != nil {
			f.add([]string{"first_factor", "authorized_keys"}, "first_factor.authorized_keys: %w", err)
		}
	}
	if n := c.First.MinRSABits; n < 1024 || n > 16384 {
		f.add([]string{"first_factor", "min_rsa_bits"}, "first_factor.min_rsa_bits is %d; it may be 1024 to 16384", n)
	}
	if p := c.First.RevokedKeys; p != "" && !filepath.IsAbs(p) {
		f.add([]string{"first_factor", "revoked_keys"}, "first_factor.revoked_keys %q is not an absolute path", p)
	}
	if a := c.First.Accounts; a != AccountsNSS && a != AccountsAny {
		f.add([]string{"first_factor", "accounts"}, `first_factor.accounts %q is none of "nss", "any"`, a)
	}
	if len(c.First.AuthorizedKeys) == 0 && !c.First.VerifierKeys && !c.First.Password && len(c.UserCAs) == 0 {
		f.add([]string{"first_factor"}, "first_factor: there is none, and nobody could log in")
	}
	names := map[string]bool{}
	for i, ca := range c.UserCAs {
		checkName(f, "user_ca", i, ca.Name, names)
		if !filepath.IsAbs(ca.KeysFile) {
			f.add(nth("user_ca", i, "keys_file"), "user_ca %q: keys_file %q is not an absolute path", ca.Name, ca.KeysFile)
		}
		if ca.RevokedKeys != "" && !filepath.IsAbs(ca.RevokedKeys) {
			f.add(nth("user_ca", i, "revoked_keys"), "user_ca %q: revoked_keys %q is not an absolute path", ca.Name, ca.RevokedKeys)
		}
		if ca.PrincipalsFile != "" {
			if err := checkUserFile(ca.PrincipalsFile, true); err != nil {
				f.add(nth("user_ca", i, "principals_file"), "user_ca %q: principals_file: %w", ca.Name, err)
			}
		}
	}
}

// checkUserFile checks a pattern of files, one of a user.
func checkUserFile(p string, each bool) error {
	if !filepath.IsAbs(p) {
		return fmt.Errorf("%q is not an absolute path", p)
	}
	rest := strings.NewReplacer("%%", "", "%u", "").Replace(p)
	if strings.Contains(rest, "%") {
		return fmt.Errorf("%q: %%u is the user's name, %%%% a percent sign", p)
	}
	if each && !strings.Contains(strings.ReplaceAll(p, "%%", ""), "%u") {
		return fmt.Errorf("%q does not say %%u: what stands there would hold for every user", p)
	}
	return nil
}

// checkName checks the name of a table of which there are several. authd is told names, and
// refuses a question with one that does not print.
func checkName(f *faults, table string, i int, name string, seen map[string]bool) {
	switch {
	case strings.TrimSpace(name) == "" || len(name) > policy.MaxName || !match.Prints(name):
		f.add(nth(table, i, "name"), "[[%s]]: name is missing, or not one line of at most %d bytes that print", table, policy.MaxName)
	case seen[name]:
		f.add(nth(table, i, "name"), "[[%s]]: name %q is there twice", table, name)
	}
	seen[name] = true
}

func (c *Config) checkRecord(f *faults) {
	if c.Record.KeepDays < 0 || c.Record.KeepDays > 36500 {
		f.add([]string{"record", "keep_days"}, "record.keep_days is %d; it may be 0 (for ever) to 36500", c.Record.KeepDays)
	}
	c.durations(f, "record", []duration{
		{"sync", c.Record.Sync, 10 * time.Millisecond, time.Minute},
		{"seal", c.Record.Seal, time.Second, time.Hour},
		{"stall", c.Record.Stall, time.Second, 10 * time.Minute},
	})
	if len(c.Record.Group) > 64 || strings.ContainsFunc(c.Record.Group, match.IsControl) {
		f.add([]string{"record", "group"}, "record.group %q is no name of a group", c.Record.Group)
	}
	for _, r := range c.Record.Recipients {
		if err := checkRecipient(r); err != nil {
			f.add([]string{"record", "recipients"}, "record.recipients: %w", err)
		}
	}
}

func checkRecipient(s string) error {
	if strings.HasPrefix(s, "AGE-SECRET-KEY-") || strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY") {
		return errors.New("there is a secret key in place of a public one: it does not belong on this machine, and must be made anew")
	}
	if _, err := age.ParseX25519Recipient(s); err == nil {
		return nil
	}
	if _, err := age.ParseHybridRecipient(s); err == nil {
		return nil
	}
	return fmt.Errorf("%q is no public key as age-keygen makes it, age1…", s)
}

func (c *Config) checkTargets(f *faults) {
	t := &c.Targets
	if len(t.Files) == 0 {
		f.add([]string{"targets", "files"}, "targets.files is empty: there would be nothing to reach")
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"files", t.Files}, {"known_hosts", t.KnownHosts}} {
		for _, p := range list.values {
			if !filepath.IsAbs(p) {
				f.add([]string{"targets", list.name}, "targets.%s: %q is not an absolute path", list.name, p)
			}
			if _, err := filepath.Match(p, ""); list.name == "files" && err != nil {
				f.add([]string{"targets", list.name}, "targets.%s: %q: %w", list.name, p, err)
			}
		}
	}
	for _, s := range t.SourceAddress {
		if _, err := match.ParseNetwork(s); err != nil {
			f.add([]string{"targets", "source_address"}, "targets.source_address: %w", err)
		}
	}
	c.durations(f, "targets", []duration{{"certificate_ttl", t.CertificateTTL, 30 * time.Second, time.Hour}})
	names := map[string]bool{}
	for i, ca := range c.HostCAs {
		checkName(f, "host_ca", i, ca.Name, names)
		if !filepath.IsAbs(ca.KeysFile) {
			f.add(nth("host_ca", i, "keys_file"), "host_ca %q: keys_file %q is not an absolute path", ca.Name, ca.KeysFile)
		}
	}
	names = map[string]bool{}
	for i, cr := range c.Credentials {
		checkName(f, "credential", i, cr.Name, names)
		switch cr.Kind {
		case CredentialCertificate, CredentialAgent:
			if cr.KeyFile != "" {
				f.add(nth("credential", i, "key_file"), "credential %q: key_file is for kind = \"key\"", cr.Name)
			}
		case CredentialKey:
			if !filepath.IsAbs(cr.KeyFile) {
				f.add(nth("credential", i, "key_file"), "credential %q: key_file %q is not an absolute path", cr.Name, cr.KeyFile)
			}
		default:
			f.add(nth("credential", i, "kind"), `credential %q: kind %q is none of "certificate", "agent", "key"`, cr.Name, cr.Kind)
		}
	}
}

func (c *Config) checkDoors(f *faults) {
	names := map[string]bool{}
	for i := range c.Doors {
		d := &c.Doors[i]
		checkName(f, "door", i, d.Name, names)
		var err error
		if d.who, err = newWho(d.Users, d.Groups, d.Keys, d.Sources); err != nil {
			f.add(nth("door", i, ""), "door %q: %w", d.Name, err)
		}
		switch d.Action {
		case DoorAsk:
		case DoorHold, DoorTouch:
			if !match.Narrow(d.Users) && !match.Narrow(d.Groups) && !match.Narrow(d.Keys) {
				f.add(nth("door", i, "action"), `door %q: action = %q is for users, groups or keys that the rule names`, d.Name, d.Action)
			}
		default:
			f.add(nth("door", i, "action"), `door %q: action %q is none of "ask", "hold", "touch"`, d.Name, d.Action)
		}
	}
}

// checkBatches holds a batch rule to more than the rest: by it nothing is asked.
func (c *Config) checkBatches(f *faults) {
	names := map[string]bool{}
	for i := range c.Batches {
		b := &c.Batches[i]
		checkName(f, "batch", i, b.Name, names)
		if strings.TrimSpace(b.Reason) == "" {
			f.add(nth("batch", i, "reason"), "batch %q: reason is missing: why is no second factor asked for here?", b.Name)
		}
		if !match.Narrow(b.Users) {
			f.add(nth("batch", i, "users"), "batch %q: users must name somebody", b.Name)
		}
		if len(b.Keys) == 0 || slices.ContainsFunc(b.Keys, func(k string) bool { return strings.HasPrefix(k, "!") }) {
			f.add(nth("batch", i, "keys"), "batch %q: keys must name at least one key, and negate none", b.Name)
		}
		wide := func(s string) bool {
			p, err := match.ParseNetwork(s)
			return strings.HasPrefix(s, "!") || err == nil && p.Bits() == 0
		}
		if len(b.Sources) == 0 || slices.ContainsFunc(b.Sources, wide) {
			f.add(nth("batch", i, "sources"), "batch %q: sources must name the networks that the job comes from", b.Name)
		}
		if !match.Narrow(b.Targets) {
			f.add(nth("batch", i, "targets"), "batch %q: targets must name the servers that the job needs", b.Name)
		}
		var err error
		if b.who, err = newWho(b.Users, nil, b.Keys, b.Sources); err != nil {
			f.add(nth("batch", i, ""), "batch %q: %w", b.Name, err)
		}
		if b.targets, err = policy.NewTargets(b.Targets); err != nil {
			f.add(nth("batch", i, "targets"), "batch %q: targets: %w", b.Name, err)
		}
	}
}

// readAuthorities reads the keys of the CAs.
func (c *Config) readAuthorities(trust func(path string) error) error {
	var errs []error
	c.authorities = sshcert.Authorities{}
	fail := func(table string, i int, name string, err error) {
		errs = append(errs, fmt.Errorf("%s: %s %q: %w", c.place(c.line(nth(table, i, "keys_file")...)), table, name, err))
	}
	for i := range c.UserCAs {
		ca := &c.UserCAs[i]
		text, err := trusted(ca.KeysFile, trust)
		if err == nil {
			ca.keys, err = sshcert.ParseAuthority(text)
		}
		if err != nil {
			fail("user_ca", i, ca.Name, err)
			continue
		}
		c.authorities[ca.Name] = ca.keys
	}
	for i := range c.HostCAs {
		ca := &c.HostCAs[i]
		text, err := trusted(ca.KeysFile, trust)
		if err == nil {
			ca.keys, err = sshcert.ParseAuthority(text)
		}
		if err != nil {
			fail("host_ca", i, ca.Name, err)
		}
	}
	return errors.Join(errs...)
}

func trusted(path string, trust func(path string) error) (string, error) {
	if err := trust(path); err != nil {
		return "", err
	}
	return tomlfile.Read(path)
}
