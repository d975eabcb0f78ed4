// SPDX-License-Identifier: Apache-2.0

package devicesync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/deviceid"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, text, column string
		ids                []string
		blank, doubles     int
		fails              string
	}{
		{name: "the document's example", text: "device_id\n6984852C-7921\n93EA2EAC-0B93\n", ids: []string{"6984852C-7921", "93EA2EAC-0B93"}},
		{name: "byte order mark and CRLF", text: "\ufeffdevice_id\r\na\r\nb\r\n", ids: []string{"a", "b"}},
		{name: "blank lines", text: "device_id\n\na\n\n\nb\n\n", ids: []string{"a", "b"}},
		{name: "no end of line", text: "device_id\na", ids: []string{"a"}},
		{name: "other columns and quotes", text: "name, device_id ,x\n\"O'Hara, Ann\", \"a\",1\nBob,,2\nEve\n", ids: []string{"a"}, blank: 2},
		{name: "another column", text: "host,uuid\nh1,A\n", column: "uuid", ids: []string{"A"}},
		{name: "doubles", text: "device_id\nB\na\nb\n A \nB\n", ids: []string{"a", "B"}, doubles: 3},
		{name: "in order", text: "device_id\nc\nA\nb\n", ids: []string{"A", "b", "c"}},
		{name: "quote in quotes", text: "device_id\n\"a\"\"b\"\n", ids: []string{`a"b`}},
		{name: "empty", text: "", fails: "the file is empty"},
		{name: "no header", text: "6984852C-7921\n93EA\n", fails: `names no column "device_id", but "6984852C-7921"`},
		{name: "header in another case", text: "Device_ID\na\n", fails: `names no column "device_id"`},
		{name: "named twice", text: "device_id,device_id\na,b\n", fails: "twice"},
		{name: "header alone", text: "device_id\n\n", fails: `no device IDs read from column "device_id"`},
		{name: "blank values alone", text: "device_id,x\n,1\n", fails: "no device IDs read"},
		{name: "open quote", text: "device_id\na\n\"b\nc\n", fails: "line 3"},
		{name: "control characters", text: "device_id\na\nb\x00c\n", fails: "line 3: the identifier holds control characters"},
		{name: "UTF-16", text: "\xff\xfed\x00e\x00v\x00", fails: "names no column"},
		{name: "too long", text: "device_id\n" + strings.Repeat("x", 300) + "\n", fails: "line 2: the identifier is longer than 256 bytes"},
		{name: "header with an escape", text: "\x1b[2J\n", fails: `\x1b`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.column == "" {
				c.column = "device_id"
			}
			l, err := Read(strings.NewReader(c.text), c.column)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || !slices.Equal(l.IDs, c.ids) || l.Blank != c.blank || l.Duplicates != c.doubles {
				t.Fatalf("%+v, %v", l, err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{"device_id\na\nb\n", "\ufeffx,device_id\n1,\"a\"\n", "device_id", "\"", "device_id\n\xff\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Read(strings.NewReader(s), "device_id")
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' && r != '\n' }) {
				t.Fatalf("control characters in %q", err)
			}
			return
		}
		if len(l.IDs) == 0 {
			t.Fatal("an empty list was taken")
		}
		seen := map[string]bool{}
		for _, id := range l.IDs {
			clean, err := deviceid.Clean(id)
			if err != nil || seen[clean] {
				t.Fatalf("%q: %v, twice: %v", id, err, seen[clean])
			}
			seen[clean] = true
		}
	})
}

// server is the Device API of one management system, as the document tells it.
type server struct {
	t       *testing.T
	active  string
	pending string
	devices map[string]map[string]bool
	made    int
	calls   []string
	sizes   []int
	// fault may answer in place of the server.
	fault func(call string) error
	// after does the call and loses the answer.
	after func(call string) error
}

func newServer(t *testing.T) *server {
	return &server{t: t, devices: map[string]map[string]bool{}}
}

func (s *server) Call(ctx context.Context, method, path string, params url.Values, out any) (*duoapi.Metadata, error) {
	rest := strings.TrimPrefix(path, "/device/v1/management_systems/DMX/device_cache")
	call := method + " " + rest
	s.calls = append(s.calls, call)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", duoapi.ErrTransport, err)
	}
	if s.fault != nil {
		if err := s.fault(call); err != nil {
			return nil, err
		}
	}
	answer, err := s.do(method, rest, params)
	if err == nil && s.after != nil {
		err = s.after(call)
	}
	if err != nil {
		return nil, err
	}
	if out != nil {
		text, _ := json.Marshal(answer)
		return nil, json.Unmarshal(text, out)
	}
	return nil, nil
}

func (s *server) do(method, rest string, params url.Values) (any, error) {
	key, action, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	switch {
	case rest == "" && method == http.MethodGet:
		if s.pending == "" {
			return []any{}, nil
		}
		return []map[string]any{{"cache_key": s.pending, "status": "pending"}}, nil
	case rest == "" && method == http.MethodPost:
		if s.pending != "" {
			return nil, duoapi.NewError(duoapi.CodeCacheExists, s.pending)
		}
		s.made++
		s.pending = fmt.Sprintf("DC%d", s.made)
		s.devices[s.pending] = map[string]bool{}
		return map[string]any{"cache_key": s.pending}, nil
	case key != s.pending && (key != s.active || action == ""):
		return nil, duoapi.NewError(duoapi.CodeNotFound, "")
	case action == "activate":
		s.active, s.pending = key, ""
	case action == "devices":
		var list []struct {
			ID string `json:"device_id"`
		}
		if err := json.Unmarshal([]byte(params.Get("devices")), &list); err != nil || len(list) > 1000 {
			return nil, duoapi.NewError(duoapi.CodeInvalidParameter, "devices")
		}
		s.sizes = append(s.sizes, len(list))
		for _, d := range list {
			s.devices[key][d.ID] = true
		}
		return map[string]any{"device_count": len(s.devices[key])}, nil
	case method == http.MethodDelete:
		s.pending = ""
	}
	return "", nil
}

func someIDs(n int) (l List) {
	for i := range n {
		l.IDs = append(l.IDs, fmt.Sprintf("id-%06d", i))
	}
	return l
}

// sync runs against the server and returns what was shown and noted.
func (s *server) sync(ctx context.Context, l List, change func(*Sync)) (Result, string, string, error) {
	var said, noted strings.Builder
	run := Sync{
		Client: s, System: "DMX",
		Say:  func(f string, a ...any) { fmt.Fprintf(&said, f+"\n", a...) },
		Note: func(f string, a ...any) { fmt.Fprintf(&noted, f+"\n", a...) },
	}
	if change != nil {
		change(&run)
	}
	result, err := run.Run(ctx, l)
	return result, said.String(), noted.String(), err
}

// The lines are those of the document.
func TestSync(t *testing.T) {
	s := newServer(t)
	s.active, s.devices["DC0"] = "DC0", map[string]bool{"old": true}
	result, said, noted, err := s.sync(t.Context(), someIDs(2345), nil)
	if err != nil || noted != "" {
		t.Fatal(err, noted)
	}
	if want := (Result{System: "DMX", CacheKey: "DC1", Read: 2345, DeviceCount: 2345, Activated: true}); result != want {
		t.Fatalf("%+v", result)
	}
	if s.active != "DC1" || !slices.Equal(s.sizes, []int{1000, 1000, 345}) {
		t.Fatalf("active %s, batches %v", s.active, s.sizes)
	}
	if want := `Starting device sync
Attempting to create new cache for mkey: DMX
New cache created cache_key: DC1
Attempting to upload devices count: 2345
2345, devices uploaded
Attempting to activate device cache cache_key: DC1
Activated device cache cache_key: DC1
Devices synced: 2345
`; said != want {
		t.Fatalf("said:\n%s", said)
	}
}

func TestDryRun(t *testing.T) {
	s := newServer(t)
	result, _, _, err := s.sync(t.Context(), someIDs(3), func(r *Sync) { r.DryRun = true })
	if err != nil || result.Activated || s.active != "" || s.pending != "" || result.DeviceCount != 3 {
		t.Fatalf("%+v, %v, active %q, pending %q", result, err, s.active, s.pending)
	}
}

// What a killed run has left: deleted, or kept if that is asked for.
func TestLeftOver(t *testing.T) {
	s := newServer(t)
	ctx, kill := context.WithCancel(t.Context())
	s.fault = func(call string) error {
		if strings.HasSuffix(call, "/devices") {
			kill()
		}
		if strings.HasPrefix(call, "DELETE") {
			return duoapi.ErrTransport // as if it had died at once
		}
		return ctx.Err()
	}
	if _, _, noted, err := s.sync(ctx, someIDs(3), nil); !errors.Is(err, context.Canceled) || !strings.Contains(noted, "DC1 stays pending") {
		t.Fatalf("%v: %s", err, noted)
	}
	s.fault = nil
	if _, _, _, err := s.sync(t.Context(), someIDs(3), func(r *Sync) { r.KeepPending = true }); !errors.Is(err, ErrPending) || s.pending != "DC1" {
		t.Fatalf("%v, pending %q", err, s.pending)
	}
	_, said, _, err := s.sync(t.Context(), someIDs(3), nil)
	if err != nil || s.active != "DC2" || !strings.Contains(said, "Deleted existing cache cache_key: DC1\n") {
		t.Fatalf("%v, active %q:\n%s", err, s.active, said)
	}
}

// An interrupted run deletes its cache, though its context is over.
func TestInterrupted(t *testing.T) {
	s := newServer(t)
	s.active = "DC0"
	ctx, stop := context.WithCancel(t.Context())
	s.after = func(call string) error {
		if strings.HasSuffix(call, "/devices") {
			stop()
		}
		return nil
	}
	_, _, _, err := s.sync(ctx, someIDs(2500), nil)
	if !errors.Is(err, context.Canceled) || s.pending != "" || s.active != "DC0" || len(s.sizes) != 1 {
		t.Fatalf("%v, pending %q, active %q, %v", err, s.pending, s.active, s.sizes)
	}
}

func TestTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		failures := map[string][]error{
			"POST /DC1/devices":  {&duoapi.Error{Code: 42901, RetryAfter: 7}, duoapi.ErrTransport, duoapi.NewError(duoapi.CodeCannotDecide, "")},
			"POST /DC1/activate": {&duoapi.Error{Code: 42900}, duoapi.NewError(duoapi.CodeReplay, "")},
		}
		s.fault = func(call string) error {
			if f := failures[call]; len(f) > 0 {
				failures[call] = f[1:]
				return f[0]
			}
			return nil
		}
		begin := time.Now()
		_, _, noted, err := s.sync(t.Context(), someIDs(3), nil)
		if err != nil || s.active != "DC1" || strings.Count(noted, "trying again in") != 5 || !strings.Contains(noted, "trying again in 7s") {
			t.Fatalf("%v:\n%s", err, noted)
		}
		if took := time.Since(begin); took < 10*time.Second {
			t.Errorf("took %s: the server asked for 7 s, and each other wait is at least 1 s", took)
		}
	})
}

// A lost answer to the activation is asked for again, and that is harmless.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		lost := false
		s.after = func(call string) error {
			if strings.HasSuffix(call, "/activate") && !lost {
				lost = true
				return duoapi.ErrTransport
			}
			return nil
		}
		if _, _, _, err := s.sync(t.Context(), someIDs(3), nil); err != nil || s.active != "DC1" {
			t.Fatalf("%v, active %q", err, s.active)
		}
	})
}

func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			what  string
			err   error
			tries int
		}{
			{"a refusal is final", duoapi.NewError(duoapi.CodeForbidden, ""), 1},
			{"429 without end", &duoapi.Error{Code: 42901}, tries},
			{"no answer without end", duoapi.ErrTransport, tries},
			{"a wait of a day", &duoapi.Error{Code: 42901, RetryAfter: 86400}, 1},
		} {
			s := newServer(t)
			count := 0
			s.fault = func(call string) error {
				if strings.HasSuffix(call, "/devices") {
					count++
					return c.err
				}
				return nil
			}
			_, _, _, err := s.sync(t.Context(), someIDs(3), nil)
			if !errors.Is(err, c.err) || count != c.tries || s.pending != "" || s.active != "" {
				t.Errorf("%s: %v after %d tries, pending %q", c.what, err, count, s.pending)
			}
		}
	})
}

func TestOddServers(t *testing.T) {
	s := newServer(t)
	s.devices["DC1"] = nil
	_, _, noted, err := s.sync(t.Context(), List{IDs: []string{"a", "a"}}, nil)
	if err != nil || !strings.Contains(noted, "counts 1 devices where 2") {
		t.Fatalf("%v: %s", err, noted)
	}
}
