// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	creditsPath      = "/admin/v1/billing/telephony_credits"
	telephonyLogPath = "/admin/v2/logs/telephony"
)

func (s *admin) telephonyCommand() *cobra.Command {
	c := &cobra.Command{Use: "telephony", Short: "Phone calls and SMS"}
	credits := &cobra.Command{Use: "credits", Short: "What is left for phone calls and SMS"}
	credits.AddCommand(s.creditsShow(), s.creditsSet())
	c.AddCommand(credits)
	return c
}

func (s *admin) presentCredits(ctx context.Context, what, method string, params url.Values) error {
	var raw json.RawMessage
	if err := s.call(ctx, what, method, creditsPath, params, &raw); err != nil {
		return err
	}
	if s.json {
		return s.JSON(raw)
	}
	var out struct{ Credits int64 }
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	left := strconv.FormatInt(out.Credits, 10)
	if out.Credits < 0 {
		left = "off: calls and SMS are not counted"
	}
	s.Printf("credits: %s\n", left)
	return nil
}

func (s *admin) creditsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show how many credits are left", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return s.presentCredits(c.Context(), "read the telephony credits", http.MethodGet, nil)
		},
	}
}

func (s *admin) creditsSet() *cobra.Command {
	return &cobra.Command{
		Use: "set NUMBER|off", Short: "Set how many credits are left", Args: args("NUMBER|off"),
		Long: `Set how many credits are left for phone calls and SMS, from now on.

Each call costs the setting telephony_call_cost, each SMS telephony_sms_cost. What
the credits do not pay for leaves the menu, while other factors go on. With "off",
calls and SMS are not counted.`,
		ValidArgs: []string{"off"},
		RunE: func(c *cobra.Command, args []string) error {
			number := args[0]
			if number == "off" {
				number = "-1"
			} else if n, err := strconv.Atoi(number); err != nil || n < 0 {
				return cli.Usagef("%q is not a number of credits, and not \"off\"", number)
			}
			return s.presentCredits(c.Context(), "set the telephony credits", http.MethodPost, url.Values{"credits": {number}})
		},
	}
}

// telephonyEntry is what the commands read of an entry of the telephony log.
type telephonyEntry struct {
	Time    string `json:"ts"`
	Context string `json:"context"`
	Type    string `json:"type"`
	Phone   string `json:"phone"`
	Credits int64  `json:"credits"`
	TxID    string `json:"txid"`
}

func (s *admin) logTelephony() *cobra.Command {
	var since span
	c := &cobra.Command{
		Use: "telephony", Short: "Show phone calls and SMS and what they cost, oldest first", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.Usagef("--since %s is not in the past", since.String())
			}
			entries, err := s.telephonyEntries(c.Context(), s.Now().Add(-time.Duration(since)))
			if err != nil {
				return err
			}
			return present(s.app, entries, []string{"TIME", "TYPE", "NUMBER", "CREDITS", "FOR", "TXID"}, func(e telephonyEntry) []string {
				at, _, _ := strings.Cut(e.Time, ".")
				return []string{at + "Z", e.Type, e.Phone, strconv.FormatInt(e.Credits, 10), e.Context, e.TxID}
			})
		},
	}
	spanFlag(c, &since, "since", 24*time.Hour, "how far back, such as 1h or 7d")
	return c
}

// telephonyEntries reads all entries from a time on.
func (s *admin) telephonyEntries(ctx context.Context, from time.Time) ([]json.RawMessage, error) {
	query := url.Values{"limit": {"1000"}, "sort": {"ts:asc"}, "mintime": {strconv.FormatInt(from.UnixMilli(), 10)}}
	out := []json.RawMessage{}
	for {
		var page struct {
			Items    []json.RawMessage `json:"items"`
			Metadata struct {
				NextOffset string `json:"next_offset"`
			} `json:"metadata"`
		}
		if err := s.call(ctx, "read the telephony log", http.MethodGet, telephonyLogPath, query, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		if page.Metadata.NextOffset == "" || len(page.Items) == 0 {
			return out, nil
		}
		query.Set("next_offset", page.Metadata.NextOffset)
	}
}
