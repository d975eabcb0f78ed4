// SPDX-License-Identifier: Apache-2.0

//go:build integration

// Package integration_test shows the whole of Sallyport at work: real sshd, sudo
// and su on one machine, the verifier on another, people with keys, phones and
// tokens on further ones. Each file is one idea and can be read as a description
// of what happens; README.md says how the tests are run and built up.
package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// bench holds what all tests share: programs and the image to run them on.
var bench struct {
	image string
	bin   string // folder of the programs under test
	drv   string // the tests' own helper program
}

// town is the site that scenarios share where none of them disturbs another.
var town *site

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration tests:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if err := harness.CheckDocker(ctx); err != nil {
		return 1, err
	}
	if bench.bin, err = filepath.Abs("../../bin"); err != nil {
		return 1, err
	}
	for _, program := range []string{"sallyport", "sallyport-authd", "sallyport-breakglass", "sallyport-verifier", "pam_sallyport.so"} {
		if _, err := os.Stat(filepath.Join(bench.bin, program)); err != nil {
			return 1, fmt.Errorf("no program to test (run make build): %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "sallyport-integration-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bench.drv = filepath.Join(dir, "drv")
	build := exec.Command("go", "build", "-trimpath", "-o", bench.drv, "./drv")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build ./drv: %w: %s", err, out)
	}
	if bench.image, err = harness.EnsureImage(ctx); err != nil {
		return 1, err
	}
	if town, err = newSite(ctx); err != nil {
		return 1, err
	}
	defer func() {
		if closeErr := errors.Join(town.close(), closeWeb(), closeHarbour()); closeErr != nil && err == nil {
			code, err = 1, closeErr
		}
	}()
	// Scenarios mostly wait for one another's programs, hardly for a processor.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
