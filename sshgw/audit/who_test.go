// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"log/slog"
	"testing"
)

func TestWhoSaysNothingOfWhatIsNotKnown(t *testing.T) {
	got := slog.GroupValue(Who{Connection: "3f2a91c0", Source: "192.0.2.1"}.Attrs(slog.Int("n", 1))...).String()
	if got != "[connection=3f2a91c0 source=192.0.2.1 n=1]" {
		t.Errorf("attributes are %s", got)
	}
}
