// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ownerLabel marks what this package starts with the process that started it,
// so that what a killed run left behind can be told from what is in use.
const ownerLabel = "sallyport.integration.process"

// Lab is one private network and the containers on it. Its methods may be
// called from several goroutines.
type Lab struct {
	image   string
	network string
	label   string

	mu         sync.Mutex
	containers []*Container
	segments   []*Segment
}

// NewLab makes an empty network, without a way out, for containers of image.
// The caller closes it.
func NewLab(ctx context.Context, image string) (*Lab, error) {
	if err := sweep(ctx); err != nil {
		return nil, fmt.Errorf("remove what an earlier run left: %w", err)
	}
	owner, err := thisProcess()
	if err != nil {
		return nil, err
	}
	lab := &Lab{
		image:   image,
		network: fmt.Sprintf("sallyport-it-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9),
		label:   ownerLabel + "=" + owner,
	}
	if _, err := docker(ctx, nil, "network", "create", "--internal", "--label", lab.label, lab.network); err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	return lab, nil
}

// Options say how a container differs from a plain one.
type Options struct {
	// Systemd runs systemd as the container's first process.
	Systemd bool
	// Aliases are further names of the container on the network.
	Aliases []string
	// Hostname is what the container calls itself, and another name by which others
	// reach it; empty: its name.
	Hostname string
	// Capabilities are what the container may beyond Docker's usual, as NET_ADMIN.
	Capabilities []string
	// Tmpfs are folders in memory, each with its mount options behind a colon.
	Tmpfs []string
}

// Start starts a container that other containers of the lab reach by name.
func (l *Lab) Start(ctx context.Context, name string, opts Options) (*Container, error) {
	c := &Container{lab: l, Name: name, id: l.network + "-" + name, names: append([]string{name}, opts.Aliases...)}
	args := []string{"run", "--detach", "--name", c.id, "--hostname", cmp.Or(opts.Hostname, name), "--label", l.label,
		"--network", l.network, "--network-alias", name}
	for _, alias := range opts.Aliases {
		args = append(args, "--network-alias", alias)
	}
	for _, capability := range opts.Capabilities {
		args = append(args, "--cap-add", capability)
	}
	for _, folder := range opts.Tmpfs {
		args = append(args, "--tmpfs", folder)
	}
	if opts.Systemd {
		extra, err := systemdArgs(ctx)
		if err != nil {
			return nil, err
		}
		args = append(append(args, extra...), l.image, "/sbin/init")
	} else {
		args = append(args, "--init", l.image, "sleep", "infinity")
	}
	l.mu.Lock()
	l.containers = append(l.containers, c)
	l.mu.Unlock()
	if _, err := docker(ctx, nil, args...); err != nil {
		return nil, fmt.Errorf("start container %s: %w", name, err)
	}
	return c, nil
}

// systemdArgs gives systemd what it needs inside a container: its cgroup tree,
// its runtime directories, and leave to set up sandboxes for its services.
func systemdArgs(ctx context.Context) ([]string, error) {
	args := []string{"--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt=seccomp=unconfined",
		"--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp", "--env=container=docker"}
	version, err := docker(ctx, nil, "info", "--format", "{{.CgroupVersion}}")
	if err != nil {
		return nil, err
	}
	if version == "2" {
		return append(args, "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"), nil
	}
	return append(args, "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro"), nil
}

// Close removes the containers and the network.
func (l *Lab) Close() error {
	// A cancelled test still cleans up.
	ctx := context.Background()
	l.mu.Lock()
	defer l.mu.Unlock()
	args := []string{"rm", "--force", "--volumes"}
	for _, c := range l.containers {
		args = append(args, c.id)
	}
	var errs []error
	if len(l.containers) > 0 {
		_, err := docker(ctx, nil, args...)
		errs = append(errs, err)
	}
	for _, s := range l.segments {
		_, err := docker(ctx, nil, "network", "rm", s.network)
		errs = append(errs, err)
	}
	_, err := docker(ctx, nil, "network", "rm", l.network)
	return errors.Join(append(errs, err)...)
}

// sweep removes containers and networks whose owner is no longer running.
func sweep(ctx context.Context) error {
	for _, kind := range [][]string{
		{"container", "ls", "--all", "--filter", "label=" + ownerLabel, "--format", "{{.ID}} {{.Label \"" + ownerLabel + "\"}}"},
		{"network", "ls", "--filter", "label=" + ownerLabel, "--format", "{{.ID}} {{.Label \"" + ownerLabel + "\"}}"},
	} {
		out, err := docker(ctx, nil, kind...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			id, owner, ok := strings.Cut(strings.TrimSpace(line), " ")
			if !ok || ownerRuns(owner) {
				continue
			}
			// Another run may be sweeping too; what is gone is gone.
			remove := []string{kind[0], "rm", id}
			if kind[0] == "container" {
				remove = []string{"container", "rm", "--force", "--volumes", id}
			}
			_, _ = docker(ctx, nil, remove...)
		}
	}
	return nil
}

// thisProcess names this process among all that use the same Docker: by its PID
// namespace, its number there and when it started.
func thisProcess() (string, error) {
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("name this process: %w", err)
	}
	start, err := processStart(os.Getpid())
	if err != nil {
		return "", fmt.Errorf("name this process: %w", err)
	}
	return fmt.Sprintf("%s.%d.%s", space, os.Getpid(), start), nil
}

// ownerRuns reports whether the process of that name still runs. One of another
// PID namespace cannot be seen from here, and counts as running.
func ownerRuns(owner string) bool {
	space, err := os.Readlink("/proc/self/ns/pid")
	fields := strings.Split(owner, ".")
	if err != nil || len(fields) != 3 || fields[0] != space {
		return true
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		return true
	}
	start, err := processStart(pid)
	return err == nil && start == fields[2]
}

// processStart returns the start time of a process in clock ticks since boot
// (proc(5), field 22 of stat), which with its number names it uniquely.
func processStart(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("process %d: unexpected /proc stat line", pid)
	}
	return fields[19], nil
}
