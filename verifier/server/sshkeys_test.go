// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/sshkey"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

type sshKeyAnswer struct {
	ID          string `json:"ssh_key_id"`
	Type        string
	Key         string
	Fingerprint string
	Comment     string
	Created     int64
	User        *struct {
		UserID string `json:"user_id"`
	}
}

func (s *site) addSSHKey(userID string, p params) (k sshKeyAnswer, err error) {
	err = s.call(s.admin, "POST", "/sallyport/v1/admin/users/"+userID+"/ssh_keys", p, &k)
	return k, err
}

// keysOf is what a host is told of a name.
func (h offlineHost) keysOf(name string) ([]string, error) {
	var out agentapi.SSHKeys
	err := h.call("GET", "/sallyport/v1/hosts/ssh_keys?username="+url.QueryEscape(name), nil, &out)
	return out.Keys, err
}

func TestSSHKeys(t *testing.T) {
	s := newSite(t)
	alice, bob := s.user("alice"), s.user("bob")
	h := s.host("gw.example")
	if got, err := h.keysOf("alice"); err != nil || got == nil || len(got) != 0 {
		t.Errorf("before: %q, %v", got, err)
	}
	one, two := s.sshPublicKey(), s.sshPublicKey()
	k, err := s.addSSHKey(alice, params{"key": one + " alice@laptop"})
	s.must(err)
	if k.Key != one || k.Type != "ssh-ed25519" || k.Comment != "alice@laptop" || !strings.HasPrefix(k.Fingerprint, "SHA256:") || k.User == nil || k.User.UserID != alice || k.Created == 0 {
		t.Errorf("made %+v", k)
	}
	k2, err := s.addSSHKey(alice, params{"key": two + " alice@laptop", "comment": " desk "})
	s.must(err)
	if k2.Comment != "desk" {
		t.Errorf("made %+v", k2)
	}
	// One key is one person's, whatever is written beside it.
	for _, user := range []string{alice, bob} {
		if _, err := s.addSSHKey(user, params{"key": one + " other"}); code(err) != duoapi.CodeConflict {
			t.Errorf("the key again: %v", err)
		}
	}
	if got, err := h.keysOf("alice"); err != nil || !slices.Equal(got, []string{one, two}) {
		t.Errorf("the host is told %q, %v", got, err)
	}
	var list []sshKeyAnswer
	s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/ssh_keys", nil, &list))
	if len(list) != 2 || list[0].User == nil {
		t.Errorf("all: %+v", list)
	}
	s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/users/"+bob+"/ssh_keys", nil, &list))
	if len(list) != 0 {
		t.Errorf("bob's: %+v", list)
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/ssh_keys/"+k.ID, nil, nil))
	if err := s.call(s.admin, "GET", "/sallyport/v1/admin/ssh_keys/"+k.ID, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a key that is gone: %v", err)
	}
	if got, err := h.keysOf("alice"); err != nil || !slices.Equal(got, []string{two}) {
		t.Errorf("after a removal the host is told %q, %v", got, err)
	}
	if _, err := s.addSSHKey(bob, params{"key": one}); err != nil {
		t.Errorf("a key that is free again: %v", err)
	}
	s.wantActions("ssh_key_create", "ssh_key_delete")
	if _, err := s.addSSHKey("DUNOBODY", params{"key": s.sshPublicKey()}); code(err) != duoapi.CodeNotFound {
		t.Errorf("nobody's key: %v", err)
	}
}

func TestSSHKeysAreLimited(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	for range sshkey.MaxKeys {
		_, err := s.dir.AddSSHKey(t.Context(), directory.Actor{Name: "test"}, alice, s.sshPublicKey(), nil)
		s.must(err)
	}
	if _, err := s.addSSHKey(alice, params{"key": s.sshPublicKey()}); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("one too many: %v", err)
	}
}

// A refusal says what is wrong with the key, and never shows it.
func TestSSHKeyRefused(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	key := s.sshPublicKey()
	for text, why := range map[string]string{
		"command=\"x\" " + key: "options before a key are not taken", "hello": "not of the form", key + "\n" + key: "more than one line",
		key + " " + strings.Repeat("x", 200): "the comment",
	} {
		_, err := s.addSSHKey(alice, params{"key": text})
		if e := new(duoapi.Error); code(err) != duoapi.CodeInvalidParameter || !errors.As(err, &e) || !strings.Contains(e.Detail, why) || strings.Contains(e.Detail, key) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := s.addSSHKey(alice, params{"key": key, "comment": "a\x1bb"}); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a comment that does not print: %v", err)
	}
}

// A host is told of people who may log in, by the names that they log in with, and
// of nobody else; and only a host is told.
func TestAttackSSHKeysOfOthers(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"aliases": "alias1=smith"}, nil))
	key := s.sshPublicKey()
	_, err := s.addSSHKey(alice, params{"key": key})
	s.must(err)
	h := s.host("gw.example")
	for _, name := range []string{"alice", "smith", "ALICE"} {
		if got, err := h.keysOf(name); err != nil || !slices.Equal(got, []string{key}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "bob", alice, "alice\x00", "ali%", strings.Repeat("a", 300), "\xff"} {
		if got, err := h.keysOf(name); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
	for _, query := range []string{"", "?username=alice&username=bob", "?user_id=" + alice, "?username=alice&x=1", "?username=%zz"} {
		if err := h.call("GET", "/sallyport/v1/hosts/ssh_keys"+query, nil, nil); code(err)/100 != 400 {
			t.Errorf("%q: %v", query, err)
		}
	}
	for _, status := range []string{"disabled", "active", "bypass"} {
		s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"status": status}, nil))
		got, err := h.keysOf("alice")
		if in := status != "disabled"; in != (err == nil) || in != (len(got) == 1) || !in && code(err) != duoapi.CodeNotFound {
			t.Errorf("%s: %q, %v", status, got, err)
		}
	}
	s.must(s.store.Update(t.Context(), func(w store.Writer) error {
		return w.SetUserStatus(alice, store.LockedOut, store.LockoutFraud, s.clock.Now())
	}))
	if got, err := h.keysOf("alice"); code(err) != duoapi.CodeNotFound {
		t.Errorf("locked out: %q, %v", got, err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"status": "active"}, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_send_to_trash", params{"user_id_list": fmt.Sprintf("[%q]", alice)}, nil))
	if got, err := h.keysOf("alice"); code(err) != duoapi.CodeNotFound {
		t.Errorf("in the trash: %q, %v", got, err)
	}
	// The integration of a host has no key of the host's, and an authenticator is no host.
	if err := s.call(h.auth, "GET", "/sallyport/v1/hosts/ssh_keys", params{"username": "alice"}, nil); code(err) == 0 {
		t.Error("an integration is told")
	}
	phoneKey, phone := s.authenticator(s.user("carol"))
	if err := s.proved(phoneKey, phone, "GET", "/sallyport/v1/hosts/ssh_keys?username=carol", "", nil, nil); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("an authenticator: %v", err)
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+h.id, nil, nil))
	if _, err := h.keysOf("carol"); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("a revoked host: %v", err)
	}
}
