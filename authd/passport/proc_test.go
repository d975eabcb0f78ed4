// SPDX-License-Identifier: Apache-2.0

package passport

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/passport/passporttest"
	"github.com/sallyport-mfa/sallyport/authd/process"
)

const (
	alice = 1000
	bob   = 1001
)

// In short: what a test says of a /proc.
type (
	entry    = passporttest.Process
	fakeProc = passporttest.Proc
)

var (
	monitor = passporttest.Monitor
	sudo    = passporttest.Sudo
)

func mustOpen(t *testing.T, f fs.FS) Binding {
	t.Helper()
	b, err := Proc{f}.Opened(monitor, alice)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// remembers says whether a process would be taken for one of a login.
func remembers(f fs.FS, b Binding, id process.ID, uid uint32) (bool, error) {
	above, err := Proc{f}.Above(id, uid)
	return slices.Contains(above, b), err
}

func TestSudoInTheLogin(t *testing.T) {
	f := passporttest.Host()
	b := mustOpen(t, f)
	if ok, err := remembers(f, b, sudo, alice); !ok || err != nil {
		t.Errorf("sudo in the login: %v, %v", ok, err)
	}
	above, err := Proc{f}.Above(sudo, alice)
	if err != nil || len(above) != 6 {
		t.Errorf("%d processes above, %v", len(above), err)
	}
	// Another binding for each of them.
	slices.SortFunc(above, func(a, b Binding) int { return strings.Compare(a.String(), b.String()) })
	if len(slices.Compact(above)) != 6 {
		t.Error("two processes have the same binding")
	}
}

// Who does not belong to the login, by what the kernel says of them.
func TestWhoDoesNotMatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f fakeProc)
		id     process.ID // sudo
		uid    uint32     // alice
		err    error      // nil: looked up, and not found
	}{
		{name: "a second login", change: func(f fakeProc) {
			f.Add(entry{PID: 400, Parent: 200, Start: 5500, Session: "8"})
			f.Add(entry{PID: 320, Parent: 400, Start: 6000, Session: "8"})
		}},
		{name: "another audit session below the anchor", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, Session: "8"})
		}},
		{name: "the same audit session, not below the anchor", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 1, Start: 6000})
		}},
		{name: "another person in the login", uid: bob, err: ErrOtherLogin},
		{name: "root in the login", uid: 1 << 31, err: ErrOtherLogin},
		{name: "another person's login", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, LoginUID: "1001"})
		}, err: ErrOtherLogin},
		{name: "another person's login as that person", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, LoginUID: "1001"})
		}, uid: bob},
		{name: "no loginuid", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, LoginUID: "4294967295"})
		}, err: ErrNoLogin},
		{name: "no loginuid, asked for that account", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, LoginUID: "4294967295"})
		}, uid: unset, err: ErrNoLogin},
		{name: "no audit session", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, Session: "4294967295"})
		}, err: ErrNoLogin},
		{name: "a kernel without audit", change: func(f fakeProc) { delete(f.MapFS, "320/loginuid") }, err: ErrNoLogin},
		{name: "PIDs of its own", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, NSpid: "320\t4"})
		}, err: ErrContainer},
		{name: "users of its own", change: func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 306, Start: 6000, UIDMap: "         0       1000          1\n"})
		}, err: ErrContainer},
		{name: "the caller's number given away", id: process.ID{PID: 320, Start: 5999}, err: ErrChanged},
		{name: "the anchor's number given away", change: func(f fakeProc) {
			f.Add(entry{PID: 300, Parent: 200, Start: 5001})
		}},
		{name: "another boot", change: func(f fakeProc) { f.Put("sys/kernel/random/boot_id", "another\n") }},
		{name: "a parent younger than its child", change: func(f fakeProc) {
			f.Add(entry{PID: 306, Parent: 305, Start: 6001})
		}, err: ErrChanged},
		{name: "nobody", id: process.ID{PID: -1}, err: ErrChanged},
		{name: "hidden", change: func(f fakeProc) { delete(f.MapFS, "306/stat") }, err: fs.ErrNotExist},
		{name: "no boot id", change: func(f fakeProc) { delete(f.MapFS, "sys/kernel/random/boot_id") }, err: fs.ErrNotExist},
		{name: "an unreadable map", change: func(f fakeProc) { delete(f.MapFS, "320/uid_map") }, err: fs.ErrNotExist},
	} {
		f := passporttest.Host()
		b := mustOpen(t, f)
		if c.change != nil {
			c.change(f)
		}
		if c.id == (process.ID{}) {
			c.id = sudo
		}
		if c.uid == 0 {
			c.uid = alice
		}
		ok, err := remembers(f, b, c.id, c.uid)
		if ok || c.err == nil && err != nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, error %v, want %v", c.name, ok, err, c.err)
		}
	}
}

// What the name of a process says is not believed.
func TestNamesOfProcessesProveNothing(t *testing.T) {
	for _, name := range []string{") S 300 1", "x\nNSpid:\t1", "sudo) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 0 0 0 0 1 (", ""} {
		f := passporttest.Host()
		b := mustOpen(t, f)
		f.Add(entry{PID: 320, Parent: 1, Start: 6000, Name: name, NSpid: "320 5"})
		if ok, err := remembers(f, b, sudo, alice); ok || !errors.Is(err, ErrContainer) {
			t.Errorf("%q in a container: %v, %v", name, ok, err)
		}
		f.Add(entry{PID: 320, Parent: 1, Start: 6000, Name: name})
		if ok, err := remembers(f, b, sudo, alice); ok || err != nil {
			t.Errorf("%q outside of the login: %v, %v", name, ok, err)
		}
		f.Add(entry{PID: 320, Parent: 306, Start: 6000, Name: name})
		if ok, err := remembers(f, b, sudo, alice); !ok || err != nil {
			t.Errorf("%q in the login: %v, %v", name, ok, err)
		}
	}
}

func TestDepthIsBounded(t *testing.T) {
	f := passporttest.Host()
	b := mustOpen(t, f)
	parent := int32(300)
	for pid := int32(1000); pid < 1031; pid++ {
		f.Add(entry{PID: pid, Parent: parent, Start: 6000})
		parent = pid
	}
	if ok, err := remembers(f, b, process.ID{PID: 1030, Start: 6000}, alice); !ok || err != nil {
		t.Errorf("the 32nd from the anchor: %v, %v", ok, err)
	}
	f.Add(entry{PID: 1031, Parent: 1030, Start: 6000})
	if ok, err := remembers(f, b, process.ID{PID: 1031, Start: 6000}, alice); ok || err != nil {
		t.Errorf("the 33rd: %v, %v", ok, err)
	}
	// Two that are each other's parents end as well.
	f.Add(entry{PID: 1030, Parent: 1031, Start: 6000})
	if ok, err := remembers(f, b, process.ID{PID: 1031, Start: 6000}, alice); ok || err != nil {
		t.Errorf("a circle: %v, %v", ok, err)
	}
}

// changing is a /proc in which something happens after some files were opened.
type changing struct {
	fakeProc
	after int
	do    func(f fakeProc)
}

func (c *changing) Open(name string) (fs.File, error) {
	if c.after--; c.after == 0 {
		c.do(c.fakeProc)
	}
	return c.fakeProc.Open(name)
}

// Processes that go while they are looked at, at every moment of the look: what
// comes out never takes a process for one of a login that it was never in.
func TestRaces(t *testing.T) {
	for name, do := range map[string]func(f fakeProc){
		// The shell ends, sudo falls to init; its number goes to a process of alice's
		// other login, or to one in the login.
		"the parent's number goes to the login": func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 1, Start: 6000})
			f.Add(entry{PID: 306, Parent: 305, Start: 6100})
		},
		"the parent goes": func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 1, Start: 6000})
			delete(f.MapFS, "306/stat")
		},
		"the caller goes": func(f fakeProc) { delete(f.MapFS, "320/stat") },
		"the caller's number goes to the login": func(f fakeProc) {
			f.Add(entry{PID: 320, Parent: 305, Start: 6100})
		},
	} {
		for after := 1; after < 40; after++ {
			f := passporttest.Host()
			b := mustOpen(t, f)
			// The shell is not of the login that is remembered.
			f.Add(entry{PID: 306, Parent: 200, Start: 5011})
			c := &changing{f, after, do}
			if ok, err := remembers(c, b, sudo, alice); ok {
				t.Errorf("%s after %d files: remembered, %v", name, after, err)
			}
		}
	}
}

// The chain begins with the process that was asked for, and no other of its number.
func TestChainOfAnotherProcess(t *testing.T) {
	for _, start := range []uint64{5999, 6001} {
		if _, err := (Proc{passporttest.Host()}).chain(process.ID{PID: 320, Start: start}); !errors.Is(err, ErrChanged) {
			t.Errorf("start %d: %v", start, err)
		}
	}
}

// One field of the login is another: no match, whichever and whatever.
func TestOneFieldIsAnother(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		was := facts{
			boot: "boot" + strconv.Itoa(r.IntN(3)), session: r.Uint32N(5), loginuid: r.Uint32N(3),
			anchor: process.ID{PID: r.Int32N(1 << 22), Start: r.Uint64N(1 << 40)},
		}
		is := was
		if was.binding() != is.binding() {
			t.Fatal("the same login has two bindings")
		}
		switch field := r.IntN(5); field {
		case 0:
			is.boot += string(rune('0' + r.IntN(10)))
		case 1:
			is.session ^= 1 << r.IntN(32)
		case 2:
			is.loginuid ^= 1 << r.IntN(32)
		case 3:
			is.anchor.PID ^= 1 << r.IntN(31)
		case 4:
			is.anchor.Start ^= 1 << r.IntN(64)
		}
		if was.binding() == is.binding() {
			t.Fatalf("%+v and %+v have the same binding", was, is)
		}
	}
}

// The kernel's own word: this process, and the one above it.
func TestRealProc(t *testing.T) {
	p := Proc{os.DirFS("/proc")}
	me := process.Of(int32(os.Getpid()))
	chain, err := p.chain(me.ID)
	if err != nil || len(chain) < 2 || chain[0] != me.ID || chain[1] != me.Parent {
		t.Errorf("chain %v of %v, %v", chain, me, err)
	}
	if err := p.notContained(me.ID.PID); err != nil {
		t.Errorf("this process: %v", err)
	}
	if _, err := p.login(me.ID, unset); err == nil {
		t.Error("an account that stands for an unset id has a login")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"1000", "4294967295", "-1", "1000\n", "Name:\tsh\nNSpid:\t1\t2\n", "NSpid:", "NSpid:\n",
		"43 (a) S 1 (b) S 41 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := parseAuditID("loginuid", text); err == nil && (n == unset || strings.TrimSpace(string(text)) == "") {
			t.Errorf("%q is %d", text, n)
		}
		if n, err := parseNSpid(text); err == nil && n < 1 {
			t.Errorf("%q counts %d", text, n)
		}
		_, _, _ = process.ParseStat(text)
	})
}
