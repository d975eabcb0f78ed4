// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// crowdOfJobs is how many batch jobs come at once.
const crowdOfJobs = 200

// What a site's nights are made of passes through bypass rules while no verifier
// answers: 200 scp at once, rsync, sftp, and an Ansible play.
func TestBatchJobsWithoutVerifier(t *testing.T) {
	s := ownSite(t)
	p := s.stranger(t, "job")
	address, err := s.client.IP(t.Context())
	must(t, err)
	config := s.authdConfig(t)
	rule := p.batchRule(p.fingerprint(t), address)
	s.setAuthdConfig(t, config+rule)
	match, err := s.host.Must(t.Context(), "sallyport", "rules", "sshd-config")
	must(t, err)
	s.setBatchMatch(t, match)
	must(t, s.verifier.Signal(t.Context(), "verifier", "KILL"))
	p.writesSSHConfig(t)

	t.Run("200 scp at once", func(t *testing.T) {
		out := s.job(t, fmt.Sprintf(`
cd /tmp && for i in $(seq %d); do
	(echo "file $i" >batch-$i; scp -B -q batch-$i host:batch-$i || echo "job $i: exit status $?") &
done; wait`, crowdOfJobs))
		if out.Code != 0 || out.Output() != "" {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		sum, err := s.host.Shell(t.Context(), fmt.Sprintf("cd /home/%s; ls batch-* | wc -l; cat batch-* | sort -u | wc -l", p.name))
		must(t, err)
		if want := strings.Repeat(strconv.Itoa(crowdOfJobs)+"\n", 2); sum != want {
			t.Errorf("files and different contents on the host: %q, want %q", sum, want)
		}
	})
	t.Run("rsync", func(t *testing.T) {
		out := s.job(t, "mkdir -p /tmp/tree/sub && echo deep >/tmp/tree/sub/file && rsync -a /tmp/tree/ host:tree/ && rsync -a host:tree/sub/file /tmp/back && cat /tmp/back")
		if out.Code != 0 || out.Stdout != "deep\n" {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
	})
	t.Run("sftp", func(t *testing.T) {
		out := s.job(t, "echo sent >/tmp/sent && printf 'put /tmp/sent sent\\nget sent /tmp/got\\n' | sftp -q -b - host && cat /tmp/got")
		if out.Code != 0 || !strings.HasSuffix(out.Stdout, "sent\n") {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
	})
	t.Run("an Ansible play", func(t *testing.T) {
		must(t, s.client.Put(t.Context(), harness.File{Path: "/root/play.yml", Mode: 0o644, Data: []byte(play)}))
		out := s.job(t, "cd /root && ANSIBLE_NOCOLOR=1 ansible-playbook -i host, play.yml")
		if out.Code != 0 || !strings.Contains(out.Stdout, "failed=0") || !strings.Contains(out.Stdout, "unreachable=0") {
			t.Errorf("exit status %d: %s", out.Code, out.Output())
		}
		if got, err := s.host.Read(t.Context(), "/home/"+p.name+"/played"); err != nil || got != p.name+" was here\n" {
			t.Errorf("the play left %q, %v", got, err)
		}
	})
	t.Run("one byte of the key changed is refused", func(t *testing.T) {
		// The account takes the other key too: only the rule tells them apart.
		seed := make([]byte, ed25519.SeedSize)
		_, err := rand.Read(seed)
		must(t, err)
		right, rightPublic := keyOf(t, seed)
		seed[7] ^= 1
		wrong, wrongPublic := keyOf(t, seed)
		_, err = s.host.Shell(t.Context(), fmt.Sprintf("printf '%%s\\n' '%s' '%s' >> /home/%s/.ssh/authorized_keys", rightPublic, wrongPublic, p.name))
		must(t, err)
		signer, err := ssh.ParsePrivateKey([]byte(right))
		must(t, err)
		print := ssh.FingerprintSHA256(signer.PublicKey())
		s.setAuthdConfig(t, config+p.batchRule(print, address))
		for name, key := range map[string]string{"right": right, "wrong": wrong} {
			must(t, s.client.Put(t.Context(), harness.File{Path: "/root/keys/" + name, Mode: 0o600, Data: []byte(key)}))
		}
		if out := p.scp(t, s.client, "right"); out.Code != 0 {
			t.Errorf("scp with the key of the rule: %s", out.Output())
		}
		if out := p.scp(t, s.client, "wrong"); out.Code == 0 {
			t.Error("scp with another key passed")
		}
		p.lastGate(t, decision{Result: "deny", Reason: "no_second_factor"})

		// And the other way round: the same key, one byte of the rule changed.
		changed := []byte(print)
		if changed[20] = 'A'; print[20] == 'A' {
			changed[20] = 'B'
		}
		s.setAuthdConfig(t, config+p.batchRule(string(changed), address))
		if out := p.scp(t, s.client, "right"); out.Code == 0 {
			t.Error("scp passed by a rule with another fingerprint")
		}
		p.lastGate(t, decision{Result: "deny", Reason: "no_second_factor"})
	})
}

const play = `
- hosts: all
  tasks:
    - name: a file from a template
      ansible.builtin.copy:
        content: "{{ ansible_user_id }} was here\n"
        dest: played
    - name: a command
      ansible.builtin.command: id -un
      register: who
    - name: what it said
      ansible.builtin.assert:
        that: who.stdout == ansible_user_id
`

// writesSSHConfig makes the person's key and name the client's for the host.
func (p *person) writesSSHConfig(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf("Host host\n  User %s\n  IdentityFile /root/keys/%s\n  IdentitiesOnly yes\n  BatchMode yes\n", p.name, p.name)
	must(t, p.site.client.Put(t.Context(), harness.File{Path: "/root/.ssh/config", Mode: 0o600, Data: []byte(text)}))
}

// job runs a shell script on the client, whatever comes of it.
func (s *site) job(t *testing.T, script string) harness.Result {
	t.Helper()
	out, err := s.client.Run(t.Context(), harness.Command{Args: []string{"/bin/sh", "-c", script}})
	must(t, err)
	return out
}

func keyOf(t *testing.T, seed []byte) (private, authorized string) {
	t.Helper()
	secret := ed25519.NewKeyFromSeed(seed)
	block, err := ssh.MarshalPrivateKey(secret, "")
	must(t, err)
	public, err := ssh.NewPublicKey(secret.Public())
	must(t, err)
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

// lastGate asserts what authd's log says of the newest login of the person that
// the account and session hooks have decided.
func (p *person) lastGate(t *testing.T, want decision) {
	t.Helper()
	log, err := p.site.host.Log(t.Context(), "authd")
	must(t, err)
	var last decision
	for line := range strings.Lines(log) {
		var d struct {
			Event string `json:"event"`
			Hook  string `json:"hook"`
			decision
		}
		if json.Unmarshal([]byte(line), &d) == nil && d.Event == "login" && d.Hook != "authenticate" && d.User == p.name {
			last = d.decision
		}
	}
	if last.Result != want.Result || last.Reason != want.Reason {
		t.Errorf("authd's log says %+v, want %+v", last, want)
	}
}
