// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Book is files of targets and the inventory in force. It is safe for concurrent use.
type Book struct {
	files []string
	trust func(path string) error
	known *Names

	current atomic.Pointer[Inventory]

	mu     sync.Mutex
	loaded []stamp // of what is in force, or was found to be broken
	seen   []stamp // at the last look
}

// stamp says which state of a file it is.
type stamp struct {
	path          string
	device, inode uint64
	size          int64
	mtime, ctime  time.Time
}

// Open reads files, which may be patterns such as /etc/sallyport/targets.d/*.toml. trust is
// asked about each of them before it is read.
func Open(files []string, trust func(path string) error, known *Names) (*Book, error) {
	b := &Book{files: files, trust: trust, known: known}
	stamps, err := b.look()
	if err != nil {
		return nil, err
	}
	inv, err := b.read(stamps)
	if err != nil {
		return nil, err
	}
	b.current.Store(inv)
	b.loaded, b.seen = stamps, stamps
	return b, nil
}

// Inventory is what is in force.
func (b *Book) Inventory() *Inventory { return b.current.Load() }

// look says which files there are, and in which state.
func (b *Book) look() ([]stamp, error) {
	var out []stamp
	for _, f := range b.files {
		paths := []string{f}
		if strings.ContainsAny(f, "*?[") {
			var err error
			if paths, err = filepath.Glob(f); err != nil {
				return nil, fmt.Errorf("targets.files: %q: %w", f, err)
			}
		}
		for _, p := range paths {
			info, err := os.Stat(p)
			if err != nil {
				return nil, fmt.Errorf("read targets: %w", err)
			}
			s := stamp{path: p, size: info.Size(), mtime: info.ModTime()}
			if sys, ok := info.Sys().(*syscall.Stat_t); ok {
				s.device, s.inode, s.ctime = sys.Dev, sys.Ino, time.Unix(sys.Ctim.Unix())
			}
			if !slices.ContainsFunc(out, func(o stamp) bool { return o.path == p }) {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func (b *Book) read(stamps []stamp) (*Inventory, error) {
	builder := newBuilder(b.known)
	for _, s := range stamps {
		if err := b.trust(s.path); err != nil {
			builder.errs = append(builder.errs, err)
			continue
		}
		text, err := readFile(s.path)
		if err != nil {
			builder.errs = append(builder.errs, err)
			continue
		}
		builder.add(s.path, text)
	}
	return builder.inventory()
}

// Refresh reads the files again if they have changed since the last look but one: a file that
// is being written is left until it is still. changed says that another inventory is in force.
// An error, told once for each state of the files, leaves the one in force.
func (b *Book) Refresh() (changed bool, err error) { return b.refresh(func(*Inventory) {}) }

// refresh is Refresh, which prepares another inventory before it is in force.
func (b *Book) refresh(prepare func(*Inventory)) (changed bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, err := b.look()
	if err != nil {
		if b.loaded == nil && b.seen == nil {
			return false, nil // told already
		}
		b.loaded, b.seen = nil, nil
		return false, err
	}
	still := b.seen != nil && slices.Equal(now, b.seen)
	b.seen = now
	if !still || slices.Equal(now, b.loaded) {
		return false, nil
	}
	inv, err := b.read(now)
	b.loaded = now
	if err != nil {
		return false, err
	}
	inv.Inherit(b.current.Load())
	prepare(inv)
	b.current.Store(inv)
	return true, nil
}

// Times of Watch.
const (
	pollEvery    = time.Second
	resolveEvery = time.Minute
	resolveWait  = 5 * time.Second
	prepareWait  = 10 * time.Second // for all names of a new inventory
	resolvers    = 16
)

// Watch refreshes the inventory until ctx ends, and looks up the addresses of its hosts, so
// that At knows a target by its address. lookup may be nil.
func (b *Book) Watch(ctx context.Context, log *slog.Logger, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var resolved time.Time
	for {
		if lookup != nil && time.Since(resolved) >= resolveEvery {
			b.Inventory().Resolve(ctx, lookup)
			resolved = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		changed, err := b.refresh(func(inv *Inventory) {
			if lookup == nil {
				return
			}
			in, cancel := context.WithTimeoutCause(ctx, prepareWait, errors.New("the name service did not answer"))
			defer cancel()
			inv.Resolve(in, lookup)
		})
		switch {
		case err != nil:
			log.LogAttrs(ctx, slog.LevelError, "the targets are not in order, those in force stay", slog.String("setting", "targets.files"), slog.Any("error", err))
		case changed:
			inv := b.Inventory()
			log.LogAttrs(ctx, slog.LevelInfo, "targets read", slog.Int("targets", len(inv.targets)), slog.Int("patterns", len(inv.patterns)))
			resolved = time.Time{}
		}
	}
}

// Resolve looks up the addresses of hosts that are names. What is not answered keeps the
// addresses that it had.
func (inv *Inventory) Resolve(ctx context.Context, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) {
	before := map[*Target][]netip.AddrPort{}
	if old := inv.resolved.Load(); old != nil {
		for at, t := range old.sshd {
			before[t] = append(before[t], at)
		}
	}
	found := make([][]netip.AddrPort, len(inv.targets))
	var group errgroup.Group
	group.SetLimit(resolvers)
	for i, t := range inv.targets {
		if _, err := netip.ParseAddr(t.Host); err == nil {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, resolveWait, errors.New("the name service did not answer"))
			defer cancel()
			addrs, err := lookup(ctx, t.Host)
			if err != nil {
				found[i] = before[t]
				return nil
			}
			for _, a := range addrs {
				found[i] = append(found[i], netip.AddrPortFrom(a.Unmap().WithZone(""), t.Port))
			}
			return nil
		})
	}
	_ = group.Wait() // nobody returns an error
	inv.resolved.Store(inv.addresses(found))
}

// Inherit takes over what the hosts of another inventory resolved to: a file that changes
// must not make what it names unknown.
func (inv *Inventory) Inherit(from *Inventory) {
	if from == nil {
		return
	}
	old := from.resolved.Load()
	if old == nil {
		return
	}
	known := map[hostPort][]netip.AddrPort{}
	for at, t := range old.sshd {
		known[hostPort{t.Host, t.Port}] = append(known[hostPort{t.Host, t.Port}], at)
	}
	found := make([][]netip.AddrPort, len(inv.targets))
	for i, t := range inv.targets {
		found[i] = known[hostPort{t.Host, t.Port}]
	}
	inv.resolved.Store(inv.addresses(found))
}

// addresses is what was found of each target.
func (inv *Inventory) addresses(found [][]netip.AddrPort) *addresses {
	next := &addresses{sshd: map[netip.AddrPort]*Target{}, hosts: map[netip.Addr]*Target{}}
	for i, list := range found {
		if _, err := netip.ParseAddr(inv.targets[i].Host); err != nil && len(list) == 0 {
			next.unknown = append(next.unknown, inv.targets[i])
		}
		for _, at := range list {
			if _, taken := next.sshd[at]; !taken {
				next.sshd[at] = inv.targets[i]
			}
			if _, taken := next.hosts[at.Addr()]; !taken {
				next.hosts[at.Addr()] = inv.targets[i]
			}
		}
	}
	return next
}

// Unresolved are the targets with this port whose addresses are not known: any address may
// be theirs.
func (inv *Inventory) Unresolved(port uint16) []*Target {
	unknown := inv.targets
	if resolved := inv.resolved.Load(); resolved != nil {
		unknown = resolved.unknown
	}
	var out []*Target
	for _, t := range unknown {
		if _, err := netip.ParseAddr(t.Host); err != nil && t.Port == port {
			out = append(out, t)
		}
	}
	return out
}

// Listening says whether the sshd of a target that is written out, or of one that a pattern
// makes, listens at this port.
func (inv *Inventory) Listening(port uint16) (written, patterned bool) {
	return slices.ContainsFunc(inv.targets, func(t *Target) bool { return t.Port == port }),
		slices.ContainsFunc(inv.patterns, func(p *pattern) bool { return p.port == port })
}
