// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
)

func (a *API) textRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /admin/v1/phones/{phone_id}/send_sms_activation":   a.sendActivation,
		"POST /admin/v1/phones/{phone_id}/send_sms_installation": a.sendInstallation,
		"POST /admin/v1/phones/{phone_id}/send_sms_passcodes":    a.sendPasscodes,
	}
}

func activationAnswer(act directory.Activation, valid time.Duration) map[string]any {
	return map[string]any{
		"activation_url": act.Link, "activation_barcode": act.Barcode, "activation_code": act.Code,
		"valid_secs": int(valid.Seconds()), "expiration": act.Expires.Unix(),
	}
}

func (a *API) activatePhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	valid, err := activationSecs(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	install, err := r.Params.Bool("install", false)
	if err != nil {
		return gate.Answer{}, err
	}
	act, err := a.Directory.ActivatePhone(ctx, actor(r), r.Path("phone_id"), valid)
	if err != nil {
		return gate.Answer{}, err
	}
	out := activationAnswer(act, valid)
	if install {
		out["installation_url"] = a.Directory.InstallationURL()
	}
	return gate.Answer{Response: out}, nil
}

func (a *API) sendActivation(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	valid, err := activationSecs(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var m directory.Messages
	if m.Install, err = r.Params.Bool("install", false); err != nil {
		return gate.Answer{}, err
	}
	if m.Installation, err = r.Params.String("installation_msg", maxText); err != nil {
		return gate.Answer{}, err
	}
	if m.Activation, err = r.Params.String("activation_msg", maxText); err != nil {
		return gate.Answer{}, err
	}
	sent, err := a.Directory.SendActivation(ctx, actor(r), r.Path("phone_id"), valid, m)
	if err != nil {
		return gate.Answer{}, err
	}
	out := activationAnswer(sent.Activation, valid)
	out["activation_msg"] = sent.ActivationText
	if m.Install {
		out["installation_msg"], out["installation_url"] = sent.InstallationText, sent.InstallationURL
	}
	return gate.Answer{Response: out}, nil
}

func (a *API) sendInstallation(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	template, err := r.Params.String("installation_msg", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	message, err := a.Directory.SendInstallation(ctx, actor(r), r.Path("phone_id"), template)
	return gate.Answer{Response: map[string]any{"installation_msg": message}}, err
}

func (a *API) sendPasscodes(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.SendPasscodes(ctx, actor(r), r.Path("phone_id"))
}
