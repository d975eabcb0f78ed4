// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

const secret = "a test secret"

// fixture is a host below a folder, all of it well.
type fixture struct {
	*testing.T
	host Host
	root string
}

const goodSSHD = `
UsePAM yes
UseDNS no
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication yes
AuthenticationMethods publickey,keyboard-interactive:pam
LoginGraceTime 120
`

const goodPAM = `
auth required pam_sallyport.so
account required pam_sallyport.so
session required pam_sallyport.so
`

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, root: t.TempDir()}
	server := verifierAt(t, time.Now, nil)
	f.host = Host{
		Root: f.root, Config: filepath.Join(f.root, "authd.toml"), UID: uint32(os.Getuid()),
		Users: []string{"root", "alice"}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		SSHD: "/usr/sbin/sshd", SSHDConfig: filepath.Join(f.root, "sshd_config"),
		Run: func(ctx context.Context, name string, arg ...string) ([]byte, error) {
			return exec.CommandContext(ctx, name, arg...).CombinedOutput()
		},
		Load:  Load,
		Probe: func(string) error { return nil },
		HTTP:  func(*config.Config) (*http.Client, error) { return server.Client(), nil },
		Now:   time.Now,
	}
	f.config(server.URL, "")
	f.write("secret_key", secret, 0o600)
	f.write("etc/pam.d/sshd", goodPAM, 0o644)
	f.write("etc/pam.d/sudo", "auth required pam_unix.so\n"+goodPAM, 0o644)
	f.write("etc/pam.d/su", "auth sufficient pam_rootok.so\nauth required pam_unix.so\n"+goodPAM, 0o644)
	f.module()
	f.sockets(0o600)
	f.sshd(goodSSHD)
	return f
}

func (f *fixture) write(name, text string, mode os.FileMode) {
	f.Helper()
	path := filepath.Join(f.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		f.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) config(url, more string) {
	f.Helper()
	f.write("authd.toml", fmt.Sprintf("socket_dir = \"/run/sallyport\"\n[verifier]\nurls = [%q]\nintegration_key = \"DIAAAAAAAAAAAAAAAAAA\"\nsecret_key_file = %q\n%s",
		url, filepath.Join(f.root, "secret_key"), more), 0o600)
}

const modulePath = "usr/lib/x86_64-linux-gnu/security/" + Module

// made is what all fixtures share: compiling and making keys take their time.
var made = sync.OnceValues(func() (m struct{ module, hostKey []byte }, err error) {
	dir, err := os.MkdirTemp("", "sallyport-doctor-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	source, object, key := filepath.Join(dir, "m.c"), filepath.Join(dir, "m.so"), filepath.Join(dir, "key")
	if err := os.WriteFile(source, []byte(moduleSource()), 0o600); err != nil {
		return m, err
	}
	for _, c := range [][]string{
		{"cc", "-shared", "-fPIC", "-o", object, source},
		{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return m, fmt.Errorf("%s: %w\n%s", c[0], err, out)
		}
	}
	if m.module, err = os.ReadFile(object); err != nil {
		return m, err
	}
	m.hostKey, err = os.ReadFile(key)
	return m, err
})

// moduleSource is C with the entry points of a module.
func moduleSource() string {
	var source strings.Builder
	for _, name := range entryPoints {
		fmt.Fprintf(&source, "int %s(void) { return 7; }\n", name)
	}
	return source.String()
}

// module installs a shared object with the entry points.
func (f *fixture) module() {
	f.Helper()
	m, err := made()
	if err != nil {
		f.Fatal(err)
	}
	f.write(modulePath, string(m.module), 0o644)
}

func (f *fixture) compile(source string) {
	f.Helper()
	f.write("module.c", source, 0o600)
	path := filepath.Join(f.root, modulePath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.run("cc", "-shared", "-fPIC", "-o", path, filepath.Join(f.root, "module.c"))
	if err := os.Chmod(path, 0o644); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) run(name string, arg ...string) {
	f.Helper()
	if out, err := exec.CommandContext(f.Context(), name, arg...).CombinedOutput(); err != nil {
		f.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (f *fixture) sockets(mode os.FileMode) {
	f.Helper()
	dir := filepath.Join(f.root, "run/sallyport")
	if err := os.RemoveAll(dir); err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "authd.sock"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	if err := os.Chmod(filepath.Join(dir, "authd.sock"), mode); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) sshd(text string) {
	f.Helper()
	// sshd wants its folder for privilege separation even to print its settings.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		f.Fatal(err)
	}
	m, err := made()
	if err != nil {
		f.Fatal(err)
	}
	f.write("host_key", string(m.hostKey), 0o600)
	f.write("sshd_config", "HostKey "+filepath.Join(f.root, "host_key")+"\n"+text, 0o600)
}

// verifierAt answers ping with the time of now, and check with refuse or OK.
func verifierAt(t *testing.T, now func() time.Time, refuse *string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/v2/ping", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"stat":"OK","response":{"time":%d}}`, now().Unix())
	})
	mux.HandleFunc("GET /auth/v2/check", func(w http.ResponseWriter, _ *http.Request) {
		if refuse != nil {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, *refuse)
			return
		}
		fmt.Fprintf(w, `{"stat":"OK","response":{"time":%d}}`, now().Unix())
	})
	s := httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestAllWell(t *testing.T) {
	f := newFixture(t)
	for _, finding := range f.host.Examine(t.Context()) {
		if finding.Status != OK {
			t.Errorf("%+v", finding)
		}
	}
}

func TestFindings(t *testing.T) {
	batch := "[[rules]]\nname = \"nightly\"\nreason = \"cron\"\naction = \"bypass\"\nusers = [\"backup\"]\nsources = [\"10.0.4.0/24\"]\ncommand = \"/usr/bin/rrsync\"\n"
	batchBlock := "Match User backup Address 10.0.4.0/24\nAuthenticationMethods publickey\n"
	for name, c := range map[string]struct {
		spoil  func(*fixture)
		status Status
		area   string
		want   string
	}{
		"no configuration":    {func(f *fixture) { f.host.Config += ".none" }, Fail, "config", "no such file"},
		"unknown setting":     {func(f *fixture) { f.write("authd.toml", "colour = 1\n", 0o600) }, Fail, "config", "unknown key colour"},
		"open fail mode":      {func(f *fixture) { f.append("authd.toml", "[services.sshd]\nfail_mode = \"open\"\n") }, Warn, "config", "fail_mode"},
		"no module":           {func(f *fixture) { f.remove(modulePath) }, Fail, "module", "not in any folder"},
		"module of others":    {func(f *fixture) { f.host.UID = 4711 }, Fail, "module", "belongs to uid"},
		"module others write": {func(f *fixture) { f.chmod(modulePath, 0o666) }, Fail, "module", "mode 0666"},
		"module of another":   {func(f *fixture) { f.compile("int pam_sm_authenticate(void) { return 0; }") }, Fail, "module", "lacks the entry point"},
		"no shared object":    {func(f *fixture) { f.write(modulePath, "text", 0o644) }, Fail, "module", "no shared object"},
		"does not load": {func(f *fixture) {
			f.compile(moduleSource() + "extern int missing(void); int f(void) { return missing(); }")
		}, Fail, "module", "does not load"},
		"module twice": {func(f *fixture) { f.copy(modulePath, "lib/security/"+Module) }, Warn, "module", "more than once"},

		"no service":         {func(f *fixture) { f.remove("etc/pam.d") }, Fail, "pam", "no service names"},
		"sudo not protected": {func(f *fixture) { f.write("etc/pam.d/sudo", "auth required pam_unix.so\n", 0o644) }, Warn, "pam", "does not ask for a second factor"},
		"password is enough": {func(f *fixture) { f.prepend("etc/pam.d/sudo", "auth sufficient pam_unix.so\n") }, Fail, "pam", "the module is not asked"},
		"optional": {func(f *fixture) {
			f.write("etc/pam.d/sudo", "auth required pam_unix.so\n"+strings.ReplaceAll(goodPAM, "auth required", "auth optional"), 0o644)
		}, Fail, "pam", "makes it no gate"},
		"optional account": {func(f *fixture) {
			f.write("etc/pam.d/sshd", strings.ReplaceAll(goodPAM, "account required", "account [success=ok default=ignore]")+"account required pam_permit.so\n", 0o644)
		}, Fail, "pam", "lets the account stack succeed"},
		"factor alone":    {func(f *fixture) { f.write("etc/pam.d/sudo", goodPAM, 0o644) }, Fail, "pam", "second factor alone is enough"},
		"empty passwords": {func(f *fixture) { f.write("etc/pam.d/sudo", "auth required pam_unix.so nullok\n"+goodPAM, 0o644) }, Warn, "pam", "nullok"},
		"exception": {func(f *fixture) {
			f.prepend("etc/pam.d/sshd", "auth [success=1 default=ignore] pam_succeed_if.so user ingroup x\n")
			f.append("etc/pam.d/sshd", "auth required pam_permit.so\n")
		}, Warn, "pam", "lets some through"},
		"no account line": {func(f *fixture) {
			f.write("etc/pam.d/sshd", "auth required pam_sallyport.so\nsession required pam_sallyport.so", 0o644)
		}, Fail, "pam", "not in the account stack"},
		"no session line": {func(f *fixture) {
			f.write("etc/pam.d/sshd", "auth required pam_sallyport.so\naccount required pam_sallyport.so", 0o644)
		}, Fail, "pam", "not in the session stack"},
		"sudo without account": {func(f *fixture) {
			f.write("etc/pam.d/sudo", "auth required pam_unix.so\nauth required pam_sallyport.so", 0o644)
		}, Warn, "pam", "NOPASSWD"},
		"unreachable=allow": {func(f *fixture) {
			f.write("etc/pam.d/sshd", strings.Replace(goodPAM, Module, Module+" unreachable=allow", 1), 0o644)
		}, Warn, "pam", "unreachable=allow"},
		"other socket folder": {func(f *fixture) {
			f.write("etc/pam.d/sshd", strings.Replace(goodPAM, Module, Module+" socket_dir=/run/other", 1), 0o644)
		}, Fail, "pam", "socket_dir=/run/other"},
		"unknown argument": {func(f *fixture) {
			f.write("etc/pam.d/sshd", strings.Replace(goodPAM, Module, Module+" debgu", 1), 0o644)
		}, Fail, "pam", `"debgu"`},
		"password stack":  {func(f *fixture) { f.append("etc/pam.d/sshd", "password required pam_sallyport.so\n") }, Fail, "pam", "password stack"},
		"missing include": {func(f *fixture) { f.append("etc/pam.d/sshd", "@include common-auht\n") }, Fail, "pam", "common-auht"},
		"missing path": {func(f *fixture) {
			f.write("etc/pam.d/sshd", strings.ReplaceAll(goodPAM, Module, "/opt/"+Module), 0o644)
		}, Fail, "pam", "does not exist"},
		"forged environment": {func(f *fixture) { f.prepend("etc/pam.d/sshd", "session required pam_env.so user_readenv=1\n") }, Fail, "pam", "forge SSH_AUTH_INFO_0"},
		"no audit identity":  {func(f *fixture) { f.hostKey() }, Warn, "pam", "its logins have no audit identity"},
		"identity too late": {func(f *fixture) {
			f.hostKey()
			f.append("etc/pam.d/sshd", "session required pam_loginuid.so\n")
		}, Warn, "pam", "its logins have no audit identity"},
		"identity in time": {func(f *fixture) {
			f.hostKey()
			f.prepend("etc/pam.d/sshd", "session required pam_loginuid.so\n")
		}, OK, "pam", "no way through the stack avoids the module"},
		"silent": {func(f *fixture) { f.write("etc/pam.d/sshd", "-"+strings.TrimSpace(goodPAM), 0o644) }, Warn, "pam", "out of the log"},

		"no sockets":         {func(f *fixture) { f.remove("run/sallyport") }, Fail, "sockets", "cannot be seen"},
		"wide socket":        {func(f *fixture) { f.sockets(0o666) }, Fail, "sockets", "wider than 0600"},
		"folder others use":  {func(f *fixture) { f.chmod("run/sallyport", 0o777) }, Fail, "sockets", "others can put their own socket"},
		"file for a socket":  {func(f *fixture) { f.remove("run/sallyport/authd.sock"); f.write("run/sallyport/authd.sock", "", 0o600) }, Fail, "sockets", "no socket"},
		"authd is not there": {func(f *fixture) { f.host.Probe = func(string) error { return errors.New("refused") } }, Fail, "sockets", "does not answer"},

		"verifier away": {func(f *fixture) { f.config("https://127.0.0.1:1", "") }, Fail, "verifier", "does not answer"},
		"not trusted": {func(f *fixture) {
			f.host.HTTP = func(*config.Config) (*http.Client, error) { return http.DefaultClient, nil }
		}, Fail, "verifier", "certificate"},
		"clock off":         {func(f *fixture) { f.host.Now = func() time.Time { return time.Now().Add(time.Minute) } }, Warn, "verifier", "clock is 1m"},
		"clock far off":     {func(f *fixture) { f.host.Now = func() time.Time { return time.Now().Add(time.Hour) } }, Warn, "verifier", "logins go on"},
		"certificate ends":  {func(f *fixture) { f.expiring() }, Warn, "verifier", "certificate ends"},
		"no CA":             {func(f *fixture) { f.host.HTTP = HTTP; f.append("authd.toml", "ca_file = \"/nowhere\"\n") }, Fail, "verifier", "ca_file"},
		"key refused":       {func(f *fixture) { f.refusing() }, Fail, "verifier", "refuses this host's key"},
		"secret unreadable": {func(f *fixture) { f.remove("secret_key") }, Warn, "verifier", "cannot be read"},

		"no sshd":            {func(f *fixture) { f.host.SSHD = "/nowhere" }, OK, "sshd", "not installed"},
		"broken sshd_config": {func(f *fixture) { f.sshd("Colour blue\n") }, Fail, "sshd", "Bad configuration option"},
		"UsePAM off":         {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "UsePAM yes", "UsePAM no", 1)) }, Fail, "sshd", "does not ask PAM"},
		"UseDNS":             {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "UseDNS no", "UseDNS yes", 1)) }, Warn, "sshd", "reverse zone"},
		"short grace":        {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "Time 120", "Time 90", 1)) }, Warn, "sshd", "cut off without a word"},
		"endless grace":      {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "Time 120", "Time 0", 1)) }, Warn, "sshd", "for ever"},
		"no questions": {func(f *fixture) {
			f.sshd(strings.Replace(goodSSHD, "KbdInteractiveAuthentication yes", "KbdInteractiveAuthentication no", 1))
		}, Fail, "sshd", "cannot be satisfied"},
		"any":              {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "publickey,keyboard-interactive:pam", "any", 1)) }, Fail, "sshd", "a key alone is enough"},
		"password for PAM": {func(f *fixture) { f.sshd("UsePAM yes\nUseDNS no\nPubkeyAuthentication no\nPermitRootLogin no\n") }, Fail, "sshd", "sshd answers the first question"},
		"questions alone": {func(f *fixture) {
			f.sshd("UsePAM yes\nPubkeyAuthentication no\nPermitRootLogin no\nPasswordAuthentication no\n")
		}, Fail, "sshd", "keyboard-interactive alone"},
		"key alone": {func(f *fixture) {
			f.sshd(goodSSHD + "Match User alice\nAuthenticationMethods publickey publickey,keyboard-interactive\n")
		}, Fail, "sshd", "no bypass rule is for this login"},
		"factor comes first": {func(f *fixture) {
			f.sshd(goodSSHD + "Match User alice\nAuthenticationMethods keyboard-interactive,publickey\n")
		}, Fail, "sshd", "begins with the second factor"},
		"password method": {func(f *fixture) {
			f.sshd("PasswordAuthentication yes\n" + goodSSHD + "Match User alice\nAuthenticationMethods publickey,password\n")
		}, Fail, "sshd", "cannot be asked"},
		"passwords on":        {func(f *fixture) { f.sshd("PasswordAuthentication yes\n" + goodSSHD) }, Warn, "sshd", "it serves nobody"},
		"root directly":       {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "RootLogin no", "RootLogin yes", 1)) }, Warn, "sshd", "root may log in directly"},
		"root never finishes": {func(f *fixture) { f.sshd(strings.Replace(goodSSHD, "RootLogin no", "RootLogin prohibit-password", 1)) }, Warn, "sshd", "root can never finish"},
		"empty password":      {func(f *fixture) { f.sshd(goodSSHD + "PermitEmptyPasswords yes\n") }, Fail, "sshd", "empty password"},
		"rule not in sshd":    {func(f *fixture) { f.append("authd.toml", batch) }, Warn, "sshd", "asks this login for a second factor all the same"},
		"rule with terminal":  {func(f *fixture) { f.append("authd.toml", batch); f.sshd(goodSSHD + batchBlock) }, Warn, "sshd", "may have a terminal"},
		"rule without force":  {func(f *fixture) { f.append("authd.toml", batch); f.sshd(goodSSHD + batchBlock + "PermitTTY no\n") }, Fail, "sshd", "ForceCommand"},
		"rule as it should": {func(f *fixture) {
			f.append("authd.toml", batch)
			f.sshd(goodSSHD + batchBlock + "PermitTTY no\nForceCommand /usr/bin/rrsync\n")
		}, OK, "sshd", "lets it in by key alone, without a terminal"},
		"asked about a batch": {func(f *fixture) {
			f.append("authd.toml", batch)
			f.sshd(goodSSHD + batchBlock + "PermitTTY no\nForceCommand /usr/bin/rrsync\n")
			f.host.Users, f.host.Addresses = []string{"backup"}, []netip.Addr{netip.MustParseAddr("10.0.4.9")}
		}, OK, "sshd", `as rule "nightly" says`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.spoil(f)
			findings := f.host.Examine(t.Context())
			for _, finding := range findings {
				if finding.Area == c.area && finding.Status == c.status && strings.Contains(finding.Message+finding.Subject, c.want) {
					if finding.Fix == "" && finding.Status != OK {
						t.Errorf("nothing to do about it: %+v", finding)
					}
					return
				}
			}
			t.Errorf("no %s of %s says %q:\n%+v", c.status, c.area, c.want, findings)
		})
	}
}

// hostKey gives the host a key of its own, so that logins may be remembered.
func (f *fixture) hostKey() {
	f.Helper()
	key, err := keyproof.GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	text, err := keyproof.EncodePrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	f.write("host_key.pem", string(text), 0o600)
	f.append("authd.toml", fmt.Sprintf("host_key_file = %q\n", filepath.Join(f.root, "host_key.pem")))
}

func (f *fixture) append(name, text string) {
	f.Helper()
	old, err := os.ReadFile(filepath.Join(f.root, name))
	if err != nil {
		f.Fatal(err)
	}
	f.write(name, string(old)+text, 0o600)
}

func (f *fixture) prepend(name, text string) {
	f.Helper()
	old, err := os.ReadFile(filepath.Join(f.root, name))
	if err != nil {
		f.Fatal(err)
	}
	f.write(name, text+string(old), 0o600)
}

func (f *fixture) copy(from, to string) {
	f.Helper()
	text, err := os.ReadFile(filepath.Join(f.root, from))
	if err != nil {
		f.Fatal(err)
	}
	f.write(to, string(text), 0o644)
}

func (f *fixture) remove(name string) {
	f.Helper()
	if err := os.RemoveAll(filepath.Join(f.root, name)); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) chmod(name string, mode os.FileMode) {
	f.Helper()
	if err := os.Chmod(filepath.Join(f.root, name), mode); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) refusing() {
	answer := `{"stat":"FAIL","code":40102,"message":"Invalid integration key in request credentials"}`
	server := verifierAt(f.T, time.Now, &answer)
	f.host.HTTP = func(*config.Config) (*http.Client, error) { return server.Client(), nil }
	f.config(server.URL, "")
}

// expiring serves a certificate that ends in a day.
func (f *fixture) expiring() {
	f.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	server := httptest.NewUnstartedServer(verifierAt(f.T, time.Now, nil).Config.Handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	f.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	f.host.HTTP = func(*config.Config) (*http.Client, error) { return client, nil }
	f.config(server.URL, "")
}

func TestValidUser(t *testing.T) {
	for name, want := range map[string]bool{"alice": true, "EX\\alice": true, "": false, "a,addr=1.2.3.4": false, "a b": false, "a\n": false, "a=b": false} {
		if ValidUser(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
