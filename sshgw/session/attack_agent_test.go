// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func frame(message string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// relayed runs questions of a target against what a client answers to each.
func relayed(questions []byte, answers []byte) (toTarget, toClient []byte, err error) {
	type end struct {
		io.Reader
		io.Writer
	}
	var target, client bytes.Buffer
	err = relayAgent(end{bytes.NewReader(questions), &target}, end{bytes.NewReader(answers), &client}, func(int64) {})
	return target.Bytes(), client.Bytes(), err
}

// An agent's channel is no pipe: neither end says what is no question, or no answer to one.
func TestAttackAgentChannelAsAPipe(t *testing.T) {
	list := frame("\x0b")
	for name, answer := range map[string]string{
		"text":              "ls -la; cat /etc/shadow",
		"a question":        "\x0b",
		"another's answer":  "\x0e" + string(ssh.Marshal(struct{ S string }{"x"})),
		"more than it says": "\x0c\x00\x00\x00\x00and more",
		"keys without end":  "\x0c\xff\xff\xff\xff",
		"failure and more":  "\x05and more",
	} {
		out, _, err := relayed(list, frame(answer))
		if len(out) != 0 || !errors.Is(err, errNoAgent) {
			t.Errorf("%s: the target got %q, %v", name, out, err)
		}
	}
	for name, q := range map[string]string{
		"add a key": "\x11" + "anything", "remove all": "\x13", "lock": "\x16" + string(ssh.Marshal(struct{ S string }{"x"})), "list and more": "\x0bmore",
		"sign with no key": "\x0d" + string(ssh.Marshal(struct {
			K, D string
			F    uint32
		}{"no key", "data", 0})),
		"an extension": "\x1b" + string(ssh.Marshal(struct{ N, D string }{"pipe@example.com", "data"})), "an answer": "\x0c\x00\x00\x00\x00",
	} {
		out, asked, err := relayed(frame(q), nil)
		if string(out) != string(frame("\x05")) || len(asked) != 0 || err != nil {
			t.Errorf("%s: the client was asked %q, the target got %q, %v", name, asked, out, err)
		}
	}
	if _, asked, err := relayed([]byte{0xff, 0xff, 0xff, 0xff, 1}, nil); len(asked) != 0 || !errors.Is(err, errNoAgent) {
		t.Errorf("a message without end: %q, %v", asked, err)
	}
}

// What agents are asked in earnest passes.
func TestAgentThroughTheRelay(t *testing.T) {
	near, target := net.Pipe()
	far, client := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- relayAgent(near, far, func(int64) {}) }()
	keys := agent.NewKeyring()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Add(agent.AddedKey{PrivateKey: private, Comment: "alice"}); err != nil {
		t.Fatal(err)
	}
	go func() { _ = agent.ServeAgent(keys, client) }()
	a := agent.NewClient(target)
	list, err := a.List()
	if err != nil || len(list) != 1 || list[0].Comment != "alice" {
		t.Fatalf("%v %v", list, err)
	}
	sig, err := a.Sign(list[0], []byte("data"))
	if err != nil || list[0].Verify([]byte("data"), sig) != nil {
		t.Errorf("%v %v", sig, err)
	}
	if err := a.RemoveAll(); err == nil {
		t.Error("the agent was emptied")
	}
	_ = target.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_, _ = near.Close(), client.Close()
}

func FuzzAgent(f *testing.F) {
	f.Add([]byte("\x0b"), []byte("\x0c\x00\x00\x00\x00"))
	f.Add([]byte("\x0d\x00\x00\x00\x01x"), []byte("\x0e\x00\x00\x00\x00"))
	f.Add([]byte("\x1b\x00\x00\x00\x05query"), []byte("\x1c"))
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		out, asked, err := relayed(frame(string(question)), frame(string(answer)))
		if len(asked) == 0 && len(out) > 5 {
			t.Errorf("%q was answered without a question: %q, %v", question, out, err)
		}
	})
}
