// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runSudo lets a crowd run sudo, which takes the code from standard input.
func runSudo(args []string, in io.Reader, out io.Writer) error {
	if err := parse("sudo", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	return runCrowd(in, out, sudo)
}

func sudo(p person, code string) (bool, error) {
	account, err := user.Lookup(p.Name)
	if err != nil {
		return false, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return false, fmt.Errorf("uid of %s: %w", p.Name, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return false, fmt.Errorf("gid of %s: %w", p.Name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hangLimit)
	defer cancel()
	// -k: no ticket of an earlier run. Standard input ends after one answer.
	cmd := exec.CommandContext(ctx, "sudo", "-k", "-S", "-p", "", "id", "-u")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.Stdin = strings.NewReader(code + "\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return false, fmt.Errorf("sudo hangs: %s", stderr.String())
	case errors.As(err, &exit) && exit.ExitCode() == 1 && stdout.Len() == 0:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("sudo: %w: %s", err, stderr.String())
	case strings.TrimSpace(stdout.String()) != "0":
		return false, fmt.Errorf("sudo id -u printed %q", stdout.String())
	}
	return true, nil
}
