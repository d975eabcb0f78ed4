// SPDX-License-Identifier: Apache-2.0

// Package gcm stands, for tests, in the place of the servers through which
// Chromium gets its push messages: check-in, registration, and the stream of
// messages (Mobile Connection Server). What Chromium's own code does with a push
// message, from the encrypted bytes to the event in a service worker, is then
// under test. It speaks what of these protocols Chromium needs, and checks nothing.
//
// Chromium finds it by its switches; see [Switches]. [Serve] runs all of it, with
// the push service behind it.
package gcm

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sallyport-mfa/sallyport/test/pushservice"
)

// Senders are the hosts of the endpoints that Chromium makes of the tokens that
// it is given: of a release, and of a build without a channel.
func Senders() []string { return []string{"fcm.googleapis.com", "jmt17.google.com"} }

// Origins are those of the push service that Senders stand for.
func Origins() []string {
	return []string{"https://fcm.googleapis.com", "https://jmt17.google.com"}
}

// SendPath is the path of endpoints, before the token.
const SendPath = "/fcm/send/"

// mcsVersion is the version of the stream, the first byte from either side.
const mcsVersion = 41

// Tags of frames of the stream.
const (
	tagHeartbeatPing = 0
	tagHeartbeatAck  = 1
	tagLoginRequest  = 2
	tagLoginResponse = 3
	tagClose         = 4
	tagDataMessage   = 8
)

// maxFrame bounds a frame from a browser.
const maxFrame = 1 << 20

// Server is check-in, registration and stream. It is safe for concurrent use.
type Server struct {
	push *pushservice.Service

	mu      sync.Mutex
	streams map[*stream]bool
	waiting []message // no stream was there
	sent    int
	log     func(format string, args ...any)
}

// message is one on its way to a browser.
type message struct {
	category, subtype, from string
	body                    []byte
}

type stream struct {
	mu   sync.Mutex
	conn net.Conn
}

// New makes a Server whose registrations become resources of push, which must
// serve [Origins]. log, if it is not nil, is told what comes.
func New(push *pushservice.Service, log func(format string, args ...any)) *Server {
	if log == nil {
		log = func(string, ...any) {}
	}
	return &Server{push: push, streams: map[*stream]bool{}, log: log}
}

// ServeHTTP serves check-in and registration.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.log("gcm: %s %s", r.Method, r.URL.Path)
	switch r.URL.Path {
	case "/checkin":
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxFrame)) // what it says of itself does not matter
		var out []byte
		out = protowire.AppendTag(out, 1, protowire.VarintType) // stats_ok
		out = protowire.AppendVarint(out, 1)
		out = protowire.AppendTag(out, 7, protowire.Fixed64Type) // android_id
		out = protowire.AppendFixed64(out, 4711)
		out = protowire.AppendTag(out, 8, protowire.Fixed64Type) // security_token
		out = protowire.AppendFixed64(out, 4712)
		_, _ = w.Write(out)
	case "/register3":
		s.register(w, r)
	default:
		http.NotFound(w, r)
	}
}

// register makes a push resource, or ends one.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.log("gcm: register %v", r.PostForm)
	if r.PostForm.Get("delete") != "" {
		fmt.Fprintf(w, "token=%s", r.PostForm.Get("app"))
		return
	}
	m := message{category: r.PostForm.Get("app"), subtype: r.PostForm.Get("X-subtype"), from: r.PostForm.Get("sender")}
	path := SendPath + strings.TrimPrefix(pushservice.Path(), "/push/")
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(m.from, "="))
	if err != nil || len(key) != 65 {
		// Chromium's own services register too, by a number: nobody sends to them here.
		fmt.Fprintf(w, "token=%s", strings.TrimPrefix(path, SendPath))
		return
	}
	s.push.Add(path, key, func(got pushservice.Message) {
		m := m
		m.body = got.Body
		s.deliver(m)
	})
	fmt.Fprintf(w, "token=%s", strings.TrimPrefix(path, SendPath))
}

// deliver sends to each browser that is connected, or keeps for the next one.
func (s *Server) deliver(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := false
	for st := range s.streams {
		if err := st.send(tagDataMessage, s.data(m)); err != nil {
			s.log("gcm: send: %v", err)
			continue
		}
		sent = true
	}
	if !sent {
		s.waiting = append(s.waiting, m)
	}
}

// data is a DataMessageStanza.
func (s *Server) data(m message) []byte {
	s.sent++
	var out []byte
	text := func(n protowire.Number, v string) {
		out = protowire.AppendTag(out, n, protowire.BytesType)
		out = protowire.AppendString(out, v)
	}
	app := func(key, value string) {
		var pair []byte
		pair = protowire.AppendTag(pair, 1, protowire.BytesType)
		pair = protowire.AppendString(pair, key)
		pair = protowire.AppendTag(pair, 2, protowire.BytesType)
		pair = protowire.AppendString(pair, value)
		out = protowire.AppendTag(out, 7, protowire.BytesType)
		out = protowire.AppendBytes(out, pair)
	}
	text(3, m.from)
	text(5, m.category)
	if m.subtype != "" {
		app("subtype", m.subtype)
	}
	app("content-encoding", "aes128gcm")
	text(9, fmt.Sprintf("0:%d", s.sent)) // persistent_id
	out = protowire.AppendTag(out, 21, protowire.BytesType)
	return protowire.AppendBytes(out, m.body) // raw_data
}

func (st *stream) send(tag byte, frame []byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	_, err := st.conn.Write(append(binary.AppendUvarint([]byte{tag}, uint64(len(frame))), frame...))
	return err
}

// ServeStream takes the connections of browsers (TLS) until l is closed.
func (s *Server) ServeStream(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			err := s.follow(conn)
			s.log("gcm: stream: %v", err)
		}()
	}
}

// follow speaks with one browser until it leaves.
func (s *Server) follow(conn net.Conn) error {
	st := &stream{conn: conn}
	in := bufio.NewReader(conn)
	version, err := in.ReadByte()
	if err != nil {
		return fmt.Errorf("version: %w", err)
	}
	s.log("gcm: stream of version %d", version)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.streams, st)
	}()
	for {
		tag, err := in.ReadByte()
		if err != nil {
			return err
		}
		size, err := binary.ReadUvarint(in)
		if err != nil || size > maxFrame {
			return fmt.Errorf("frame of %d bytes: %w", size, err)
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		s.log("gcm: frame %d of %d bytes", tag, size)
		switch tag {
		case tagLoginRequest:
			err = s.login(st)
		case tagHeartbeatPing:
			err = st.send(tagHeartbeatAck, nil)
		case tagClose:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// login lets every browser in, and gives it what waited.
func (s *Server) login(st *stream) error {
	if _, err := st.conn.Write([]byte{mcsVersion}); err != nil {
		return err
	}
	var out []byte
	out = protowire.AppendTag(out, 1, protowire.BytesType) // id
	out = protowire.AppendString(out, "1")
	if err := st.send(tagLoginResponse, out); err != nil {
		return err
	}
	s.mu.Lock()
	s.streams[st] = true
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, m := range waiting {
		s.deliver(m)
	}
	return nil
}
