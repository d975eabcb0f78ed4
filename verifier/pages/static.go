// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// StaticPattern is where Static serves.
const StaticPattern = "GET /static/{path...}"

// file is one file that browsers load.
type file struct {
	kind string
	body []byte
}

// kinds are the types of files that are served, by their ending.
var kinds = map[string]string{
	".js":          "text/javascript; charset=utf-8",
	".css":         "text/css; charset=utf-8",
	".svg":         "image/svg+xml",
	".png":         "image/png",
	".webmanifest": "application/manifest+json",
}

func (p *Pages) addStatic(bundle string, files fs.FS) {
	for _, dir := range []string{"js", "css", "icons"} {
		err := fs.WalkDir(files, dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, ".test.js") || strings.HasSuffix(name, ".d.ts") {
				return err
			}
			kind, ok := kinds[path.Ext(name)]
			if !ok {
				return fmt.Errorf("%s: no type is known for this ending", name)
			}
			body, err := fs.ReadFile(files, name)
			if err != nil {
				return err
			}
			p.static[path.Join(bundle, name)] = file{kind, body}
			return nil
		})
		if err != nil && !isMissing(files, dir) {
			panic(fmt.Sprintf("pages: read files of %s: %v", bundle, err))
		}
	}
}

func isMissing(files fs.FS, dir string) bool {
	_, err := fs.Stat(files, dir)
	return err != nil
}

// sum is a hash over all files: a file that changes gets another address, and with
// it all that may import it.
func (p *Pages) sum() string {
	p.seal.Do(func() {
		h := sha256.New()
		for _, name := range slices.Sorted(maps.Keys(p.static)) {
			body := sha256.Sum256(p.static[name].body)
			fmt.Fprintf(h, "%s %x\n", name, body)
		}
		p.hash = hex.EncodeToString(h.Sum(nil))[:16]
	})
	return p.hash
}

// URL is the address of a file, such as "pages/css/base.css". It panics if there
// is no such file.
func (p *Pages) URL(name string) string {
	if _, ok := p.static[name]; !ok {
		panic(fmt.Sprintf("pages: there is no file %q", name))
	}
	return "/static/" + p.sum() + "/" + name
}

// Files are the addresses of all files whose name has the prefix, sorted: what a
// service worker has to keep so that the app opens without a network.
func (p *Pages) Files(prefix string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(p.static)) {
		if strings.HasPrefix(name, prefix) {
			all = append(all, p.URL(name))
		}
	}
	return all
}

// Static serves the files of all bundles at StaticPattern. What is under a hash
// never changes, so browsers may keep it.
func (p *Pages) Static(w http.ResponseWriter, r *http.Request) error {
	hash, name, _ := strings.Cut(r.PathValue("path"), "/")
	f, ok := p.static[name]
	if !ok || hash != p.sum() {
		return ErrNotFound
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	return nil
}
