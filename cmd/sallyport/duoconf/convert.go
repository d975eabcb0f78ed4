// SPDX-License-Identifier: Apache-2.0

package duoconf

import (
	"bytes"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

// Names of the files that an import writes.
const (
	AuthdFile    = "authd.toml"
	SecretFile   = "secret_key"
	PasswordFile = "proxy_password"
	PAMFile      = "pam-lines.txt"
)

// Note says what became of one option.
type Note struct {
	Option  string `json:"option"`
	Becomes string `json:"becomes"` // "": there is no equivalent
	Why     string `json:"note,omitempty"`
}

// Import is a configuration in Sallyport's words.
type Import struct {
	Authd    string // authd.toml
	PAM      string // what to do with PAM stacks
	Secret   string // the secret key, for SecretFile
	Password string // of the proxy, for PasswordFile; "": none
	Notes    []Note
}

// document is the authd.toml that an import writes.
type document struct {
	Verifier struct {
		URLs           []string `toml:"urls"`
		IntegrationKey string   `toml:"integration_key"`
		SecretKeyFile  string   `toml:"secret_key_file"`
		CAFile         string   `toml:"ca_file,omitempty"`
		Proxy          *proxy   `toml:"proxy,omitempty"`
	} `toml:"verifier"`
	Timeouts map[string]string  `toml:"timeouts,omitempty"`
	Services map[string]service `toml:"services"`
	Rules    []rule             `toml:"rules,omitempty"`
}

type proxy struct {
	URL          string `toml:"url"`
	Username     string `toml:"username,omitempty"`
	PasswordFile string `toml:"password_file,omitempty"`
}

type service struct {
	FailMode        string         `toml:"fail_mode"`
	Attempts        int            `toml:"attempts"`
	AutoPush        bool           `toml:"autopush,omitempty"`
	AcceptEnvFactor bool           `toml:"accept_env_factor,omitempty"`
	PushCommand     bool           `toml:"push_command,omitempty"`
	Mapping         map[string]any `toml:"mapping,omitempty"`
}

type rule struct {
	Name   string   `toml:"name"`
	Reason string   `toml:"reason"`
	Action string   `toml:"action"`
	Groups []string `toml:"groups,omitempty"`
	Broad  bool     `toml:"broad,omitempty"`
}

// Convert says in Sallyport's words what a configuration says; dir is where its
// secrets will be. The result is one that authd takes.
func (c *Conf) Convert(dir string) (*Import, error) {
	d, out := document{}, &Import{Secret: c.SKey}
	s := service{FailMode: "open", Attempts: c.Prompts, AutoPush: c.AutoPush, AcceptEnvFactor: c.AcceptEnvFactor, PushCommand: c.PushInfo}
	d.Verifier.URLs = []string{"https://" + c.Host}
	d.Verifier.IntegrationKey = c.IKey
	d.Verifier.SecretKeyFile = filepath.Join(dir, SecretFile)
	if c.Secure {
		s.FailMode = "secure"
	}
	if err := c.convertProxy(&d, out, dir); err != nil {
		return nil, err
	}
	c.convertTimeout(&d)
	c.convertMapping(&s)
	c.convertGroups(&d)
	if c.CAFile != nil && !c.NoVerify {
		d.Verifier.CAFile = *c.CAFile
	}
	d.Services = map[string]service{"default": s}

	var text bytes.Buffer
	text.WriteString("# Made by: sallyport import duo-conf. What has no equivalent is not here; the command says why.\n\n")
	enc := toml.NewEncoder(&text)
	enc.Indent = ""
	if err := enc.Encode(d); err != nil {
		return nil, fmt.Errorf("write authd.toml: %w", err)
	}
	out.Authd = strings.Replace(text.String(), "[services]\n", "", 1)
	out.PAM = pamLines
	if _, err := config.Parse(AuthdFile, out.Authd); err != nil {
		return nil, fmt.Errorf("authd could not take what the file says: %w", err)
	}
	for _, option := range c.set {
		out.Notes = append(out.Notes, c.note(option, &d))
	}
	if !c.Has("failmode") {
		out.Notes = append(out.Notes, c.note("failmode", &d))
	}
	return out, nil
}

const defaultProxyPort = "80"

func (c *Conf) convertProxy(d *document, out *Import, dir string) error {
	if c.HTTPProxy == "" {
		return nil
	}
	text := c.HTTPProxy
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		// The error of url.Parse would show the password.
		return fmt.Errorf("http_proxy is no http://[user:password@]host[:port]")
	}
	if u.Port() == "" {
		u.Host += ":" + defaultProxyPort
	}
	d.Verifier.Proxy = &proxy{URL: "http://" + u.Host}
	if u.User != nil {
		out.Password, _ = u.User.Password()
		d.Verifier.Proxy.Username = u.User.Username()
		d.Verifier.Proxy.PasswordFile = filepath.Join(dir, PasswordFile)
	}
	return nil
}

// Bounds of request_timeout that are whole seconds.
const (
	leastTimeout = 3 // of which connect_timeout, 3 s, is a part
	topTimeout   = 60
)

func (c *Conf) convertTimeout(d *document) {
	if c.HTTPSTimeout > 0 {
		seconds := time.Duration(min(max(c.HTTPSTimeout, leastTimeout), topTimeout)) * time.Second
		d.Timeouts = map[string]string{"request_timeout": seconds.String()}
	}
}

func (c *Conf) convertMapping(s *service) {
	if c.SendGECOS {
		s.Mapping = map[string]any{"gecos": max(1, c.GECOSPosition), "delimiter": c.GECOSDelim}
	}
}

// convertGroups makes rules of groups: whom a list is for is asked, everybody
// else is not. Lists with wildcards cannot be said, and then everybody is asked.
func (c *Conf) convertGroups(d *document) {
	if len(c.Groups) == 0 || c.wildcards() {
		return
	}
	for n, list := range c.Groups {
		d.Rules = append(d.Rules, rule{
			Name: fmt.Sprintf("groups of Duo %d", n+1), Reason: "groups = " + list,
			Action: "require", Groups: strings.Split(list, ","),
		})
	}
	d.Rules = append(d.Rules, rule{
		Name: "nobody else", Reason: "Duo's programs let in whom groups does not name",
		Action: "bypass", Broad: true,
	})
}

func (c *Conf) wildcards() bool {
	for _, list := range c.Groups {
		for name := range strings.SplitSeq(list, ",") {
			if strings.TrimPrefix(name, "!") == "" || strings.ContainsAny(name, "*?") {
				return true
			}
		}
	}
	return false
}

const pamLines = `In each stack that names pam_duo.so, take that line out. Then

    sallyport pam enable SERVICE

puts these lines where they belong; "docs/how-to/protect-sshd.md" and "sudo-and-su.md" say how to do
it by hand:

    auth       required     pam_sallyport.so     # after the line that checks the password
    account    required     pam_sallyport.so     # not in su
    session    required     pam_sallyport.so     # in sshd and login alone

pam_duo.so often stands as "sufficient", or as "[success=1 default=ignore]" before pam_deny.so; write
"required". Where login_duo is used, take "ForceCommand /usr/sbin/login_duo" out of sshd_config, and
login_duo out of /etc/passwd as a shell.
`
