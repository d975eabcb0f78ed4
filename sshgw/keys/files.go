// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// keyMax bounds the file of a private key; RSA of 16,384 bits has 12 KiB.
const keyMax = 64 << 10

// Kind says what keys are for.
type Kind string

// The kinds, as people type them.
const (
	Host   Kind = "host"
	UserCA Kind = "user-ca"
	HostCA Kind = "host-ca"
)

// Stage says where in its life a key is.
type Stage string

// The stages. A coming key is published and does not sign; a retired one is published
// still, for those who have not seen the new one's signature yet.
const (
	Current Stage = "current"
	Coming  Stage = "coming"
	Retired Stage = "retired"
)

var suffixes = map[Stage]string{Current: "", Coming: ".next", Retired: ".old"}

// slot is a place for a key, named as sshd names its own, so that keys of a bastion
// that the gateway succeeds can be put here.
type slot struct {
	kind Kind
	name string
	make func(io.Reader) (crypto.PrivateKey, error) // nil: used where it is there, never made
}

// slots are in the order in which a handshake offers host keys. RSA is for clients
// from before 2011 and for old programs; it costs a handshake twenty times as much, so
// whoever needs it makes it with ssh-keygen.
var slots = []slot{
	{Host, "ssh_host_ed25519_key", newEd25519},
	{Host, "ssh_host_ecdsa_key", newECDSA},
	{Host, "ssh_host_rsa_key", nil},
	{UserCA, "user_ca", newEd25519},
	{HostCA, "host_ca", newEd25519},
}

func newEd25519(random io.Reader) (crypto.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(random)
	return key, err
}

func newECDSA(random io.Reader) (crypto.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), random)
}

func newRSA(random io.Reader) (crypto.PrivateKey, error) { return rsa.GenerateKey(random, 3072) }

// Key is a key of the folder, as `sallyport-sshgw keys list` shows it.
type Key struct {
	Kind        Kind      `json:"kind"`
	File        string    `json:"file"`
	Stage       Stage     `json:"stage"`
	Type        string    `json:"type"`
	Fingerprint string    `json:"fingerprint"`
	Made        time.Time `json:"made"`

	signer ssh.Signer
}

func (k *Key) public() ssh.PublicKey { return k.signer.PublicKey() }

// prepare makes the folder and the keys that are missing, and repairs the public files.
func (f Folder) prepare() error {
	if err := os.MkdirAll(filepath.Dir(f.Dir), 0o755); err != nil {
		return fmt.Errorf("make the folder of the gateway's keys: %w", err)
	}
	err := os.Mkdir(f.Dir, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder of the gateway's keys: %w", err)
	}
	if err == nil {
		if err := durable.SyncDir(filepath.Dir(f.Dir)); err != nil {
			return err
		}
	}
	return f.locked(func() error {
		if err := f.makeMissing(); err != nil {
			return err
		}
		return f.publish()
	})
}

// makeMissing makes keys where nothing but a new key can be meant. A slot that holds a
// coming or a retired key without a current one has been tampered with.
func (f Folder) makeMissing() error {
	for _, s := range slots {
		var there bool
		for _, stage := range []Stage{Current, Coming, Retired} {
			_, err := os.Lstat(f.path(s, stage))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look for a key: %w", err)
			}
			there = there || err == nil
		}
		if there || s.make == nil {
			continue
		}
		if err := f.makeKey(s, Current); err != nil {
			return err
		}
	}
	return nil
}

func (f Folder) path(s slot, stage Stage) string {
	return filepath.Join(f.Dir, s.name+suffixes[stage])
}

// makeKey puts a new key into a slot.
func (f Folder) makeKey(s slot, stage Stage) error {
	generate := s.make
	if generate == nil {
		generate = newRSA
	}
	key, err := generate(f.Rand)
	if err != nil {
		return fmt.Errorf("make %s: %w", f.path(s, stage), err)
	}
	block, err := ssh.MarshalPrivateKey(key, "sallyport "+string(s.kind))
	if err != nil {
		return fmt.Errorf("make %s: %w", f.path(s, stage), err)
	}
	return f.write(s.name+suffixes[stage], pem.EncodeToMemory(block), 0o600)
}

// write puts a file on disk, whole or not at all. It belongs to whom the folder belongs
// to: what root makes, the gateway must be able to read.
func (f Folder) write(name string, text []byte, mode os.FileMode) error {
	path := filepath.Join(f.Dir, name)
	owner, err := os.Stat(f.Dir)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	uid, gid := ids(owner)
	if uid == os.Geteuid() {
		return durable.Replace(path, text, mode)
	}
	tmp, err := os.CreateTemp(f.Dir, ".new-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Chown(uid, gid), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(tmp.Name())))
	}
	return durable.SyncDir(f.Dir)
}

// locked runs do while no other process changes the folder.
func (f Folder) locked(do func() error) error {
	dir, err := os.Open(f.Dir)
	if err != nil {
		return fmt.Errorf("open the folder of the gateway's keys: %w", err)
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return fmt.Errorf("open the folder of the gateway's keys: %w", err)
	}
	if err := private(info, f.Dir, os.Geteuid(), 0); err != nil {
		return err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	return do()
}

// read reads all keys of the folder, current ones first.
func (f Folder) read() ([]*Key, error) {
	folder, err := os.Stat(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's keys: %w", err)
	}
	if err := private(folder, f.Dir, os.Geteuid(), 0); err != nil {
		return nil, err
	}
	uid, _ := ids(folder)
	var all []*Key
	for _, stage := range []Stage{Current, Coming, Retired} {
		for _, s := range slots {
			k, err := readKey(f.path(s, stage), uid)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			k.Kind, k.Stage, k.File = s.kind, stage, s.name+suffixes[stage]
			all = append(all, k)
		}
	}
	return all, nil
}

// readKey reads one private key. owner may have it besides root and this process.
func readKey(path string, owner int) (*Key, error) {
	// Neither a link nor a pipe: whoever could put one there could make the gateway wait.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read the key %s: it is no regular file", path)
	}
	if err := private(info, path, os.Geteuid(), 0, owner); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, keyMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", path, err)
	}
	if len(text) > keyMax {
		return nil, fmt.Errorf("read the key %s: it is too long for a key", path)
	}
	signer, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the key %s: %w", path, err)
	}
	return &Key{
		Type: signer.PublicKey().Type(), Fingerprint: ssh.FingerprintSHA256(signer.PublicKey()),
		Made: info.ModTime().UTC(), signer: signer,
	}, nil
}

func parse(text []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, cli.WithHint(errors.New("it has a passphrase, and nobody is there to type it"), "remove it with: ssh-keygen -p")
	}
	if err != nil {
		return nil, err
	}
	if signer.PublicKey().Type() != ssh.KeyAlgoRSA {
		return signer, nil
	}
	// Not ssh-rsa, which is SHA-1.
	algorithms, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("this RSA key cannot sign with SHA-2")
	}
	return ssh.NewSignerWithAlgorithms(algorithms, []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512})
}

// private says whether nobody but these accounts can read or change a file or folder.
func private(info fs.FileInfo, path string, owners ...int) error {
	uid, _ := ids(info)
	mine := false
	for _, o := range owners {
		mine = mine || uid == o
	}
	// root may look at the keys of the gateway's account, whoever that is.
	if !mine && os.Geteuid() != 0 {
		return cli.WithHint(fmt.Errorf("%s belongs to uid %d, so that others could change the gateway's keys", path, uid),
			fmt.Sprintf("run: chown %d %s", os.Geteuid(), path))
	}
	if info.Mode().Perm()&0o077 != 0 {
		return cli.WithHint(fmt.Errorf("%s has mode %#o, so that others can read the gateway's keys", path, info.Mode().Perm()),
			"run: chmod go= "+path)
	}
	return nil
}

// publish writes the public keys of the CAs beside them: what belongs into a target's
// TrustedUserCAKeys, and what clients believe, the coming and retired keys included.
func (f Folder) publish() error {
	all, err := f.read()
	if err != nil {
		return err
	}
	for _, kind := range []Kind{UserCA, HostCA} {
		var text bytes.Buffer
		for _, k := range all {
			if k.Kind == kind {
				text.WriteString(line(k))
			}
		}
		name := map[Kind]string{UserCA: "user_ca.pub", HostCA: "host_ca.pub"}[kind]
		old, err := os.ReadFile(filepath.Join(f.Dir, name))
		if err == nil && bytes.Equal(old, text.Bytes()) {
			continue
		}
		if err := f.write(name, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// line is a public key as in authorized_keys, with a comment that says what it is.
func line(k *Key) string {
	text := bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.public()))
	return fmt.Sprintf("%s sallyport-%s-%s-%s\n", text, k.Kind, k.Made.Format("2006-01-02"), k.Stage)
}

func ids(info fs.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1
	}
	return int(st.Uid), int(st.Gid)
}
