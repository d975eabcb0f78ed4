// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"runtime/debug"
	"testing"

	"golang.org/x/crypto/ssh"
)

// pair is two ends of a TCP connection; the first is counted and wrapped.
func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return Wrap(a), b
}

func TestEveryByteArrivesInOrderWhateverTheWritesAre(t *testing.T) {
	a, b := pair(t)
	sizes := []int{1, pieceSize, 1, pieceSize, pieceSize, pieceSize - 1, pieceSize, 28 << 10, pieceSize + 1, pieceSize, pieceSize, pieceSize}
	var want bytes.Buffer
	go func() {
		defer func() { _ = b.Close() }()
		_, _ = io.Copy(b, b)
	}()
	for i, size := range sizes {
		p := bytes.Repeat([]byte{byte('a' + i)}, size)
		want.Write(p)
		n, err := a.Write(p)
		if n != size || err != nil {
			t.Fatalf("write %d of %d bytes: %d, %v", i, size, n, err)
		}
		clear(p) // the writer may use it again
	}
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(a, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("the bytes differ")
	}
}

func TestAPieceWithoutRestGoesOutByItself(t *testing.T) {
	a, b := pair(t)
	if _, err := a.Write(bytes.Repeat([]byte{'x'}, pieceSize)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, pieceSize)); err != nil {
		t.Fatal(err)
	}
}

func TestTheErrorOfALatePieceIsToldToTheNextWrite(t *testing.T) {
	a, _ := pair(t)
	_ = a.Close()
	c := a.(*conn)
	if _, err := c.Write(make([]byte, pieceSize)); err != nil {
		t.Fatal(err)
	}
	c.late()
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want that it is closed", err)
	}
}

func TestALargePacketCostsNoAllocation(t *testing.T) {
	a, b := pair(t)
	go func() { _, _ = io.Copy(io.Discard, b) }()
	first, rest := make([]byte, pieceSize), make([]byte, 28<<10)
	write := func() {
		_, err := a.Write(first)
		_, err2 := a.Write(rest)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
	}
	write()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the pool keeps what it has
	if n := testing.AllocsPerRun(200, write); n > 1 {
		t.Errorf("%v allocations for a packet", n)
	}
}

func TestWhatIsNoTCPConnectionStaysAsItIs(t *testing.T) {
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if Wrap(a) != a {
		t.Error("a pipe was wrapped")
	}
}

// TestSSHOverWrappedEnds carries packets of every size around the buffer's, both ways, with each cipher.
func TestSSHOverWrappedEnds(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, cipher := range Algorithms().Ciphers {
		t.Run(cipher, func(t *testing.T) {
			a, b := pair(t)
			algorithms := Algorithms()
			algorithms.Ciphers = []string{cipher}
			server := &ssh.ServerConfig{Config: algorithms, NoClientAuth: true}
			server.AddHostKey(signer)
			go echoChannels(Wrap(b), server)
			c, chans, reqs, err := ssh.NewClientConn(a, "x", &ssh.ClientConfig{
				Config: algorithms, User: "x", HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			client := ssh.NewClient(c, chans, reqs)
			ch, _, err := client.OpenChannel("echo", nil)
			if err != nil {
				t.Fatal(err)
			}
			for size := pieceSize - 80; size < pieceSize+16; size++ {
				p := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := ch.Write(p); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size)
				if _, err := io.ReadFull(ch, got); err != nil || !bytes.Equal(got, p) {
					t.Fatalf("%d bytes came back wrong: %v", size, err)
				}
			}
		})
	}
}

func echoChannels(c net.Conn, config *ssh.ServerConfig) {
	_, chans, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		go func() { _, _ = io.Copy(ch, ch) }()
	}
}

func TestABufferGrowsWithWhatComesAndIsSmallWhileNothingDoes(t *testing.T) {
	var b Buffer
	defer b.Release()
	for i, step := range []struct{ read, want int }{
		{0, sizeIdle},
		{sizeIdle, sizeBusy}, {sizeKeep, sizeBusy}, {1, sizeIdle}, // a screenful, a keystroke
		{sizeIdle, sizeBusy}, {sizeBusy, sizeBulk}, {sizeBulk, sizeBulk}, {sizeBusy, sizeBulk}, {1, sizeIdle},
	} {
		if got := len(b.Next(step.read)); got != step.want {
			t.Errorf("step %d, after a read of %d: %d, want %d", i, step.read, got, step.want)
		}
	}
	if b.busy != nil || b.bulk != nil {
		t.Error("a stream that waits keeps what is lent")
	}
}
