// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
)

// Segment is a further private network of a [Lab]. Who is on it alone is neither
// reached nor known by name from the lab's own network.
type Segment struct {
	network string
}

// Segment makes one; [Lab.Close] removes it.
func (l *Lab) Segment(ctx context.Context) (*Segment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Segment{network: fmt.Sprintf("%s-%d", l.network, len(l.segments)+1)}
	if _, err := docker(ctx, nil, "network", "create", "--internal", "--label", l.label, s.network); err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	l.segments = append(l.segments, s)
	return s, nil
}

// Join gives containers a cable into the segment, beside those that they have.
func (s *Segment) Join(ctx context.Context, containers ...*Container) error {
	var errs []error
	for _, c := range containers {
		_, err := docker(ctx, nil, "network", "connect", "--alias", c.Name, s.network, c.id)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
