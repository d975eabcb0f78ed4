// SPDX-License-Identifier: Apache-2.0

// Package audit names what the gateway does, by codes that stay: each event is one
// structured line of the log. It decides nothing and loses nothing silently.
package audit

import (
	"context"
	"log/slog"
)

// Code names an event for good; docs/reference/sshgw-events.md lists them.
type Code string

// The events.
const (
	LoginAllowed  Code = "gw_login"          // a connection was authenticated
	LoginRefused  Code = "gw_login_refused"  // one was not
	Disconnected  Code = "gw_disconnect"     // one ended
	SessionOpened Code = "gw_session"        // a target was opened, terminated
	SessionClosed Code = "gw_session_end"    //
	Denied        Code = "gw_denied"         // a channel or request was refused by a rule
	Exec          Code = "gw_exec"           // a command ran, with its exit status
	File          Code = "gw_file"           // something was done by sftp
	Forwarded     Code = "gw_forward"        // a connection was forwarded: -L, -R, -D, -W, -J
	StepUp        Code = "gw_step_up"        // a target's own second factor
	TargetRefused Code = "gw_target_refused" // a target could not be opened: host key, credential, network
	HostSeen      Code = "gw_host_seen"      // a target's host key was believed because none was known
	RecordFailed  Code = "gw_record_failed"  //
	Reloaded      Code = "gw_reload"         //
	KeysRotated   Code = "gw_keys"           //
	Ended         Code = "gw_ended"          // an administrator ended a session
	Limited       Code = "gw_limited"        // a limit or penalty kept somebody out
)

// Codes are all events.
var Codes = []Code{
	LoginAllowed, LoginRefused, Disconnected, SessionOpened, SessionClosed, Denied, Exec, File, Forwarded, StepUp,
	TargetRefused, HostSeen, RecordFailed, Reloaded, KeysRotated, Ended, Limited,
}

// Log writes events.
type Log struct {
	Logger *slog.Logger
	// Count is told of each event, for the metrics; nil: nobody is.
	Count func(Code)
}

// Event writes one. level is Warn for what an administrator should look at.
func (l *Log) Event(ctx context.Context, level slog.Level, code Code, attrs ...slog.Attr) {
	if l.Count != nil {
		l.Count(code)
	}
	l.Logger.LogAttrs(ctx, level, string(code), append([]slog.Attr{slog.String("event", string(code))}, attrs...)...)
}
