// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

func offlineAccount(t *testing.T) (s Store, root []byte) {
	t.Helper()
	s = Store{Dir: t.TempDir()}
	_, secrets := add(t, s, vaultOf(t, s), "DPA", 1)
	return s, secrets.OfflineRoot
}

var db1 = agentapi.OfflineHost{HostID: "HO1", Name: "db1", Label: "db1-1", UserID: "DU1", Generation: 1, Edition: 1}

func TestNumbersNeverGoBack(t *testing.T) {
	s, root := offlineAccount(t)
	if h, err := s.ReadHosts("DPA"); err != nil || len(h.Hosts) != 0 {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := s.NextCode("DPA", root, db1, -1); !errors.Is(err, ErrNoHost) {
		t.Errorf("got %v", err)
	}
	keep := func(next int64, edition int64) OfflineHosts {
		t.Helper()
		h := db1
		h.Next, h.Edition = next, edition
		out, err := s.KeepHosts("DPA", []agentapi.OfflineHost{h}, time.Unix(9, 0))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	show := func(number, want int64) string {
		t.Helper()
		c, err := s.NextCode("DPA", root, db1, number)
		if err != nil || c.Number != want || len(c.Code) != offlinecode.Digits {
			t.Fatalf("got %+v, %v; want number %d", c, err, want)
		}
		return c.Code
	}
	keep(0, 1)
	first := show(-1, 0)
	show(-1, 1)
	keep(1, 1) // the verifier has heard of less
	show(-1, 2)
	keep(9, 1) // and of more
	show(-1, 9)
	if again := show(0, 0); again != first {
		t.Error("a number has two codes")
	}
	show(-1, 10)
	show(30, 30)
	show(-1, 31)
	show(32+offlinecode.Window, 32+offlinecode.Window) // mistyped
	show(-1, 32)
	if h := keep(0, 2); h.Hosts[0].Number != 0 {
		t.Errorf("another edition begins at %d", h.Hosts[0].Number)
	}
	if _, err := s.NextCode("DPA", root, db1, -1); !errors.Is(err, ErrNoHost) {
		t.Errorf("the edition before: %v", err)
	}
	if info, err := os.Stat(s.hostsPath("DPA")); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v", info, err)
	}
	accounts, err := s.List()
	if err != nil || len(accounts) != 1 {
		t.Errorf("%+v, %v", accounts, err)
	}
	if err := s.Remove("DPA"); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(s.Dir); len(left) != 1 || left[0].Name() != "seal.key" {
		t.Errorf("left: %v; want the key that seals secrets alone", left)
	}
}

// Two that ask at once get two numbers.
func TestNumbersInParallel(t *testing.T) {
	s, root := offlineAccount(t)
	if _, err := s.KeepHosts("DPA", []agentapi.OfflineHost{db1}, time.Unix(9, 0)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[int64]bool{}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			c, err := s.NextCode("DPA", root, db1, -1)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[c.Number] {
				t.Errorf("number %d again, or %v", c.Number, err)
			}
			seen[c.Number] = true
		})
	}
	all.Wait()
}

func TestOfflineRefusals(t *testing.T) {
	s, _ := offlineAccount(t)
	if _, err := s.NextCode("DPA", nil, db1, -1); !errors.Is(err, ErrNoRoot) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(s.hostsPath("DPA"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadHosts("DPA"); err == nil || !strings.Contains(err.Error(), "DPA") {
		t.Errorf("got %v", err)
	}
}
