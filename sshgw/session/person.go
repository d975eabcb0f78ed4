// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

// reader is a person who can read, and has no way to answer.
type reader struct{ out io.Writer }

func (r reader) Show(_ frames.Style, text string) error {
	_, err := io.WriteString(r.out, conversation.Clean(text)+"\n")
	return err
}

func (reader) Ask(context.Context, string, bool) (frames.Secret, error) {
	return "", conversation.ErrNobody
}

// typist is a person at a terminal.
type typist struct{ terminal *term.Terminal }

func newTypist(in io.Reader, out io.Writer) *typist {
	return &typist{term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{single{in}, out}, "")}
}

func (t *typist) Show(_ frames.Style, text string) error {
	_, err := t.terminal.Write([]byte(conversation.Clean(text) + "\n"))
	return err
}

// errInterrupted says that the person typed Ctrl-C or Ctrl-D.
var errInterrupted = errors.New("interrupted")

func (t *typist) Ask(ctx context.Context, text string, echo bool) (frames.Secret, error) {
	// All but the last line is shown, so that the terminal moves about on one line alone.
	text = conversation.Clean(text)
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		if _, err := t.terminal.Write([]byte(text[:i+1])); err != nil {
			return "", err
		}
		text = text[i+1:]
	}
	type answer struct {
		line string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("reading the answer: %v", p)
			}
			answered <- a
		}()
		if echo {
			t.terminal.SetPrompt(text)
			a.line, a.err = t.terminal.ReadLine()
			t.terminal.SetPrompt("")
		} else {
			a.line, a.err = t.terminal.ReadPassword(text)
		}
	}()
	select {
	case a := <-answered:
		if errors.Is(a.err, io.EOF) {
			return "", errInterrupted
		}
		if len(a.line) > frames.AnswerMax {
			return "", errors.New("the answer is too long")
		}
		return frames.Secret(a.line), a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// single reads one byte at a time, so that what is typed ahead of the program that comes
// next stays where it is.
type single struct{ r io.Reader }

func (s single) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.r.Read(p[:1])
}
