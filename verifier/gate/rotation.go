// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// verifyOld tries the secret before the last rotation, which is good until its
// overlap ends. The log names who still uses it, and who does too late, each at
// most every few minutes.
func (g *Gate) verifyOld(signed signature.Request, cred signature.Credentials, i store.Integration, allowV1 bool) (signature.Scheme, error) {
	now, secret := g.now(), g.secrets.old(i)
	if len(secret) == 0 { // anyone could sign with a secret that is empty
		return signature.Scheme{}, signature.ErrBadSignature
	}
	scheme, err := signature.Verify(signed, cred, secret, signed.Candidates(i.AllowSHA1, allowV1), now)
	if err != nil {
		return scheme, err
	}
	good := i.OldSecret.Good(now)
	if g.oldUses.due(fmt.Sprint(i.Key, good), now) {
		if good {
			g.log.Warn("an integration signs with the secret from before its last rotation; give its client the new one",
				"integration", i.Key, "name", i.Name, "good_until", i.OldSecret.Until)
		} else {
			g.log.Warn("refused an integration that signs with the secret from before its last rotation",
				"integration", i.Key, "name", i.Name, "good_until", i.OldSecret.Until)
		}
	}
	if !good {
		return scheme, fmt.Errorf("%w: by a secret whose overlap has ended", signature.ErrBadSignature)
	}
	return scheme, nil
}
