// SPDX-License-Identifier: Apache-2.0

package person

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/directory"
)

// GECOS knows which parts of the GECOS field the users of this host may write:
// what they may write would make them whomever they like to the verifier.
type GECOS struct {
	Root string // prefix of all files; "" for this machine
}

// name is the piece of the account's GECOS field that the mapping names.
func (g GECOS) name(m config.Mapping, account directory.Account) (string, error) {
	if err := g.Writable(m); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoName, err)
	}
	if !account.Local {
		return "", fmt.Errorf("%w: %q is not in /etc/passwd, and whether its owner may write the GECOS field where it comes from cannot be seen; use ldap = \"ATTRIBUTE\"", ErrNoName, account.Name)
	}
	pieces := strings.Split(account.GECOS, m.Delimiter)
	if m.GECOS > len(pieces) || strings.TrimSpace(pieces[m.GECOS-1]) == "" {
		return "", fmt.Errorf("%w: the GECOS field of %q has nothing at place %d", ErrNoName, account.Name, m.GECOS)
	}
	return strings.TrimSpace(pieces[m.GECOS-1]), nil
}

// chfnLetters are the letters of CHFN_RESTRICT, login.defs(5), in the order of
// the parts that chfn(1) knows: full name, room, work phone, home phone.
const chfnLetters = "frwh"

// Writable returns an error that says how, if users of this host may write the
// piece of the GECOS field that the mapping takes, or if that cannot be seen. It
// is nil for a mapping that takes none.
func (g GECOS) Writable(m config.Mapping) error {
	if m.GECOS == 0 {
		return nil
	}
	if path, found := g.firstFile(func(os.FileMode) bool { return true }, "/usr/libexec/accounts-daemon", "/usr/lib/accountsservice/accounts-daemon"); found {
		return fmt.Errorf("mapping by the GECOS field: users may write it, by %s", path)
	}
	setuid := func(mode os.FileMode) bool { return mode&os.ModeSetuid != 0 }
	chfn, found := g.firstFile(setuid, "/usr/bin/chfn", "/bin/chfn", "/usr/local/bin/chfn")
	if !found {
		return nil
	}
	letters, err := g.restriction()
	if err != nil {
		return fmt.Errorf("mapping by the GECOS field: what %s lets users write cannot be seen: %w", chfn, err)
	}
	// Only at commas does chfn keep the parts apart: with another delimiter a
	// part of the user's may reach into any piece.
	ours := letters
	if m.Delimiter == "," {
		ours = ""
		if m.GECOS <= len(chfnLetters) && strings.ContainsRune(letters, rune(chfnLetters[m.GECOS-1])) {
			ours = chfnLetters[m.GECOS-1 : m.GECOS]
		}
	}
	if ours == "" {
		return nil
	}
	return fmt.Errorf("mapping by the GECOS field: users may write place %d of it, by %s (setuid) with CHFN_RESTRICT %q of /etc/login.defs; take another place (from 5 on), take the letter out, or remove the setuid bit", m.GECOS, chfn, letters)
}

// restriction reads which parts chfn lets ordinary users change.
func (g GECOS) restriction() (string, error) {
	f, err := os.Open(filepath.Join(g.Root, "/etc/login.defs"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	value := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 2 && fields[0] == "CHFN_RESTRICT" {
			value = strings.Trim(fields[1], `"`)
		}
	}
	switch value {
	case "yes":
		value = "rwh"
	case "no":
		value = chfnLetters
	}
	return value, lines.Err()
}

// firstFile is the first of the files that exists and whose mode fits.
func (g GECOS) firstFile(fits func(os.FileMode) bool, paths ...string) (string, bool) {
	for _, path := range paths {
		if info, err := os.Stat(filepath.Join(g.Root, path)); err == nil && fits(info.Mode()) {
			return path, true
		}
	}
	return "", false
}
