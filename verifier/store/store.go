// SPDX-License-Identifier: Apache-2.0

// Package store says what the verifier keeps and which changes decide: the
// types, and the interface that every engine implements. It holds no SQL and
// no rule of who may log in; it never sees a secret that is not sealed or
// hashed.
//
// Reads prepare, one conditional statement decides: each deciding method of
// Writer repeats every premise of its decision (user active, phone activated in
// the same generation, not used, not expired), locks the rows that it rests on
// and returns whether it won. So a decision is right at READ COMMITTED and with
// any number of verifiers on one database.
package store

import (
	"context"
	"errors"
	"time"
)

// Errors of every engine. They come wrapped.
var (
	ErrNotFound = errors.New("no such object")
	ErrConflict = errors.New("object exists already")
	ErrClosed   = errors.New("store is closed")
)

// Store keeps the verifier's state. It is safe for concurrent use. The
// functions given to View and Update must not call the store again.
type Store interface {
	// View runs f on a consistent state, at least as new as the last Update that
	// returned. Integrations and settings may be newer or older than the rest by
	// what is committed meanwhile, and by a second if another process did it. The
	// Reader is good until f returns; what it returns is not to be written to.
	View(ctx context.Context, f func(Reader) error) error
	// Update runs f atomically: if f returns an error, nothing it did remains.
	// When Update returns nil, what f did is on disk (SQLite: fsync of the WAL).
	// Several updates may share one fsync. f may run more than once, so it must
	// have no side effect outside its Writer; a context that ends before f
	// begins stops it, afterwards it runs to its end.
	Update(ctx context.Context, f func(Writer) error) error
	// Close waits for running calls and closes the engine. Later calls give ErrClosed.
	Close() error
}

// Page is one part of a list. A Limit of 0 means 100.
type Page struct {
	Limit  int
	Offset int
}

// Reader reads. A missing object is an error that wraps ErrNotFound. A list
// comes in a fixed order with the number of all objects that match beside it.
type Reader interface {
	AdministratorReader
	AuthenticatorReader
	DeviceReader
	LogReader
	SealedReader
	StreamReader
	GroupReader
	PolicyReader
	DeviceCacheReader
	EnrollReader
	MailReader
	PushReader

	Integration(key string) (Integration, error)
	Integrations(p Page) ([]Integration, int, error)

	Host(id string) (Host, error)
	Hosts(p Page) ([]Host, int, error)
	JoinTokens() ([]JoinToken, error)

	User(id string) (User, error)
	// UserByName finds a user by its name or one of its aliases, exactly as given.
	UserByName(name string) (User, error)
	Users(f UserFilter, p Page) ([]User, int, error)

	TrashReader
	CredentialReader
	SSHKeyReader

	Phone(id string) (Phone, error)
	Phones(f PhoneFilter, p Page) ([]Phone, int, error)
	UserPhones(userID string) ([]Phone, error)
	PhoneUsers(phoneID string) ([]User, error)
	// SMSCodesSent says whether codes that went to that phone wait for their use.
	SMSCodesSent(phoneID string) (bool, error)

	Token(id string) (Token, error)
	Tokens(f TokenFilter, p Page) ([]Token, int, error)
	UserTokens(userID string) ([]Token, error)
	TokenUsers(tokenID string) ([]User, error)

	// BypassCodes lists codes that have a use left, expired ones too; userID "" lists everyone's.
	BypassCodes(userID string, p Page) ([]BypassCode, int, error)
	// RecoveryCodesLeft counts a user's recovery codes that were not used.
	RecoveryCodesLeft(userID string) (int, error)
	// HasBypassCode says whether a user has a code that has a use left and is not expired.
	HasBypassCode(userID string, now time.Time) (bool, error)
	BypassCode(id string) (BypassCode, error)
	BypassCodeByHash(userID string, hash []byte) (BypassCode, error)
	SMSCodeByHash(userID string, hash []byte) (SMSCode, error)
	// SMSCodes lists a user's unused, unexpired codes by phone and place.
	SMSCodes(userID string, now time.Time) ([]SMSCode, error)

	Activation(hash []byte) (Activation, error)

	Transaction(txID string) (Transaction, error)
	// PhoneTransactions lists the pending, unexpired push transactions of a phone, oldest first.
	PhoneTransactions(phoneID string, now time.Time) ([]Transaction, error)
	// OverdueTransactions lists up to limit transactions that are pending though their time is over.
	OverdueTransactions(now time.Time, limit int) ([]Transaction, error)

	OfflineRoot(phoneID string) (OfflineRoot, error)
	// HostOfflineKeys and PhoneOfflineKeys list the keys of a host, or of an
	// authenticator, whose premises hold: those of GrantOfflineKey.
	HostOfflineKeys(hostID string) ([]OfflineKey, error)
	PhoneOfflineKeys(phoneID string) ([]OfflineKey, error)
	// ReportedSeq is the last sequence number of a host's epoch that was taken; 0: none.
	ReportedSeq(hostID, epoch string) (int64, error)

	Settings() (Settings, error)

	TelephonyReader

	RememberedDevices() (RememberedDevices, error)
	Session(id string) (Session, error)
	SessionByTx(txID string) (Session, error)
	// Sessions lists sessions, newest first.
	Sessions(f SessionFilter, p Page) ([]Session, int, error)
}

// Writer reads and writes. Add… gives ErrConflict for a key or name in use,
// Set… and Delete… give ErrNotFound for an object that is not there. The methods
// that return a bool decide; false means that a premise did not hold, and then
// nothing was changed.
//
// What an Update reads by its key stays as it was read until the Update ends
// (SQLite: one writer; PostgreSQL: the row is locked by the read), so that to
// read an object, change a field and Set it loses nobody else's change.
type Writer interface {
	Reader
	AdministratorWriter
	AuthenticatorWriter
	DeviceWriter
	LogWriter
	HealthWriter
	RestoreWriter
	RetentionWriter
	RequestWriter
	SealedWriter
	StreamWriter
	GroupWriter
	PolicyWriter
	DeviceCacheWriter
	EnrollWriter
	MailWriter
	PushWriter

	AddIntegration(Integration) error
	SetIntegration(Integration) error
	DeleteIntegration(key string) error

	AddHost(Host) error
	TouchHost(id string, now time.Time) error
	// RevokeHost marks the host revoked and deletes its integration; a host
	// that is revoked already stays as it was.
	RevokeHost(id string, now time.Time) error
	AddJoinToken(JoinToken) error
	// UseJoinToken takes one use of an unexpired token.
	UseJoinToken(hash []byte, now time.Time) (bool, error)

	// AddUser and SetUser give ErrConflict if the name or an alias is another user's name or alias.
	AddUser(User) error
	// SetUser writes names, aliases, mail, notes and attributes; never the status, so
	// that an edit cannot undo a lock-out that came in between.
	SetUser(User) error
	// SetUserStatus sets the status; reason says why with LockedOut. To become
	// active clears the failures and the push budget. A user in the trash is as if
	// not there.
	SetUserStatus(id string, s UserStatus, reason string, now time.Time) error
	DeleteUser(id string) error

	TrashWriter
	CredentialWriter
	SSHKeyWriter

	AddPhone(Phone) error
	// SetPhone writes number, extension, delays, name, type, platform and model; never
	// the key. Another number begins a new generation and voids the SMS codes.
	SetPhone(Phone) error
	DeletePhone(id string) error
	AttachPhone(userID, phoneID string) error
	DetachPhone(userID, phoneID string) error
	TouchPhone(id string, now time.Time) error
	// HoldPhone keeps a phone as it is until the Update ends. False: it is not in
	// that generation any more, or has another key or user verification.
	HoldPhone(p Phone) (bool, error)
	// DeactivatePhone takes the key away, with all that belongs to it, and begins a
	// new generation: approvals under way and open activation codes become void.
	DeactivatePhone(id string) error

	AddToken(Token) error
	// SetToken writes serial and step. With the step the watermark moves, so that
	// it stands for the same time.
	SetToken(Token) error
	DeleteToken(id string) error
	AttachToken(userID, tokenID string) error
	DetachToken(userID, tokenID string) error
	// ResyncHOTP moves the counter forward to next, never back.
	ResyncHOTP(tokenID string, next int64) (bool, error)

	AddBypassCode(BypassCode) error
	DeleteBypassCode(id string) error
	// DeleteBypassCodes removes a user's codes that an administrator made, or with
	// recovery those that the user keeps.
	DeleteBypassCodes(userID string, recovery bool) error
	// ReplaceSMSCodes voids the earlier codes of the user on that phone and adds these.
	ReplaceSMSCodes(userID, phoneID string, codes []SMSCode) error

	AddActivation(Activation) error
	// UseActivation spends an unexpired activation code of a user who may enrol and has the
	// phone, gives the phone the key, in a new generation, and voids its other
	// codes. False: used, expired, void or unknown.
	UseActivation(hash []byte, key DeviceKey, now time.Time) (Phone, bool, error)

	// BeginAttempt counts one attempt against the user before the code is
	// looked at, and says from when on the next one counts. It refuses (false)
	// unless the user is active, after UnlockExpired, has failures left and the
	// time for an attempt has come. A user with none left is locked.
	// Success ends with ForgiveAttempts, failure with FailAttempt.
	BeginAttempt(userID string, p AttemptPolicy, now time.Time) (bool, error)
	// FailAttempt locks an active user whose failures reached the limit. True:
	// locked by this call.
	FailAttempt(userID string, p AttemptPolicy, now time.Time) (bool, error)
	// ForgiveAttempts gives failures and pushes of an active user back after a
	// success and notes the login. False: the user is not active.
	ForgiveAttempts(userID string, now time.Time) (bool, error)
	// UnlockExpired makes a user active again whom failures locked at least
	// lockFor ago. A lockFor of 0 never does.
	UnlockExpired(userID string, lockFor time.Duration, now time.Time) (bool, error)
	// NoteBypass notes the login of a user in bypass status. False: not in it.
	NoteBypass(userID string, now time.Time) (bool, error)
	// HoldEnrollable keeps a user who may add and change factors as they are until the
	// Update ends. False: the user is not active, nor in bypass status.
	HoldEnrollable(userID string) (bool, error)
	// LockUser locks a user who is active, or locked for failures, which a later
	// lock outlasts, and says why; in the trash, one who was that. False: neither.
	LockUser(userID, reason string, now time.Time) (bool, error)
	// SpendPush takes one from the budget of prompts that a user can be sent per
	// window since the last success, and says from when on the next one can be.
	// False: spent, too soon, or the user is not active.
	SpendPush(userID string, p PushPolicy, now time.Time) (bool, error)
	// RaisePushAlarm notes that administrators are told of prompts of a user that
	// were denied, reported or not answered. False: fewer than limit were within
	// the window, or the administrators were told within it.
	RaisePushAlarm(userID string, limit int, window time.Duration, now time.Time) (bool, error)

	// UseTOTPStep moves the watermark of the user's token strictly forward to step.
	UseTOTPStep(userID, tokenID string, step int64) (bool, error)
	// UseHOTPCounter spends counter, which must not be below the next one.
	UseHOTPCounter(userID, tokenID string, counter int64) (bool, error)
	// LearnDrift notes the drift of a TOTP token with which step was used, if no
	// later step was.
	LearnDrift(tokenID string, step, drift int64) error
	// NoteResync notes that next, the counter or step after a code that was right but
	// out of the way, counts until then.
	NoteResync(userID, tokenID string, next int64, until time.Time) (bool, error)
	// UseResync spends the counter or step that NoteResync noted, which is above all
	// that were used, and with it takes the token's drift.
	UseResync(userID, tokenID string, at, drift int64, now time.Time) (bool, error)
	// UseYubicoCounter moves the counter of the user's YubiKey strictly forward.
	UseYubicoCounter(userID, tokenID string, counter int64) (bool, error)
	UseBypassCode(userID, codeID string, now time.Time) (bool, error)
	UseSMSCode(userID, codeID string, now time.Time) (bool, error)

	// AddTransaction adds a transaction, offered or pending (or decided).
	AddTransaction(Transaction) error
	// StartTransaction turns an offered transaction of this integration and
	// user into a pending one on the phone, whose generation it notes.
	StartTransaction(s Start) (bool, error)
	// SetTransactionStatus notes progress (calling, answered, …) of a pending transaction.
	SetTransactionStatus(txID, status, message string, now time.Time) (bool, error)
	// TryDigits counts one try at the digits of a pending, unexpired
	// transaction, at most limit, and returns how many were made with this one.
	TryDigits(txID string, limit int, now time.Time) (tries int, won bool, err error)
	// DecideTransaction ends a pending, unexpired transaction. An approval needs
	// an active user and the phone activated in the generation that the
	// transaction started with, and its user verification as d says.
	DecideTransaction(d Decision) (bool, error)
	// ExpireTransaction ends a pending transaction whose time is over.
	ExpireTransaction(txID, status, message string, now time.Time) (bool, error)

	// SetRememberedDevices sets the policy. Live sessions that it does not grant
	// any more end, longer ones become as short; none becomes longer.
	SetRememberedDevices(p RememberedDevices, now time.Time) error
	// AddSession adds a session that the event s.TxID proves: a success of this
	// user and factor at this host's integration after since. The user must be
	// active, the host not revoked, the device the user's in this generation, and
	// the policy must grant factor and length. A transaction that has made a session
	// makes no other.
	AddSession(s Session, since time.Time) (bool, error)
	// UseSession notes one use. It repeats all premises of AddSession but the
	// event's, and that the session has neither ended nor expired.
	UseSession(u SessionUse) (bool, error)
	// EndSessions ends live sessions and says how many.
	EndSessions(e SessionEnd) (int, error)
	// SetOfflineRoot gives an authenticator a root, in place of the one before.
	SetOfflineRoot(OfflineRoot) error
	// GrantOfflineKey notes that a key goes to a host. It needs the host not
	// revoked, the user active, and the phone the user's, activated in the
	// generation of k and of its root. held says that the host has the key with the
	// generation and edition of k: then edition and next stay, else another edition begins.
	GrantOfflineKey(k OfflineKey, held bool, now time.Time) (OfflineKey, bool, error)
	// UseOfflineCounter moves the next counter of that very key beyond counter, never back.
	UseOfflineCounter(k OfflineKey, counter int64) (bool, error)
	// TakeReport moves the mark of a host's epoch forward to seq. False: it is
	// there already, or the host is revoked.
	TakeReport(hostID, epoch string, seq int64, now time.Time) (bool, error)

	TelephonyWriter
	SetSettings(Settings) error

	// PurgeTransactions deletes transactions, but pending ones, whose time ended
	// before the given one.
	PurgeTransactions(before time.Time) error
	// Purge deletes one-time things whose time ended before the given one:
	// transactions that are not pending, activations, join tokens, SMS codes,
	// bypass codes, challenges, sessions, enrolment links and sessions; and mails made before it.
	// Push subscriptions that count no more go too.
	Purge(before time.Time) error
}
