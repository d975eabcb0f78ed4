// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Where the distributions keep PAM modules.
var moduleDirs = []string{
	"/lib/security", "/lib64/security", "/lib/*-linux-gnu/security", "/lib/*-linux-musl/security",
	"/usr/lib/security", "/usr/lib64/security", "/usr/lib/*-linux-gnu/security", "/usr/lib/*-linux-musl/security",
}

// The entry points of a PAM module.
var entryPoints = []string{
	"pam_sm_authenticate", "pam_sm_setcred", "pam_sm_acct_mgmt",
	"pam_sm_open_session", "pam_sm_close_session", "pam_sm_chauthtok",
}

// FindModule returns the distinct files that are the PAM module of that name.
func (h *Host) FindModule(name string) []string {
	var found []string
	var seen []os.FileInfo
	for _, dir := range moduleDirs {
		paths, err := filepath.Glob(h.path(dir, name))
		if err != nil {
			continue // the patterns are constants and well formed
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || slices.ContainsFunc(seen, func(s os.FileInfo) bool { return os.SameFile(s, info) }) {
				continue // /lib is often a link to /usr/lib
			}
			seen = append(seen, info)
			found = append(found, path)
		}
	}
	return found
}

func (h *Host) examineModule() []Finding {
	r := &report{area: "module"}
	found := h.FindModule(Module)
	switch len(found) {
	case 0:
		r.fail(Module, "it is not in any folder of PAM modules: services that name it deny everyone", "install it: make install, or the package")
		return r.findings
	case 1:
	default:
		r.warn(Module, "it is installed more than once: "+strings.Join(found, ", "), "remove all but the one that belongs to the installed version")
	}
	for _, path := range found {
		h.examineModuleFile(r, path)
	}
	return r.findings
}

func (h *Host) examineModuleFile(r *report, path string) {
	info, err := os.Stat(path)
	if err != nil {
		r.fail(path, err.Error(), "install the module again")
		return
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != h.UID || info.Mode().Perm()&0o022 != 0 {
		r.fail(path, fmt.Sprintf("it belongs to uid %d with mode %04o: others than root can change what every login runs", owner, info.Mode().Perm()),
			"chown root:root and chmod 0644 it, after making sure that it is the right file")
		return // not loaded: it would run here
	}
	if err := checkEntryPoints(path); err != nil {
		r.fail(path, err.Error(), "install the module again")
		return
	}
	if err := h.Load(path); err != nil {
		r.fail(path, "it does not load, so every service that names it denies everyone: "+err.Error(), "install it for this distribution and architecture, with libpam")
		return
	}
	r.ok(path, "installed, loads, and has all entry points")
}

func checkEntryPoints(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("it is no shared object: %w", err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("its symbols cannot be read: %w", err)
	}
	for _, want := range entryPoints {
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == want && s.Section != elf.SHN_UNDEF }) {
			return fmt.Errorf("it lacks the entry point %s: it is another file or another version", want)
		}
	}
	return nil
}
