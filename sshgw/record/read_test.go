// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARecordingThatWasCutOffIsReadUpToThere(t *testing.T) {
	r := recorder(t, nil)
	rec := begin(t, r, meta())
	for range 3 {
		must(t, rec.Output([]byte("0123456789")))
	}
	must(t, rec.Close())
	text, err := os.ReadFile(filepath.Join(r.opt.Dir, rec.Name()))
	must(t, err)
	head := strings.Index(string(text), "\n")
	for cut := head; cut < len(text)-2; cut++ {
		path := filepath.Join(t.TempDir(), "cut.cast")
		must(t, os.WriteFile(path, text[:cut], 0o600))
		_, events, err := readAll(t, path)
		if !errors.Is(err, ErrCut) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if whole := strings.Count(string(text[:cut]), `"]`); len(events) != min(whole, 3) {
			t.Errorf("cut at %d: %d events of %d", cut, len(events), whole)
		}
	}
}

func TestWhatIsNoRecordingOrNotInOrder(t *testing.T) {
	const head = `{"version":2,"width":80,"height":24}` + "\n"
	const ours = `{"version":2,"width":80,"height":24,"sallyport":{"channel":"s","user":"a","target":"t","login":"l","terminal":true,"input":false}}` + "\n"
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":            {"", ErrCut},
		"another version":  {`{"version":1,"width":80,"height":24,"stdout":[]}`, ErrNotCast},
		"a text":           {"hello\n", ErrNotCast},
		"another program":  {head + `[1.5,"o","x"]` + "\n\n" + `[2, "marker", {"a":1}]` + "\n", nil},
		"backwards":        {head + `[2,"o","x"]` + "\n" + `[1,"o","y"]` + "\n", ErrOrder},
		"after its end":    {ours + `[2,"end",""]` + "\n" + `[3,"o","y"]` + "\n", ErrOrder},
		"without its end":  {ours + `[2,"o","x"]` + "\n", ErrCut},
		"with its end":     {ours + `[2,"end",""]` + "\n", nil},
		"no seal":          {"age-encryption.org/v1\n", ErrSealed},
		"negative":         {head + `[-1,"o","x"]` + "\n" + `[1,"o","y"]` + "\n", errAny},
		"beyond all times": {head + `[1e300,"o","x"]` + "\n" + `[1,"o","y"]` + "\n", errAny},
		"no size":          {head + `[1,"r","70000x1"]` + "\n" + `[1,"r","0x0"]` + "\n" + `[1,"r",""]` + "\n" + `[1,"o","y"]` + "\n", nil},
		"no base64":        {head + `[1,"ob","!"]` + "\n" + `[1,"o","y"]` + "\n", errAny},
	} {
		path := filepath.Join(t.TempDir(), "x.cast")
		must(t, os.WriteFile(path, []byte(c.text), 0o600))
		_, _, err := readAll(t, path)
		if faulty := errors.Is(c.want, errAny); faulty && err == nil || !faulty && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASizeThatNobodyHasHidesNothing(t *testing.T) {
	for _, size := range [][2]int{{65536, 24}, {80, 1 << 20}, {1<<32 - 1, 1<<32 - 1}, {0, 0}, {0, 24}} {
		r := recorder(t, nil)
		m := meta()
		m.Width, m.Height = size[0], size[1]
		rec := begin(t, r, m)
		must(t, rec.Resize(size[0], size[1]))
		must(t, rec.Output([]byte("what came after")))
		must(t, rec.Close())
		_, events, err := readAll(t, filepath.Join(r.opt.Dir, rec.Name()))
		if err != nil || said(events, Output) != "what came after" {
			t.Errorf("after %v: %q, %v", size, said(events, Output), err)
		}
		for _, e := range events {
			if e.Kind == Resize && (e.Width < 1 || e.Width > 65535 || e.Height < 1 || e.Height > 65535) {
				t.Errorf("%v was recorded as %dx%d", size, e.Width, e.Height)
			}
		}
	}
	// What an earlier version has written is read as well.
	path := filepath.Join(t.TempDir(), "x.cast")
	must(t, os.WriteFile(path, []byte(`{"version":2,"width":80,"height":24}`+"\n"+`[1,"r","65536x24"]`+"\n"+`[2,"o","y"]`+"\n"), 0o600))
	if _, events, err := readAll(t, path); err != nil || said(events, Output) != "y" {
		t.Errorf("%q, %v", said(events, Output), err)
	}
}

var errAny = errors.New("any error")

// endless is a line that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestALineWithoutEndIsRefused(t *testing.T) {
	if _, err := NewReader(io.MultiReader(strings.NewReader("{"), endless{})); err == nil {
		t.Error("it was read")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(`{"version":2,"width":80,"height":24}` + "\n" + `[1.5,"o","x"]` + "\n" + `[2,"r","1x1"]`)
	f.Add("age-encryption.org/v1\n-> X25519 x\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := NewReader(strings.NewReader(text))
		if err != nil {
			return
		}
		last := c.last
		for {
			e, err := c.Next()
			if err != nil {
				if _, again := c.Next(); again == nil {
					t.Fatal("something follows an error")
				}
				return
			}
			if e.At < last {
				t.Fatalf("%v follows %v", e.At, last)
			}
			last = e.At
		}
	})
}

func TestTerminalWithoutASizeIsATerminal(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		m := meta()
		m.Terminal, m.Width, m.Height = terminal, 0, 0
		head, err := header(m)
		must(t, err)
		c, err := NewReader(strings.NewReader(string(head)))
		must(t, err)
		if c.Info.Terminal != terminal || terminal != (c.Info.Width == noWidth) {
			t.Errorf("terminal %v: %s gives %+v", terminal, head, c.Info.Meta)
		}
	}
}
