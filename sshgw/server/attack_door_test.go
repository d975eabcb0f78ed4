// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// TestAttackEmptyForceCommand: a certificate whose force-command is there and empty is
// meant to run nothing, and is not one without a forced command.
func TestAttackEmptyForceCommand(t *testing.T) {
	g := newGateway(t)
	key, ca := newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.start()
	s := certificate(t, ca, key, func(c *ssh.Certificate) {
		c.ValidPrincipals = []string{"alice"}
		c.CriticalOptions = map[string]string{"force-command": ""}
		c.Extensions = map[string]string{"permit-pty": "", "permit-port-forwarding": ""}
	})
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(s))
	refusedAs(t, c, err, "a certificate with an empty force-command")
}

// Who has no account here is known as such afterwards: groups are asked for by name alone.
func TestPersonWithoutAnAccountIsAbsent(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("carol", "", key.PublicKey())
	g.policy.Accounts = auth.AccountsAny
	absent := make(chan bool, 1)
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		absent <- c.Identity.Account.Absent
		echo(ctx, c, channels, requests)
	}
	g.start()
	c, err := g.client("carol", code("123456"), ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if !<-absent {
		t.Error("the account passes for one of this machine")
	}
}

// crowd is a PAM that notes how many conversations there are at once, and ends none
// before it is told to.
type crowd struct {
	mu        sync.Mutex
	now, most int
	enough    chan struct{}
}

func (c *crowd) Call(ctx context.Context, _ *frames.Request, _ conversation.Person) (frames.Outcome, error) {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}()
	select {
	case <-c.enough:
		return frames.OutcomeDeny, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (c *crowd) count() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.most
}

// TestAttackPAMFlood: one source that knows nothing opens connections and tries passwords
// in all of them. It has a few conversations with PAM at once, and not those of all others.
func TestAttackPAMFlood(t *testing.T) {
	g := newGateway(t)
	pam := &crowd{enough: make(chan struct{})}
	g.pam = pam
	g.policy.First.Password = true
	g.start()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if c, err := g.client("nobody", nil, ssh.Password("x")); err == nil {
				_ = c.Close()
			}
		})
	}
	eventually(t, "the source has its share", func() bool { now, _ := pam.count(); return now == 4 })
	close(pam.enough)
	wg.Wait()
	if _, most := pam.count(); most != 4 {
		t.Errorf("%d conversations at once for one source", most)
	}
}

// TestAttackMemoryBeforeAuthentication: while a password is checked the client sends
// packets, of which the library would keep four mebibytes.
func TestAttackMemoryBeforeAuthentication(t *testing.T) {
	g := newGateway(t)
	pam := &crowd{enough: make(chan struct{})}
	defer close(pam.enough)
	g.pam = pam
	g.policy.First.Password = true
	g.start()
	w := dialRaw(t, g.address)
	w.send(userAuth("nobody", "password", ssh.Marshal(struct {
		Change   bool
		Password string
	}{false, "x"})))
	eventually(t, "PAM is authd", func() bool { now, _ := pam.count(); return now == 1 })
	junk := make([]byte, 200<<10)
	junk[0] = 50
	sent := 0
	for ; sent < 1000; sent++ { // as much as sockets hold, and no end
		if w.trySend(junk) != nil {
			break
		}
	}
	if sent == 1000 {
		t.Error("two hundred megabytes were taken from somebody who has proven nothing")
	}
	eventually(t, "the place is free", func() bool { now, _ := pam.count(); return now == 0 && g.server.Handshakes() == 0 })
	eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), "more was sent than any login takes") })
}

// TestAttackBlameForAnOfferedKey: an agent offers another key first, and then authd is
// away: nobody failed, and those who share the address come in.
func TestAttackBlameForAnOfferedKey(t *testing.T) {
	g := newGateway(t)
	other, right := newSigner(t), newSigner(t)
	g.authorize("alice", "", right.PublicKey())
	g.settings.Limits.Penalty, g.settings.Limits.PenaltyMax = time.Hour, time.Hour
	g.asker.answer = func(context.Context, secondfactor.Question, conversation.Person) error {
		return errors.New("authd is away")
	}
	g.start()
	for i := range 3 {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(other, right))
		refusedAs(t, c, err, "authd is away")
		eventually(t, "it is over", func() bool { return strings.Count(g.log.String(), "event=gw_login_refused") == i+1 })
	}
	if strings.Contains(g.log.String(), "limits.penalty") {
		t.Error("the source was shut out for what failed here")
	}
	// A refusal by authd is one.
	g.asker.mu.Lock()
	g.asker.answer = func(context.Context, secondfactor.Question, conversation.Person) error {
		return secondfactor.ErrRefused
	}
	g.asker.mu.Unlock()
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(other, right))
	refusedAs(t, c, err, "authd says no")
	eventually(t, "the source is shut out", func() bool {
		if c, err := g.client("alice", nil, ssh.PublicKeys(right)); err == nil {
			_ = c.Close()
		}
		return strings.Contains(g.log.String(), "limits.penalty")
	})
}

// awayAuthd is an authd that does not answer, and counts.
type awayAuthd struct {
	mu    sync.Mutex
	calls int
}

func (a *awayAuthd) Call(context.Context, *frames.Request, conversation.Person) (frames.Outcome, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	return 0, io.EOF
}

// TestAttackEnumerateByPenalty: while the verifier's keys cannot be asked for, nothing
// tells the names that are there from those that are not.
func TestAttackEnumerateByPenalty(t *testing.T) {
	for _, user := range []string{"alice", "mallory"} {
		g := newGateway(t)
		authd := &awayAuthd{}
		g.authd = authd
		g.policy.First.VerifierKeys = true
		g.settings.Limits.Penalty, g.settings.Limits.PenaltyMax = time.Hour, time.Hour
		g.start()
		for i := range 3 {
			c, err := g.client(user, nil, ssh.PublicKeys(newSigner(t), newSigner(t)))
			refusedAs(t, c, err, "a key of "+user)
			eventually(t, "it is over", func() bool { return strings.Count(g.log.String(), "event=gw_login_refused") == i+1 })
		}
		if strings.Contains(g.log.String(), "limits.penalty") {
			t.Errorf("%s: shut out", user)
		}
		if authd.calls != 3 {
			t.Errorf("%s: authd was asked %d times", user, authd.calls)
		}
	}
}

// TestAttackLongNamesInTheLog: what strangers say takes little room in the log, and they
// write no more lines than anybody reads.
func TestAttackLongNamesInTheLog(t *testing.T) {
	g := newGateway(t)
	g.start()
	const many = 80
	for range many {
		c, err := g.client(strings.Repeat("A", 30_000), nil, ssh.PublicKeys(newSigner(t)))
		refusedAs(t, c, err, "a long name")
	}
	eventually(t, "all are over", func() bool { return g.server.Handshakes() == 0 })
	log := g.log.String()
	if n := strings.Count(log, "event=gw_login_refused"); n == 0 || n >= many {
		t.Errorf("%d refusals are logged, of %d", n, many)
	}
	if len(log) > many*1024 {
		t.Errorf("the log has %d bytes", len(log))
	}
}

// Who is meant is the name before the percent sign, and who went away before they tried
// anything was not refused.
func TestRefusalsInTheLog(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.start()
	if _, err := ssh.Dial("tcp", g.address, &ssh.ClientConfig{
		User: "alice", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: limit, HostKeyCallback: ssh.FixedHostKey(newSigner(t).PublicKey()),
	}); err == nil {
		t.Fatal("another host key was believed")
	}
	eventually(t, "it is over", func() bool { return strings.Contains(g.log.String(), "before anything was tried") })
	if strings.Contains(g.log.String(), "gw_login_refused") {
		t.Error("who did not believe the host key was refused")
	}
	c, err := g.client("alice%root@db1", nil, ssh.PublicKeys(newSigner(t)))
	refusedAs(t, c, err, "an unknown key")
	eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), "user=alice ") })
}

// TestAttackPlacesAreSatOnOverTheNetwork: all places are held by connections that say
// nothing, and who comes to log in finds one.
func TestAttackPlacesAreSatOnOverTheNetwork(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Limits.Unauthenticated = 3
	g.start()
	for range 3 {
		mustDial(t, g.address)
	}
	eventually(t, "the places are taken", func() bool { return g.server.Handshakes() == 3 })
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatalf("nobody comes in: %v", err)
	}
	_ = c.Close()
	eventually(t, "the setting is named", func() bool { return strings.Contains(g.log.String(), "setting=limits.unauthenticated") })
}
