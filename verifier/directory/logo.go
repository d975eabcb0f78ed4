// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Limits of a logo.
const (
	MaxLogo     = 100 << 10 // bytes
	minLogoSide = 12        // pixels
	maxLogoSide = 500
)

// Logo is the PNG that was set, or nil.
func (d *Directory) Logo(ctx context.Context) (logo []byte, err error) {
	err = d.view(ctx, func(r store.Reader) (err error) {
		logo, err = r.Logo()
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return logo, err
}

// SetLogo sets the logo, base64 of a PNG. What is kept is the picture drawn anew:
// whatever else the file held is gone.
func (d *Directory) SetLogo(ctx context.Context, a Actor, text string) error {
	file, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return invalid("logo", "not base64")
	}
	logo, size, err := redraw(file)
	if err != nil {
		return err
	}
	return d.update(ctx, "", func(w store.Writer) error {
		before, err := w.Logo()
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := w.SetLogo(logo); err != nil {
			return fmt.Errorf("set the logo: %w", err)
		}
		return d.audit(w, a, "logo_update", "", map[string]any{"size": size.String(), "sha256": map[string]any{"before": digest(before), "after": digest(logo)}})
	})
}

func redraw(file []byte) ([]byte, image.Point, error) {
	if len(file) > MaxLogo {
		return nil, image.Point{}, invalid("logo", fmt.Sprintf("larger than %d bytes", MaxLogo))
	}
	// The sides first: a small file can hold a picture that fills the memory.
	c, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return nil, image.Point{}, invalid("logo", "not a PNG")
	}
	size := image.Pt(c.Width, c.Height)
	if min(c.Width, c.Height) < minLogoSide || max(c.Width, c.Height) > maxLogoSide {
		return nil, size, invalid("logo", fmt.Sprintf("its sides are not from %d to %d pixels", minLogoSide, maxLogoSide))
	}
	picture, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, size, invalid("logo", "not a PNG")
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, size, fmt.Errorf("encode the logo: %w", err)
	}
	return out.Bytes(), size, nil
}

func digest(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// DeleteLogo removes the logo that was set; that of logo_file shows again.
func (d *Directory) DeleteLogo(ctx context.Context, a Actor) error {
	return d.update(ctx, "", func(w store.Writer) error {
		before, err := w.Logo()
		if err != nil {
			return err
		}
		if err := w.DeleteLogo(); err != nil {
			return fmt.Errorf("delete the logo: %w", err)
		}
		return d.audit(w, a, "logo_delete", "", map[string]any{"sha256": digest(before)})
	})
}
