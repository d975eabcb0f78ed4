// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/directory/ldap"
)

// ldapQuestion is whether a person is in a group, or what an attribute of theirs is.
type ldapQuestion struct{ User, Group, Attribute string }

// ldapAnswers is what the directory's client made of a list of questions.
type ldapAnswers struct {
	Answers []ldapAnswer
	Seconds float64 // for all of them
}

type ldapAnswer struct {
	In    bool   `json:",omitempty"`
	Value string `json:",omitempty"`
	Error string `json:",omitempty"` // the answer is: unknown
}

// runLDAP asks the questions on standard input, rounds times over, with authd's
// own client and settings.
func runLDAP(args []string, in io.Reader, out io.Writer) error {
	path, rounds := "", 1
	err := parse("ldap", args, func(f *flag.FlagSet) {
		f.StringVar(&path, "config", "", "authd.toml")
		f.IntVar(&rounds, "rounds", 1, "how often")
	})
	if err != nil {
		return err
	}
	conf, err := config.Load(path)
	if err != nil {
		return err
	}
	var questions []ldapQuestion
	if err := json.NewDecoder(in).Decode(&questions); err != nil {
		return fmt.Errorf("read questions: %w", err)
	}
	client, err := ldap.New(ldap.Options{Settings: conf.LDAP, Attributes: conf.LDAPAttributes(), Timeout: conf.Timeouts.LDAP,
		Now: time.Now, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer client.Close()
	var all []ldapAnswers
	for range rounds {
		begun := time.Now()
		round := ldapAnswers{}
		for _, q := range questions {
			round.Answers = append(round.Answers, q.ask(client))
		}
		round.Seconds = time.Since(begun).Seconds()
		all = append(all, round)
	}
	return printJSON(out, all)
}

func (q ldapQuestion) ask(client *ldap.Client) ldapAnswer {
	var a ldapAnswer
	var err error
	if q.Attribute != "" {
		a.Value, err = client.Attribute(context.Background(), q.User, q.Attribute)
	} else {
		a.In, err = client.InGroup(context.Background(), q.User, q.Group)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
