// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

// runAsSallyport makes the test binary the command itself.
const runAsSallyport = "SALLYPORT_TEST_RUN"

// verifierProgram is the path of sallyport-verifier.
var verifierProgram string

func TestMain(m *testing.M) {
	if os.Getenv(runAsSallyport) != "" {
		main()
	}
	testscript.Main(withVerifier{m}, map[string]func(){"sallyport": main})
}

// withVerifier builds sallyport-verifier before the tests.
type withVerifier struct{ m *testing.M }

func (w withVerifier) Run() int {
	dir, err := os.MkdirTemp("", "sallyport-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if verifierProgram, err = buildVerifier(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return w.m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("XDG_STATE_HOME", e.WorkDir+"/state")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"verifier":   startVerifierCommand,
			"get":        getCommand,
			"scrub":      scrubCommand,
			"push":       pushCommand,
			"outcome":    outcomeCommand,
			"passcode":   passcodeCommand,
			"otp":        otpCommand,
			"mode":       modeCommand,
			"stdinfrom":  stdinFromCommand,
			"until":      untilCommand,
			"terminate":  terminateCommand,
			"authdtakes": authdTakesCommand,
			"scrubpath":  scrubPathCommand,
			"seal":       sealCommand,
		},
	})
}

// usage ends a script whose command makes no sense.
func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// startVerifierCommand starts a verifier and sets URL and SALLYPORT_PROFILE.
func startVerifierCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "verifier")
	v, err := startVerifier(ts.MkAbs("."))
	ts.Check(err)
	ts.Defer(func() { ts.Check(v.stop()) })
	ts.Setenv("URL", v.URL)
	ts.Setenv("HOSTPORT", strings.TrimPrefix(v.URL, "https://"))
	ts.Setenv("CA", v.CAFile)
	ts.Setenv(profileEnv, v.Profile)
}

func runningVerifier(ts *testscript.TestScript) *verifier {
	return &verifier{URL: ts.Getenv("URL"), CAFile: ts.Getenv("CA"), Profile: ts.Getenv(profileEnv)}
}

// getCommand sets a variable to a member of the JSON on standard output.
func getCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "get VARIABLE PATH")
	value, err := field(ts.ReadFile("stdout"), args[1])
	ts.Check(err)
	ts.Setenv(args[0], value)
}

// What differs from run to run; each stands for as many characters as it replaces.
var scrubbed = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\b(D[A-Z]|HO|PO)[A-Z0-9]{18}\b`), "${1}xxxxxxxxxxxxxxxxxx"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`), "2026-01-01 00:00:00Z"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}`), "127.0.0.1:99999"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "TXIDTXIDTXIDTXIDTXIDTXIDTX"},
	{regexp.MustCompile(`\b\d{8}T\d{6}\b`), "20260101T000000"},
	{regexp.MustCompile(`s([aj])1\.[\w-]{32}\.[\w-]{43}`), "s${1}1.SECRET.PIN"},
}

// scrubCommand writes standard output, without what differs, to a file.
func scrubCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "scrub FILE")
	text := ts.ReadFile("stdout")
	for _, s := range scrubbed {
		text = s.pattern.ReplaceAllString(text, s.with)
	}
	// Trailing blanks cannot stand in a script.
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(lines, "\n")), 0o600))
}

// authdTakesCommand loads an authd.toml, with the secrets that it names, as authd does.
func authdTakesCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "authdtakes FILE")
	_, err := config.Load(ts.MkAbs(args[0]))
	ts.Check(err)
}

// scrubPathCommand puts the script's folder out of a file.
func scrubPathCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "scrubpath FILE")
	text := strings.ReplaceAll(ts.ReadFile(args[0]), ts.MkAbs("."), "/WORK")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// terminateCommand tells the one process of this script to end whose command line
// holds the words.
func terminateCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "terminate WORD...")
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	var found []int
	for _, path := range lines {
		text, err := os.ReadFile(path)
		line := strings.ReplaceAll(string(text), "\x00", " ")
		if err == nil && strings.Contains(line, strings.Join(args, " ")) && strings.Contains(line, ts.MkAbs(".")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			ts.Check(err)
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		ts.Fatalf("terminate: processes %v", found)
	}
	ts.Check(syscall.Kill(found[0], syscall.SIGTERM))
}

// untilCommand waits for what another process does. How long that may take only
// tells a hang from a slow machine.
func untilCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2 && args[0] == "gone", "until gone FILE")
	for range 2400 {
		if _, err := os.Lstat(ts.MkAbs(args[1])); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("until gone %s: it did not happen", args[1])
}

// pushCommand begins a login with the integration in IKEY and SKEY and sets TXID and CODE.
func pushCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2 && (args[1] == "verified" || args[1] == "plain"), "push USER verified|plain")
	api, err := runningVerifier(ts).api(ts.Getenv("IKEY"), ts.Getenv("SKEY"))
	ts.Check(err)
	txid, code, err := startPush(context.Background(), api, args[0], args[1] == "verified")
	ts.Check(err)
	ts.Setenv("TXID", txid)
	ts.Setenv("CODE", code)
	wrong := "000000"
	if code == wrong {
		wrong = "000001"
	}
	ts.Setenv("WRONG", wrong)
}

// outcomeCommand waits for the end of TXID and checks its result.
func outcomeCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "outcome RESULT STATUS")
	api, err := runningVerifier(ts).api(ts.Getenv("IKEY"), ts.Getenv("SKEY"))
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := outcome(ctx, api, ts.Getenv("TXID"))
	ts.Check(err)
	if out.Result != args[0] || out.Status != args[1] {
		ts.Fatalf("the login ended in %s, %s (%s)", out.Result, out.Status, out.StatusMsg)
	}
}

// passcodeCommand logs in by a passcode; negated, the passcode must be refused.
func passcodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2, "passcode USER CODE")
	api, err := runningVerifier(ts).api(ts.Getenv("IKEY"), ts.Getenv("SKEY"))
	ts.Check(err)
	allowed, err := loginByPasscode(context.Background(), api, args[0], args[1])
	ts.Check(err)
	if allowed == neg {
		ts.Fatalf("allowed: %v", allowed)
	}
}

// otpCommand sets CODE to the passcode of a secret now (totp) or at a counter.
func otpCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "otp SECRET totp|COUNTER...")
	for i, at := range args[1:] {
		var code string
		var err error
		if at == "totp" {
			code, err = totp.GenerateCode(args[0], time.Now())
		} else {
			var counter uint64
			_, err = fmt.Sscan(at, &counter)
			ts.Check(err)
			code, err = hotp.GenerateCode(args[0], counter)
		}
		ts.Check(err)
		ts.Setenv(fmt.Sprintf("CODE%d", i+1), code)
	}
}

// modeCommand checks the permissions of files.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "mode OCTAL FILE...")
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s", name, got)
		}
	}
}

// stdinFromCommand writes its arguments, a line each, to a file for stdin.
func stdinFromCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 1, "stdinfrom FILE LINE...")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Join(args[1:], "\n")+"\n"), 0o600))
}
