// SPDX-License-Identifier: Apache-2.0

// Package devicesync uploads a CSV file of device identifiers to a device cache
// of any server of Duo's Device API: a new cache in place of the one before. It
// never looks inside an identifier, and never activates part of a file.
package devicesync

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/deviceid"
)

// List is what a file holds.
type List struct {
	// IDs as they stand in the file, without space around them, each once, in the
	// order of the form in which a verifier keeps them: in order they are stored
	// several times as fast.
	IDs        []string
	Blank      int // rows without an identifier
	Duplicates int // rows whose identifier stands further up
}

// ErrEmpty says that a file has a header and no identifier: an empty list would
// take the trust from every device.
var ErrEmpty = errors.New("no device IDs read")

// Read reads CSV with a header that names the column. Blank lines, and rows that
// have nothing in the column, are passed over; a byte order mark, and space
// after a comma, may be there.
func Read(r io.Reader, column string) (List, error) {
	var l List
	in := csv.NewReader(withoutMark(r))
	in.TrimLeadingSpace = true
	in.FieldsPerRecord = -1 // what else is in a row is not ours
	in.ReuseRecord = true
	at, err := findColumn(in, column)
	if err != nil {
		return l, err
	}
	type pair struct{ clean, given string }
	var pairs []pair
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return l, err // names the line
		}
		if at >= len(row) || strings.TrimSpace(row[at]) == "" {
			l.Blank++
			continue
		}
		given := strings.TrimSpace(row[at])
		clean, err := deviceid.Clean(given)
		if err != nil {
			line, _ := in.FieldPos(at)
			return l, fmt.Errorf("line %d: the identifier %w", line, err)
		}
		pairs = append(pairs, pair{clean, strings.Clone(given)})
	}
	if len(pairs) == 0 {
		return l, fmt.Errorf("%w from column %q", ErrEmpty, column)
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.clean, b.clean) })
	for i, p := range pairs {
		if i > 0 && pairs[i-1].clean == p.clean {
			l.Duplicates++
			continue
		}
		l.IDs = append(l.IDs, p.given)
	}
	return l, nil
}

func findColumn(in *csv.Reader, column string) (int, error) {
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return 0, errors.New("the file is empty; its first line must name the columns")
	}
	if err != nil {
		return 0, err
	}
	var names []string
	at := -1
	for i, name := range header {
		name = strings.TrimSpace(name)
		if name == column {
			if at >= 0 {
				return 0, fmt.Errorf("the header names the column %q twice", column)
			}
			at = i
		}
		names = append(names, fmt.Sprintf("%.64q", name))
	}
	if at < 0 {
		return 0, fmt.Errorf("the first line names no column %q, but %.512s", column, strings.Join(names, ", "))
	}
	return at, nil
}

// withoutMark leaves out the byte order mark that spreadsheets write.
func withoutMark(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if mark, err := b.Peek(3); err == nil && string(mark) == "\ufeff" {
		_, _ = b.Discard(3) // they are in the buffer
	}
	return b
}
