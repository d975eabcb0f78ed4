// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"testing"
)

// The mark: two gates, one within the other, in the coordinates of favicon.svg (64 by 64).
func inArch(x, y, half, top float64) bool {
	const centre, foot = 32, 52
	switch {
	case y > foot:
		return false
	case y >= top:
		return x >= centre-half && x <= centre+half
	default:
		dx, dy := x-centre, y-top
		return dx*dx+dy*dy <= half*half
	}
}

func inMark(x, y float64) bool {
	const spring = 31
	return inArch(x, y, 18, spring) && !inArch(x, y, 12, spring) || inArch(x, y, 6, spring)
}

// inBadge is a square with round corners.
func inBadge(x, y, radius float64) bool {
	cx, cy := min(max(x, radius), 64-radius), min(max(y, radius), 64-radius)
	return (x-cx)*(x-cx)+(y-cy)*(y-cy) <= radius*radius
}

// draw paints the icon: radius rounds the corners, scale shrinks the mark.
func draw(size int, radius, scale float64) *image.NRGBA {
	badge, mark := color.NRGBA{0x0b, 0x5d, 0x52, 255}, color.NRGBA{0xf4, 0xf3, 0xee, 255}
	const fine = 8
	m := image.NewNRGBA(image.Rect(0, 0, size, size))
	for py := range size {
		for px := range size {
			var in, on int
			for s := range fine * fine {
				x := (float64(px) + (float64(s%fine)+0.5)/fine) * 64 / float64(size)
				y := (float64(py) + (float64(s/fine)+0.5)/fine) * 64 / float64(size)
				if radius > 0 && !inBadge(x, y, radius) {
					continue
				}
				in++
				if inMark(32+(x-32)/scale, 32+(y-32)/scale) {
					on++
				}
			}
			if in == 0 {
				continue
			}
			mix := func(a, b uint8) uint8 { return uint8((int(a)*(in-on) + int(b)*on) / in) }
			m.SetNRGBA(px, py, color.NRGBA{mix(badge.R, mark.R), mix(badge.G, mark.G), mix(badge.B, mark.B), uint8(255 * in / (fine * fine))})
		}
	}
	return m
}

// The pictures are what the geometry of the mark makes. UPDATE_ICONS=1 draws them anew.
func TestIcons(t *testing.T) {
	for name, want := range map[string]*image.NRGBA{
		"icons/icon-192.png":     draw(192, 14, 1),
		"icons/icon-512.png":     draw(512, 14, 1),
		"icons/maskable-512.png": draw(512, 0, 0.8), // what matters stands within the circle that no platform cuts
		"icons/apple-touch.png":  draw(180, 0, 0.9),
		"icons/badge-96.png":     silhouette(96), // Android shows its shape alone
	} {
		if os.Getenv("UPDATE_ICONS") != "" {
			var b bytes.Buffer
			if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, want); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Bounds() != want.Bounds() {
			t.Fatalf("%s: %v, want %v", name, got.Bounds(), want.Bounds())
		}
		for y := range want.Bounds().Dy() {
			for x := range want.Bounds().Dx() {
				if color.NRGBAModel.Convert(got.At(x, y)) != color.NRGBAModel.Convert(want.At(x, y)) {
					t.Fatalf("%s: another colour at %d, %d; run with UPDATE_ICONS=1", name, x, y)
				}
			}
		}
	}
}

// silhouette is the mark alone, white on nothing.
func silhouette(size int) *image.NRGBA {
	const fine = 8
	m := image.NewNRGBA(image.Rect(0, 0, size, size))
	for py := range size {
		for px := range size {
			on := 0
			for s := range fine * fine {
				x := (float64(px) + (float64(s%fine)+0.5)/fine) * 64 / float64(size)
				y := (float64(py) + (float64(s/fine)+0.5)/fine) * 64 / float64(size)
				if inMark(x, y) {
					on++
				}
			}
			if on > 0 {
				m.SetNRGBA(px, py, color.NRGBA{255, 255, 255, uint8(255 * on / (fine * fine))})
			}
		}
	}
	return m
}
