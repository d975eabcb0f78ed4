// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	osuser "os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// Accounts to which the files of the store belong, as packaging/systemd/sallyport.sysusers
// makes them.
const (
	breakglassAccount = "sallyport-breakglass"
	authdAccount      = "sallyport-authd"
)

func (a *app) breakglassCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "breakglass", Short: "This host's codes for when authd or the verifier is away",
		Long: `Break-glass codes let in, each once, while authd or the verifier of this host
cannot be asked. They are made and kept on this host alone. All of it takes root.`,
	}
	c.PersistentFlags().StringVar(&dir, "store", breakglass.DefaultDir, "`folder` of the codes")
	c.AddCommand(a.breakglassGenerate(&dir), a.breakglassList(&dir), a.breakglassRevoke(&dir))
	return c
}

// printedCode is a code as it is handed out.
type printedCode struct {
	ID       string   `json:"id"`
	Code     string   `json:"code"`
	Users    []string `json:"users"`
	Services []string `json:"services"`
}

func (a *app) breakglassGenerate(dir *string) *cobra.Command {
	var users, services []string
	var note string
	var count int
	c := &cobra.Command{
		Use: "generate", Short: "Make codes and print them, once", Args: args(),
		Long: `Make codes and print them. They cannot be printed again: put them where you will
find them without this host, on paper in a safe. Each works once, for the users and
services that it names: the users who have to prove themselves, which for su and
sudo are those who call them.`,
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, err := accountsOf(users)
			if err != nil {
				return err
			}
			codes, err := breakglass.Open(*dir).Generate(c.Context(), breakglass.Request{
				Users: accounts, Services: services, Count: count, Note: note, Owners: storeOwners(),
			}, time.Now(), rand.Reader)
			if err != nil {
				return asRoot(err)
			}
			return a.printCodes(codes, accounts, services)
		},
	}
	c.Flags().StringSliceVar(&users, "user", nil, "`users` whom the codes let in, separated by commas")
	c.Flags().StringSliceVar(&services, "service", nil, "PAM `services` that take them, such as sshd,login,sudo, or all")
	c.Flags().IntVar(&count, "count", 5, "how many codes")
	c.Flags().StringVar(&note, "note", "", "a `text` for the list, such as where the paper is")
	required(c, "user", "service")
	a.jsonFlag(c)
	return c
}

func (a *app) printCodes(codes []breakglass.Code, accounts []breakglass.Account, services []string) error {
	names := make([]string, 0, len(accounts))
	for _, u := range accounts {
		names = append(names, u.Name)
	}
	out := make([]printedCode, 0, len(codes))
	for _, code := range codes {
		out = append(out, printedCode{ID: code.ID(), Code: code.Reveal(), Users: names, Services: services})
	}
	if a.json {
		return a.JSON(out)
	}
	for _, code := range out {
		a.Printf("%s\n", code.Code)
	}
	a.Notef("%d codes for %s by %s, each once; they cannot be printed again. Try one now: docs/how-to/recover-access.md\n",
		len(out), strings.Join(names, ", "), strings.Join(services, ", "))
	return nil
}

// listedCode is a code as the list has it.
type listedCode struct {
	ID       string   `json:"id"`
	State    string   `json:"state"`
	Users    []string `json:"users"`
	Services []string `json:"services"`
	Note     string   `json:"note"`
	Created  int64    `json:"created"`
	Spent    *int64   `json:"spent"` // when it was used or revoked
	User     string   `json:"used_by"`
	Service  string   `json:"used_for"`
	Source   string   `json:"used_from"`
}

func (a *app) breakglassList(dir *string) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the codes by name, with what has become of them", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			entries, err := breakglass.Open(*dir).List()
			if err != nil {
				return asRoot(err)
			}
			out := make([]listedCode, 0, len(entries))
			for _, e := range entries {
				l := listedCode{ID: e.ID, State: string(e.State), Services: e.Services, Note: e.Note, Created: e.Created.Unix(),
					User: e.Use.User, Service: e.Use.Service, Source: e.Use.Source}
				for _, u := range e.Users {
					l.Users = append(l.Users, u.Name)
				}
				if e.State == breakglass.Used || e.State == breakglass.Revoked {
					at := e.Use.At.Unix()
					l.Spent = &at
				}
				out = append(out, l)
			}
			if a.json {
				return a.JSON(out)
			}
			rows := make([][]string, 0, len(out))
			for _, l := range out {
				rows = append(rows, l.row())
			}
			return a.Table([]string{"CODE", "STATE", "USERS", "SERVICES", "MADE", "SPENT", "BY", "NOTE"}, rows)
		},
	}
	a.jsonFlag(c)
	return c
}

func (l listedCode) row() []string {
	spent := ""
	if l.Spent != nil {
		spent = unix(*l.Spent)
	}
	by := strings.TrimSpace(l.User + " " + l.Service + " " + l.Source)
	return []string{"bg-" + l.ID, l.State, strings.Join(l.Users, ","), strings.Join(l.Services, ","), unix(l.Created), spent, by, l.Note}
}

func (a *app) breakglassRevoke(dir *string) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "revoke [CODE...]", Short: "Make codes useless, by their names in the list", Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return &cli.UsageError{Err: cli.Usagef("name the codes to revoke (bg-XXXX), or all of them by --all")}
			}
			var ids []string
			for _, arg := range args {
				ids = append(ids, strings.ToUpper(strings.TrimPrefix(strings.ToLower(arg), "bg-")))
			}
			revoked, err := breakglass.Open(*dir).Revoke(c.Context(), ids, time.Now())
			if err != nil {
				return asRoot(err)
			}
			for _, id := range revoked {
				a.Printf("bg-%s revoked\n", id)
			}
			a.Notef("%d codes revoked\n", len(revoked))
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "revoke every code that is unused")
	return c
}

// accountsOf makes names canonical, as authd does, so that no second spelling of
// one account passes a rule for the first.
func accountsOf(names []string) ([]breakglass.Account, error) {
	out := make([]breakglass.Account, 0, len(names))
	for _, name := range names {
		u, err := osuser.Lookup(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("look up user %q: %w", name, err)
		}
		uid, err := strconv.ParseInt(u.Uid, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("look up user %q: uid %q: %w", name, u.Uid, err)
		}
		out = append(out, breakglass.Account{Name: u.Username, UID: uid})
	}
	return out, nil
}

// storeOwners are the accounts of the two programs, where they exist: without them
// both run as root.
func storeOwners() breakglass.Owners {
	o := breakglass.NoOwners
	program, err := osuser.Lookup(breakglassAccount)
	if err != nil {
		return o
	}
	authd, err := osuser.LookupGroup(authdAccount)
	if err != nil {
		return o
	}
	for _, n := range []struct {
		text string
		to   *int
	}{{program.Uid, &o.ProgramUID}, {program.Gid, &o.ProgramGID}, {authd.Gid, &o.AuthdGID}} {
		id, err := strconv.Atoi(n.text)
		if err != nil {
			return breakglass.NoOwners
		}
		*n.to = id
	}
	return o
}

// asRoot says what to do about a store that may not be touched.
func asRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return cli.WithHint(err, "the codes are root's: run this as root")
	}
	return err
}
