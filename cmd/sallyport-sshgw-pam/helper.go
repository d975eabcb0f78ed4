// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// service is the PAM service, and the service that a request must name.
const service = "sallyport-sshgw"

// Limits of one conversation. Modules may sleep after a failure, and ask directories.
const (
	requestTimeout = 10 * time.Second
	writeTimeout   = 5 * time.Second
	moduleTime     = time.Minute
)

// helper answers one connection of the gateway.
type helper struct {
	conn  *net.UnixConn
	asker uint32 // uid that may ask
	until time.Time
	log   *slog.Logger
	dir   string // of PAM's services; "" for the system's

	rounds int
	broken error // why nothing can be asked any more
}

func (h *helper) serve() error {
	if err := h.checkPeer(); err != nil {
		return err
	}
	if err := h.conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return err
	}
	f, err := frames.ReadFrame(h.conn)
	if errors.Is(err, io.EOF) {
		return nil // somebody looked whether we live
	}
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	req, ok := f.(*frames.Request)
	if !ok || req.Hook != frames.HookAuthenticate || req.Service != service {
		return fmt.Errorf("not a request to authenticate for %s: %s", service, f)
	}
	outcome, why := h.decide(req)
	attrs := []any{slog.String("user", req.User), slog.String("rhost", req.RHost), slog.String("outcome", outcome.String())}
	if why != nil {
		attrs = append(attrs, slog.Any("error", why))
	}
	h.log.Info("asked PAM", attrs...)
	return h.write(&frames.Done{Outcome: outcome})
}

// checkPeer refuses everybody but the gateway, as the kernel says who it is.
func (h *helper) checkPeer() error {
	raw, err := h.conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if optErr != nil {
		return optErr
	}
	if cred.Uid != h.asker {
		return fmt.Errorf("uid %d asks, and only uid %d may", cred.Uid, h.asker)
	}
	return nil
}

// decide asks PAM whether the person is who they say, and may come in.
func (h *helper) decide(req *frames.Request) (frames.Outcome, error) {
	if !utf8.ValidString(req.User) || strings.ContainsAny(req.User, "\n\x1b") {
		return frames.OutcomeUserUnknown, errors.New("not a name")
	}
	var tx *pam.Transaction
	var err error
	if h.dir != "" {
		tx, err = pam.StartConfDir(service, req.User, h, h.dir)
	} else {
		tx, err = pam.Start(service, req.User, h)
	}
	if err != nil {
		return frames.OutcomeUnavailable, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.End() }()
	for item, value := range map[pam.Item]string{pam.Rhost: req.RHost, pam.Tty: "ssh"} {
		if value == "" {
			continue
		}
		if err := tx.SetItem(item, value); err != nil {
			return frames.OutcomeUnavailable, fmt.Errorf("set an item: %w", err)
		}
	}
	if err := h.write(&frames.Wait{For: moduleTime}); err != nil {
		return frames.OutcomeUnavailable, err
	}
	if err := tx.Authenticate(pam.DisallowNullAuthtok); err != nil {
		return h.outcome(err), fmt.Errorf("authenticate: %w", err)
	}
	if err := tx.AcctMgmt(pam.DisallowNullAuthtok); err != nil {
		return h.outcome(err), fmt.Errorf("account: %w", err)
	}
	// A module may have put another name in its place; the gateway would not know.
	if name, err := tx.GetItem(pam.User); err != nil || name != req.User {
		return frames.OutcomeDeny, fmt.Errorf("PAM calls the person %q: %w", name, err)
	}
	if h.broken != nil {
		return frames.OutcomeAborted, h.broken
	}
	return frames.OutcomeAllow, nil
}

// outcome is what an error of PAM comes to.
func (h *helper) outcome(err error) frames.Outcome {
	if h.broken != nil {
		return frames.OutcomeAborted
	}
	var code pam.Error
	if !errors.As(err, &code) {
		return frames.OutcomeUnavailable
	}
	switch code {
	case pam.ErrAuth, pam.ErrPermDenied, pam.ErrCredInsufficient, pam.ErrAcctExpired, pam.ErrNewAuthtokReqd, pam.ErrAuthtokExpired, pam.ErrCredExpired:
		return frames.OutcomeDeny
	case pam.ErrUserUnknown:
		return frames.OutcomeUserUnknown
	case pam.ErrMaxtries:
		return frames.OutcomeMaxTries
	case pam.ErrConv:
		return frames.OutcomeAborted
	}
	return frames.OutcomeUnavailable
}

// RespondPAM is PAM's conversation: it passes texts on to the gateway, and the answers back.
func (h *helper) RespondPAM(style pam.Style, text string) (string, error) {
	if h.broken != nil {
		return "", h.broken
	}
	answer, err := h.respond(style, limited(text))
	if err != nil {
		h.broken = err
	}
	return answer, err
}

func (h *helper) respond(style pam.Style, text string) (string, error) {
	// The last round is kept for DONE's sake: the gateway ends a call with more of them.
	if h.rounds += 2; h.rounds >= frames.MaxRounds {
		return "", fmt.Errorf("more than %d rounds", frames.MaxRounds)
	}
	switch style {
	case pam.PromptEchoOff:
		return h.ask(&frames.AskSecret{Text: text})
	case pam.PromptEchoOn:
		return h.ask(&frames.Ask{Text: text})
	case pam.TextInfo:
		return "", h.show(text, frames.StyleInfo)
	case pam.ErrorMsg:
		return "", h.show(text, frames.StyleError)
	}
	return "", fmt.Errorf("a message of style %d", style)
}

func (h *helper) show(text string, style frames.Style) error {
	if err := h.write(&frames.Show{Text: text, Style: style}); err != nil {
		return err
	}
	return h.write(&frames.Wait{For: moduleTime})
}

// ask waits for as long as the process lives: how fast a person types is not ours to say,
// but the gateway's time for a login ends before.
func (h *helper) ask(question frames.Frame) (string, error) {
	if err := h.write(question); err != nil {
		return "", err
	}
	if err := h.conn.SetReadDeadline(h.until); err != nil {
		return "", err
	}
	f, err := frames.ReadFrame(h.conn)
	if err != nil {
		return "", fmt.Errorf("read an answer within %s: %w", lifetime, err)
	}
	a, ok := f.(*frames.Answer)
	switch {
	case !ok:
		return "", fmt.Errorf("no answer: %s", f)
	case a.TooLong:
		return "", fmt.Errorf("an answer of more than %d bytes", frames.AnswerMax)
	}
	return a.Text.Reveal(), h.write(&frames.Wait{For: moduleTime})
}

func (h *helper) write(f frames.Frame) error {
	if err := h.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return frames.WriteFrame(h.conn, f)
}

// limited makes the text of a module fit a frame.
func limited(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "?"), "?")
	if len(text) > frames.TextMax {
		text = strings.ToValidUTF8(text[:frames.TextMax], "")
	}
	return text
}
