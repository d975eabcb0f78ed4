// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// raw is the server's end of an SSH connection that says whatever it is told to:
// curve25519, ed25519, aes128-gcm and nothing else, RFC 4253 and 8731.
type raw struct {
	net.Conn
	t       testing.TB
	in      *bufio.Reader
	host    ssh.Signer
	session []byte
	read    *direction
	write   *direction
}

// direction is one of the two, once keys are in force.
type direction struct {
	aead cipher.AEAD
	iv   [12]byte
}

func (d *direction) nonce() []byte {
	out := append([]byte(nil), d.iv[:]...)
	binary.BigEndian.PutUint64(d.iv[4:], binary.BigEndian.Uint64(d.iv[4:])+1)
	return out
}

// packet makes a packet of a payload, encrypted once keys are in force.
func (r *raw) packet(payload []byte) []byte {
	block, head := 8, 5
	if r.write != nil {
		block, head = 16, 1 // the length is not encrypted, and not counted
	}
	pad := block - (head+len(payload))%block
	if pad < 4 {
		pad += block
	}
	body := append([]byte{byte(pad)}, payload...)
	body = append(body, make([]byte, pad)...)
	length := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if r.write == nil {
		return append(length, body...)
	}
	return r.write.aead.Seal(length, r.write.nonce(), body, length)
}

func (r *raw) send(payload []byte) error {
	_, err := r.Write(r.packet(payload))
	return err
}

func (r *raw) receive() ([]byte, error) {
	for {
		length := make([]byte, 4)
		if _, err := io.ReadFull(r.in, length); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint32(length))
		if n > 1<<20 {
			return nil, fmt.Errorf("a packet of %d bytes", n)
		}
		if r.read != nil {
			n += 16
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r.in, body); err != nil {
			return nil, err
		}
		if r.read != nil {
			var err error
			if body, err = r.read.aead.Open(body[:0], r.read.nonce(), body, length); err != nil {
				return nil, err
			}
		}
		if len(body) < 2 || int(body[0])+1 > len(body) {
			return nil, errors.New("a packet without a payload")
		}
		if payload := body[1 : len(body)-int(body[0])]; payload[0] != 2 && payload[0] != 4 { // ignore, debug
			return payload, nil
		}
	}
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func fields(list ...string) (out []byte) {
	for _, s := range list {
		out = append(out, str(s)...)
	}
	return out
}

func mpint(b []byte) []byte {
	b = new(big.Int).SetBytes(b).Bytes()
	if len(b) > 0 && b[0]&0x80 != 0 {
		b = append([]byte{0}, b...)
	}
	return str(string(b))
}

const rawVersion = "SSH-2.0-raw"

func kexInit() []byte {
	out := append([]byte{20}, make([]byte, 16)...)
	const gcm, mac = "aes128-gcm@openssh.com", "hmac-sha2-256"
	out = append(out, fields("curve25519-sha256", "ssh-ed25519", gcm, gcm, mac, mac, "none", "none", "", "")...)
	return append(out, 0, 0, 0, 0, 0)
}

// shake exchanges versions and keys.
func (r *raw) shake() error {
	if _, err := io.WriteString(r, rawVersion+"\r\n"); err != nil {
		return err
	}
	version, err := r.in.ReadString('\n')
	if err != nil {
		return err
	}
	mine := kexInit()
	if err := r.send(mine); err != nil {
		return err
	}
	theirs, err := r.receive()
	if err != nil {
		return err
	}
	// The client may have guessed another exchange; what counts comes after.
	first, err := r.receive()
	for err == nil && (first[0] != 30 || len(first) != 37) {
		first, err = r.receive()
	}
	if err != nil {
		return err
	}
	peer, err := ecdh.X25519().NewPublicKey(first[5:])
	if err != nil {
		return err
	}
	own, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	secret, err := own.ECDH(peer)
	if err != nil {
		return err
	}
	hostKey := string(r.host.PublicKey().Marshal())
	hash := sha256.New()
	hash.Write(fields(version[:len(version)-2], rawVersion, string(theirs), string(mine), hostKey, string(peer.Bytes()), string(own.PublicKey().Bytes())))
	hash.Write(mpint(secret))
	h := hash.Sum(nil)
	r.session = h
	sig, err := r.host.Sign(rand.Reader, h)
	if err != nil {
		return err
	}
	reply := append([]byte{31}, fields(hostKey, string(own.PublicKey().Bytes()), string(ssh.Marshal(sig)))...)
	if err := errors.Join(r.send(reply), r.send([]byte{21})); err != nil {
		return err
	}
	derive := func(letter byte) []byte {
		d := sha256.New()
		d.Write(mpint(secret))
		d.Write(h)
		d.Write([]byte{letter})
		d.Write(r.session)
		return d.Sum(nil)
	}
	r.write = newDirection(derive('B'), derive('D'))
	if p, err := r.receive(); err != nil || p[0] != 21 {
		return fmt.Errorf("no new keys: %w", err)
	}
	r.read = newDirection(derive('A'), derive('C'))
	return nil
}

func newDirection(iv, key []byte) *direction {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	d := &direction{aead: aead}
	copy(d.iv[:], iv)
	return d
}

// letIn lets the client in, whoever it is.
func (r *raw) letIn() error {
	if _, err := r.receive(); err != nil { // service request
		return err
	}
	if err := r.send(append([]byte{6}, str("ssh-userauth")...)); err != nil {
		return err
	}
	if _, err := r.receive(); err != nil { // none
		return err
	}
	return r.send([]byte{52})
}

// rawTarget is a target that leads the handshake and then does as it is told.
func (g *gateway) rawTarget(act func(*raw) error) Request {
	host := newKey(g.t)
	target := listen(g.t, func(c net.Conn) {
		r := &raw{Conn: c, t: g.t, in: bufio.NewReader(c), host: host}
		if err := r.shake(); err != nil {
			g.t.Logf("the hostile target's own handshake: %v", err)
			return
		}
		// How it ends is for the gateway's end to say.
		_ = act(r)
	})
	g.hosts(knows(target, host.PublicKey()))
	return Request{Target: target}
}
