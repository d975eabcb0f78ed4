// SPDX-License-Identifier: Apache-2.0

package sshkey

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"

// line is a key as in authorized_keys.
func line(t *testing.T, public any) string {
	t.Helper()
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// wire is a key made of its parts.
func wire(kind string, parts any) string {
	return kind + " " + base64.StdEncoding.EncodeToString(ssh.Marshal(parts))
}

// rsaOf is an RSA key with a modulus of so many bits. It is nobody's.
func rsaOf(t *testing.T, bits int) string {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-1)))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
	return wire("ssh-rsa", struct {
		Name string
		E, N *big.Int
	}{"ssh-rsa", big.NewInt(65537), n})
}

func skEd25519(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return wire("sk-ssh-ed25519@openssh.com", struct {
		Name, Key, App string
	}{"sk-ssh-ed25519@openssh.com", string(public), "ssh:"})
}

func TestParse(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sk := wire("sk-ecdsa-sha2-nistp256@openssh.com", struct{ Name, Curve, Point, App string }{
		"sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", string(point), "ssh:",
	})
	for name, key := range map[string]string{
		"ed25519": ed25519Key, "ecdsa 256": line(t, &p256.PublicKey), "ecdsa 521": line(t, &p521.PublicKey),
		"rsa 2048": rsaOf(t, 2048), "rsa 16384": rsaOf(t, 16384), "a touch, ed25519": skEd25519(t), "a touch, ecdsa": sk,
	} {
		for _, text := range []string{key, " " + key + " \n", key + " alice@laptop"} {
			got, err := Parse(text)
			kind, _, _ := strings.Cut(key, " ")
			if err != nil || got.Text != key || got.Type != kind || !strings.HasPrefix(got.Fingerprint, "SHA256:") {
				t.Errorf("%s: %q: %+v, %v", name, text, got, err)
			}
			if want := strings.HasSuffix(text, "laptop"); (got.Comment == "alice@laptop") != want {
				t.Errorf("%s: %q: comment %q", name, text, got.Comment)
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ssh.NewSignerFromKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: ca.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	dsa := wire("ssh-dss", struct {
		Name       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", new(big.Int).SetBit(big.NewInt(1), 1023, 1), new(big.Int).SetBit(big.NewInt(1), 159, 1), big.NewInt(2), big.NewInt(3)})
	for name, text := range map[string]string{
		"nothing": " ", "text": "hello", "no base64": "ssh-ed25519 x", "cut off": ed25519Key[:40],
		"another type": strings.Replace(ed25519Key, "ssh-ed25519", "ssh-rsa", 1),
		"DSA":          dsa, "a small RSA key": line(t, &weak.PublicKey), "almost 2048 bits": rsaOf(t, 2047), "over 16384 bits": rsaOf(t, 16385),
		"a certificate": strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert))),
		"options":       `no-pty ` + ed25519Key, "a command": `command="/bin/true" ` + ed25519Key, "a CA": "cert-authority " + ed25519Key,
		"two keys": ed25519Key + "\n" + ed25519Key, "a NUL": ed25519Key + " a\x00b", "a control character": ed25519Key + " a\x1b[2J",
		"a long comment": ed25519Key + " " + strings.Repeat("x", MaxComment+1), "no UTF-8": ed25519Key + " \xff",
		"far too long": ed25519Key + " " + strings.Repeat("x", MaxLine), "a private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
		"a comment line": "# " + ed25519Key, "an override": ed25519Key + " a\u202eb",
	} {
		if got, err := Parse(text); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// One key has one form, whatever stood around it.
func TestTwoFormsOfAKeyAreOne(t *testing.T) {
	a, err := Parse(ed25519Key + " one")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse("  " + ed25519Key + "\ttwo ")
	if err != nil || a.Text != b.Text || a.Fingerprint != b.Fingerprint {
		t.Errorf("%+v, %+v, %v", a, b, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{ed25519Key, "no-pty " + ed25519Key, ed25519Key + " a b", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQA=", "", "#", "ssh-dss AAAA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(k.Text + " " + k.Comment)
		if err != nil || again != k {
			t.Errorf("%q: %+v and then %+v, %v", text, k, again, err)
		}
	})
}
