// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// replies passes on what the server answers, until the server ends.
func (s *session) replies() error {
	in := newPackets(s.server, "the target")
	begun := false
	for {
		p, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p[4] == fxpVersion && !begun {
			begun = true
			if err := s.version(p); err != nil {
				return err
			}
			continue
		}
		if err := s.reply(p); err != nil {
			return err
		}
	}
}

// version passes on SSH_FXP_VERSION, without the extensions that would be refused.
func (s *session) version(p []byte) error {
	c := cursor{rest: p[5:]}
	v := c.u32()
	if c.bad || v > version {
		return fmt.Errorf("the target: %w: version %d", ErrProtocol, v)
	}
	if s.restricted {
		out := binary.BigEndian.AppendUint32(start(nil, fxpVersion), v)
		for len(c.rest) > 0 && !c.bad {
			ext, data := c.str(), c.str()
			if !c.bad && known[string(ext)] {
				out = addString(addString(out, ext), data)
			}
		}
		p = finish(out)
	}
	return s.toClientOr(p)
}

func (s *session) toClientOr(p []byte) error {
	if err := s.write(p); err != nil {
		return fmt.Errorf("to the client: %w", err)
	}
	return nil
}

// reply passes on an answer. One that nobody has asked for goes nowhere.
func (s *session) reply(p []byte) error {
	c := cursor{rest: p[5:]}
	own := c.u32()
	if c.bad {
		return fmt.Errorf("the target: %w: a reply without an id", ErrProtocol)
	}
	to, ok := s.take(own)
	if !ok {
		return nil
	}
	switch kind := p[4]; {
	case (to.direct || kind == fxpStatus || kind == fxpHandle || kind == fxpAttrs) && len(p) > maxAnswer:
		return fmt.Errorf("the target: %w: an answer of type %d and %d bytes", ErrProtocol, kind, len(p))
	case kind == fxpHandle && len(p) > 4+1+4+4+maxHandle:
		return fmt.Errorf("the target: %w: a handle of %d bytes", ErrProtocol, len(p)-(4+1+4+4))
	}
	switch {
	case to.direct:
		s.answers <- answer{own, bytes.Clone(p[4:])} // has room for all that can be asked
		return nil
	case to.what == askHome:
		s.setHome(p[4:])
		s.answered()
		return nil
	}
	s.account(&to, p[4:])
	binary.BigEndian.PutUint32(p[5:], to.id)
	err := s.toClientOr(p)
	s.answered()
	return err
}

func (s *session) setHome(p []byte) {
	home, ok := nameOf(p)
	if !ok || len(home) > maxPath {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.home = home
}

// account notes what an answer, from its type on, says that was done.
func (s *session) account(to *pending, p []byte) {
	code, isStatus := statusOf(p)
	switch to.what {
	case fxpOpen, fxpOpendir:
		s.opened(to, p, code)
	case fxpRead:
		if to.h != nil {
			s.wasRead(to, p, code, isStatus)
		}
	case fxpWrite:
		if to.h == nil {
			return
		}
		to.h.mu.Lock()
		if isStatus && code == fxOK {
			to.h.acked += int64(to.length)
		} else {
			to.h.failed = true
		}
		to.h.mu.Unlock()
	case fxpFstat:
		c := cursor{rest: p[1:]}
		c.u32()
		if a := c.attrs(); to.h != nil && p[0] == fxpAttrs && a.flags&attrSize != 0 {
			to.h.mu.Lock()
			to.h.size = int64(a.size)
			to.h.mu.Unlock()
		}
	case fxpClose:
		if to.h != nil {
			s.forget(to.h)
			s.tell(to.h.end(result(code), &s.held)...)
		}
	default:
		if to.op.Kind != "" {
			op := to.op
			// Where relative paths begin is known by now.
			if op.Path != "" {
				op.Path = s.absolute(op.Path)
			}
			if op.To != "" && op.Kind != "symlink" {
				op.To = s.absolute(op.To)
			}
			if op.Result = result(code); !isStatus {
				op.Result = "no status"
			}
			if op.Kind == "copy" && code != fxOK {
				op.Bytes = 0
			}
			s.tell(op)
		}
	}
}

func (s *session) wasRead(to *pending, p []byte, code uint32, isStatus bool) {
	h := to.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return
	}
	c := cursor{rest: p[1:]}
	c.u32()
	if data := c.str(); p[0] == fxpData && !c.bad {
		h.reads.add(to.offset, data, &s.held)
	} else if isStatus && code == fxEOF && to.offset == h.reads.next {
		h.eof = true
	}
}

// opened notes a handle, or that there is none.
func (s *session) opened(to *pending, p []byte, code uint32) *handle {
	h := &handle{path: s.absolute(to.op.Path), access: to.access, size: -1}
	c := cursor{rest: p[1:]}
	c.u32()
	name := c.str()
	if p[0] != fxpHandle || c.bad {
		s.tell(h.end(result(code), &s.held)...)
		return nil
	}
	h.name = string(name)
	s.mu.Lock()
	old := s.handles[h.name]
	names := s.names + h.called()
	if old != nil {
		names -= old.called()
	}
	room := (old != nil || len(s.handles) < maxHandles) && names <= maxNames
	if room {
		s.handles[h.name], s.names = h, names
	} else if old != nil { // its name means another file now
		delete(s.handles, old.name)
		s.names -= old.called()
	}
	s.mu.Unlock()
	if old != nil {
		s.tell(old.end(ResultUnfinished, &s.held)...)
	}
	if !room {
		s.tell(h.end("not followed: too many files are open", &s.held)...)
	}
	return h
}

func (s *session) forget(h *handle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handles[h.name] == h {
		delete(s.handles, h.name)
		s.names -= h.called()
	}
}
