// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

const (
	ok     = fxOK
	denial = fxPermissionDenied
	flagsR = uint32(fxfRead)
	flagsW = uint32(fxfWrite | fxfCreate | fxfTruncate)
)

// jail is a site whose rules permit reading in pub and out, and writing in up and out.
func jail(t *testing.T) *site {
	t.Helper()
	dir := realDir(t)
	server, err := startServer(dir)
	must(t, err)
	s := siteWith(t, dir, area{
		Read:  []string{dir + "/pub", dir + "/out"},
		Write: []string{dir + "/up", dir + "/out"},
	}, server, nil)
	for _, name := range []string{"pub/file", "up/file", "out/file", "secret/file", "pubs/file"} {
		s.put(name, "text of "+name)
	}
	return s.init()
}

func (s *site) link(target, name string) {
	s.t.Helper()
	must(s.t, os.Symlink(target, filepath.Join(s.dir, name)))
}

func TestOpenFlagsTellReadingFromWriting(t *testing.T) {
	s := jail(t)
	for _, c := range []struct {
		path  string
		flags uint32
		may   bool
	}{
		{"pub/file", fxfRead, true},
		{"pub/file", 0, true}, // OpenSSH reads without a flag
		{"pub/file", fxfWrite, false},
		{"pub/file", fxfRead | fxfWrite, false},
		{"pub/file", fxfRead | fxfTruncate, false},
		{"pub/file", fxfRead | fxfCreate, false},
		{"pub/file", fxfAppend, false},
		{"pub/new", fxfWrite | fxfCreate, false},
		{"up/file", fxfWrite | fxfAppend, true},
		{"up/new", fxfWrite | fxfCreate | fxfExclude, true},
		{"up/file", fxfRead, false},
		{"up/file", 0, false},
		{"up/file", fxfCreate, false}, // it would be opened for reading
		{"up/file", fxfRead | fxfWrite, false},
		{"out/file", fxfRead | fxfWrite, true},
		{"secret/file", fxfRead, false},
		{"pubs/file", fxfRead, false},
		{"file", fxfRead, false},
	} {
		p := s.ask(fxpOpen, c.path, c.flags, noAttrs)
		if may := p[0] == fxpHandle; may != c.may || (!may && code(p) != denial) {
			t.Errorf("open %s with %#x: %q", c.path, c.flags, p)
		}
	}
	for _, name := range []string{"pub/file", "secret/file", "pubs/file"} {
		if text, err := os.ReadFile(filepath.Join(s.dir, name)); err != nil || string(text) != "text of "+name {
			t.Errorf("%s holds %q (%v)", name, text, err)
		}
	}
}

func TestPathsThatLeadOut(t *testing.T) {
	s := jail(t)
	s.link("../secret", "pub/link")
	s.link(s.dir+"/secret", "pub/abs")
	s.link("link", "pub/twice")
	s.link("../secret/file", "pub/filelink")
	s.link("loop2", "pub/loop")
	s.link("loop", "pub/loop2")
	s.link("/proc/self/cwd/secret", "pub/proc")
	s.put("pub/dir/file", "x")
	s.link(s.dir+"/pub/dir", "secret/in")
	for _, path := range []string{
		"pub/../secret/file", "pub/./../secret/file", "pub//..//secret//file", "pub/dir/../../secret/file",
		s.dir + "/pub/../secret/file", "/../.." + s.dir + "/secret/file", "../" + filepath.Base(s.dir) + "/secret/file",
		"pub/link/file", "pub/abs/file", "pub/twice/file", "pub/filelink", "pub/loop", "pub/loop/file", "pub/proc/file",
		"secret/in/../../secret/file", // behind the link it is pub/.., before it secret/..
		"pub/filelink/", "pub/missing/../../secret/file", "pub/file/../../secret/file",
		"PUB/file", "Pub/file", "pub\\..\\secret\\file", "pub/file\x00.txt", "pub/\x00/../../secret/file", "\x00",
		"", ".", "..", "/", "pubs/file", "pub /file", " pub/file", "pub/../pub/../secret/file",
		"~/secret/file", "./secret/file", "secret", "secret/",
		strings.Repeat("pub/../", 2000) + "secret/file", strings.Repeat("a/", 600), "pub/" + strings.Repeat("x", 5000),
		strings.Repeat("x", 100_000),
	} {
		short := path[:min(len(path), 60)]
		for what, rest := range map[byte][]any{fxpOpen: {flagsR, noAttrs}, fxpOpendir: nil, fxpStat: nil, fxpSetstat: {noAttrs}} {
			if c := code(s.ask(what, append([]any{path}, rest...)...)); c != denial {
				t.Errorf("%q, request %d: %d", short, what, c)
			}
		}
		if p := s.ask(fxpOpen, path, flagsW, noAttrs); code(p) != denial {
			t.Errorf("%q is open for writing", short)
		}
	}
	// The way round is as good as the straight one where it leads to what is permitted.
	for _, path := range []string{
		"pub/file", "pub/../pub/file", "./pub//./file", s.dir + "/pub/file", "secret/in/file", "secret/../pub/file", "secret/in/../file",
		"/" + s.dir + "/pub/file", "pub/missing/../file",
	} {
		p := s.ask(fxpOpen, path, flagsR, noAttrs)
		if path == "pub/missing/../file" {
			// The kernel would not find it either.
			if code(p) != denial {
				t.Errorf("%s: %q", path, p)
			}
			continue
		}
		s.wantCode(ok, fxpClose, s.handle(p))
	}
}

func TestALinkItselfIsJudgedWhereItStands(t *testing.T) {
	s := jail(t)
	s.link("../secret/file", "up/link")
	s.link("../secret", "up/dirlink")
	s.link("../up/file", "secret/link")
	if p := s.ask(fxpLstat, "up/link"); p[0] != fxpAttrs {
		t.Errorf("lstat: %q", p)
	}
	if to, okay := nameOf(s.ask(fxpReadlink, "up/link")); !okay || to != "../secret/file" {
		t.Errorf("readlink says %q", to)
	}
	s.wantCode(denial, fxpStat, "up/link")
	s.wantCode(denial, fxpLstat, "up/dirlink/") // with the slash it is what is behind
	s.wantCode(denial, fxpLstat, "up/dirlink/.")
	s.wantCode(denial, fxpRemove, "up/dirlink/file")
	s.wantCode(denial, fxpReadlink, "secret/link")
	s.wantCode(denial, fxpSetstat, "up/link", noAttrs)
	s.wantCode(ok, fxpRemove, "up/link")
	if _, err := os.Stat(filepath.Join(s.dir, "secret/file")); err != nil {
		t.Error(err)
	}
}

func TestLinksThatWouldLeadOutAreNotMade(t *testing.T) {
	s := jail(t)
	for _, c := range []struct {
		target, at string
		want       int
	}{
		{s.dir + "/secret/file", "up/l1", denial},
		{"../secret/file", "up/l2", denial},
		{"../../../../../../../../etc/passwd", "up/l3", denial},
		{"file", "secret/l4", denial},
		{"file", "pub/l5", denial},
		{"file", "up/l6", ok},
		{"../pub/file", "up/l7", ok},
		{"not-there", "up/l8", ok},
		{"a\x00b", "up/l9", denial},
		{"", "up/l10", denial},
	} {
		s.wantCode(c.want, fxpSymlink, c.target, c.at)
		if _, err := os.Lstat(filepath.Join(s.dir, c.at)); (err == nil) != (c.want == ok) {
			t.Errorf("%s: %v", c.at, err)
		}
	}
	s.wantCode(denial, fxpExtended, extHardlink, "secret/file", "up/hard")
	s.wantCode(denial, fxpExtended, extHardlink, "pub/file", "up/hard") // it could be written by that name
	s.wantCode(denial, fxpExtended, extHardlink, "up/file", "out/hard") // it could be read by that name
	s.wantCode(ok, fxpExtended, extHardlink, "up/file", "up/hard")
}

func TestRenameNeverOpensWhatWasClosed(t *testing.T) {
	s := jail(t)
	s.put("up/dir/file", "x")
	s.put("out/dir/file", "x")
	for _, what := range [][]any{{byte(fxpRename)}, {byte(fxpExtended), extPosixRename}} {
		ask := func(want int, from, to string) {
			t.Helper()
			s.wantCode(want, what[0].(byte), append(what[1:], from, to)...)
		}
		ask(denial, "secret/file", "up/x")
		ask(denial, "pub/file", "up/x")
		ask(denial, "up/file", "secret/x")
		ask(denial, "up/file", "up/../secret/x")
		ask(denial, "up/file", "out/x") // it could be read there
		ask(denial, "up/dir", "out/x")
		ask(ok, "out/file", "up/moved")
		ask(ok, "out/dir", "up/moveddir")
		s.put("out/file", "again")
		must(t, os.RemoveAll(filepath.Join(s.dir, "up/moved")))
		must(t, os.Rename(filepath.Join(s.dir, "up/moveddir"), filepath.Join(s.dir, "out/dir")))
	}
}

func TestAFolderIsNotMovedOverARuleOfWhatIsInIt(t *testing.T) {
	dir := realDir(t)
	server, err := startServer(dir)
	must(t, err)
	s := siteWith(t, dir, shallow{dir}, server, nil).init()
	s.put("a/file", "x")
	s.put("a/dir/secret", "x")
	s.wantCode(ok, fxpRename, "a/file", "b")
	s.wantCode(denial, fxpRename, "a", "c")
}

// shallow permits all of two levels and nothing below.
type shallow struct{ dir string }

func (shallow) MaySFTP() (bool, bool) { return true, false }
func (r shallow) MayRead(p string) bool {
	rest, okay := strings.CutPrefix(p, r.dir+"/")
	return okay && strings.Count(rest, "/") < 2
}
func (r shallow) MayWrite(p string) bool  { return r.MayRead(p) }
func (shallow) MayReadBelow(string) bool  { return false }
func (shallow) MayWriteBelow(string) bool { return false }

// What is in a folder is not read by a rule for another place, whatever its patterns look at.
func TestAMovedFolderMakesNothingReadable(t *testing.T) {
	dir := realDir(t)
	set, err := policy.Compile([]policy.Rule{{
		Name: "x", Users: []string{"*"}, Targets: []string{"*"}, Logins: []string{"*"},
		SFTPRead:  &[]string{dir + "/w/pub/*.txt", dir + "/w/log/**.log", dir + "/all/**"},
		SFTPWrite: &[]string{dir + "/w/**", dir + "/all/**"},
	}})
	must(t, err)
	g := set.Decide(t.Context(), policy.Query{Account: directory.Account{Name: "alice"}, Login: "root", Target: &inventory.Target{Name: "db1"}})
	server, err := startServer(dir)
	must(t, err)
	s := siteWith(t, dir, &g, server, nil).init()
	s.put("w/private/key.txt", "secret")
	s.put("w/private/x.log", "secret")
	s.put("all/dir/file", "x")
	s.wantCode(denial, fxpRename, "w/private/key.txt", "w/pub/key.txt")
	for _, to := range []string{"w/pub", "w/log/x", "all/private"} {
		s.wantCode(denial, fxpRename, "w/private", to)
		s.wantCode(denial, fxpExtended, extPosixRename, "w/private", to)
	}
	for _, path := range []string{"w/pub/key.txt", "w/log/x/x.log", "all/private/key.txt"} {
		if p := s.ask(fxpOpen, path, flagsR, noAttrs); p[0] == fxpHandle {
			t.Errorf("%s is open", path)
		}
	}
	// What could be read anyhow moves.
	s.wantCode(ok, fxpRename, "all/dir", "all/moved")
	s.wantCode(ok, fxpRename, "all/moved", "w/moved")
}

// A FIFO is opened when somebody opens its other end: until then nobody else had a turn.
func TestAFIFODoesNotHoldTheTurn(t *testing.T) {
	dir := realDir(t)
	var turns Turns
	one := func() *site {
		server, err := startServer(dir)
		must(t, err)
		return siteWith(t, dir, area{Read: []string{dir}, Write: []string{dir}}, server, func(f *Filter) { f.Turns, f.Place = &turns, "db1" }).init()
	}
	s, victim := one(), one()
	s.put("x", "x")
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	s.link("fifo", "link")
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer l.Close()
	for _, name := range []string{"fifo", "link", "socket", "./fifo"} {
		s.wantCode(denial, fxpOpen, name, flagsR, noAttrs)
		s.wantCode(denial, fxpOpen, name, flagsW, noAttrs)
	}
	if p := victim.ask(fxpStat, "x"); p[0] != fxpAttrs {
		t.Errorf("the other session reads %q", p)
	}
	if p := s.ask(fxpStat, "fifo"); p[0] != fxpAttrs { // to look at it does no harm
		t.Errorf("stat: %q", p)
	}
}

// What a server answers is kept for a while, and so is not as long as it likes.
func TestAServerThatAnswersAtLengthEndsTheSession(t *testing.T) {
	rules := area{Read: []string{"/home/pub"}, Write: []string{"/home/pub"}}
	pad := strings.Repeat("x", maxAnswer)
	for name, c := range map[string]struct {
		rules area
		what  byte
		reply func(id []byte) []byte
	}{
		"handle": {area{All: true}, fxpOpen, func(id []byte) []byte {
			return finish(addString(append(start(nil, fxpHandle), id...), pad[:maxHandle+1]))
		}},
		"handle where paths are restricted": {rules, fxpOpen, func(id []byte) []byte {
			return finish(addString(append(start(nil, fxpHandle), id...), pad[:maxHandle+1]))
		}},
		"attributes of our own request": {rules, fxpLstat, func(id []byte) []byte {
			return finish(append(append(append(start(nil, fxpAttrs), id...), 0, 0, 0, 4, 0, 0, 0x41, 0xff), pad...))
		}},
		"a status of our own request": {rules, fxpLstat, func(id []byte) []byte {
			return finish(addString(append(append(start(nil, fxpStatus), id...), 0, 0, 0, 2), pad))
		}},
		"a path of our own request": {rules, fxpReadlink, func(id []byte) []byte {
			p := append(append(start(nil, fxpName), id...), 0, 0, 0, 1)
			return finish(addString(addString(p, "/home/pub"), pad))
		}},
		"a status": {area{All: true}, fxpOpen, func(id []byte) []byte {
			return finish(addString(append(append(start(nil, fxpStatus), id...), 0, 0, 0, 4), pad))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, server, in := peer(t, c.rules, nil)
			greet(t, s, server, in, "/home")
			go s.client.Write(s.packet(fxpOpen, "pub/x", flagsR, noAttrs))
			go func() {
				for {
					p, err := in.next()
					if err != nil {
						return
					}
					reply := finish(append(append(start(nil, fxpAttrs), p[5:9]...), 0, 0, 0, 4, 0, 0, 0x81, 0xff))
					if c.what == fxpReadlink { // there is a link to ask about
						reply[len(reply)-2] = 0xa1
					}
					if p[4] == c.what {
						reply = c.reply(p[5:9])
					}
					if _, err := server.Write(reply); err != nil {
						return
					}
				}
			}()
			go io.Copy(io.Discard, s.client)
			if err := <-s.done; !errors.Is(err, ErrProtocol) {
				t.Errorf("Run returns %v", err)
			}
		})
	}
}

func TestHandlesDoNotFillTheMemory(t *testing.T) {
	s := &session{handles: map[string]*handle{}, report: func(Op) {}}
	long := "/" + strings.Repeat("x", maxPath-2)
	for n := range uint32(maxHandles) {
		name := binary.BigEndian.AppendUint32(nil, n)
		reply := addString(append([]byte{fxpHandle}, 0, 0, 0, 1), append(name, strings.Repeat("y", maxHandle-4)...))
		s.opened(&pending{op: Op{Path: long}, access: access{read: true}}, reply, 0)
	}
	held := 0
	for _, h := range s.handles {
		held += h.called()
	}
	if held > maxNames || held != s.names || held < maxNames/2 {
		t.Errorf("%d bytes of names are held, and %d are counted", held, s.names)
	}
	for _, h := range s.handles {
		s.forget(h)
	}
	if s.names != 0 {
		t.Errorf("%d bytes are counted of none", s.names)
	}
}

func TestWhatNamesAPathIsJudged(t *testing.T) {
	s := jail(t)
	up, secret := "up/file", "secret/file"
	for _, c := range []struct {
		what   byte
		before []any
		after  []any
		may    string // a path for which it is permitted
	}{
		{fxpOpendir, nil, nil, "pub"},
		{fxpLstat, nil, nil, up},
		{fxpStat, nil, nil, up},
		{fxpSetstat, nil, []any{noAttrs}, up},
		{fxpExtended, []any{extLsetstat}, []any{noAttrs}, up},
		{fxpExtended, []any{extStatvfs}, nil, up},
		{fxpMkdir, nil, []any{noAttrs}, "up/d"},
		{fxpRmdir, nil, nil, "up/d"},
		{fxpRemove, nil, nil, up},
	} {
		fields := func(path string) []any { return append(append(slices.Clone(c.before), path), c.after...) }
		if got := code(s.ask(c.what, fields(secret)...)); got != denial {
			t.Errorf("%d %q for %s: %d", c.what, c.before, secret, got)
		}
		if got := code(s.ask(c.what, fields(c.may)...)); got == denial {
			t.Errorf("%d %q for %s is denied", c.what, c.before, c.may)
		}
	}
	s.wantCode(denial, fxpRmdir, "secret")
	s.wantCode(denial, fxpMkdir, "secret/d", noAttrs)
	s.wantCode(denial, fxpMkdir, "pub/d", noAttrs)
	s.wantCode(denial, fxpRemove, "pub/file")
}

func TestUnknownRequestsAreRefusedWherePathsAreRestricted(t *testing.T) {
	s := jail(t)
	for _, ext := range []string{"home-directory", "evil@example.com", "", "text-seek", "check-file-name", "POSIX-RENAME@openssh.com"} {
		s.wantCode(denial, fxpExtended, ext, "secret/file", "secret/file")
	}
	for _, what := range []byte{0, 21, 22, 99, 101, 102, 105, 199, 201, 255} {
		s.wantCode(denial, what, "secret/file")
	}
	if p := s.ask(fxpExtended, extLimits); p[0] != fxpExtendedReply {
		t.Errorf("limits: %q", p)
	}
	if p := s.ask(fxpExtended, extUsersGroups, []byte{0, 0, 0, 4, 0, 0, 0, 0}, ""); p[0] == fxpStatus && code(p) == denial {
		t.Errorf("users-groups-by-id is denied")
	}
	// Requests that stop in the middle.
	for _, what := range []byte{fxpOpen, fxpStat, fxpRename, fxpSymlink, fxpExtended} {
		s.wantCode(denial, what, []byte{0, 0, 1, 0, 'x'})
	}
}

func TestUnknownRequestsPassWhereNothingIsRestricted(t *testing.T) {
	s := newSite(t, area{All: true}, nil).init()
	const unsupported = 8
	s.wantCode(unsupported, fxpExtended, "evil@example.com", "x")
	s.put("file", "text")
	h := s.open("file", flagsR)
	if p := s.ask(fxpRead, h, uint64(0), uint32(100)); p[0] != fxpData {
		t.Errorf("read: %q", p)
	}
	s.wantCode(fxEOF, fxpRead, h, uint64(4), uint32(100))
	s.wantCode(ok, fxpClose, h)
	must(t, s.close())
	want := []Op{{Kind: "extension evil@example.com", Result: "not supported"}, {Kind: "read", Path: s.dir + "/file", Bytes: 4, SHA256: sum([]byte("text")), Result: ResultOK}}
	if got := s.told(); !slices.Equal(got, want) {
		t.Errorf("told %+v", got)
	}
}

func TestHandlesAreGoodForWhatTheyWereOpenedForAlone(t *testing.T) {
	s := jail(t)
	r := s.open("pub/file", flagsR)
	w := s.open("up/new", flagsW)
	d := s.handle(s.ask(fxpOpendir, "pub"))
	zero, ten := uint64(0), uint32(10)
	s.wantCode(denial, fxpWrite, r, zero, "x")
	s.wantCode(denial, fxpFsetstat, r, noAttrs) // fchmod needs no descriptor that can write
	s.wantCode(denial, fxpRead, w, zero, ten)
	s.wantCode(denial, fxpRead, d, zero, ten)
	s.wantCode(denial, fxpReaddir, r)
	for _, none := range []string{"", "\x00\x00\x00\x09", "nothing", strings.Repeat("h", 300)} {
		s.wantCode(denial, fxpRead, none, zero, ten)
		s.wantCode(denial, fxpWrite, none, zero, "x")
		s.wantCode(denial, fxpClose, none)
		s.wantCode(denial, fxpFstat, none)
		s.wantCode(denial, fxpFsetstat, none, noAttrs)
		s.wantCode(denial, fxpReaddir, none)
		s.wantCode(denial, fxpExtended, extFstatvfs, none)
		s.wantCode(denial, fxpExtended, extFsync, none)
		s.wantCode(denial, fxpExtended, extCopyData, none, zero, zero, none, zero)
	}
	s.wantCode(denial, fxpExtended, extCopyData, w, zero, zero, r, zero)
	s.wantCode(denial, fxpExtended, extCopyData, r, zero, zero, r, zero)
	s.wantCode(ok, fxpExtended, extCopyData, r, zero, zero, w, zero)
	if p := s.ask(fxpReaddir, d); p[0] != fxpName {
		t.Errorf("readdir: %q", p)
	}
	for _, h := range []string{r, w, d} {
		s.wantCode(ok, fxpClose, h)
		s.wantCode(denial, fxpClose, h)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "up/new"))
	if err != nil || string(text) != "text of pub/file" {
		t.Errorf("copied: %q (%v)", text, err)
	}
	must(t, s.close())
	if !slices.Contains(s.told(), Op{Kind: "copy", Path: s.dir + "/pub/file", To: s.dir + "/up/new", Result: ResultOK}) {
		t.Errorf("told:\n%s", lines(s.told()))
	}
	if !slices.Contains(s.told(), Op{Kind: "write", Path: s.dir + "/up/new", Result: ResultOK}) {
		t.Errorf("the sum of a file that was not seen was told:\n%s", lines(s.told()))
	}
}

// A request that is sent before the answer with the handle has come must not profit
// from a handle that can be guessed.
func TestAHandleThatIsGuessedIsNoHandle(t *testing.T) {
	s := jail(t)
	h := s.open("up/new", flagsW)
	var all []byte
	all = append(all, s.packet(fxpClose, h)...)
	all = append(all, s.packet(fxpWrite, h, uint64(0), "late")...) // it is closed, or another file by now
	all = append(all, s.packet(fxpOpen, "up/other", flagsW, noAttrs)...)
	all = append(all, s.packet(fxpWrite, h, uint64(0), "good")...)
	go s.client.Write(all)
	var got []int
	for range 4 {
		p, err := s.in.next()
		must(t, err)
		got = append(got, code(p[4:]))
	}
	if !slices.Equal(got, []int{ok, denial, -1, ok}) {
		t.Errorf("answers %v", got)
	}
}

func TestRefusalsComeInTheirPlace(t *testing.T) {
	s := jail(t)
	h := s.open("pub/file", flagsR)
	var all []byte
	first := s.id + 1
	for range 50 {
		all = append(all, s.packet(fxpRead, h, uint64(0), uint32(4))...)
		all = append(all, s.packet(fxpStat, "secret/file")...)
		all = append(all, s.packet(fxpRead, "none", uint64(0), uint32(4))...)
		all = append(all, s.packet(fxpStat, "pub/file")...)
	}
	go s.client.Write(all)
	for n := range uint32(200) {
		p, err := s.in.next()
		must(t, err)
		id := binary.BigEndian.Uint32(p[5:])
		want := []byte{fxpData, fxpStatus, fxpStatus, fxpAttrs}[n%4]
		if id != first+n || p[4] != want {
			t.Fatalf("answer %d is for %d, of type %d", n, id-first, p[4])
		}
	}
}

func TestIDsThatAreUsedTwiceConfuseNobody(t *testing.T) {
	s := jail(t)
	same := func(what byte, fields ...any) []byte { s.id = 41; return s.packet(what, fields...) }
	h := s.open("pub/file", flagsR)
	var all []byte
	for range 20 {
		all = append(all, same(fxpRead, h, uint64(0), uint32(4))...)
		all = append(all, same(fxpFstat, h)...)
	}
	go s.client.Write(all)
	for n := range 40 {
		p, err := s.in.next()
		must(t, err)
		if want := []byte{fxpData, fxpAttrs}[n%2]; p[4] != want || binary.BigEndian.Uint32(p[5:]) != 42 {
			t.Fatalf("answer %d: %q", n, p)
		}
	}
}

func TestRealpathShowsNothingOutOfBounds(t *testing.T) {
	s := jail(t)
	s.link("secret/file", "out.link")
	s.link("../secret/file", "pub/link")
	for name, want := range map[string]string{
		".": s.dir, "": s.dir, "..": filepath.Dir(s.dir), "/": "/", "pub": s.dir + "/pub", "pub/../pub/./file": s.dir + "/pub/file",
		"out.link": s.dir + "/out.link", "pub/link": s.dir + "/pub/link", "secret/none/..": s.dir + "/secret",
	} {
		if got, okay := nameOf(s.ask(fxpRealpath, name)); !okay || got != want {
			t.Errorf("realpath %q is %q and not %q", name, got, want)
		}
	}
	s.wantCode(denial, fxpRealpath, "a\x00b")
	s.wantCode(denial, fxpExtended, extExpandPath, "~root/x")
	if got, okay := nameOf(s.ask(fxpExtended, extExpandPath, "~/pub")); !okay || got != s.dir+"/pub" {
		t.Errorf("expand-path ~/pub is %q", got)
	}
}

// swapper is a server that changes a link when it has answered enough LSTATs: the
// user's other session.
type swapper struct {
	*process
	swap func()
}

func (w *swapper) Write(p []byte) (int, error) {
	if len(p) > 4 && p[4] == fxpOpen && w.swap != nil {
		w.swap()
		w.swap = nil
	}
	return w.process.Write(p)
}

func TestALinkSwappedBetweenLookAndUseChangesNothing(t *testing.T) {
	t.Run("the link that was named", func(t *testing.T) {
		dir := realDir(t)
		server, err := startServer(dir)
		must(t, err)
		w := &swapper{process: server}
		s := siteWith(t, dir, area{Read: []string{dir + "/pub"}}, w, nil).init()
		s.put("pub/file", "public")
		s.put("secret/file", "secret")
		s.link("pub", "way")
		w.swap = func() {
			must(t, os.Remove(dir+"/way"))
			must(t, os.Symlink("secret", dir+"/way"))
		}
		h := s.open("way/file", flagsR)
		if p := s.ask(fxpRead, h, uint64(0), uint32(6)); !strings.HasSuffix(string(p), "public") {
			t.Errorf("read %q", p)
		}
	})
	t.Run("a part of the path becomes a link", func(t *testing.T) {
		dir := realDir(t)
		server, err := startServer(dir)
		must(t, err)
		w := &swapper{process: server}
		s := siteWith(t, dir, area{Read: []string{dir + "/pub"}}, w, nil).init()
		s.put("pub/dir/file", "public")
		s.put("secret/file", "secret")
		w.swap = func() {
			must(t, os.Rename(dir+"/pub/dir", dir+"/pub/old"))
			must(t, os.Symlink("../secret", dir+"/pub/dir"))
		}
		s.wantCode(denial, fxpOpen, "pub/dir/file", flagsR, noAttrs)
		// The handle that the server gave is not usable, whatever its name.
		for n := range byte(4) {
			s.wantCode(denial, fxpRead, string([]byte{0, 0, 0, n}), uint64(0), uint32(6))
		}
	})
}

func TestSessionsOfOnePlaceTakeTurns(t *testing.T) {
	var turns Turns
	held := turns.join("db1")
	if !held.take(unblock, nil) {
		t.Fatal("the turn is not free")
	}
	dir := realDir(t)
	server, err := startServer(dir)
	must(t, err)
	s := siteWith(t, dir, area{Read: []string{dir}}, server, func(f *Filter) { f.Turns, f.Place = &turns, "db1" }).init()
	s.put("file", "x")
	go s.client.Write(s.packet(fxpStat, "file"))
	must(t, s.client.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if p, err := s.in.next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("it was answered out of its turn: %q, %v", p, err)
	}
	s.in = newPackets(s.client, "the filter")
	must(t, s.client.SetReadDeadline(time.Now().Add(unblock)))
	held.give()
	if p, err := s.in.next(); err != nil || p[4] != fxpAttrs {
		t.Errorf("after its turn: %q, %v", p, err)
	}
	must(t, s.close())
	turns.leave("db1")
	if len(turns.places) != 0 {
		t.Error("a place is kept that nobody is at")
	}
}

// peer is a server that a test plays.
func peer(t *testing.T, rules Rules, change func(*Filter)) (*site, net.Conn, *packets) {
	t.Helper()
	here, there := net.Pipe()
	must(t, here.SetDeadline(time.Now().Add(unblock)))
	s := siteWith(t, "/home", rules, there, change)
	return s, here, newPackets(here, "the filter")
}

// greet answers INIT, and the question after home.
func greet(t *testing.T, s *site, server net.Conn, in *packets, home string) {
	t.Helper()
	go s.raw([]byte{0, 0, 0, 5, fxpInit, 0, 0, 0, 3})
	_, err := in.next()
	must(t, err)
	go server.Write([]byte{0, 0, 0, 5, fxpVersion, 0, 0, 0, 3})
	_, err = s.in.next()
	must(t, err)
	p, err := in.next()
	must(t, err)
	reply := nameReply(home)
	copy(reply[5:9], p[5:9])
	_, err = server.Write(reply)
	must(t, err)
}

func TestAHostileServer(t *testing.T) {
	rules := area{Read: []string{"/home/pub"}, Write: []string{"/home/pub"}}
	t.Run("answers that nobody asked for", func(t *testing.T) {
		s, server, in := peer(t, rules, nil)
		greet(t, s, server, in, "/home")
		for _, id := range []uint32{0, 1, 2, 1 << 31, 0xffffffff} {
			_, err := server.Write(status(nil, id, 0, "x"))
			must(t, err)
		}
		// It still works.
		go s.client.Write(s.packet(fxpExtended, extLimits))
		p, err := in.next()
		must(t, err)
		_, err = server.Write(status(nil, binary.BigEndian.Uint32(p[5:]), 8, "no"))
		must(t, err)
		got, err := s.in.next()
		if err != nil || code(got[4:]) != 8 {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("links without end", func(t *testing.T) {
		s, server, in := peer(t, rules, nil)
		greet(t, s, server, in, "/home")
		go s.client.Write(s.packet(fxpStat, "pub/x"))
		go func() {
			for {
				p, err := in.next()
				if err != nil {
					return
				}
				reply := nameReply("pub/x/" + strings.Repeat("y/", 100))
				if p[4] == fxpLstat {
					reply = finish(append(start(nil, fxpAttrs), 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0xa1, 0xff))
				}
				copy(reply[5:9], p[5:9])
				if _, err := server.Write(reply); err != nil {
					return
				}
			}
		}()
		if p, err := s.in.next(); err != nil || code(p[4:]) != denial {
			t.Errorf("%q, %v", p, err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		s, server, in := peer(t, rules, func(f *Filter) { f.Timeout = 10 * time.Millisecond })
		greet(t, s, server, in, "/home")
		go s.client.Write(s.packet(fxpStat, "pub/x"))
		go io.Copy(io.Discard, server)
		if err := <-s.done; !errors.Is(err, ErrTimeout) {
			t.Errorf("Run returns %v", err)
		}
	})
	t.Run("paths of Windows", func(t *testing.T) {
		s, server, in := peer(t, rules, nil)
		greet(t, s, server, in, "/C:/home/alice")
		go s.client.Write(s.packet(fxpStat, "pub\\..\\x"))
		if err := <-s.done; !errors.Is(err, ErrForeignPaths) {
			t.Errorf("Run returns %v", err)
		}
	})
	for name, bytes := range map[string][]byte{
		"a packet too long": {0xff, 0xff, 0xff, 0xff, 103},
		"an empty packet":   {0, 0, 0, 0},
		"a later version":   {0, 0, 0, 5, fxpVersion, 0, 0, 0, 6},
		"no id":             {0, 0, 0, 2, fxpStatus, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, server, _ := peer(t, rules, nil)
			go server.Write(bytes)
			if err := <-s.done; !errors.Is(err, ErrProtocol) {
				t.Errorf("Run returns %v", err)
			}
		})
	}
}

func TestAHostileClient(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"no INIT":           {0, 0, 0, 5, fxpStat, 0, 0, 0, 1},
		"a packet too long": {0x7f, 0xff, 0xff, 0xff, fxpInit},
		"an empty packet":   {0, 0, 0, 0},
		"INIT twice":        {0, 0, 0, 5, fxpInit, 0, 0, 0, 3, 0, 0, 0, 5, fxpInit, 0, 0, 0, 3},
		"no id":             {0, 0, 0, 5, fxpInit, 0, 0, 0, 3, 0, 0, 0, 1, fxpStat},
	} {
		for _, all := range []bool{true, false} {
			t.Run(fmt.Sprint(name, all), func(t *testing.T) {
				s := newSite(t, area{All: all}, nil)
				go io.Copy(io.Discard, s.client)
				s.raw(bytes)
				if err := <-s.done; !errors.Is(err, ErrProtocol) {
					t.Errorf("Run returns %v", err)
				}
			})
		}
	}
	t.Run("gone within a packet", func(t *testing.T) {
		s := newSite(t, area{All: true}, nil)
		s.raw([]byte{0, 0})
		if err := s.close(); !errors.Is(err, ErrProtocol) {
			t.Errorf("Run returns %v", err)
		}
	})
}

func TestFilesThatWereNotClosedAreTold(t *testing.T) {
	s := newSite(t, area{All: true}, nil).init()
	h := s.open("new", flagsW)
	s.wantCode(ok, fxpWrite, h, uint64(0), "text")
	must(t, s.close())
	want := []Op{{Kind: "write", Path: s.dir + "/new", Bytes: 4, Result: ResultUnfinished}}
	if got := s.told(); !slices.Equal(got, want) {
		t.Errorf("told %+v", got)
	}
}

func TestSumsAreOfWholeFilesAlone(t *testing.T) {
	text := []byte(strings.Repeat("0123456789", 1000))
	part := func(from, to int) []any { return []any{uint64(from), string(text[from:to])} }
	for name, c := range map[string]struct {
		flags  uint32
		writes [][]any
		sum    string
	}{
		"in order":           {flagsW, [][]any{part(0, 4000), part(4000, 10000)}, sum(text)},
		"out of order":       {flagsW, [][]any{part(4000, 10000), part(2000, 4000), part(0, 2000)}, sum(text)},
		"a hole":             {flagsW, [][]any{part(0, 4000), part(5000, 10000)}, ""},
		"twice":              {flagsW, [][]any{part(0, 10000), part(0, 10)}, ""},
		"twice ahead":        {flagsW, [][]any{part(5, 10), part(5, 10), part(0, 5)}, ""},
		"not truncated":      {fxfWrite | fxfCreate, [][]any{part(0, 10000)}, ""},
		"nothing":            {flagsW, nil, sum(nil)},
		"new by all means":   {fxfWrite | fxfCreate | fxfExclude, [][]any{part(0, 10000)}, sum(text)},
		"from the middle on": {flagsW, [][]any{part(10, 10000)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, area{All: true}, nil).init()
			h := s.open("new", c.flags)
			for _, w := range c.writes {
				s.wantCode(ok, fxpWrite, append([]any{h}, w...)...)
			}
			s.wantCode(ok, fxpClose, h)
			must(t, s.close())
			if got := s.told(); len(got) != 1 || got[0].SHA256 != c.sum {
				t.Errorf("told %+v and not %q", got, c.sum)
			}
		})
	}
}
