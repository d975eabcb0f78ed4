// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
)

func newCommand(term *cli.Terminal) *cobra.Command {
	root := &cobra.Command{
		Use:           "sallyport-verifier",
		Short:         "The server that knows users and factors",
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return cli.Usagef("name a command")
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetOut(term.Out)
	root.SetErr(term.Err)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &cli.UsageError{Err: err} })
	root.AddCommand(initCommand(term), serveCommand(term), checkCommand(term), recoverCommand(term),
		backupCommand(term), restoreCommand(term), statusCommand(term), rotateCommand(term), mailTestCommand(term))
	return root
}

// usageArgs makes errors of an argument check usage errors.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &cli.UsageError{Err: err}
		}
		return nil
	}
}

func command(use, short, long string, run func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long, Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context()) },
	}
}

func dataFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data", "", "data `directory`")
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", "", "configuration `file`; default: verifier.toml in the data directory")
}

func needData(dir string) error {
	if dir == "" {
		return cli.Usagef("--data DIR is missing: where the verifier keeps its keys and database")
	}
	return nil
}

func initCommand(term *cli.Terminal) *cobra.Command {
	var o datadir.InitOptions
	var asJSON bool
	cmd := command("init --data DIR --url https://HOST:PORT", "Make a data directory: keys, database, certificates, configuration",
		"Make a data directory: keys, database, a private CA and a server certificate,\nverifier.toml, and admin.json for `sallyport admin`. Nothing is ever overwritten.",
		func(ctx context.Context) error {
			if err := needData(o.Dir); err != nil {
				return err
			}
			if o.URL == "" {
				return cli.Usagef("--url https://HOST:PORT is missing: how hosts and administrators reach the verifier")
			}
			if (o.CertFile == "") != (o.KeyFile == "") {
				return cli.Usagef("--cert and --key go together: give both or neither")
			}
			if err := datadir.Init(ctx, o, time.Now); err != nil {
				return err
			}
			return reportInit(term, o.Dir, asJSON)
		})
	dataFlag(cmd, &o.Dir)
	cmd.Flags().StringVar(&o.URL, "url", "", "`URL` by which clients reach the verifier: https://HOST:PORT")
	cmd.Flags().StringVar(&o.Listen, "listen", "", "`address` to listen on; default: all addresses, the port of --url")
	cmd.Flags().StringVar(&o.CertFile, "cert", "", "`file` with a certificate chain in PEM; default: a private CA is made")
	cmd.Flags().StringVar(&o.KeyFile, "key", "", "`file` with the key of --cert")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was made as JSON")
	return cmd
}

func reportInit(term *cli.Terminal, dir string, asJSON bool) error {
	admin := filepath.Join(dir, config.AdminFile)
	if asJSON {
		return term.JSON(map[string]string{"data": dir, "config": filepath.Join(dir, config.FileName), "admin": admin})
	}
	term.Printf("Made a verifier in %s.\n", dir)
	term.Printf("Start it:        sallyport-verifier serve --data %s\n", dir)
	term.Printf("Administer it:   sallyport admin --profile %s user list\n", admin)
	term.Printf("%s is as good as every key of this verifier: keep it from others.\n", admin)
	return nil
}

func checkCommand(term *cli.Terminal) *cobra.Command {
	var dir, file string
	cmd := command("check --data DIR", "Check configuration and data directory without serving",
		"Check the configuration file and, with --data, the files of the data directory.\nNothing is changed: the database is not opened, the certificate not renewed.",
		func(context.Context) error {
			if dir == "" && file == "" {
				return cli.Usagef("name --data DIR or --config FILE")
			}
			if dir == "" {
				if _, err := config.Load(file); err != nil {
					return err
				}
				term.Printf("%s is good.\n", file)
				return nil
			}
			c, err := datadir.Check(dir, file, time.Now)
			if err != nil {
				return err
			}
			term.Printf("%s is good: %s.\n", dir, c.Base().String())
			return nil
		})
	dataFlag(cmd, &dir)
	configFlag(cmd, &file)
	return cmd
}

func recoverCommand(term *cli.Terminal) *cobra.Command {
	var dir, file, revoke string
	cmd := command("recover-admin --data DIR", "Replace a lost administrator's integration",
		"Make another Admin API integration with every grant, write it to admin.json, and\n"+
			"revoke the one that admin.json held (or the one that --revoke names). Works while\n"+
			"the verifier serves. The administrator log records it.",
		func(ctx context.Context) error {
			if err := needData(dir); err != nil {
				return err
			}
			release, err := datadir.HoldKeys(ctx, dir)
			if err != nil {
				return err
			}
			defer release()
			data, err := datadir.Open(ctx, dir, file, time.Now)
			if err != nil {
				return err
			}
			if err := errors.Join(data.RecoverAdmin(ctx, revoke), data.Close()); err != nil {
				return err
			}
			term.Printf("%s holds another integration; the old one is revoked.\n", filepath.Join(dir, config.AdminFile))
			return nil
		})
	dataFlag(cmd, &dir)
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&revoke, "revoke", "", "integration `key` to revoke instead of the one in admin.json")
	return cmd
}
