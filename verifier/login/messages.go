// SPDX-License-Identifier: Apache-2.0

package login

import (
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
)

// What people read. Where clients look for a usual text, it is that text.
const (
	msgActive        = "Account is active"
	msgAllow         = "Success. Logging you in..."
	msgDenied        = "Login request denied."
	msgTimeout       = "Login timed out."
	msgIncorrect     = "Incorrect passcode. Please try again."
	msgCancelled     = "Login request was called off."
	msgPushed        = "Pushed a login request to your device..."
	msgCalling       = "Dialing your phone..."
	msgAnswered      = "Answered. Press the key that was named to log in."
	msgNoKey         = "No keypress detected. Please try again."
	msgNoAnswer      = "Nobody answered the phone. Please try again."
	msgCallFailed    = "The phone call could not be made. Please try another way."
	msgSending       = "Sending passcodes to your phone..."
	msgSent          = "New SMS passcodes sent."
	msgSMSFailed     = "The text message could not be sent. Please try another way."
	msgFraud         = "Login request reported as fraudulent. The account is locked."
	msgWrongDigits   = "Login request denied: the verification code was wrong too often."
	msgDisabled      = "Your account is disabled."
	msgLockedOut     = "Your account is locked out."
	msgTooSoon       = "Too many wrong passcodes. Try again in %s, or choose another way."
	msgUnenrolled    = "Access denied: no second factor is enrolled for this name. Please ask your administrator."
	msgEnroll        = "Enroll a second factor to go on."
	msgChanged       = "Your account was changed in the meantime. Please try again."
	msgTooMany       = "Too many login requests without a success. Type a passcode, or try again in %s."
	msgPushFailed    = "The login request could not be sent to your device. Open Sallyport on it and try again, or choose another way."
	msgNoDevice      = "No device of yours can do this. Type a passcode, or choose another way."
	msgNoPlainPush   = "Push needs a verification code, which this application cannot show. Type a passcode, or choose another way."
	msgOfferGone     = "The verification code is no longer valid. Please start again."
	msgTelephonyOff  = "Phone calls and SMS are switched off. Type a passcode, or choose another way."
	msgNoCredits     = "Phone calls and SMS are not available now. Type a passcode, or choose another way."
	msgNothingUsable = "None of your devices can be used here. Type a passcode."
)

// Those whom nobody asks for a factor, and those whom policy refuses, read in one
// line which it was. It names no policy, group or network.
const (
	msgBypassUser    = "Success. No second factor: your account is in bypass status."
	msgBypassGroup   = "Success. No second factor: your group is in bypass status."
	msgPolicyAllows  = "Success. No second factor: policy asks for none here."
	msgNetworkAllows = "Success. No second factor: policy asks for none from this network."
	msgNewAllowed    = "Success. No second factor: none is enrolled for this name, and policy asks for none."

	msgGroupDisabled   = "Access denied: your group is disabled."
	msgNotPermitted    = "Access denied: this application is not for this account."
	msgPolicyDenies    = "Access denied: policy lets nobody in here."
	msgNetworkDenies   = "Access denied: policy lets nobody in from this network."
	msgEndpointDenied  = "Access denied: this device is not managed."
	msgEndpointUnknown = "Access denied: it is not known whether this device is managed."

	msgRestricted     = "Policy does not allow this way of logging in here. Please choose another."
	msgRestrictedCode = "Policy does not allow this kind of passcode here. Please choose another way."
)

// messageOf is what a person reads of an evaluation that asks for no factor.
func messageOf(o policy.Outcome) string {
	if o.Because == "group" {
		return map[string]string{audit.BypassUser: msgBypassGroup, audit.UserDisabled: msgGroupDisabled}[o.Reason]
	}
	if o.Effect == policy.Enroll {
		return msgEnroll
	}
	if text := outcomeMessages[o.Reason]; text != "" {
		return text
	}
	return msgChanged
}

var outcomeMessages = map[string]string{
	audit.BypassUser: msgBypassUser, audit.AllowedByPolicy: msgPolicyAllows, audit.TrustedNetwork: msgNetworkAllows,
	audit.AllowUnenrolledUserTrusted: msgNetworkAllows, audit.AllowUnenrolledUser: msgNewAllowed,

	audit.UserDisabled: msgDisabled, audit.LockedOut: msgLockedOut, audit.NotInGroup: msgNotPermitted,
	audit.DeniedByPolicy: msgPolicyDenies, audit.DeniedNetwork: msgNetworkDenies, audit.EndpointNotTrusted: msgEndpointDenied,
	audit.EndpointUnknown: msgEndpointUnknown, audit.DenyUnenrolledUser: msgUnenrolled,
}
