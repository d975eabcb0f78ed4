// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
)

// pamService is the name of the PAM service, and of the helper's requests.
const pamService = "sallyport-sshgw"

// byPAM is a first factor by the PAM helper. It is asked for unknown names as well, so
// that nobody learns from the time it takes which there are.
func (v *Visit) byPAM(m ssh.ConnMetadata, person Person) (*ssh.Permissions, error) {
	name, err := parseName(m.User())
	if err != nil {
		return nil, no("user_name", "%w", err)
	}
	account, _, unknown := v.person(m.User())
	user := account.Name
	if unknown != nil {
		user = name.User
	}
	leave, err := v.door.pam.take(v.ctx, v.who.Source.Addr())
	if err != nil {
		return nil, cannot("password_undecided", "PAM: %w", err)
	}
	defer leave()
	outcome, err := v.door.opt.PAM.Call(v.ctx, &frames.Request{
		Hook: frames.HookAuthenticate, RUID: uint32(os.Getuid()), EUID: uint32(os.Geteuid()), Version: version.String(),
		Service: pamService, User: user, TTY: "ssh", RHost: v.who.Source.Addr().String(),
	}, person)
	switch {
	case errors.Is(err, conversation.ErrNobody):
		return nil, no("password_refused", "PAM: %w", err)
	case err != nil:
		return nil, cannot("password_undecided", "PAM: %w", err)
	case outcome == frames.OutcomeUnavailable || outcome == frames.OutcomeAborted:
		return nil, cannot("password_undecided", "PAM: %s", outcome)
	case outcome != frames.OutcomeAllow:
		return nil, no("password_refused", "PAM: %s", outcome)
	case unknown != nil:
		return nil, unknown
	}
	return v.second(m, &proof{user: m.User(), name: name, account: account, method: identity.Password, authInfo: "password"})
}

// proof is a first factor that was shown, by one request of one connection.
type proof struct {
	user    string // as the client gave it in that request
	name    route.Name
	account directory.Account
	method  identity.Method

	key, keyType, authInfo string
	ca, keyID              string
	serial                 uint64
	touched                bool // by a FIDO2 key, whose touch the library has checked
	limits                 identity.Limits
	expires                time.Time // the zero time: never
}

// identity makes the identity that the proof stands for, without what comes later.
func (p *proof) identity(m ssh.ConnMetadata, v *Visit) *identity.Identity {
	return &identity.Identity{
		Account: p.account, SessionID: sessionID(m), Source: v.who.Source, Local: v.who.Local, Method: p.method,
		Key: p.key, KeyType: p.keyType, AuthInfo: p.authInfo, CA: p.ca, KeyID: p.keyID, Serial: p.serial,
		Limits: p.limits, Expires: p.expires, Target: p.name.Target, Login: p.name.Login, Client: string(m.ClientVersion()),
	}
}
