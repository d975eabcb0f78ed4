// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

// startable finds what would keep the gateway from starting, though the file is in order.
func (k *checker) startable() {
	if g := k.c.Record.Group; g != "" {
		if _, err := user.LookupGroup(g); err != nil {
			k.add(Fault, []string{"record", "group"}, "record.group: %v", err)
		}
	}
	switch err := keys.In(k.c.Keys.Dir).Check(); {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		k.add(Warning, []string{"keys", "dir"}, "keys.dir was not looked at: %v", err)
	default:
		k.add(Fault, []string{"keys", "dir"}, "keys.dir: %v", err)
	}
	if a, ok := ownerOf(k.c.StateDir); ok {
		k.readable(a)
	}
}

// account is whom the kernel asks about when a file is opened.
type account struct {
	uid  uint32
	gids []uint32
}

// ownerOf is the account that a folder belongs to, with its groups.
func ownerOf(path string) (account, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return account{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, false
	}
	a := account{uid: st.Uid, gids: []uint32{st.Gid}}
	if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
		ids, _ := u.GroupIds() // without them it has those that the folder says
		for _, id := range ids {
			if n, err := strconv.ParseUint(id, 10, 32); err == nil {
				a.gids = append(a.gids, uint32(n))
			}
		}
	}
	return a, true
}

// readable finds files that the gateway's account, to which state_dir belongs, cannot read:
// to root, who runs the check, all are open.
func (k *checker) readable(a account) {
	say := func(key []string, path string) {
		if at, ok := a.stoppedAt(path); ok {
			k.add(Warning, key, "%s cannot be read by uid %d, to whom state_dir belongs and whom the gateway runs as: see owner and mode of %s", path, a.uid, at)
		}
	}
	say(nil, k.c.Path)
	for _, pattern := range k.c.Targets.Files {
		paths, _ := filepath.Glob(pattern) // a pattern that is none was an error before
		for _, p := range paths {
			say([]string{"targets", "files"}, p)
		}
	}
	for _, p := range k.c.Targets.KnownHosts {
		say([]string{"targets", "known_hosts"}, p)
	}
	for i, ca := range k.c.First.CAs {
		say(nth("user_ca", i, "keys_file"), ca.KeysFile)
	}
	for i, ca := range k.c.Targets.HostCAs {
		say(nth("host_ca", i, "keys_file"), ca.KeysFile)
	}
	for i, cr := range k.c.Targets.Credentials {
		if cr.Kind == CredentialKey {
			say(nth("credential", i, "key_file"), cr.KeyFile)
		}
	}
	paths, _ := filepath.Glob(filepath.Join(k.c.Keys.Dir, "*"))
	for _, p := range paths {
		say([]string{"keys", "dir"}, p)
	}
}

// stoppedAt is the file or folder whose mode keeps the account from reading a file. What is
// not there stops nobody here.
func (a account) stoppedAt(path string) (string, bool) {
	if a.uid == 0 {
		return "", false
	}
	const read, pass = 4, 1
	for at, want := filepath.Clean(path), fs.FileMode(read); ; at, want = filepath.Dir(at), pass {
		info, err := os.Stat(at)
		if err == nil && !a.may(info, want) {
			return at, true
		}
		if at == filepath.Dir(at) {
			return "", false
		}
	}
}

func (a account) may(info fs.FileInfo, want fs.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case st.Uid == a.uid:
		mode >>= 6
	case slices.Contains(a.gids, st.Gid):
		mode >>= 3
	}
	return mode&want != 0
}
