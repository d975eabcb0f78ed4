// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/storetest"
)

// BenchmarkUpdate: how many durable updates share a sync of the disk.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db, err := Open(context.Background(), filepath.Join(b.TempDir(), "store.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			err = db.Update(context.Background(), func(w store.Writer) error {
				return errors.Join(w.AddUser(storetest.User("DU1", "alice")), w.AddToken(storetest.Token("DH1", store.HOTP6)), w.AttachToken("DU1", "DH1"))
			})
			if err != nil {
				b.Fatal(err)
			}
			var counter atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range writers {
				wg.Go(func() {
					for {
						n := counter.Add(1)
						if n > int64(b.N) {
							return
						}
						err := db.Update(context.Background(), func(w store.Writer) error {
							_, err := w.UseHOTPCounter("DU1", "DH1", n)
							return err
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
