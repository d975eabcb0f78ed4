// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"fmt"
	"io"
	"log/slog"
)

const hidden = "[hidden]"

// Secret is text that must not be printed: what a person typed, or a passcode
// from the environment. Every way of formatting or marshalling it yields a
// placeholder; Reveal alone gives the text.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer with the placeholder.
func (s Secret) String() string { return hidden }

// Format implements fmt.Formatter, so that no verb shows the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue implements slog.LogValuer with the placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler with the placeholder, which
// covers JSON as well.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
