// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/user"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// gatewaySite is a daemon whose gateway is who runs the test.
func gatewaySite(t *testing.T) *site {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "[gateway]\nuser = \""+me.Username+"\"\n")
	s.verifier.Preauth.Devices[0].Capabilities = []string{duoapi.CapabilityPush}
	return s.start()
}

func gatewayCall(kind string) *frames.Request {
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sshgw", User: "root", PAMEnv: map[string]string{
		"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22", "SSH_AUTH_INFO_0": "password",
		"SALLYPORT_SSH_SESSION": strings.Repeat("0f", 32), "SALLYPORT_GATEWAY": kind, "SALLYPORT_GATEWAY_RULE": "r",
	}}
}

// Answers to a held reply, which nobody has asked for, let nobody in: the first is
// not read, and the second ends the call.
func TestAttackAnswersToAHeldReply(t *testing.T) {
	s := gatewaySite(t)
	c := s.dial(GatewaySocketName)
	s.send(c, gatewayCall("hold"))
	s.send(c, &frames.Answer{Text: "123456"})
	txid := s.verifier.Started(t)
	s.send(c, &frames.Answer{Text: "123456"})
	if d := until[*frames.Done](s, c); d.Outcome == frames.OutcomeAllow {
		t.Errorf("%s\n%s", d, s.log)
	}
	s.verifier.Approve(txid) // too late
	if n := len(s.verifier.Calls("/auth/v2/auth")); n != 1 {
		t.Errorf("the verifier was asked %d times", n)
	}
	s.waitLog("reason=protocol_error")
}

// What is too large, is no request, or has a hook that there is not, gets no answer
// but the end, and the socket serves on.
func TestAttackFramesOnTheGatewaySocket(t *testing.T) {
	s := gatewaySite(t)
	header := func(typ byte, size uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{'S', 'P', frames.Version, typ}, size)
	}
	for name, bytes := range map[string][]byte{
		"4 GiB": header(1, 1<<32-1), "just too large": header(1, frames.PayloadMax+1), "no request": append(header(2, 3), 16, 0, 0), "SSH": []byte("SSH-2.0-x\r\n"),
		"hook 8": append(header(1, 4), 1, 0, 1, 8),
	} {
		c := s.dial(GatewaySocketName)
		if _, err := c.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if f, err := frames.ReadFrame(c); !errors.Is(err, io.EOF) && !errors.As(err, new(*net.OpError)) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	s.verifier.Lock()
	s.verifier.Preauth.Result = duoapi.ResultAllow
	s.verifier.Unlock()
	c := s.dial(GatewaySocketName)
	s.send(c, gatewayCall("door"))
	if d := until[*frames.Done](s, c); d.Outcome != frames.OutcomeAllow {
		t.Errorf("%s\n%s", d, s.log)
	}
}

// One person opens question after question and answers none. They come to the end of
// their own places, and everybody else gets through, their own keys' look-up included.
func TestAttackOnePersonTakesAllPlaces(t *testing.T) {
	s := gatewaySite(t)
	for range 16 {
		c := s.dial(GatewaySocketName)
		s.send(c, gatewayCall("step-up"))
		until[*frames.Ask](s, c)
	}
	c := s.dial(GatewaySocketName)
	s.send(c, gatewayCall("step-up"))
	if d := until[*frames.Done](s, c); d.Outcome != frames.OutcomeUnavailable {
		t.Errorf("one more than one person may have: %s", d)
	}
	s.waitLog("limits.gateway_connections_user")
	other := gatewayCall("door")
	other.User = "nobody"
	c = s.dial(GatewaySocketName)
	s.send(c, other)
	until[*frames.Ask](s, c)
	keys := gatewayCall("door")
	keys.Hook = frames.HookSSHKeys
	c = s.dial(GatewaySocketName)
	s.send(c, keys)
	until[*frames.Done](s, c)
	if strings.Count(s.log.String(), "connection refused") != 1 {
		t.Errorf("somebody else was refused\n%s", s.log)
	}
}

// Questions about SSH keys, which strangers can cause, take a quarter of the places.
func TestAttackKeysTakeAllPlaces(t *testing.T) {
	e := &login.Engine{}
	cfg, err := config.Parse("authd.toml", "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"x\"\n")
	if err != nil {
		t.Fatal(err)
	}
	e.Use(&login.State{Config: cfg})
	srv := newServer(login.GatewaySocket, GatewaySocketName, e, nil, nil)
	limits := e.Config().Limits
	taken := 0
	for i := range limits.Gateway {
		if why, _ := srv.enterPerson(&frames.Request{Hook: frames.HookSSHKeys, User: strconv.Itoa(i)}); why == "" {
			taken++
		}
	}
	if taken != limits.Gateway/4 {
		t.Errorf("they took %d of %d", taken, limits.Gateway)
	}
	if why, _ := srv.enterPerson(&frames.Request{Hook: frames.HookAuthenticate, User: "alice"}); why != "" {
		t.Errorf("a login then: %s", why)
	}
	for i := range limits.Gateway / 4 {
		srv.leavePerson(&frames.Request{Hook: frames.HookSSHKeys, User: strconv.Itoa(i)})
	}
	if srv.keys != 0 || len(srv.perUser) != 1 {
		t.Errorf("%d are still counted, of %d people", srv.keys, len(srv.perUser))
	}
}
