// SPDX-License-Identifier: Apache-2.0

// Package frames owns the wire format between the PAM module and authd: it
// turns one frame of bytes into one typed message and back, at both ends. It
// never decides anything, never keeps a connection or a deadline, and never
// prints an answer or a passcode.
//
// The format is written down in docs/reference/frames.md; pam/frame.c is the
// same in C, and both read the vectors in testdata/vectors.txt.
package frames

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Sizes of the format, in bytes.
const (
	// Version is the only protocol version that this package speaks.
	Version = 1
	// HeaderSize is the length of a frame's header.
	HeaderSize = 8
	// PayloadMax is the greatest length of a frame's payload.
	PayloadMax = 8192
	// TextMax is the greatest length of the text in SHOW, ASK and ASK_SECRET.
	TextMax = 4096
	// AnswerMax is the greatest length of an answer; a longer one is not sent
	// but reported as too long.
	AnswerMax = 512
	// MaxRounds is how many SHOW, ASK, ASK_SECRET and WAIT frames the module
	// accepts in one call.
	MaxRounds = 64
)

// ErrBroken is wrapped by every error that says that the bytes are no frame of
// this protocol. The reader closes the connection and treats the call as failed.
var ErrBroken = errors.New("broken frame")

// ErrTooLarge is wrapped by WriteFrame's error for a message that does not fit
// the limits of the format. Nothing has been written then.
var ErrTooLarge = errors.New("message too large for a frame")

// Type is the type of a frame, as on the wire.
type Type byte

// The frame types. Those below 16 are sent by the module, the rest by the daemon.
const (
	TypeRequest   Type = 1
	TypeAnswer    Type = 2
	TypeAbort     Type = 3
	TypeShow      Type = 16
	TypeAsk       Type = 17
	TypeAskSecret Type = 18
	TypeWait      Type = 19
	TypeDone      Type = 20
)

// String returns the name that docs/reference/frames.md gives the type.
func (t Type) String() string {
	switch t {
	case TypeRequest:
		return "REQUEST"
	case TypeAnswer:
		return "ANSWER"
	case TypeAbort:
		return "ABORT"
	case TypeShow:
		return "SHOW"
	case TypeAsk:
		return "ASK"
	case TypeAskSecret:
		return "ASK_SECRET"
	case TypeWait:
		return "WAIT"
	case TypeDone:
		return "DONE"
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Hook says which function of the module libpam called, or what else is asked.
type Hook byte

// The hooks, as on the wire.
const (
	HookAuthenticate Hook = 1
	HookAcctMgmt     Hook = 2
	HookSetcred      Hook = 3
	HookOpenSession  Hook = 4
	HookCloseSession Hook = 5
	HookChauthtok    Hook = 6
	// HookSSHKeys is none of libpam's: the gateway asks for a person's SSH keys.
	HookSSHKeys Hook = 7
)

// String returns the name of the hook without the pam_sm_ prefix.
func (h Hook) String() string {
	switch h {
	case HookAuthenticate:
		return "authenticate"
	case HookAcctMgmt:
		return "acct_mgmt"
	case HookSetcred:
		return "setcred"
	case HookOpenSession:
		return "open_session"
	case HookCloseSession:
		return "close_session"
	case HookChauthtok:
		return "chauthtok"
	case HookSSHKeys:
		return "ssh_keys"
	}
	return fmt.Sprintf("hook %d", byte(h))
}

// CanAsk says whether the hook has a conversation: the module answers ASK and
// ASK_SECRET only under authenticate, and takes them for broken frames elsewhere.
func (h Hook) CanAsk() bool { return h == HookAuthenticate }

// Outcome is the daemon's decision. The module maps it to a PAM code by the
// table in docs/reference/pam-module.md.
type Outcome byte

// The outcomes, as on the wire.
const (
	OutcomeAllow       Outcome = 1
	OutcomeDeny        Outcome = 2
	OutcomeMaxTries    Outcome = 3
	OutcomeUserUnknown Outcome = 4
	OutcomeUnavailable Outcome = 5
	OutcomeAborted     Outcome = 6
)

// String returns the outcome in the words of the reference page.
func (o Outcome) String() string {
	switch o {
	case OutcomeAllow:
		return "allow"
	case OutcomeDeny:
		return "deny"
	case OutcomeMaxTries:
		return "too many tries"
	case OutcomeUserUnknown:
		return "user unknown"
	case OutcomeUnavailable:
		return "unavailable"
	case OutcomeAborted:
		return "aborted"
	}
	return fmt.Sprintf("outcome %d", byte(o))
}

// Style says how a SHOW is presented.
type Style byte

// The styles, as on the wire: PAM_TEXT_INFO and PAM_ERROR_MSG.
const (
	StyleInfo  Style = 1
	StyleError Style = 2
)

// Reason says why the module sent ABORT.
type Reason byte

// The reasons, as on the wire.
const (
	// ReasonConversation: the host's conversation function failed or is missing.
	ReasonConversation Reason = 1
	// ReasonRounds: the daemon sent more than MaxRounds frames in one call.
	ReasonRounds Reason = 2
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case ReasonConversation:
		return "the conversation failed"
	case ReasonRounds:
		return "too many rounds"
	}
	return fmt.Sprintf("reason %d", byte(r))
}

// Frame is one message: *Request, *Answer, *Abort, *Show, *Ask, *AskSecret,
// *Wait or *Done, and nothing else.
type Frame interface {
	// Type returns the type byte of the message on the wire.
	Type() Type
	// String returns a form without any secret, fit for a log.
	String() string
	payload() ([]byte, error)
}

// Request is the first frame of a connection: one call of one hook. Its strings
// are bytes as PAM gave them, without a NUL, neither trusted nor necessarily
// UTF-8; an empty string means that PAM had none.
type Request struct {
	Hook    Hook
	Flags   uint32 // PAM_SILENT and the like
	RUID    uint32 // real uid as the process claims it; SO_PEERCRED has the effective one
	EUID    uint32 // effective uid as the process claims it
	Version string // of the module, for the log
	Service string // PAM_SERVICE, never empty
	User    string // PAM_USER, never empty
	TTY     string // PAM_TTY
	RHost   string // PAM_RHOST
	RUser   string // PAM_RUSER
	// PAMEnv holds what pam_getenv returned. It is as trustworthy as the
	// process at the other end, see its peer credentials.
	PAMEnv map[string]string
	// ProcEnv holds passcode variables of the process environment. Whoever
	// started the process chose them: they prove nothing. SUDO_COMMAND is among
	// them where sudo itself made it.
	ProcEnv map[string]Secret
}

// Answer is what the person typed at the last ASK or ASK_SECRET.
type Answer struct {
	Text    Secret // at most AnswerMax bytes, empty when TooLong
	TooLong bool   // the answer was longer than AnswerMax and was not sent
}

// Abort says that the module can ask nobody. The daemon still ends the call
// with Done.
type Abort struct {
	Reason Reason
}

// Show is a message for the person. The module sends no reply.
type Show struct {
	Text  string
	Style Style
}

// Ask is a question whose answer is echoed. The module replies Answer or Abort.
type Ask struct {
	Text string
}

// AskSecret is a question whose answer is not echoed. The module replies Answer
// or Abort.
type AskSecret struct {
	Text string
}

// Wait grants the daemon For, counted from its arrival, until the next frame is
// complete. It is sent in whole milliseconds, rounded up, at most 2^32-1 of them.
type Wait struct {
	For time.Duration
}

// Done is the decision and the last frame of a call.
type Done struct {
	Outcome Outcome
}

// Type implements Frame.
func (*Request) Type() Type { return TypeRequest }

// Type implements Frame.
func (*Answer) Type() Type { return TypeAnswer }

// Type implements Frame.
func (*Abort) Type() Type { return TypeAbort }

// Type implements Frame.
func (*Show) Type() Type { return TypeShow }

// Type implements Frame.
func (*Ask) Type() Type { return TypeAsk }

// Type implements Frame.
func (*AskSecret) Type() Type { return TypeAskSecret }

// Type implements Frame.
func (*Wait) Type() Type { return TypeWait }

// Type implements Frame.
func (*Done) Type() Type { return TypeDone }

// String implements Frame: strings are quoted, passcode values hidden.
func (r *Request) String() string {
	return fmt.Sprintf("REQUEST %s flags=%#x ruid=%d euid=%d version=%q service=%q user=%q tty=%q rhost=%q ruser=%q pam_env=%q proc_env=%v",
		r.Hook, r.Flags, r.RUID, r.EUID, r.Version, r.Service, r.User, r.TTY, r.RHost, r.RUser,
		sortedNames(r.PAMEnv), quoted(sortedNames(r.ProcEnv)))
}

// String implements Frame and tells nothing of the answer but its being there.
func (a *Answer) String() string {
	if a.TooLong {
		return "ANSWER too long"
	}
	return "ANSWER " + a.Text.String()
}

// String implements Frame.
func (a *Abort) String() string { return "ABORT: " + a.Reason.String() }

// String implements Frame. Texts can hold a verification code, so it gives only
// their length.
func (s *Show) String() string { return fmt.Sprintf("SHOW %d bytes", len(s.Text)) }

// String implements Frame; see Show.
func (a *Ask) String() string { return fmt.Sprintf("ASK %d bytes", len(a.Text)) }

// String implements Frame; see Show.
func (a *AskSecret) String() string { return fmt.Sprintf("ASK_SECRET %d bytes", len(a.Text)) }

// String implements Frame.
func (w *Wait) String() string { return "WAIT " + w.For.String() }

// String implements Frame.
func (d *Done) String() string { return "DONE " + d.Outcome.String() }

// LogValue implements slog.LogValuer with the fields that a log may hold.
func (r *Request) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("hook", r.Hook.String()),
		slog.String("service", r.Service),
		slog.String("user", r.User),
		slog.String("tty", r.TTY),
		slog.String("rhost", r.RHost),
		slog.String("ruser", r.RUser),
		slog.Uint64("ruid", uint64(r.RUID)),
		slog.Uint64("euid", uint64(r.EUID)),
		slog.String("module", r.Version),
		slog.Any("pam_env", sortedNames(r.PAMEnv)),
		slog.Any("proc_env", sortedNames(r.ProcEnv)),
	)
}

// LogValue implements slog.LogValuer.
func (a *Answer) LogValue() slog.Value { return slog.StringValue(a.String()) }

// LogValue implements slog.LogValuer.
func (s *Show) LogValue() slog.Value { return slog.StringValue(s.String()) }

// LogValue implements slog.LogValuer.
func (a *Ask) LogValue() slog.Value { return slog.StringValue(a.String()) }

// LogValue implements slog.LogValuer.
func (a *AskSecret) LogValue() slog.Value { return slog.StringValue(a.String()) }
