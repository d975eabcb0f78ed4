// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/sallyport-mfa/sallyport"
)

// parts may not import one another: what two of them speak lives in internal/.
var parts = []string{"authd", "verifier", "sshgw", "pam"}

// file is one file of the repository, by its slash-separated path from the root.
type file struct {
	path string
	text string
}

// files reads every file of the repository but what a build makes.
func files(t *testing.T) []file {
	t.Helper()
	var all []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			if rel == ".git" || rel == "bin" || rel == "build" {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || rel == ".git" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		all = append(all, file{rel, string(text)})
		return nil
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	if len(all) < 20 {
		t.Fatalf("found only %d files: these tests look at the wrong folder", len(all))
	}
	return all
}

type goFile struct {
	file
	tree *ast.File
	set  *token.FileSet
}

func (g goFile) isTest() bool { return strings.HasSuffix(g.path, "_test.go") }

func (g goFile) imports() []string {
	var list []string
	for _, spec := range g.tree.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			list = append(list, name)
		}
	}
	return list
}

func goFiles(t *testing.T) []goFile {
	t.Helper()
	var all []goFile
	for _, f := range files(t) {
		if !strings.HasSuffix(f.path, ".go") || strings.Contains(f.path, "/testdata/") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, f.path, f.text, parser.ParseComments)
		if err != nil {
			t.Errorf("parse: %v", err)
			continue
		}
		all = append(all, goFile{f, tree, set})
	}
	return all
}

func TestEachPackageSaysWhatItOwns(t *testing.T) {
	documented := map[string]bool{}
	for _, g := range goFiles(t) {
		if g.isTest() {
			continue
		}
		dir := path.Dir(g.path)
		documented[dir] = documented[dir] || len(strings.TrimSpace(g.tree.Doc.Text())) > 0
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no file has a package comment; say in a sentence or two what the package owns and what it never does", dir)
		}
	}
}

func TestEachSourceFileNamesItsLicence(t *testing.T) {
	const line = "SPDX-License-Identifier: Apache-2.0"
	source := []string{
		".go", ".c", ".h", ".sh", ".py", ".sql", ".yaml", ".yml", ".te", ".if", ".fc",
		".service", ".socket", ".mk", ".map", ".html", ".js", ".css",
	}
	for _, f := range files(t) {
		named := slices.Contains(source, path.Ext(f.path)) || path.Base(f.path) == "Makefile" || strings.HasPrefix(f.text, "#!")
		if !named || strings.Contains(f.path, "/testdata/") {
			continue
		}
		head := strings.SplitN(f.text, "\n", 4)
		if !strings.Contains(strings.Join(head[:min(3, len(head))], "\n"), line) {
			t.Errorf("%s: none of the first three lines says %q", f.path, line)
		}
	}
}

func TestNoReplaceInGoMod(t *testing.T) {
	replace := regexp.MustCompile(`(?m)^\s*replace\b`)
	for _, f := range files(t) {
		if path.Base(f.path) == "go.mod" && replace.MatchString(f.text) {
			t.Errorf("%s: a replace directive makes a build that no one else can repeat", f.path)
		}
	}
}

func TestPartsDoNotImportOneAnother(t *testing.T) {
	for _, g := range goFiles(t) {
		own, _, _ := strings.Cut(g.path, "/")
		if own == "cmd" || own == "test" {
			continue
		}
		for _, name := range g.imports() {
			rel, ours := strings.CutPrefix(name, module+"/")
			if !ours {
				continue
			}
			top, _, _ := strings.Cut(rel, "/")
			if top == "cmd" {
				t.Errorf("%s imports %s: imports point down, from cmd to the parts", g.path, rel)
			}
			// A test may bring another part to life to speak with it.
			if slices.Contains(parts, top) && top != own && !g.isTest() {
				t.Errorf("%s imports %s: what two parts share belongs into internal/", g.path, rel)
			}
		}
	}
}

func TestOnlyTheModuleAndDoctorLinkC(t *testing.T) {
	for _, g := range goFiles(t) {
		if slices.Contains(g.imports(), "C") && !strings.HasPrefix(g.path, "pam/") && !strings.HasPrefix(g.path, "cmd/sallyport/") {
			t.Errorf("%s uses cgo; only pam/ and the sallyport command may", g.path)
		}
		// The gateway's helper for passwords is the one other program that calls libpam, by a library.
		libpam := slices.Contains(g.imports(), "github.com/msteinert/pam/v2") && !g.isTest()
		if libpam && !strings.HasPrefix(g.path, "cmd/sallyport/") && !strings.HasPrefix(g.path, "cmd/sallyport-sshgw-pam/") {
			t.Errorf("%s imports the binding of libpam; only the sallyport command and the gateway's helper may", g.path)
		}
		if daemon := strings.HasPrefix(g.path, "cmd/sallyport-"); daemon && slices.Contains(g.imports(), module+"/pam") {
			t.Errorf("%s imports pam/: the daemons are built without C", g.path)
		}
	}
}

func TestNoTestIsSkipped(t *testing.T) {
	for _, g := range goFiles(t) {
		if !g.isTest() {
			continue
		}
		ast.Inspect(g.tree, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if ok && (call.Sel.Name == "Skip" || call.Sel.Name == "Skipf" || call.Sel.Name == "SkipNow") {
				if x, ok := call.X.(*ast.Ident); ok && (x.Name == "t" || x.Name == "b" || x.Name == "f") {
					t.Errorf("%s: a test that cannot run must say so and fail", g.set.Position(call.Pos()))
				}
			}
			return true
		})
	}
}

func TestNothingIsLeftToDo(t *testing.T) {
	marker := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	for _, f := range files(t) {
		if strings.HasSuffix(f.path, ".sum") || strings.Contains(f.path, "/testdata/") {
			continue
		}
		for i, line := range strings.Split(f.text, "\n") {
			if marker.MatchString(line) {
				t.Errorf("%s:%d: %s", f.path, i+1, strings.TrimSpace(line))
			}
		}
	}
}

func TestNoPathOfADevelopersMachine(t *testing.T) {
	private := regexp.MustCompile(`(^|[^\w./-])(/wo` + `rk/|/ro` + `ot/go\b|/Us` + `ers/)`)
	for _, f := range files(t) {
		for i, line := range strings.Split(f.text, "\n") {
			if private.MatchString(line) {
				t.Errorf("%s:%d: %s", f.path, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// A link is [text](target); code blocks are cut out before links are looked for.
var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline  = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the names by which the headings of a page can be linked to, as GitHub makes
// them: lower case, punctuation dropped, spaces as hyphens.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		name := dropped.ReplaceAllString(strings.ToLower(m[1]), "")
		names[strings.ReplaceAll(name, " ", "-")] = true
	}
	return names
}

func TestLinksInDocsResolve(t *testing.T) {
	pages := map[string]string{}
	exists := map[string]bool{}
	all := files(t)
	for _, f := range all {
		for p := f.path; p != "."; p = path.Dir(p) {
			exists[p] = true
		}
		if strings.HasSuffix(f.path, ".md") {
			pages[f.path] = f.text
		}
	}
	index := pages["docs/README.md"]
	for name := range pages {
		rel, doc := strings.CutPrefix(name, "docs/")
		if doc && rel != "README.md" && !strings.Contains(index, "("+rel+")") {
			t.Errorf("%s: docs/README.md does not lead to it", name)
		}
	}
	for name, text := range pages {
		body := inline.ReplaceAllString(fenced.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			page := name
			if target != "" {
				page = path.Join(path.Dir(name), target)
			}
			if !exists[page] {
				t.Errorf("%s: the link %s leads to nothing", name, m[1])
				continue
			}
			if anchor != "" && !anchors(pages[page])[anchor] {
				t.Errorf("%s: %s has no heading for #%s", name, page, anchor)
			}
		}
	}
}

// The page that shows the parts is the first thing that somebody new opens: a
// package that it does not name is not found.
func TestArchitectureNamesEachPackage(t *testing.T) {
	const page = "docs/explanation/architecture.md"
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	// The picture has a block for each part; the block's first line begins with it.
	begins := regexp.MustCompile(`^ ([a-z]+)/`)
	word := regexp.MustCompile(`[a-z][a-z/-]*`)
	part, named := "", map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if m := begins.FindStringSubmatch(line); m != nil {
			part = m[1]
		} else if !strings.HasPrefix(line, " ") && line != "\n" {
			part = ""
		}
		if part != "" {
			named[part] = append(named[part], word.FindAllString(line, -1)...)
		}
	}
	seen := map[string]bool{}
	for _, g := range goFiles(t) {
		dir := path.Dir(g.path)
		own, rest, nested := strings.Cut(dir, "/")
		if g.isTest() || seen[dir] || !nested || own == "test" || own == "tools" {
			continue
		}
		seen[dir] = true
		if !slices.ContainsFunc(named[own], func(w string) bool { return rest == w || strings.HasSuffix(rest, "/"+w) }) {
			t.Errorf("%s: %s does not name it", dir, page)
		}
	}
}

// namedTest is a test that docs/explanation/standards.md names, by its folder.
var namedTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|test)[A-Za-z0-9]+)`")

// TestStandardsNameTests: a table that says where something is tested must not
// outlive the test.
func TestStandardsNameTests(t *testing.T) {
	defined := map[string]bool{}
	for _, g := range goFiles(t) {
		for _, d := range g.tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				defined[path.Dir(g.path)+"."+f.Name.Name] = true
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/explanation/standards.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := namedTest.FindAllStringSubmatch(string(text), -1)
	if len(named) < 50 {
		t.Errorf("only %d tests are named: this test reads the page wrongly", len(named))
	}
	for _, m := range named {
		if !defined[m[1]+"."+m[2]] {
			t.Errorf("docs/explanation/standards.md names %s in %s, which is not there", m[2], m[1])
		}
	}
}
