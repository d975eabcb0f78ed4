// SPDX-License-Identifier: Apache-2.0

// Package browser drives headless Chromium for the integration tests as a person
// uses it: it finds what is on a page by role and accessible name, clicks, types
// keys and reads what a screen reader would be told. Each [Browser] has a profile
// folder, a list of trusted authorities and a [Network] of its own, so that tests do
// not meet and none reaches anything that it did not name. What a page logs as an
// error, also what its Content-Security-Policy blocks, fails the test. Methods that
// take no error path end the test; they belong on the test's own goroutine.
package browser
