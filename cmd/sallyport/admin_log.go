// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	authLogPath  = "/admin/v2/logs/authentication"
	adminLogPath = "/admin/v1/logs/administrator"
	// followEvery is how often --follow asks for more.
	followEvery = 2 * time.Second
	// followOverlap is how far back it looks each time: an event may become
	// visible after one that began later.
	followOverlap = 90 * time.Second
)

// authEvent is what the commands read of an event of the authentication log.
type authEvent struct {
	TxID         string `json:"txid"`
	Timestamp    int64  `json:"timestamp"`
	EventType    string `json:"event_type"`
	Factor       string `json:"factor"`
	Result       string `json:"result"`
	Reason       string `json:"reason"`
	User         struct{ Name string }
	Application  struct{ Name string }
	AccessDevice struct {
		IP       string
		Hostname string
	} `json:"access_device"`
}

var authHead = []string{"TIME", "USER", "RESULT", "FACTOR", "REASON", "APPLICATION", "HOST", "FROM"}

func (e authEvent) row() []string {
	return []string{unix(e.Timestamp), e.User.Name, e.Result, e.Factor, e.Reason, e.Application.Name, e.AccessDevice.Hostname, e.AccessDevice.IP}
}

func (s *admin) logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "Who logged in, and who changed what"}
	c.AddCommand(s.logActivity(), s.logOffline(), s.logAuth(), s.logAdmin(), s.logTelephony())
	return c
}

func (s *admin) logAuth() *cobra.Command {
	var name string
	var since span
	var follow bool
	c := &cobra.Command{
		Use: "auth", Short: "Show the authentication log, oldest first", Args: args(),
		Long: `Show the authentication log, oldest first.

With --follow the command goes on until it is interrupted; with --json as well it
prints one object a line.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.Usagef("--since %s is not in the past", since.String())
			}
			query := url.Values{"limit": {"1000"}, "sort": {"ts:asc"}}
			if name != "" {
				_, u, err := s.findUser(c.Context(), name)
				if err != nil {
					return err
				}
				query.Set("users", u.UserID)
			}
			events, err := s.authEvents(c.Context(), query, s.Now().Add(-time.Duration(since)))
			if err != nil {
				return err
			}
			if follow {
				return s.followAuth(c.Context(), query, events)
			}
			return present(s.app, events, authHead, authEvent.row)
		},
	}
	c.Flags().StringVar(&name, "user", "", "only events of that user")
	spanFlag(c, &since, "since", 24*time.Hour, "how far back, such as 1h or 7d")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with events as they come")
	return c
}

// authEvents reads all events from a time on.
func (s *admin) authEvents(ctx context.Context, query url.Values, from time.Time) ([]json.RawMessage, error) {
	query.Set("mintime", strconv.FormatInt(from.UnixMilli(), 10))
	query.Set("maxtime", strconv.FormatInt(s.Now().Add(time.Minute).UnixMilli(), 10))
	query.Del("next_offset")
	out := []json.RawMessage{}
	for {
		var page struct {
			AuthLogs []json.RawMessage `json:"authlogs"`
			Metadata struct {
				NextOffset []string `json:"next_offset"`
			} `json:"metadata"`
		}
		if err := s.call(ctx, "read the authentication log", http.MethodGet, authLogPath, query, &page); err != nil {
			return nil, err
		}
		out = append(out, page.AuthLogs...)
		if len(page.Metadata.NextOffset) == 0 || len(page.AuthLogs) == 0 {
			return out, nil
		}
		query.Set("next_offset", strings.Join(page.Metadata.NextOffset, ","))
	}
}

// followAuth prints events and what comes after them until ctx ends. While the
// verifier is away it goes on trying, and then shows what it missed.
func (s *admin) followAuth(ctx context.Context, query url.Values, events []json.RawMessage) error {
	asked := s.Now() // when an answer last came
	seen := map[string]time.Time{}
	for {
		for _, raw := range events {
			if _, ok := seen[string(raw)]; ok {
				continue
			}
			seen[string(raw)] = asked
			if err := s.printEvent(raw); err != nil {
				return err
			}
		}
		for text, at := range seen {
			if asked.Sub(at) > 2*followOverlap {
				delete(seen, text)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
		now := s.Now()
		var err error
		events, err = s.authEvents(ctx, query, asked.Add(-followOverlap))
		switch {
		case ctx.Err() != nil: // it ends above
		case err == nil:
			asked = now
		case isRefusal(err):
			return err
		default:
			s.Notef("%v; trying again\n", err)
		}
	}
}

func (s *admin) printEvent(raw json.RawMessage) error {
	if s.json {
		return s.JSONLine(raw)
	}
	var e authEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	s.Printf("%s  %s  %s  %s  %s  %s  %s  %s\n", dashed(e.row())...)
	return nil
}

func dashed(cells []string) []any {
	out := make([]any, len(cells))
	for i, c := range cells {
		if out[i] = c; c == "" {
			out[i] = "-"
		}
	}
	return out
}

// adminEvent is what the commands read of an event of the administrator log.
type adminEvent struct {
	Timestamp   int64           `json:"timestamp"`
	Username    string          `json:"username"`
	Action      string          `json:"action"`
	Object      string          `json:"object"`
	Description json.RawMessage `json:"description"`
}

// description is JSON text, or a string that holds some.
func (e adminEvent) description() string {
	var text string
	if json.Unmarshal(e.Description, &text) == nil {
		return text
	}
	return string(e.Description)
}

func (s *admin) logAdmin() *cobra.Command {
	var since span
	c := &cobra.Command{
		Use: "admin", Short: "Show who changed what, oldest first", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.Usagef("--since %s is not in the past", since.String())
			}
			events, err := s.adminEvents(c.Context(), adminLogPath, s.Now().Add(-time.Duration(since)))
			if err != nil {
				return err
			}
			return present(s.app, events, []string{"TIME", "WHO", "ACTION", "OBJECT", "DESCRIPTION"}, func(e adminEvent) []string {
				return []string{unix(e.Timestamp), e.Username, e.Action, e.Object, e.description()}
			})
		},
	}
	spanFlag(c, &since, "since", 24*time.Hour, "how far back, such as 1h or 7d")
	return c
}

// adminEvents reads all events from a time on. The API gives at most 1,000 a
// call, of whole seconds; the next call begins with the last second seen.
func (s *admin) adminEvents(ctx context.Context, path string, from time.Time) ([]json.RawMessage, error) {
	const page = 1000
	out := []json.RawMessage{}
	seen := map[string]bool{} // of the pages before
	for mintime := from.Unix(); ; {
		var events []json.RawMessage
		query := url.Values{"mintime": {strconv.FormatInt(mintime, 10)}}
		if err := s.call(ctx, "read the administrator log", http.MethodGet, path, query, &events); err != nil {
			return nil, err
		}
		last, before := mintime, len(out)
		for _, raw := range events {
			var e adminEvent
			if err := json.Unmarshal(raw, &e); err != nil {
				return nil, fmt.Errorf("read the verifier's answer: %w", err)
			}
			last = max(last, e.Timestamp)
			if !seen[string(raw)] {
				out = append(out, raw)
			}
		}
		if len(events) < page || len(out) == before {
			return out, nil
		}
		for _, raw := range events {
			seen[string(raw)] = true
		}
		mintime = last
	}
}

func (s *admin) logOffline() *cobra.Command {
	var since span
	c := &cobra.Command{
		Use: "offline", Short: "Show whose offline codes which host takes, oldest first", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.Usagef("--since %s is not in the past", since.String())
			}
			events, err := s.adminEvents(c.Context(), "/admin/v1/logs/offline_enrollment", s.Now().Add(-time.Duration(since)))
			if err != nil {
				return err
			}
			return present(s.app, events, []string{"TIME", "USER", "ACTION", "HOST", "DESCRIPTION"}, func(e adminEvent) []string {
				return []string{unix(e.Timestamp), e.Username, e.Action, e.Object, e.description()}
			})
		},
	}
	spanFlag(c, &since, "since", 24*time.Hour, "how far back, such as 1h or 7d")
	return c
}

// activity is what the commands read of an entry of the activity log.
type activity struct {
	TS     string `json:"ts"`
	Action struct {
		Name string `json:"name"`
	} `json:"action"`
	Actor struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"actor"`
	Target struct {
		Name string `json:"name"`
		Type string `json:"type"`
	} `json:"target"`
	AccessDevice struct {
		IP struct {
			Address string `json:"address"`
		} `json:"ip"`
	} `json:"access_device"`
}

func (s *admin) logActivity() *cobra.Command {
	var since span
	c := &cobra.Command{
		Use: "activity", Short: "Show the administrator log in the shape of the activity log, oldest first", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.Usagef("--since %s is not in the past", since.String())
			}
			items, err := s.activities(c.Context(), s.Now().Add(-time.Duration(since)))
			if err != nil {
				return err
			}
			return present(s.app, items, []string{"TIME", "WHO", "FROM", "ACTION", "TARGET"}, func(a activity) []string {
				return []string{a.TS, a.Actor.Name, a.AccessDevice.IP.Address, a.Action.Name, a.Target.Name}
			})
		},
	}
	spanFlag(c, &since, "since", 24*time.Hour, "how far back, such as 1h or 7d")
	return c
}

// activities reads all items from a time on.
func (s *admin) activities(ctx context.Context, from time.Time) ([]json.RawMessage, error) {
	query := url.Values{
		"limit": {"1000"}, "sort": {"ts:asc"}, "mintime": {strconv.FormatInt(from.UnixMilli(), 10)},
		"maxtime": {strconv.FormatInt(s.Now().Add(time.Minute).UnixMilli(), 10)},
	}
	out := []json.RawMessage{}
	for {
		var page struct {
			Items    []json.RawMessage `json:"items"`
			Metadata struct {
				NextOffset *string `json:"next_offset"`
			} `json:"metadata"`
		}
		if err := s.call(ctx, "read the activity log", http.MethodGet, "/admin/v2/logs/activity", query, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		if page.Metadata.NextOffset == nil || len(page.Items) == 0 {
			return out, nil
		}
		query.Set("next_offset", *page.Metadata.NextOffset)
	}
}
