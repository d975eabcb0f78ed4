// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/browser"
)

// imagesVariable names the folder that [TestScreenshots] writes to; `make
// screenshots` sets it.
const imagesVariable = "SALLYPORT_SCREENSHOTS"

// mostBytes is how large a picture in the documentation may be.
const mostBytes = 150 << 10

// photographer takes pictures of pages for the documentation. Without a folder it
// only makes sure that they can be taken and are small enough.
type photographer struct {
	t   *testing.T
	dir string
}

func newPhotographer(t *testing.T) photographer {
	t.Helper()
	camera := photographer{t: t, dir: os.Getenv(imagesVariable)}
	if camera.dir != "" {
		must(t, os.MkdirAll(camera.dir, 0o755))
	}
	return camera
}

// takes a picture of the page on a phone and a desktop, light and dark.
func (f photographer) takes(tab *browser.Tab, name string) {
	f.t.Helper()
	for _, screen := range widths {
		tab.Resize(screen.width, screen.height)
		for _, scheme := range []string{"light", "dark"} {
			tab.Prefer(scheme, true)
			// What changes from one run to the next would make every picture a change.
			tab.Run(`(async () => {
				scrollTo(0, 0);
				await document.fonts.ready;
				await Promise.race([Promise.allSettled(document.getAnimations().map((a) => a.finished)), new Promise((done) => setTimeout(done, 1000))]);
				for (const time of document.querySelectorAll('.countdown-text, [data-countdown]')) time.textContent = '42 seconds left';
				await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
				return true;
			})()`, nil)
			picture := small(f.t, tab.Screenshot(false))
			if len(picture) > mostBytes {
				f.t.Errorf("the picture of %s on a %s, %s, has %d bytes", name, screen.name, scheme, len(picture))
			}
			if f.dir != "" {
				file := filepath.Join(f.dir, fmt.Sprintf("%s-%s-%s.png", name, screen.name, scheme))
				must(f.t, os.WriteFile(file, picture, 0o644))
			}
		}
	}
	tab.Resize(widths[0].width, widths[0].height)
	tab.Prefer("light", false)
}

// small is the picture with at most 256 colours: those that most of it has.
func small(t *testing.T, data []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(data))
	must(t, err)
	counts := map[color.RGBA]int{}
	bounds := full.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	var colours []color.RGBA
	for c := range counts {
		colours = append(colours, c)
	}
	sort.Slice(colours, func(i, j int) bool {
		a, b := colours[i], colours[j]
		if counts[a] != counts[b] {
			return counts[a] > counts[b]
		}
		return uint32(a.R)<<16|uint32(a.G)<<8|uint32(a.B) < uint32(b.R)<<16|uint32(b.G)<<8|uint32(b.B)
	})
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(bounds, palette)
	draw.Draw(few, bounds, full, bounds.Min, draw.Src)
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	must(t, encoder.Encode(&out, few))
	return out.Bytes()
}

// Each page of the documentation's pictures comes up and is usable there.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	camera := newPhotographer(t)
	p := s.person(t, "alex")
	w := s.newWebPhone(t, p, "My phone")
	w.browser.Forgive("status of 404 ()")
	tab := w.tab
	tab.Go(webURL + "/")
	camera.takes(tab, "home")
	tab.Go(webURL + "/app/lost")
	camera.takes(tab, "lost")
	tab.Go(webURL + "/app/nothing-here")
	camera.takes(tab, "not-found")
	tab.Go(webURL + "/app/")
	tab.See("No account yet")
	audit(t, tab, "app without an account")
	camera.takes(tab, "app-welcome")

	link, _ := s.activationLink(t, p.name, w.name)
	tab.Go(link)
	tab.Fill("Name of this device", w.name)
	audit(t, tab, "activation")
	camera.takes(tab, "app-activate")
	tab.Press("Activate")
	tab.Hear("This device is ready")
	audit(t, tab, "activated")
	camera.takes(tab, "app-activated")
	tab.Follow("Go to requests")
	w.connected()
	audit(t, tab, "no request")
	camera.takes(tab, "app-nothing")

	// A request that waits long enough to be looked at.
	bastion := s.application(t, "Bastion")
	s.push(t, bastion, p.name, url.Values{
		"type": {"SSH login"}, "ipaddr": {"192.0.2.17"}, "hostname": {"db1.example"}, "pushinfo": {"command=sudo -i"},
	})
	w.tab.Find("button", "Deny")
	audit(t, tab, "request")
	camera.takes(tab, "app-request")
	tab.Press("Deny")
	tab.See("Why deny?")
	audit(t, tab, "deny")
	camera.takes(tab, "app-deny")
	tab.Press("By mistake")
	tab.Hear("Denied")
	camera.takes(tab, "app-denied")

	tab.Follow("Devices")
	tab.See("This device")
	audit(t, tab, "devices")
	camera.takes(tab, "app-devices")
	tab.Follow("Settings")
	tab.See("About")
	audit(t, tab, "settings")
	camera.takes(tab, "app-settings")
	tab.Go(webURL + "/app/#add-code")
	tab.See("Type the secret by hand")
	audit(t, tab, "add a code")
	camera.takes(tab, "app-add-code")
	tab.Go(webURL + "/app/#codes")
	tab.See("Offline codes of hosts")
	audit(t, tab, "codes")
	camera.takes(tab, "app-codes")
}
