// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const referenceFile = "../../docs/reference/sallyport.md"

// The reference page is made from the commands themselves; UPDATE_DOCS=1 writes it.
func TestReference(t *testing.T) {
	root := newRoot(&app{Terminal: &cli.Terminal{}, env: func(string) string { return "" }})
	var b strings.Builder
	b.WriteString("# sallyport\n\nThe command that people type. This page is made from `sallyport COMMAND --help` by\n" +
		"`UPDATE_DOCS=1 go test ./cmd/sallyport -run TestReference`.\n\n")
	writeLong(&b, root)
	writeIndex(&b, root)
	walk(root, func(c *cobra.Command) {
		if c.HasParent() && documented(c) {
			writeCommand(&b, c)
		}
	})
	b.WriteString(`## Files and environment

| | |
|---|---|
| ` + "`SALLYPORT_PROFILE`" + ` | default of ` + "`admin --profile`" + `: a file with ` + "`integration_key`, `secret_key`, `api_hostname`, `ca_file`" + `, mode 0600 |
| ` + "`$XDG_STATE_HOME/sallyport/authenticators/ID.json`" + ` | an account of ` + "`authenticator`" + `, with its private key, sealed, mode 0600; ` + "`XDG_STATE_HOME` is `~/.local/state`" + ` by default |
| ` + "`seal.key`, `totp`" + ` beside it | the key that seals the secrets there, encrypted if there is a passphrase; the TOTP tokens |
| ` + "`/etc/sallyport/authd.toml`, `secret_key`, `host_key.pem`, `ca.pem`" + ` | what ` + "`host join`" + ` writes |
| ` + "`/var/lib/sallyport/pam/`" + ` | what ` + "`pam enable` and `pam disable`" + ` have replaced, a folder for each change, for root alone |
| ` + "`NO_COLOR`" + ` | set: no colour (https://no-color.org) |
`)
	want := b.String()
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/reference/sallyport.md is not what the commands say: run UPDATE_DOCS=1 go test ./cmd/sallyport -run TestReference")
	}
}

func documented(c *cobra.Command) bool {
	for p := c; p != nil; p = p.Parent() {
		if p.Hidden || p.Name() == "help" || p.Name() == "completion" {
			return false
		}
	}
	return true
}

func writeLong(b *strings.Builder, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	// Words of the command line such as NAME stand as they are; < and * are not used.
	fmt.Fprintf(b, "%s\n\n", text)
}

func writeIndex(b *strings.Builder, root *cobra.Command) {
	b.WriteString("| Command | |\n|---|---|\n")
	walk(root, func(c *cobra.Command) {
		if c.HasParent() && documented(c) && !c.HasAvailableSubCommands() {
			fmt.Fprintf(b, "| [`%s`](#%s) | %s |\n", c.CommandPath(), anchor(c), c.Short)
		}
	})
	b.WriteString("| `sallyport completion bash\\|zsh\\|fish\\|powershell` | Print the completions of a shell |\n\n")
}

func anchor(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func writeCommand(b *strings.Builder, c *cobra.Command) {
	level := "###"
	if c.HasAvailableSubCommands() {
		level = "##"
	}
	fmt.Fprintf(b, "%s %s\n\n", level, c.CommandPath())
	writeLong(b, c)
	if !c.HasAvailableSubCommands() {
		fmt.Fprintf(b, "    %s\n\n", c.UseLine())
	}
	if flags := c.LocalFlags(); flags.HasAvailableFlags() {
		for line := range strings.Lines(flags.FlagUsages()) {
			if !strings.Contains(line, "--help ") {
				b.WriteString("  " + line)
			}
		}
		b.WriteString("\n")
	}
	if lines := examples[c.CommandPath()]; len(lines) > 0 {
		fmt.Fprintf(b, "For example\n\n    %s\n\n", strings.Join(lines, "\n    "))
	}
}

func TestExamplesAreCommands(t *testing.T) {
	for path, lines := range examples {
		for _, line := range lines {
			words := commandLine("  " + line)
			if err := parses(words); err != nil || !strings.HasPrefix(line, path+" ") {
				t.Errorf("example of %s: %q: %v", path, line, err)
			}
		}
	}
}

// What the documentation tells people to type must be what the command takes.
func TestDocumentedCommands(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" || path == referenceFile {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for n, line := range strings.Split(string(text), "\n") {
			words := commandLine(line)
			if words == nil {
				continue
			}
			found++
			if err := parses(words); err != nil {
				t.Errorf("%s:%d: %q: %v", path, n+1, strings.TrimSpace(line), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no command was found: does the test still know how they are written?")
	}
}

// A command stands on a line of its own, indented or in a block, perhaps after a
// prompt or sudo, perhaps with a pipe, a redirection or a comment behind it.
var typed = regexp.MustCompile(`^\s+(?:[$#] )?(?:sudo )?(?:bin/|/usr/bin/)?sallyport ((?:[^#|<>;&]|'[^']*')+)`)

func commandLine(line string) []string {
	m := typed.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	var words []string
	for _, w := range word.FindAllString(m[1], -1) {
		words = append(words, strings.Trim(w, `'"`))
	}
	return words
}

var word = regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`)

// parses says whether a command line is one, without running it.
func parses(words []string) error {
	root := newRoot(&app{Terminal: &cli.Terminal{}, env: func(string) string { return "" }})
	c, args, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	if err := c.ValidateRequiredFlags(); err != nil {
		return err
	}
	if c.Flags().Changed("help") {
		return nil
	}
	return c.ValidateArgs(c.Flags().Args())
}
