// SPDX-License-Identifier: Apache-2.0

package server_test

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
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// raw is an SSH client that sends what no library would send: it exchanges keys by
// curve25519 and aes128-gcm, and leaves every packet after that to the test.
type raw struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	session []byte
	lastKey []byte

	seal, open     cipher.AEAD
	sealIV, openIV []byte
}

// Messages by number.
const (
	msgDisconnect     = 1
	msgServiceRequest = 5
	msgServiceAccept  = 6
	msgKexInit        = 20
	msgNewKeys        = 21
	msgKexECDHInit    = 30
	msgUserAuth       = 50
	msgFailure        = 51
	msgSuccess        = 52
	msgBanner         = 53
	msgPubKeyOK       = 60
	msgGlobalRequest  = 80
	msgRequestSuccess = 81
	msgRequestFailure = 82
	msgChannelOpen    = 90
	msgChannelOpenOK  = 91
	msgChannelOpenNo  = 92
	msgChannelClose   = 97
	msgChannelSuccess = 99
)

func dialRaw(t testing.TB, address string) *raw {
	t.Helper()
	w := &raw{t: t, conn: mustDial(t, address)}
	if err := w.handshake(); err != nil {
		t.Fatalf("exchange keys: %v", err)
	}
	w.send(append([]byte{msgServiceRequest}, str("ssh-userauth")...))
	w.expect(msgServiceAccept)
	return w
}

func str[S ~string | ~[]byte](s S) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

func cut(p []byte) (s, rest []byte) {
	n := binary.BigEndian.Uint32(p)
	return p[4 : 4+n], p[4+n:]
}

func mpint(n *big.Int) []byte { return ssh.Marshal(struct{ N *big.Int }{n}) }

func (w *raw) handshake() error {
	const ours = "SSH-2.0-Attack"
	w.in = bufio.NewReader(w.conn)
	if _, err := io.WriteString(w.conn, ours+"\r\n"); err != nil {
		return err
	}
	theirs, err := w.in.ReadString('\n')
	if err != nil {
		return err
	}
	theirs = strings.TrimRight(theirs, "\r\n")
	kexInit := append([]byte{msgKexInit}, make([]byte, 16)...)
	for _, list := range []string{"curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com",
		"hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""} {
		kexInit = append(kexInit, str(list)...)
	}
	kexInit = append(kexInit, 0, 0, 0, 0, 0)
	if err := w.trySend(kexInit); err != nil {
		return err
	}
	theirInit, err := w.tryRead()
	if err != nil {
		return err
	}
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	public := private.PublicKey().Bytes()
	if err := w.trySend(append([]byte{msgKexECDHInit}, str(public)...)); err != nil {
		return err
	}
	reply, err := w.tryRead()
	if err != nil {
		return err
	}
	hostKey, rest := cut(reply[1:])
	theirPublic, _ := cut(rest)
	peer, err := ecdh.X25519().NewPublicKey(theirPublic)
	if err != nil {
		return err
	}
	secret, err := private.ECDH(peer)
	if err != nil {
		return err
	}
	k := mpint(new(big.Int).SetBytes(secret))
	h := sha256.New()
	for _, s := range [][]byte{[]byte(ours), []byte(theirs), kexInit, theirInit, hostKey, public, theirPublic} {
		h.Write(str(s))
	}
	h.Write(k)
	w.session = h.Sum(nil)
	if err := w.trySend([]byte{msgNewKeys}); err != nil {
		return err
	}
	if p, err := w.tryRead(); err != nil || p[0] != msgNewKeys {
		return fmt.Errorf("no new keys: %w", err)
	}
	key := func(x byte) []byte {
		h := sha256.New()
		h.Write(k)
		h.Write(w.session)
		h.Write([]byte{x})
		h.Write(w.session)
		return h.Sum(nil)
	}
	w.sealIV, w.openIV = key('A')[:12], key('B')[:12]
	for x, to := range map[byte]*cipher.AEAD{'C': &w.seal, 'D': &w.open} {
		block, err := aes.NewCipher(key(x)[:16])
		if err != nil {
			return err
		}
		if *to, err = cipher.NewGCM(block); err != nil {
			return err
		}
	}
	return nil
}

func (w *raw) trySend(payload []byte) error {
	block, extra := 8, 4
	if w.seal != nil {
		block, extra = 16, 0
	}
	pad := block - (extra+1+len(payload))%block
	if pad < 4 {
		pad += block
	}
	body := append([]byte{byte(pad)}, payload...)
	body = append(body, make([]byte, pad)...)
	packet := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if w.seal == nil {
		packet = append(packet, body...)
	} else {
		packet = w.seal.Seal(packet, w.sealIV, body, packet[:4])
		next(w.sealIV)
	}
	_, err := w.conn.Write(packet)
	return err
}

func next(iv []byte) {
	binary.BigEndian.PutUint64(iv[4:], binary.BigEndian.Uint64(iv[4:])+1)
}

func (w *raw) tryRead() ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(w.in, head); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(head))
	if n > 1<<20 {
		return nil, errors.New("a packet of no sense")
	}
	if w.open != nil {
		n += w.open.Overhead()
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(w.in, body); err != nil {
		return nil, err
	}
	if w.open != nil {
		var err error
		if body, err = w.open.Open(body[:0], w.openIV, body, head); err != nil {
			return nil, err
		}
		next(w.openIV)
	}
	return body[1 : len(body)-int(body[0])], nil
}

func (w *raw) send(payload []byte) {
	w.t.Helper()
	if err := w.trySend(payload); err != nil {
		w.t.Fatalf("send message %d: %v", payload[0], err)
	}
}

// expect reads up to a message of a kind; banners and host keys are passed over.
func (w *raw) expect(kind byte) []byte {
	w.t.Helper()
	for {
		p, err := w.tryRead()
		switch {
		case err != nil:
			w.t.Fatalf("wait for message %d: %v", kind, err)
		case p[0] == kind:
			return p
		case p[0] != msgBanner && p[0] != msgGlobalRequest:
			w.t.Fatalf("got message %d, want %d", p[0], kind)
		}
	}
}

// failure reads the answer to a request for authentication, which must be a failure, and
// says whether it is a partial success.
func (w *raw) failure() bool {
	w.t.Helper()
	p := w.expect(msgFailure)
	_, rest := cut(p[1:])
	return rest[0] != 0
}

// mustEnd says that the server ends the connection, and lets nobody in before.
func (w *raw) mustEnd(attack string) {
	w.t.Helper()
	if err := w.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		w.t.Fatal(err)
	}
	for {
		p, err := w.tryRead()
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			w.t.Fatalf("%s: the connection goes on", attack)
		case err != nil:
			return
		case p[0] == msgSuccess:
			w.t.Fatalf("%s: let in", attack)
		}
	}
}

func userAuth(user, method string, rest []byte) []byte {
	p := append([]byte{msgUserAuth}, str(user)...)
	p = append(p, str("ssh-connection")...)
	p = append(p, str(method)...)
	return append(p, rest...)
}

func queryPayload(key ssh.PublicKey) []byte {
	return append(append([]byte{0}, str(key.Type())...), str(key.Marshal())...)
}

func (w *raw) query(user string, key ssh.PublicKey) {
	w.send(userAuth(user, "publickey", queryPayload(key)))
}

// publicKey asks to be let in with the key of named, signed for by signer.
func (w *raw) publicKey(user string, named, signer ssh.Signer) {
	w.t.Helper()
	p := userAuth(user, "publickey", append(append([]byte{1}, str(named.PublicKey().Type())...), str(named.PublicKey().Marshal())...))
	sig, err := signer.Sign(rand.Reader, append(str(w.session), p...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.lastKey = append(p, str(ssh.Marshal(sig))...)
	w.send(w.lastKey)
}

// login lets alice in with a key, where no second step is asked for.
func (w *raw) login(user string, key ssh.Signer) {
	w.t.Helper()
	w.publicKey(user, key, key)
	w.expect(msgSuccess)
}
