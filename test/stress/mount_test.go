// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// aloneIn is set, to the name of the test, in the process that alone starts.
const aloneIn = "SALLYPORT_STRESS_ALONE"

// alone runs the test once more in a process with mounts of its own, in which it
// is root, and reports its failure. True: this is that process. Its mounts end with it.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneIn) == t.Name() {
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("keep mounts to this process: %v", err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), aloneIn+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a process with mounts of its own: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// smallDisk mounts a file system with little room at dir. fill leaves none; empty
// takes back what fill did.
func smallDisk(t *testing.T, dir string) (fill, empty func()) {
	t.Helper()
	mount(t, dir, func() error { return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=0700") })
	filler := filepath.Join(dir, "filler")
	return func() {
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for n := 0; err == nil; n++ {
				_, err = f.Write(make([]byte, 4096))
			}
			t.Logf("the disk is full: %v", err)
		}, func() {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		}
}

func mount(t *testing.T, dir string, f func() error) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f(); err != nil {
		t.Fatalf("mount (this test needs root or user namespaces, and /dev/fuse): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// disk is a file system that passes everything on to a folder until it is told to
// fail. Reading always works, as it does on a disk that the kernel has made
// read-only after an error.
type disk struct {
	writes atomic.Int32 // errno of every write; 0: they work
	syncs  atomic.Int32 // errno of every sync
}

// faultyDisk mounts one at dir.
func faultyDisk(t *testing.T, dir string) *disk {
	t.Helper()
	d, behind := &disk{}, t.TempDir()
	root := &fs.LoopbackRoot{Path: behind}
	first := &node{LoopbackNode: fs.LoopbackNode{RootData: root}, disk: d}
	root.RootNode = first
	mount(t, dir, func() error {
		server, err := fs.Mount(dir, first, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "faulty"}})
		if err == nil {
			t.Cleanup(func() { server.Wait() })
		}
		return err
	})
	return d
}

func fault(e *atomic.Int32) syscall.Errno { return syscall.Errno(e.Load()) }

// node is a file or folder of a disk.
type node struct {
	fs.LoopbackNode
	disk *disk
}

// handle is an open file of a disk.
type handle struct {
	*fs.LoopbackFile
	disk *disk
}

// WrapChild implements fs.NodeWrapChilder.
func (n *node) WrapChild(context.Context, fs.InodeEmbedder) fs.InodeEmbedder {
	return &node{LoopbackNode: fs.LoopbackNode{RootData: n.RootData}, disk: n.disk}
}

func (n *node) open(h fs.FileHandle) fs.FileHandle {
	if f, ok := h.(*fs.LoopbackFile); ok {
		return &handle{f, n.disk}
	}
	return h
}

// Open implements fs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, f, err := n.LoopbackNode.Open(ctx, flags)
	return n.open(h), f, err
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if err := fault(&n.disk.writes); err != 0 {
		return nil, nil, 0, err
	}
	inode, h, f, err := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.open(h), f, err
}

// Setattr implements fs.NodeSetattrer: SQLite cuts files.
func (n *node) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if err := fault(&n.disk.writes); err != 0 {
		return err
	}
	return n.LoopbackNode.Setattr(ctx, h, in, out)
}

// PassthroughFd implements fs.FilePassthroughFder: the kernel must ask for each write.
func (h *handle) PassthroughFd() (int, bool) { return 0, false }

// Write implements fs.FileWriter.
func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if err := fault(&h.disk.writes); err != 0 {
		return 0, err
	}
	return h.LoopbackFile.Write(ctx, data, off)
}

// Allocate implements fs.FileAllocater.
func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if err := fault(&h.disk.writes); err != 0 {
		return err
	}
	return h.LoopbackFile.Allocate(ctx, off, size, mode)
}

// Fsync implements fs.FileFsyncer.
func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if err := fault(&h.disk.syncs); err != 0 {
		return err
	}
	return h.LoopbackFile.Fsync(ctx, flags)
}
