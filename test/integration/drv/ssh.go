// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// runSSH logs a crowd in by ssh, each with a key and then a code.
func runSSH(args []string, in io.Reader, out io.Writer) error {
	var addr string
	if err := parse("ssh", args, func(f *flag.FlagSet) {
		f.StringVar(&addr, "addr", "host:22", "sshd's `address`")
	}); err != nil {
		return err
	}
	return runCrowd(in, out, func(p person, code string) (bool, error) {
		return sshLogin(addr, p, code)
	})
}

// sshLogin answers the first question of the second factor with the code and
// gives up at the next one.
func sshLogin(addr string, p person, code string) (bool, error) {
	signer, err := ssh.ParsePrivateKey([]byte(p.Key))
	if err != nil {
		return false, fmt.Errorf("parse key: %w", err)
	}
	asked := false
	var second error // what came of the second question
	config := &ssh.ClientConfig{
		User: p.Name,
		// The network is private to the test, and the test is not about host keys.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{
			ssh.PublicKeys(signer),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
				if len(questions) == 0 {
					return nil, nil
				}
				if asked {
					second = errGaveUp
					return nil, errGaveUp
				}
				asked = true
				return []string{code}, nil
			}),
		},
	}
	conn, err := net.DialTimeout("tcp", addr, hangLimit)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(hangLimit)); err != nil {
		return false, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		if asked && (second != nil || strings.Contains(err.Error(), "unable to authenticate")) {
			return false, nil
		}
		return false, fmt.Errorf("log in: %w", err)
	}
	client := ssh.NewClient(c, channels, requests)
	defer client.Close()
	if !asked {
		return false, errors.New("let in without a question")
	}
	session, err := client.NewSession()
	if err != nil {
		return false, fmt.Errorf("open session: %w", err)
	}
	text, err := session.Output("id -un")
	if err != nil {
		return false, fmt.Errorf("run a command: %w", err)
	}
	if got := strings.TrimSpace(string(text)); got != p.Name {
		return false, fmt.Errorf("logged in as %q", got)
	}
	return true, nil
}

var errGaveUp = errors.New("gave up at the second question")
