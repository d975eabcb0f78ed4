// SPDX-License-Identifier: Apache-2.0

package target

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

// What a target may say and ask while it lets somebody in.
const (
	roundsMax  = 16   // of questions
	promptsMax = 8    // in one round
	textMax    = 2048 // bytes of one round, or of one banner, as sent
	bannersMax = 8
	linesMax   = 40 // of one text
	lineMax    = 400
	nameMax    = 120
)

// questions passes on what a target says and asks. Every line begins with the target's
// name, so that none can pass for the gateway's own.
type questions struct {
	attempt *attempt
	rounds  int
	banners int
}

// banner is the callback of the SSH library for text before the login.
func (q *questions) banner(message string) (err error) {
	defer guard(&err)
	a := q.attempt
	q.banners++
	if a.request.Person == nil || q.banners > bannersMax {
		return nil
	}
	if text := a.says(clip(message, textMax)); text != "" {
		// Whether anybody reads it makes no difference to whether the target lets in.
		_ = a.request.Person.Show(frames.StyleInfo, text)
	}
	return nil
}

// challenge answers one round of keyboard-interactive.
func (q *questions) challenge(name, instruction string, prompts []string, echos []bool) (answers []string, err error) {
	defer guard(&err)
	a := q.attempt
	q.rounds++
	size := len(name) + len(instruction)
	for _, p := range prompts {
		size += len(p)
	}
	if q.rounds > roundsMax || len(prompts) > promptsMax || size > textMax {
		a.cause = problem(TooManyQuestions, fmt.Errorf("round %d has %d questions of %d bytes", q.rounds, len(prompts), size),
			"%s asks more than the gateway passes on", a.name)
		return nil, a.cause
	}
	lead := a.says(name + "\n" + instruction)
	if len(prompts) == 0 {
		if lead != "" {
			_ = a.request.Person.Show(frames.StyleInfo, lead)
		}
		return nil, nil
	}
	for i, p := range prompts {
		text := a.name + " asks: " + harmless(p, lineMax)
		if i == 0 && lead != "" {
			text = lead + "\n" + text
		}
		answer, err := q.ask(text, echos[i])
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// password asks for the login's password at the target.
func (q *questions) password() (answer string, err error) {
	defer guard(&err)
	return q.ask(fmt.Sprintf("%s asks: password of %s: ", q.attempt.name, harmless(q.attempt.request.Login, nameMax)), false)
}

func (q *questions) ask(text string, echo bool) (string, error) {
	a := q.attempt
	a.budget.pause()
	defer a.budget.resume()
	answer, err := a.request.Person.Ask(a.ctx, text, echo)
	switch {
	case errors.Is(err, conversation.ErrNobody):
		// The methods that need somebody are tried no more.
		a.request.Person = nil
		return "", err
	case err != nil:
		a.cause = problem(Cancelled, err, "the question of %s was not answered", a.name)
		return "", a.cause
	}
	a.proof.answered()
	return answer.Reveal(), nil
}

// says puts the target's name before each line of its text, "" for none.
func (a *attempt) says(text string) string {
	var out []string
	for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if len(out) == linesMax {
			break
		}
		l = strings.TrimRight(strings.ReplaceAll(l, "\t", "    "), "\r ")
		out = append(out, a.name+" says: "+harmless(l, lineMax))
	}
	if len(out) == 1 && strings.TrimSpace(text) == "" {
		return ""
	}
	return clip(strings.Join(out, "\n"), frames.TextMax-lineMax-nameMax-16)
}

// harmless is text of a peer for a terminal or a log, not longer than n bytes. Blanks that
// would push what follows to a line of its own, where it has no name before it, are few.
func harmless(s string, n int) string {
	return clip(manyBlanks.ReplaceAllString(cli.Escape(clip(s, n)), "        "), n)
}

var manyBlanks = regexp.MustCompile(` {9,}`)

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}
