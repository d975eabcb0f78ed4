// SPDX-License-Identifier: Apache-2.0

package server

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// Accounts reads the local accounts and groups. The name service is not asked:
// one that hangs or is broken must not keep anybody out.
type Accounts struct {
	Passwd, Group, Nsswitch string // paths
}

// LocalAccounts reads the files where they are.
func LocalAccounts() *Accounts {
	return &Accounts{Passwd: "/etc/passwd", Group: "/etc/group", Nsswitch: "/etc/nsswitch.conf"}
}

// lines are the fields of a file whose fields are parted by colons.
func lines(path string) [][]string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		out = append(out, strings.Split(strings.TrimRight(line, "\n"), ":"))
	}
	return out
}

// name is the first account of a uid.
func (a *Accounts) name(uid int64) (string, bool) {
	for _, f := range lines(a.Passwd) {
		if len(f) >= 4 && f[2] == strconv.FormatInt(uid, 10) {
			return f[0], true
		}
	}
	return "", false
}

// UID is the number of a local account.
func (a *Accounts) UID(name string) (int64, bool) {
	for _, f := range lines(a.Passwd) {
		if len(f) >= 4 && f[0] == name {
			uid, err := strconv.ParseInt(f[2], 10, 64)
			return uid, err == nil
		}
	}
	return 0, false
}

// GID is the number of a local group.
func (a *Accounts) GID(name string) (int, bool) {
	for _, f := range lines(a.Group) {
		if len(f) >= 3 && f[0] == name {
			gid, err := strconv.Atoi(f[2])
			return gid, err == nil
		}
	}
	return 0, false
}

// inGroup says whether a user is in a group. True is sure. False is where no other
// source could add to the files: nsswitch.conf names none, or the account is that
// of uid 0, which is this host's own; else it is unknown.
func (a *Accounts) inGroup(user, group string) rules.Truth {
	primary, uid := "", ""
	for _, f := range lines(a.Passwd) {
		if len(f) >= 4 && f[0] == user {
			uid, primary = f[2], f[3]
			break
		}
	}
	for _, f := range lines(a.Group) {
		if len(f) >= 4 && f[0] == group && (slices.Contains(strings.Split(f[3], ","), user) || uid != "" && f[2] == primary) {
			return rules.True
		}
	}
	if uid == "0" || uid != "" && a.filesAlone() {
		return rules.False
	}
	return rules.Unknown
}

// inDirectoryGroup says whether a user is in a group of the organisation's
// directory: not for uid 0, which is this host's own; else it is unknown.
func (a *Accounts) inDirectoryGroup(user string) rules.Truth {
	if a.isRoot(user) {
		return rules.False
	}
	return rules.Unknown
}

// isRoot says that the account is this host's own, of uid 0.
func (a *Accounts) isRoot(user string) bool {
	uid, ok := a.UID(user)
	return ok && uid == 0
}

// filesAlone says that groups come from /etc/group and nothing else.
func (a *Accounts) filesAlone() bool {
	data, err := os.ReadFile(a.Nsswitch)
	if err != nil {
		return false
	}
	found := false
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		database, sources, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || database != "group" && database != "initgroups" {
			continue
		}
		found = found || database == "group"
		for _, source := range strings.Fields(sources) {
			if source != "files" && source != "systemd" {
				return false
			}
		}
	}
	return found
}
