// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const (
	sshd = "sshd"

	// sshdConfig is sshd's own configuration.
	sshdConfig = "/etc/ssh/sshd_config"

	// DropIn is the file with our settings of sshd. sshd takes the first value that
	// it reads of each, so it sorts before what others put there.
	DropIn = "/etc/ssh/sshd_config.d/00-sallyport.conf"
)

// settings are what sshd is told, in the order of the file.
func settings(f config.FirstFactor) [][2]string {
	methods := "publickey,keyboard-interactive:pam"
	if f == config.FirstFactorStack {
		methods = "keyboard-interactive:pam"
	}
	return [][2]string{
		{"UsePAM", "yes"},
		{"KbdInteractiveAuthentication", "yes"},
		{"PasswordAuthentication", "no"},
		{"AuthenticationMethods", methods},
		{"UseDNS", "no"},
		{"LoginGraceTime", "180"},
	}
}

func dropIn(f config.FirstFactor) string {
	var b strings.Builder
	b.WriteString("# Written by: sallyport pam enable sshd. Removed by: sallyport pam disable sshd.\n" +
		"# docs/how-to/protect-sshd.md says why each line is here.\n")
	for _, s := range settings(f) {
		b.WriteString(s[0] + " " + s[1] + "\n")
	}
	return b.String()
}

// A line by which sshd_config takes in the folder of drop-ins.
var includesDropIns = regexp.MustCompile(`(?mi)^[ \t]*Include[ \t=]+.*sshd_config\.d/`)

func (p *Planner) enableSSHD() error {
	main, err := os.ReadFile(filepath.Join(p.Root, sshdConfig))
	if errors.Is(err, fs.ErrNotExist) {
		p.notes = append(p.notes, sshdConfig+" does not exist, so nothing is written for sshd itself")
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sshd's configuration: %w", err)
	}
	if !includesDropIns.Match(main) {
		return &Refusal{sshd, sshdConfig + " does not include " + filepath.Dir(DropIn), "add \"Include " + filepath.Dir(DropIn) + "/*.conf\" as its first line, or follow docs/how-to/protect-sshd.md by hand"}
	}
	if p.FirstFactor() == config.FirstFactorSSH {
		p.notes = append(p.notes, "sshd will take a key as the first factor, and passwords no more: who has no key cannot log in. To ask for the password instead: first_factor = \"stack\" in [services.sshd] of authd.toml")
	}
	return p.setDropIn(dropIn(p.FirstFactor()))
}

func (p *Planner) disableSSHD() error { return p.setDropIn("") }

// setDropIn plans the drop-in; "" removes it.
func (p *Planner) setDropIn(text string) error {
	old, err := os.ReadFile(filepath.Join(p.Root, DropIn))
	switch {
	case err == nil:
		before := string(old)
		p.before[DropIn] = &before
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read sshd's drop-in: %w", err)
	}
	if string(old) != text {
		p.instead[DropIn] = text
	}
	return nil
}

// SSHD is the running sshd of this system.
type SSHD struct {
	Program  string // path of sshd
	Run      Run
	Systemd  bool     // systemd may run it
	PIDFiles []string // where it writes its number, if systemd does not
}

// Run runs a command and returns both its outputs.
type Run func(ctx context.Context, name string, arg ...string) ([]byte, error)

// Test asks sshd whether its configuration is one.
func (s *SSHD) Test(ctx context.Context) error {
	if out, err := s.Run(ctx, s.Program, "-t"); err != nil {
		return fmt.Errorf("sshd -t: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Effective says whether what the drop-in sets is what holds, for a login that
// no Match block is for.
func (s *SSHD) Effective(ctx context.Context, f config.FirstFactor) error {
	out, err := s.Run(ctx, s.Program, "-T", "-C", "user="+trialUser+",addr=192.0.2.1,host=192.0.2.1,laddr=127.0.0.1,lport=22")
	if err != nil {
		return fmt.Errorf("sshd -T: %w: %s", err, strings.TrimSpace(string(out)))
	}
	holds := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		holds[key] = value
	}
	for _, want := range settings(f) {
		if got := holds[strings.ToLower(want[0])]; got != want[1] {
			return fmt.Errorf("sshd would go by %s %s, not %s: a line before the Include in %s, or a Match block, sets it; take it out", want[0], got, want[1], sshdConfig)
		}
	}
	return nil
}

// Reload makes the running sshd read its configuration, if that is one; where
// none runs there is nothing to do. Sessions go on.
func (s *SSHD) Reload(ctx context.Context) error {
	reload, err := s.running(ctx)
	if err != nil || reload == nil {
		return err
	}
	if err := s.Test(ctx); err != nil {
		return fmt.Errorf("sshd was not told of its configuration: %w", err)
	}
	return reload()
}

// running finds how to tell the sshd that runs; nil: none does.
func (s *SSHD) running(ctx context.Context) (func() error, error) {
	if s.Systemd {
		for _, unit := range []string{"ssh.service", "sshd.service"} {
			if _, err := s.Run(ctx, "systemctl", "is-active", "--quiet", unit); err != nil {
				continue
			}
			return func() error {
				if out, err := s.Run(ctx, "systemctl", "reload", unit); err != nil {
					return fmt.Errorf("reload %s: %w: %s", unit, err, strings.TrimSpace(string(out)))
				}
				return nil
			}, nil
		}
	}
	pid, err := s.pid()
	if err != nil || pid == 0 {
		return nil, err
	}
	return func() error {
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			return fmt.Errorf("reload sshd (process %d): %w", pid, err)
		}
		return nil
	}, nil
}

// PIDFiles are where sshd writes its number.
var PIDFiles = []string{"/run/sshd.pid", "/var/run/sshd.pid"}

// pid is the process that listens, by its pid file; 0 where there is none. A
// number that belongs to another program by now does not count.
func (s *SSHD) pid() (int, error) {
	for _, path := range s.PIDFiles {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("find sshd: %w", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid < 2 {
			continue
		}
		name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		if err == nil && strings.HasPrefix(string(name), sshd) {
			return pid, nil
		}
	}
	return 0, nil
}

// Systemd says that systemd runs this system (sd_booted(3)).
func Systemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
