// SPDX-License-Identifier: Apache-2.0

package sshcert_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/sshcert"
)

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func TestCheck(t *testing.T) {
	ours, old, theirs := newSigner(t), newSigner(t), newSigner(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaCA, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sha1, err := ssh.NewSignerWithAlgorithms(rsaCA.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	sha512, err := ssh.NewSignerWithAlgorithms(rsaCA.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSASHA512})
	if err != nil {
		t.Fatal(err)
	}
	authorities := sshcert.Authorities{"ops": {ours.PublicKey(), old.PublicKey(), rsaCA.PublicKey()}, "dev": {newSigner(t).PublicKey()}}
	now := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) uint64 { return uint64(now.Add(d).Unix()) }
	here := netip.MustParseAddr("10.0.4.7")
	option := func(name, value string) func(*ssh.Certificate) {
		return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{name: value} }
	}

	for name, tc := range map[string]struct {
		ca     ssh.Signer
		change func(*ssh.Certificate)
		source netip.Addr
		want   string // in the error; "": it counts
		is     error
	}{
		"good":                  {ours, nil, here, "", nil},
		"by the CA's older key": {old, nil, here, "", nil},
		"without an address":    {ours, nil, netip.Addr{}, "", nil},
		"for nobody by name":    {ours, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, here, "", nil},
		"of another CA":         {theirs, nil, here, "", sshcert.ErrNotOurs},
		"of a host":             {ours, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, here, "not a user certificate", sshcert.ErrMalformed},
		"the last second":       {ours, func(c *ssh.Certificate) { c.ValidBefore = at(time.Second) }, here, "", nil},
		"expired":               {ours, func(c *ssh.Certificate) { c.ValidBefore = at(0) }, here, "expired", nil},
		"from now on":           {ours, func(c *ssh.Certificate) { c.ValidAfter = at(0) }, here, "", nil},
		"not yet":               {ours, func(c *ssh.Certificate) { c.ValidAfter = at(time.Second) }, here, "not yet valid", nil},
		"forced command":        {ours, option("force-command", "/bin/true"), here, "", nil},
		"touch":                 {ours, option("verify-required", ""), here, "", nil},
		"unheard option":        {ours, option("moon", "full"), here, "unsupported critical option", nil},
		"here":                  {ours, option("source-address", "192.0.2.1,10.0.4.0/24"), here, "", nil},
		"exactly here":          {ours, option("source-address", "10.0.4.7"), here, "", nil},
		"here, host bits set":   {ours, option("source-address", "10.0.4.1/24"), here, "", nil},
		"here, written as IPv6": {ours, option("source-address", "10.0.4.0/24"), netip.MustParseAddr("::ffff:10.0.4.7"), "", nil},
		"elsewhere":             {ours, option("source-address", "10.0.5.0/24"), here, "may not be used from 10.0.4.7", sshcert.ErrMalformed},
		"by host name":          {ours, option("source-address", "db1.example"), here, "may not be used", nil},
		"from nowhere":          {ours, option("source-address", ""), here, "may not be used", nil},
		"here, but who knows":   {ours, option("source-address", "10.0.4.0/24"), netip.Addr{}, "", sshcert.ErrCannotTell},
		"signed by SHA-1":       {sha1, nil, here, "broken algorithm", sshcert.ErrMalformed},
		"signed by SHA-512":     {sha512, nil, here, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := &ssh.Certificate{Key: newSigner(t).PublicKey(), CertType: ssh.UserCert, KeyId: "k", ValidPrincipals: []string{"alice"}, ValidBefore: ssh.CertTimeInfinity}
			if tc.change != nil {
				tc.change(c)
			}
			if err := c.SignCert(rand.Reader, tc.ca); err != nil {
				t.Fatal(err)
			}
			got, err := authorities.Check(c, now, tc.source)
			if tc.want == "" && tc.is == nil {
				if err != nil || got != "ops" {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err == nil || got != "" || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.is)
			}
			// What is changed after signing is never believed.
			c.KeyId = "other"
			if _, err := authorities.Check(c, now, tc.source); err == nil {
				t.Error("a changed certificate counts")
			}
		})
	}
	c := &ssh.Certificate{Key: newSigner(t).PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := c.SignCert(rand.Reader, ours); err != nil {
		t.Fatal(err)
	}
	c.KeyId = "another"
	if _, err := authorities.Check(c, now, here); err == nil {
		t.Error("a changed certificate counts")
	}
	c.Signature = nil
	if _, err := authorities.Check(c, now, here); err == nil {
		t.Error("a certificate without signature counts")
	}
}

// key1 is a public key that anybody may know.
const key1 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"

func FuzzParseAuthority(f *testing.F) {
	f.Add(key1 + " comment\n# x\n\n")
	f.Add("cert-authority,principals=\"x\" " + key1)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := sshcert.ParseAuthority(text)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if _, isCert := k.(*ssh.Certificate); isCert {
				t.Error("a certificate became a CA")
			}
		}
	})
}
