// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const sshKeysPath = "/sallyport/v1/admin/ssh_keys"

func (a *API) sshKeyReadRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET " + sshKeysPath:                   a.listSSHKeys,
		"GET " + sshKeysPath + "/{ssh_key_id}": a.getSSHKey,

		"GET /sallyport/v1/admin/users/{user_id}/ssh_keys": a.listSSHKeys,
	}
}

func (a *API) sshKeyWriteRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /sallyport/v1/admin/users/{user_id}/ssh_keys": a.createSSHKey,

		"DELETE " + sshKeysPath + "/{ssh_key_id}": a.deleteSSHKey,
	}
}

type sshKeyView struct {
	ID          string    `json:"ssh_key_id"`
	Type        string    `json:"type"`
	Key         string    `json:"key"`
	Fingerprint string    `json:"fingerprint"`
	Comment     string    `json:"comment"`
	Created     *int64    `json:"created"`
	User        *userView `json:"user,omitempty"`
}

func viewSSHKey(k store.SSHKey) sshKeyView {
	kind, _, _ := strings.Cut(k.Key, " ")
	return sshKeyView{ID: k.ID, Type: kind, Key: k.Key, Fingerprint: k.Fingerprint, Comment: k.Comment, Created: stamp(k.Created)}
}

func (a *API) listSSHKeys(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return listOf(ctx, a, r, store.Reader.SSHKeys, viewSSHKey,
		func(k store.SSHKey) string { return k.UserID }, func(v *sshKeyView) **userView { return &v.User })
}

func (a *API) getSSHKey(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showSSHKey(ctx, r.Path("ssh_key_id"))
}

func (a *API) showSSHKey(ctx context.Context, id string) (gate.Answer, error) {
	var v sshKeyView
	err := a.view(ctx, func(s store.Reader) error {
		k, err := s.SSHKey(id)
		if err != nil {
			return err
		}
		v = viewSSHKey(k)
		v.User, err = holder(s, k.UserID)
		return err
	})
	return gate.Answer{Response: v}, err
}

// maxKey bounds the text of a key; the longest that is taken is shorter.
const maxKey = 16384

func (a *API) createSSHKey(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	line, err := r.Params.Required("key", maxKey)
	if err != nil {
		return gate.Answer{}, err
	}
	comment, err := optional(r.Params, "comment")
	if err != nil {
		return gate.Answer{}, err
	}
	k, err := a.Directory.AddSSHKey(ctx, actor(r), r.Path("user_id"), line, comment)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showSSHKey(ctx, k.ID)
}

func (a *API) deleteSSHKey(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteSSHKey(ctx, actor(r), r.Path("ssh_key_id"))
}
