// SPDX-License-Identifier: Apache-2.0

package passport

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
)

// unset is what the kernel says of an audit id that was never set.
const unset = 1<<32 - 1

// maxDepth is how many processes are looked at from the caller upwards.
const maxDepth = agentapi.MaxBindings

// maxFile bounds what is read of a file in /proc, in bytes.
const maxFile = 1 << 16

// Why a process belongs to no login that could be remembered.
var (
	// ErrNoLogin says that the process has no audit identity of a login.
	ErrNoLogin = errors.New("the process belongs to no login: its loginuid or audit session is not set")
	// ErrOtherLogin says that it belongs to the login of another account.
	ErrOtherLogin = errors.New("the process belongs to the login of another account")
	// ErrContainer says that it has PIDs or users of its own.
	ErrContainer = errors.New("the process has a PID or user namespace of its own")
	// ErrChanged says that processes came and went while they were looked at.
	ErrChanged = errors.New("the processes changed while they were looked at")
)

// Binding stands for one login of one boot of this host.
// docs/explanation/passport.md says what it is made of.
type Binding [sha256.Size]byte

// String is the form on the wire.
func (b Binding) String() string { return base64.RawURLEncoding.EncodeToString(b[:]) }

// facts are what a binding is made of.
type facts struct {
	boot     string
	session  uint32
	loginuid uint32
	anchor   process.ID
}

// bindingForm names the form of what follows it in the hash.
const bindingForm = "sallyport login session 1"

func (f facts) binding() Binding {
	var b []byte
	for _, text := range []string{bindingForm, f.boot} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
		b = append(b, text...)
	}
	b = binary.BigEndian.AppendUint32(b, f.session)
	b = binary.BigEndian.AppendUint32(b, f.loginuid)
	b = binary.BigEndian.AppendUint32(b, uint32(f.anchor.PID))
	b = binary.BigEndian.AppendUint64(b, f.anchor.Start)
	return sha256.Sum256(b)
}

// Proc reads /proc. It is safe for concurrent use.
type Proc struct {
	FS fs.FS // of /proc
}

// Opened is the binding of the login that a process opens for the account uid:
// the process is its anchor.
func (p Proc) Opened(id process.ID, uid uint32) (Binding, error) {
	f, err := p.login(id, uid)
	if err != nil {
		return Binding{}, err
	}
	if _, err := p.same(id); err != nil {
		return Binding{}, err
	}
	return f.binding(), nil
}

// Above are the bindings that the login of a process would have, were the process
// itself, its parent, and so on, the anchor: one of them is, if the login was
// remembered. The login must be that of the account uid.
func (p Proc) Above(id process.ID, uid uint32) ([]Binding, error) {
	f, err := p.login(id, uid)
	if err != nil {
		return nil, err
	}
	chain, err := p.chain(id)
	if err != nil {
		return nil, err
	}
	out := make([]Binding, 0, len(chain))
	for _, anchor := range chain {
		f.anchor = anchor
		out = append(out, f.binding())
	}
	return out, nil
}

// login reads which login a process belongs to, and that it is one of uid here.
func (p Proc) login(id process.ID, uid uint32) (facts, error) {
	f := facts{anchor: id}
	if id.PID <= 0 || id.Start == 0 {
		return f, fmt.Errorf("%w: it is gone, or /proc hides it", ErrChanged)
	}
	if _, err := p.same(id); err != nil {
		return f, err
	}
	if err := p.notContained(id.PID); err != nil {
		return f, err
	}
	var err error
	if f.loginuid, err = p.auditID(id.PID, "loginuid"); err != nil {
		return f, err
	}
	if f.session, err = p.auditID(id.PID, "sessionid"); err != nil {
		return f, err
	}
	if f.loginuid != uid {
		return f, ErrOtherLogin
	}
	boot, err := p.read("sys/kernel/random/boot_id")
	if err != nil {
		return f, err
	}
	if f.boot = strings.TrimSpace(string(boot)); f.boot == "" {
		return f, errors.New("read boot_id: it is empty")
	}
	return f, nil
}

// chain is a process and those above it up to the first of its PID namespace.
// Each is read twice, the second time after all were read once: a process whose
// parent and start time are the same both times had that parent all the while, so
// that no number in the chain was given to another process meanwhile.
func (p Proc) chain(id process.ID) ([]process.ID, error) {
	var chain []process.ID
	var parents []int32
	for pid, newest := id.PID, id.Start; pid > 0 && len(chain) < maxDepth; {
		start, parent, err := p.stat(pid)
		if err != nil {
			return nil, err
		}
		if start > newest {
			return nil, ErrChanged // younger than its child
		}
		chain, parents = append(chain, process.ID{PID: pid, Start: start}), append(parents, parent)
		pid, newest = parent, start
	}
	if chain[0] != id {
		return nil, ErrChanged
	}
	for i, was := range chain {
		parent, err := p.same(was)
		if err != nil {
			return nil, err
		}
		if parent != parents[i] {
			return nil, ErrChanged
		}
	}
	return chain, nil
}

// same says that the process of that number is still the one of that start time,
// and returns its parent.
func (p Proc) same(id process.ID) (parent int32, err error) {
	start, parent, err := p.stat(id.PID)
	if err != nil {
		return 0, err
	}
	if start != id.Start {
		return 0, ErrChanged
	}
	return parent, nil
}

// notContained refuses a process with PIDs or users of its own. Both files may be
// read without any right over the process. A process with a time or mount
// namespace of its own is not told apart.
func (p Proc) notContained(pid int32) error {
	status, err := p.readOf(pid, "status")
	if err != nil {
		return err
	}
	n, err := parseNSpid(status)
	if err != nil {
		return err
	}
	theirs, err := p.readOf(pid, "uid_map")
	if err != nil {
		return err
	}
	ours, err := p.read("self/uid_map")
	if err != nil {
		return err
	}
	if n != 1 || !bytes.Equal(theirs, ours) {
		return ErrContainer
	}
	return nil
}

func (p Proc) stat(pid int32) (start uint64, parent int32, err error) {
	text, err := p.readOf(pid, "stat")
	if err != nil {
		return 0, 0, err
	}
	start, parent, err = process.ParseStat(text)
	if err != nil {
		return 0, 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return start, parent, nil
}

func (p Proc) auditID(pid int32, name string) (uint32, error) {
	text, err := p.readOf(pid, name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w: there is no %s, so the kernel has no audit, or the process is gone", ErrNoLogin, name)
	}
	if err != nil {
		return 0, err
	}
	return parseAuditID(name, text)
}

func (p Proc) readOf(pid int32, name string) ([]byte, error) {
	return p.read(strconv.Itoa(int(pid)) + "/" + name)
}

func (p Proc) read(name string) ([]byte, error) {
	f, err := p.FS.Open(name)
	if err != nil {
		return nil, fmt.Errorf("look at a process: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("look at a process: %w", err)
	}
	return text, nil
}

// parseAuditID reads /proc/PID/loginuid or sessionid. A value that is not set is
// ErrNoLogin.
func parseAuditID(name string, text []byte) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	if n == unset {
		return 0, ErrNoLogin
	}
	return uint32(n), nil
}

// parseNSpid counts the PID namespaces below that of /proc in which a process
// has a number, from the line NSpid of /proc/PID/status, proc(5). The kernel
// escapes line breaks in the name of a process, which stands in an earlier line.
func parseNSpid(status []byte) (int, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			if n := len(bytes.Fields(rest)); n > 0 {
				return n, nil
			}
			break
		}
	}
	return 0, errors.New("read process: its status names no NSpid")
}
