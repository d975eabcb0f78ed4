// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// outbox writes each mail as a file NAME.eml (RFC 5322), mode 0600, for development
// and tests. Names sort by time.
type outbox struct {
	dir string
	now func() time.Time
}

// send implements transport. A mail that is sent again takes a file of its own.
func (o outbox) send(_ context.Context, m *gomail.Msg) error {
	var text bytes.Buffer
	if _, err := m.WriteTo(&text); err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	id, _, _ := strings.Cut(strings.Trim(m.GetMessageID(), "<>"), "@")
	name := o.now().UTC().Format("20060102T150405.000000000") + "-" + id + ".eml"
	if err := durable.Replace(filepath.Join(o.dir, name), text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write mail into mail.outbox_dir: %w", err)
	}
	return nil
}
