// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestRulesScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/rules",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsWith, "place": place,
		},
	})
}

// place closes files to others, and puts the folder of the script where they say WORKDIR.
func place(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := strings.ReplaceAll(ts.ReadFile(name), "WORKDIR", ts.Getenv("WORK"))
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
		ts.Check(os.Chmod(ts.MkAbs(name), 0o600))
	}
}
