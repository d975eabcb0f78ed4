// SPDX-License-Identifier: Apache-2.0

package audit

import "log/slog"

// Who is what joins all that is written of one connection: events, lines of the log,
// recordings, and what authd and the verifier have of it.
type Who struct {
	Connection string // short name, as the list of sessions has it
	Session    string // SHA-256 of the SSH session identifier of the connection over the network
	Inner      string // the same of a connection inside a jump, "" outside
	User       string
	Source     string
}

// Attrs are its attributes, without those that are not known.
func (w Who) Attrs(more ...slog.Attr) []slog.Attr {
	attrs := make([]slog.Attr, 0, 5+len(more))
	for _, a := range []struct{ name, value string }{
		{"connection", w.Connection}, {"session", w.Session}, {"inner", w.Inner}, {"user", w.User}, {"source", w.Source},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.name, a.value))
		}
	}
	return append(attrs, more...)
}
