// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of a path that is judged.
const (
	maxComponents = 256
	maxLinks      = 40 // as many as Linux follows
)

// errUnclear says that nobody can say where a path leads: it is refused.
var errUnclear = errors.New("it is not clear where the path leads")

// drive begins the paths of Windows, as its SSH servers show them.
var drive = regexp.MustCompile(`^/?[A-Za-z]:`)

// spot is where a path leads: no part of it is a link, but for the last one if links
// were not to be followed there.
type spot struct {
	path    string
	slash   bool // the name ends with a slash: only a folder will do
	missing bool // it is not there
	mode    uint32
}

func (p spot) isDir() bool { return !p.missing && p.mode&modeType == modeDir }

// text is how it is named to the server.
func (p spot) text() string {
	if p.slash && p.path != "/" {
		return p.path + "/"
	}
	return p.path
}

// resolve follows a name through every link, asking the server what each part is. The
// server's own SSH_FXP_REALPATH is not asked: what it does with links differs.
func (s *session) resolve(name string, follow bool) (spot, error) {
	if name == "" || len(name) > maxPath || strings.IndexByte(name, 0) >= 0 {
		return spot{}, errUnclear
	}
	return s.walk("", name, follow)
}

// walk follows a name that begins at a folder which is resolved, or at home for "".
func (s *session) walk(from, name string, follow bool) (spot, error) {
	if !strings.HasPrefix(name, "/") {
		if from == "" {
			s.mu.Lock()
			from = s.home
			s.mu.Unlock()
		}
		name = from + "/" + name
		if !strings.HasPrefix(from, "/") {
			return spot{}, errUnclear
		}
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	at := spot{slash: last == "" && strings.Trim(name, "/") != "", mode: modeDir}
	// A slash or a dot at the end means what is behind the link.
	follow = follow || last == "" || last == "." || last == ".."
	var done []string
	todo := strings.Split(name, "/")
	links := 0
	for len(todo) > 0 {
		run, rest, up := cut(todo)
		if len(run) == 0 {
			if up && len(done) > 0 {
				done = done[:len(done)-1]
			}
			todo, at.mode = rest, modeDir
			continue
		}
		if len(done)+len(run) > maxComponents || len(todo) > 2*maxComponents {
			return spot{}, errUnclear
		}
		modes, err := s.look(done, run)
		if err != nil {
			return spot{}, err
		}
		if up {
			rest = append([]string{".."}, rest...)
		}
		if len(modes) < len(run) { // the next one is not there
			for _, part := range rest {
				if part == ".." {
					return spot{}, errUnclear
				}
			}
			for _, part := range append(run, rest...) {
				if part != "" && part != "." {
					done = append(done, part)
				}
			}
			at.path, at.missing = "/"+strings.Join(done, "/"), true
			return at, nil
		}
		todo = rest
		for i, mode := range modes {
			lastOfAll := i == len(run)-1 && !more(rest)
			if at.mode = mode; mode&modeType != modeLink || (lastOfAll && !follow) {
				continue
			}
			if links++; links > maxLinks {
				return spot{}, errUnclear
			}
			target, err := s.readlink("/" + strings.Join(append(append([]string(nil), done...), run[:i+1]...), "/"))
			if err != nil {
				return spot{}, err
			}
			todo = append(append(strings.Split(target, "/"), run[i+1:]...), rest...)
			if run = run[:i]; strings.HasPrefix(target, "/") {
				run, done = nil, nil
			}
			break
		}
		done = append(done, run...)
	}
	at.path = "/" + strings.Join(done, "/")
	return at, nil
}

// cut takes from the beginning of a path as many parts as are names. up says that ..
// came after them.
func cut(todo []string) (run, rest []string, up bool) {
	for i, part := range todo {
		switch part {
		case "", ".":
		case "..":
			return run, todo[i+1:], true
		default:
			run = append(run, part)
		}
	}
	return run, nil, false
}

func more(rest []string) bool {
	run, _, up := cut(rest)
	return up || len(run) > 0
}

// look asks what the parts of a run are that follow a folder, all at once. It returns
// those up to the first that is not there.
func (s *session) look(done, run []string) ([]uint32, error) {
	base := ""
	if len(done) > 0 {
		base = "/" + strings.Join(done, "/")
	}
	paths := make([]string, len(run))
	for i, part := range run {
		base += "/" + part
		paths[i] = base
	}
	answers, err := s.ask(fxpLstat, paths...)
	if err != nil {
		return nil, err
	}
	var modes []uint32
	for _, p := range answers {
		if code, ok := statusOf(p); ok && code == fxNoSuchFile {
			return modes, nil
		}
		c := cursor{rest: p[1:]}
		c.u32()
		a := c.attrs()
		if p[0] != fxpAttrs || a.flags&attrPermissions == 0 {
			return nil, errUnclear
		}
		modes = append(modes, a.mode)
		if a.mode&modeType == modeLink {
			// What comes after it was asked for through the link, and is asked again.
			return append(modes, make([]uint32, len(run)-len(modes))...), nil
		}
	}
	return modes, nil
}

func (s *session) readlink(path string) (string, error) {
	answers, err := s.ask(fxpReadlink, path)
	if err != nil {
		return "", err
	}
	target, ok := nameOf(answers[0])
	if !ok || target == "" || len(target) > maxPath || strings.IndexByte(target, 0) >= 0 {
		return "", errUnclear
	}
	return target, nil
}

// ask asks the server about paths, all at once, and returns its answers from the type
// on. Nothing else may be pending.
func (s *session) ask(what byte, paths ...string) ([][]byte, error) {
	for _, path := range paths {
		if err := s.sendOwn(what, func(dst []byte) []byte { return addString(dst, path) }); err != nil {
			return nil, err
		}
	}
	return s.await()
}

// sendOwn sends a request whose answer comes by await. build adds the fields that
// follow the id.
func (s *session) sendOwn(what byte, build func(dst []byte) []byte) error {
	own, err := s.add(pending{direct: true, what: what})
	if err != nil {
		return err
	}
	s.own = append(s.own, own)
	s.out = finish(build(binary.BigEndian.AppendUint32(start(s.out, what), own)))
	if _, err := s.server.Write(s.out); err != nil {
		return fmt.Errorf("to the target: %w", err)
	}
	return nil
}

// await returns the answers to all that was sent by sendOwn, in that order.
func (s *session) await() ([][]byte, error) {
	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	defer func() { s.own = s.own[:0] }()
	out := make([][]byte, len(s.own))
	for range s.own {
		select {
		case a := <-s.answers:
			s.answered()
			if i := slices.Index(s.own, a.own); i >= 0 {
				out[i] = a.packet
			}
		case <-timer.C:
			return nil, fmt.Errorf("%w (%v)", ErrTimeout, s.timeout)
		case <-s.gone:
			return nil, io.ErrClosedPipe
		}
	}
	return out, nil
}
