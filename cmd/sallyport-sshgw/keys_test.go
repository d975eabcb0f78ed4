// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

func TestKeysScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/keys",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsWith, "makekeys": makeKeys,
		},
	})
}

// makeKeys makes the gateway's keys in a folder, as its first start does.
func makeKeys(ts *testscript.TestScript, _ bool, args []string) {
	_, err := keys.Open(ts.MkAbs(args[0]))
	ts.Check(err)
}

// exitsWith runs a program that must end with the first argument as its exit code.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}
