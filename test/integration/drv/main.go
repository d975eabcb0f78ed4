// SPDX-License-Identifier: Apache-2.0

// Command drv is the part of the integration tests that runs inside the
// containers: crowds of logins, a telephony provider, a push service, a proxy that spoils the
// verifier's answers, authd by a clock that is wrong, questions to a
// directory, and authd where nothing hangs on its answer. It reads what to do from its arguments and standard input, prints
// what happened as JSON, and decides nothing: the tests do.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	programs := map[string]func(args []string, in io.Reader, out io.Writer) error{
		"attack":      runAttack,
		"authd":       runAuthd,
		"callback":    runCallback,
		"ldap":        runLDAP,
		"provider":    runProvider,
		"proxy":       runProxy,
		"pushservice": runPushService,
		"ssh":         runSSH,
		"gateway":     runGateway,
		"sudo":        runSudo,
		"syslog":      runSyslog,
		"yes":         runYes,
	}
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: drv attack|authd|callback|ldap|provider|proxy|pushservice|ssh|sudo|syslog|yes [flags]")
		os.Exit(2)
	}
	if err := programs[os.Args[1]](os.Args[2:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "drv %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// parse parses the flags of one of the programs.
func parse(name string, args []string, define func(*flag.FlagSet)) error {
	flags := flag.NewFlagSet("drv "+name, flag.ContinueOnError)
	define(flags)
	return flags.Parse(args)
}

func printJSON(out io.Writer, v any) error {
	return json.NewEncoder(out).Encode(v)
}
