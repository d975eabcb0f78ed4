// SPDX-License-Identifier: Apache-2.0

package sshcert_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/sshcert"
)

func TestRevoked(t *testing.T) {
	key := newSigner(t).PublicKey()
	ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key1))
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key, SignatureKey: ca, KeyId: "alice@2026", Serial: 42}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	for text, want := range map[string]bool{
		"": false, "# nothing\n": false, "serial: 42\n": true, "serial: 40-44": true, "serial: 0x2a": true, "serial: 43-99": false,
		"id: alice@2026": true, "id: alice": false, line: true, "key: " + line: true, key1: true,
		"hash: " + ssh.FingerprintSHA256(key): true, "sha256: " + ssh.FingerprintSHA256(ca): true,
	} {
		r, err := sshcert.ParseRevoked(text)
		if err != nil || r.Holds(cert) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]bool{
		"": false, line: true, "hash: " + ssh.FingerprintSHA256(key): true, key1: false, "serial: 0-99": false, "id:": false,
	} {
		if r, err := sshcert.ParseRevoked(text); err != nil || r.Holds(key) != want {
			t.Errorf("the key by itself, %q: %v", text, err)
		}
	}
	for _, text := range []string{"serial: many", "serial: 9-3", "sha1: abc", "hash: SHA256:short", "rubbish", "key: rubbish", "restrict " + line, "SSHKRL\n\x00"} {
		if _, err := sshcert.ParseRevoked(text); err == nil {
			t.Errorf("%q is understood", text)
		}
	}
}

func FuzzRevoked(f *testing.F) {
	f.Add("serial: 1-9\nid: x\n" + key1)
	f.Add("hash: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := sshcert.ParseRevoked(text)
		if (err == nil) != (r != nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}
