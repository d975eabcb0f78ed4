// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// ErrDocker says that Docker cannot be used here; its text is one line that a
// person can act on.
var ErrDocker = errors.New("no Docker")

// dockerTimeout bounds one docker command that is not a program of the test.
const dockerTimeout = 2 * time.Minute

// CheckDocker reports whether a Docker daemon answers. The error wraps
// [ErrDocker] and says what to do.
func CheckDocker(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return fmt.Errorf("%w: no docker command found; install it (on Debian: apt-get install docker.io)", ErrDocker)
	}
	if _, err := docker(ctx, nil, "version", "--format", "{{.Server.Version}}"); err != nil {
		return fmt.Errorf("%w: the daemon does not answer; start it (systemctl start docker) or join the docker group: %w", ErrDocker, err)
	}
	return nil
}

// docker runs one docker command to its end and returns its standard output
// without surrounding space.
func docker(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, dockerTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, oneLine(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
