// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// imageRepository names the images that this package makes.
const imageRepository = "sallyport-integration"

// recipe is changed when the way of making an image changes, so that an image
// made in another way is not taken from the cache.
const recipe = "mmdebstrap minbase, docker import, 1"

// packages is what the containers are made of: both ends of ssh, the programs
// that ask PAM, polkit, proxies, systemd, what batch jobs use, and clients of the
// Auth API that are not ours.
var packages = []string{
	"ansible-core",
	"ca-certificates",
	"cron",
	"dbus",
	"git",
	"iproute2",
	"iptables",
	"ldap-utils",
	"libpam-duo",
	"libpam-modules",
	"login",
	"login-duo",
	"netcat-openbsd",
	"openssh-client",
	"openssh-server",
	"openssl",
	"pamtester",
	"passwd",
	"pkexec",
	"polkitd",
	"procps",
	"python3-duo-client",
	"python3-paramiko",
	"rsync",
	"rsyslog",
	"rsyslog-gnutls",
	"slapd",
	"squid-openssl",
	"sudo",
	"systemd",
	"systemd-sysv",
	"tinyproxy-bin",
}

// imageTimeout bounds the download and installation of the packages.
const imageTimeout = 10 * time.Minute

// EnsureImage returns the name of an image with the packages installed, making
// it where no earlier run has left one. The packages come from the mirrors that
// this machine's own apt uses.
func EnsureImage(ctx context.Context) (string, error) {
	codename, err := debianCodename()
	if err != nil {
		return "", err
	}
	sources, err := aptSources(ctx, codename)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(recipe + "\n" + sources + strings.Join(packages, "\n")))
	image := imageRepository + ":" + codename + "-" + hex.EncodeToString(sum[:6])
	if _, err := docker(ctx, nil, "image", "inspect", "--format", "{{.Id}}", image); err == nil {
		return image, nil
	}
	if err := makeImage(ctx, image, codename, sources); err != nil {
		return "", fmt.Errorf("make container image: %w", err)
	}
	return image, nil
}

func makeImage(ctx context.Context, image, codename, sources string) error {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return errors.New("no mmdebstrap command found; install it (make deps, or apt-get install mmdebstrap)")
	}
	dir, err := os.MkdirTemp("", "sallyport-image-")
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	tarball := filepath.Join(dir, "root.tar")

	args := []string{"--variant=minbase", "--include=" + strings.Join(packages, ",")}
	proxies, err := aptProxies(ctx)
	if err != nil {
		return err
	}
	args = append(args, proxies...)
	args = append(args, codename, tarball, "-")
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Stdin = strings.NewReader(sources)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w:\n%s", err, lastLines(out, 15))
	}
	_, err = docker(ctx, nil, "import", tarball, image)
	return err
}

func debianCodename() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("which Debian release is this: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("which Debian release is this: /etc/os-release has no VERSION_CODENAME")
}

// aptSources lists, in the form of a sources.list, the Debian mirrors of the
// release named codename that apt on this machine is set up with.
func aptSources(ctx context.Context, codename string) (string, error) {
	const format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY)|$(ORIGIN)"
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", format, "Identifier: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("list apt sources: %w", err)
	}
	suites := []string{codename, codename + "-updates", codename + "-security"}
	var lines []string
	for line := range strings.Lines(string(out)) {
		source, origin, _ := strings.Cut(strings.TrimSpace(line), "|")
		fields := strings.Fields(source)
		if len(fields) < 3 || !slices.Contains(suites, fields[1]) || fields[2] != "main" {
			continue
		}
		if origin != "Debian" && !strings.HasPrefix(origin, "$") && origin != "" {
			continue
		}
		options := ""
		if len(fields) > 3 && strings.HasPrefix(fields[3], "/") {
			options = "[signed-by=" + fields[3] + "] "
		}
		entry := fmt.Sprintf("deb %s%s %s main", options, fields[0], fields[1])
		if !slices.Contains(lines, entry) {
			lines = append(lines, entry)
		}
	}
	if len(lines) == 0 {
		return "", fmt.Errorf("apt on this machine has no source for Debian %s main", codename)
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// aptProxies passes on the proxy that apt on this machine uses; mmdebstrap does
// not read the machine's apt.conf.
func aptProxies(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt configuration: %w", err)
	}
	var args []string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Acquire::http::Proxy ") || strings.HasPrefix(line, "Acquire::https::Proxy ") {
			args = append(args, "--aptopt="+line)
		}
	}
	return args, nil
}

func lastLines(text []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
