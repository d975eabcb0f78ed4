// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp/hotp"
	"golang.org/x/crypto/ssh"
)

// runGateway logs a crowd in through a gateway, all at the same time, each with a key
// and a code, and keeps every session open until the last one is in.
func runGateway(args []string, in io.Reader, out io.Writer) error {
	var addr, target string
	if err := parse("gateway", args, func(f *flag.FlagSet) {
		f.StringVar(&addr, "addr", "host:2222", "the gateway's `address`")
		f.StringVar(&target, "target", "", "login@target that each one goes to")
	}); err != nil {
		return err
	}
	var c crowd
	if err := json.NewDecoder(in).Decode(&c); err != nil {
		return fmt.Errorf("read the crowd: %w", err)
	}
	login, _, _ := strings.Cut(target, "@")
	var (
		mu       sync.Mutex
		r        = report{Wrong: []string{}}
		everyone sync.WaitGroup // until each is in, or has failed
		group    sync.WaitGroup
	)
	begin := time.Now()
	everyone.Add(len(c.People))
	for _, p := range c.People {
		group.Go(func() {
			one := time.Now()
			arrived := sync.OnceFunc(everyone.Done)
			err := p.staysAt(addr, target, login, func() { arrived(); everyone.Wait() })
			arrived()
			mu.Lock()
			defer mu.Unlock()
			r.Slowest = max(r.Slowest, time.Since(one).Seconds())
			if err != nil {
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %v", p.Name, err))
				return
			}
			r.In++
		})
	}
	group.Wait()
	r.Seconds = time.Since(begin).Seconds()
	return printJSON(out, r)
}

// staysAt opens a session at the target, and ends it when wait returns.
func (p person) staysAt(addr, target, login string, wait func()) error {
	signer, err := ssh.ParsePrivateKey([]byte(p.Key))
	if err != nil {
		return fmt.Errorf("parse key: %w", err)
	}
	code, err := hotp.GenerateCode(p.Secret, 0)
	if err != nil {
		return fmt.Errorf("code: %w", err)
	}
	asked := 0
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: p.Name + "%" + target,
		// The network is private to the test, and the test is not about host keys.
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 2 * hangLimit,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(signer), ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			asked += len(questions)
			if asked > 1 {
				return nil, errGaveUp
			}
			return []string{code}[:len(questions)], nil
		})},
	})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	defer client.Close()
	if asked == 0 {
		return fmt.Errorf("let in without a question")
	}
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	stdin, err := session.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		return err
	}
	if err := session.Start("id -un; read line; exit 7"); err != nil {
		return fmt.Errorf("run a command: %w", err)
	}
	name, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(name) != login {
		return fmt.Errorf("is %q there: %w", name, err)
	}
	wait()
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		return fmt.Errorf("end it: %w", err)
	}
	if err := session.Wait(); exitStatus(err) != 7 {
		return fmt.Errorf("the session ended with %w", err)
	}
	return nil
}

// exitStatus is that of a session, -1 for one that ended in another way.
func exitStatus(err error) int {
	if e, ok := err.(*ssh.ExitError); ok { //nolint:errorlint // the library returns it bare
		return e.ExitStatus()
	}
	return -1
}
