// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/credits"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// SendText sends an administrator's message to a phone; note runs in the update
// that pays for it.
func (s *Service) SendText(ctx context.Context, p store.Phone, text string, note func(store.Writer) error) error {
	set, err := s.settings(ctx)
	if err != nil {
		return err
	}
	return s.text(ctx, set, p, store.ContextEnrollment, text, note)
}

// SendPasscodes sends a batch of passcodes to a phone because an administrator
// asked. Whoever has the phone can use each of them once; note runs in the update
// that keeps them.
func (s *Service) SendPasscodes(ctx context.Context, p store.Phone, users []store.User, note func(store.Writer) error) error {
	set, err := s.settings(ctx)
	if err != nil {
		return err
	}
	var plain []string
	for range min(max(set.SMSBatch, 1), 10) {
		code, err := factor.NewSMSCode(s.Random)
		if err != nil {
			return err
		}
		plain = append(plain, code)
	}
	kept := map[string][]store.SMSCode{}
	for _, u := range users {
		if kept[u.ID], err = s.keepable(set, u.ID, p.ID, plain); err != nil {
			return err
		}
	}
	return s.text(ctx, set, p, store.ContextAuthentication, smsText(set, plain), func(w store.Writer) error {
		for _, u := range users {
			if err := w.ReplaceSMSCodes(u.ID, p.ID, kept[u.ID]); err != nil {
				return err
			}
		}
		return note(w)
	})
}

// keepable is the stored form of passcodes for one of the people of a phone.
func (s *Service) keepable(set store.Settings, userID, phoneID string, plain []string) ([]store.SMSCode, error) {
	now := s.Now()
	out := make([]store.SMSCode, 0, len(plain))
	for _, code := range plain {
		id, err := s.newTxID()
		if err != nil {
			return nil, err
		}
		out = append(out, store.SMSCode{
			ID: id, UserID: userID, PhoneID: phoneID, Hash: factor.HashSMS(s.Keys, userID, code), Created: now,
			Expires: now.Add(time.Duration(max(set.SMSExpiration, 1)) * time.Minute),
		})
	}
	return out, nil
}

func (s *Service) settings(ctx context.Context) (set store.Settings, err error) {
	if s.Telephony == nil {
		return set, duoapi.NewError(duoapi.CodeInvalidParameter, "phone_id: no SMS can be sent: the verifier has no telephony provider")
	}
	err = s.Store.View(ctx, func(r store.Reader) (err error) {
		set, err = r.Settings()
		return err
	})
	if err != nil {
		return set, fmt.Errorf("send an SMS: %w", err)
	}
	return set, nil
}

// text pays for a message, with change in the same update, and then sends it.
// What the provider refuses is paid back.
func (s *Service) text(ctx context.Context, set store.Settings, p store.Phone, why, text string, change func(store.Writer) error) error {
	id, err := s.newTxID()
	if err != nil {
		return err
	}
	var alert credits.Alert
	err = s.Store.Update(ctx, func(w store.Writer) (err error) {
		var paid bool
		paid, alert, err = credits.Spend(w, set, store.TelephonyEntry{
			ID: id, Time: s.Now(), Context: why, Type: store.TelephonySMS, Phone: p.Number,
		})
		if err != nil {
			return err
		}
		if !paid {
			return duoapi.NewError(duoapi.CodeNotSent, "the telephony credits do not pay for it")
		}
		return change(w)
	})
	if err != nil {
		return fmt.Errorf("send an SMS: %w", err)
	}
	alert.Log(s.Log)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), telephonyTime)
	defer cancel()
	err = s.Telephony.SMS(ctx, SMS{ID: "sms_" + id, Number: p.Number, Text: text})
	if err == nil {
		return nil
	}
	s.Log.Error("telephony request failed", "id", id, "error", err)
	if errors.Is(err, ErrRefused) {
		err = errors.Join(err, s.Store.Update(ctx, func(w store.Writer) error {
			_, err := w.RefundEntry(id)
			return err
		}))
	}
	return fmt.Errorf("%w (%w)", duoapi.NewError(duoapi.CodeNotSent, "the telephony provider did not take the SMS"), err)
}
