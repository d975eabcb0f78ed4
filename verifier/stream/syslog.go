// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
)

const (
	// syslogBatch is how many messages are sent before the connection must settle.
	syslogBatch = 500
	// settle is how long a connection must stand after the receiver's kernel has
	// acknowledged all: a receiver that went away at that moment shows within it.
	settle = 500 * time.Millisecond
	// queuePause is how often the send queue is looked at.
	queuePause = 2 * time.Millisecond
	// authpriv is the facility for security messages that not everybody may read.
	authpriv = 10
	// element is the structured data's id. 32473 is the number that RFC 5612
	// reserves for use without one of one's own.
	element = "sallyport@32473"
	appName = "sallyport-verifier"
)

// maxDatagram is the longest message that goes out by UDP, in bytes: below what a
// datagram can hold (RFC 768). The content of a longer one is left out.
const maxDatagram = 60_000

// syslog sends messages of RFC 5424: by UDP one in a datagram (RFC 5426), by TCP
// and TLS with their length before them (RFC 6587, RFC 5425).
type syslog struct {
	network  string // udp, tcp
	address  string
	tls      *tls.Config // nil: none
	hostname string
	timeout  time.Duration
	settle   time.Duration

	conn   net.Conn
	raw    syscall.Conn // nil: no send queue to look at
	broken chan error   // the connection has ended
}

func (s *syslog) limit() int { return syslogBatch }

func (s *syslog) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// send implements sender.
func (s *syslog) send(ctx context.Context, batch []Message) (err error) {
	defer func() {
		if err != nil {
			s.close() // what is half sent would garble what follows
		}
	}()
	// What cannot be encoded must not cost a connection each time.
	frames := make([]string, len(batch))
	for i, m := range batch {
		if frames[i], err = encode(m, s.hostname); err != nil {
			return err
		}
		if s.network != "udp" || len(frames[i]) <= maxDatagram {
			continue
		}
		// It would never go out, and everything behind it would wait for ever.
		m.Body = []byte(`{"truncated":true}`)
		if frames[i], err = encode(m, s.hostname); err != nil {
			return err
		}
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if s.network == "udp" {
		for _, f := range frames {
			if _, err := io.WriteString(s.conn, f); err != nil {
				return err
			}
		}
		return nil
	}
	var stream strings.Builder
	for _, f := range frames {
		stream.WriteString(strconv.Itoa(len(f)))
		stream.WriteByte(' ')
		stream.WriteString(f)
	}
	if _, err := io.WriteString(s.conn, stream.String()); err != nil {
		return err
	}
	return s.acknowledged(ctx)
}

func (s *syslog) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, s.network, s.address)
	if err != nil {
		return err
	}
	s.raw, _ = conn.(syscall.Conn)
	if s.tls != nil {
		secured := tls.Client(conn, s.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return errors.Join(err, conn.Close())
		}
		conn = secured
	}
	s.conn, s.broken = conn, make(chan error, 1)
	if s.network == "tcp" {
		go watch(conn, s.broken)
	}
	return nil
}

// watch reads until the connection ends: a receiver has nothing to say.
func watch(conn net.Conn, broken chan<- error) {
	_, err := io.Copy(io.Discard, conn)
	if err == nil {
		err = errors.New("the receiver has closed the connection")
	}
	broken <- err
}

// acknowledged waits until the receiver's kernel has everything and the
// connection has stood for a while after that.
func (s *syslog) acknowledged(ctx context.Context) error {
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	for {
		left, err := s.queued()
		if err != nil {
			return err
		}
		wait := queuePause
		if left == 0 {
			wait = s.settle
		}
		select {
		case err := <-s.broken:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			if left > 0 {
				return fmt.Errorf("the receiver takes nothing: %d bytes are not acknowledged after %s", left, s.timeout)
			}
			return nil
		case <-time.After(wait):
			if left == 0 {
				return nil
			}
		}
	}
}

// queued is how many bytes the receiver's kernel has not acknowledged.
func (s *syslog) queued() (n int, err error) {
	if s.raw == nil {
		return 0, nil
	}
	control, err := s.raw.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	err = control.Control(func(fd uintptr) { n, inner = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	return n, errors.Join(err, inner)
}

// encode makes a message of RFC 5424.
func encode(m Message, hostname string) (string, error) {
	parameters := map[string]string{}
	for name, value := range m.fields {
		if value != "" {
			parameters[name] = audit.Printable(value)
		}
	}
	data := map[string]map[string]string{element: parameters}
	out := &rfc5424.SyslogMessage{StructuredData: &data, Version: 1}
	out.ComputeFromPriority(authpriv<<3 | uint8(m.grave))
	at, app, text := m.Time.UTC(), appName, string(m.Body)
	out.Timestamp, out.Appname, out.MsgID, out.Message = &at, &app, &m.Log, &text
	if hostname != "" {
		out.Hostname = &hostname
	}
	s, err := out.String()
	if err != nil {
		return "", fmt.Errorf("encode event %s for syslog: %w", m.ID, err)
	}
	return s, nil
}
