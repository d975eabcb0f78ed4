// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/throttle"
)

func defaultThrottle() throttle.Settings {
	return throttle.Settings{
		Free:       3,
		Delay:      2 * time.Second,
		SSHDelay:   5 * time.Second,
		Max:        30 * time.Second,
		SharedMax:  5 * time.Second,
		ResetAfter: 15 * time.Minute,
		Entries:    8192,
	}
}

func (c *Config) checkThrottle() []error {
	var errs []error
	t := c.Throttle
	for _, d := range []struct {
		name       string
		value      time.Duration
		least, top time.Duration
	}{
		{"delay", t.Delay, 100 * time.Millisecond, time.Minute},
		{"sshd_delay", t.SSHDelay, 100 * time.Millisecond, time.Minute},
		{"max_delay", t.Max, 0, time.Minute},
		{"shared_max_delay", t.SharedMax, 0, time.Minute},
		{"reset_after", t.ResetAfter, time.Minute, 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.top {
			errs = append(errs, fmt.Errorf("throttle.%s is %s; it may be %s to %s", d.name, d.value, d.least, d.top))
		}
	}
	if t.Free < 1 || t.Free > 100 {
		errs = append(errs, fmt.Errorf("throttle.free_failures is %d; it may be 1 to 100", t.Free))
	}
	if t.Entries < 1 || t.Entries > 1<<20 {
		errs = append(errs, fmt.Errorf("throttle.entries is %d; it may be 1 to 1048576", t.Entries))
	}
	return errs
}
