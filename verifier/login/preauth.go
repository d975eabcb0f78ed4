// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Preauth implements API.
func (s *Service) Preauth(ctx context.Context, c Client, r PreauthRequest) (duoapi.Preauth, error) {
	var p person
	err := s.Store.View(ctx, func(rd store.Reader) (err error) {
		if p, err = s.lookUp(rd, c, r.Username, r.UserID, origin{ip: r.IPAddr, device: r.DeviceID}); err != nil || !r.Passport {
			return err
		}
		p.remember, err = rd.RememberedDevices()
		return err
	})
	if err != nil {
		return duoapi.Preauth{}, fmt.Errorf("preauth: %w", err)
	}
	if v, decided := s.standing(p); decided {
		return s.refuseOrAllow(ctx, p, r, v)
	}
	push := p.mayPush(r.VerifiedPush)
	out := duoapi.Preauth{Result: duoapi.ResultAuth, StatusMsg: msgActive, Devices: s.devices(p, push)}
	if push && r.VerifiedPush && canPush(p.phones) {
		if err := s.offer(ctx, p, &out); err != nil {
			return duoapi.Preauth{}, err
		}
	}
	if r.TextPrompt {
		out.Prompt = s.menu(p, out)
	}
	// Only a host with a key of its own can have a session made.
	if p.remember.Enabled && c.Integration.HostID != "" && p.outcome.Rules.RememberHosts {
		out.RememberedDevices = &duoapi.RememberedDevices{MaxSeconds: p.remember.MaxSeconds, UserChoice: p.remember.UserChoice}
	}
	return out, nil
}

// refuseOrAllow answers a preauth that was decided without a factor.
func (s *Service) refuseOrAllow(ctx context.Context, p person, r PreauthRequest, v verdict) (duoapi.Preauth, error) {
	txID, err := s.newTxID()
	if err != nil {
		return duoapi.Preauth{}, err
	}
	e := event(txID, p, r.IPAddr, r.Hostname)
	e.Factor = unaskedFactor(v.reason)
	v, err = s.settle(ctx, p, e, v, false)
	if err != nil {
		return duoapi.Preauth{}, fmt.Errorf("preauth: %w", err)
	}
	out := duoapi.Preauth{Result: v.result, StatusMsg: v.message}
	if v.result == duoapi.ResultEnroll {
		out.EnrollPortalURL = p.client.Integration.EnrollURL
		if r.TextPrompt {
			text := v.message
			if out.EnrollPortalURL != "" {
				text += "\n" + out.EnrollPortalURL
			}
			out.Prompt = &duoapi.Prompt{Text: text, Factors: map[string]string{}}
		}
	}
	return out, nil
}

func canPush(phones []store.Phone) bool {
	for _, p := range phones {
		if (factor.Push{}).Offers(p) {
			return true
		}
	}
	return false
}

// capabilities says what a phone can be used for. auto is there when one of
// the ways in which the person only has to answer is.
func (s *Service) capabilities(who person, p store.Phone, push bool) []string {
	var out []string
	if push && (factor.Push{}).Offers(p) {
		out = append(out, duoapi.CapabilityPush)
	}
	if s.offers(who, duoapi.FactorPhone) && (factor.Phone{}).Offers(p) {
		out = append(out, duoapi.CapabilityPhone)
	}
	if len(out) > 0 {
		out = append([]string{duoapi.CapabilityAuto}, out...)
	}
	if s.offers(who, duoapi.FactorSMS) && (factor.SMS{}).Offers(p) {
		out = append(out, duoapi.CapabilitySMS)
	}
	return out
}

func (s *Service) devices(p person, push bool) []duoapi.Device {
	var out []duoapi.Device
	for _, phone := range p.phones {
		can := s.capabilities(p, phone, push)
		if len(can) == 0 {
			continue
		}
		out = append(out, duoapi.Device{
			Device: phone.ID, Type: "phone", DisplayName: displayName(phone), Name: audit.Printable(phone.Name),
			Number: factor.Mask(phone.Number), Capabilities: can,
			SMSNextCode: p.nextSMS[phone.ID],
		})
	}
	if !p.outcome.Rules.Allows(policy.MethodToken) {
		return out
	}
	for _, t := range p.tokens {
		serial := audit.Printable(t.Serial)
		out = append(out, duoapi.Device{Device: t.ID, Type: "token", DisplayName: "Token (" + serial + ")", Name: serial})
	}
	return out
}

// displayName is how a person knows the phone: its name or platform, and the masked number.
func displayName(p store.Phone) string {
	name := p.Name
	if name == "" {
		name = p.Platform
	}
	if name == "" {
		name = "Phone"
	}
	if number := factor.Mask(p.Number); number != "" {
		name += " (" + number + ")"
	}
	return audit.Printable(name)
}

// offer makes the digits of a verified push and keeps their hash.
func (s *Service) offer(ctx context.Context, p person, out *duoapi.Preauth) error {
	txID, err := s.newTxID()
	if err != nil {
		return err
	}
	digits, err := factor.NewPushDigits(s.Random, p.outcome.Rules.PushDigits)
	if err != nil {
		return err
	}
	now := s.Now()
	tx := store.Transaction{
		TxID: txID, UserID: p.user.ID, IntegrationKey: p.client.Integration.Key, State: store.TxOffered,
		CodeHash: factor.HashPush(s.Keys, txID, digits), Created: now, Expires: now.Add(offerTime),
	}
	if err := s.Store.Update(ctx, func(w store.Writer) error { return w.AddTransaction(tx) }); err != nil {
		return fmt.Errorf("offer a push: %w", err)
	}
	out.TxID, out.VerificationCode, out.Expiration = txID, digits, int64(p.approvalTime().Seconds())
	return nil
}

// menu is the text prompt for the devices of out. The factor tokens name the
// kind and the position of the device among the person's phones.
func (s *Service) menu(p person, out duoapi.Preauth) *duoapi.Prompt {
	type option struct{ token, text string }
	var options []option
	position := map[string]int{}
	for i, phone := range p.phones {
		position[phone.ID] = i + 1
	}
	for _, way := range []struct{ capability, text string }{
		{duoapi.CapabilityPush, "Push to "}, {duoapi.CapabilityPhone, "Phone call to "}, {duoapi.CapabilitySMS, "SMS passcodes to "},
	} {
		for _, d := range out.Devices {
			for _, c := range d.Capabilities {
				if c != way.capability {
					continue
				}
				text := way.text + d.DisplayName
				if c == duoapi.CapabilitySMS && d.SMSNextCode != "" {
					text += " (next code starts with: " + d.SMSNextCode + ")"
				}
				options = append(options, option{c + strconv.Itoa(position[d.Device]), text})
			}
		}
	}
	name := p.user.Username
	if p.name != "" {
		name = p.name
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Sallyport login for %s\n\n", audit.Printable(name))
	factors := map[string]string{}
	if len(options) == 0 {
		b.WriteString("Enter a passcode.\n\nPasscode: ")
		return &duoapi.Prompt{Text: b.String(), Factors: factors}
	}
	b.WriteString("Enter a passcode or select one of the following options:\n\n")
	for i, o := range options {
		fmt.Fprintf(&b, " %d. %s\n", i+1, o.text)
		factors[strconv.Itoa(i+1)] = o.token
	}
	factors["default"] = options[0].token
	if out.VerificationCode != "" {
		fmt.Fprintf(&b, "\nVerification code for a push: %s\n", out.VerificationCode)
	}
	fmt.Fprintf(&b, "\nPasscode or option (1-%d): ", len(options))
	return &duoapi.Prompt{Text: b.String(), Factors: factors}
}
