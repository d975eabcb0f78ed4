// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Texter sends text messages. A message that the credits do not pay for, or that
// the provider does not take, is a *duoapi.Error.
type Texter interface {
	// SendText sends a message; note runs in the update that pays for it.
	SendText(ctx context.Context, p store.Phone, text string, note func(store.Writer) error) error
	// SendPasscodes makes passcodes for the people of the phone, which take the
	// place of those before, and sends them; note runs in the update that keeps them.
	SendPasscodes(ctx context.Context, p store.Phone, users []store.User, note func(store.Writer) error) error
}

// Places in the messages where the links go.
const (
	ActivationMark   = "<acturl>"
	InstallationMark = "<insturl>"
)

// maxMessage is the longest template of a message, in bytes.
const maxMessage = 500

// Messages are the templates of messages to a phone; blank: the verifier's own.
type Messages struct {
	Install      bool // send the installation message first
	Installation string
	Activation   string
}

// Sent is what went to a phone.
type Sent struct {
	Activation
	ActivationText   string
	InstallationText string // blank: not sent
	InstallationURL  string
}

// InstallationURL is where a person without an authenticator begins: the page to
// which activation links lead.
func (d *Directory) InstallationURL() string {
	page := *d.Base
	page.Path = "/sallyport/activate"
	return page.String()
}

// fill puts a link into a template, which must have the place for it.
func fill(param, template, own, mark, link string) (string, error) {
	if template == "" {
		template = own
	}
	if err := text(param, template, maxMessage, true); err != nil {
		return "", err
	}
	if !strings.Contains(template, mark) {
		return "", invalid(param, "lacks "+mark)
	}
	return strings.ReplaceAll(template, mark, link), nil
}

func (d *Directory) installation(template string) (string, error) {
	return fill("installation_msg", template, "To get your authenticator ready, open "+InstallationMark, InstallationMark, d.InstallationURL())
}

func activation(template, link string) (string, error) {
	return fill("activation_msg", template, "To activate this phone as your authenticator, open "+ActivationMark, ActivationMark, link)
}

// SendActivation makes an activation code for a phone and sends its link to it.
func (d *Directory) SendActivation(ctx context.Context, a Actor, phoneID string, valid time.Duration, m Messages) (s Sent, err error) {
	if _, err := activation(m.Activation, ""); err != nil { // before a code is made
		return s, err
	}
	if m.Install {
		s.InstallationURL = d.InstallationURL()
		if s.InstallationText, err = d.installation(m.Installation); err != nil {
			return s, err
		}
	}
	p, _, err := d.textable(ctx, phoneID)
	if err != nil {
		return s, err
	}
	if s.Activation, err = d.ActivatePhone(ctx, a, phoneID, valid); err != nil {
		return s, err
	}
	if s.ActivationText, err = activation(m.Activation, s.Link); err != nil {
		return s, err
	}
	if m.Install {
		if err := d.sendText(ctx, a, p, "installation", s.InstallationText); err != nil {
			return s, err
		}
	}
	return s, d.sendText(ctx, a, p, "activation", s.ActivationText)
}

// SendInstallation sends the link of the installation page to a phone.
func (d *Directory) SendInstallation(ctx context.Context, a Actor, phoneID, template string) (message string, err error) {
	if message, err = d.installation(template); err != nil {
		return "", err
	}
	p, _, err := d.textable(ctx, phoneID)
	if err != nil {
		return "", err
	}
	return message, d.sendText(ctx, a, p, "installation", message)
}

// SendPasscodes sends a batch of passcodes to a phone, for the people who have it.
func (d *Directory) SendPasscodes(ctx context.Context, a Actor, phoneID string) error {
	p, users, err := d.textable(ctx, phoneID)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		return invalid("phone_id", "the phone belongs to no user")
	}
	return clientError(d.Texts.SendPasscodes(ctx, p, users, d.noteText(a, p, "passcodes")), "")
}

// noteText writes into the administrator log that a message was asked for.
func (d *Directory) noteText(a Actor, p store.Phone, kind string) func(store.Writer) error {
	return func(w store.Writer) error {
		return d.audit(w, a, "phone_send_sms", phoneLabel(p), map[string]any{"phone_id": p.ID, "message": kind})
	}
}

func (d *Directory) sendText(ctx context.Context, a Actor, p store.Phone, kind, message string) error {
	return clientError(d.Texts.SendText(ctx, p, message, d.noteText(a, p, kind)), "")
}

// textable is a phone that can be sent a message, and who has it.
func (d *Directory) textable(ctx context.Context, phoneID string) (p store.Phone, users []store.User, err error) {
	err = d.view(ctx, func(r store.Reader) error {
		if p, err = phoneOf(r, phoneID, false); err != nil {
			return err
		}
		users, err = r.PhoneUsers(phoneID)
		return err
	})
	switch {
	case err != nil:
		return p, nil, err
	case p.Number == "" || p.Extension != "" || p.Type == "landline":
		return p, nil, invalid("phone_id", "the phone takes no SMS: it has no number of its own, or is a landline")
	case d.Texts == nil:
		return p, nil, invalid("phone_id", "no SMS can be sent: the verifier has no telephony provider")
	}
	return p, users, nil
}
