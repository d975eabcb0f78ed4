// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/sshcert"
)

// maxFile bounds what is read of a file of keys, in bytes.
const maxFile = 1 << 20

// expand puts a name into the pattern of a path: %u is the name, %% a percent sign.
func expand(pattern, user string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '%' && i+1 < len(pattern) {
			i++
			switch pattern[i] {
			case 'u':
				b.WriteString(user)
			case '%':
				b.WriteByte('%')
			default:
				b.WriteString(pattern[i-1 : i+1])
			}
			continue
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// readOurs reads a file that root or the gateway's account alone can change.
func readOurs(path string) ([]byte, error) { return readTrusted(path, 0, uint32(os.Geteuid())) }

// readTheirs reads a file that the person may change as well, as ~/.ssh/authorized_keys.
func readTheirs(path string, account directory.Account) ([]byte, error) {
	owners := []uint32{0, uint32(os.Geteuid())}
	if !account.Absent {
		owners = append(owners, account.UID)
	}
	return readTrusted(path, owners...)
}

// readTrusted reads a regular file that nobody but its owners can change or put another
// in place of, as sshd's StrictModes has it: neither the file nor a folder above it may
// be writable by group or others, but for folders of root in which nobody can remove
// what is another's (the sticky bit).
func readTrusted(path string, owners ...uint32) ([]byte, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return nil, err
	}
	// Nonblocking: what is a FIFO is refused below, and not waited for.
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("look at %s: %w", real, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is no regular file", real)
	}
	if err := trusted(real, &st, owners, false); err != nil {
		return nil, err
	}
	for dir := filepath.Dir(real); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return nil, fmt.Errorf("look at %s: %w", dir, err)
		}
		if err := trusted(dir, &st, owners, true); err != nil {
			return nil, err
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", real, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", real, maxFile)
	}
	return text, nil
}

func trusted(path string, st *unix.Stat_t, owners []uint32, folder bool) error {
	owned := false
	for _, o := range owners {
		owned = owned || st.Uid == o
	}
	if !owned {
		return fmt.Errorf("%s belongs to uid %d, who could let anybody in with it", path, st.Uid)
	}
	sticky := folder && st.Uid == 0 && st.Mode&unix.S_ISVTX != 0
	if st.Mode&0o022 != 0 && !sticky {
		return fmt.Errorf("%s can be changed by others (mode %04o), who could let anybody in with it: chmod go-w it", path, st.Mode&0o7777)
	}
	return nil
}

// readAuthorized reads a file of authorized keys. One that is not there holds none.
func readAuthorized(path string, account directory.Account) ([]authorizedLine, error) {
	text, err := readTheirs(path, account)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseAuthorized(string(text)), nil
}

// readRevoked reads a list of what is revoked.
func readRevoked(path string) (*sshcert.Revoked, error) {
	text, err := readOurs(path)
	if err != nil {
		return nil, err
	}
	list, err := sshcert.ParseRevoked(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// readPrincipals reads the principals that may be a user: one on a line. A line with
// options is for sshd, and names nobody here. A file that is not there names nobody.
func readPrincipals(path string) ([]string, error) {
	text, err := readOurs(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" && !strings.ContainsAny(line, " \t\"") {
			list = append(list, line)
		}
	}
	return list, nil
}
