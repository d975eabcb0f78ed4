// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Operating systems of management systems.
const (
	OSWindows = "windows"
	OSMac     = "macos"
	OSLinux   = "linux"
)

// ManagementStatus says whose devices a management system vouches for.
type ManagementStatus string

// The states of a management system.
const (
	ManagementDisabled  ManagementStatus = "disabled"   // nobody's
	ManagementTestGroup ManagementStatus = "test-group" // of the members of its groups
	ManagementAll       ManagementStatus = "all"
)

// ManagementSystem is a tool that knows an organisation's devices of one
// operating system, and uploads their identifiers.
type ManagementSystem struct {
	Key            string // DM and 18 characters
	Name           string
	OS             string
	Status         ManagementStatus
	GroupIDs       []string // with ManagementTestGroup
	IntegrationKey string   // of the Device API integration that may change its caches
	Created        time.Time
}

// CacheStatus is the place of a device cache in its management system.
type CacheStatus string

// The states of a device cache. A cache that has neither is deleted.
const (
	CachePending CacheStatus = "pending" // being filled; nothing is looked up in it
	CacheActive  CacheStatus = "active"
)

// DeviceCache is a set of device identifiers.
type DeviceCache struct {
	Key         string // DC and 18 characters
	SystemKey   string
	Status      CacheStatus
	Created     time.Time
	Activated   time.Time // zero while pending
	DeviceCount int
}

// CachedDevice is an identifier in a cache.
type CachedDevice struct {
	ID    string
	Added time.Time
}

// DeviceCacheReader reads management systems and their device caches.
type DeviceCacheReader interface {
	ManagementSystem(key string) (ManagementSystem, error)
	// ManagementSystemOf is the one that an integration belongs to.
	ManagementSystemOf(integrationKey string) (ManagementSystem, error)
	ManagementSystems(p Page) ([]ManagementSystem, int, error)

	DeviceCache(key string) (DeviceCache, error)
	// DeviceCaches lists the caches of a system, at most one active and one
	// pending, in this order; systemKey "" lists those of all systems.
	DeviceCaches(systemKey string) ([]DeviceCache, error)
	// CachedDevices finds those of the identifiers that the cache holds.
	CachedDevices(cacheKey string, ids []string) ([]CachedDevice, error)
	// CachedDevicePage lists a part of a cache in the order of the identifiers.
	CachedDevicePage(cacheKey string, p Page) ([]CachedDevice, error)
	// SystemsWithDevice lists the management systems whose active cache holds the identifier.
	SystemsWithDevice(id string) ([]ManagementSystem, error)
}

// DeviceCacheWriter changes management systems and their device caches.
type DeviceCacheWriter interface {
	// AddManagementSystem gives ErrConflict for a key, name or integration in use.
	AddManagementSystem(ManagementSystem) error
	// SetManagementSystem writes name, status and groups; never the operating
	// system, for which its caches were collected.
	SetManagementSystem(ManagementSystem) error
	// DeleteManagementSystem deletes it with its caches.
	DeleteManagementSystem(key string) error

	// AddDeviceCache adds an empty cache in the place that c.Status names. False:
	// the system has one there, or is gone.
	AddDeviceCache(c DeviceCache) (bool, error)
	// ActivateDeviceCache puts the pending cache in the place of the active one,
	// which is deleted by that. False: it is not the pending one.
	ActivateDeviceCache(key string, now time.Time) (bool, error)
	// DeleteDeviceCache deletes a cache that is pending. False: it is not.
	DeleteDeviceCache(key string) (bool, error)
	// AddCachedDevices adds identifiers that the cache does not hold yet, and
	// counts what it holds then. False: the cache is deleted.
	AddCachedDevices(key string, ids []string, now time.Time) (count int, won bool, err error)
	// DeleteCachedDevices removes those that the cache holds.
	DeleteCachedDevices(key string, ids []string) (count int, won bool, err error)
	// SweepDeviceCaches removes at most limit rows of deleted caches and says
	// whether there is more to remove.
	SweepDeviceCaches(limit int) (more bool, err error)
}
