// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const (
	gatewaySession = "00000000000000000000000000000000000000000000000000000000000000ff"
	gatewayKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"
)

// gateway calls authd as the gateway does. shown is called with what is shown, and
// nothing may be asked.
func (o *outage) gateway(req *frames.Request, shown func(text string)) (outcome frames.Outcome, texts []string) {
	o.Helper()
	var c *net.UnixConn
	until(o.T, "authd serves the gateway", func() bool {
		var err error
		c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(o.dir, "run", "sshgw.sock"), Net: "unix"})
		return err == nil
	})
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if err := frames.WriteFrame(c, req); err != nil {
		o.Fatal(err)
	}
	for {
		f, err := frames.ReadFrame(c)
		if err != nil {
			o.Fatalf("after %q: %v", texts, err)
		}
		switch f := f.(type) {
		case *frames.Done:
			return f.Outcome, texts
		case *frames.Show:
			texts = append(texts, f.Text)
			if shown != nil {
				shown(f.Text)
			}
		case *frames.Wait:
		default:
			o.Fatalf("%s from authd", f.Type())
		}
	}
}

func (o *outage) keys(name string) (frames.Outcome, []string) {
	o.Helper()
	return o.gateway(&frames.Request{Hook: frames.HookSSHKeys, Version: "test", Service: "sshgw", User: name}, nil)
}

func atGateway(kind string) *frames.Request {
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sshgw", User: "root", PAMEnv: map[string]string{
		"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22", "SSH_AUTH_INFO_0": "publickey " + gatewayKey,
		"SALLYPORT_SSH_SESSION": gatewaySession, "SALLYPORT_GATEWAY": kind, "SALLYPORT_GATEWAY_RULE": "r", "SALLYPORT_TARGET": "db1", "SALLYPORT_LOGIN": "root",
	}}
}

// The gateway, authd, the verifier and an authenticator, each as itself: a key that
// an administrator gave a person, a reply that is held until the person has typed
// the digits, what is remembered of it, and what is left while the verifier is away.
func TestGatewayAtARealVerifier(t *testing.T) {
	o := newOutage(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(o.dir, "etc", "authd.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\n[gateway]\nuser = \""+me.Username+"\"\naccounts = \"any\"\ngrace = \"1h\"\n"...)
	if err := os.WriteFile(config, text, 0o644); err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(o.dir, "id.pub")
	if err := os.WriteFile(public, []byte(gatewayKey+" root@laptop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.run("sallyport", "admin", "user", "add", "zoe")
	o.run("sallyport", "admin", "ssh-key", "add", "root", "--key", public)
	o.start()

	if outcome, keys := o.keys("root"); outcome != frames.OutcomeAllow || !slices.Equal(keys, []string{gatewayKey}) {
		t.Errorf("keys of root: %s %q", outcome, keys)
	}
	if outcome, keys := o.keys("zoe"); outcome != frames.OutcomeAllow || len(keys) != 0 {
		t.Errorf("keys of one who has none: %s %q", outcome, keys)
	}
	if outcome, keys := o.keys("mallory"); outcome != frames.OutcomeDeny || len(keys) != 0 {
		t.Errorf("keys of nobody: %s %q", outcome, keys)
	}

	digits := regexp.MustCompile(`Type this code there: ([0-9]+)`)
	approve := func(text string) {
		if m := digits.FindStringSubmatch(text); m != nil {
			o.run("sallyport", "authenticator", "--dir", filepath.Join(o.dir, "accounts"), "approve", "--code", m[1])
		}
	}
	outcome, texts := o.gateway(atGateway("hold"), approve)
	if outcome != frames.OutcomeAllow || !slices.ContainsFunc(texts, digits.MatchString) {
		t.Fatalf("held: %s %q", outcome, texts)
	}
	if outcome, texts := o.gateway(atGateway("door"), nil); outcome != frames.OutcomeAllow || len(texts) != 0 {
		t.Errorf("remembered: %s %q", outcome, texts)
	}
	if outcome, texts := o.gateway(atGateway("batch"), nil); outcome != frames.OutcomeAllow || len(texts) != 0 {
		t.Errorf("batch: %s %q", outcome, texts)
	}
	until(t, "the verifier hears of both", func() bool {
		log := string(o.run("sallyport", "admin", "log", "auth", "--since", "1d", "--json"))
		return strings.Contains(log, `"gateway_remembered"`) && strings.Contains(log, `"gateway_batch"`) && strings.Contains(log, `"root@db1"`)
	})

	o.wire.set(true)
	if outcome, keys := o.keys("root"); outcome != frames.OutcomeAllow || !slices.Equal(keys, []string{gatewayKey}) {
		t.Errorf("keys while the verifier is away: %s %q", outcome, keys)
	}
	if outcome, keys := o.keys("other"); outcome != frames.OutcomeUnavailable || len(keys) != 0 {
		t.Errorf("keys that were never known: %s %q", outcome, keys)
	}
	if outcome, texts := o.gateway(atGateway("hold"), nil); outcome != frames.OutcomeUnavailable {
		t.Errorf("a memory while the verifier is away: %s %q", outcome, texts)
	}
	o.wire.set(false)

	o.run("sallyport", "admin", "user", "set", "root", "--status", "disabled")
	var outcomes []frames.Outcome
	until(t, "the verifier is there again", func() bool {
		outcome, _ := o.gateway(atGateway("hold"), nil) // which asks for no offline code
		outcomes = append(outcomes, outcome)
		return outcome == frames.OutcomeDeny
	})
	if slices.Contains(outcomes, frames.OutcomeAllow) {
		t.Errorf("a disabled user is remembered: %v", outcomes)
	}
	if outcome, _ := o.gateway(atGateway("touch"), nil); outcome != frames.OutcomeDeny {
		t.Errorf("a disabled user touches: %s", outcome)
	}
}
