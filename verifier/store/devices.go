// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Endpoint is something that people log in from, as it was seen last.
type Endpoint struct {
	ID             string            `json:"-"` // EP and 18 characters
	Username       string            `json:"-"`
	LastSeen       time.Time         `json:"-"`
	Email          string            `json:"email,omitempty"`
	DeviceName     string            `json:"device_name,omitempty"`
	Model          string            `json:"model,omitempty"`
	Type           string            `json:"type,omitempty"`
	OSFamily       string            `json:"os_family,omitempty"`
	OSVersion      string            `json:"os_version,omitempty"`
	OSBuild        string            `json:"os_build,omitempty"`
	Encryption     string            `json:"disk_encryption_status,omitempty"`
	Firewall       string            `json:"firewall_status,omitempty"`
	Password       string            `json:"password_status,omitempty"`
	Trusted        string            `json:"trusted_endpoint,omitempty"`
	Browsers       []EndpointBrowser `json:"browsers,omitempty"`
	SecurityAgents []string          `json:"security_agents,omitempty"`
}

// EndpointBrowser is a browser of an endpoint.
type EndpointBrowser struct {
	Family   string `json:"browser_family"`
	Version  string `json:"browser_version"`
	LastUsed int64  `json:"last_used"`
}

// RegisteredDevice is one that a person has registered, so that it can remember
// their logins.
type RegisteredDevice struct {
	ID         string    `json:"-"` // DR and 18 characters
	UserID     string    `json:"-"`
	Blocked    bool      `json:"-"` // it may remember nothing
	Created    time.Time `json:"-"`
	Name       string    `json:"name,omitempty"`
	OS         string    `json:"os,omitempty"`
	OSVersion  string    `json:"os_version,omitempty"`
	Model      string    `json:"model,omitempty"`
	Registered string    `json:"registered_with,omitempty"` // the program that registered it
}

// DeviceReader reads endpoints, registered devices and the logo.
type DeviceReader interface {
	Endpoint(id string) (Endpoint, error)
	// Endpoints are listed by id.
	Endpoints(p Page) ([]Endpoint, int, error)
	RegisteredDevice(id string) (RegisteredDevice, error)
	// RegisteredDevices are listed by creation; blocked lists those alone.
	RegisteredDevices(blocked bool, p Page) ([]RegisteredDevice, int, error)
	// Logo is the PNG that was set, or ErrNotFound.
	Logo() ([]byte, error)
}

// DeviceWriter changes endpoints, registered devices and the logo.
type DeviceWriter interface {
	// PutEndpoint writes an endpoint, new or not.
	PutEndpoint(Endpoint) error
	DeleteEndpoint(id string) error
	AddRegisteredDevice(RegisteredDevice) error
	// BlockRegisteredDevice says whether the device may remember logins. True: it
	// was not so before.
	BlockRegisteredDevice(id string, blocked bool) (bool, error)
	DeleteRegisteredDevice(id string) error
	SetLogo(png []byte) error
	DeleteLogo() error
}
