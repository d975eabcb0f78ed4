// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// limit is how long a page may take for what a test waits for. It only tells a hang
// from a slow machine.
const limit = 60 * time.Second

// closeTimeout bounds the orderly end of a browser, after which it is killed.
const closeTimeout = 20 * time.Second

// Options say what a browser knows before it starts.
type Options struct {
	// Dir is the profile's folder; what is kept there outlives the browser. Empty: a
	// fresh one that the test removes.
	Dir string
	// CA is the PEM text of the authority that the browser trusts beside the usual.
	CA string
	// Network is what the browser reaches.
	Network *Network
	// Flags are further flags of Chromium, without dashes.
	Flags map[string]any
}

// Browser is a running Chromium with one profile.
type Browser struct {
	t       testing.TB
	ctx     context.Context
	stop    context.CancelFunc
	network *Network

	mu      sync.Mutex
	errors  []string
	forgive []string
	once    sync.Once
}

// Start starts Chromium; it ends with the test at the latest. Errors that its pages
// have logged until then fail the test.
func Start(t testing.TB, options Options) *Browser {
	t.Helper()
	dir := options.Dir
	if dir == "" {
		dir = tempDir(t)
	}
	home := filepath.Join(dir, "home")
	if err := trust(home, options.CA); err != nil {
		t.Fatal(err)
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.ProxyServer("http://"+options.Network.address()),
		// Chromium looks for its list of authorities under the home folder.
		chromedp.Env("HOME="+home, "XDG_DATA_HOME="+filepath.Join(home, ".local", "share"), "XDG_CONFIG_HOME="+filepath.Join(home, ".config")),
		chromedp.WindowSize(390, 844),
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("font-render-hinting", "none"),
		chromedp.WSURLReadTimeout(limit),
		chromedp.ModifyCmdFunc(options.Network.space.enter),
	)
	for name, value := range options.Flags {
		flags = append(flags, chromedp.Flag(name, value))
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(allocator)
	b := &Browser{t: t, ctx: ctx, network: options.Network, stop: func() { cancel(); stopAllocator() }}
	t.Cleanup(b.Close)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return b
}

// tempDir is a folder that is removed after the browser's last writes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sallyport-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Dir makes a profile folder for browsers that are started one after the other.
func Dir(t testing.TB) string {
	t.Helper()
	return tempDir(t)
}

// trust makes the list of authorities of a home folder, as an administrator does by
// certutil.
func trust(home, ca string) error {
	list := filepath.Join(home, ".pki", "nssdb")
	if _, err := os.Stat(list); err == nil {
		return nil // of an earlier start
	}
	if err := os.MkdirAll(list, 0o700); err != nil {
		return fmt.Errorf("make list of authorities: %w", err)
	}
	file := filepath.Join(home, "ca.pem")
	if err := os.WriteFile(file, []byte(ca), 0o600); err != nil {
		return fmt.Errorf("make list of authorities: %w", err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "the tests' CA", "-t", "C,,", "-i", file},
	} {
		args = append([]string{"-d", "sql:" + list}, args...)
		if out, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("certutil (Debian package libnss3-tools): %w: %s", err, out)
		}
	}
	return nil
}

// Close ends the browser as its user would, so that its profile is on disk, and
// fails the test if a page has logged an error.
func (b *Browser) Close() {
	b.t.Helper()
	b.once.Do(func() {
		ctx, cancel := context.WithTimeout(b.ctx, closeTimeout)
		_ = chromedp.Cancel(ctx)
		cancel()
		b.stop()
		for _, text := range b.takeErrors() {
			b.t.Errorf("a page reported: %s", text)
		}
		for _, authority := range b.network.Unknown() {
			if !chromiumsOwn(authority) {
				b.t.Errorf("the browser asked for %s, which is no part of the site", authority)
			}
		}
	})
}

// Allow grants the site a permission, as "notifications", that people are asked for.
func (b *Browser) Allow(origin, permission string) {
	b.t.Helper()
	_, err := chromedp.CallBrowser(b.ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
		Permission: &cdpbrowser.PermissionDescriptor{Name: permission},
		Setting:    cdpbrowser.PermissionSettingGranted,
		Origin:     origin,
	})
	if err != nil {
		b.t.Fatalf("allow %s: %v", permission, err)
	}
}

func (b *Browser) report(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.forgive, func(part string) bool { return strings.Contains(text, part) }) {
		return
	}
	b.errors = append(b.errors, text)
}

func (b *Browser) takeErrors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	errors := b.errors
	b.errors = nil
	return errors
}

// Forgive takes errors that contain this text as part of the test, from now on.
func (b *Browser) Forgive(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgive = append(b.forgive, part)
}

// Errors returns what pages have reported as errors so far, and forgets it: for a
// test that provokes one.
func (b *Browser) Errors() []string { return b.takeErrors() }
