// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"time"
)

// readyTimeout is how long a daemon may take until it serves.
const readyTimeout = time.Minute

// Daemon starts a program that keeps running under the name given. What it
// writes is appended to /var/log/NAME.log. A container has one daemon of a name
// at a time.
func (c *Container) Daemon(ctx context.Context, name string, command Command) error {
	const script = `echo $$ > /run/daemon-"$0".pid; exec "$@" </dev/null >>/var/log/"$0".log 2>&1`
	command.Args = append([]string{"/bin/sh", "-c", script, name}, command.Args...)
	if _, err := docker(ctx, nil, c.execArgs(command, "--detach")...); err != nil {
		return fmt.Errorf("start %s on %s: %w", name, c.Name, err)
	}
	return nil
}

// Signal sends a signal, such as KILL or STOP, to a daemon. With KILL and TERM it
// returns when the daemon has ended.
func (c *Container) Signal(ctx context.Context, name, signal string) error {
	const script = `pid=$(cat /run/daemon-"$0".pid); kill -"$1" "$pid"
case $1 in KILL|TERM) while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done;; esac`
	_, err := c.await(ctx, "/bin/sh", "-euc", script, name, signal)
	return err
}

// AwaitFile waits until a file, for instance a daemon's socket, exists.
func (c *Container) AwaitFile(ctx context.Context, path string) error {
	_, err := c.await(ctx, "/bin/sh", "-c", `until [ -e "$0" ]; do sleep 0.05; done`, path)
	return err
}

// AwaitPort waits until something takes connections on a local TCP port.
func (c *Container) AwaitPort(ctx context.Context, port string) error {
	_, err := c.await(ctx, "/bin/sh", "-c", `until nc -z 127.0.0.1 "$0"; do sleep 0.05; done`, port)
	return err
}

func (c *Container) await(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return c.Must(ctx, args...)
}

// Log returns what a daemon has written.
func (c *Container) Log(ctx context.Context, name string) (string, error) {
	return c.Read(ctx, "/var/log/"+name+".log")
}
