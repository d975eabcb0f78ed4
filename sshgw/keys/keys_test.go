// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func open(t *testing.T) (*Ring, Folder, *clock) {
	t.Helper()
	c := &clock{time.Now()}
	f := Folder{Dir: filepath.Join(t.TempDir(), "state", "keys"), Now: c.now, Rand: rand.Reader}
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	return r, f, c
}

func prints(list []ssh.Signer) []string {
	var out []string
	for _, s := range list {
		out = append(out, ssh.FingerprintSHA256(s.PublicKey()))
	}
	return out
}

func TestOpenMakesWhatIsMissing(t *testing.T) {
	r, f, _ := open(t)
	var types []string
	for _, s := range r.HostSigners() {
		types = append(types, s.PublicKey().Type())
	}
	if want := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256}; !slices.Equal(types, want) {
		t.Errorf("host keys %q; want %q", types, want)
	}
	info, err := os.Stat(f.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		want := fs.FileMode(0o600)
		if strings.HasSuffix(e.Name(), ".pub") {
			want = 0o644
		}
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", e.Name(), info.Mode(), err, want)
		}
	}
	if len(entries) != 6 {
		t.Errorf("the folder holds %v; want two host keys, two CAs and their public files", entries)
	}
	again, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(prints(r.HostSigners()), prints(again.HostSigners())) {
		t.Error("opened again, the host keys are others")
	}
}

func TestOpenRefusesKeysOfOthers(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"folder readable": func(dir string) error { return os.Chmod(dir, 0o750) },
		"key readable":    func(dir string) error { return os.Chmod(filepath.Join(dir, "user_ca"), 0o640) },
		"key a link":      func(dir string) error { return relink(dir) },
		"key a folder":    func(dir string) error { return os.Mkdir(filepath.Join(dir, "ssh_host_rsa_key"), 0o700) },
		"key no key":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "host_ca"), []byte("x"), 0o600) },
		"key too long": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "host_ca"), make([]byte, keyMax+1), 0o600)
		},
		"current key taken": func(dir string) error {
			return os.Rename(filepath.Join(dir, "user_ca"), filepath.Join(dir, "user_ca.old"))
		},
	} {
		r, f, _ := open(t)
		before := prints(r.Announced())
		if err := spoil(f.Dir); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Open(); err == nil {
			t.Errorf("%s: opened all the same", name)
		}
		if err := r.Reload(); err == nil {
			t.Errorf("%s: loaded again all the same", name)
		}
		if _, err := r.UserFor(Person{Principal: "root"}); err != nil || !slices.Equal(before, prints(r.Announced())) {
			t.Errorf("%s: a reload that failed has changed the keys in force: %v", name, err)
		}
	}
}

func relink(dir string) error {
	from, to := filepath.Join(dir, "user_ca"), filepath.Join(dir, "elsewhere")
	return errors.Join(os.Rename(from, to), os.Symlink(to, from))
}

func TestAnRSAKeyIsUsedAndSignsWithSHA2(t *testing.T) {
	r, f, _ := open(t)
	key, err := newRSA(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.Dir, "ssh_host_rsa_key"), pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	last := r.HostSigners()[len(r.HostSigners())-1]
	many, ok := last.(ssh.MultiAlgorithmSigner)
	if last.PublicKey().Type() != ssh.KeyAlgoRSA || !ok || slices.Contains(many.Algorithms(), ssh.KeyAlgoRSA) {
		t.Errorf("the last host key is %s and signs by SHA-1 as well", last.PublicKey().Type())
	}
	block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.Dir, "ssh_host_rsa_key"), pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "ssh-keygen -p") {
		t.Errorf("a key with a passphrase: %v", err)
	}
}

func TestUserFor(t *testing.T) {
	r, _, c := open(t)
	signer, err := r.UserFor(Person{
		KeyID: "alice via gw", Principal: "root", Lifetime: 5 * time.Minute, Permit: Permit{PTY: true},
		Source: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("::ffff:192.0.2.1/128")},
	})
	if err != nil {
		t.Fatal(err)
	}
	cert := signer.PublicKey().(*ssh.Certificate)
	if cert.CertType != ssh.UserCert || cert.KeyId != "alice via gw" || !slices.Equal(cert.ValidPrincipals, []string{"root"}) ||
		cert.CriticalOptions["source-address"] != "10.0.0.0/8,192.0.2.1/32" || len(cert.CriticalOptions) != 1 {
		t.Errorf("the certificate says %+v", cert)
	}
	if _, ok := cert.Extensions["permit-pty"]; !ok || len(cert.Extensions) != 1 {
		t.Errorf("extensions %v; want permit-pty alone", cert.Extensions)
	}
	checker := ssh.CertChecker{SupportedCriticalOptions: []string{"source-address"}, Clock: c.now}
	for after, valid := range map[time.Duration]bool{0: true, -20 * time.Second: true, 4 * time.Minute: true, -time.Minute: false, 6 * time.Minute: false} {
		c.t = c.t.Add(after)
		if err := checker.CheckCert("root", cert); (err == nil) != valid {
			t.Errorf("%v after it was made: %v", after, err)
		}
		c.t = c.t.Add(-after)
	}
	other, err := r.UserFor(Person{Principal: "root"})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.PublicKey().(*ssh.Certificate).Key.Marshal(), cert.Key.Marshal()) {
		t.Error("two connections share a key")
	}
	if !bytes.Equal(cert.SignatureKey.Marshal(), r.now.Load().userCA.PublicKey().Marshal()) {
		t.Error("it is not signed by the user CA")
	}
	if _, err := r.UserFor(Person{KeyID: "alice"}); err == nil {
		t.Error("a certificate without a principal was made")
	}
}

func TestHostFor(t *testing.T) {
	r, _, c := open(t)
	first, err := r.HostFor("db1", "db1.example.org")
	if err != nil {
		t.Fatal(err)
	}
	check := func(s ssh.Signer, name string) error {
		checker := ssh.CertChecker{Clock: c.now, IsHostAuthority: func(k ssh.PublicKey, _ string) bool {
			return bytes.Equal(k.Marshal(), r.now.Load().hostCA.PublicKey().Marshal())
		}}
		return checker.CheckHostKey(name+":22", nil, s.PublicKey())
	}
	if err := errors.Join(check(first, "db1"), check(first, "db1.example.org")); err != nil {
		t.Error(err)
	}
	if check(first, "db2") == nil {
		t.Error("it is good for another host")
	}
	if again, err := r.HostFor("db1", "db1.example.org"); err != nil || again != first {
		t.Errorf("asked again, it was made again: %v", err)
	}
	c.t = c.t.Add(hostLifetime/2 + time.Second)
	renewed, err := r.HostFor("db1", "db1.example.org")
	if err != nil || renewed == first {
		t.Errorf("half of its life over, it was not renewed: %v", err)
	}
	if err := check(renewed, "db1"); err != nil {
		t.Error(err)
	}
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if again, err := r.HostFor("db1", "db1.example.org"); err != nil || again == renewed {
		t.Errorf("after a reload it is still of the old keys: %v", err)
	}
	for _, names := range [][]string{nil, {""}, {"db1", ""}, {"*"}, {"db?"}, {"!db1"}, {"a,b"}, {"a b"}} {
		if _, err := r.HostFor(names...); err == nil {
			t.Errorf("a certificate for %q was made", names)
		}
	}
}

func TestHostForHoldsABoundedNumber(t *testing.T) {
	r, _, _ := open(t)
	for i := range hostsMax + 10 {
		if _, err := r.HostFor("host" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.hosts) > hostsMax {
		t.Errorf("%d certificates are kept", len(r.hosts))
	}
}
