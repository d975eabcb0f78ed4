// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// open is a gateway that lets alice in by key, without a second step.
func openGateway(t testing.TB) (*gateway, ssh.Signer) {
	t.Helper()
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("alice", "", key.PublicKey())
	g.asker.answer = nil
	g.policy.Door = func(context.Context, config.DoorQuery) *config.Door {
		return &config.Door{Name: "held", Action: config.DoorHold}
	}
	return g, key
}

func channelOpen(kind string, id uint32) []byte {
	p := append([]byte{msgChannelOpen}, str(kind)...)
	p = binary.BigEndian.AppendUint32(p, id)
	p = binary.BigEndian.AppendUint32(p, 1<<20)
	return binary.BigEndian.AppendUint32(p, 1<<15)
}

// TestAttack10000Channels: channels are opened without end. The handler sees no more than
// the limit, however they are opened, and none after that costs anything that stays.
func TestAttack10000Channels(t *testing.T) {
	g, key := openGateway(t)
	var mu sync.Mutex
	seen := 0
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		c.Go(func() { answers(c, requests) })
		for n := range channels {
			mu.Lock()
			seen++
			mu.Unlock()
			if _, in, err := n.Accept(); err == nil {
				c.Go(func() { ssh.DiscardRequests(in) })
			}
		}
	}
	g.start()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	const many = 10_000
	sent := make(chan error, 1)
	go func() {
		for i := range uint32(many) {
			if err := w.trySend(channelOpen("session", i)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	opened, refused := 0, 0
	for opened+refused < many {
		p, err := w.tryRead()
		if err != nil {
			t.Fatal(err)
		}
		switch p[0] {
		case msgChannelOpenOK:
			opened++
		case msgChannelOpenNo:
			refused++
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if opened != g.settings.Limits.Channels || seen != opened {
		t.Errorf("%d channels were opened, %d seen by the handler; the limit is %d", opened, seen, g.settings.Limits.Channels)
	}
	if n := strings.Count(g.log.String(), "limits.channels"); n != 1 {
		t.Errorf("the limit is logged %d times", n)
	}
	_ = w.conn.Close()
	eventually(t, "the end says how many", func() bool { return strings.Contains(g.log.String(), "channels_over_limit=9990") })
}

// TestAttackChannelsNeverClosed: the gateway closes its half of each channel and the
// client never does: the library holds them, so they count.
func TestAttackChannelsNeverClosed(t *testing.T) {
	g, key := openGateway(t)
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		c.Go(func() { answers(c, requests) })
		for n := range channels {
			if ch, in, err := n.Accept(); err == nil {
				c.Go(func() { ssh.DiscardRequests(in) })
				_ = ch.Close()
			}
		}
	}
	g.start()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	var peers []uint32
	read := func() byte {
		for {
			p, err := w.tryRead()
			if err != nil {
				t.Fatal(err)
			}
			switch p[0] {
			case msgChannelOpenOK:
				peers = append(peers, binary.BigEndian.Uint32(p[5:]))
				return p[0]
			case msgChannelOpenNo:
				return p[0]
			}
		}
	}
	for i := range uint32(g.settings.Limits.Channels) {
		w.send(channelOpen("session", i))
		if read() != msgChannelOpenOK {
			t.Fatalf("channel %d was refused", i)
		}
	}
	w.send(channelOpen("session", 1000))
	if read() != msgChannelOpenNo {
		t.Fatal("channels that are half closed do not count")
	}
	// One that is closed at both ends makes room.
	w.send(binary.BigEndian.AppendUint32([]byte{msgChannelClose}, peers[0]))
	eventually(t, "there is room again", func() bool {
		w.send(channelOpen("session", 1001))
		return read() == msgChannelOpenOK
	})
}

// TestAttackUnsolicitedReplies: answers that nobody asked for arrive in thousands, before,
// between and after requests (CVE-2026-39830: both roles stood still).
func TestAttackUnsolicitedReplies(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.KeepAlive, g.settings.Timeouts.KeepAliveCount = 50*time.Millisecond, 1000
	g.start()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	for range 5000 {
		w.send([]byte{msgRequestSuccess})
		w.send([]byte{msgRequestFailure})
	}
	w.send(channelOpen("session", 0))
	opened := false
	for !opened {
		p, err := w.tryRead()
		if err != nil {
			t.Fatalf("the connection ended: %v", err)
		}
		opened = p[0] == msgChannelOpenOK
	}
	// Nor for a channel request.
	for range 1000 {
		w.send(binary.BigEndian.AppendUint32([]byte{msgChannelSuccess}, 0))
	}
	w.send(channelOpen("session", 1))
	for {
		p, err := w.tryRead()
		if err != nil {
			t.Fatalf("the connection ended: %v", err)
		}
		if p[0] == msgChannelOpenOK {
			return
		}
	}
}

// TestAttack4GiBPacket: a length of four gibibytes is no reason to make room for them,
// before the key exchange and after it.
func TestAttack4GiBPacket(t *testing.T) {
	g, key := openGateway(t)
	g.start()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		conn := mustDial(t, g.address)
		if _, err := conn.Write([]byte("SSH-2.0-Attack\r\n\xff\xff\xff\xff\x08and no more")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("the connection goes on: %v", err)
		}
	}
	w := dialRaw(t, g.address)
	w.login("alice", key)
	if _, err := w.conn.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	w.mustEnd("a packet of 4 GiB")
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
}

// TestAttackSlowHandshake: connections that say nothing, or a byte now and then, lose
// their place when their time is up, and the setting is named.
func TestAttackSlowHandshake(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.FirstFactor = 300 * time.Millisecond
	g.settings.Limits.UnauthenticatedFrom = 3
	g.start()
	for range 3 {
		conn := mustDial(t, g.address)
		go func() {
			for _, b := range []byte(strings.Repeat("SSH-2.0-slow ", 1000)) {
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	eventually(t, "the places are taken", func() bool { return g.server.Handshakes() == 3 })
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	refusedAs(t, c, err, "a fourth handshake of three")
	eventually(t, "the places are free", func() bool { return g.server.Handshakes() == 0 })
	eventually(t, "the setting is named", func() bool {
		return strings.Contains(g.log.String(), "limits.unauthenticated") && strings.Contains(g.log.String(), "timeouts.first_factor")
	})
	if c, err = g.client("alice", nil, ssh.PublicKeys(key)); err != nil {
		t.Fatalf("afterwards nobody comes in: %v", err)
	}
	_ = c.Close()
}

// TestAttackSlowAnswer: a factor that is never shown ends with the handshake's time.
func TestAttackSlowAnswer(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.Handshake = 300 * time.Millisecond
	g.asker.answer = func(ctx context.Context, _ secondfactor.Question, _ conversation.Person) error {
		<-ctx.Done()
		return nil // even a yes is too late
	}
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	refusedAs(t, c, err, "an approval after its time")
	eventually(t, "the setting is named", func() bool { return strings.Contains(g.log.String(), "timeouts.handshake") })
}

// TestAttackOneSourceTakesAllPlaces: a source has its own share, and one that failed waits.
func TestAttackOneSourceTakesAllPlaces(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Limits.UnauthenticatedFrom = 2
	g.settings.Limits.Penalty, g.settings.Limits.PenaltyMax = time.Hour, time.Hour
	g.start()
	for range 2 {
		mustDial(t, g.address)
	}
	eventually(t, "the share is taken", func() bool { return g.server.Handshakes() == 2 })
	if _, err := g.client("alice", nil, ssh.PublicKeys(key)); err == nil {
		t.Error("a third handshake of one source")
	}
	eventually(t, "it is logged", func() bool { return strings.Contains(g.log.String(), "limits.unauthenticated_from") })
}

func TestPenalty(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Limits.Penalty, g.settings.Limits.PenaltyMax = time.Hour, time.Hour
	g.start()
	if _, err := g.client("alice", nil, ssh.PublicKeys(newSigner(t))); err == nil {
		t.Fatal("an unknown key")
	}
	eventually(t, "the source waits", func() bool {
		_, err := g.client("alice", nil, ssh.PublicKeys(key))
		return err != nil && strings.Contains(g.log.String(), "limits.penalty")
	})
	exempt, key := openGateway(t)
	exempt.settings.Limits.Penalty, exempt.settings.Limits.PenaltyMax = time.Hour, time.Hour
	exempt.settings.Limits.PenaltyExempt = []string{"127.0.0.0/8"}
	exempt.start()
	_, _ = exempt.client("alice", nil, ssh.PublicKeys(newSigner(t)))
	eventually(t, "the failure is over", func() bool { return strings.Contains(exempt.log.String(), "gw_login_refused") })
	c, err := exempt.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatalf("an exempt network waits: %v", err)
	}
	_ = c.Close()
}

func TestLimitsOfConnections(t *testing.T) {
	for setting, set := range map[string]func(*config.Limits){
		"limits.connections_user": func(l *config.Limits) { l.ConnectionsUser = 1 },
		"limits.connections_from": func(l *config.Limits) { l.ConnectionsFrom = 1 },
		"limits.connections":      func(l *config.Limits) { l.Connections = 1 },
	} {
		g, key := openGateway(t)
		set(&g.settings.Limits)
		g.start()
		c, err := g.client("alice", nil, ssh.PublicKeys(key))
		if err != nil {
			t.Fatal(err)
		}
		second, err := g.client("alice", nil, ssh.PublicKeys(key))
		refusedAs(t, second, err, setting)
		eventually(t, setting+" is named", func() bool { return strings.Contains(g.log.String(), "setting="+setting) })
		_ = c.Close()
		eventually(t, "there is room again", func() bool {
			c, err := g.client("alice", nil, ssh.PublicKeys(key))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
}

// TestAttackPanic: a panic in the code of one connection, in its handler or in a channel's
// goroutine, ends that connection (in gliderlabs/ssh it ended all of them).
func TestAttackPanic(t *testing.T) {
	g, key := openGateway(t)
	bad := newSigner(t)
	g.authorize("bob", "", bad.PublicKey())
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		if c.Identity.Account.Name == "bob" {
			panic("in the handler")
		}
		echo(ctx, c, channels, requests)
	}
	g.start()
	good, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	if c, err := g.client("bob", nil, ssh.PublicKeys(bad)); err == nil {
		_ = c.Wait()
	}
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Run("panic")
	_ = c.Wait()
	if got := whoami(t, good); !strings.HasPrefix(got, "alice ") {
		t.Errorf("another connection is %q", got)
	}
	eventually(t, "both are logged", func() bool { return strings.Count(g.log.String(), `reason=panic`) == 2 })
	eventually(t, "both have left", func() bool { n, _ := g.roster.Len(); return n == 1 })
}

// TestAttackPanicAtTheDoor: a panic in a callback of the authentication.
func TestAttackPanicAtTheDoor(t *testing.T) {
	g, key := openGateway(t)
	var once sync.Once
	g.asker.answer = func(context.Context, secondfactor.Question, conversation.Person) error {
		once.Do(func() { panic("at the door") })
		return nil
	}
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	refusedAs(t, c, err, "a panic at the door")
	if c, err = g.client("alice", nil, ssh.PublicKeys(key)); err != nil {
		t.Fatalf("nobody comes in any more: %v", err)
	}
	_ = c.Close()
	eventually(t, "no place is lost", func() bool { return g.server.Handshakes() == 0 })
	if log := g.log.String(); !strings.Contains(log, "event=gw_login_refused") || strings.Count(log, "event=gw_disconnect") > 1 {
		t.Errorf("what was no login yet is said to have ended as one: %s", log)
	}
}

// TestAttackConnectionThatOpensNothing: `ssh -N` is counted, listed, kept alive, and
// ended when it is told to (gliderlabs/ssh has no hook that knows of it).
func TestAttackConnectionThatOpensNothing(t *testing.T) {
	g, key := openGateway(t)
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "it is listed", func() bool { return len(g.roster.List("alice")) == 1 })
	if ended := g.roster.EndUser("alice", "told to"); len(ended) != 1 {
		t.Fatalf("%d connections ended", len(ended))
	}
	_ = c.Wait()
	eventually(t, "the reason is logged", func() bool { return strings.Contains(g.log.String(), `reason="told to"`) })
}

// TestAttackSilentClient: a client whose machine is gone answers no keepalive. One that
// answers, by whatever answer, stays.
func TestAttackSilentClient(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.KeepAlive, g.settings.Timeouts.KeepAliveCount = 50*time.Millisecond, 3
	g.start()
	alive, err := g.client("alice", nil, ssh.PublicKeys(key)) // x/crypto answers with a failure
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	w.mustEnd("a client that never answers")
	eventually(t, "the setting is named", func() bool { return strings.Contains(g.log.String(), "timeouts.keepalive_count") })
	if got := whoami(t, alive); !strings.HasPrefix(got, "alice ") {
		t.Errorf("the other is %q", got)
	}
}

// TestAttackIdleRefreshedByNothing: a connection without any channel's data ends, though
// its client asks for keepalives all the time; one with data does not.
func TestAttackIdleRefreshedByKeepalives(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.Idle = 400 * time.Millisecond
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	<-done
	eventually(t, "the setting is named", func() bool { return strings.Contains(g.log.String(), "timeouts.idle") })
}

func TestActiveConnectionIsNotIdle(t *testing.T) {
	g, key := openGateway(t)
	g.settings.Timeouts.Idle = 400 * time.Millisecond
	g.settings.Timeouts.Session = 2 * time.Second
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.Active()
			case <-ctx.Done():
				return
			}
		}
	}
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	eventually(t, "its total time ended it", func() bool { return strings.Contains(g.log.String(), "timeouts.session") })
	if strings.Contains(g.log.String(), "timeouts.idle") {
		t.Error("it was idle")
	}
}

// TestAttackHandlerThatLeaves: a handler that returns at once leaves nothing behind.
func TestAttackHandlerThatLeaves(t *testing.T) {
	g, key := openGateway(t)
	g.handler = func(context.Context, *server.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request) {}
	g.start()
	before := runtime.NumGoroutine()
	for range 20 {
		w := dialRaw(t, g.address)
		w.login("alice", key)
		for i := range uint32(5) {
			_ = w.trySend(channelOpen("session", i))
		}
		w.mustEnd("a handler that has left")
		_ = w.conn.Close()
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+3 })
}

// TestDrain: nobody new comes in; who is there may finish; then it is over.
func TestDrain(t *testing.T) {
	g, key := openGateway(t)
	g.start()
	c, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		g.server.Drain(ctx, "timeouts.drain")
	}()
	eventually(t, "nobody new comes in", func() bool {
		c, err := g.client("alice", nil, ssh.PublicKeys(key))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if got := whoami(t, c); !strings.HasPrefix(got, "alice ") {
		t.Errorf("who is there is %q", got)
	}
	cancel()
	<-drained
	_ = c.Wait()
	eventually(t, "the setting is named", func() bool { return strings.Contains(g.log.String(), "setting=timeouts.drain") })
}

// TestHostKeys: all host keys are announced, those asked about are proven for this very
// session, and nothing else is signed.
func TestHostKeys(t *testing.T) {
	g, key := openGateway(t)
	g.start()
	w := dialRaw(t, g.address)
	w.login("alice", key)
	p, err := w.tryRead()
	if err != nil || p[0] != msgGlobalRequest {
		t.Fatalf("no announcement: %v", err)
	}
	name, rest := cut(p[1:])
	if string(name) != "hostkeys-00@openssh.com" || rest[0] != 0 {
		t.Fatalf("the request is %q", name)
	}
	rest = rest[1:]
	var blobs [][]byte
	for len(rest) > 0 {
		var blob []byte
		blob, rest = cut(rest)
		blobs = append(blobs, blob)
	}
	if len(blobs) != 2 {
		t.Fatalf("%d host keys are announced", len(blobs))
	}
	prove := func(blobs ...[]byte) []byte {
		p := append(append([]byte{msgGlobalRequest}, str("hostkeys-prove-00@openssh.com")...), 1)
		for _, b := range blobs {
			p = append(p, str(b)...)
		}
		w.send(p)
		for {
			p, err := w.tryRead()
			if err != nil {
				t.Fatal(err)
			}
			switch p[0] {
			case msgRequestSuccess:
				return p[1:]
			case msgRequestFailure:
				return nil
			}
		}
	}
	proofs := prove(blobs...)
	for i, k := range g.keys {
		var proof []byte
		proof, proofs = cut(proofs)
		var sig ssh.Signature
		if err := ssh.Unmarshal(proof, &sig); err != nil {
			t.Fatal(err)
		}
		signed := append(append(str("hostkeys-prove-00@openssh.com"), str(w.session)...), str(k.PublicKey().Marshal())...)
		if err := k.PublicKey().Verify(signed, &sig); err != nil {
			t.Errorf("key %d is not proven: %v", i, err)
		}
	}
	if prove(newSigner(t).PublicKey().Marshal()) != nil {
		t.Error("another key is proven")
	}
	if prove(blobs[0], blobs[0], blobs[0]) != nil {
		t.Error("more is signed than there is")
	}
	prove(blobs[0])
	if prove(blobs[0]) != nil {
		t.Error("the gateway signs for as long as it is authd")
	}
}

// TestInner: an SSH connection inside a channel of another. Method none is enough where
// nothing is asked, and what was admitted for one user is not another's.
func TestInner(t *testing.T) {
	g, key := openGateway(t)
	host := newSigner(t)
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		c.Go(func() { answers(c, requests) })
		for n := range channels {
			ch, in, err := n.Accept()
			if err != nil {
				continue
			}
			c.Go(func() { ssh.DiscardRequests(in) })
			c.Go(func() {
				_ = g.server.ServeInner(ctx, ch, server.Inner{
					Outer: c, Host: host, Target: "db1", Handler: echo,
					Admit: func(ctx context.Context, user string, p conversation.Person) error {
						switch {
						case user == "root":
							return nil
						case user != "postgres":
							return errors.New("no")
						case p == nil:
							return conversation.ErrNobody
						}
						return passcode(ctx, secondfactor.Question{}, p)
					},
				})
			})
		}
	}
	g.start()
	outer, err := g.client("alice", nil, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	inside := func(user, answer string) (*ssh.Client, error) {
		conn, err := outer.Dial("tcp", "db1:22")
		if err != nil {
			return nil, err
		}
		c, channels, requests, err := ssh.NewClientConn(conn, "db1:22", &ssh.ClientConfig{
			User: user, Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(code(answer))}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
		})
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		return ssh.NewClient(c, channels, requests), nil
	}
	for user, answer := range map[string]string{"root": "", "postgres": "123456"} {
		c, err := inside(user, answer)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		if got := whoami(t, c); !strings.HasPrefix(got, "alice ") {
			t.Errorf("inside it is %q", got)
		}
		_ = c.Close()
	}
	for user, answer := range map[string]string{"postgres": "000000", "mallory": "123456"} {
		c, err := inside(user, answer)
		refusedAs(t, c, err, user+" inside with "+answer)
	}
	// The end of the outer one is the end of what runs inside.
	c, err := inside("root", "")
	if err != nil {
		t.Fatal(err)
	}
	g.roster.EndUser("alice", "told to")
	_ = c.Wait()
}
