// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// openssh runs the ssh(1) of this machine against the gateway, with a key and files of
// the test's own.
type openssh struct {
	g     *gateway
	dir   string
	known string
	code  string // what SSH_ASKPASS answers
	env   []string
}

func newOpenSSH(t testing.TB, g *gateway) *openssh {
	t.Helper()
	o := &openssh{g: g, dir: t.TempDir()}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(o.dir, "key"), pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	check(t, err)
	g.authorize("alice", "", key)
	ask := "#!/bin/sh\nprintf '%s\\n' \"$1\" >> " + filepath.Join(o.dir, "asked") + "\ncat " + filepath.Join(o.dir, "code") + "\n"
	check(t, os.WriteFile(filepath.Join(o.dir, "askpass"), []byte(ask), 0o700))
	o.known = filepath.Join(o.dir, "known_hosts")
	return o
}

func (o *openssh) run(args ...string) (stdout, stderr string, status int) {
	o.g.t.Helper()
	host, port, err := net.SplitHostPort(o.g.address)
	check(o.g.t, err)
	check(o.g.t, os.WriteFile(filepath.Join(o.dir, "code"), []byte(o.code+"\n"), 0o600))
	check(o.g.t, os.WriteFile(o.known, []byte(knownhosts.Line([]string{o.g.address}, o.g.keys[0].PublicKey())+"\n"), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	all := append([]string{"-F", "none", "-p", port, "-i", filepath.Join(o.dir, "key"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + o.known, "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes", "-l", "alice"}, args...)
	cmd := exec.CommandContext(ctx, "ssh", append(all, host, "whoami")...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + o.dir, "DISPLAY=none", "SSH_ASKPASS=" + filepath.Join(o.dir, "askpass"), "SSH_ASKPASS_REQUIRE=force"}, o.env...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		o.g.t.Fatalf("run ssh: %v", err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// A question of several lines is read by who wants to see nothing but errors: the digits
// of a push stand in it.
func TestOpenSSHReadsAQuestionThatIsQuiet(t *testing.T) {
	g := newGateway(t)
	o := newOpenSSH(t, g)
	g.asker.answer = func(ctx context.Context, _ secondfactor.Question, p conversation.Person) error {
		code, err := p.Ask(ctx, "A push was sent.\nDigits: 421 337\nPasscode, or nothing to wait: ", true)
		if err == nil && code.Reveal() != "123456" {
			err = secondfactor.ErrRefused
		}
		return err
	}
	g.start()
	o.code = "123456"
	out, log, status := o.run("-q")
	if status != 7 || !strings.HasPrefix(out, "alice publickey authd") {
		t.Fatalf("status %d, %q:\n%s", status, out, log)
	}
	asked, err := os.ReadFile(filepath.Join(o.dir, "asked"))
	check(t, err)
	for _, line := range []string{"A push was sent.", "Digits: 421 337", "Passcode, or nothing to wait: "} {
		if !strings.Contains(string(asked), line) {
			t.Errorf("%q was not shown:\n%s", line, asked)
		}
	}
}

func TestOpenSSHAnswersAQuestion(t *testing.T) {
	g := newGateway(t)
	o := newOpenSSH(t, g)
	g.asker.answer = func(ctx context.Context, q secondfactor.Question, p conversation.Person) error {
		if err := p.Show(frames.StyleInfo, "Digits: 421 337"); err != nil {
			return err
		}
		return passcode(ctx, q, p)
	}
	g.start()
	o.code = "123456"
	out, log, status := o.run()
	if status != 7 || !strings.HasPrefix(out, "alice publickey authd") {
		t.Fatalf("status %d, %q:\n%s", status, out, log)
	}
	if !strings.Contains(log, "Digits: 421 337") {
		t.Errorf("the digits were not shown:\n%s", log)
	}
	o.code = "000000"
	if out, log, status := o.run(); status != 255 || out != "" {
		t.Errorf("a wrong passcode: status %d, %q\n%s", status, out, log)
	}
	// Who cannot be asked is not let in, and is not asked.
	before := g.asker.count()
	if out, _, status := o.run("-o", "BatchMode=yes"); status != 255 || out != "" || g.asker.count() != before {
		t.Errorf("BatchMode: status %d, %q, authd was asked %d times", status, out, g.asker.count()-before)
	}
}

// A reply that is held for longer than the client waits for signs of life: the banners
// are signs of life, and they show the digits.
func TestOpenSSHWaitsForAHeldReply(t *testing.T) {
	g := newGateway(t)
	o := newOpenSSH(t, g)
	g.policy.Banner = 200 * time.Millisecond
	g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
		return &config.Door{Name: "held", Action: config.DoorHold}
	}
	g.asker.answer = func(ctx context.Context, _ secondfactor.Question, p conversation.Person) error {
		if err := p.Show(frames.StyleInfo, "Digits: 421 337"); err != nil {
			return err
		}
		select { // longer than ServerAliveInterval times ServerAliveCountMax
		case <-time.After(4 * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	g.start()
	out, log, status := o.run("-o", "BatchMode=yes", "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2")
	if status != 7 || !strings.HasPrefix(out, "alice publickey held") {
		t.Fatalf("status %d, %q:\n%s", status, out, log)
	}
	if strings.Count(log, "Digits: 421 337") < 3 {
		t.Errorf("the digits were not shown again:\n%s", log)
	}
}

// The client learns the host keys to come, and believes them because they are proven.
func TestOpenSSHLearnsHostKeys(t *testing.T) {
	g, _ := openGateway(t)
	o := newOpenSSH(t, g)
	g.start()
	out, log, status := o.run("-o", "BatchMode=yes", "-o", "UpdateHostKeys=yes")
	if status != 7 {
		t.Fatalf("status %d, %q:\n%s", status, out, log)
	}
	known, err := os.ReadFile(o.known)
	check(t, err)
	for i, k := range g.keys {
		if !bytes.Contains(known, bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.PublicKey()))) {
			t.Errorf("key %d was not learned:\n%s\n%s", i, known, log)
		}
	}
}
