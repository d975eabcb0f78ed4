// SPDX-License-Identifier: Apache-2.0

package sshinfo_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/authd/sshinfo"
)

// A key as ssh-keygen made it, and what ssh-keygen -l says of it.
const (
	key1   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"
	print1 = "SHA256:OcLVv1k6GIum2ikHPCk2aArKmww1FIzYD7yCwq8reVA"
)

func certificate(t testing.TB) (line, fingerprint string) {
	t.Helper()
	pub, ca, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(ca)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: key, CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return cert.Type() + " " + base64.StdEncoding.EncodeToString(cert.Marshal()), ssh.FingerprintSHA256(key)
}

func TestParseAuth(t *testing.T) {
	cert, certPrint := certificate(t)
	for name, tc := range map[string]struct {
		value       string
		methods     string
		keys        []string
		unknown     bool
		firstFactor bool
		malformed   bool
	}{
		"a key":                     {"publickey " + key1 + "\n", "publickey", []string{print1}, false, true, false},
		"no last line break":        {"publickey " + key1, "publickey", []string{print1}, false, true, false},
		"a certificate":             {"publickey " + cert, "publickey", []string{certPrint}, false, true, false},
		"two keys":                  {"publickey " + key1 + "\npublickey " + cert + "\n", "publickey publickey", []string{print1, certPrint}, false, true, false},
		"password":                  {"password\n", "password", nil, false, true, false},
		"keyboard-interactive only": {"keyboard-interactive/pam\n", "keyboard-interactive", nil, false, false, false},
		"key, then the stack":       {"publickey " + key1 + "\nkeyboard-interactive/pam\n", "publickey keyboard-interactive", []string{print1}, false, true, false},
		"nothing yet":               {"", "", nil, true, false, false},
		"none":                      {"none\n", "none", nil, false, false, false},
		"hostbased":                 {"hostbased client user \"a\", client host \"b\"\n", "hostbased", nil, true, true, false},
		"hostbased with a forgery":  {"hostbased client user \"a\npublickey " + key1 + "\n", "hostbased publickey", []string{print1}, true, true, false},
		"GSSAPI":                    {"gssapi-with-mic alice@EXAMPLE.ORG\n", "gssapi-with-mic", nil, true, true, false},
		"publickey without key":     {"publickey\n", "", nil, true, false, true},
		"key is not base64":         {"publickey ssh-ed25519 !!!\n", "", nil, true, false, true},
		"key is cut off":            {"publickey " + key1[:40] + "\n", "", nil, true, false, true},
		"type does not fit":         {"publickey ssh-rsa " + strings.Fields(key1)[1], "", nil, true, false, true},
		"something after the key":   {"publickey " + key1 + " comment", "", nil, true, false, true},
		"two blanks":                {"publickey  " + key1, "", nil, true, false, true},
		"empty line":                {"publickey " + key1 + "\n\n\n", "", nil, true, false, true},
		"upper case":                {"PUBLICKEY " + key1, "", nil, true, false, true},
		"control character":         {"pass\x1bword", "", nil, true, false, true},
		"too long":                  {strings.Repeat("password\n", 1000), "", nil, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := sshinfo.ParseAuth(tc.value)
			if errors.Is(err, sshinfo.ErrMalformed) != tc.malformed || (err != nil) != tc.malformed {
				t.Errorf("error %v, want malformed: %v", err, tc.malformed)
			}
			if strings.Join(a.Methods, " ") != tc.methods || !slices.Equal(a.Keys, tc.keys) ||
				a.KeysUnknown != tc.unknown || a.FirstFactor() != tc.firstFactor {
				t.Errorf("got %+v, first factor %v", a, a.FirstFactor())
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	for value, want := range map[string]string{
		"192.0.2.7 4711 198.51.100.1 22":       "192.0.2.7",
		"::ffff:192.0.2.7 4711 ::1 22":         "192.0.2.7",
		"2001:db8::1 4711 2001:db8::2 22":      "2001:db8::1",
		"fe80::1%eth0 4711 fe80::2%eth0 22":    "fe80::1%eth0",
		"client.example 4711 198.51.100.1 22":  "",
		"192.0.2.7 4711 198.51.100.1":          "",
		"192.0.2.7 x 198.51.100.1 22":          "",
		"192.0.2.7 4711 198.51.100.1 70000":    "",
		"192.0.2.07 4711 198.51.100.1 22":      "",
		"UNKNOWN 65535 UNKNOWN 65535":          "",
		"192.0.2.7\n10.0.0.1 1 198.51.100.1 2": "",
		"":                                     "",
	} {
		got, err := sshinfo.ParseSource(value)
		if want == "" {
			if !errors.Is(err, sshinfo.ErrMalformed) {
				t.Errorf("%q: got %v, %v", value, got, err)
			}
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", value, got, err, want)
		}
	}
}

func FuzzParseAuth(f *testing.F) {
	cert, _ := certificate(f)
	for _, s := range []string{"", "publickey " + key1 + "\n", "publickey " + cert, "keyboard-interactive/pam\n", "hostbased client user \"a\"\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		a, err := sshinfo.ParseAuth(value)
		if err != nil && (a.FirstFactor() || len(a.Keys) > 0 || !a.KeysUnknown) {
			t.Errorf("a malformed value shows something: %+v", a)
		}
		for _, k := range a.Keys {
			if !strings.HasPrefix(k, "SHA256:") || len(k) != 50 {
				t.Errorf("fingerprint %q", k)
			}
		}
	})
}
