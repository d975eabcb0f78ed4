// SPDX-License-Identifier: Apache-2.0

// Package record writes what happened in a session to disk, so that it can be seen
// again: terminals as asciicast v2. It never decides what is recorded.
package record

import (
	"time"
)

// Meta is what stands at the head of a recording.
type Meta struct {
	Session       string // id of the session, names the file
	Connection    string // identity.SessionID
	User          string
	Target, Login string
	Source        string
	Rule          string
	Command       string // "" for a shell
	Term          string
	Width, Height int
	Input         bool // what is typed is recorded as well
	Started       time.Time
}

// Recording is one session's. Its methods are safe for concurrent use. An error of any
// is for good: the recording is incomplete.
type Recording struct {
	// Fields are the owner's.
}

// Output takes what the target wrote. The bytes are copied.
func (r *Recording) Output(p []byte) error { panic("not built yet") }

// Typed takes what the person typed; without Meta.Input it does nothing.
func (r *Recording) Typed(p []byte) error { panic("not built yet") }

// Resize takes a new size of the terminal.
func (r *Recording) Resize(width, height int) error { panic("not built yet") }

// Failed is closed when the recording cannot go on; Err then says why.
func (r *Recording) Failed() <-chan struct{} { panic("not built yet") }

// Err is why the recording cannot go on.
func (r *Recording) Err() error { panic("not built yet") }

// Close ends the recording: it is whole on disk when Close returns nil.
func (r *Recording) Close() error { panic("not built yet") }

// Recorder makes recordings. It is safe for concurrent use.
type Recorder struct {
	// Fields are the owner's.
}

// Begin makes the file of a recording; an error means that nothing can be recorded now.
func (r *Recorder) Begin(m Meta) (*Recording, error) { panic("not built yet") }
