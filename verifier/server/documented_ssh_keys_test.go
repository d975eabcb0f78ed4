// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
)

// sshPublicKey is a key that nobody has, as in authorized_keys.
func (s *site) sshPublicKey() string {
	s.t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	key, err := ssh.NewPublicKey(public)
	s.must(err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func init() {
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	wildcard("ssh_key_id", func(s *site) string {
		k, err := s.dir.AddSSHKey(s.t.Context(), directory.Actor{Name: "test"}, s.user(unique("user")), s.sshPublicKey(), nil)
		s.must(err)
		return k.ID
	})
	key := made((*site).sshPublicKey)
	key.wrong, key.strict = []string{"x", "ssh-ed25519 AAAA", "no-pty ssh-ed25519 AAAA"}, true
	document("GET /sallyport/v1/admin/ssh_keys", page...)
	document("GET /sallyport/v1/admin/ssh_keys/{ssh_key_id}")
	document("DELETE /sallyport/v1/admin/ssh_keys/{ssh_key_id}")
	document("GET /sallyport/v1/admin/users/{user_id}/ssh_keys", page...)
	document("POST /sallyport/v1/admin/users/{user_id}/ssh_keys", required("key", key), optional("comment", text("laptop")))
}
