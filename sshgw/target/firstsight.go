// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/internal/durable"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// sights are host keys that were believed when they were first seen, by the address
// in the form of known_hosts.
type sights map[string][]ssh.PublicKey

// readSights reads the file of them; one that is not there is empty.
func readSights(path string) (sights, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return sights{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the host keys seen so far: %w", err)
	}
	out := sights{}
	for rest := text; ; {
		marker, hosts, key, _, next, err := ssh.ParseKnownHosts(rest)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the host keys seen so far in %s: %w", path, err)
		}
		// The file is the gateway's own, and it writes neither markers nor patterns.
		if marker != "" {
			return nil, fmt.Errorf("read the host keys seen so far in %s: @%s belongs into a file of targets.known_hosts", path, marker)
		}
		for _, h := range hosts {
			out[h] = append(out[h], key)
		}
		rest = next
	}
}

// first believes a key because none was known, and puts it on disk before anything is
// done with the connection. Whoever comes at the same time with another key is refused.
func (h *hostCheck) first(key ssh.PublicKey) (string, *Error) {
	d, a := h.attempt.dialer, h.attempt
	d.mu.Lock()
	defer d.mu.Unlock()
	// Read again: an administrator may have taken a line out, another connection put one in.
	seen, err := readSights(a.sights)
	if err != nil {
		return "", problem(Internal, err, "the host key of %s cannot be remembered", a.name)
	}
	at := knownhosts.Normalize(h.address)
	if known := seen[at]; len(known) > 0 {
		if among(known, key) {
			return byFirstSight, nil
		}
		return "", problem(HostKeyChanged, fmt.Errorf("known: %s", describe(known...)),
			"%s shows another host key (%s) than a moment ago", a.name, describe(key))
	}
	text, err := os.ReadFile(a.sights)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", problem(Internal, err, "the host key of %s cannot be remembered", a.name)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	text = append(text, knownhosts.Line([]string{h.address}, key)+"\n"...)
	if err := durable.Replace(a.sights, text, 0o600); err != nil {
		return "", problem(Internal, err, "the host key of %s cannot be remembered", a.name)
	}
	seen[at] = append(seen[at], key)
	// Only if the configuration is still the one that was dialled by; a reload reads the file.
	if now := d.inForce.Load(); now.sights == a.sights {
		next := *now
		next.seen = maps.Clone(seen)
		d.inForce.Store(&next)
	}
	d.log.Event(context.WithoutCancel(a.ctx), slog.LevelWarn, audit.HostSeen,
		slog.String("target", a.name), slog.String("address", h.address),
		slog.String("key_type", key.Type()), slog.String("key", ssh.FingerprintSHA256(key)))
	return byFirstSight, nil
}
