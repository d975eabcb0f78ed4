// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"strconv"
	"strings"

	"rsc.io/qr"

	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
)

// quiet is the margin of a QR code, in modules (ISO/IEC 18004).
const quiet = 4

// qrData is a QR code as an SVG picture of Size modules a side: the path of its dark ones.
type qrData struct {
	Size int
	Path string
}

func drawQR(text string) (qrData, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return qrData{}, fmt.Errorf("draw a QR code: %w", err)
	}
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; x++ {
			run := 0
			for code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				width := strconv.Itoa(run)
				path.WriteString("M" + strconv.Itoa(x+quiet) + " " + strconv.Itoa(y+quiet) + "h" + width + "v1h-" + width + "z")
				x += run
			}
		}
	}
	return qrData{Size: code.Size + 2*quiet, Path: path.String()}, nil
}

// codesData is what the page of the recovery codes shows.
type codesData struct {
	enrollment.View
	Codes   []string     // shown this once; after an error none
	File    template.URL // the codes as a text file
	Unsaved bool         // the box was not ticked
}

// file is the text file of the codes, in the page itself: the verifier keeps them
// nowhere from which it could send them a second time.
func (p *Pages) file(username string, codes []string) (template.URL, error) {
	head, err := p.Frame.Text("enroll.codes.file", "host", p.Enrollment.Directory.Base.Host, "name", username)
	if err != nil {
		return "", err
	}
	text := head + "\n\n" + strings.Join(codes, "\n") + "\n"
	return template.URL("data:text/plain;charset=utf-8;base64," + base64.StdEncoding.EncodeToString([]byte(text))), nil //nolint:gosec // base64 behind a fixed type
}
