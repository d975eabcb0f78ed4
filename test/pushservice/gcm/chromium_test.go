// SPDX-License-Identifier: Apache-2.0

package gcm_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"

	"github.com/sallyport-mfa/sallyport/test/pushservice/gcm"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

const worker = `self.addEventListener('push', (event) => event.waitUntil((async () => {
	await self.registration.showNotification('Login request', {tag: 'login'});
	for (const client of await self.clients.matchAll({includeUncontrolled: true})) client.postMessage(event.data.text());
})()));`

// subscribe leaves in got what the worker tells of the first push.
const subscribe = `(async (key) => {
	window.got = new Promise((resolve) => navigator.serviceWorker.addEventListener('message', (event) => resolve(event.data)));
	navigator.serviceWorker.startMessages();
	window.registration = await navigator.serviceWorker.register('/worker.js');
	await navigator.serviceWorker.ready;
	return await registration.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key});
})(%q).then(JSON.stringify)`

const received = `got.then(async (text) => JSON.stringify([text, ...(await registration.getNotifications()).map((n) => n.title)]))`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// phone is one whose key is in its third generation.
var phone = store.Phone{ID: "DP1", PublicKey: "KEY", Generation: 3, Name: "phone", Type: "mobile"}

// proxy leads every name to r: the addresses of Google's push service are not to
// be reached from a test.
func proxy(t *testing.T, r *gcm.Running) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		to, err := net.Dial("tcp", r.PushAddress)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 Connected\r\n\r\n") // a client that is gone is seen below
		go func() {
			_, _ = io.Copy(to, from) // ends with either
			_ = to.Close()
		}()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// sender is a verifier's Web Push, for which the names of Google's push service
// lead to r.
func sender(t *testing.T, r *gcm.Running) *webpush.Service {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, r.Root, 0o600))
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "v.db"))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	keys, err := seal.Create(filepath.Join(dir, "keys"), rand.Reader)
	must(t, err)
	must(t, db.Update(t.Context(), func(w store.Writer) error { return w.AddPhone(phone) }))
	s, err := webpush.New(webpush.Config{
		Store: db, Keys: keys, Now: time.Now, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Base:     &url.URL{Scheme: "https", Host: "verifier.example:8443"},
		Settings: config.WebPush{Enabled: true, CAFile: ca, AllowHosts: gcm.Senders(), ProxyURL: proxy(t, r)},
	})
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// chromium starts a browser with a profile of its own on a page of origin, that
// may show notifications.
func chromium(t *testing.T, r *gcm.Running, origin string) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("headless", "new"),
		chromedp.Flag("disable-background-networking", false)) // push is that
	for name, value := range gcm.Switches(r.BrowserAddress, r.StreamAddress, r.SPKI()) {
		options = append(options, chromedp.Flag(name, value))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := cdp.Call(ctx, chromedp.FromContext(ctx).Browser, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: "notifications"}, Setting: browser.PermissionSettingGranted, Origin: origin,
		})
		return err
	}), chromedp.Navigate(origin)))
	return ctx
}

// TestChromium: a real browser subscribes with the verifier's key, gets what the
// verifier sent, decrypts it itself, and its service worker shows a notification.
func TestChromium(t *testing.T) {
	r, err := gcm.Serve(gcm.Options{Push: "127.0.0.1:0", Browser: "127.0.0.1:0", Stream: "127.0.0.1:0", Names: []string{"127.0.0.1"}, Log: t.Logf})
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/worker.js" {
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprint(w, worker)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>page</title>")
	}))
	t.Cleanup(page.Close)
	service := sender(t, r)
	key, err := service.PublicKey(t.Context())
	must(t, err)

	ctx := chromium(t, r, page.URL)
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(subscribe, key), chromedp.EvalAwaitPromise))
	must(t, err)
	var sub struct {
		Endpoint string
		Keys     struct{ P256dh, Auth string }
	}
	must(t, json.Unmarshal([]byte(text), &sub))
	must(t, service.Subscribe(t.Context(), phone, webpush.Subscription{Endpoint: sub.Endpoint, P256dh: sub.Keys.P256dh, Auth: sub.Keys.Auth}))
	if outcome, err := service.Notify(t.Context(), phone.ID); outcome != push.Taken || err != nil {
		t.Fatalf("notify: %s, %v", outcome, err)
	}
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](received, chromedp.EvalAwaitPromise))
	must(t, err)
	if want := `["{\"v\":1,\"t\":\"login\"}","Login request"]`; got != want {
		t.Errorf("the browser got %s, want %s", got, want)
	}
}
