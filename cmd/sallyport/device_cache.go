// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/devicesync"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

func (a *app) deviceCacheCommand() *cobra.Command {
	c := &cobra.Command{Use: "device-cache", Short: "Lists of an organisation's devices, for any server of Duo's Device API"}
	a.jsonFlag(c)
	c.AddCommand(a.deviceCacheSync())
	return c
}

func (a *app) deviceCacheSync() *cobra.Command {
	var infile, column, profile, mkey string
	var dryRun, keep bool
	c := &cobra.Command{
		Use: "sync --infile FILE.csv", Short: "Upload a CSV file of device identifiers in place of the list before", Args: args(),
		Long: `Upload a CSV file of device identifiers in place of the list before.

The first line names the columns, and one of them is device_id, or what --column
says. Blank lines, and rows without an identifier, are passed over; doubles count
once. A file without any identifier is refused, for it would take the trust from
every device. One file holds the devices of one operating system.

The identifiers go into a new, pending cache, 1,000 in a call. The last step
activates it, and only that touches what is trusted. A run that fails deletes what
it made; what a killed one has left, the next run deletes. Answers 429, and none at
all, are tried again a bounded number of times.

The profile is what "sallyport admin management-system add --out" wrote: a JSON
object with mkey, integration_key, secret_key, api_hostname and ca_file. Without a
ca_file the system's roots hold, as they do for Duo's own service.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if profile == "" {
				if profile = a.env(profileEnv); profile == "" {
					return cli.Usagef("no profile given; pass --profile FILE or set %s", profileEnv)
				}
			}
			list, err := readDevices(infile, column)
			if err != nil {
				return err
			}
			s := &admin{app: a, profilePath: profile}
			if err := s.open(); err != nil {
				return err
			}
			s.client.Nonce = nil // signatures of version 2, as Duo's own script makes them
			p, err := readProfile(profile)
			if err != nil {
				return err
			}
			if mkey == "" {
				mkey = p.MKey
			}
			if mkey == "" {
				return cli.Usagef("the profile has no mkey; pass --mkey DM…")
			}
			return a.syncDevices(c, s.client, mkey, list, dryRun, keep)
		},
	}
	c.Flags().StringVar(&infile, "infile", "", "CSV file with a header (required)")
	c.Flags().StringVar(&column, "column", "device_id", "column of the identifiers")
	c.Flags().StringVar(&profile, "profile", "", "profile of the management system (default $"+profileEnv+")")
	c.Flags().StringVar(&mkey, "mkey", "", "management system (default: the profile's)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "upload, then delete the new cache in place of activating it")
	c.Flags().BoolVar(&keep, "keep-pending", false, "refuse to go on if a pending cache is there, rather than delete it")
	for flag, kind := range map[string]string{"infile": "csv", "profile": "json"} {
		if err := c.MarkFlagFilename(flag, kind); err != nil {
			panic(err) // the flag is defined above
		}
	}
	required(c, "infile")
	return c
}

func readDevices(path, column string) (devicesync.List, error) {
	f, err := os.Open(path)
	if err != nil {
		return devicesync.List{}, fmt.Errorf("read devices: %w", err)
	}
	defer f.Close()
	list, err := devicesync.Read(f, column)
	if err != nil {
		return list, fmt.Errorf("read devices from %s: %w", path, err)
	}
	return list, nil
}

func (a *app) syncDevices(c *cobra.Command, client *duoapi.Client, mkey string, list devicesync.List, dryRun, keep bool) error {
	run := devicesync.Sync{
		Client: client, System: mkey, DryRun: dryRun, KeepPending: keep,
		Say: func(format string, args ...any) {
			if !a.json {
				a.Printf(format+"\n", args...)
			}
		},
		Note: func(format string, args ...any) { fmt.Fprintf(a.Err, "sallyport: "+format+"\n", args...) },
	}
	run.Say("Starting sallyport device-cache sync Version: %s", strings.TrimSpace(version.String()))
	if list.Duplicates > 0 {
		run.Note("%d rows are doubles of others and count once", list.Duplicates)
	}
	result, err := run.Run(c.Context(), list)
	switch {
	case errors.Is(err, devicesync.ErrPending):
		return cli.WithHint(fmt.Errorf("sync devices: %w", err), "another run may be at work; without --keep-pending it is deleted")
	case err != nil:
		return explain("sync devices", err, map[int]string{
			duoapi.CodeInvalidKey:       "the profile is of another server, or its management system was removed",
			duoapi.CodeInvalidSignature: "the profile's secret_key is not the one that the server has",
			duoapi.CodeBadDate:          "set this machine's clock",
			duoapi.CodeForbidden:        "use the profile that was made with the management system",
			duoapi.CodeNetwork:          "call from a network that the integration accepts",
			duoapi.CodeNotFound:         "the cache was deleted meanwhile: does another run sync the same management system?",
			duoapi.CodeCacheExists:      "does another run sync the same management system?",
		})
	case a.json:
		return a.JSON(result)
	}
	return nil
}
