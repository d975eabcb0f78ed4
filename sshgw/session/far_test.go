// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// global serves requests of the gateway that belong to no channel.
func (f *farServer) global(sc *ssh.ServerConn, requests <-chan *ssh.Request) {
	for r := range requests {
		f.saw("global " + r.Type)
		var m struct {
			Host string
			Port uint32
		}
		if r.Type != "tcpip-forward" || ssh.Unmarshal(r.Payload, &m) != nil {
			_ = r.Reply(r.Type == "cancel-tcpip-forward", nil)
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(m.Port)))
		if err != nil {
			_ = r.Reply(false, nil)
			continue
		}
		port := uint32(l.Addr().(*net.TCPAddr).Port)
		f.t.Cleanup(func() { _ = l.Close() })
		_ = r.Reply(true, ssh.Marshal(struct{ Port uint32 }{port}))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go f.forward(sc, c, m.Host, port)
			}
		}()
	}
}

func (f *farServer) forward(sc *ssh.ServerConn, c net.Conn, host string, port uint32) {
	defer c.Close()
	ch, requests, err := sc.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}{host, port, "127.0.0.1", 1}))
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(ch, c)
		_ = ch.CloseWrite()
	}()
	_, _ = io.Copy(c, ch)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func (f *farServer) session(sc *ssh.ServerConn, ch ssh.Channel, requests <-chan *ssh.Request) {
	var wishes []string
	signals := make(chan string, 8)
	for r := range requests {
		f.saw(r.Type)
		switch r.Type {
		case "shell":
			_ = r.Reply(true, nil)
			go func() {
				_, _ = io.WriteString(ch, "$ ")
				_, _ = io.Copy(ch, ch)
				status(ch, 0)
			}()
		case "exec":
			var m struct{ Command string }
			_ = ssh.Unmarshal(r.Payload, &m)
			if m.Command == "never" {
				continue
			}
			_ = r.Reply(m.Command != "no", nil)
			go f.exec(sc, ch, m.Command, slices.Clone(wishes), signals)
		case "subsystem":
			_ = r.Reply(true, nil)
			go f.files(ch)
		case "signal", "window-change":
			signals <- r.Type + " " + hex.EncodeToString(r.Payload)
			_ = r.Reply(true, nil)
		default:
			wishes = append(wishes, r.Type+" "+hex.EncodeToString(r.Payload))
			_ = r.Reply(r.Type != "pty-req" || !bytes.Contains(r.Payload, []byte("none")), nil)
		}
	}
}

// files is the sftp server of OpenSSH, if there is one.
func (f *farServer) files(ch ssh.Channel) {
	cmd := exec.Command("/usr/lib/openssh/sftp-server")
	in, _ := cmd.StdinPipe()
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	go func() {
		_, _ = io.Copy(in, ch)
		_ = in.Close()
	}()
	if err := cmd.Run(); err != nil {
		f.t.Error(err)
	}
	status(ch, 0)
}

func status(ch ssh.Channel, n uint32) {
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ N uint32 }{n}))
	_ = ch.CloseWrite()
	_ = ch.Close()
}

func (f *farServer) exec(sc *ssh.ServerConn, ch ssh.Channel, command string, wishes []string, signals <-chan string) {
	word, arg, _ := strings.Cut(command, " ")
	n, _ := strconv.Atoi(arg)
	switch word {
	case "exit":
		_, _ = io.WriteString(ch, "out")
		status(ch, uint32(n))
	case "cat":
		_, _ = io.Copy(ch, ch)
		status(ch, 0)
	case "sum": // answers once its input has ended
		b, _ := io.ReadAll(ch)
		fmt.Fprintf(ch, "%s %d", sum(b), len(b))
		status(ch, 0)
	case "gen":
		_, _ = ch.Write(pattern(n))
		status(ch, 0)
	case "closeout": // its output ends long before its input
		_, _ = io.WriteString(ch, "bye")
		_ = ch.CloseWrite()
		b, _ := io.ReadAll(ch)
		f.saw(fmt.Sprint("read ", len(b)))
		status(ch, 0)
	case "lateexit": // its output ends before it does, as sshd tells of most programs
		_ = ch.CloseWrite()
		time.Sleep(100 * time.Millisecond)
		status(ch, uint32(n))
	case "binary":
		b := make([]byte, 256)
		for i := range b {
			b[i] = byte(i)
		}
		_, _ = ch.Stderr().Write(b)
		_, _ = ch.Write(b)
		status(ch, 3)
	case "wishes":
		_, _ = io.WriteString(ch, strings.Join(wishes, "\n"))
		status(ch, 0)
	case "signal":
		_, _ = io.WriteString(ch, "ready\n")
		_, _ = io.WriteString(ch, <-signals)
		_, _ = ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal  string
			Core    bool
			Message string
			Lang    string
		}{"TERM", true, "terminated", "en"}))
		_ = ch.Close()
	case "background": // its exit status comes at once, and its output stays open
		_, _ = io.WriteString(ch, "started")
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ N uint32 }{7}))
		_, _ = io.Copy(io.Discard, ch)
	case "early":
		_, _ = ch.Write(pattern(1 << 20))
		_ = ch.Close()
	case "flood":
		b := pattern(32 << 10)
		for {
			if _, err := ch.Stderr().Write(b); err != nil {
				return
			}
		}
	case "drop":
		_ = sc.Close()
	case "unasked":
		_, _ = ch.SendRequest("exit-status", false, []byte{1})
		_, _ = ch.SendRequest("exit-signal", false, []byte{1, 2})
		for range 40 {
			_, _ = ch.SendRequest("window-change", false, nil)
		}
		ok, err := ch.SendRequest("what@example.com", true, nil)
		fmt.Fprint(ch, ok, err)
		status(ch, 4)
	case "open":
		_, _, err := sc.OpenChannel(arg, nil)
		fmt.Fprint(ch, err)
		status(ch, 0)
	case "openmany":
		for range n {
			_, _, _ = sc.OpenChannel("what@example.com", nil)
		}
		status(ch, 0)
	case "forwarded":
		_, _, err := sc.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
			Host       string
			Port       uint32
			Origin     string
			OriginPort uint32
		}{"localhost", uint32(n), "127.0.0.1", 1}))
		fmt.Fprint(ch, err)
		status(ch, 0)
	case "agent":
		fmt.Fprint(ch, list(sc))
		status(ch, 0)
	case "agent-later":
		_, _ = io.WriteString(ch, "bye")
		status(ch, 0)
		time.Sleep(200 * time.Millisecond)
		f.agent <- list(sc)
	case "agent-held": // opened in time, and asked when the session is over
		a, requests, err := sc.OpenChannel("auth-agent@openssh.com", nil)
		if err != nil {
			f.agent <- err
			return
		}
		go ssh.DiscardRequests(requests)
		_, err = agent.NewClient(a).List()
		f.agent <- err
		status(ch, 0)
		time.Sleep(200 * time.Millisecond)
		_, err = agent.NewClient(a).List()
		f.agent <- err
	default:
		fmt.Fprintf(ch, "%s: what?", word)
		status(ch, 127)
	}
}

// list asks the agent which keys it has.
func list(sc *ssh.ServerConn) error {
	a, requests, err := sc.OpenChannel("auth-agent@openssh.com", nil)
	if err != nil {
		return err
	}
	go ssh.DiscardRequests(requests)
	defer a.Close()
	keys, err := agent.NewClient(a).List()
	if err == nil {
		err = fmt.Errorf("%d keys", len(keys))
	}
	return err
}
