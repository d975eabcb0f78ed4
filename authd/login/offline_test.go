// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/offline"
	"github.com/sallyport-mfa/sallyport/authd/spool"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

const (
	offlineMode = "[services.default]\nfail_mode = \"offline\"\n"
	oneTry      = offlineMode + "attempts = 1\n"
)

// keys is a Ring with a clock that may be off, which takes note of who asks for keys.
type keys struct {
	*offline.Ring
	ahead atomic.Int64
	mu    sync.Mutex
	asked []string
}

func (k *keys) LoggedIn(name, txID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, name+" "+txID)
}

// notebook is a spool that keeps what it is told, or fails.
type notebook struct {
	mu      sync.Mutex
	events  []agentapi.HostEvent
	classes []spool.Class
	err     error
}

func (n *notebook) Append(body []byte, class spool.Class) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	var e agentapi.HostEvent
	if err := json.Unmarshal(body, &e); err != nil || len(body) > agentapi.MaxEventBytes {
		return fmt.Errorf("%d bytes: %w", len(body), err)
	}
	n.events, n.classes = append(n.events, e), append(n.classes, class)
	return nil
}

// offlineKey is alice's key for this host.
var offlineKey = bytes.Repeat([]byte{9}, offlinecode.Size)

func offlineCode(t testing.TB, number int64) string {
	t.Helper()
	code, err := offlinecode.Code(offlineKey, number)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// withOffline gives a host keys of alice's, 3 uses, and a notebook.
func withOffline(h *host) (*keys, *notebook) {
	h.Helper()
	k, n := &keys{}, &notebook{}
	var err error
	k.Ring, err = offline.Open(offline.Options{Dir: h.engine.Config().StateDir + "/offline", Now: func() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) }, Log: h.engine.Log})
	if err != nil {
		h.Fatal(err)
	}
	err = k.Take("alice", agentapi.OfflineGrant{
		UserID: "DU1", Label: "web1-K7QX", Time: time.Now().Unix(), MaxUses: 3, MaxDays: 7, Keys: []agentapi.OfflineKey{{
			OfflineKeyID: agentapi.OfflineKeyID{UserID: "DU1", PhoneID: "DP1", Generation: 1, Edition: 1}, Name: "laptop", Key: offlineKey,
		}},
	})
	if err != nil {
		h.Fatal(err)
	}
	h.engine.Offline, h.engine.Events = k, n
	return k, n
}

func (h *host) cut() { h.verifier.Spoil(verifiertest.Refuse(duoapi.CodeServerError)) }

// offlineRows are the rows of the table on offline codes.
func offlineRows() []failure {
	var t testing.T // for codes, which do not fail
	code := func(n int64) string { return offlineCode(&t, n) }
	cut := func(f func(*host, *keys, *notebook)) func(*host) {
		return func(h *host) {
			k, n := withOffline(h)
			h.cut()
			if f != nil {
				f(h, k, n)
			}
		}
	}
	return []failure{
		{reason: "offline", setting: "fail_mode", outcome: frames.OutcomeAllow, settings: offlineMode, setup: cut(nil), answers: []any{code(0)}},
		{reason: "offline_not_enrolled", setting: "fail_mode", outcome: frames.OutcomeDeny, settings: offlineMode, setup: cut(nil), req: sshRequest(frames.HookAuthenticate, "backup")},
		{reason: "offline_wrong_code", setting: "attempts", outcome: frames.OutcomeMaxTries, settings: oneTry, setup: cut(nil), answers: []any{"00000000"}},
		{reason: "offline_wrong_code", setting: "attempts", name: "beyond the window", outcome: frames.OutcomeMaxTries, settings: oneTry, setup: cut(nil), answers: []any{code(offlinecode.Window)}},
		{reason: "offline_replayed", setting: "attempts", outcome: frames.OutcomeMaxTries, settings: oneTry, setup: cut(func(_ *host, k *keys, _ *notebook) {
			k.Try("alice", code(1))
		}), answers: []any{code(1)}},
		{reason: "offline_wait", setting: "attempts", outcome: frames.OutcomeMaxTries, settings: oneTry, setup: cut(func(_ *host, k *keys, _ *notebook) {
			k.Try("alice", "00000000")
		}), answers: []any{code(1)}},
		{reason: "offline_used_up", setting: "offline_max_uses", outcome: frames.OutcomeDeny, settings: offlineMode, setup: cut(func(_ *host, k *keys, _ *notebook) {
			for n := range int64(3) {
				k.Try("alice", code(n))
			}
		}), answers: []any{code(3)}},
		{reason: "offline_expired", setting: "offline_max_days", outcome: frames.OutcomeDeny, settings: offlineMode, setup: cut(func(_ *host, k *keys, _ *notebook) {
			k.ahead.Add(int64(8 * 24 * time.Hour))
		}), answers: []any{code(0)}},
		{reason: "offline_clock", outcome: frames.OutcomeDeny, settings: offlineMode, setup: cut(func(_ *host, k *keys, _ *notebook) {
			k.ahead.Add(int64(-time.Hour))
		}), answers: []any{code(0)}},
		{reason: "offline_locked", outcome: frames.OutcomeDeny, settings: offlineMode, setup: cut(func(_ *host, k *keys, _ *notebook) {
			for range offline.MaxFailures {
				k.Try("alice", "00000000")
				k.ahead.Add(int64(10 * time.Minute))
			}
		}), answers: []any{code(0)}},
		{reason: "offline_state_failed", setting: "state_dir", outcome: frames.OutcomeUnavailable, settings: offlineMode, setup: cut(func(h *host, _ *keys, _ *notebook) {
			dir := h.engine.Config().StateDir + "/offline"
			if err := errors.Join(os.Rename(dir, dir+".away"), os.WriteFile(dir, nil, 0o600)); err != nil {
				h.Fatal(err)
			}
		}), answers: []any{code(0)}},
		{reason: "spool_failed", setting: "state_dir", outcome: frames.OutcomeUnavailable, settings: offlineMode, setup: cut(func(_ *host, _ *keys, n *notebook) {
			n.err = spool.ErrFull
		}), answers: []any{code(0)}},
		{reason: "spool_failed", setting: "state_dir", name: "open", outcome: frames.OutcomeUnavailable, settings: "[services.default]\nfail_mode = \"open\"\n",
			setup: cut(func(_ *host, _ *keys, n *notebook) { n.err = spool.ErrFull })},
	}
}

// What a person sees: the host is named as on the authenticator, refusals say
// which numbers are taken, and a success how many are left.
func TestOfflineSession(t *testing.T) {
	h := newHost(t, offlineMode)
	k, _ := withOffline(h)
	h.cut()
	outcome, p := h.ssh("push", "00000000", func() any {
		k.ahead.Add(int64(time.Minute)) // not too soon after the wrong one
		return offlineCode(t, 2)[:4] + " " + offlineCode(t, 2)[4:]
	})
	if outcome != frames.OutcomeAllow {
		t.Errorf("outcome %s", outcome)
	}
	for _, text := range []string{
		"No verifier answers. Enter an offline code of this host, web1-K7QX.\n\nOffline code: ", "An offline code has 8 digits.",
		"That is not an offline code of this host with a number from 0 to 19. 2 attempts left.", "2 offline codes are left for this host, until ",
	} {
		if !strings.Contains(p.script.String(), text) {
			t.Errorf("nobody was told %q:\n%s", text, &p.script)
		}
	}
	h.wantEvent(map[string]any{"reason": "offline", "factor": "offline_code"})
}

func TestOfflineCodeFromTheEnvironment(t *testing.T) {
	h := newHost(t, offlineMode+"accept_env_factor = true\n")
	withOffline(h)
	h.cut()
	req := sudoRequest(frames.HookAuthenticate)
	req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": frames.Secret(offlineCode(t, 0))}
	if outcome, p := h.run(rootPeer(7), req); outcome != frames.OutcomeAllow {
		t.Errorf("%s:\n%s", outcome, &p.script)
	}
	if outcome, _ := h.run(rootPeer(8), req, login.ErrAborted); outcome == frames.OutcomeAllow {
		t.Error("the same code again")
	}
}

// Only a login that the verifier has granted by a factor brings keys.
func TestKeysAreAskedForAfterALogin(t *testing.T) {
	for _, mode := range []string{"offline", "secure"} {
		h := newHost(t, "[services.default]\nfail_mode = \""+mode+"\"\n")
		k, _ := withOffline(h)
		h.verifier.Codes = []string{"123456"}
		var wanted []string
		h.verifier.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/auth/v2/auth" {
				return false
			}
			_ = r.ParseForm()
			wanted = append(wanted, r.PostForm.Get("sallyport_passport"))
			_, _ = w.Write([]byte(`{"stat":"OK","response":{"result":"allow","status":"allow","txid":"TX1"}}`))
			return true
		})
		if outcome, p := h.ssh("123456"); outcome != frames.OutcomeAllow {
			t.Fatalf("%s:\n%s", outcome, &p.script)
		}
		want := []string(nil)
		if mode == "offline" {
			want = []string{"alice TX1"}
			if !slices.Equal(wanted, []string{"1"}) {
				t.Errorf("the txid was asked for by %q", wanted)
			}
		}
		if !slices.Equal(k.asked, want) {
			t.Errorf("%s: asked for %q", mode, k.asked)
		}
		h.cut()
		if outcome, _ := h.ssh(offlineCode(t, 0)); mode == "offline" && outcome != frames.OutcomeAllow {
			t.Errorf("%s: %s", mode, outcome)
		}
		if !slices.Equal(k.asked, want) {
			t.Errorf("%s: asked after a login without the verifier: %q", mode, k.asked)
		}
	}
}

// The verifier is told what it has not decided itself, once for each login, with
// as much care as hangs on it.
func TestWhatIsReported(t *testing.T) {
	const bypass = "[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n"
	type told struct {
		reason string
		class  spool.Class
	}
	for name, c := range map[string]struct {
		settings string
		hook     frames.Hook
		cut      bool
		answers  []any
		want     *told
	}{
		"a passcode":  {hook: frames.HookAuthenticate, answers: []any{"123456"}},
		"bypass":      {settings: bypass, hook: frames.HookAuthenticate, want: &told{"rule_bypass", spool.Lazy}},
		"a rule":      {settings: strings.Replace(bypass, "bypass", "deny", 1), hook: frames.HookAuthenticate, want: &told{"rule_deny", spool.Cheap}},
		"open":        {settings: opening, hook: frames.HookAuthenticate, cut: true, want: &told{"fail_open", spool.Durable}},
		"secure":      {hook: frames.HookAuthenticate, cut: true, want: &told{"verifier_down", spool.Cheap}},
		"offline":     {settings: offlineMode, hook: frames.HookAuthenticate, cut: true, answers: []any{offlineCode(t, 4)}, want: &told{"offline", spool.Durable}},
		"unasked":     {hook: frames.HookOpenSession, want: &told{"no_second_factor", spool.Cheap}},
		"the account": {settings: "[services.sshd]\naccount_without_auth = \"allow\"\n", hook: frames.HookAcctMgmt, want: &told{"without_auth", spool.Cheap}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, c.settings)
			_, n := withOffline(h)
			h.verifier.Codes = []string{"123456"}
			if c.cut {
				h.cut()
			}
			outcome, _ := h.run(rootPeer(100), sshRequest(c.hook, "alice"), c.answers...)
			if c.want == nil {
				if len(n.events) != 0 {
					t.Errorf("told: %+v", n.events)
				}
				return
			}
			if len(n.events) != 1 || n.events[0].Reason != c.want.reason || n.classes[0] != c.want.class {
				t.Fatalf("told: %+v, as %v", n.events, n.classes)
			}
			e := n.events[0]
			if e.User != "alice" || c.hook != frames.HookOpenSession && e.Username != "alice" || e.Service != "sshd" || e.Source != "10.0.4.7" || e.Result != outcome.String() ||
				e.ID != "id" || time.Since(time.UnixMilli(e.Time)).Abs() > time.Minute || e.Hook != c.hook.String() {
				t.Errorf("told: %+v", e)
			}
			if (e.Offline != nil) != (c.want.reason == "offline") || e.Offline != nil && (e.Offline.Counter != 4 || e.Offline.PhoneID != "DP1") {
				t.Errorf("use: %+v", e.Offline)
			}
		})
	}
}

// An ordinary user's program calls the hooks of user.sock as often as it likes. What
// decides nothing is not told, and what is told takes no room from the others.
func TestUserSocketDoesNotFillTheSpool(t *testing.T) {
	const bypass = "[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n"
	peer := login.Peer{Socket: login.UserSocket, UID: 1000, Process: process(100)}
	for _, settings := range []string{"", bypass} {
		for _, hook := range []frames.Hook{frames.HookAcctMgmt, frames.HookOpenSession} {
			h := newHost(t, settings)
			_, n := withOffline(h)
			if outcome, _ := h.run(peer, &frames.Request{Hook: hook, Service: "lock", User: "alice"}); outcome != frames.OutcomeAllow {
				t.Errorf("%s: outcome %s", hook, outcome)
			}
			if len(n.events) != 0 {
				t.Errorf("%s: told %+v", hook, n.events)
			}
		}
	}
	h := newHost(t, bypass)
	_, n := withOffline(h)
	h.run(peer, &frames.Request{Hook: frames.HookAuthenticate, Service: "lock", User: "alice"})
	if len(n.events) != 1 || n.classes[0] != spool.Cheap {
		t.Errorf("told %+v, as %v", n.events, n.classes)
	}
}

// A full spool keeps no batch job out.
func TestBypassGoesOnWithoutASpool(t *testing.T) {
	h := newHost(t, "[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n")
	_, n := withOffline(h)
	n.err = spool.ErrFull
	if outcome, _ := h.ssh(); outcome != frames.OutcomeAllow {
		t.Errorf("outcome %s", outcome)
	}
	if !strings.Contains(h.log.String(), "spool_failed") {
		t.Error("nothing in the log")
	}
}
