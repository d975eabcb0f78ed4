// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"filippo.io/age"
	"github.com/spf13/cobra"
	sys "golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/playback"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (a *app) replayCommand() *cobra.Command {
	var from, identity string
	var text, info bool
	var opt playback.Options
	cmd := &cobra.Command{
		Use:   "replay FILE",
		Short: "Show a recorded session again",
		Long: `replay shows a recording of the SSH gateway, or any asciicast of version 2, on the
terminal as it was:

    space pause · . one step · left and right 5 seconds · up and down a minute
    + and - speed · / search · n next · g and G beginning and end · q quit

Where standard output is no terminal, or with --text, it writes the lines that were
on the screen; --search then writes those that hold the text, each after its time.
What a recording could do to the terminal of whoever looks at it is left out:
clipboard, title, questions that the terminal answers, modes of keys and mouse.
--identity opens what was sealed. A recording that was cut off is shown as far as it
goes, and the exit code is then 1 but for --info and the terminal.`,
		Args: args("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := &playback.File{Path: args[0]}
			usage := func(why string) error {
				return cli.WithHint(cli.Usagef("%s", why), "see: sallyport replay --help")
			}
			var err error
			if opt.From, err = playback.ParseTime(from); err != nil {
				return &cli.UsageError{Err: fmt.Errorf("--from: %w", err)}
			}
			switch {
			case opt.Speed < 1.0/16 || opt.Speed > 64:
				return usage("--speed is between 0.0625 and 64")
			case opt.IdleLimit < 0:
				return usage("--idle-limit cannot be negative")
			case a.json && text:
				return usage("--json and --text do not go together")
			case opt.Search != "" && (a.json || info):
				return usage("--search goes with text and with the terminal, not with --json or --info")
			}
			if f.Identities, err = ageIdentities(identity); err != nil {
				return err
			}
			switch {
			case info:
				return f.Info(a.Terminal, a.json)
			case a.json:
				return f.JSON(a.Terminal, opt.From)
			case text || !a.Interactive:
				return f.Text(a.Terminal, opt.From, opt.Search)
			}
			return a.play(cmd.Context(), f, opt)
		},
	}
	a.jsonFlag(cmd)
	flags := cmd.Flags()
	flags.Float64Var(&opt.Speed, "speed", 1, "how `fast`: 2 is twice as fast")
	flags.DurationVar(&opt.IdleLimit, "idle-limit", 0, "make pauses no longer than this `duration`; 0: as they were")
	flags.StringVar(&from, "from", "0s", "begin at this `time`, such as 90s or 1:02:03")
	flags.StringVar(&opt.Search, "search", "", "begin where this `text` is, or write the lines that hold it")
	flags.StringVar(&identity, "identity", "", "`file` with the age key that opens the seal")
	flags.BoolVar(&text, "text", false, "write lines of text, also on a terminal")
	flags.BoolVar(&info, "info", false, "say what the recording is")
	return cmd
}

// ageIdentities reads a file of age's keys; "" is none.
func ageIdentities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--identity: %w", err)
	}
	out, err := age.ParseIdentities(in)
	if err := errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("--identity %s: %w", path, err)
	}
	return out, nil
}

// play shows a recording on the terminal of the process.
func (a *app) play(ctx context.Context, f *playback.File, opt playback.Options) error {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	before, err := term.MakeRaw(in)
	if err != nil {
		return fmt.Errorf("take the keys of the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, sys.SIGWINCH)
	defer signal.Stop(resized)
	err = f.Play(ctx, playback.Console{
		In: os.Stdin, Out: os.Stdout, Resized: resized,
		Size: func() (int, int) {
			width, height, err := term.GetSize(out)
			if err != nil || width <= 0 || height <= 0 {
				return 80, 24
			}
			return width, height
		},
	}, opt)
	return errors.Join(err, term.Restore(in, before))
}
