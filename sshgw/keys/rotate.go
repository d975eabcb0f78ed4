// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// ErrUnknownKind is wrapped by errors about a kind of keys that there is not.
var ErrUnknownKind = errors.New("there are keys of the kinds host, user-ca and host-ca")

// ErrTooEarly is wrapped by the error of a rotation whose coming key is too young.
var ErrTooEarly = errors.New("the coming key is too young")

// List reads the keys of the folder, current ones first. It makes none.
func (f Folder) List() ([]*Key, error) { return f.read() }

// Rotate does the next step of a change of keys, and says which:
//
//	Coming   a new key was made beside the current one, and is published
//	Current  the coming key has taken over; the old one is retired, and published still
//
// The second step waits until the coming key is older than grace, for those who must
// learn it first. A change ends with Finish.
func (f Folder) Rotate(kind Kind, grace time.Duration) (Stage, error) {
	var done Stage
	err := f.change(kind, func(at map[Stage][]*Key) error {
		switch coming := at[Coming]; {
		case len(coming) > 0:
			for _, k := range coming {
				if until := k.Made.Add(grace); f.Now().Before(until) {
					return cli.WithHint(fmt.Errorf("%w: %s was made at %s", ErrTooEarly, k.File, k.Made.Format(time.RFC3339)),
						"try again at "+until.Format(time.RFC3339)+", or say --grace 0s where everybody knows it already")
				}
			}
			done = Current
			return f.takeOver(coming)
		case len(at[Retired]) > 0:
			return cli.WithHint(errors.New("the last change is not over: a retired key is still published"),
				fmt.Sprintf("run: sallyport-sshgw keys rotate %s --finish", kind))
		default:
			done = Coming
			for _, k := range at[Current] {
				if err := f.makeKey(k.slot(), Coming); err != nil {
					return err
				}
			}
			return nil
		}
	})
	return done, err
}

// takeOver puts the coming keys in the place of the current ones. At each moment a
// crash leaves a current key, and the step can be done again.
func (f Folder) takeOver(coming []*Key) error {
	for _, k := range coming {
		s := k.slot()
		current, old := f.path(s, Current), f.path(s, Retired)
		// A step that was cut short has left the current key under both names.
		if err := os.Link(current, old); err != nil && !(errors.Is(err, fs.ErrExist) && same(current, old)) {
			return fmt.Errorf("retire %s: %w", current, err)
		}
		if err := durable.SyncDir(f.Dir); err != nil {
			return err
		}
		if err := os.Rename(f.path(s, Coming), current); err != nil {
			return fmt.Errorf("put the coming key in the place of %s: %w", current, err)
		}
	}
	return durable.SyncDir(f.Dir)
}

func same(a, b string) bool {
	x, errX := os.Lstat(a)
	y, errY := os.Lstat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// Finish removes the retired keys.
func (f Folder) Finish(kind Kind) error {
	return f.change(kind, func(at map[Stage][]*Key) error {
		switch {
		case len(at[Coming]) > 0:
			return cli.WithHint(errors.New("the coming key has not taken over yet"),
				fmt.Sprintf("run: sallyport-sshgw keys rotate %s", kind))
		case len(at[Retired]) == 0:
			return errors.New("no change of keys is going on")
		}
		for _, k := range at[Retired] {
			if err := os.Remove(f.path(k.slot(), Retired)); err != nil {
				return fmt.Errorf("remove the retired key: %w", err)
			}
		}
		return durable.SyncDir(f.Dir)
	})
}

// change runs do with the keys of a kind, and publishes what has come of it.
func (f Folder) change(kind Kind, do func(map[Stage][]*Key) error) error {
	return f.locked(func() error {
		all, err := f.read()
		if err != nil {
			return err
		}
		at := map[Stage][]*Key{}
		for _, k := range all {
			if k.Kind == kind {
				at[k.Stage] = append(at[k.Stage], k)
			}
		}
		if len(at[Current]) == 0 {
			if kind != Host && kind != UserCA && kind != HostCA {
				return fmt.Errorf("%q: %w", kind, ErrUnknownKind)
			}
			return cli.WithHint(fmt.Errorf("there is no key of kind %s in %s", kind, f.Dir), "the gateway makes them when it starts")
		}
		// After a failure too: what was done by then must be published.
		return errors.Join(do(at), f.publish())
	})
}

func (k *Key) slot() slot {
	for _, s := range slots {
		if k.File == s.name+suffixes[k.Stage] {
			return s
		}
	}
	panic("a key of no slot") // read gives every key its slot
}

// Public is the text that makes others believe the keys of a kind, those of every
// stage: of user-ca, lines for a target's TrustedUserCAKeys; of host-ca and host, lines
// for known_hosts, where pattern says for which hosts ("*": all, "gw,gw.example.org").
func (f Folder) Public(kind Kind, pattern string) (string, error) {
	all, err := f.read()
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for _, k := range all {
		switch {
		case k.Kind != kind:
		case kind == UserCA:
			out.WriteString(line(k))
		case kind == HostCA:
			out.WriteString("@cert-authority " + pattern + " " + line(k))
		case k.Stage != Retired:
			out.WriteString(pattern + " " + string(ssh.MarshalAuthorizedKey(k.public())))
		}
	}
	if out.Len() == 0 {
		if kind != Host && kind != UserCA && kind != HostCA {
			return "", fmt.Errorf("%q: %w", kind, ErrUnknownKind)
		}
		return "", cli.WithHint(fmt.Errorf("there is no key of kind %s in %s", kind, f.Dir), "the gateway makes them when it starts")
	}
	return out.String(), nil
}
