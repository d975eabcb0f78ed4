// SPDX-License-Identifier: Apache-2.0

// Package pam binds the C sources of the PAM module, frame.c and client.c, so
// that tests and fuzzers drive that very code and `sallyport doctor` can try the
// path that a login takes. It never runs inside a login process: the module
// itself is C alone, because a Go runtime does not survive the fork of its host.
package pam

/*
#cgo CFLAGS: -std=gnu11 -Wall -Wextra
#include <errno.h>
#include <stdlib.h>
#include "client.h"

extern void sallyportShow(uintptr_t handle, int style, char *text);
extern ssize_t sallyportAsk(uintptr_t handle, bool echo, char *text, char *answer, size_t size);

static void adapter_show(void *context, enum frame_style style, const char *text)
{
	sallyportShow((uintptr_t)context, (int)style, (char *)text);
}

static ssize_t adapter_ask(void *context, bool echo, const char *text, char *answer, size_t size)
{
	return sallyportAsk((uintptr_t)context, echo, (char *)text, answer, size);
}

static void set_conversation(struct client *c, uintptr_t handle)
{
	c->conversation.context = (void *)handle;
	c->conversation.show = adapter_show;
	c->conversation.ask = adapter_ask;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime/cgo"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Sockets of authd in its socket directory.
const (
	RootSocket = "authd.sock" // for processes with effective uid 0
	UserSocket = "user.sock"  // for the rest
)

// BreakGlassSocket is the socket, in the same directory, that the module tries in a
// process of effective uid 0 when authd does not answer.
const BreakGlassSocket = "breakglass.sock"

// probeTimeout is the whole time that Probe gives the daemon.
const probeTimeout = 3 * time.Second

// Conversation answers for the person. Its methods are called one at a time, on
// the goroutine that runs Call, and with text as the module would show it.
type Conversation interface {
	// Show presents a message.
	Show(style frames.Style, text string)
	// Ask returns what the person typed. An error means that nobody can be asked.
	Ask(echo bool, text string) (frames.Secret, error)
}

// Client makes calls as the module makes them.
type Client struct {
	// SocketPath is the daemon's socket, less than 108 bytes.
	SocketPath string
	// ServerUID is who must have made the socket: 0 in a login.
	ServerUID uint32
	// Timeout bounds all waiting for the daemon in one call; the typing of the
	// person does not count. 0 means 90 s, the module's default.
	Timeout time.Duration
	// Conversation reaches the person; nil: nobody can be asked.
	Conversation Conversation
}

// Failure is the error of a call that ended without a decision. Its Reason is
// one of those in docs/reference/pam-module.md.
type Failure struct {
	Reason   string
	Socket   string
	Errno    syscall.Errno // 0 if no system call failed
	PeerUID  uint32        // who made the socket, for the reason wrong-owner
	TooLarge string        // what does not fit, for the reason too-large
	Limit    time.Duration // the limit that passed, if one did
}

// Error implements error.
func (f *Failure) Error() string {
	msg := fmt.Sprintf("call authd at %s: %s", f.Socket, f.Reason)
	switch {
	case f.Errno != 0:
		msg += ": " + f.Errno.Error()
	case f.Reason == "wrong-owner":
		msg += fmt.Sprintf(": the socket was made by uid %d", f.PeerUID)
	case f.TooLarge != "":
		msg += ": " + f.TooLarge
	case f.Limit != 0:
		msg += " of " + f.Limit.String() + " passed"
	}
	return msg
}

// Unwrap gives the system call's error, so that errors.Is finds fs.ErrNotExist
// and its like.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// Call makes one call of one hook: it sends r, has the conversation, and returns
// the daemon's decision, or a *Failure. It is safe for concurrent use.
func (c *Client) Call(r *frames.Request) (frames.Outcome, error) {
	if strings.IndexByte(c.SocketPath, 0) >= 0 {
		return 0, errors.New("call authd: NUL in the socket's path")
	}
	cr, err := newRequest(r)
	if err != nil {
		return 0, err
	}
	defer cr.free()
	cc := (*C.struct_client)(C.calloc(1, C.sizeof_struct_client))
	defer C.free(unsafe.Pointer(cc))
	path := C.CString(c.SocketPath)
	defer C.free(unsafe.Pointer(path))
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 90 * time.Second
	}
	cc.socket_path = path
	cc.server_uid = C.uid_t(c.ServerUID)
	cc.timeout_ms = C.int64_t(timeout.Milliseconds())
	cc.may_ask = C.bool(r.Hook.CanAsk())
	handle := cgo.NewHandle(c.Conversation)
	defer handle.Delete()
	C.set_conversation(cc, C.uintptr_t(handle))
	outcome := frames.Outcome(C.client_call(cc, &cr.c))
	if outcome != 0 {
		return outcome, nil
	}
	return 0, newFailure(cc, c.SocketPath)
}

func newFailure(cc *C.struct_client, socket string) *Failure {
	f := &Failure{
		Reason:  C.GoString(C.client_failure_name(cc.failure)),
		Socket:  socket,
		Errno:   syscall.Errno(cc.error),
		PeerUID: uint32(cc.peer_uid),
		Limit:   time.Duration(cc.limit_ms) * time.Millisecond,
	}
	if cc.too_large != nil {
		f.TooLarge = C.GoString(cc.too_large)
	}
	return f
}

// SocketPath returns the socket in dir that the module uses in a process like
// this one: by the effective uid.
func SocketPath(dir string) string {
	if os.Geteuid() == 0 {
		return filepath.Join(dir, RootSocket)
	}
	return filepath.Join(dir, UserSocket)
}

// Probe tries the way that a login takes: it connects to the socket in dir that
// a process of this uid would use, checks that root made it, and has authd
// answer one request that decides nothing. It takes three seconds at most. The
// error is a *Failure where the path is broken.
func Probe(dir string) error { return probe(SocketPath(dir), 0) }

func probe(socket string, serverUID uint32) error {
	name := "root"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	client := &Client{SocketPath: socket, ServerUID: serverUID, Timeout: probeTimeout}
	outcome, err := client.Call(&frames.Request{
		Hook:    frames.HookSetcred, // which decides nothing
		RUID:    uint32(os.Getuid()),
		EUID:    uint32(os.Geteuid()),
		Version: "probe",
		Service: "sallyport-doctor",
		User:    name,
	})
	if err != nil {
		return err
	}
	if outcome != frames.OutcomeAllow {
		return fmt.Errorf("probe authd at %s: it answered %q to a request that decides nothing", socket, outcome)
	}
	return nil
}

// Decode runs the module's decoder over data, which holds one whole frame from
// the daemon and nothing more. An error wraps frames.ErrBroken.
func Decode(data []byte) (frames.Frame, error) {
	var header [frames.HeaderSize]byte
	if copy(header[:], data) < len(header) {
		return nil, fmt.Errorf("%w: header cut off", frames.ErrBroken)
	}
	size := C.frame_header((*C.uint8_t)(&header[0]))
	if size < 0 || int(size) != len(data)-len(header) {
		return nil, fmt.Errorf("%w: bad header", frames.ErrBroken)
	}
	b := (*C.struct_frame_buffer)(C.calloc(1, C.sizeof_struct_frame_buffer))
	defer C.free(unsafe.Pointer(b))
	b.len = C.size_t(len(data))
	copy(unsafe.Slice((*byte)(&b.bytes[0]), len(data)), data)
	var f C.struct_frame
	if !C.frame_parse(b, &f) {
		return nil, fmt.Errorf("%w: bad payload", frames.ErrBroken)
	}
	return newFrame(&f)
}

func newFrame(f *C.struct_frame) (frames.Frame, error) {
	switch frames.Type(f._type) {
	case frames.TypeShow:
		return &frames.Show{Text: C.GoString(f.text), Style: frames.Style(f.style)}, nil
	case frames.TypeAsk:
		return &frames.Ask{Text: C.GoString(f.text)}, nil
	case frames.TypeAskSecret:
		return &frames.AskSecret{Text: C.GoString(f.text)}, nil
	case frames.TypeWait:
		return &frames.Wait{For: time.Duration(f.millis) * time.Millisecond}, nil
	case frames.TypeDone:
		return &frames.Done{Outcome: frames.Outcome(f.outcome)}, nil
	}
	return nil, fmt.Errorf("%w: type %d", frames.ErrBroken, f._type)
}

// EncodeRequest runs the module's encoder. The error of what does not fit wraps
// frames.ErrTooLarge and names it.
func EncodeRequest(r *frames.Request) ([]byte, error) {
	cr, err := newRequest(r)
	if err != nil {
		return nil, err
	}
	defer cr.free()
	b := (*C.struct_frame_buffer)(C.calloc(1, C.sizeof_struct_frame_buffer))
	defer C.free(unsafe.Pointer(b))
	if name := C.frame_put_request(b, &cr.c); name != nil {
		return nil, fmt.Errorf("encode REQUEST: %w: %s", frames.ErrTooLarge, C.GoString(name))
	}
	return C.GoBytes(unsafe.Pointer(&b.bytes[0]), C.int(b.len)), nil
}

// EncodeAnswer runs the module's encoder over an answer.
func EncodeAnswer(answer frames.Secret) []byte {
	b := (*C.struct_frame_buffer)(C.calloc(1, C.sizeof_struct_frame_buffer))
	defer C.free(unsafe.Pointer(b))
	text := C.CString(answer.Reveal())
	defer C.free(unsafe.Pointer(text))
	C.frame_put_answer(b, text, C.size_t(len(answer)))
	return C.GoBytes(unsafe.Pointer(&b.bytes[0]), C.int(b.len))
}

// Clean returns text, up to its first NUL, as the module shows it: without
// control characters other than newline and tab, and as UTF-8.
func Clean(text string) string {
	c := C.CString(text)
	defer C.free(unsafe.Pointer(c))
	C.frame_clean(c)
	return C.GoString(c)
}

// request is a frames.Request in C's memory.
type request struct {
	c     C.struct_frame_request
	owned []unsafe.Pointer
}

func newRequest(r *frames.Request) (*request, error) {
	if n := len(r.PAMEnv) + len(r.ProcEnv); n > C.FRAME_ENV_COUNT {
		return nil, fmt.Errorf("encode REQUEST: %w: %d environment variables, at most %d", frames.ErrTooLarge, n, C.FRAME_ENV_COUNT)
	}
	cr := &request{}
	cr.c.hook = uint32(r.Hook)
	cr.c.flags = C.uint32_t(r.Flags)
	cr.c.ruid = C.uid_t(r.RUID)
	cr.c.euid = C.uid_t(r.EUID)
	cr.c.version = cr.string(r.Version)
	cr.c.service = cr.string(r.Service)
	cr.c.user = cr.string(r.User)
	cr.c.tty = cr.string(r.TTY)
	cr.c.rhost = cr.string(r.RHost)
	cr.c.ruser = cr.string(r.RUser)
	n := 0
	for name, value := range r.PAMEnv {
		cr.c.env[n] = C.struct_frame_env{tag: C.TAG_PAM_ENV, name: cr.string(name), value: cr.string(value)}
		n++
	}
	for name, value := range r.ProcEnv {
		cr.c.env[n] = C.struct_frame_env{tag: C.TAG_PROC_ENV, name: cr.string(name), value: cr.string(value.Reveal())}
		n++
	}
	return cr, nil
}

func (r *request) string(s string) *C.char {
	c := C.CString(s)
	r.owned = append(r.owned, unsafe.Pointer(c))
	return c
}

func (r *request) free() {
	for _, p := range r.owned {
		C.free(p)
	}
}
