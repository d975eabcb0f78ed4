// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"encoding/binary"
	"errors"
	"path"
	"strings"
)

// denied is what the client reads.
const denied = "denied by the rules of the SSH gateway"

// judge passes on a request if the rules permit it. A request that names a path goes
// on with the path to which that leads, so that a link that is changed meanwhile
// changes nothing.
func (s *session) judge(p []byte, what byte, id uint32, c cursor) error {
	switch what {
	case fxpRead, fxpWrite, fxpClose, fxpFstat, fxpFsetstat, fxpReaddir:
		return s.judgeHandle(p, what, id, c)
	case fxpExtended:
		switch ext := cursorString(c); ext {
		case extLimits, extUsersGroups:
			return s.pass(p, pending{id: id, what: what})
		case extFstatvfs, extFsync, extCopyData:
			return s.judgeHandle(p, what, id, c)
		}
	}
	r, ok := s.read(what, c)
	if !ok {
		return s.deny(id, Op{Kind: "refused", Path: r.kind})
	}
	if err := s.settle(); err != nil {
		return err
	}
	s.mu.Lock()
	home := s.home
	s.mu.Unlock()
	if drive.MatchString(home) {
		return ErrForeignPaths
	}
	if !s.turn.take(s.timeout, s.gone) {
		return ErrTimeout
	}
	reply, err := s.do(r)
	s.turn.give()
	if err != nil {
		return err
	}
	if reply == nil {
		return s.deny(id, r.op())
	}
	binary.BigEndian.PutUint32(reply[5:], id)
	return s.toClientOr(reply)
}

func cursorString(c cursor) string { return string(c.str()) }

// deny answers a request itself, after all before it.
func (s *session) deny(id uint32, op Op) error {
	if err := s.settle(); err != nil {
		return err
	}
	op.Result = ResultDenied
	s.tell(op)
	s.out = status(s.out, id, fxPermissionDenied, denied)
	return s.toClientOr(s.out)
}

// judgeHandle passes on a request that names a handle, if the handle was opened for it.
func (s *session) judgeHandle(p []byte, what byte, id uint32, c cursor) error {
	fields := c
	var ext string
	if what == fxpExtended {
		ext = string(fields.str())
	}
	h := s.toHandle(fields.str())
	op := Op{Kind: "refused"}
	if h != nil {
		op.Path = h.path
	}
	may := h != nil
	switch {
	case !may:
	case what == fxpRead:
		may, op.Kind = h.access.read, "read"
	case what == fxpWrite:
		may, op.Kind = h.access.write, "write"
	case what == fxpReaddir:
		may, op.Kind = h.access.list, "list"
	case what == fxpFsetstat:
		may, op.Kind = s.rules.MayWrite(h.path), "setstat"
	case ext == extCopyData:
		fields.u64()
		fields.u64()
		to := s.toHandle(fields.str())
		op.Kind = "copy"
		if may = h.access.read && to != nil && to.access.write; to != nil {
			op.To = to.path
		}
	}
	if !may || fields.bad {
		return s.deny(id, op)
	}
	return s.pass(p, s.describe(what, id, c))
}

// request is one that names paths.
type request struct {
	kind   string // of Op
	what   byte
	ext    string
	name   string // the path that is judged first
	follow bool   // what it is done to is behind the last link
	to     string // a second one
	link   bool   // it makes a link at to which leads to name, and name goes on as it is
	two    bool
	tail   []byte // what follows the paths
	access access // of an open
	at, on spot   // where the paths lead
}

func (r *request) op() Op {
	op := Op{Kind: r.kind, Path: r.at.path, To: r.on.path}
	if op.Path == "" {
		op.Path = printable([]byte(r.name))
	}
	if op.To == "" && r.two {
		op.To = printable([]byte(r.to))
	}
	if r.link { // the link is what is made
		op.Path, op.To = op.To, printable([]byte(r.name))
	}
	return op
}

// read reads a request that names paths; false for what is none that is known, whose
// kind then says what it is.
func (s *session) read(what byte, c cursor) (*request, bool) {
	r := &request{what: what, kind: "stat", follow: true}
	switch what {
	case fxpOpen:
		r.name = string(c.str())
		flags := cursor{rest: c.rest}
		r.tail, r.access = c.rest, accessOf(flags.u32())
		c.bad = c.bad || flags.bad
		if r.kind = "read"; r.access.write {
			r.kind = "write"
		}
	case fxpOpendir:
		r.kind, r.name, r.access = "list", string(c.str()), access{list: true}
	case fxpStat, fxpRealpath:
		r.name = string(c.str())
	case fxpLstat, fxpReadlink:
		r.name, r.follow = string(c.str()), false
	case fxpSetstat:
		r.kind, r.name = "setstat", string(c.str())
		r.tail = c.rest
	case fxpRemove, fxpRmdir, fxpMkdir:
		r.kind = map[byte]string{fxpRemove: "remove", fxpRmdir: "rmdir", fxpMkdir: "mkdir"}[what]
		r.name, r.follow = string(c.str()), false
		r.tail = c.rest
	case fxpRename:
		r.kind, r.name, r.to, r.two, r.follow = "rename", string(c.str()), string(c.str()), true, false
	case fxpSymlink:
		r.kind, r.name, r.to, r.two, r.link, r.follow = "symlink", string(c.str()), string(c.str()), true, true, true
	case fxpExtended:
		r.ext = string(c.str())
		switch r.ext {
		case extStatvfs, extExpandPath:
			r.name = string(c.str())
		case extPosixRename:
			r.kind, r.name, r.to, r.two, r.follow = "rename", string(c.str()), string(c.str()), true, false
		case extHardlink: // the source is followed: what link(2) does with a link differs
			r.kind, r.name, r.to, r.two = "link", string(c.str()), string(c.str()), true
		case extLsetstat:
			r.kind, r.name, r.follow = "setstat", string(c.str()), false
			r.tail = c.rest
		default:
			r.kind = extension(r.ext)
			return r, false
		}
	default:
		r.kind = "unknown request"
		return r, false
	}
	if c.bad {
		r.kind = "request that cannot be read"
	}
	return r, !c.bad
}

// do looks where the paths lead, and asks the server to do it if that is permitted. It
// returns the server's reply, nil for what is denied.
func (s *session) do(r *request) ([]byte, error) {
	if r.what == fxpRealpath || r.ext == extExpandPath {
		return s.realpath(r)
	}
	may, err := s.find(r)
	if errors.Is(err, errUnclear) || (err == nil && !may) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.sendOwn(r.what, func(dst []byte) []byte {
		if r.ext != "" {
			dst = addString(dst, r.ext)
		}
		if r.link {
			dst = addString(dst, r.name)
		} else {
			dst = addString(dst, r.at.text())
		}
		if r.two {
			dst = addString(dst, r.on.text())
		}
		return append(dst, r.tail...)
	}); err != nil {
		return nil, err
	}
	if r.access != (access{}) {
		return s.open(r)
	}
	answers, err := s.await()
	if err != nil {
		return nil, err
	}
	reply := answers[0]
	if r.kind != "stat" {
		op := r.op()
		code, ok := statusOf(reply)
		if op.Result = result(code); !ok {
			op.Result = "no status"
		}
		s.tell(op)
	}
	return framed(reply), nil
}

// framed puts the length before a packet.
func framed(p []byte) []byte { return finish(append(make([]byte, 4, len(p)+4), p...)) }

// find looks where the paths lead and whether that may be.
func (s *session) find(r *request) (bool, error) {
	if r.link {
		return s.findLink(r)
	}
	var err error
	if r.at, err = s.resolve(r.name, r.follow); err != nil {
		return false, err
	}
	from := r.at.path
	read, write := s.rules.MayRead(from), s.rules.MayWrite(from)
	switch r.kind {
	case "stat":
		return read || write, nil // who writes sees what he has written
	case "read", "write", "list":
		// To open a FIFO may take for ever, and this session has the turn of all.
		if !r.at.missing && !r.at.isDir() && r.at.mode&modeType != modeFile {
			return false, nil
		}
		return (read || !r.access.read && !r.access.list) && (write || !r.access.write), nil
	}
	if !r.two {
		return write, nil
	}
	if r.on, err = s.resolve(r.to, false); err != nil {
		return false, err
	}
	to := r.on.path
	if !write || !s.rules.MayWrite(to) {
		return false, nil
	}
	// What may not be read where it is may not be where it may be read.
	if s.rules.MayRead(to) && !read {
		return false, nil
	}
	// Nobody has listed what is in a folder, so nothing of it may be out of bounds.
	return r.kind != "rename" || !r.at.isDir() ||
		s.rules.MayReadBelow(from) && s.rules.MayWriteBelow(from) && s.rules.MayWriteBelow(to), nil
}

// findLink is find for a link: where it would lead must be permitted as well, or
// others would be led there.
func (s *session) findLink(r *request) (bool, error) {
	var err error
	if r.on, err = s.resolve(r.to, false); err != nil {
		return false, err
	}
	if !s.rules.MayWrite(r.on.path) || r.name == "" || len(r.name) > maxPath || strings.IndexByte(r.name, 0) >= 0 {
		return false, nil
	}
	if r.at, err = s.walk(path.Dir(r.on.path), r.name, true); err != nil {
		return false, err
	}
	return s.rules.MayRead(r.at.path) || s.rules.MayWrite(r.at.path), nil
}

// open waits for the answer to an open, and looks once more whether what was opened is
// what was judged: if a part of the path has become a link, it is closed.
func (s *session) open(r *request) ([]byte, error) {
	parts := strings.Split(strings.TrimPrefix(r.at.path, "/"), "/")
	if r.at.path == "/" {
		parts = nil
	}
	at := ""
	for _, part := range parts {
		at += "/" + part
		now := at
		if err := s.sendOwn(fxpLstat, func(dst []byte) []byte { return addString(dst, now) }); err != nil {
			return nil, err
		}
	}
	answers, err := s.await()
	if err != nil {
		return nil, err
	}
	reply := answers[0]
	if reply[0] == fxpHandle {
		for _, p := range answers[1:] {
			c := cursor{rest: p[1:]}
			c.u32()
			if a := c.attrs(); p[0] != fxpAttrs || a.flags&attrPermissions == 0 || a.mode&modeType == modeLink {
				return nil, s.closeAgain(reply)
			}
		}
	}
	to := pending{what: r.what, access: r.access, op: Op{Path: r.at.path}}
	code, _ := statusOf(reply)
	if h := s.opened(&to, reply, code); h != nil && h.over {
		return nil, s.closeAgain(reply) // there are too many
	}
	return framed(reply), nil
}

func (s *session) closeAgain(reply []byte) error {
	c := cursor{rest: reply[1:]}
	c.u32()
	if err := s.sendOwn(fxpClose, func(dst []byte) []byte { return addString(dst, c.str()) }); err != nil {
		return err
	}
	_, err := s.await()
	return err
}

// realpath answers where a path leads. A path out of bounds is answered by what its
// name says, without a look: clients ask for where they are, and for what is above.
func (s *session) realpath(r *request) ([]byte, error) {
	name := r.name
	if name == "" {
		name = "."
	}
	if r.ext == extExpandPath && strings.HasPrefix(name, "~") {
		user, rest, _ := strings.Cut(name[1:], "/")
		if user != "" {
			return nil, nil
		}
		if name = rest; name == "" {
			name = "."
		}
	}
	if len(name) > maxPath || strings.IndexByte(name, 0) >= 0 {
		return nil, nil
	}
	at, err := s.resolve(name, true)
	if err != nil && !errors.Is(err, errUnclear) {
		return nil, err
	}
	if err != nil || (!s.rules.MayRead(at.path) && !s.rules.MayWrite(at.path)) {
		lexical := s.absolute(name)
		if !strings.HasPrefix(lexical, "/") {
			return nil, nil
		}
		return nameReply(lexical), nil
	}
	if err := s.sendOwn(fxpRealpath, func(dst []byte) []byte { return addString(dst, at.text()) }); err != nil {
		return nil, err
	}
	answers, err := s.await()
	if err != nil {
		return nil, err
	}
	return framed(answers[0]), nil
}
