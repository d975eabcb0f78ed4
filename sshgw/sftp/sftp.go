// SPDX-License-Identifier: Apache-2.0

// Package sftp stands between an SFTP client and a target's server: it lets pass what a
// rule permits, by resolved path, and says what was done. It keeps no file.
package sftp

import (
	"context"
	"io"
)

// Op is one thing done to a file, for the log.
type Op struct {
	Kind   string // read, write, remove, rename, mkdir, rmdir, symlink, link, setstat, list, refused
	Path   string // resolved, absolute
	To     string // of rename, symlink, link
	Bytes  int64  // moved
	SHA256 string // of the whole file as it went through in order; "" where it did not
	Result string // ok, denied, or the status of the server
}

// Rules is what a filter may ask of a grant.
type Rules interface {
	MaySFTP() (may, unrestricted bool)
	MayRead(path string) bool
	MayWrite(path string) bool
}

// Filter is one SFTP session.
type Filter struct {
	Rules  Rules
	Report func(Op) // called in the order of the answers
}

// Run copies between the client and the target's server until either ends. It returns
// nil for an ordinary end.
func (f *Filter) Run(ctx context.Context, client, server io.ReadWriteCloser) error {
	panic("not built yet")
}
