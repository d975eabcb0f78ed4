// SPDX-License-Identifier: Apache-2.0

// Package backup owns the archive of a data directory: it makes one while the
// verifier serves, and turns one into a data directory that is fit to serve. It
// never overwrites a verifier, and decides nothing of who may log in.
package backup

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"
)

const (
	// manifestName is the first file of an archive.
	manifestName = "manifest.json"
	// format is the version of the archive's form.
	format = 1
	// maxManifest bounds the manifest, in bytes, and maxFiles the files.
	maxManifest = 1 << 20
	maxFiles    = 1000
	// encrypted is how a file of age begins.
	encrypted = "age-encryption.org/"
)

// Manifest says what is in an archive.
type Manifest struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"` // before anything was read
	Program string    `json:"program"` // version of sallyport-verifier
	URL     string    `json:"url"`
	Dir     string    `json:"dir"` // the data directory then
	// Keys says that keys and credentials are in the archive.
	Keys  bool   `json:"keys"`
	Files []File `json:"files"` // in their order
	// Outside are files that the configuration names and that are not in the
	// data directory: no part of the archive.
	Outside []string `json:"outside"`
}

// File is one file of an archive.
type File struct {
	Name   string      `json:"name"` // relative to the data directory
	Size   int64       `json:"size"`
	Mode   os.FileMode `json:"mode"`
	SHA256 string      `json:"sha256"`
}

// describe reads a file to tell what it is.
func describe(name, path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, err
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is not a file", path)
	}
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	return File{Name: name, Size: size, Mode: info.Mode().Perm(), SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

// write writes an archive of the files that m lists; at says where each is.
func write(to io.Writer, m Manifest, at map[string]string) error {
	packed := gzip.NewWriter(to)
	archive := tar.NewWriter(packed)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	header := func(name string, size int64, mode os.FileMode) error {
		return archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(mode), ModTime: m.Created, Format: tar.FormatPAX,
		})
	}
	if err := header(manifestName, int64(len(text)), 0o600); err != nil {
		return err
	}
	if _, err := archive.Write(text); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := header(f.Name, f.Size, f.Mode); err != nil {
			return err
		}
		if err := copyFile(archive, at[f.Name]); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

func copyFile(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// read reads an archive: first gets the manifest, then each the content of every
// file, in order. An archive that does not hold just what its manifest says is an error.
func read(from io.Reader, identities []age.Identity, each func(File, io.Reader) error) (Manifest, error) {
	var m Manifest
	plain, err := decrypt(from, identities)
	if err != nil {
		return m, err
	}
	packed, err := gzip.NewReader(plain)
	if err != nil {
		return m, fmt.Errorf("not a backup: %w", err)
	}
	archive := tar.NewReader(packed)
	header, err := archive.Next()
	if err != nil || header.Name != manifestName {
		return m, errors.Join(errors.New("not a backup: it does not begin with a manifest"), err)
	}
	text, err := io.ReadAll(io.LimitReader(archive, maxManifest))
	if err != nil {
		return m, fmt.Errorf("read the manifest: %w", err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("read the manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return m, err
	}
	for _, f := range m.Files {
		if err := readFile(archive, f, each); err != nil {
			return m, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return m, errors.Join(errors.New("there is more in the archive than its manifest says"), err)
	}
	// To the end, so that the checksum of the packing and the last seal of the encryption are looked at.
	if _, err := io.Copy(io.Discard, packed); err != nil { //nolint:gosec // G110: nothing is kept of it, and the files before it were as long as the manifest says
		return m, fmt.Errorf("read to the end: %w", err)
	}
	return m, nil
}

func readFile(archive *tar.Reader, f File, each func(File, io.Reader) error) error {
	header, err := archive.Next()
	if err != nil {
		return fmt.Errorf("is missing: %w", err)
	}
	if header.Name != f.Name || header.Size != f.Size || header.Typeflag != tar.TypeReg {
		return fmt.Errorf("the archive holds %q in its place", header.Name)
	}
	sum := sha256.New()
	content := io.TeeReader(archive, sum)
	if err := each(f, content); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return errors.New("is not what was backed up: its checksum differs")
	}
	return nil
}

func (m Manifest) check() error {
	if m.Format != format {
		return fmt.Errorf("the backup has form %d, this program knows %d", m.Format, format)
	}
	if len(m.Files) > maxFiles {
		return fmt.Errorf("the backup has %d files, more than any verifier", len(m.Files))
	}
	var names []string
	for _, f := range m.Files {
		if !filepath.IsLocal(f.Name) || filepath.Clean(f.Name) != f.Name || f.Name == "." || f.Size < 0 ||
			f.Mode&^0o777 != 0 || slices.Contains(names, f.Name) {
			return fmt.Errorf("the backup has a file %q, which no verifier has", f.Name)
		}
		names = append(names, f.Name)
	}
	return nil
}

// decrypt undoes the encryption, if there is one.
func decrypt(from io.Reader, identities []age.Identity) (io.Reader, error) {
	in := bufio.NewReader(from)
	head, err := in.Peek(len(encrypted))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(head) != encrypted {
		return in, nil
	}
	if len(identities) == 0 {
		return nil, errors.New("the backup is encrypted: name a file with the key by --identity, or with the passphrase by --passphrase-file")
	}
	plain, err := age.Decrypt(in, identities...)
	if err != nil {
		return nil, fmt.Errorf("decrypt the backup: %w", err)
	}
	return plain, nil
}
