// SPDX-License-Identifier: Apache-2.0

// Package keys is the gateway's own keys: those of its host, the CA that vouches for
// people towards targets, and the CA that vouches for targets inside a jump. They are
// files of a folder, made when missing, and changed in steps that break nobody. It
// never decides whom a certificate is made for.
package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Folder is where the keys live, with the clock and the randomness that they are
// made by.
type Folder struct {
	Dir  string
	Now  func() time.Time
	Rand io.Reader
}

// In is the folder of a running system.
func In(dir string) Folder { return Folder{Dir: dir, Now: time.Now, Rand: rand.Reader} }

// Ring is the keys in force. It is safe for concurrent use.
type Ring struct {
	folder Folder
	now    atomic.Pointer[force]

	mu    sync.Mutex // guards hosts
	hosts hostCerts
}

// force is what a handshake needs of the folder, computed once.
type force struct {
	host      []ssh.Signer
	announced []ssh.Signer
	userCA    ssh.Signer
	hostCA    ssh.Signer
	all       []Key
}

// Open reads the keys in dir, and makes those that are missing.
func Open(dir string) (*Ring, error) { return In(dir).Open() }

// Open is the function of that name, for a folder.
func (f Folder) Open() (*Ring, error) {
	r := &Ring{folder: f}
	if err := f.prepare(); err != nil {
		return nil, err
	}
	return r, r.Reload()
}

// Reload reads the folder again. After an error the keys in force are the old ones.
func (r *Ring) Reload() error {
	use, err := r.Read()
	if err != nil {
		return err
	}
	use()
	return nil
}

// Read reads the folder again, and puts nothing in force: that is for use.
func (r *Ring) Read() (use func(), err error) {
	all, err := r.folder.read()
	if err != nil {
		return nil, err
	}
	next := new(force)
	for _, k := range all {
		switch {
		case k.Kind == Host && k.Stage == Current:
			next.host = append(next.host, k.signer)
		case k.Kind == UserCA && k.Stage == Current:
			next.userCA = k.signer
		case k.Kind == HostCA && k.Stage == Current:
			next.hostCA = k.signer
		}
	}
	seen := map[string]bool{} // a step that was cut short leaves a key under two names
	for _, k := range all {
		if k.Kind == Host && !seen[k.Fingerprint] {
			next.announced = append(next.announced, k.signer)
			seen[k.Fingerprint] = true
		}
	}
	if len(next.host) == 0 || next.userCA == nil || next.hostCA == nil {
		return nil, fmt.Errorf("read the gateway's keys in %s: %w", r.folder.Dir, errIncomplete)
	}
	for _, k := range all {
		next.all = append(next.all, *k)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now.Store(next)
		r.hosts = nil
	}, nil
}

var errIncomplete = errors.New("a host key or a CA's key is missing, though there are others")

// Check says why a gateway that starts now would not take the folder; one that is not
// there, and keys that are missing altogether, it would make. It makes none.
func (f Folder) Check() error {
	all, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, kind := range []Kind{UserCA, HostCA} {
		var some, current bool
		for _, k := range all {
			some, current = some || k.Kind == kind, current || k.Kind == kind && k.Stage == Current
		}
		if some && !current {
			return fmt.Errorf("read the gateway's keys in %s: %w", f.Dir, errIncomplete)
		}
	}
	return nil
}

// List is the keys in force, as [Folder.List] has them.
func (r *Ring) List() []Key { return r.now.Load().all }

// HostSigners are the host keys that a handshake offers, one of a type.
func (r *Ring) HostSigners() []ssh.Signer { return r.now.Load().host }

// Announced are all host keys that clients may learn (hostkeys-00@openssh.com in
// OpenSSH's PROTOCOL): those of the handshake, the coming ones, and those that are
// retired but not gone, for clients drop what is not announced.
func (r *Ring) Announced() []ssh.Signer { return r.now.Load().announced }
