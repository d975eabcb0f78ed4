// SPDX-License-Identifier: Apache-2.0

package session

import (
	"golang.org/x/crypto/ssh"
)

// Bounds on what a client may ask of a session before its program runs. Its requests are
// kept until then.
const (
	maxVariables = 128
	maxVariable  = 8 << 10 // name and value
	maxCommand   = 256 << 10
	maxTerminal  = 4 << 10 // pty-req and x11-req in all
)

// The payloads of requests and channels, by RFC 4254 and OpenSSH's PROTOCOL.
type (
	ptyRequest struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	windowChange struct{ Columns, Rows, Width, Height uint32 }
	variable     struct{ Name, Value string }
	command      struct{ Command string } // of exec, and the name of a subsystem
	exitStatus   struct{ Status uint32 }
	exitSignal   struct {
		Signal  string
		Core    bool
		Message string
		Lang    string
	}
	tcpOpen struct { // direct-tcpip and forwarded-tcpip
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	unixOpen struct { // direct-streamlocal@openssh.com
		Path     string
		Origin   string
		Reserved uint32
	}
	unixForwarded struct { // forwarded-streamlocal@openssh.com
		Path     string
		Reserved string
	}
	tcpForward struct { // tcpip-forward and cancel-tcpip-forward
		Host string
		Port uint32
	}
	unixForward struct{ Path string } // streamlocal-forward@openssh.com and its cancel
	boundPort   struct{ Port uint32 }
)

// parse is ssh.Unmarshal into a fresh value.
func parse[T any](payload []byte) (T, bool) {
	var v T
	err := ssh.Unmarshal(payload, &v)
	return v, err == nil
}
