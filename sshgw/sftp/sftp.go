// SPDX-License-Identifier: Apache-2.0

// Package sftp stands between an SFTP client and a target's server: it lets pass what a
// rule permits, by resolved path, and says what was done. It keeps no file.
//
// It reads the heads of the packets of version 3 (draft-ietf-secsh-filexfer-02) and of
// OpenSSH's extensions (its PROTOCOL, section 4) itself: the codec of the SFTP library
// for Go is internal to it, and makes objects of packets that here only pass.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Op is one thing done to a file, for the log.
type Op struct {
	Kind   string // read, write, remove, rename, mkdir, rmdir, symlink, link, setstat, list, copy; stat, refused: only if denied
	Path   string // absolute; resolved where paths are restricted
	To     string // of rename, symlink, link, copy
	Bytes  int64  // moved
	SHA256 string // of the whole file as it went through in order; "" where it did not
	Result string // ok, denied, unfinished, or the status of the server
}

// Results of an Op that are no status of the server.
const (
	ResultOK         = "ok"
	ResultDenied     = "denied"
	ResultUnfinished = "unfinished" // the session ended before the file was closed
)

// Rules is what a filter may ask of a grant.
type Rules interface {
	MaySFTP() (may, unrestricted bool)
	MayRead(path string) bool
	MayWrite(path string) bool
	// MayReadBelow and MayWriteBelow say that this is so of all that could be in a folder,
	// whatever its name and however deep.
	MayReadBelow(folder string) bool
	MayWriteBelow(folder string) bool
}

// DefaultTimeout is how long a target may take for what a judgement rests on.
const DefaultTimeout = time.Minute

// Errors of Run.
var (
	// ErrProtocol says that a peer has sent what is no SFTP.
	ErrProtocol = errors.New("not SFTP")
	// ErrTimeout says that the target did not answer in time.
	ErrTimeout = errors.New("the target's SFTP server did not answer in time")
	// ErrForbidden says that the rules permit no SFTP.
	ErrForbidden = errors.New("the rules permit no SFTP")
	// ErrForeignPaths says that the target's paths are not those of Unix, so that
	// nothing can be said of where they lead.
	ErrForeignPaths = errors.New("the target's paths are not those of Unix and cannot be restricted")
)

// Filter is one SFTP session.
type Filter struct {
	Rules  Rules
	Report func(Op) // called in the order of the answers, before they go out; nil: nobody is told
	// Turns, if given, makes restricted sessions of the same Place take turns with
	// requests that name a path, so that none changes what a path leads to while
	// another is judged by it.
	Turns   *Turns
	Place   string        // target and login
	Timeout time.Duration // 0: DefaultTimeout
}

// Run copies between the client and the target's server until the server ends, and
// returns nil for an ordinary end. When the client ends its side, so does Run towards
// the server, by CloseWrite if it has that. It closes nothing else: the caller closes
// both, which ends the goroutine that may still read from the client.
func (f *Filter) Run(ctx context.Context, client, server io.ReadWriteCloser) error {
	may, unrestricted := f.Rules.MaySFTP()
	if !may {
		return ErrForbidden
	}
	s := &session{
		rules: f.Rules, report: f.Report, restricted: !unrestricted, timeout: f.Timeout,
		client: client, server: server, answers: make(chan answer, maxPending), gone: make(chan struct{}),
		handles: map[string]*handle{},
	}
	if s.timeout <= 0 {
		s.timeout = DefaultTimeout
	}
	if s.report == nil {
		s.report = func(Op) {}
	}
	s.changed = sync.NewCond(&s.mu)
	if s.restricted && f.Turns != nil {
		s.turn = f.Turns.join(f.Place)
		defer f.Turns.leave(f.Place)
	}
	defer s.end()
	stop := context.AfterFunc(ctx, s.stop)
	defer stop()
	requests, replies := make(chan error, 1), make(chan error, 1)
	go func() { requests <- guarded("requests", s.requests) }()
	go func() {
		err := guarded("replies", s.replies)
		s.stop() // nothing is answered any more
		replies <- err
	}()
	for {
		select {
		case err := <-requests:
			if err != nil && ctx.Err() == nil {
				select {
				case <-s.gone: // the server was gone first
					return <-replies
				default:
				}
				return err
			}
			if err != nil {
				return ctx.Err()
			}
			requests = nil
			if half, ok := server.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // a server that is gone is seen by the other side
			} else {
				_ = server.Close()
			}
		case err := <-replies:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guarded turns a panic into the end of this session alone.
func guarded(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("sftp %s: panic: %v", what, v)
		}
	}()
	return f()
}

// maxPending is how many requests may wait for their answer; beyond it the client waits.
const maxPending = 512

// session is a Filter that runs. The goroutine of requests reads from the client and
// alone writes to the server; that of replies reads from the server. Where paths are
// restricted, a request that names one waits until all before it are answered, and is
// then judged, done and answered by the goroutine of requests before the next one is
// read: what is refused is answered in its place.
type session struct {
	rules      Rules
	report     func(Op)
	restricted bool
	timeout    time.Duration
	client     io.ReadWriter
	server     io.ReadWriter
	turn       turn
	answers    chan answer   // to the goroutine of requests
	gone       chan struct{} // closed when the server has ended, or the context
	out        []byte        // of the goroutine of requests: the packet that it makes
	own        []uint32      // of the goroutine of requests: the ids of what it asks
	begun      bool          // of the goroutine of requests: INIT was seen

	toClient sync.Mutex   // a packet at a time
	held     atomic.Int64 // bytes that wait for those before them

	telling sync.Mutex
	silent  bool // Run is over: nobody listens to reports; with telling held

	mu      sync.Mutex
	changed *sync.Cond // a request was answered, or the end
	pending [maxPending]pending
	count   int // of pending
	from    int // where to look for one that is free
	ended   bool
	handles map[string]*handle
	names   int    // bytes of what handles and their paths are called
	home    string // where relative paths begin, "" as long as it is not known
}

// pending is a request that was sent to the server under an id of our own: ids of
// clients may be used twice.
type pending struct {
	used   bool
	turn   uint32 // tells one use of this place from the next
	id     uint32 // the client's
	direct bool   // the answer goes to the goroutine of requests
	what   byte   // type of the request
	op     Op     // Kind "" if nothing is to be told
	h      *handle
	other  *handle // of copy-data: the one that is written
	access access
	offset uint64
	length int
}

// answer is one that the goroutine of requests waits for.
type answer struct {
	own    uint32
	packet []byte // from its type on
}

func (s *session) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.gone)
		s.changed.Broadcast()
	}
}

// end tells what was not closed.
func (s *session) end() {
	s.stop()
	s.mu.Lock()
	open := s.handles
	s.handles = map[string]*handle{}
	s.mu.Unlock()
	for _, h := range open {
		s.tell(h.end(ResultUnfinished, &s.held)...)
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.silent = true
}

func (s *session) tell(ops ...Op) {
	s.telling.Lock()
	defer s.telling.Unlock()
	for _, op := range ops {
		if !s.silent {
			s.report(op)
		}
	}
}

// add makes a place for a request, and returns the id for it. It waits while there is none.
func (s *session) add(p pending) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.count == maxPending && !s.ended {
		s.changed.Wait()
	}
	if s.ended {
		return 0, io.ErrClosedPipe
	}
	for s.pending[s.from].used {
		s.from = (s.from + 1) % maxPending
	}
	at := &s.pending[s.from]
	p.used, p.turn = true, at.turn+1
	*at = p
	s.count++
	return uint32(s.from) | p.turn*maxPending, nil
}

// take returns what a reply is for, and frees its place; false for one that nobody
// has asked for.
func (s *session) take(own uint32) (pending, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := &s.pending[own%maxPending]
	if !at.used || at.turn%(1<<32/maxPending) != own/maxPending {
		return pending{}, false
	}
	p := *at
	*at = pending{turn: p.turn}
	return p, true
}

// answered says that a reply has gone where it belongs. Only then is the request over:
// what waits for all before it must not overtake the reply.
func (s *session) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	s.changed.Broadcast()
}

// settle waits until every request is answered.
func (s *session) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.count > 0 && !s.ended {
		s.changed.Wait()
	}
	if s.ended {
		return io.ErrClosedPipe
	}
	return nil
}

// toHandle finds the handle of bytes. With s.mu not held.
func (s *session) toHandle(name []byte) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.handles[string(name)]
	if h != nil && h.closing {
		return nil
	}
	return h
}

// write gives a packet to the client.
func (s *session) write(packet []byte) error {
	s.toClient.Lock()
	defer s.toClient.Unlock()
	_, err := s.client.Write(packet)
	return err
}
