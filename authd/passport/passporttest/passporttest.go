// SPDX-License-Identifier: Apache-2.0

// Package passporttest is a /proc for tests, in which alice (uid 1000) is logged in
// by ssh. It is never part of a program.
package passporttest

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"testing/fstest"

	"github.com/sallyport-mfa/sallyport/authd/process"
)

// Processes of Host.
var (
	Monitor = process.ID{PID: 300, Start: 5000} // of alice's connection: the anchor
	Sudo    = process.ID{PID: 320, Start: 6000} // below her shell
)

// hostMap is the map of a process without a user namespace of its own.
const hostMap = "         0          0 4294967295\n"

// Process is an entry of /proc. Where nothing is said, it is one of alice's login.
type Process struct {
	PID, Parent int32
	Start       uint64
	Name        string
	LoginUID    string
	Session     string
	NSpid       string
	UIDMap      string
}

// Proc is a /proc.
type Proc struct{ fstest.MapFS }

// Put makes a file.
func (f Proc) Put(name, text string) { f.MapFS[name] = &fstest.MapFile{Data: []byte(text)} }

// Add makes or replaces a process.
func (f Proc) Add(p Process) {
	pid := strconv.Itoa(int(p.PID))
	name := cmp.Or(p.Name, "sh")
	f.Put(pid+"/stat", fmt.Sprintf("%s (%s) S %d 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 %d 10 20\n", pid, name, p.Parent, p.Start))
	f.Put(pid+"/status", fmt.Sprintf("Name:\t%s\nPid:\t%s\nNSpid:\t%s\nNSpgid:\t%[2]s\n",
		strings.ReplaceAll(name, "\n", `\n`), pid, cmp.Or(p.NSpid, pid)))
	f.Put(pid+"/loginuid", cmp.Or(p.LoginUID, "1000"))
	f.Put(pid+"/sessionid", cmp.Or(p.Session, "7"))
	f.Put(pid+"/uid_map", cmp.Or(p.UIDMap, hostMap))
}

// Host has init, sshd, the monitor of alice's connection, her sshd, her shell, and
// sudo below it.
func Host() Proc {
	const unset = "4294967295"
	f := Proc{fstest.MapFS{}}
	f.Put("sys/kernel/random/boot_id", "5a4ff9ac-0a5b-4a43-8d0b-ff1bd94c6c3e\n")
	f.Put("self/uid_map", hostMap)
	f.Add(Process{PID: 1, Start: 1, LoginUID: unset, Session: unset, Name: "systemd"})
	f.Add(Process{PID: 200, Parent: 1, Start: 100, LoginUID: unset, Session: unset, Name: "sshd"})
	f.Add(Process{PID: 300, Parent: 200, Start: 5000, Name: "sshd"})
	f.Add(Process{PID: 305, Parent: 300, Start: 5010, Name: "sshd"})
	f.Add(Process{PID: 306, Parent: 305, Start: 5011, Name: "bash"})
	f.Add(Process{PID: 320, Parent: 306, Start: 6000, Name: "sudo"})
	return f
}
