// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"time"
)

// Container is one machine of a [Lab]. Its methods may be called from several
// goroutines.
type Container struct {
	// Name is the container's host name on the lab's network.
	Name string

	lab   *Lab
	id    string
	names []string // by which others reach it
}

// Command is a program to run in a container.
type Command struct {
	// Args is the program and its arguments.
	Args []string
	// User runs it; root where empty.
	User string
	// Env holds NAME=VALUE pairs.
	Env []string
	// Stdin is its standard input; empty where nil.
	Stdin io.Reader
}

// Result is how a program ended.
type Result struct {
	Stdout, Stderr string
	// Code is the exit status; 128 and the signal's number where a signal ended it.
	Code int
}

// Output is everything the program wrote, for a test's message.
func (r Result) Output() string { return r.Stdout + r.Stderr }

// Run runs a program to its end. The error says that it could not be run or did
// not end within the context; a program that fails is no error.
func (c *Container) Run(ctx context.Context, command Command) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", c.execArgs(command, "--interactive")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = command.Stdin, &stdout, &stderr
	// The program may leave children that hold the pipes.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s on %s did not end: %w", command.Args[0], c.Name, ctx.Err())
	}
	if err != nil && !errors.As(err, &exit) {
		return result, fmt.Errorf("%s on %s: %w", command.Args[0], c.Name, err)
	}
	return result, nil
}

// Must runs a program as root, to its end and to success, and returns its
// standard output.
func (c *Container) Must(ctx context.Context, args ...string) (string, error) {
	result, err := c.Run(ctx, Command{Args: args})
	if err != nil {
		return "", err
	}
	if result.Code != 0 {
		return "", fmt.Errorf("%s on %s: exit status %d: %s", strings.Join(args, " "), c.Name, result.Code, strings.TrimSpace(result.Output()))
	}
	return result.Stdout, nil
}

// Shell runs a shell script as root, to its end and to success.
func (c *Container) Shell(ctx context.Context, script string) (string, error) {
	result, err := c.Run(ctx, Command{Args: []string{"/bin/sh", "-eu"}, Stdin: strings.NewReader(script)})
	if err != nil {
		return "", err
	}
	if result.Code != 0 {
		return "", fmt.Errorf("script on %s: exit status %d: %s", c.Name, result.Code, strings.TrimSpace(result.Output()))
	}
	return result.Stdout, nil
}

func (c *Container) execArgs(command Command, flags ...string) []string {
	args := append([]string{"exec"}, flags...)
	if command.User != "" {
		args = append(args, "--user", command.User)
	}
	for _, env := range command.Env {
		args = append(args, "--env", env)
	}
	return append(append(args, c.id), command.Args...)
}

// File is a file to put into a container.
type File struct {
	Path string
	Mode int64
	Data []byte
}

// LocalFile reads a file of this machine, to be put at path.
func LocalFile(local, path string, mode int64) (File, error) {
	data, err := os.ReadFile(local)
	return File{Path: path, Mode: mode, Data: data}, err
}

// Put writes files, owned by root, with the directories that they need.
func (c *Container) Put(ctx context.Context, files ...File) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean(f.Path), "/")
		header := &tar.Header{Name: name, Mode: f.Mode, Size: int64(len(f.Data)), ModTime: time.Now()}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("pack %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Data); err != nil {
			return fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("pack files: %w", err)
	}
	args := []string{"tar", "--extract", "--file=-", "--directory=/", "--no-same-owner", "--same-permissions"}
	result, err := c.Run(ctx, Command{Args: args, Stdin: &archive})
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("tar: exit status %d: %s", result.Code, strings.TrimSpace(result.Output()))
	}
	if err != nil {
		return fmt.Errorf("put files on %s: %w", c.Name, err)
	}
	return nil
}

// Read returns the contents of a file.
func (c *Container) Read(ctx context.Context, name string) (string, error) {
	return c.Must(ctx, "cat", name)
}

// IP returns the container's IPv4 address on the lab's network.
func (c *Container) IP(ctx context.Context) (string, error) {
	out, err := docker(ctx, nil, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", c.id)
	if err != nil {
		return "", fmt.Errorf("address of %s: %w", c.Name, err)
	}
	return strings.TrimSpace(out), nil
}

// Restart stops the container as a machine stops, and starts it again. Its daemons
// are gone; its files stay, but for those in memory.
func (c *Container) Restart(ctx context.Context) error {
	_, err := docker(ctx, nil, "restart", "--time", "10", c.id)
	return err
}

// Pause stops every process of the container where it stands; sockets stay open.
func (c *Container) Pause(ctx context.Context) error {
	_, err := docker(ctx, nil, "pause", c.id)
	return err
}

// Unpause lets a paused container run on.
func (c *Container) Unpause(ctx context.Context) error {
	_, err := docker(ctx, nil, "unpause", c.id)
	return err
}

// Disconnect pulls the container's network cable.
func (c *Container) Disconnect(ctx context.Context) error {
	_, err := docker(ctx, nil, "network", "disconnect", c.lab.network, c.id)
	return err
}

// Connect plugs it in again, under the names that it had.
func (c *Container) Connect(ctx context.Context) error {
	args := []string{"network", "connect"}
	for _, name := range c.names {
		args = append(args, "--alias", name)
	}
	_, err := docker(ctx, nil, append(args, c.lab.network, c.id)...)
	return err
}

// Readdress gives the container other names on the network, and another address.
func (c *Container) Readdress(ctx context.Context, names ...string) error {
	if err := c.Disconnect(ctx); err != nil {
		return err
	}
	c.names = names
	return c.Connect(ctx)
}
