// SPDX-License-Identifier: Apache-2.0

package playback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
)

// Options is how a recording is played.
type Options struct {
	Speed     float64
	IdleLimit time.Duration // longer pauses are made this short; 0: they are not
	From      time.Duration
	Search    string // where to begin, and what n looks for
}

// Console is a terminal in raw mode.
type Console struct {
	In      io.Reader
	Out     io.Writer
	Size    func() (width, height int)
	Resized <-chan os.Signal
}

// Bounds of the speed, and the steps by keys.
const (
	minSpeed, maxSpeed = 1.0 / 16, 64
	leap               = 5 * time.Second
	farLeap            = time.Minute
)

// statusEvery is how often the status line is drawn while something is shown.
const statusEvery = 250 * time.Millisecond

// player is a recording that is played. It is for one goroutine.
type player struct {
	file    *File
	opt     Options
	console Console
	keys    chan []byte

	reader  *record.Reader
	closer  io.Closer
	next    record.Event // not shown yet
	end     error        // why there is no next one: io.EOF, or what is wrong
	at      time.Duration
	left    time.Duration // until the next event, as long as pauses are made
	since   time.Time     // when at and left were right; while it plays
	paused  bool
	screen  screen
	out     []byte
	status  time.Time // when it was drawn
	note    string    // said once, in its place
	typing  bool      // a text to search for
	typed   string
	columns int // of the recording
	rows    int
}

// Play shows a recording on a terminal until the person has seen enough.
func (f *File) Play(ctx context.Context, c Console, opt Options) (err error) {
	p := &player{file: f, opt: opt, console: c, keys: make(chan []byte)}
	if err := p.rewind(); err != nil {
		return err
	}
	defer func() { p.closer.Close() }()
	go p.readKeys(ctx)
	defer func() {
		// Whatever was recorded must not outlive it on this terminal.
		p.send("\x1b[!p\x1b[?1l\x1b[?1047l\x1b[r\x1b[m\x1b[?25h\x1b>\x0f\x1b(B")
		_, height := c.Size()
		p.send(fmt.Sprintf("\x1b[%d;1H\x1b[K", height))
	}()
	if opt.From > 0 {
		if err := p.seek(opt.From); err != nil {
			return err
		}
	}
	if opt.Search != "" {
		p.search()
	}
	return p.run(ctx)
}

func (p *player) readKeys(ctx context.Context) {
	defer close(p.keys)
	for {
		buf := make([]byte, 256)
		n, err := p.console.In.Read(buf)
		if err != nil {
			return
		}
		select {
		case p.keys <- buf[:n]:
		case <-ctx.Done():
			return
		}
	}
}

func (p *player) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.since = time.Now()
	for {
		p.refresh()
		timer.Stop()
		if !p.paused && p.end == nil && !p.typing {
			timer.Reset(min(time.Until(p.due()), time.Second)) // the clock goes on
		}
		select {
		case <-timer.C:
			p.play()
		case keys, ok := <-p.keys:
			if !ok {
				return p.last()
			}
			if quit, err := p.press(keys); quit || err != nil {
				return errors.Join(err, p.last())
			}
		case <-p.console.Resized:
			if err := p.seek(p.at); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// last is the error to end with: a recording that is not complete was shown as far as
// it goes, and its status line has said so.
func (p *player) last() error {
	if errors.Is(p.end, io.EOF) || errors.Is(p.end, record.ErrCut) {
		return nil
	}
	return p.end
}

// due is when the next event is to be shown.
func (p *player) due() time.Time {
	return p.since.Add(time.Duration(float64(p.left) / p.opt.Speed))
}

// pause is how long the next event is waited for.
func (p *player) pause() {
	p.left = p.next.At - p.at
	if p.opt.IdleLimit > 0 {
		p.left = min(p.left, p.opt.IdleLimit)
	}
}

// play shows what is due.
func (p *player) play() {
	for n := 0; p.end == nil && n < 1000; n++ {
		due := p.due()
		if due.After(time.Now()) {
			break
		}
		p.show()
		p.since = due
	}
	p.flush()
}

// show shows the next event, and reads the one after it.
func (p *player) show() {
	e := p.next
	p.at = e.At
	switch e.Kind {
	case record.Output:
		p.out = p.screen.append(p.out, e.Data)
	case record.Resize:
		p.columns, p.rows = e.Width, e.Height
		p.fit()
		p.out = p.screen.region(append(p.out, "\x1b7"...))
		p.out = append(p.out, "\x1b8"...)
	}
	if len(p.out) > 64<<10 {
		p.flush()
	}
	p.read()
}

func (p *player) read() {
	p.next, p.end = p.reader.Next()
	if p.end != nil {
		p.out = p.screen.end(p.out)
	}
	if p.end != nil && !errors.Is(p.end, io.EOF) {
		p.end = p.file.explain(p.end)
	}
	p.pause()
}

func (p *player) flush() {
	_, _ = p.console.Out.Write(p.out) // a terminal that is gone ends the keys as well
	p.out = p.out[:0]
}

func (p *player) send(text string) {
	p.flush()
	_, _ = io.WriteString(p.console.Out, text)
}

// rewind begins from the beginning, on an empty screen.
func (p *player) rewind() error {
	if p.closer != nil {
		p.closer.Close()
	}
	var err error
	if p.reader, p.closer, err = p.file.open(); err != nil {
		return err
	}
	p.columns, p.rows = p.reader.Info.Width, p.reader.Info.Height
	p.at, p.since = 0, time.Now()
	p.screen = screen{}
	p.fit()
	p.out = append(p.out[:0], "\x1b[!p\x1b[?1047l\x1b[m\x1b[r\x1b[2J"...)
	p.out = p.screen.region(p.out)
	p.out = append(p.out, "\x1b[H"...)
	p.read()
	return nil
}

// fit keeps the last row for the status line.
func (p *player) fit() {
	_, height := p.console.Size()
	p.screen.height = max(height-1, 1)
	if p.rows > 0 {
		p.screen.height = min(p.screen.height, p.rows)
	}
}

// seek shows the screen as it was at a time. What was on it came from the beginning.
func (p *player) seek(to time.Duration) error {
	if err := p.rewind(); err != nil {
		return err
	}
	for p.end == nil && p.next.At <= to {
		p.show()
	}
	p.at, p.since = max(to, 0), time.Now()
	if p.end != nil {
		p.at = min(p.at, p.reader.Last())
	}
	p.pause()
	p.flush()
	return nil
}

// press does what keys say.
func (p *player) press(keys []byte) (quit bool, err error) {
	for len(keys) > 0 && err == nil && !quit {
		seq, _, n, _ := ansi.DecodeSequence(keys, ansi.NormalState, nil)
		keys = keys[max(n, 1):]
		p.note = ""
		if p.typing {
			p.spell(seq)
			continue
		}
		quit, err = p.key(string(seq))
	}
	return quit, err
}

func (p *player) key(k string) (quit bool, err error) {
	p.now()
	switch k {
	case "q", "Q", "\x03", "\x04":
		return true, nil
	case " ":
		p.paused = !p.paused
		p.since = time.Now()
	case ".":
		p.paused = true
		if p.end == nil {
			p.show()
			p.flush()
		}
	case "\x1b[C", "\x1bOC":
		return false, p.seek(p.at + leap)
	case "\x1b[D", "\x1bOD":
		return false, p.seek(max(p.at-leap, 0))
	case "\x1b[A", "\x1bOA":
		return false, p.seek(p.at + farLeap)
	case "\x1b[B", "\x1bOB":
		return false, p.seek(max(p.at-farLeap, 0))
	case "+", "=":
		p.opt.Speed = min(p.opt.Speed*2, maxSpeed)
	case "-":
		p.opt.Speed = max(p.opt.Speed/2, minSpeed)
	case "g":
		return false, p.seek(0)
	case "G":
		for p.end == nil {
			p.show()
		}
		p.flush()
	case "/":
		p.typing, p.typed = true, ""
	case "n":
		if p.opt.Search == "" {
			p.note = "nothing to search for: type / and a text"
			break
		}
		p.search()
	case "?", "h":
		p.note = "space pause · . step · ←→ 5 s · ↑↓ 1 min · + - speed · / search · n next · g G ends · q quit"
	}
	return false, nil
}

// now moves the time on to what it is, so that speed counts from here.
func (p *player) now() {
	if p.paused || p.end != nil {
		return
	}
	passed := time.Duration(float64(time.Since(p.since)) * p.opt.Speed)
	p.at = min(p.at+passed, p.next.At)
	p.left = max(p.left-passed, 0)
	p.since = time.Now()
}

// spell takes a key of the text to search for.
func (p *player) spell(key []byte) {
	switch k := string(key); {
	case k == "\r" || k == "\n":
		p.typing = false
		if p.since = time.Now(); p.typed != "" {
			p.opt.Search = p.typed
			p.search()
		}
	case k == "\x1b" || k == "\x03":
		p.typing, p.since = false, time.Now()
	case k == "\x7f" || k == "\b":
		if r := []rune(p.typed); len(r) > 0 {
			p.typed = string(r[:len(r)-1])
		}
	case key[0] >= ' ' && len(p.typed) < 200:
		p.typed += k
	}
}

// search goes on to where the text is next, and stays there.
func (p *player) search() {
	p.note = "searching …"
	p.draw()
	p.note = ""
	var window []byte
	text := []byte(p.opt.Search)
	found := &sequences{}
	for p.end == nil {
		e := p.next
		p.show()
		if e.Kind != record.Output {
			continue
		}
		// The text as it was written, without what draws, across events.
		window = append(window, plain(found, e)...)
		if bytes.Contains(window, text) {
			p.paused = true
			p.flush()
			return
		}
		if keep := len(text) - 1; len(window) > keep {
			window = window[len(window)-keep:]
		}
	}
	p.flush()
	p.note = fmt.Sprintf("no further %q", p.opt.Search)
}

// plain is what an event writes as text.
func plain(q *sequences, e record.Event) []byte {
	var out []byte
	_ = q.each(e.Data, func(seq []byte, width int) error {
		if width == 0 && seq[0] != '\n' {
			return nil
		}
		for _, r := range string(seq) {
			if r == '\n' || !invisible(r) {
				out = utf8.AppendRune(out, r)
			}
		}
		return nil
	})
	return out
}

// refresh draws the status line, unless it was drawn a moment ago. Between saving and
// restoring the cursor by what was recorded it waits: the terminal has one place to save.
func (p *player) refresh() {
	busy := !p.paused && !p.typing && p.end == nil && p.note == ""
	if !busy || (!p.screen.saved && time.Since(p.status) >= statusEvery) {
		p.now()
		p.draw()
	}
}

func (p *player) draw() {
	p.status = time.Now()
	width, height := p.console.Size()
	text := ansi.Truncate(p.line(), max(width-1, 1), "…")
	p.send(fmt.Sprintf("\x1b7\x1b[m\x0f\x1b[%d;1H\x1b[7m%s\x1b[m\x1b[K\x1b8", height, text))
}

func (p *player) line() string {
	if p.typing {
		return "/" + cli.Escape(p.typed)
	}
	state := "playing"
	switch {
	case p.end != nil && errors.Is(p.end, io.EOF):
		state = "end"
	case p.end != nil:
		state = "broken off: " + cutShort(p.end)
	case p.paused:
		state = "paused"
	}
	parts := []string{state, clock(p.at), fmt.Sprintf("%gx", p.opt.Speed)}
	if m := p.reader.Info; m.Ours {
		parts = append(parts, cli.Escape(fmt.Sprintf("%s → %s@%s", m.User, m.Login, m.Target)))
	}
	if width, height := p.console.Size(); p.columns > width || p.rows > height-1 {
		parts = append(parts, fmt.Sprintf("this window is smaller than %dx%d", p.columns, p.rows+1))
	}
	if p.note != "" {
		parts = append(parts, cli.Escape(p.note))
	} else {
		parts = append(parts, "? for keys")
	}
	return " " + strings.Join(parts, " · ") + " "
}

// cutShort is why a recording breaks off, without its path.
func cutShort(err error) string {
	for _, known := range []error{record.ErrCut, record.ErrOrder} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return cli.Escape(err.Error())
}
