// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// changing is a name service that has other answers later, and later a clock on the wall.
type changing struct {
	people
	answer atomic.Pointer[func(name string) (directory.Account, error)]
	ahead  atomic.Int64
	asked  atomic.Int64
}

func (c *changing) ByName(ctx context.Context, name string) (directory.Account, error) {
	c.asked.Add(1)
	if f := c.answer.Load(); f != nil {
		return (*f)(name)
	}
	return c.people.ByName(ctx, name)
}

func (c *changing) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *changing) later(d time.Duration, account directory.Account, err error) {
	f := func(string) (directory.Account, error) { return account, err }
	c.answer.Store(&f)
	c.ahead.Add(int64(d))
}

func newChanging(t *testing.T, rules string, options ...string) (*rig, *changing) {
	t.Helper()
	r, c := newRig(t, rules, options...), &changing{}
	r.service.People, r.service.Now = c, c.now
	return r, c
}

func ended(t *testing.T, c *ssh.Client) {
	t.Helper()
	done := make(chan struct{})
	go func() { _ = c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the connection goes on")
	}
}

// An account is taken away, or its name given to somebody else, while a connection of it
// is open and shared: whoever holds that opens nothing more with it.
func TestAttackConnectionOutlivesItsAccount(t *testing.T) {
	for name, is := range map[string]struct {
		account directory.Account
		err     error
	}{
		"the account is gone":    {directory.Account{}, directory.ErrNoSuchUser},
		"the uid is another":     {directory.Account{Name: "alice", UID: 1001, GID: 1000}, nil},
		"the name is another's":  {directory.Account{Name: "mallory", UID: 1000, GID: 1000}, nil},
		"there is no uid at all": {directory.NoAccount("alice"), nil},
	} {
		for _, to := range []string{"", "root@db1"} {
			t.Run(name+" "+to, func(t *testing.T) {
				r, who := newChanging(t, everything)
				c := r.client(to)
				if s, err := c.NewSession(); err != nil {
					t.Fatal(err)
				} else {
					_ = s.Close()
				}
				if n := who.asked.Load(); n != 0 {
					t.Errorf("the name service was asked %d times right after the door", n)
				}
				who.later(2*time.Minute, is.account, is.err)
				if _, err := c.NewSession(); err == nil {
					t.Error("a session was opened")
				}
				ended(t, c)
				r.event(audit.Denied, map[string]any{"reason": "account_changed"})
			})
		}
	}
}

// The same by -R, which opens no channel.
func TestAttackListensAfterTheAccount(t *testing.T) {
	r, who := newChanging(t, everything)
	c := r.client("root@db1")
	_, _, _ = run(t, c, "cat", "") // the connection has begun
	who.later(2*time.Minute, directory.Account{}, directory.ErrNoSuchUser)
	if ok, _, err := c.SendRequest("tcpip-forward", true, ssh.Marshal(struct {
		Host string
		Port uint32
	}{"127.0.0.1", 0})); ok && err == nil {
		t.Error("it listens")
	}
	ended(t, c)
}

// The name service is away: nothing is opened, nothing that is open ends, and it is not
// asked for each channel. When it is back all goes on.
func TestNameServiceAway(t *testing.T) {
	r, who := newChanging(t, everything)
	c := r.client("root@db1")
	_, _, _ = run(t, c, "cat", "") // the connection has begun
	who.later(2*time.Minute, directory.Account{}, errors.New("the directory is away"))
	for range 3 {
		if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "cannot be looked up") {
			t.Errorf("a session then: %v", err)
		}
	}
	if n := who.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	who.later(time.Minute, directory.Account{Name: "alice", UID: 1000, GID: 1000}, nil)
	if out, _, _ := run(t, c, "cat", "still here"); out != "still here" {
		t.Errorf("then %q", out)
	}
}

// A key that has expired opens nothing anew; what is open goes on, unless the
// configuration has it otherwise.
func TestAttackConnectionOutlivesItsKey(t *testing.T) {
	soon := time.Now().Add(48 * time.Hour).UTC()
	r, who := newChanging(t, everything, `expiry-time="`+soon.Format("20060102150405Z")+`"`)
	c := r.client("root@db1")
	if out, _, _ := run(t, c, "cat", "before"); out != "before" {
		t.Errorf("before: %q", out)
	}
	open, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	who.ahead.Add(int64(72 * time.Hour))
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("a session then: %v", err)
	}
	r.event(audit.Denied, map[string]any{"reason": "expired"})
	// The session is open, and what it would run is not.
	if err := open.Run("true"); err == nil {
		t.Error("a program was started")
	}
}

func TestConnectionEndsWithItsKey(t *testing.T) {
	const soon = 3 * time.Second
	until := time.Now().Add(soon).UTC().Truncate(time.Second).Add(time.Second)
	r, _ := newChanging(t, everything, `expiry-time="`+until.Format("20060102150405Z")+`"`)
	changed := *r.config.Load()
	changed.First.EndAtExpiry = true
	r.config.Store(&changed)
	c := r.client("root@db1")
	ended(t, c)
	r.event(audit.Disconnected, map[string]any{"setting": "first_factor.end_at_expiry"})
}
