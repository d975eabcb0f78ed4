// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// OfflineHost is a host that takes offline codes of an account.
type OfflineHost struct {
	agentapi.OfflineHost
	// Number is that of the code to be shown next.
	Number int64 `json:"number"`
}

// OfflineHosts are the hosts of an account, as the verifier named them last. Its
// JSON form is the file format.
type OfflineHosts struct {
	Version int           `json:"v"`       // 1
	Fetched int64         `json:"fetched"` // Unix seconds
	Hosts   []OfflineHost `json:"hosts"`
}

// OfflineCode is a code and its number.
type OfflineCode struct {
	Code   string
	Number int64
}

// Errors of NextCode.
var (
	ErrNoRoot = errors.New("this account was activated without offline codes")
	ErrNoHost = errors.New("the account has no offline code for that host")
)

func (s Store) hostsPath(id string) string { return s.path(id) + ".hosts" }

// ReadHosts reads the hosts of an account; none if they were never fetched.
func (s Store) ReadHosts(id string) (OfflineHosts, error) {
	h := OfflineHosts{Version: 1}
	text, err := os.ReadFile(s.hostsPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	if err == nil && h.Version != 1 {
		err = errors.New("not of this version")
	}
	if err != nil {
		return OfflineHosts{}, fmt.Errorf("read hosts of account %s: %w", id, err)
	}
	return h, nil
}

// KeepHosts keeps what the verifier says of an account's hosts. Numbers of codes
// that were shown are not forgotten, and those that were used are passed over.
func (s Store) KeepHosts(id string, fetched []agentapi.OfflineHost, now time.Time) (OfflineHosts, error) {
	out := OfflineHosts{Version: 1, Fetched: now.Unix(), Hosts: []OfflineHost{}}
	err := s.lockedFor(id, func() error {
		before, err := s.ReadHosts(id)
		if err != nil {
			return err
		}
		for _, f := range fetched {
			h := OfflineHost{OfflineHost: f, Number: f.Next}
			for _, b := range before.Hosts {
				if sameKey(b.OfflineHost, f) {
					h.Number = max(h.Number, b.Number)
				}
			}
			out.Hosts = append(out.Hosts, h)
		}
		return s.writeHosts(id, out)
	})
	return out, err
}

func sameKey(a, b agentapi.OfflineHost) bool {
	return a.HostID == b.HostID && a.UserID == b.UserID && a.Generation == b.Generation && a.Edition == b.Edition
}

// NextCode is the next code of the account id for a host, or that of number, if it is
// not negative; root is the account's offline root. That it was shown is on disk
// when it returns. A number that is offlinecode.Window or more ahead was mistyped, since
// no host would take it: the numbers do not go on from there.
func (s Store) NextCode(id string, root []byte, host agentapi.OfflineHost, number int64) (out OfflineCode, err error) {
	if len(root) == 0 {
		return out, ErrNoRoot
	}
	err = s.lockedFor(id, func() error {
		hosts, err := s.ReadHosts(id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(hosts.Hosts, func(h OfflineHost) bool { return sameKey(h.OfflineHost, host) })
		if i < 0 {
			return ErrNoHost
		}
		out.Number = hosts.Hosts[i].Number
		if number >= 0 {
			out.Number = number
		}
		if kept := hosts.Hosts[i].Number; out.Number < kept+offlinecode.Window {
			hosts.Hosts[i].Number = max(kept, out.Number+1)
		}
		return s.writeHosts(id, hosts)
	})
	if err != nil {
		return OfflineCode{}, err
	}
	key, err := offlinecode.Key(root, offlinecode.ID{
		HostID: host.HostID, UserID: host.UserID, PhoneID: id, Generation: host.Generation, Edition: host.Edition,
	})
	if err != nil {
		return OfflineCode{}, err
	}
	out.Code, err = offlinecode.Code(key, out.Number)
	return out, err
}

// lockedFor is locked, for an account that is there.
func (s Store) lockedFor(id string, f func() error) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("lock account: %q is no id of an account", id)
	}
	return s.locked(func() error {
		if _, err := os.Stat(s.path(id)); err != nil {
			return fmt.Errorf("lock account: %w", err)
		}
		return f()
	})
}

// writeHosts replaces the file: whole or not at all, and durably.
func (s Store) writeHosts(id string, h OfflineHosts) error {
	text, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("encode hosts: %w", err)
	}
	return durable.Replace(s.hostsPath(id), append(text, '\n'), 0o600)
}
