// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fakeNSS is NSS with shell scripts in place of getent and id.
func fakeNSS(t *testing.T, nsswitch, getent, id string) *NSS {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return &NSS{
		getent:   write("getent", "#!/bin/sh\n"+getent, 0o755),
		id:       write("id", "#!/bin/sh\n"+id, 0o755),
		passwd:   write("passwd", "root:x:0:0:root:/root:/bin/sh\nlocal:x:7:8::/:/bin/sh\nbroken:x:y\n", 0o644),
		nsswitch: write("nsswitch.conf", nsswitch, 0o644),
		slots:    make(chan struct{}, 1),
	}
}

const directory = `
[ "$2" = -- ] || exit 99
case "$1 $3" in
"passwd Alice"|"passwd alice"|"passwd 1000") echo 'alice:*:1000:100:Alice:/home/alice:/bin/sh';;
"passwd 0") echo 'root:x:0:0:root:/root:/bin/sh';;
"passwd local") echo 'local:x:70:80::/:/bin/sh';;
"passwd junk") echo 'no passwd line';;
"passwd down") exit 3;;
"group ops") echo 'ops:*:500:bob,carol';;
"group lab") echo 'lab:*:501:alice';;
"group 500") echo 'ops:*:500:';;
*) exit 2;;
esac`

func TestByName(t *testing.T) {
	ctx := context.Background()
	for _, tc := range []struct {
		nsswitch, name string
		want           Account
		err            error
	}{
		{"passwd: files sss\n", "local", Account{Name: "local", UID: 7, GID: 8, Local: true}, nil},
		{"passwd: sss files\n", "local", Account{Name: "local", UID: 70, GID: 80}, nil},
		{"passwd: files [SUCCESS=continue] sss\n", "local", Account{Name: "local", UID: 70, GID: 80}, nil},
		{"", "local", Account{Name: "local", UID: 70, GID: 80}, nil},
		{"passwd: files sss\n", "alice", Account{Name: "alice", UID: 1000, GID: 100, GECOS: "Alice"}, nil},
		{"passwd: files sss\n", "Alice", Account{Name: "alice", UID: 1000, GID: 100, GECOS: "Alice"}, nil}, // canonical
		{"passwd: files sss\n", "nobody-here", Account{}, ErrNoSuchUser},
		{"passwd: files sss\n", "0", Account{}, ErrNoSuchUser}, // no uid by the back door
		{"passwd: files sss\n", "1000", Account{}, ErrNoSuchUser},
		{"passwd: files sss\n", "", Account{}, ErrNoSuchUser},
		{"passwd: files sss\n", "a:b", Account{}, ErrNoSuchUser},
		{"passwd: files sss\n", "-h", Account{}, ErrNoSuchUser},
	} {
		got, err := fakeNSS(t, tc.nsswitch, directory, "").ByName(ctx, tc.name)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q with %q: got %v, %v, want %v, %v", tc.name, tc.nsswitch, got, err, tc.want, tc.err)
		}
	}
	for _, name := range []string{"junk", "down"} {
		if _, err := fakeNSS(t, "", directory, "").ByName(ctx, name); err == nil || errors.Is(err, ErrNoSuchUser) {
			t.Errorf("%s: got %v, want an error that is not 'no such user'", name, err)
		}
	}
}

func TestByUID(t *testing.T) {
	n := fakeNSS(t, "", directory, "")
	if a, err := n.ByUID(context.Background(), 1000); err != nil || a.Name != "alice" {
		t.Errorf("got %v, %v", a, err)
	}
	if _, err := n.ByUID(context.Background(), 4711); !errors.Is(err, ErrNoSuchUser) {
		t.Errorf("got %v", err)
	}
}

func TestInGroup(t *testing.T) {
	n := fakeNSS(t, "", directory, `[ "$1 $2 $3" = "-G -- bob" ] && echo 100 || echo 100 500`)
	for _, tc := range []struct {
		user, group string
		in, known   bool
	}{
		{"alice", "ops", true, true},       // by gid
		{"alice", "lab", true, true},       // by name in the group's entry
		{"bob", "lab", false, true},        //
		{"bob", "ghosts", false, false},    // not known to the name service
		{"alice", "500", false, false},     // a gid is no name
		{"alice", "-h", false, false},      //
		{"carol", "nothing", false, false}, //
	} {
		in, err := n.InGroup(context.Background(), Account{Name: tc.user}, tc.group)
		if in != tc.in || (err == nil) != tc.known {
			t.Errorf("%s in %s: got %v, %v", tc.user, tc.group, in, err)
		}
	}
}

func TestSlowNameServiceIsLeft(t *testing.T) {
	n := fakeNSS(t, "", "exec sleep 60", "")
	cause := errors.New("nss_timeout")
	ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, cause)
	defer cancel()
	if _, err := n.ByName(ctx, "alice"); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause of the deadline", err)
	}
}

func TestThisHost(t *testing.T) {
	n, err := NewNSS()
	if err != nil {
		t.Fatal(err)
	}
	a, err := n.ByUID(context.Background(), 0)
	if err != nil || a.UID != 0 {
		t.Fatalf("uid 0: %v, %v", a, err)
	}
	if b, err := n.ByName(context.Background(), a.Name); err != nil || b != a {
		t.Errorf("%s: %v, %v", a.Name, b, err)
	}
}
