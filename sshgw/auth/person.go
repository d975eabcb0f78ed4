// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

// interactive is a person at keyboard-interactive.
type interactive struct {
	challenge ssh.KeyboardInteractiveChallenge
}

// Interactive is the person who answers a challenge of keyboard-interactive.
func Interactive(challenge ssh.KeyboardInteractiveChallenge) Person { return interactive{challenge} }

// Show shows the text at once: a request without a question needs nobody to type, and
// a code that stands in it can be read while a push is on its way.
func (p interactive) Show(_ frames.Style, text string) error {
	_, err := p.challenge("", conversation.Clean(text), nil, nil)
	return err
}

// Ask implements Person. All of the question is prompt, as sshd has it: OpenSSH's client
// shows an instruction only if its LogLevel is INFO at least, and a prompt always.
func (p interactive) Ask(_ context.Context, text string, echo bool) (frames.Secret, error) {
	answers, err := p.challenge("", "", []string{conversation.Clean(text)}, []bool{echo})
	switch {
	case err != nil:
		return "", err
	case len(answers) != 1:
		return "", errors.New("keyboard-interactive: not one answer to one question")
	case strings.IndexByte(answers[0], 0) >= 0:
		return "", errors.New("keyboard-interactive: a NUL in the answer")
	}
	return frames.Secret(answers[0]), nil
}

// typed is a person who has typed a password already, and nothing else.
type typed struct {
	password []byte
	used     bool
}

// Show implements Person: method password has no way to show anything.
func (*typed) Show(frames.Style, string) error { return nil }

// Ask implements Person.
func (t *typed) Ask(_ context.Context, _ string, echo bool) (frames.Secret, error) {
	if echo || t.used || strings.IndexByte(string(t.password), 0) >= 0 {
		return "", conversation.ErrNobody
	}
	t.used = true
	return frames.Secret(t.password), nil
}

// held is a person who waits for the reply to a signature: they read banners, and
// cannot type.
type held struct {
	banner func(string) error
	mu     sync.Mutex
	last   string
	shown  bool
}

func newHeld(banner func(string) error) *held {
	return &held{banner: banner, last: "Waiting for your approval …"}
}

// Show implements Person.
func (h *held) Show(_ frames.Style, text string) error {
	text = strings.TrimRight(conversation.Clean(text), "\n")
	if text == "" {
		return nil
	}
	h.mu.Lock()
	h.last, h.shown = text, true
	h.mu.Unlock()
	return h.banner(text + "\n")
}

// told says that authd has had something to show.
func (h *held) told() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.shown
}

// Ask implements Person.
func (*held) Ask(context.Context, string, bool) (frames.Secret, error) {
	return "", conversation.ErrNobody
}

// leastBanner bounds how often signs of life are sent.
const leastBanner = 100 * time.Millisecond

// signsOfLife repeats what was shown last, the digits of a push among it, so that the
// client's ServerAliveInterval does not end the wait. stop returns when no more come.
func (h *held) signsOfLife(every time.Duration) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(max(every, leastBanner))
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			h.mu.Lock()
			text := h.last
			h.mu.Unlock()
			if h.banner(text+"\n") != nil {
				return // the connection is going; whoever reads it notices
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}
