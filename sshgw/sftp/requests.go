// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// maxPath is the longest path that is judged, and that is told in full.
const maxPath = 4096

// OpenSSH's extensions, and copy-data of draft-ietf-secsh-filexfer-extensions.
const (
	extPosixRename = "posix-rename@openssh.com"
	extStatvfs     = "statvfs@openssh.com"
	extFstatvfs    = "fstatvfs@openssh.com"
	extHardlink    = "hardlink@openssh.com"
	extFsync       = "fsync@openssh.com"
	extLsetstat    = "lsetstat@openssh.com"
	extLimits      = "limits@openssh.com"
	extExpandPath  = "expand-path@openssh.com"
	extUsersGroups = "users-groups-by-id@openssh.com"
	extCopyData    = "copy-data"
	extHome        = "home-directory"
)

// known are the extensions that may be used where paths are restricted. What another
// one does to which path nobody knows.
var known = map[string]bool{
	extPosixRename: true, extStatvfs: true, extFstatvfs: true, extHardlink: true, extFsync: true, extLsetstat: true,
	extLimits: true, extExpandPath: true, extUsersGroups: true, extCopyData: true,
}

// requests passes on what the client asks for, until the client ends.
func (s *session) requests() error {
	in := newPackets(s.client, "the client")
	for {
		p, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.request(p); err != nil {
			return err
		}
	}
}

func (s *session) request(p []byte) error {
	what := p[4]
	if what == fxpInit || !s.begun {
		return s.begin(p)
	}
	c := cursor{rest: p[5:]}
	id := c.u32()
	if c.bad {
		return fmt.Errorf("the client: %w: a request without an id", ErrProtocol)
	}
	if s.restricted {
		return s.judge(p, what, id, c)
	}
	return s.pass(p, s.describe(what, id, c))
}

// begin passes on SSH_FXP_INIT, and asks where relative paths begin.
func (s *session) begin(p []byte) error {
	if s.begun || p[4] != fxpInit || len(p) < 9 {
		return fmt.Errorf("the client: %w: SSH_FXP_INIT belongs at the beginning, and there alone", ErrProtocol)
	}
	s.begun = true
	if binary.BigEndian.Uint32(p[5:]) > version {
		binary.BigEndian.PutUint32(p[5:], version)
	}
	if _, err := s.server.Write(p); err != nil {
		return fmt.Errorf("to the target: %w", err)
	}
	return s.send(pending{what: askHome}, fxpRealpath, ".")
}

// askHome stands for our own question where relative paths begin.
const askHome = 0

// send sends a request that names a path.
func (s *session) send(p pending, what byte, path string) error {
	own, err := s.add(p)
	if err != nil {
		return err
	}
	s.out = start(s.out, what)
	s.out = binary.BigEndian.AppendUint32(s.out, own)
	s.out = finish(addString(s.out, path))
	if _, err := s.server.Write(s.out); err != nil {
		return fmt.Errorf("to the target: %w", err)
	}
	return nil
}

// pass passes on a request under an id of ours.
func (s *session) pass(p []byte, as pending) error {
	own, err := s.add(as)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(p[5:], own)
	if _, err := s.server.Write(p); err != nil {
		return fmt.Errorf("to the target: %w", err)
	}
	return nil
}

// describe says what a request is for, with paths as they were named. What cannot be
// read is for nothing: the server will say what it thinks of it.
func (s *session) describe(what byte, id uint32, c cursor) pending {
	p := pending{id: id, what: what}
	switch what {
	case fxpOpen:
		name, flags := c.str(), c.u32()
		p.op.Path, p.access = printable(name), accessOf(flags)
	case fxpOpendir:
		p.op.Path, p.access = printable(c.str()), access{list: true}
	case fxpClose:
		s.closing(&p, c.str())
	case fxpRead:
		p.h, p.offset, p.length = s.toHandle(c.str()), c.u64(), int(c.u32())
	case fxpWrite:
		h, offset, data := s.toHandle(c.str()), c.u64(), c.str()
		if h == nil || c.bad {
			break
		}
		p.h, p.offset, p.length = h, offset, len(data)
		h.mu.Lock()
		if !h.over {
			h.writes.add(offset, data, &s.held)
		}
		h.mu.Unlock()
	case fxpFstat, fxpReaddir:
		p.h = s.toHandle(c.str())
	case fxpFsetstat:
		p.h = s.toHandle(c.str())
		if p.h != nil {
			p.op = Op{Kind: "setstat", Path: p.h.path}
			s.resized(p.h, c.attrs())
		}
	case fxpSetstat:
		p.op = Op{Kind: "setstat", Path: printable(c.str())}
	case fxpRemove:
		p.op = Op{Kind: "remove", Path: printable(c.str())}
	case fxpMkdir:
		p.op = Op{Kind: "mkdir", Path: printable(c.str())}
	case fxpRmdir:
		p.op = Op{Kind: "rmdir", Path: printable(c.str())}
	case fxpRename:
		p.op = Op{Kind: "rename", Path: printable(c.str()), To: printable(c.str())}
	case fxpSymlink: // OpenSSH has the two in this order
		to := printable(c.str())
		p.op = Op{Kind: "symlink", Path: printable(c.str()), To: to}
	case fxpExtended:
		s.describeExtended(&p, string(c.str()), c)
	}
	if c.bad {
		p.op = Op{}
	}
	return p
}

func (s *session) describeExtended(p *pending, ext string, c cursor) {
	switch ext {
	case extPosixRename:
		p.op = Op{Kind: "rename", Path: printable(c.str()), To: printable(c.str())}
	case extHardlink:
		p.op = Op{Kind: "link", Path: printable(c.str()), To: printable(c.str())}
	case extLsetstat:
		p.op = Op{Kind: "setstat", Path: printable(c.str())}
	case extFstatvfs, extFsync:
		p.h = s.toHandle(c.str())
	case extCopyData:
		from := s.toHandle(c.str())
		c.u64()
		length := c.u64()
		to := s.toHandle(c.str())
		if from == nil || to == nil || c.bad {
			return
		}
		p.h, p.other = from, to
		p.op = Op{Kind: "copy", Path: from.path, To: to.path, Bytes: int64(length)}
		to.mu.Lock()
		to.writes.lose(&s.held) // what it holds did not come by here
		to.mu.Unlock()
	default:
		if !known[ext] && ext != extHome { // what it does nobody knows, but that it was asked for
			p.op = Op{Kind: extension(ext)}
		}
	}
}

// extension is the Kind of a request that is not known.
func extension(name string) string {
	return "extension " + printable([]byte(name[:min(len(name), 128)]))
}

// closing marks a handle that is being closed: its name may mean another file soon.
func (s *session) closing(p *pending, name []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handles[string(name)]; h != nil && !h.closing {
		h.closing = true
		p.h = h
	}
}

// resized gives up the sum of a file whose length is set to something else than what
// was written.
func (s *session) resized(h *handle, a attrs) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.flags&attrSize != 0 && a.size != h.writes.next {
		h.writes.lose(&s.held)
	}
}

func accessOf(flags uint32) access {
	write := flags&(fxfWrite|fxfAppend|fxfCreate|fxfTruncate) != 0
	return access{
		// Without a word OpenSSH opens for reading.
		read:  flags&fxfRead != 0 || flags&fxfWrite == 0,
		write: write,
		fresh: flags&fxfTruncate != 0 || flags&(fxfCreate|fxfExclude) == fxfCreate|fxfExclude,
	}
}

// absolute is a path as the client names it, from the root on. It says nothing of
// where links lead.
func (s *session) absolute(text string) string {
	if strings.HasPrefix(text, "/") {
		return path.Clean(text)
	}
	s.mu.Lock()
	home := s.home
	s.mu.Unlock()
	if home == "" {
		home = "~"
	}
	return path.Join(home, text)
}

// printable bounds a path for the log.
func printable(name []byte) string {
	if len(name) > maxPath {
		return string(name[:maxPath]) + "…"
	}
	return string(bytes.Clone(name))
}
