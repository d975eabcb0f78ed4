// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"
)

// Dial opens a TCP connection that leaves from the container, so that the other
// end sees its address. Deadlines are not supported.
func (c *Container) Dial(host, port string) (net.Conn, error) {
	cmd := exec.Command("docker", c.execArgs(Command{Args: []string{"nc", host, port}}, "--interactive")...)
	w, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", host, c.Name, err)
	}
	r, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", host, c.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", host, c.Name, err)
	}
	return &execConn{Reader: r, WriteCloser: w, cmd: cmd, name: net.JoinHostPort(host, port)}, nil
}

type execConn struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	name string
}

func (c *execConn) Close() error {
	_ = c.WriteCloser.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	return nil
}

func (c *execConn) LocalAddr() net.Addr              { return execAddr("container") }
func (c *execConn) RemoteAddr() net.Addr             { return execAddr(c.name) }
func (c *execConn) SetDeadline(time.Time) error      { return nil }
func (c *execConn) SetReadDeadline(time.Time) error  { return nil }
func (c *execConn) SetWriteDeadline(time.Time) error { return nil }

type execAddr string

func (execAddr) Network() string  { return "exec" }
func (a execAddr) String() string { return string(a) }
