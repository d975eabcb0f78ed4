// SPDX-License-Identifier: Apache-2.0

package offline

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// state is all that the host keeps of one person: the form of its file.
type state struct {
	Version  int      `json:"v"` // 1
	UserID   string   `json:"user_id"`
	Names    []string `json:"names"` // under which the person has logged in
	Label    string   `json:"label"` // of this host
	Keys     []key    `json:"keys"`
	Granted  int64    `json:"granted"` // the verifier's time of the last hand-over, Unix seconds
	MaxUses  int      `json:"max_uses"`
	UsesLeft int      `json:"uses_left"`
	Until    int64    `json:"until"`        // Unix seconds
	Latest   int64    `json:"latest"`       // the latest time seen, Unix seconds
	Failures int      `json:"failures"`     // since the last hand-over
	FailedAt int64    `json:"failed_at_ms"` // Unix milliseconds
}

// key is the key of one authenticator.
type key struct {
	PhoneID    string `json:"authenticator_id"`
	Name       string `json:"name"`
	Generation int64  `json:"generation"`
	Edition    int64  `json:"edition"`
	Key        []byte `json:"key"`
	Next       int64  `json:"next"` // the first number that is taken
}

func (s *state) id(k key) agentapi.OfflineKeyID {
	return agentapi.OfflineKeyID{UserID: s.UserID, PhoneID: k.PhoneID, Generation: k.Generation, Edition: k.Edition}
}

func (s *state) clone() *state {
	c := *s
	c.Names, c.Keys = slices.Clone(s.Names), slices.Clone(s.Keys)
	return &c
}

const (
	// maxState bounds a file that is read, in bytes.
	maxState = 64 << 10
	// maxNames bounds the names of one person.
	maxNames = 16
	maxKeys  = 16
)

// A user id names a file, and comes from a server.
var validID = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// parse reads a file of the user id. What could not have been written is an error.
func parse(text []byte, id string) (*state, error) {
	s := &state{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	switch {
	case s.Version != 1 || s.UserID != id || !validID.MatchString(id):
		return nil, errors.New("not a state of this version and this person")
	case len(s.Names) > maxNames || len(s.Keys) > maxKeys || len(s.Keys) == 0:
		return nil, errors.New("too many names or keys, or none")
	case s.UsesLeft < 0 || s.UsesLeft > s.MaxUses || s.Failures < 0:
		return nil, errors.New("uses or failures are out of range")
	}
	for _, k := range s.Keys {
		if len(k.Key) != offlinecode.Size || k.Next < 0 {
			return nil, errors.New("a key or its counter is out of range")
		}
	}
	return s, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode %04o lets others read keys", info.Mode().Perm())
	case info.Size() > maxState:
		return nil, fmt.Errorf("over %d bytes", maxState)
	}
	return os.ReadFile(path)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
