// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"time"
)

// IntegrationType says which API an integration may call.
type IntegrationType string

// The types of integrations.
const (
	AuthAPI   IntegrationType = "authapi"
	AdminAPI  IntegrationType = "adminapi"
	DeviceAPI IntegrationType = "deviceapi"
	WebSDK    IntegrationType = "websdk"
)

// Grants of an Admin API integration, by their names on the wire.
const (
	GrantAdmins        = "adminapi_admins"
	GrantInfo          = "adminapi_info"
	GrantIntegrations  = "adminapi_integrations"
	GrantReadLog       = "adminapi_read_log"
	GrantReadResource  = "adminapi_read_resource"
	GrantSettings      = "adminapi_settings"
	GrantWriteResource = "adminapi_write_resource"
)

// NamePolicy says how an integration's user names are compared.
type NamePolicy string

// The name policies.
const (
	NameNone   NamePolicy = "None"   // as given, in lower case
	NameSimple NamePolicy = "Simple" // DOMAIN\user and user@domain become user, in lower case
)

// Integration is a caller of the APIs and what it may do.
type Integration struct {
	Key            string // DI and 18 characters
	Name           string
	Type           IntegrationType
	SecretSealed   []byte // sealed under identity "integration", Key
	AllowSHA1      bool
	AllowV1        bool
	AllowPlainPush bool     // push without digits, for clients that cannot show any
	Networks       []string // CIDR prefixes that may call; none: all
	Grants         []string
	NamePolicy     NamePolicy
	EnrollPolicy   string // enroll: an unknown or unenrolled user is told to enrol; deny; allow
	EnrollURL      string // enroll_portal_url of an enrol answer
	Greeting       string
	HostID         string // the host that this integration was made for
	Notes          string
	Created        time.Time
	OldSecret      OldSecret
	IntegrationMore
}

// Values of Integration.EnrollPolicy.
const (
	EnrollAllow = "allow"
	EnrollDeny  = "deny"
	EnrollOffer = "enroll"
)

// Host is a machine that joined.
type Host struct {
	ID             string
	Name           string
	PublicKey      string // base64 of the SubjectPublicKeyInfo
	IntegrationKey string
	Created        time.Time
	LastSeen       time.Time
	RevokedAt      time.Time // zero: not revoked
}

// JoinToken lets hosts join.
type JoinToken struct {
	ID       string
	Hash     []byte
	Name     string
	UsesLeft int
	Created  time.Time
	Expires  time.Time
}

// UserStatus is the status of a user, by its name on the wire.
type UserStatus string

// The statuses of a user.
const (
	Active    UserStatus = "active"
	Bypass    UserStatus = "bypass"
	Disabled  UserStatus = "disabled"
	LockedOut UserStatus = "locked out"
	// PendingDeletion is a user in the trash, whom no login can pass.
	PendingDeletion UserStatus = "pending deletion"
)

// Reasons of a lock-out.
const (
	LockoutFailures = "Failed Attempts"
	LockoutFraud    = "Reported Fraud"
	LockoutAdmin    = "Admin"
)

// User is a person.
type User struct {
	ID            string // DU and 18 characters
	Username      string
	Aliases       []string // by place; "": that place is free
	RealName      string
	FirstName     string
	LastName      string
	Email         string
	Notes         string
	Status        UserStatus
	LockoutReason string
	LockedAt      time.Time
	Failures      int
	NextAttempt   time.Time // no passcode counts before it; zero: at once
	Pushes        int       // prompts since PushesSince, unless the window of PushPolicy is over
	PushesSince   time.Time // zero: none since the last success
	NextPush      time.Time // no prompt is sent before it; zero: at once
	Created       time.Time
	LastLogin     time.Time
	TrashedAt     time.Time         // zero: not in the trash
	Attributes    map[string]string // what the organisation keeps of its own; nil: nothing
}

// UserFilter narrows Users; empty fields do not. Username matches name and aliases.
type UserFilter struct {
	Username string
	Email    string
	Trashed  bool // only those in the trash
}

// Phone is a telephone, an authenticator, or both. It is an authenticator while PublicKey is set.
type Phone struct {
	ID         string // DP and 18 characters
	Number     string // E.164, or empty
	Extension  string
	Name       string
	Type       string // mobile, landline, unknown, or DesktopToken
	Platform   string
	PreDelay   string // seconds before the extension is dialled, or empty
	PostDelay  string // seconds after it, or empty
	Model      string
	PublicKey  string // base64 of the SubjectPublicKeyInfo; empty: not activated
	Generation int64  // counts activations, deactivations and changes of the number
	Created    time.Time
	Activated  time.Time
	LastSeen   time.Time
	// Verification is the id of the WebAuthn credential without which it approves
	// nothing; empty: it has none.
	Verification string
}

// DesktopToken is the Type of a phone that is an authenticator on a computer and
// nothing else: the Admin API's desktop token.
const DesktopToken = "desktop"

// CanPush reports whether the phone holds a key and so can approve pushes.
func (p Phone) CanPush() bool { return p.PublicKey != "" }

// PhoneFilter narrows Phones; empty fields do not.
type PhoneFilter struct {
	Number    string
	Extension string
	Desktops  bool // desktop tokens; else all others
}

// DeviceKey is what an authenticator says of itself at activation.
type DeviceKey struct {
	PublicKey string // base64 of the SubjectPublicKeyInfo
	Name      string // empty: the phone keeps its name
	Platform  string
	Model     string
}

// Activation is a one-time code that makes a phone an authenticator.
type Activation struct {
	Hash    []byte
	UserID  string
	PhoneID string
	Created time.Time
	Expires time.Time
	UsedAt  time.Time // zero: not used
}

// TokenType is the kind of an OTP token, by its name on the wire.
type TokenType string

// The token types.
const (
	TOTP6 TokenType = "t6"
	TOTP8 TokenType = "t8"
	HOTP6 TokenType = "h6"
	HOTP8 TokenType = "h8"
	// YubiKey is a key that types Yubico's OTP. Its sealed secret is the private id
	// and then the AES key; its Counter is the last one that was used, the key's
	// usage counter shifted left by 8 bits or the session counter, 0 for none.
	YubiKey TokenType = "yk"
)

// Token is an OTP token.
type Token struct {
	ID           string // DH and 18 characters
	Type         TokenType
	Serial       string // unique within its type
	SecretSealed []byte // sealed under identity "token", ID
	Counter      int64  // HOTP: the next counter; YubiKey: the last one
	LastStep     int64  // TOTP: the last step that was used, the watermark; -1: none
	Step         int    // TOTP: seconds per step
	Drift        int64  // TOTP: how many steps the token's clock was ahead at the last success
	// ResyncNext is the counter or step of the one code that counts until ResyncUntil
	// though it is out of the way: the code before it was too, and right.
	ResyncNext  int64
	ResyncUntil time.Time
	Created     time.Time
}

// TokenFilter narrows Tokens; empty fields do not.
type TokenFilter struct {
	Type   TokenType
	Serial string
}

// Unlimited is the UsesLeft of a bypass code that does not wear out.
const Unlimited = -1

// BypassCode is a code that an administrator hands out, or a recovery code.
type BypassCode struct {
	ID       string // DB and 18 characters
	UserID   string
	Hash     []byte // keyed hash under purpose "bypass" or "recovery", UserID
	UsesLeft int    // Unlimited: no limit
	Recovery bool   // one of the set that the person made and keeps; it works once
	Created  time.Time
	Expires  time.Time // zero: never
}

// SMSCode is a code that went out by SMS. It works once.
type SMSCode struct {
	ID      string
	UserID  string
	PhoneID string
	Hash    []byte // keyed hash under purpose "sms", UserID
	Created time.Time
	Expires time.Time
	Place   int    // in its message, from 0
	Digit   string // that it begins with, as people are told; the rest is secret
}

// TxState is the state of a transaction. Offered and pending go on, the rest are ends.
type TxState string

// The states of a transaction; docs/explanation/verifier.md draws them.
const (
	TxOffered   TxState = "offered"
	TxPending   TxState = "pending"
	TxApproved  TxState = "approved"
	TxDenied    TxState = "denied"
	TxFraud     TxState = "fraud"
	TxExpired   TxState = "expired"
	TxCancelled TxState = "cancelled"
	TxFailed    TxState = "failed"
)

// Transaction is one authentication under way.
type Transaction struct {
	TxID           string
	UserID         string
	IntegrationKey string
	Factor         string // of the auth call: push, phone, sms, passcode
	PhoneID        string
	Generation     int64 // of the phone, when the transaction started
	State          TxState
	Status         string // status on the wire: pushed, calling, answered, allow, deny, …
	StatusMsg      string // message on the wire
	CodeHash       []byte // keyed hash of the digits under purpose "digits", TxID; empty: plain push
	Tries          int    // tries at the digits
	Context        []byte // JSON, as served to the authenticator and signed by it
	Event          []byte // JSON of the event that the decision completes
	Created        time.Time
	Expires        time.Time
	DecidedAt      time.Time
}

// Start is how an offered transaction becomes pending.
type Start struct {
	TxID           string
	IntegrationKey string
	UserID         string
	Factor         string
	PhoneID        string
	Generation     int64
	Status         string
	StatusMsg      string
	Context        []byte
	Event          []byte
	Expires        time.Time
	Now            time.Time
}

// Decision is how a pending transaction ends.
type Decision struct {
	TxID      string
	State     TxState
	Status    string
	StatusMsg string
	// PhoneID, if set, must be the transaction's.
	PhoneID string
	// NeedsPhone: the phone must still be the user's and of the generation that
	// the transaction started with.
	NeedsPhone bool
	// NeedsKey: the decision is by a device's key, so that the phone must be
	// activated in the generation that the transaction started with.
	NeedsKey bool
	// Verification is by which credential the person was verified. With NeedsKey, an
	// approval is good only if it is the phone's; empty: the phone must have none.
	Verification string
	Now          time.Time
}

// AttemptPolicy says when failures slow a user down, and when they lock.
type AttemptPolicy struct {
	Limit   int           // failures that lock
	LockFor time.Duration // 0: until an administrator unlocks
	// After Free failures in a row the next attempt has to wait for Delay, which
	// doubles with each further one up to MaxDelay. A Delay of 0: never.
	Free     int
	Delay    time.Duration
	MaxDelay time.Duration
	// Made: the attempt was made already, so that it counts before its time too.
	Made bool
}

// PushPolicy is how many prompts a user is sent, and how fast.
type PushPolicy struct {
	Limit  int // prompts per Window since the last success
	Window time.Duration
	// From the Free-th prompt on each next one waits: for Delay, then twice as long
	// each time, at most MaxDelay. Delay 0: none waits. All whole microseconds.
	Free     int
	Delay    time.Duration
	MaxDelay time.Duration
}

// OfflineRoot is what the offline codes of an authenticator are made from.
type OfflineRoot struct {
	PhoneID    string
	Generation int64  // of the phone, in which it is good
	Sealed     []byte // sealed under identity "offline root", PhoneID, Generation
}

// OfflineKey is a key for offline codes that a host has: which, not the key itself.
type OfflineKey struct {
	HostID     string
	UserID     string
	PhoneID    string
	Generation int64
	Edition    int64 // from 1; counts the hand-overs to a host that had lost the key
	Next       int64 // above every counter whose use was reported
	Issued     time.Time
}

// Settings hold for the whole verifier.
type Settings struct {
	LockoutThreshold      int    `json:"lockout_threshold"`       // failures in a row that lock a user
	LockoutExpireDuration int    `json:"lockout_expire_duration"` // minutes; 0: until an administrator unlocks
	AttemptDelay          int    `json:"attempt_delay"`           // seconds, the first wait after half of these failures; 0: none
	NewUserPolicy         string `json:"new_user_policy"`         // deny, or enroll where the integration says so too
	PushTimeout           int    `json:"push_timeout"`            // seconds that a push or a call can be answered
	PushBudget            int    `json:"push_budget"`             // prompts per user and hour since the last success
	PushFree              int    `json:"push_free"`               // prompts since the last success after which each next one has to wait
	PushDelay             int    `json:"push_delay"`              // seconds, the first of these waits; 0: none
	PushAlarm             int    `json:"push_alarm"`              // prompts of a user denied or unanswered in an hour that are reported; 0: none
	HelpdeskMessage       string `json:"helpdesk_message"`
	SMSBatch              int    `json:"sms_batch"`      // codes in one SMS
	SMSExpiration         int    `json:"sms_expiration"` // minutes
	SMSMessage            string `json:"sms_message"`
	CallMessage           string `json:"call_message"`
	TelephonyCallCost     int    `json:"telephony_call_cost"`     // credits of one call
	TelephonySMSCost      int    `json:"telephony_sms_cost"`      // credits of one SMS
	TelephonyWarningMin   int    `json:"telephony_warning_min"`   // credits left at which administrators are warned
	UserTelephonyCostMax  int    `json:"user_telephony_cost_max"` // credits that one call or SMS may cost
	OfflineEnabled        bool   `json:"offline_enabled"`         // hosts may get keys for offline codes
	OfflineMaxUses        int    `json:"offline_max_uses"`        // codes between two logins by way of the verifier
	OfflineMaxDays        int    `json:"offline_max_days"`        // days after the last of these
	LogRetentionDays      int    `json:"log_retention_days"`      // age at which entries of the logs are deleted; 0: never
	SettingsMore
}

// DefaultSettings are those of a store in which none were set.
func DefaultSettings() Settings {
	return Settings{
		LockoutThreshold:     10,
		AttemptDelay:         5,
		NewUserPolicy:        "enroll",
		PushTimeout:          60,
		PushBudget:           10,
		PushFree:             3,
		PushDelay:            30,
		PushAlarm:            3,
		SMSBatch:             1,
		SMSExpiration:        10,
		TelephonyCallCost:    1,
		TelephonySMSCost:     1,
		UserTelephonyCostMax: 20,
		OfflineEnabled:       true,
		OfflineMaxUses:       10,
		OfflineMaxDays:       7,
		SettingsMore:         defaultMore(),
	}
}

// Event is an entry of the authentication log, in the shape of the Admin API v2.
type Event struct {
	Time                  time.Time    `json:"-"`
	TxID                  string       `json:"txid"`
	Timestamp             int64        `json:"timestamp"` // Unix seconds
	ISOTimestamp          string       `json:"isotimestamp"`
	EventType             string       `json:"event_type"`
	Factor                string       `json:"factor"`
	Result                string       `json:"result"`
	Reason                string       `json:"reason"`
	User                  EventUser    `json:"user"`
	Alias                 string       `json:"alias"`
	Email                 string       `json:"email"`
	Application           EventApp     `json:"application"`
	AccessDevice          AccessDevice `json:"access_device"`
	AuthDevice            AuthDevice   `json:"auth_device"`
	OODSoftware           string       `json:"ood_software"`
	TrustedEndpointStatus string       `json:"trusted_endpoint_status"`
	PlainPush             bool         `json:"plain_push,omitempty"` // approved or asked without digits
	Detail                string       `json:"detail,omitempty"`
	// HostReport is set if a host decided, and reported it later.
	HostReport *HostReport `json:"host_report,omitempty"`
}

// HostReport says where an event comes from that a host has reported.
type HostReport struct {
	HostID   string `json:"host_id"`
	Epoch    string `json:"epoch"` // of the host's log
	Seq      int64  `json:"seq"`
	Reported int64  `json:"reported"` // Unix seconds, by the verifier's clock
	Claimed  int64  `json:"claimed"`  // Unix seconds, by the host's clock
	ID       string `json:"id"`       // of the lines in the host's own log
	Hook     string `json:"hook"`
	Service  string `json:"service"`
	User     string `json:"user"` // on the host
	Target   string `json:"target,omitempty"`
	Result   string `json:"result"`
	Setting  string `json:"setting,omitempty"`
	Rule     string `json:"rule,omitempty"`
	TTY      string `json:"tty,omitempty"`
	Number   *int64 `json:"number,omitempty"` // of the offline code
}

// EventUser is who an event is about. Key is empty for a name that no user has.
type EventUser struct {
	Key    string   `json:"key"`
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

// EventApp is the integration that asked.
type EventApp struct {
	Key  string `json:"key"`
	Name string `json:"name"`
}

// Location is a place; always empty while nothing resolves addresses.
type Location struct {
	City    string `json:"city"`
	State   string `json:"state"`
	Country string `json:"country"`
}

// AccessDevice is what the person logs in from.
type AccessDevice struct {
	IP       string   `json:"ip"`
	Hostname string   `json:"hostname"`
	Location Location `json:"location"`
}

// AuthDevice is what the person answered with.
type AuthDevice struct {
	Key      string   `json:"key,omitempty"`
	IP       string   `json:"ip"`
	Name     string   `json:"name"`
	Location Location `json:"location"`
}

// AdminEvent is an entry of the administrator log.
type AdminEvent struct {
	ID          string          `json:"-"` // the store makes it
	Time        time.Time       `json:"-"`
	Username    string          `json:"username"` // who: name of the integration, or "API"
	Action      string          `json:"action"`
	Object      string          `json:"object"`
	Description json.RawMessage `json:"description"`
}
