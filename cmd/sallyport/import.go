// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/duoconf"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (a *app) importCommand() *cobra.Command {
	c := &cobra.Command{Use: "import", Short: "Take over the configuration of other programs"}
	c.AddCommand(a.importDuo())
	return c
}

// importFlags are the flags of import.
type importFlags struct {
	output string
	force  bool
}

func (a *app) importDuo() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use: "duo-conf FILE", Short: "Say in authd.toml what pam_duo.conf or login_duo.conf says", Args: args("FILE"),
		Long: `Say in authd.toml what pam_duo.conf or login_duo.conf says, and name each option that
has no equivalent, with the reason. Without --output nothing is written, and the secret
key is not shown.`,
		RunE: func(_ *cobra.Command, files []string) error { return a.runImportDuo(files[0], f) },
	}
	c.Flags().StringVar(&f.output, "output", "", "write authd.toml, the secrets and the PAM lines to this folder")
	c.Flags().BoolVar(&f.force, "force", false, "replace files that are there")
	a.jsonFlag(c)
	return c
}

// imported is what import prints with --json.
type imported struct {
	Options []duoconf.Note `json:"options"`
	Files   []string       `json:"files"`
}

// maxImport bounds the file, in bytes.
const maxImport = 1 << 20

func (a *app) runImportDuo(path string, f importFlags) error {
	text, err := readBounded(path)
	if err != nil {
		return err
	}
	conf, err := duoconf.Parse(path, text)
	if err != nil {
		return err
	}
	dir := defaultConfigDir
	if f.output != "" {
		if dir, err = filepath.Abs(f.output); err != nil {
			return fmt.Errorf("find --output: %w", err)
		}
	}
	out, err := conf.Convert(dir)
	if err != nil {
		return err
	}
	report := imported{Options: out.Notes, Files: []string{}}
	if f.output != "" {
		if report.Files, err = writeImport(dir, f.force, out); err != nil {
			return err
		}
	}
	if a.json {
		return a.JSON(report)
	}
	if f.output == "" {
		// The text is of this program's making, and its values are quoted.
		fmt.Fprint(a.Out, out.Authd+"\n"+out.PAM)
	}
	for _, file := range report.Files {
		a.Printf("written: %s\n", file)
	}
	for _, n := range out.Notes {
		becomes := n.Becomes
		if becomes == "" {
			becomes = "no equivalent"
		}
		if n.Why != "" {
			becomes += ": " + n.Why
		}
		a.Notef("%s: %s\n", n.Option, becomes)
	}
	return nil
}

func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read Duo's configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxImport+1))
	if err == nil && len(text) > maxImport {
		err = fmt.Errorf("it is over %d bytes", maxImport)
	}
	if err != nil {
		return "", fmt.Errorf("read Duo's configuration: %s: %w", path, err)
	}
	return string(text), nil
}

func writeImport(dir string, force bool, out *duoconf.Import) ([]string, error) {
	files := newFileSet(dir, force)
	names := []string{duoconf.AuthdFile, duoconf.SecretFile, duoconf.PAMFile}
	if out.Password != "" {
		names = append(names, duoconf.PasswordFile)
	}
	if err := files.prepare(names...); err != nil {
		return nil, err
	}
	defer files.discard()
	err := errors.Join(
		files.stageForDaemon(duoconf.SecretFile, []byte(out.Secret+"\n")),
		files.stage(duoconf.PAMFile, []byte(out.PAM), 0o644),
	)
	if out.Password != "" {
		err = errors.Join(err, files.stageForDaemon(duoconf.PasswordFile, []byte(out.Password+"\n")))
	}
	if err = errors.Join(err, files.stageForDaemon(duoconf.AuthdFile, []byte(out.Authd))); err != nil {
		return nil, err
	}
	if err := files.commit(); err != nil {
		return nil, cli.WithHint(err, "nothing was written")
	}
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name)
	}
	return paths, nil
}
