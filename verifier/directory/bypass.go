// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxBypassCodes is how many bypass codes are made at once.
const MaxBypassCodes = 10

// maxBypassDigits is the length of the longest bypass code that may be given. None
// is as short as a passcode of a token, so that one guess is never tried against both.
const maxBypassDigits = 16

// BypassRequest asks for bypass codes.
type BypassRequest struct {
	Count        int           // used if Codes is empty
	Codes        []string      // given codes
	Valid        time.Duration // 0: for ever
	Uses         int           // of each code; 0: any number
	KeepExisting bool          // else the user's earlier codes are void
}

// AddBypassCodes makes bypass codes for a user and returns them, this once.
func (d *Directory) AddBypassCodes(ctx context.Context, a Actor, userID string, q BypassRequest) (codes []string, err error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	err = d.update(ctx, "codes: the user has one of these codes", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		codes, err = d.addBypassCodes(w, a, u, q)
		return err
	})
	return codes, err
}

func (q BypassRequest) check() error {
	for i, code := range q.Codes {
		if len(code) < factor.BypassDigits || len(code) > maxBypassDigits || strings.Trim(code, digits) != "" {
			return invalid("codes", fmt.Sprintf("a bypass code has %d to %d digits", factor.BypassDigits, maxBypassDigits))
		}
		if slices.Contains(q.Codes[:i], code) {
			return invalid("codes", "one code is given twice")
		}
	}
	if len(q.Codes) > MaxBypassCodes {
		return invalid("codes", fmt.Sprintf("more than %d", MaxBypassCodes))
	}
	return nil
}

func (d *Directory) addBypassCodes(w store.Writer, a Actor, u store.User, q BypassRequest) ([]string, error) {
	codes := q.Codes
	for len(q.Codes) == 0 && len(codes) < q.Count {
		code, err := factor.NewBypassCode(d.Random)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	if !q.KeepExisting {
		if err := w.DeleteBypassCodes(u.ID, false); err != nil {
			return nil, fmt.Errorf("delete bypass codes: %w", err)
		}
	}
	uses := q.Uses
	if uses == 0 {
		uses = store.Unlimited
	}
	now := d.Now()
	var expires time.Time
	if q.Valid > 0 {
		expires = now.Add(q.Valid)
	}
	for _, code := range codes {
		id, err := d.newID(bypassPrefix)
		if err != nil {
			return nil, err
		}
		err = w.AddBypassCode(store.BypassCode{
			ID: id, UserID: u.ID, Hash: factor.HashBypass(d.Keys, u.ID, code), UsesLeft: uses, Created: now, Expires: expires,
		})
		if err != nil {
			return nil, fmt.Errorf("add bypass code: %w", err)
		}
	}
	return codes, d.audit(w, a, "bypass_create", u.Username, map[string]any{
		"user_id": u.ID, "count": len(codes), "valid_secs": int(q.Valid.Seconds()), "reuse_count": q.Uses, "preserve_existing": q.KeepExisting,
	})
}

// DeleteBypassCode voids a bypass code.
func (d *Directory) DeleteBypassCode(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		code, err := w.BypassCode(id)
		if err != nil {
			return err
		}
		u, err := w.User(code.UserID)
		if err != nil {
			return err
		}
		if err := w.DeleteBypassCode(id); err != nil {
			return fmt.Errorf("delete bypass code: %w", err)
		}
		return d.audit(w, a, "bypass_delete", u.Username, map[string]any{"user_id": u.ID, "bypass_code_id": id})
	})
}
