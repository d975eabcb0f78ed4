// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"encoding/binary"
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// sealedAt is where a sealed column is: table, key, the generation where that is
// part of the identity, and the column.
type sealedAt struct{ table, id, generation, column string }

func sealedColumn(c store.SealedColumn) (sealedAt, error) {
	switch c {
	case store.SealedIntegration:
		return sealedAt{"integrations", "key", "0", "secret"}, nil
	case store.SealedOldIntegration:
		return sealedAt{"integrations", "key", "0", "old_secret"}, nil
	case store.SealedToken:
		return sealedAt{"tokens", "id", "0", "secret"}, nil
	case store.SealedEnrollSession:
		return sealedAt{"enroll_sessions", "id", "0", "sealed"}, nil
	case store.SealedMail:
		return sealedAt{"mails", "id", "0", "body"}, nil
	case store.SealedOfflineRoot:
		return sealedAt{"offline_roots", "phone_id", "generation", "root"}, nil
	case store.SealedPushKey:
		return sealedAt{"push_keys", "id", "0", "secret"}, nil
	case store.SealedSubscription:
		return sealedAt{"push_subscriptions", "phone_id", "generation", "subscription"}, nil
	}
	return sealedAt{}, fmt.Errorf("%q is no sealed column", c)
}

// SealedUnder implements store.SealedReader. The id of the key stands in bytes 2 to 5.
func (t *Tx) SealedUnder(c store.SealedColumn, key uint32, other bool, after string, limit int) ([]store.SealedRow, error) {
	at, err := sealedColumn(c)
	if err != nil {
		return nil, err
	}
	compare := "="
	if other {
		compare = "<>"
	}
	return list(t, "sealed values", func(s scanner) (store.SealedRow, error) {
		row := store.SealedRow{Column: c}
		return row, s.Scan(&row.ID, &row.Generation, &row.Value)
	}, fmt.Sprintf(`SELECT %s, %s, %s FROM %s WHERE length(%[3]s) > 5 AND substr(%[3]s, 2, 4) %[5]s $1 AND %[1]s > $2 ORDER BY %[1]s LIMIT $3`,
		at.id, at.generation, at.column, at.table, compare), binary.BigEndian.AppendUint32(nil, key), after, limit)
}

// Reseal implements store.SealedWriter.
func (t *Tx) Reseal(row store.SealedRow, value []byte) (bool, error) {
	at, err := sealedColumn(row.Column)
	if err != nil {
		return false, err
	}
	return t.won(fmt.Sprintf(`UPDATE %s SET %s = $3 WHERE %s = $1 AND %[2]s = $2`, at.table, at.column, at.id),
		row.ID, blob(row.Value), blob(value))
}
