// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// cheap is a store whose hashes cost little.
func cheap(t testing.TB) *Store {
	t.Helper()
	s := Open(filepath.Join(t.TempDir(), "store"))
	s.memory = 64
	return s
}

func generate(t testing.TB, s *Store, count int, users, services string) []Code {
	t.Helper()
	r := Request{Services: strings.Split(services, ","), Count: count, Owners: NoOwners}
	for _, name := range strings.Split(users, ",") {
		r.Users = append(r.Users, Account{Name: name, UID: -1})
	}
	codes, err := s.Generate(t.Context(), r, noon, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return codes
}

func use(user, service string) Use {
	return Use{User: user, Service: service, At: noon, Source: "192.0.2.7", TTY: "ssh"}
}

func TestCodeWorksOnceForWhomItNames(t *testing.T) {
	s := cheap(t)
	codes := generate(t, s, 2, "root,alice", "sshd,login")
	other := aCode(t)
	wrong := Code{id: codes[0].id, secret: other.secret}
	for _, step := range []struct {
		what string
		code Code
		use  Use
		want error
	}{
		{"unknown", other, use("root", "sshd"), ErrUnknown},
		{"wrong secret", wrong, use("root", "sshd"), ErrWrong},
		{"another user", codes[0], use("bob", "sshd"), ErrNotFor},
		{"another service", codes[0], use("root", "sudo"), ErrNotFor},
		{"right", codes[0], use("root", "sshd"), nil},
		{"again", codes[0], use("root", "sshd"), ErrUsed},
		{"the second", codes[1], use("alice", "login"), nil},
		{"wrong secret of a used one", wrong, use("root", "sshd"), ErrWrong},
	} {
		if err := s.Redeem(t.Context(), step.code, step.use); !errors.Is(err, step.want) || (err == nil) != (step.want == nil) {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
	}
	uses, err := Open(s.dir).Uses(time.Time{})
	if err != nil || len(uses) != 2 || uses[0].User != "root" || uses[1].Service != "login" || uses[0].Source != "192.0.2.7" || !uses[0].At.Equal(noon) {
		t.Errorf("uses: %+v, %v", uses, err)
	}
	if later, err := s.Uses(noon); err != nil || len(later) != 0 {
		t.Errorf("uses after the last: %+v, %v", later, err)
	}
}

func TestAllServices(t *testing.T) {
	s := cheap(t)
	generate(t, s, 1, "root", AllServices)
	for _, service := range []string{"sshd", "anything"} {
		if n, err := s.Unused("root", service); n != 1 || err != nil {
			t.Errorf("%s: %d, %v", service, n, err)
		}
	}
	if n, _ := s.Unused("bob", "sshd"); n != 0 {
		t.Errorf("bob has %d codes", n)
	}
}

// Many processes try one code at once: each goroutine has a store of its own, as a
// process would.
func TestOneOfManyWins(t *testing.T) {
	s := cheap(t)
	code := generate(t, s, 1, "root", "sshd")[0]
	var wins, used int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			err := Open(s.dir).Redeem(t.Context(), code, use("root", "sshd"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, ErrUsed):
				used++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if wins != 1 || used != 39 {
		t.Errorf("%d won, %d were told that it is used", wins, used)
	}
}

// Whatever happens in whatever order — codes made, tried, revoked, stores opened
// anew — no code lets in twice, and none that was revoked.
func TestNoCodeTwiceProperty(t *testing.T) {
	for seed := range uint64(10) {
		random := mathrand.New(mathrand.NewPCG(seed, 7))
		s := cheap(t)
		var codes []Code
		spent := map[string]bool{}
		for range 120 {
			if random.IntN(4) == 0 {
				fresh := Open(s.dir)
				fresh.memory = s.memory
				s = fresh
			}
			switch random.IntN(8) {
			case 0, 1:
				if len(codes) < 40 {
					codes = append(codes, generate(t, s, 1+random.IntN(3), "root", "sshd")...)
				}
			case 2:
				if len(codes) == 0 {
					continue
				}
				c := codes[random.IntN(len(codes))]
				revoked, err := s.Revoke(t.Context(), []string{c.id}, noon)
				if err != nil || len(revoked) == 1 && spent[c.id] {
					t.Fatalf("seed %d: revoke %s: %v, %v; spent %t", seed, c.id, revoked, err, spent[c.id])
				}
				spent[c.id] = true
			default:
				if len(codes) == 0 {
					continue
				}
				c := codes[random.IntN(len(codes))]
				err := s.Redeem(t.Context(), c, use("root", "sshd"))
				if (err == nil) == spent[c.id] {
					t.Fatalf("seed %d: code %s, spent %t: %v", seed, c.id, spent[c.id], err)
				}
				spent[c.id] = true
			}
		}
		entries, err := s.List()
		if err != nil || len(entries) != len(codes) {
			t.Fatalf("seed %d: %d entries of %d codes: %v", seed, len(entries), len(codes), err)
		}
		for _, e := range entries {
			if (e.State == Unused) == spent[e.ID] {
				t.Errorf("seed %d: %s is %s, spent %t", seed, e.ID, e.State, spent[e.ID])
			}
		}
	}
}

func TestRevoke(t *testing.T) {
	s := cheap(t)
	codes := generate(t, s, 3, "root", "sshd")
	if _, err := s.Revoke(t.Context(), []string{codes[0].id, "ZZZZ"}, noon); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown one: %v", err)
	}
	if err := s.Redeem(t.Context(), codes[0], use("root", "sshd")); err != nil {
		t.Errorf("after a revocation that failed: %v", err)
	}
	revoked, err := s.Revoke(t.Context(), nil, noon)
	if err != nil || !slices.Equal(revoked, []string{codes[1].id, codes[2].id}) {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	if err := s.Redeem(t.Context(), codes[1], use("root", "sshd")); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
}

func TestFullStoreDropsSpentCodesAlone(t *testing.T) {
	s := cheap(t)
	generate(t, s, MaxCodes, "root", "sshd")
	more := Request{Users: []Account{{Name: "root"}}, Services: []string{"sshd"}, Count: 2, Owners: NoOwners}
	if _, err := s.Generate(t.Context(), more, noon, rand.Reader); err == nil || !strings.Contains(err.Error(), "revoke some first") {
		t.Errorf("full: %v", err)
	}
	entries, _ := s.List()
	if _, err := s.Revoke(t.Context(), []string{entries[5].ID, entries[9].ID}, noon); err != nil {
		t.Fatal(err)
	}
	codes, err := s.Generate(t.Context(), more, noon, rand.Reader)
	if err != nil || len(codes) != 2 {
		t.Fatal(err)
	}
	after, _ := s.List()
	if len(after) != MaxCodes || slices.ContainsFunc(after, func(e Entry) bool { return e.State != Unused || e.ID == entries[5].ID }) {
		t.Errorf("%d codes, some of them spent", len(after))
	}
	if err := s.Redeem(t.Context(), codes[1], use("root", "sshd")); err != nil {
		t.Error(err)
	}
}

// A store that somebody or something has damaged loses what is damaged, and lets
// nobody in twice.
func TestDamage(t *testing.T) {
	s := cheap(t)
	codes := generate(t, s, 3, "root", "sshd")
	path := filepath.Join(s.dir, codesFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	lines[1] = append([]byte("\x00garbage"), lines[1]...)
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeem(t.Context(), codes[1], use("root", "sshd")); !errors.Is(err, ErrUnknown) {
		t.Errorf("a code whose line is damaged: %v", err)
	}
	if err := s.Redeem(t.Context(), codes[0], use("root", "sshd")); err != nil {
		t.Errorf("the line before: %v", err)
	}
	uses := filepath.Join(s.dir, usesFile)
	content, _ := os.ReadFile(uses)
	copy(content[2*slotSize+100:], "x") // a torn write
	if err := os.WriteFile(uses, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeem(t.Context(), codes[2], use("root", "sshd")); !errors.Is(err, ErrNoRecord) {
		t.Errorf("a code whose slot is damaged: %v", err)
	}
	if err := os.Truncate(uses, slotSize); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeem(t.Context(), codes[0], use("root", "sshd")); err == nil {
		t.Error("a used code works again once its record is cut off")
	}
	if err := os.Remove(uses); err != nil {
		t.Fatal(err)
	}
	if err := s.Redeem(t.Context(), codes[0], use("root", "sshd")); !errors.Is(err, ErrNoRecord) {
		t.Errorf("without a file to record in: %v", err)
	}
}

func TestNoStoreIsAnEmptyOne(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "missing"))
	if n, err := s.Unused("root", "sshd"); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if entries, err := s.List(); len(entries) != 0 || err != nil {
		t.Errorf("%v, %v", entries, err)
	}
	if uses, err := s.Uses(time.Time{}); len(uses) != 0 || err != nil {
		t.Errorf("%v, %v", uses, err)
	}
	if err := s.Redeem(t.Context(), aCode(t), use("root", "sshd")); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// Nothing of a code but its name is on disk.
func TestStoreHoldsNoCode(t *testing.T) {
	s := cheap(t)
	codes := generate(t, s, 3, "root", "sshd")
	_ = s.Redeem(t.Context(), codes[0], use("root", "sshd"))
	for _, name := range []string{codesFile, usesFile} {
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range codes {
			if bytes.Contains(data, []byte(c.secret)) || bytes.Contains(data, []byte(c.secret[:8])) {
				t.Errorf("%s holds the secret of %s", name, c.id)
			}
		}
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) != 2 {
		t.Errorf("the store has %v, %v", entries, err)
	}
}

// Whatever a request names, its record has its room.
func TestRecordAlwaysFits(t *testing.T) {
	long := strings.Repeat("\x01", 255)
	for _, u := range []Use{
		{ID: "ABCD", State: Used, At: noon},
		{ID: "ABCD", State: Used, At: noon, User: "root", Service: "sshd", Source: "2001:db8::1", TTY: "ssh"},
		{ID: "ABCD", State: Used, At: noon, User: long, Service: long, Source: long, TTY: long},
	} {
		slot := u.encode()
		state, got := parseSlot(slot, "ABCD")
		if len(slot) != slotSize || state != Used || got.ID != u.ID || !got.At.Equal(u.At) {
			t.Errorf("%d bytes, %s, %+v", len(slot), state, got)
		}
	}
}

func TestRequestIsChecked(t *testing.T) {
	s := cheap(t)
	root := []Account{{Name: "root"}}
	for name, r := range map[string]Request{
		"no user":      {Services: []string{"sshd"}, Count: 1},
		"no service":   {Users: root, Count: 1},
		"no code":      {Users: root, Services: []string{"sshd"}},
		"too many":     {Users: root, Services: []string{"sshd"}, Count: MaxCodes + 1},
		"bad name":     {Users: []Account{{Name: "a\nb"}}, Services: []string{"sshd"}, Count: 1},
		"empty":        {Users: root, Services: []string{""}, Count: 1},
		"note":         {Users: root, Services: []string{"sshd"}, Count: 1, Note: "two\nlines"},
		"many users":   {Users: slices.Repeat(root, MaxNames+1), Services: []string{"sshd"}, Count: 1},
		"long service": {Users: root, Services: []string{strings.Repeat("x", 256)}, Count: 1},
	} {
		if _, err := s.Generate(t.Context(), r, noon, rand.Reader); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestLockIsGivenUp(t *testing.T) {
	s := cheap(t)
	code := generate(t, s, 1, "root", "sshd")[0]
	_, unlock, err := s.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Redeem(ctx, code, use("root", "sshd")); !errors.Is(err, ErrNoRecord) {
		t.Errorf("while another holds the store: %v", err)
	}
}

func FuzzDefinitions(f *testing.F) {
	s := cheap(f)
	generate(f, s, 2, "root,alice", "sshd")
	data, err := os.ReadFile(filepath.Join(s.dir, codesFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}\n[]\nnull\n"))
	f.Add([]byte(`{"id":"ABCD","slot":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		defs, err := parseDefinitions(bytes.NewReader(data))
		if err != nil {
			return
		}
		slots := map[int]bool{}
		for _, d := range defs {
			if d.Memory > maxHashSize || d.Time > maxTime || d.Slot < 0 || d.Slot >= MaxCodes || slots[d.Slot] || len(d.Users) == 0 {
				t.Errorf("accepted %+v", d)
			}
			slots[d.Slot] = true
			if _, err := json.Marshal(d); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add(use("root", "sshd").encode())
	f.Add(blankSlot())
	f.Add(bytes.Repeat([]byte{0}, slotSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, u := parseSlot(data, "ABCD")
		if state == Unused && !bytes.Equal(data, blankSlot()) {
			t.Error("free, and not blank")
		}
		if (state == Used || state == Revoked) && u.ID != "ABCD" {
			t.Errorf("%s by the record of %q", state, u.ID)
		}
	})
}
