// SPDX-License-Identifier: Apache-2.0

// Package duoapi holds what both ends of the Duo wire protocols speak: the
// envelope, the error codes, the objects of the Auth API, and a client that
// signs. It holds no rule of who may do what.
package duoapi

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Envelope is the shape of every JSON answer.
type Envelope struct {
	Stat     string          `json:"stat"` // OK or FAIL
	Response json.RawMessage `json:"response,omitempty"`
	Metadata *Metadata       `json:"metadata,omitempty"`

	Code          int    `json:"code,omitempty"`
	Message       string `json:"message,omitempty"`
	MessageDetail string `json:"message_detail,omitempty"`
}

// Metadata stands beside a page of a list. NextOffset is absent on the last page.
type Metadata struct {
	NextOffset   *int `json:"next_offset,omitempty"`
	PrevOffset   *int `json:"prev_offset,omitempty"`
	TotalObjects int  `json:"total_objects"`
}

// Stable error codes: the first three digits are the HTTP status.
const (
	CodeMissingParameter   = 40001
	CodeInvalidParameter   = 40002
	CodeConflict           = 40003 // an object of that name exists already
	CodeContentType        = 40004
	CodeCannotDecide       = 40090 // the verifier's own fault; never 5xx, which opens doors with other clients
	CodeNotSent            = 40091 // the telephony provider did not take a message
	CodeMissingCredentials = 40101
	CodeInvalidKey         = 40102
	CodeInvalidSignature   = 40103
	CodeMissingDate        = 40104
	CodeBadDate            = 40105
	CodeInvalidProof       = 40107 // key proof of a host or an authenticator
	CodeForbidden          = 40301
	CodeNetwork            = 40302 // the integration does not accept this address
	CodeGrant              = 40303 // the integration lacks the grant for this
	CodeProofElsewhere     = 40304 // the key is right, and its proof is for another request or another address
	CodeReplay             = 40305 // a write that was let through before
	CodeJoinUnknown        = 40310
	CodeJoinUsed           = 40311
	CodeJoinExpired        = 40312
	CodeJoinKeyID          = 40313
	CodeJoinKeyKnown       = 40314
	CodeJoinName           = 40315 // the token is for a host of another name
	CodeActivateUnknown    = 40320
	CodeActivateUsed       = 40321
	CodeActivateExpired    = 40322
	CodeActivateKeyID      = 40323
	CodeTxUnknown          = 40330
	CodeTxAnswered         = 40331
	CodeTxExpired          = 40332
	CodeTxCanceled         = 40333
	CodeTxDigits           = 40334
	CodeTxAnswer           = 40335 // the answer does not fit for a reason without a code of its own
	CodeTxDigitsMissing    = 40336
	CodeVerificationNone   = 40337 // an operation that needs user verification came without
	CodeVerificationWrong  = 40338 // the WebAuthn assertion or credential does not fit
	CodeVerificationOff    = 40339 // not to be had at this verifier, or not in this state
	CodeSessionRefused     = 40340
	CodeOfflineOff         = 40350
	CodeOfflineLogin       = 40351 // no fresh login of this host by a real factor
	CodeAnswerSignature    = 40360 // not signed by the key of the authenticator
	CodeAnswerTransaction  = 40361
	CodeAnswerContext      = 40362
	CodeAnswerAudience     = 40363
	CodeAnswerTime         = 40364
	CodeDeviceUnknown      = 40365 // no authenticator of that id that this one may change
	CodePushOff            = 40370
	CodePushEndpoint       = 40371 // an address to which the verifier does not post
	CodePushKeys           = 40372
	CodePushUnsubscribed   = 40373
	CodePushTooOften       = 40374
	CodeMailOff            = 40375
	CodeMayNotEnroll       = 40376 // the user is disabled, locked out or in the trash
	CodeNotFound           = 40401
	CodeMethodNotAllowed   = 40501
	CodeCacheExists        = 40901 // a device cache in that place
	CodeCacheActive        = 40902
	CodeTooLarge           = 41301
	CodeTooManyRequests    = 42901
	CodeServerError        = 50000
)

var messages = map[int]string{
	CodeMissingParameter:   "Missing required request parameters",
	CodeInvalidParameter:   "Invalid request parameters",
	CodeConflict:           "Object already exists",
	CodeContentType:        "Unsupported content type",
	CodeCannotDecide:       "The verifier cannot decide at the moment",
	CodeNotSent:            "Message was not sent",
	CodeMissingCredentials: "Missing request credentials",
	CodeInvalidKey:         "Invalid integration key in request credentials",
	CodeInvalidSignature:   "Invalid signature in request credentials",
	CodeMissingDate:        "Missing request timestamp",
	CodeBadDate:            "Bad request timestamp",
	CodeInvalidProof:       "Invalid key proof in request credentials",
	CodeForbidden:          "Access forbidden",
	CodeNetwork:            "Access forbidden from this network address",
	CodeGrant:              "Access forbidden without the grant",
	CodeProofElsewhere:     "Key proof is for another request",
	CodeReplay:             "Request was received before",
	CodeJoinUnknown:        "Join token is not known",
	CodeJoinUsed:           "Join token was used before",
	CodeJoinExpired:        "Join token has expired",
	CodeJoinKeyID:          "Host id does not derive from the key",
	CodeJoinKeyKnown:       "Host key has joined before",
	CodeJoinName:           "Join token is for a host of another name",
	CodeActivateUnknown:    "Activation code is not known",
	CodeActivateUsed:       "Activation code was used before",
	CodeActivateExpired:    "Activation code has expired",
	CodeActivateKeyID:      "Key id does not derive from the key",
	CodeTxUnknown:          "No such login request",
	CodeTxAnswered:         "Login request was answered before",
	CodeTxExpired:          "Login request has expired",
	CodeTxCanceled:         "Login request was called off",
	CodeTxDigits:           "Verification code is wrong",
	CodeTxAnswer:           "Answer does not fit the login request",
	CodeTxDigitsMissing:    "Verification code is missing",
	CodeVerificationNone:   "User verification is missing",
	CodeVerificationWrong:  "User verification does not fit",
	CodeVerificationOff:    "User verification is not available",
	CodeSessionRefused:     "Login is not remembered",
	CodeOfflineOff:         "Offline codes are switched off",
	CodeOfflineLogin:       "No fresh login of this host",
	CodeAnswerSignature:    "Answer is not signed by this authenticator",
	CodeAnswerTransaction:  "Answer is for another login request",
	CodeAnswerContext:      "Answer is for another context",
	CodeAnswerAudience:     "Answer is for another verifier",
	CodeAnswerTime:         "Answer was signed at another time",
	CodeDeviceUnknown:      "No such authenticator",
	CodePushOff:            "Web Push is switched off",
	CodeMailOff:            "Mail is not set up",
	CodeMayNotEnroll:       "User cannot enrol",
	CodePushEndpoint:       "Push service is not allowed",
	CodePushKeys:           "Keys of the push subscription are not valid",
	CodePushUnsubscribed:   "Authenticator has no push subscription",
	CodePushTooOften:       "Too many test messages",
	CodeNotFound:           "Resource not found",
	CodeMethodNotAllowed:   "Method not allowed",
	CodeCacheExists:        "Device cache already exists",
	CodeCacheActive:        "Device cache is active",
	CodeTooLarge:           "Request body too large",
	CodeTooManyRequests:    "Too many requests",
	CodeServerError:        "Server error",
}

// Codes lists every error code with its message.
func Codes() map[int]string {
	out := make(map[int]string, len(messages))
	for code, message := range messages {
		out[code] = message
	}
	return out
}

// Error is a FAIL answer. Message and Detail are safe for a stranger to read.
type Error struct {
	Code       int
	Message    string
	Detail     string
	RetryAfter int // seconds that the server asks to wait, at most a day; 0: it named none
}

// NewError makes the error of a code; detail may be empty.
func NewError(code int, detail string) *Error {
	return &Error{Code: code, Message: messages[code], Detail: detail}
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("%d %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%d %s (%s)", e.Code, e.Message, e.Detail)
}

// Status is the HTTP status of the code.
func (e *Error) Status() int {
	if status := e.Code / 100; status >= 400 && status <= 599 {
		return status
	}
	return http.StatusInternalServerError
}

// Results of preauth, auth and auth_status.
const (
	ResultAuth    = "auth"
	ResultAllow   = "allow"
	ResultDeny    = "deny"
	ResultEnroll  = "enroll"
	ResultWaiting = "waiting"
)

// Factors of the auth call.
const (
	FactorAuto     = "auto"
	FactorPush     = "push"
	FactorPasscode = "passcode"
	FactorSMS      = "sms"
	FactorPhone    = "phone"
	FactorPrompt   = "prompt" // text-prompt extension of duo_unix >= 2.2
)

// Capabilities of a device.
const (
	CapabilityAuto      = "auto"
	CapabilityPush      = "push"
	CapabilitySMS       = "sms"
	CapabilityPhone     = "phone"
	CapabilityMobileOTP = "mobile_otp"
)

// Device is one way to reach a person, in the answer of preauth.
type Device struct {
	Device       string   `json:"device"`
	Type         string   `json:"type"` // phone or token
	DisplayName  string   `json:"display_name"`
	Name         string   `json:"name"`
	Number       string   `json:"number,omitempty"` // masked
	Capabilities []string `json:"capabilities,omitempty"`
	SMSNextCode  string   `json:"sms_nextcode,omitempty"`
}

// Prompt is the menu that a text client shows: Factors maps what is typed
// ("default", "1", "2", …) to the factor token to send back.
type Prompt struct {
	Text    string            `json:"text"`
	Factors map[string]string `json:"factors"`
}

// RememberedDevices says that a login may be remembered. Part of the Sallyport
// API; absent where it may not be, and at other servers.
type RememberedDevices struct {
	MaxSeconds int  `json:"max_seconds"`
	UserChoice bool `json:"user_choice"` // ask the person; else do it
}

// Preauth is the answer of POST /auth/v2/preauth.
type Preauth struct {
	Result           string   `json:"result"`
	StatusMsg        string   `json:"status_msg"`
	Devices          []Device `json:"devices,omitempty"`
	EnrollPortalURL  string   `json:"enroll_portal_url,omitempty"`
	Prompt           *Prompt  `json:"prompt,omitempty"`
	TxID             string   `json:"txid,omitempty"`
	VerificationCode string   `json:"verification_code,omitempty"`
	Expiration       int64    `json:"expiration,omitempty"` // seconds that the code lives

	RememberedDevices *RememberedDevices `json:"remembered_devices,omitempty"`
}

// Auth is the answer of POST /auth/v2/auth (sync, or TxID alone when async)
// and of GET /auth/v2/auth_status.
type Auth struct {
	Result             string `json:"result,omitempty"`
	Status             string `json:"status,omitempty"`
	StatusMsg          string `json:"status_msg,omitempty"`
	TrustedDeviceToken string `json:"trusted_device_token,omitempty"`
	TxID               string `json:"txid,omitempty"`
}

// Enroll is the answer of POST /auth/v2/enroll.
type Enroll struct {
	UserID            string   `json:"user_id"`
	Username          string   `json:"username"`
	ActivationBarcode string   `json:"activation_barcode"`
	ActivationCode    string   `json:"activation_code"`
	ActivationURL     string   `json:"activation_url"`
	Expiration        int64    `json:"expiration"` // Unix seconds
	BypassCodes       []string `json:"bypass_codes,omitempty"`
}
