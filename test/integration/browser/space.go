// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A browser that is told of a change of the machine's networks ends what is under
// way, with ERR_NETWORK_CHANGED. Containers that other tests start are such changes.
// So, where the tests may (as root), each browser has a network namespace that holds
// nothing but the loopback interface with its proxy.

// space is a network namespace, kept by an open file. The zero value is the machine's.
type space struct {
	file *os.File
}

// newSpace makes a namespace with a loopback interface, and listens there.
func newSpace() (s space, listener net.Listener, err error) {
	if _, missing := exec.LookPath("nsenter"); os.Geteuid() != 0 || missing != nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return space{}, listener, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is not unlocked, so that it ends with the goroutine and nothing else
		// runs in the namespace.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("make a network namespace: %w", err)
			return
		}
		if err = loopbackUp(); err != nil {
			return
		}
		if s.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())); err != nil {
			return
		}
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}()
	<-done
	return s, listener, err
}

// loopbackUp switches the loopback interface of the thread's namespace on
// (netdevice(7)).
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return nil
}

// enter has a command run in the namespace, and end with the tests.
func (s space) enter(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.file == nil {
		return
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return
	}
	cmd.Args = append([]string{nsenter, fmt.Sprintf("--net=/proc/%d/fd/%d", os.Getpid(), s.file.Fd()), "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = nsenter
}

func (s space) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}
