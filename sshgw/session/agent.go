// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Messages of the agent protocol, by draft-ietf-sshm-ssh-agent.
const (
	agentFailure          = 5
	agentSuccess          = 6
	agentList             = 11
	agentKeys             = 12
	agentSign             = 13
	agentSignature        = 14
	agentExtension        = 27
	agentExtensionFailure = 28
	agentExtensionAnswer  = 29
)

// Bounds on what an agent is asked and answers.
const (
	maxAgentMessage = 256 << 10 // as OpenSSH has it
	maxSigned       = 64 << 10
	maxSignature    = 16 << 10
	maxAgentKeys    = 2048
)

var errNoAgent = errors.New("what came is nothing that an agent is asked or answers")

// relayAgent carries questions of a target to the client's agent, and each one's answer
// back: an agent's channel is no way past a recording for whatever two ends like to say.
// What changes an agent is answered with a no.
func relayAgent(target, client io.ReadWriter, active func(int64)) error {
	for {
		question, err := readAgent(target)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		active(int64(len(question)))
		if !mayAskAgent(question) {
			if err := writeAgent(target, []byte{agentFailure}); err != nil {
				return err
			}
			continue
		}
		if err := writeAgent(client, question); err != nil {
			return err
		}
		answer, err := readAgent(client)
		if err != nil {
			return err
		}
		if !answersAgent(question[0], answer) {
			return errNoAgent
		}
		active(int64(len(answer)))
		if err := writeAgent(target, answer); err != nil {
			return err
		}
	}
}

func readAgent(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxAgentMessage {
		return nil, fmt.Errorf("%w: a message of %d bytes", errNoAgent, n)
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeAgent(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	return err
}

// mayAskAgent says whether a question is one for keys or for a signature, or says whom the
// signature is for.
func mayAskAgent(q []byte) bool {
	switch q[0] {
	case agentList:
		return len(q) == 1
	case agentSign:
		m, ok := parse[struct {
			Key, Data []byte
			Flags     uint32
		}](q[1:])
		if !ok || len(m.Data) > maxSigned {
			return false
		}
		_, err := ssh.ParsePublicKey(m.Key)
		return err == nil
	case agentExtension:
		m, ok := parse[struct {
			Name string
			Rest []byte `ssh:"rest"`
		}](q[1:])
		if !ok {
			return false
		}
		switch m.Name {
		case "query":
			return len(m.Rest) == 0
		case "session-bind@openssh.com":
			_, ok := parse[struct {
				HostKey, Session, Signature []byte
				Forwarding                  bool
			}](m.Rest)
			return ok && len(m.Rest) <= maxSignature
		}
	}
	return false
}

// answersAgent says whether an answer is one to a question of this kind.
func answersAgent(question byte, a []byte) bool {
	if a[0] == agentFailure {
		return len(a) == 1
	}
	switch question {
	case agentList:
		if a[0] != agentKeys || len(a) < 5 {
			return false
		}
		n, rest := binary.BigEndian.Uint32(a[1:]), a[5:]
		if n > maxAgentKeys {
			return false
		}
		for range n {
			m, ok := parse[struct {
				Key, Comment []byte
				Rest         []byte `ssh:"rest"`
			}](rest)
			if !ok {
				return false
			}
			rest = m.Rest
		}
		return len(rest) == 0
	case agentSign:
		m, ok := parse[struct{ Signature []byte }](a[1:])
		if a[0] != agentSignature || !ok || len(m.Signature) > maxSignature {
			return false
		}
		_, ok = parse[struct {
			Format string
			Blob   []byte
			Rest   []byte `ssh:"rest"`
		}](m.Signature)
		return ok
	case agentExtension:
		switch a[0] {
		case agentExtensionFailure:
			return len(a) == 1
		case agentSuccess, agentExtensionAnswer:
			return len(a) <= maxSigned
		}
	}
	return false
}
