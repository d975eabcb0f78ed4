// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// The verifier is asked about the mapped name, and rules about the Unix name.
func TestMappedName(t *testing.T) {
	h := newHost(t, withLDAP+"[services.sshd]\nmapping = { ldap = \"mail\", case = \"lower\", domain = \"strip\" }\n")
	h.verifier.Codes = []string{"123456"}
	if got, p := h.ssh("123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.wantEvent(map[string]any{"user": "alice", "username": "alice.smith", "reason": "passcode"})
}

// What the directory cannot answer holds up nobody whom a rule lets in.
func TestRuleNeedsNoName(t *testing.T) {
	const settings = withLDAP + "[services.sshd]\nmapping = { ldap = \"away\" }\n"
	h := newHost(t, settings+"[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n")
	if got, p := h.ssh(); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.wantEvent(map[string]any{"user": "alice", "username": "", "reason": "rule_bypass"})
}

// Who shares an account answers for it by the name that they logged in with.
func TestLoginUIDNamesThePerson(t *testing.T) {
	h := newHost(t, "[services.sudo]\nperson = \"loginuid\"\n")
	h.verifier.Codes = []string{"123456"}
	alice := uint32(1000)
	h.loginUID = &alice
	req := sudoRequest(frames.HookAuthenticate)
	req.User, req.RUser = "backup", "backup" // the shared account runs sudo
	if got, p := h.run(rootPeer(100), req, "123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.wantEvent(map[string]any{"user": "alice", "username": "alice", "target": "backup"})
	// sudo puts its target into PAM_USER between the hooks.
	session := *req
	session.Hook, session.User = frames.HookOpenSession, "root"
	h.want("session", rootPeer(100), &session, frames.OutcomeAllow, 1)
	gone := uint32(4711) // an account that has been deleted meanwhile
	h.loginUID = &gone
	h.want("an account that is gone", rootPeer(101), req, frames.OutcomeUserUnknown, 2)
}

// For su it may be the account that the caller becomes.
func TestTargetOfSu(t *testing.T) {
	h := newHost(t, "[services.su]\nperson = \"target\"\n")
	h.verifier.Codes = []string{"123456"}
	req := &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "su", User: "backup", TTY: "/dev/pts/1", RUID: 1000, RUser: "alice"}
	if got, p := h.run(rootPeer(100), req, "123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	h.wantEvent(map[string]any{"user": "backup", "username": "backup"})
}

// Each line about a login says who it is about, by both names, and once.
func TestEveryLineHasBothNames(t *testing.T) { synctest.Test(t, testEveryLineHasBothNames) }

func testEveryLineHasBothNames(t *testing.T) {
	h := newHost(t, withLDAP+"[services.default]\nfail_mode = \"open\"\nmapping = { ldap = \"mail\" }\n[timeouts]\napproval_timeout = \"1s\"\n"+
		"[[rules]]\nname = \"g\"\naction = \"require\"\ngroups = [\"ghosts\"]\n")
	h.engine.Throttle = throttle.New(time.Now)
	h.verifier.Codes = []string{"123456"}
	if got, p := h.ssh("push", "123456"); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	if got, p := h.run(rootPeer(300), sudoRequest(frames.HookAcctMgmt)); got != frames.OutcomeAllow {
		t.Fatalf("%s\n%s", got, &p.script)
	}
	// Slowed down after failures, and then with the verifier away.
	h.verifier.Codes = nil
	h.ssh("000000", "000000", "000000")
	h.ssh("000000", "000000", "000000")
	h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError)
	h.ssh()
	h.log.Lock()
	defer h.log.Unlock()
	lines := 0
	for line := range strings.Lines(h.log.String()) {
		var e struct{ ID, User, Username string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.ID == "" && e.User == "" {
			continue // not of a login
		}
		lines++
		if e.User != "alice" || e.Username != "Alice.Smith@example.org" || strings.Count(line, `"user":`) != 1 || strings.Count(line, `"username":`) != 1 {
			t.Errorf("names are missing or doubled: %s", line)
		}
	}
	if lines < 12 {
		t.Errorf("only %d lines:\n%s", lines, h.log.String())
	}
}
