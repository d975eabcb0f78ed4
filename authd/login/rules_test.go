// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

func requireRule(options string) string {
	return "[[rules]]\nname = \"strict\"\naction = \"require\"\nservices = [\"sshd\"]\n" + options
}

// What a rule leaves out is neither offered nor taken, however it is asked for.
func TestRuleLimitsFactors(t *testing.T) {
	h := newHost(t, "[services.sshd]\naccept_env_factor = true\n"+requireRule("factors = [\"push\"]\n"))
	h.verifier.Codes = []string{"123456"}
	req := sshRequest(frames.HookAuthenticate, "alice")
	req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": "123456"}
	approveNext(h)
	outcome, p := h.run(rootPeer(100), req, "123456", "phone", "sms", "2", "push")
	if outcome != frames.OutcomeAllow {
		t.Errorf("%s\n%s", outcome, &p.script)
	}
	golden(t, p)
	for _, c := range h.verifier.Calls("/auth/v2/auth") {
		if f := c.Params.Get("factor"); f != duoapi.FactorPush {
			t.Errorf("the verifier was asked for %s", f)
		}
	}
	h.wantEvent(map[string]any{"reason": "approved", "factor": "push", "rule": "strict", "action": "require"})

	h = newHost(t, requireRule("factors = [\"passcode\"]\n"))
	h.verifier.Codes = []string{"123456"}
	if outcome, p := h.ssh("push", "1", "123456"); outcome != frames.OutcomeAllow || strings.Contains(p.script.String(), "Push to") {
		t.Errorf("%s\n%s", outcome, &p.script)
	}

	h = newHost(t, requireRule("factors = [\"phone\"]\n"))
	h.verifier.Preauth.Devices[0].Capabilities = []string{duoapi.CapabilityPush}
	if outcome, p := h.ssh(""); outcome != frames.OutcomeDeny {
		t.Errorf("%s\n%s", outcome, &p.script)
	}
	h.wantEvent(map[string]any{"reason": "no_method", "setting": "factors"})
}

func TestRuleSetsTheRestOfTheLogin(t *testing.T) {
	h := newHost(t, requireRule("attempts = 1\n"))
	if outcome, p := h.ssh("000000"); outcome != frames.OutcomeMaxTries {
		t.Errorf("attempts: %s\n%s", outcome, &p.script)
	}

	h = newHost(t, requireRule("autopush = true\n"))
	approveNext(h)
	if outcome, p := h.ssh(); outcome != frames.OutcomeAllow {
		t.Errorf("autopush: %s\n%s", outcome, &p.script)
	}

	away := func(h *host) *host {
		h.verifier.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return h
	}
	h = away(newHost(t, requireRule("fail_mode = \"open\"\nusers = [\"alice\"]\n")))
	if outcome, p := h.ssh(); outcome != frames.OutcomeAllow {
		t.Errorf("fail_mode: %s\n%s", outcome, &p.script)
	}
	h.wantEvent(map[string]any{"reason": "fail_open", "rule": "strict"})
	if outcome, p := h.run(rootPeer(200), sshRequest(frames.HookAuthenticate, "backup"), ""); outcome != frames.OutcomeUnavailable {
		t.Errorf("fail_mode of a rule for somebody else: %s\n%s", outcome, &p.script)
	}
	h = away(newHost(t, "[services.sshd]\nfail_mode = \"open\"\n"+requireRule("fail_mode = \"secure\"\n")))
	if outcome, p := h.ssh(""); outcome != frames.OutcomeUnavailable {
		t.Errorf("fail_mode the other way: %s\n%s", outcome, &p.script)
	}
}

// An offline code is a passcode: a rule without that factor takes none.
func TestRuleLimitsOfflineCodes(t *testing.T) {
	for factors, want := range map[string]frames.Outcome{`["push"]`: frames.OutcomeUnavailable, `["push", "passcode"]`: frames.OutcomeAllow} {
		h := newHost(t, "[services.sshd]\nfail_mode = \"offline\"\n"+requireRule("factors = "+factors+"\n"))
		withOffline(h)
		h.cut()
		if outcome, p := h.ssh(offlineCode(t, 0)); outcome != want {
			t.Errorf("%s: %s\n%s", factors, outcome, &p.script)
		}
	}
}

// sudoRun is sudo as alice, with what it says of the command and its arguments.
func (h *host) sudoRun(hook frames.Hook, command string, args ...string) frames.Outcome {
	h.Helper()
	h.engine.Args = func(int32) []string { return args }
	req := sudoRequest(hook)
	if command != "" {
		req.ProcEnv = map[string]frames.Secret{"SUDO_COMMAND": frames.Secret(command)}
	}
	outcome, _ := h.run(rootPeer(int32(100+len(h.events()))), req)
	return outcome
}

// The gate without authenticate lets sudo pass unless a rule denies, so that each
// row shows whether the rule holds.
func TestRulesOnSudo(t *testing.T) {
	deny := func(condition string) string {
		return "[[rules]]\nname = \"no\"\naction = \"deny\"\nservices = [\"sudo\"]\n" + condition + "\n"
	}
	sudo := func(args ...string) []string { return append([]string{"sudo"}, args...) }
	for _, tc := range []struct {
		name, rule, command string
		args                []string
		denied              bool
	}{
		{"command", deny(`commands = ["/usr/bin/passwd*"]`), "/usr/bin/passwd root", nil, true},
		{"other command", deny(`commands = ["/usr/bin/passwd*"]`), "/usr/bin/id", nil, false},
		{"command not told", deny(`commands = ["/usr/bin/passwd*"]`), "", nil, true},
		{"command round a corner", deny(`commands = ["/usr/bin/passwd*"]`), "/usr/bin/../bin/id", nil, true},
		{"all but one, that one", deny(`commands = ["!/usr/bin/id"]`), "/usr/bin/id", nil, false},
		{"all but one, another", deny(`commands = ["!/usr/bin/id"]`), "/usr/bin/id -u", nil, true},
		{"all but one, not told", deny(`commands = ["!/usr/bin/id"]`), "", nil, true},
		{"root by default", deny(`targets = ["root"]`), "", sudo("id"), true},
		{"root by number", deny(`targets = ["root"]`), "", sudo("-u", "#0", "id"), true},
		{"root in capitals, which is root here", deny(`targets = ["root"]`), "", sudo("-u", "ROOT", "id"), true},
		{"another", deny(`targets = ["root"]`), "", sudo("-u", "backup", "id"), false},
		{"another by number", deny(`targets = ["root"]`), "", sudo("-u", "#2000", "id"), false},
		{"oneself, by a group", deny(`targets = ["root"]`), "", sudo("-g", "adm", "id"), false},
		{"no such account", deny(`targets = ["root"]`), "", sudo("-u", "mallory", "id"), true},
		{"arguments not understood", deny(`targets = ["root"]`), "", sudo("--us=backup", "id"), true},
		{"arguments not known", deny(`targets = ["root"]`), "", nil, true},
		{"anybody but backup", deny(`targets = ["!backup"]`), "", sudo("-u", "backup", "id"), false},
		{"anybody but backup, not known", deny(`targets = ["!backup"]`), "", nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t, tc.rule)
			want := frames.OutcomeAllow
			if tc.denied {
				want = frames.OutcomeDeny
			}
			if got := h.sudoRun(frames.HookAcctMgmt, tc.command, tc.args...); got != want {
				t.Errorf("%s, want %s; %v", got, want, h.events())
			}
		})
	}
	h := newHost(t, deny(`targets = ["backup"]`))
	h.sudoRun(frames.HookAcctMgmt, "/usr/bin/id secret", "sudo", "id")
	h.wantEvent(map[string]any{"action": "require", "switch_to": "root"})
	if strings.Contains(h.log.String(), "secret") {
		t.Errorf("a command stands in the log: %s", h.log)
	}
}

func TestRulesOnTheTargetOfSu(t *testing.T) {
	h := newHost(t, "[[rules]]\nname = \"no\"\naction = \"deny\"\nservices = [\"su\"]\ntargets = [\"root\"]\n")
	for target, want := range map[string]frames.Outcome{"root": frames.OutcomeDeny, "backup": frames.OutcomeAllow, "Root": frames.OutcomeDeny} {
		req := &frames.Request{Hook: frames.HookAcctMgmt, Service: "su", User: target, RUID: 1000}
		if got, _ := h.run(rootPeer(int32(100+len(h.events()))), req); got != want {
			t.Errorf("su %s: %s, want %s", target, got, want)
		}
	}
}

// A process of an ordinary user that calls itself sudo tells nothing.
func TestCommandOnTheUserSocket(t *testing.T) {
	h := newHost(t, "[[rules]]\nname = \"no\"\naction = \"deny\"\nservices = [\"sudo\"]\ncommands = [\"!/bin/true\"]\n")
	peer := rootPeer(100)
	peer.Socket, peer.UID = 1, 1000
	req := sudoRequest(frames.HookAcctMgmt)
	req.ProcEnv = map[string]frames.Secret{"SUDO_COMMAND": "/bin/true"}
	h.run(peer, req)
	h.wantEvent(map[string]any{"service": "unprivileged"})
}

// certificates of a test's CA.
type testCA struct {
	signer ssh.Signer
	key    string // as in authd.toml
}

func newTestCA(t *testing.T) testCA {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}
}

// sign makes SSH_AUTH_INFO_0 of a login by a certificate for sshKey.
func (ca testCA) sign(t *testing.T, change func(*ssh.Certificate)) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(sshKey))
	if err != nil {
		t.Fatal(err)
	}
	c := &ssh.Certificate{Key: key, CertType: ssh.UserCert, KeyId: "job-7", ValidPrincipals: []string{"backup"}, ValidBefore: ssh.CertTimeInfinity}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, ca.signer); err != nil {
		t.Fatal(err)
	}
	return "publickey " + c.Type() + " " + base64.StdEncoding.EncodeToString(c.Marshal()) + "\n"
}

func TestRulesOnCertificates(t *testing.T) {
	ours, theirs := newTestCA(t), newTestCA(t)
	settings := fmt.Sprintf(`
[ssh_ca.batch]
public_keys = [%q]
[[rules]]
name = "jobs"
reason = "signed by the scheduler"
action = "bypass"
services = ["sshd"]
certificates = [{ca = "batch", key_ids = ["job-*"]}]
`, ours.key)
	until := uint64(time.Now().Add(time.Hour).Unix())
	for name, tc := range map[string]struct {
		info string
		from string
		want frames.Outcome
	}{
		"a job":                  {ours.sign(t, nil), "10.0.4.7", frames.OutcomeAllow},
		"valid for an hour":      {ours.sign(t, func(c *ssh.Certificate) { c.ValidBefore = until }), "10.0.4.7", frames.OutcomeAllow},
		"no job":                 {ours.sign(t, func(c *ssh.Certificate) { c.KeyId = "alice" }), "10.0.4.7", frames.OutcomeDeny},
		"another CA":             {theirs.sign(t, nil), "10.0.4.7", frames.OutcomeDeny},
		"expired":                {ours.sign(t, func(c *ssh.Certificate) { c.ValidBefore = 1 }), "10.0.4.7", frames.OutcomeDeny},
		"not yet":                {ours.sign(t, func(c *ssh.Certificate) { c.ValidAfter = until }), "10.0.4.7", frames.OutcomeDeny},
		"of a host":              {ours.sign(t, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), "10.0.4.7", frames.OutcomeDeny},
		"from here only":         {ours.sign(t, bound("10.0.4.0/24")), "10.0.4.7", frames.OutcomeAllow},
		"from elsewhere only":    {ours.sign(t, bound("10.0.5.0/24")), "10.0.4.7", frames.OutcomeDeny},
		"from nobody knows":      {ours.sign(t, bound("10.0.4.0/24")), "db1.example", frames.OutcomeDeny},
		"with an option unheard": {ours.sign(t, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"moon": "full"} }), "10.0.4.7", frames.OutcomeDeny},
		"the key alone":          {"publickey " + sshKey + "\n", "10.0.4.7", frames.OutcomeDeny},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, settings)
			account := from(withoutKey(sshRequest(frames.HookAcctMgmt, "backup")), tc.from)
			h.want("account", rootPeer(100), account, frames.OutcomeAllow, 0)
			open := from(sshRequest(frames.HookOpenSession, "backup"), tc.from)
			open.PAMEnv["SSH_AUTH_INFO_0"] = tc.info
			h.want("session", rootPeer(100), open, tc.want, 1)
			if tc.want == frames.OutcomeAllow {
				h.wantEvent(map[string]any{"rule": "jobs", "action": "bypass", "keys": sshFingerprint, "certificates": `[{"ca":"batch","key_id":"job-7","principals":["backup"]}]`})
			}
		})
	}
	// One byte changed: the signature is wrong.
	info := ours.sign(t, nil)
	blob, err := base64.StdEncoding.DecodeString(strings.Fields(info)[2])
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(blob), "job-7")
	blob[i+4] = '8'
	h := newHost(t, settings)
	h.want("account", rootPeer(100), withoutKey(sshRequest(frames.HookAcctMgmt, "backup")), frames.OutcomeAllow, 0)
	open := sshRequest(frames.HookOpenSession, "backup")
	open.PAMEnv["SSH_AUTH_INFO_0"] = "publickey " + strings.Fields(info)[1] + " " + base64.StdEncoding.EncodeToString(blob) + "\n"
	h.want("forged", rootPeer(100), open, frames.OutcomeDeny, 1)
}

func bound(addresses string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": addresses} }
}

func TestRulesByTheClock(t *testing.T) {
	h := newHost(t, "[[rules]]\nname = \"night\"\naction = \"deny\"\nhours = \"22:00-06:00\"\ntimezone = \"Europe/Berlin\"\n")
	h.verifier.Codes = []string{"123456"}
	h.setNow(func() time.Time { return time.Date(2026, 7, 15, 20, 30, 0, 0, time.UTC) }) // 22:30
	if outcome, p := h.ssh(""); outcome != frames.OutcomeDeny {
		t.Errorf("at night: %s\n%s", outcome, &p.script)
	}
	h.setNow(func() time.Time { return time.Date(2026, 7, 15, 4, 30, 0, 0, time.UTC) }) // 06:30
	if outcome, p := h.ssh("123456"); outcome != frames.OutcomeAllow {
		t.Errorf("by day: %s\n%s", outcome, &p.script)
	}
}
