// SPDX-License-Identifier: Apache-2.0

package sshgw

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/crypto/ssh"
)

// floorEnv has this program be the floor, with the host key that it holds.
const floorEnv = "SALLYPORT_BENCH_FLOOR"

func TestMain(m *testing.M) {
	host := os.Getenv(floorEnv)
	if host == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, beFloor(host))
	os.Exit(1)
}

// beFloor is a jump host of x/crypto/ssh alone, as a first program with it would look: any key,
// no second factor, no rule, no log. What it costs is the library's; what the gateway
// costs beyond is the gateway's.
func beFloor(host string) error {
	signer, err := ssh.ParsePrivateKey([]byte(host))
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go floorServe(c, config)
	}
}

func floorServe(c net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		_ = c.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		var to struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}
		if err := cmp.Or(wrongType(nc), ssh.Unmarshal(nc.ExtraData(), &to)); err != nil {
			_ = nc.Reject(ssh.Prohibited, err.Error())
			continue
		}
		go floorForward(nc, net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	}
}

func wrongType(nc ssh.NewChannel) error {
	if nc.ChannelType() == "direct-tcpip" {
		return nil
	}
	return errors.New("the floor only forwards")
}

func floorForward(nc ssh.NewChannel, to string) {
	t, err := net.Dial("tcp", to)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer func() { _ = t.Close() }()
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	defer func() { _ = ch.Close() }()
	go ssh.DiscardRequests(requests)
	up := make(chan struct{})
	go func() {
		defer close(up)
		_, _ = io.Copy(t, ch)
		_ = t.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(ch, t)
	_ = ch.CloseWrite()
	<-up
}

func (s *site) startFloor(b *testing.B) *program {
	b.Helper()
	cmd := self()
	cmd.Env = append(os.Environ(), floorEnv+"="+s.hostPEM)
	return s.start(b, "x/crypto alone", "", cmd)
}
