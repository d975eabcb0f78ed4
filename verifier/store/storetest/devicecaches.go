// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// ManagementSystem is a management system for tests; its integration has the key DI and the same rest.
func ManagementSystem(key string) store.ManagementSystem {
	return store.ManagementSystem{
		Key: key, Name: "name of " + key, OS: store.OSLinux, Status: store.ManagementDisabled,
		IntegrationKey: "DI" + key[2:], Created: now,
	}
}

// DeviceCache is an empty cache of DMa for tests.
func DeviceCache(key string, status store.CacheStatus) store.DeviceCache {
	c := store.DeviceCache{Key: key, SystemKey: "DMa", Status: status, Created: now}
	if status == store.CacheActive {
		c.Activated = now
	}
	return c
}

func addCache(c store.DeviceCache) func(w store.Writer) (bool, error) {
	return func(w store.Writer) (bool, error) { return w.AddDeviceCache(c) }
}

func activate(key string, at time.Time) func(w store.Writer) (bool, error) {
	return func(w store.Writer) (bool, error) { return w.ActivateDeviceCache(key, at) }
}

// addDevices adds identifiers in an update of its own and returns the count.
func addDevices(t *testing.T, s store.Store, key string, ids ...string) (n int, won bool) {
	t.Helper()
	update(t, s, func(w store.Writer) (err error) {
		n, won, err = w.AddCachedDevices(key, ids, now)
		return err
	})
	return n, won
}

func deleteDevices(t *testing.T, s store.Store, key string, ids ...string) (n int, won bool) {
	t.Helper()
	update(t, s, func(w store.Writer) (err error) {
		n, won, err = w.DeleteCachedDevices(key, ids)
		return err
	})
	return n, won
}

// holders names the systems that vouch for a device.
func holders(t *testing.T, s store.Store, id string) (keys []string) {
	t.Helper()
	view(t, s, func(r store.Reader) error {
		systems, err := r.SystemsWithDevice(id)
		for _, m := range systems {
			keys = append(keys, m.Key)
		}
		return err
	})
	return keys
}

func caches(t *testing.T, s store.Store, system string) (out []store.DeviceCache) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) {
		out, err = r.DeviceCaches(system)
		return err
	})
	return out
}

func testManagementSystems(t *testing.T, s store.Store) {
	a, b := ManagementSystem("DMa"), ManagementSystem("DMb")
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddManagementSystem(b), w.AddManagementSystem(a)) })
	for what, spoil := range map[string]func(*store.ManagementSystem){
		"key":         func(m *store.ManagementSystem) { m.Key = "DMa" },
		"name":        func(m *store.ManagementSystem) { m.Name = a.Name },
		"integration": func(m *store.ManagementSystem) { m.IntegrationKey = a.IntegrationKey },
	} {
		t.Run("the "+what+" is in use", func(t *testing.T) {
			m := ManagementSystem("DMc")
			spoil(&m)
			wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddManagementSystem(m) })
		})
	}
	changed := a
	changed.Name, changed.Status, changed.GroupIDs, changed.OS = "new", store.ManagementTestGroup, []string{"DG1", "DG2"}, store.OSMac
	update(t, s, func(w store.Writer) error { return w.SetManagementSystem(changed) })
	changed.OS = a.OS // the operating system stays
	view(t, s, func(r store.Reader) error {
		got, err := r.ManagementSystem("DMa")
		equal(t, "system", got, changed)
		of, err2 := r.ManagementSystemOf("DIb")
		equal(t, "of the integration", of, b)
		all, total, err3 := r.ManagementSystems(store.Page{Limit: 1, Offset: 1})
		equal(t, "page", all, []store.ManagementSystem{changed})
		equal(t, "total", total, 2)
		return errors.Join(err, err2, err3)
	})
	changed.Name = b.Name
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.SetManagementSystem(changed) })
	update(t, s, func(w store.Writer) error { return w.DeleteManagementSystem("DMa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.DeleteManagementSystem("DMa") })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetManagementSystem(ManagementSystem("DMa")) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.ManagementSystem("DMa"); return err })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.ManagementSystemOf("DIa"); return err })
}

// A system has at most one pending and one active cache, and to activate ends the one before.
func testDeviceCacheStates(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddManagementSystem(ManagementSystem("DMa")), w.AddManagementSystem(ManagementSystem("DMb")))
	})
	equal(t, "first pending", decide(t, s, addCache(DeviceCache("DC1", store.CachePending))), true)
	equal(t, "second pending", decide(t, s, addCache(DeviceCache("DC2", store.CachePending))), false)
	equal(t, "first active", decide(t, s, addCache(DeviceCache("DC3", store.CacheActive))), true)
	equal(t, "second active", decide(t, s, addCache(DeviceCache("DC4", store.CacheActive))), false)
	stranger := DeviceCache("DC5", store.CachePending)
	stranger.SystemKey = "DMx"
	equal(t, "of no system", decide(t, s, addCache(stranger)), false)
	other := DeviceCache("DC6", store.CachePending)
	other.SystemKey = "DMb"
	equal(t, "of another system", decide(t, s, addCache(other)), true)
	taken := DeviceCache("DC1", store.CacheActive)
	taken.SystemKey = "DMb"
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { _, err := w.AddDeviceCache(taken); return err })

	pending, active := DeviceCache("DC1", store.CachePending), DeviceCache("DC3", store.CacheActive)
	equal(t, "caches", caches(t, s, "DMa"), []store.DeviceCache{active, pending})
	equal(t, "all caches", caches(t, s, ""), []store.DeviceCache{active, pending, other})

	equal(t, "activate the active one", decide(t, s, activate("DC3", now)), false)
	equal(t, "activate none", decide(t, s, activate("", now)), false)
	equal(t, "delete none", decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteDeviceCache("") }), false)
	equal(t, "delete the active one", decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteDeviceCache("DC3") }), false)
	later := now.Add(time.Hour)
	equal(t, "activate", decide(t, s, activate("DC1", later)), true)
	pending.Status, pending.Activated = store.CacheActive, later
	equal(t, "after the swap", caches(t, s, "DMa"), []store.DeviceCache{pending})
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.DeviceCache("DC3"); return err })

	equal(t, "the place is free", decide(t, s, addCache(DeviceCache("DC7", store.CachePending))), true)
	equal(t, "delete", decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteDeviceCache("DC7") }), true)
	equal(t, "delete again", decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteDeviceCache("DC7") }), false)
	equal(t, "activate none where none is pending", decide(t, s, activate("", now)), false)
	update(t, s, func(w store.Writer) error { return w.DeleteManagementSystem("DMb") })
	equal(t, "caches that are left", caches(t, s, ""), []store.DeviceCache{pending})
}

func testCachedDevices(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error { return w.AddManagementSystem(ManagementSystem("DMa")) })
	decide(t, s, addCache(DeviceCache("DC1", store.CachePending)))
	type result struct {
		n   int
		won bool
	}
	add := func(key string, ids ...string) result { n, won := addDevices(t, s, key, ids...); return result{n, won} }
	remove := func(key string, ids ...string) result {
		n, won := deleteDevices(t, s, key, ids...)
		return result{n, won}
	}

	equal(t, "a device and its double", add("DC1", "b", "a", "b"), result{2, true})
	equal(t, "across calls", add("DC1", "a", "c"), result{3, true})
	equal(t, "none", add("DC1"), result{3, true})
	many := make([]string, 345)
	for i := range many {
		many[i] = fmt.Sprintf("m%03d", i)
	}
	equal(t, "more than a block", add("DC1", many...), result{348, true})
	equal(t, "the same again", add("DC1", many...), result{348, true})
	equal(t, "delete unknown ones", remove("DC1", "x", "y"), result{348, true})
	equal(t, "delete", remove("DC1", append([]string{"x", "a"}, many...)...), result{2, true})
	equal(t, "a cache that is not", add("DCx", "a"), result{})
	equal(t, "delete from a cache that is not", remove("DCx", "a"), result{})
	equal(t, "pending caches are not looked up", holders(t, s, "b"), []string(nil))

	decide(t, s, activate("DC1", now))
	equal(t, "looked up when active", holders(t, s, "b"), []string{"DMa"})
	equal(t, "as given", holders(t, s, "B"), []string(nil))
	equal(t, "added while active", add("DC1", "d"), result{3, true})
	equal(t, "looked up at once", holders(t, s, "d"), []string{"DMa"})
	view(t, s, func(r store.Reader) error {
		c, err := r.DeviceCache("DC1")
		equal(t, "count", c.DeviceCount, 3)
		found, err2 := r.CachedDevices("DC1", []string{"d", "x", "b"})
		equal(t, "found", found, []store.CachedDevice{{ID: "d", Added: now}, {ID: "b", Added: now}})
		part, err3 := r.CachedDevicePage("DC1", store.Page{Limit: 2, Offset: 1})
		equal(t, "page", part, []store.CachedDevice{{ID: "c", Added: now}, {ID: "d", Added: now}})
		return errors.Join(err, err2, err3)
	})

	decide(t, s, addCache(DeviceCache("DC2", store.CachePending)))
	equal(t, "another cache counts for itself", add("DC2", "b", "e"), result{2, true})
	decide(t, s, activate("DC2", now))
	equal(t, "in the old one only", holders(t, s, "d"), []string(nil))
	equal(t, "in both", holders(t, s, "b"), []string{"DMa"})
	equal(t, "nothing comes to the old one", add("DC1", "z"), result{})
	view(t, s, func(r store.Reader) error {
		found, err := r.CachedDevices("DC1", []string{"d"})
		equal(t, "nothing is in the old one", found, []store.CachedDevice(nil))
		return err
	})
}

// What is deleted goes in parts, and nothing else goes.
func testSweepDeviceCaches(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddManagementSystem(ManagementSystem("DMa")), w.AddManagementSystem(ManagementSystem("DMb")))
	})
	sweep := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SweepDeviceCaches(10) })
	}
	equal(t, "nothing to sweep", sweep(), false)
	ids := make([]string, 25)
	for i := range ids {
		ids[i] = fmt.Sprintf("id%02d", i)
	}
	decide(t, s, addCache(DeviceCache("DC1", store.CacheActive)))
	addDevices(t, s, "DC1", ids...)
	decide(t, s, addCache(DeviceCache("DC2", store.CachePending)))
	addDevices(t, s, "DC2", ids...)
	other := DeviceCache("DC3", store.CacheActive)
	other.SystemKey = "DMb"
	decide(t, s, addCache(other))
	addDevices(t, s, "DC3", ids...)
	equal(t, "all are alive", sweep(), false)
	decide(t, s, activate("DC2", now))
	update(t, s, func(w store.Writer) error { return w.DeleteManagementSystem("DMb") })
	rounds := 1
	for sweep() {
		if rounds++; rounds > 20 {
			t.Fatal("the sweeper does not come to an end")
		}
	}
	equal(t, "rounds", rounds, 6) // 10, 10, 5 and the cache, twice
	view(t, s, func(r store.Reader) error {
		page, err := r.CachedDevicePage("DC2", store.Page{Limit: 100})
		equal(t, "what is left", len(page), 25)
		return err
	})
	// A new cache finds nothing of an old one, whatever number it has.
	decide(t, s, addCache(DeviceCache("DC4", store.CachePending)))
	n, _ := addDevices(t, s, "DC4", "id01")
	equal(t, "count of a new cache", n, 1)
}

// Uploads, activations and look-ups at once: what an upload was told is there is
// there, and a look-up sees one cache or the next, never a part.
func testDeviceCacheRaces(t *testing.T, s store.Store) {
	update(t, s, func(w store.Writer) error { return w.AddManagementSystem(ManagementSystem("DMa")) })
	decide(t, s, addCache(DeviceCache("DC0", store.CacheActive)))
	addDevices(t, s, "DC0", "always")
	ctx := context.Background()
	var (
		wg   sync.WaitGroup
		stop atomic.Bool
	)
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				err := s.View(ctx, func(r store.Reader) error {
					systems, err := r.SystemsWithDevice("always")
					if err == nil && len(systems) != 1 {
						err = fmt.Errorf("a device of every cache is in none: %d", len(systems))
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 10 {
		key := fmt.Sprintf("DC%d", round+1)
		decide(t, s, addCache(DeviceCache(key, store.CachePending)))
		addDevices(t, s, key, "always")
		var uploads sync.WaitGroup
		told := make([][]string, 2)
		for u := range told {
			uploads.Go(func() {
				for i := range 20 {
					id := fmt.Sprintf("u%d-%d", u, i)
					err := s.Update(ctx, func(w store.Writer) error {
						_, won, err := w.AddCachedDevices(key, []string{id, "both"}, now)
						if err == nil && !won {
							err = errors.New("an upload was refused")
						}
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
					told[u] = append(told[u], id)
				}
			})
		}
		uploads.Go(func() {
			err := s.Update(ctx, func(w store.Writer) error {
				won, err := w.ActivateDeviceCache(key, now)
				if err == nil && !won {
					err = errors.New("the activation was refused")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
			for more := true; more; {
				err := s.Update(ctx, func(w store.Writer) (err error) { more, err = w.SweepDeviceCaches(7); return err })
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
		uploads.Wait()
		view(t, s, func(r store.Reader) error {
			for _, ids := range told {
				found, err := r.CachedDevices(key, ids)
				if err != nil || len(found) != len(ids) {
					return fmt.Errorf("%d of %d identifiers that were acknowledged: %w", len(found), len(ids), err)
				}
			}
			c, err := r.DeviceCache(key)
			equal(t, "count", c.DeviceCount, 42)
			return err
		})
	}
	stop.Store(true)
	wg.Wait()
}
