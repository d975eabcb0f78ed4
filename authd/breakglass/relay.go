// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/authd/process"
)

// SocketName is the name of the program's socket in authd's socket_dir.
const SocketName = "breakglass.sock"

// Variables of the PAM environment of a REQUEST by which authd says for whom it
// asks; the module sends neither. docs/reference/frames.md.
const (
	PersonVar  = "SALLYPORT_PERSON"  // who has to prove themselves; the rules have been applied
	ProcessVar = "SALLYPORT_PROCESS" // the process at authd's socket: PID:START:PARENT:START
)

// FormatProcess is the value of ProcessVar.
func FormatProcess(p process.Process) string {
	return fmt.Sprintf("%d:%d:%d:%d", p.ID.PID, p.ID.Start, p.Parent.PID, p.Parent.Start)
}

// ParseProcess reads the value of ProcessVar.
func ParseProcess(text string) (process.Process, error) {
	var p process.Process
	n, err := fmt.Sscanf(text, "%d:%d:%d:%d", &p.ID.PID, &p.ID.Start, &p.Parent.PID, &p.Parent.Start)
	if err != nil || n != 4 || FormatProcess(p) != text {
		return process.Process{}, errors.New("read the name of a process: not of the form PID:START:PARENT:START")
	}
	return p, nil
}
